//! `/agents`.

use axum::{Json, extract::State};

use crate::{
    error::ApiError,
    openapi::Always,
    state::ApiState,
    views::agent::{AgentList, AgentView},
};

/// Lists the agents.
#[utoipa::path(
    get, path = "/agents", tag = "system", operation_id = "listAgents",
    responses((status = 200, description = "The agents.", body = AgentList), Always)
)]
pub(crate) async fn list(State(state): State<ApiState>) -> Result<Json<AgentList>, ApiError> {
    let agents = state.store.agents().await?;
    Ok(Json(AgentList { items: agents.into_iter().map(AgentView::from).collect() }))
}
