//! `/system/usage`: what was used, what is allowed, what is left.

use axum::{Json, extract::State};

use crate::{error::ApiError, openapi::Always, state::ApiState, views::spend::SpendView};

/// How many days are shown.
const DAYS: u32 = 30;

/// Shows what was used today and in the last 30 days, and what the limits leave.
#[utoipa::path(
    get, path = "/system/usage", tag = "system", operation_id = "showUsage",
    responses((status = 200, description = "What was used.", body = SpendView), Always)
)]
pub(crate) async fn show(State(state): State<ApiState>) -> Result<Json<SpendView>, ApiError> {
    let limits = state.settings.borrow().settings.spend_limits();
    let today = state.store.day_spend().await?;
    let days = state.store.spend_of_days(DAYS).await?;
    Ok(Json(SpendView::new(&today, days, &limits)))
}
