//! `/agents`.

use axum::{Json, extract::State};
use core_types::ids::AgentId;

use crate::{
    error::ApiError,
    extract::{PathId, QueryTexts},
    openapi::{AboutId, AboutQuery, Always},
    requests::filters::AgentsQuery,
    state::ApiState,
    views::agent::{AgentDetail, AgentList, AgentView},
};

/// Lists the agents that have not signed off, or those that have; at most 1000.
#[utoipa::path(
    get, path = "/agents", tag = "system", operation_id = "listAgents", params(AgentsQuery),
    responses((status = 200, description = "The agents.", body = AgentList), AboutQuery, Always)
)]
pub(crate) async fn list(
    State(state): State<ApiState>,
    QueryTexts(query): QueryTexts<AgentsQuery>,
) -> Result<Json<AgentList>, ApiError> {
    let agents = state.store.list_agents(query.filter()?).await?;
    Ok(Json(AgentList { items: agents.into_iter().map(AgentView::from).collect() }))
}

/// Shows an agent and the run it is busy with.
#[utoipa::path(
    get, path = "/agents/{id}", tag = "system", operation_id = "showAgent",
    params(("id" = String, Path, description = "The agent.")),
    responses((status = 200, description = "The agent.", body = AgentDetail), AboutId, Always)
)]
pub(crate) async fn show(
    State(state): State<ApiState>,
    PathId(id): PathId<AgentId>,
) -> Result<Json<AgentDetail>, ApiError> {
    let agent = state.store.agent(id).await?.ok_or_else(|| ApiError::not_found("agent"))?;
    let run = match agent.run {
        Some(run) => state.store.run(run).await?,
        None => None,
    };
    Ok(Json(AgentDetail::new(agent, run)))
}
