//! `/runs`: list and show.

use axum::{Json, extract::State};
use core_types::ids::RunId;

use crate::{
    error::ApiError,
    extract::{PathId, QueryTexts},
    openapi::{AboutId, AboutQuery, Always},
    requests::paging::RunsQuery,
    state::ApiState,
    views::run::{RunPage, RunView},
};

/// Lists runs, newest first.
#[utoipa::path(
    get, path = "/runs", tag = "runs", operation_id = "listRuns", params(RunsQuery),
    responses((status = 200, description = "A page of runs.", body = RunPage), AboutQuery, Always)
)]
pub(crate) async fn list(
    State(state): State<ApiState>,
    QueryTexts(query): QueryTexts<RunsQuery>,
) -> Result<Json<RunPage>, ApiError> {
    let page = state.store.list_runs(&query.filter()?).await?;
    Ok(Json(RunPage {
        items: page.items.into_iter().map(RunView::from).collect(),
        next_cursor: page.next_cursor.map(|cursor| cursor.to_string()),
    }))
}

/// Shows a run.
#[utoipa::path(
    get, path = "/runs/{id}", tag = "runs", operation_id = "showRun", params(("id" = String, Path, description = "The run.")),
    responses((status = 200, description = "The run.", body = RunView), AboutId, Always)
)]
pub(crate) async fn show(
    State(state): State<ApiState>,
    PathId(id): PathId<RunId>,
) -> Result<Json<RunView>, ApiError> {
    let run = state.store.run(id).await?.ok_or_else(|| ApiError::not_found("run"))?;
    Ok(Json(run.into()))
}
