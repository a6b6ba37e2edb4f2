//! `/system/cleanup`: first what would be removed, then its removal, confirmed by a value of the first answer.

use std::time::Duration;

use axum::{Json, extract::State};
use http::StatusCode;
use jiff::{SignedDuration, Timestamp};

use crate::{
    error::{ApiError, ErrorBody},
    extract::{JsonBody, QueryTexts},
    openapi::{AboutBody, AboutQuery, Always},
    requests::cleanup::{CleanupQuery, CleanupRequest, CleanupWish},
    state::ApiState,
    views::cleanup::{CleanupPlanView, CleanupView},
};

/// For how long one request works.
const TIME: Duration = Duration::from_secs(15);
/// For how long a plan may be confirmed.
const GOOD_FOR: SignedDuration = SignedDuration::from_hours(1);

/// Tells what a cleanup would remove, and the value that confirms it. Changes nothing.
///
/// Nothing that waits, runs or is blocked is ever removed, nor settings, their history, gates and processes. Launches and
/// checkouts of ended runs are no matter of this: dispatchers remove those by themselves.
#[utoipa::path(
    get, path = "/system/cleanup", tag = "system", operation_id = "planCleanup", params(CleanupQuery),
    responses((status = 200, description = "What would be removed.", body = CleanupPlanView), AboutQuery, Always)
)]
pub(crate) async fn plan(
    State(state): State<ApiState>,
    QueryTexts(query): QueryTexts<CleanupQuery>,
) -> Result<Json<CleanupPlanView>, ApiError> {
    let wish = query.wish()?;
    let before = state.store.days_ago(wish.days).await?;
    let plan = state.store.plan_cleanup(wish.scope(), before).await?;
    Ok(Json(CleanupPlanView::new(&wish, before, plan)))
}

/// Removes what is over and old, if it is still what `GET /system/cleanup` told.
#[utoipa::path(
    post, path = "/system/cleanup", tag = "system", operation_id = "cleanUp", request_body = CleanupRequest,
    responses(
        (status = 200, description = "What was removed.", body = CleanupView),
        (status = 409, description = "The value confirms something else than what there is to remove now.", body = ErrorBody),
        AboutBody, Always,
    )
)]
pub(crate) async fn run(
    State(state): State<ApiState>,
    JsonBody(request): JsonBody<CleanupRequest>,
) -> Result<Json<CleanupView>, ApiError> {
    let (wish, before, confirm) = request.confirmed()?;
    let store = state.store.clone();
    let cleaning = async move {
        let plan = store.plan_cleanup(wish.scope(), before).await?;
        let now_before = store.days_ago(wish.days).await?;
        if !is_good(before, now_before) || confirm != wish.confirmation(before, &plan) {
            return Err(stale(&wish));
        }
        let cleaned = store.clean_up(wish.scope(), before, TIME).await?;
        tracing::info!(
            tasks = cleaned.counts.tasks,
            runs = cleaned.counts.runs,
            events = cleaned.counts.events,
            agents = cleaned.counts.agents,
            notices = cleaned.counts.notices,
            finished = cleaned.finished,
            "old rows removed"
        );
        Ok(Json(CleanupView::new(cleaned.counts, cleaned.finished)))
    };
    state.to_the_end(cleaning).await
}

/// Whether a moment is one that a plan of the last hour was about.
fn is_good(before: Timestamp, now_before: Timestamp) -> bool {
    let age = now_before.duration_since(before);
    (SignedDuration::ZERO..=GOOD_FOR).contains(&age)
}

fn stale(wish: &CleanupWish) -> ApiError {
    let what: Vec<&str> = wish.what.iter().map(|one| one.as_str()).collect();
    ApiError::new(
        StatusCode::CONFLICT,
        "confirmation_stale",
        format!(
            "`confirm` is not about what there is to remove now; ask again: `GET /system/cleanup?older_than_days={}&what={}`",
            wish.days,
            what.join(",")
        ),
    )
}
