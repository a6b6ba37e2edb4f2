//! Agents as clients see them.

use core_types::{
    ids::{AgentId, RunId},
    task::Role,
};
use jiff::Timestamp;
use serde::Serialize;
use store::agents::Agent;
use utoipa::ToSchema;

/// An agent process.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AgentView {
    #[schema(schema_with = crate::schema::agent_id)]
    id: AgentId,
    name: String,
    #[schema(schema_with = crate::schema::role)]
    role: Role,
    host: String,
    pid: i32,
    version: String,
    /// The run it is busy with.
    #[schema(schema_with = crate::schema::optional_run_id)]
    run: Option<RunId>,
    /// Whether it gave a sign a short while ago.
    live: bool,
    #[schema(value_type = String, format = DateTime)]
    registered_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    last_beat: Timestamp,
    #[schema(value_type = Option<String>, format = DateTime)]
    retired_at: Option<Timestamp>,
}

/// All agents.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AgentList {
    pub(crate) items: Vec<AgentView>,
}

impl From<Agent> for AgentView {
    fn from(agent: Agent) -> Self {
        Self {
            id: agent.id,
            name: agent.name,
            role: agent.role,
            host: agent.host.as_str().to_owned(),
            pid: agent.process.pid,
            version: agent.version,
            run: agent.run,
            live: agent.live,
            registered_at: agent.registered_at,
            last_beat: agent.last_beat,
            retired_at: agent.retired_at,
        }
    }
}
