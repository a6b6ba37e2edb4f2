//! `/config`.

use axum::{Json, extract::State};

use crate::{openapi::Always, state::ApiState, views::config::ConfigView};

/// Shows every setting of this process with its value and its source. Secrets are masked.
#[utoipa::path(
    get, path = "/config", tag = "system", operation_id = "showConfig",
    responses((status = 200, description = "The settings.", body = ConfigView), Always)
)]
pub(crate) async fn show(State(state): State<ApiState>) -> Json<ConfigView> {
    Json(ConfigView::from(state.settings.borrow().as_ref()))
}
