//! `/system/cleanup`: first what would be removed, then its removal, confirmed by a value of the first answer.

use std::time::Duration;

use axum::{Json, extract::State};
use checkout::{error::CheckoutError, mirror::Mirrors};
use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use telemetry::chain::error_chain;

use crate::{
    error::{ApiError, ErrorBody},
    extract::{JsonBody, QueryTexts},
    openapi::{AboutBody, AboutQuery, Always},
    requests::cleanup::{CleanupQuery, CleanupRequest, CleanupWish, DiskCounts, Removable},
    state::ApiState,
    views::cleanup::{CleanupPlanView, CleanupView},
};

/// For how long one request works.
const TIME: Duration = Duration::from_secs(15);
/// For how long a plan may be confirmed.
const GOOD_FOR: SignedDuration = SignedDuration::from_hours(1);

/// Tells what a cleanup would remove, and the value that confirms it. Changes nothing.
///
/// Nothing that waits, runs or is blocked is ever removed, nor settings, their history, gates and processes. Mirrors and
/// the results in them are those of the server's host, and go only where they are named; a mirror that is in use stays.
/// Launches and checkouts of ended runs are no matter of this: dispatchers remove those by themselves.
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
    let disk = Disk::of(&state, &wish).plan().await?;
    Ok(Json(CleanupPlanView::new(&wish, before, plan, disk)))
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
    let disk = Disk::of(&state, &wish);
    let cleaning = async move {
        let plan = store.plan_cleanup(wish.scope(), before).await?;
        let now_before = store.days_ago(wish.days).await?;
        let planned = disk.plan().await?;
        let confirmed = confirm == wish.confirmation(before, &plan, planned);
        if !is_good(before, now_before) || !confirmed {
            return Err(stale(&wish));
        }
        let freed = disk.remove().await?;
        let cleaned = store.clean_up(wish.scope(), before, TIME).await?;
        tracing::info!(
            tasks = cleaned.counts.tasks,
            runs = cleaned.counts.runs,
            events = cleaned.counts.events,
            agents = cleaned.counts.agents,
            notices = cleaned.counts.notices,
            mirrors = freed.mirrors,
            results = freed.results,
            finished = cleaned.finished,
            "old things removed"
        );
        Ok(Json(CleanupView::new(cleaned.counts, freed, cleaned.finished)))
    };
    state.to_the_end(cleaning).await
}

/// What a cleanup is about on the disk of this host.
struct Disk {
    mirrors: Option<Mirrors>,
    results: Option<Mirrors>,
    age: Duration,
}

impl Disk {
    fn of(state: &ApiState, wish: &CleanupWish) -> Self {
        let of = |one| state.mirrors.clone().filter(|_| wish.names(one));
        let (mirrors, results) = (of(Removable::Mirrors), of(Removable::Results));
        Self { mirrors, results, age: wish.age() }
    }

    async fn plan(&self) -> Result<DiskCounts, ApiError> {
        let mut counts = DiskCounts::default();
        if let Some(results) = &self.results {
            let old = results.old_results(self.age).await.map_err(failed)?;
            counts.results = count(&old);
        }
        if let Some(mirrors) = &self.mirrors {
            let unused = mirrors.unused(self.age).await.map_err(failed)?;
            counts.mirrors = count(&unused);
        }
        Ok(counts)
    }

    async fn remove(&self) -> Result<DiskCounts, ApiError> {
        let mut counts = DiskCounts::default();
        if let Some(results) = &self.results {
            let gone = results.remove_results(self.age).await.map_err(failed)?;
            counts.results = count(&gone);
        }
        if let Some(mirrors) = &self.mirrors {
            let gone = mirrors.remove_unused(self.age).await.map_err(failed)?;
            counts.mirrors = count(&gone);
        }
        Ok(counts)
    }
}

fn count<T>(list: &[T]) -> u64 {
    list.len() as u64
}

fn failed(error: CheckoutError) -> ApiError {
    tracing::error!(error = %error_chain(&error), "mirrors not cleaned up");
    ApiError::unavailable("the mirrors of the server's host cannot be read or changed")
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
