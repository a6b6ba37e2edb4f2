//! `/runs`: list and show.

use axum::{Json, extract::State};
use core_types::ids::RunId;

use crate::{
    error::ApiError,
    extract::{PathId, QueryTexts},
    openapi::{AboutId, AboutQuery, Always},
    requests::filters::{RunsQuery, next_run_cursor},
    state::ApiState,
    views::run::{RunDetail, RunPage, RunView},
};

/// Lists runs. All filters hold together; where no index serves them, a page may be short or empty although `next_cursor`
/// is there, and the next page goes on.
#[utoipa::path(
    get, path = "/runs", tag = "runs", operation_id = "listRuns", params(RunsQuery),
    responses((status = 200, description = "A page of runs.", body = RunPage), AboutQuery, Always)
)]
pub(crate) async fn list(
    State(state): State<ApiState>,
    QueryTexts(query): QueryTexts<RunsQuery>,
) -> Result<Json<RunPage>, ApiError> {
    let filter = query.filter()?;
    let page = state.store.list_runs(&filter).await?;
    Ok(Json(RunPage {
        items: page.items.into_iter().map(RunView::from).collect(),
        next_cursor: next_run_cursor(filter, page.next_cursor),
    }))
}

/// Shows a run with its phases and what verification said.
#[utoipa::path(
    get, path = "/runs/{id}", tag = "runs", operation_id = "showRun", params(("id" = String, Path, description = "The run.")),
    responses((status = 200, description = "The run.", body = RunDetail), AboutId, Always)
)]
pub(crate) async fn show(
    State(state): State<ApiState>,
    PathId(id): PathId<RunId>,
) -> Result<Json<RunDetail>, ApiError> {
    let run = state.store.run(id).await?.ok_or_else(|| ApiError::not_found("run"))?;
    let milestones = state.store.milestones(id).await?;
    Ok(Json(RunDetail::new(run, milestones)))
}
