//! Agents as clients see them.

use core_types::{
    ids::{AgentId, RunId},
    task::Role,
};
use jiff::Timestamp;
use serde::Serialize;
use store::{
    agents::{Agent, AgentState},
    runs::Run,
};
use utoipa::ToSchema;

use crate::views::run::RunView;

/// An agent process.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AgentView {
    #[schema(schema_with = crate::schema::agent_id)]
    pub(crate) id: AgentId,
    pub(crate) name: String,
    #[schema(schema_with = crate::schema::role)]
    pub(crate) role: Role,
    pub(crate) host: String,
    pub(crate) pid: i32,
    pub(crate) version: String,
    /// The run it is busy with.
    #[schema(schema_with = crate::schema::optional_run_id)]
    pub(crate) run: Option<RunId>,
    /// `idle`, `busy`, `silent` or `retired`.
    #[schema(schema_with = crate::schema::agent_state)]
    pub(crate) state: &'static str,
    /// Whether it gave a sign a short while ago.
    pub(crate) live: bool,
    #[schema(value_type = String, format = DateTime)]
    pub(crate) registered_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    pub(crate) last_beat: Timestamp,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) retired_at: Option<Timestamp>,
}

/// An agent with the run it is busy with.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AgentDetail {
    #[serde(flatten)]
    pub(crate) agent: AgentView,
    /// The run it is busy with, as it stands.
    pub(crate) present_run: Option<RunView>,
}

impl AgentDetail {
    pub(crate) fn new(agent: Agent, run: Option<Run>) -> Self {
        Self { agent: agent.into(), present_run: run.map(RunView::from) }
    }
}

/// Agents.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AgentList {
    pub(crate) items: Vec<AgentView>,
}

impl From<Agent> for AgentView {
    fn from(agent: Agent) -> Self {
        let state = match agent.state() {
            AgentState::Idle => "idle",
            AgentState::Busy => "busy",
            AgentState::Silent => "silent",
            AgentState::Retired => "retired",
        };
        Self {
            id: agent.id,
            name: agent.name,
            role: agent.role,
            host: agent.host.as_str().to_owned(),
            pid: agent.process.pid,
            version: agent.version,
            run: agent.run,
            state,
            live: agent.live,
            registered_at: agent.registered_at,
            last_beat: agent.last_beat,
            retired_at: agent.retired_at,
        }
    }
}
