//! Agents: who there is, what each does, its process and the end of its log.

use askama::Template;
use axum::{
    extract::State,
    response::{IntoResponse as _, Response},
};
use core_types::{
    ids::{AgentId, RunId},
    process::{ProcessKind, ProcessName},
    task::{ExecutionEnvironment, Role},
};
use jiff::Timestamp;
use store::{agents::AgentFilter, runs::list::RunFilter};

use crate::{
    error::ApiError,
    extract::{PathId, PathProcess},
    pages::{
        frame::{Frame, Html},
        process::{LogEnd, ProcessRow},
        runs::{ListedRun, listed},
        shown::{Markup, ago},
        texts::{runs::AgentTexts, system::SystemTexts},
    },
    routes::processes,
    state::ApiState,
    views::{agent::AgentView, process::ProcessView},
};

/// How many runs of an agent its page shows.
const RUNS: u32 = 10;

/// An agent of the list: a process that is wanted, an agent that is there, or both.
#[derive(Debug)]
struct AgentRow {
    name: String,
    role: &'static str,
    /// None where it is not there.
    agent: Option<Present>,
    /// None where it was started some other way.
    process: Option<ProcessRow>,
}

/// An agent that is there.
#[derive(Debug)]
struct Present {
    id: AgentId,
    host: String,
    tone: &'static str,
    state: &'static str,
    run: Option<RunId>,
    seen: Markup,
}

impl Present {
    fn new(agent: &AgentView, frame: &Frame) -> Self {
        let (tone, state) = AgentTexts::of(frame.language).state(agent.state);
        Self {
            id: agent.id,
            host: agent.host.clone(),
            tone,
            state,
            run: agent.run,
            seen: ago(agent.last_beat, Timestamp::now(), frame.language),
        }
    }
}

impl AgentTexts {
    /// The colour and the word of an agent's state.
    pub(crate) fn state(&self, state: &str) -> (&'static str, &'static str) {
        match state {
            "idle" => ("wait", self.idle),
            "busy" => ("busy", self.busy),
            "retired" => ("off", self.retired),
            _ => ("warn", self.silent),
        }
    }
}

/// The list of agents.
#[derive(Debug, Template)]
#[template(path = "agents.html")]
struct Agents {
    frame: Frame,
    t: &'static AgentTexts,
    environment: ExecutionEnvironment,
    rows: Vec<AgentRow>,
}

/// Shows the agents that there are, and those that there shall be.
pub(crate) async fn list(
    State(state): State<ApiState>,
    frame: Frame,
) -> Result<Response, ApiError> {
    let agents = state.store.list_agents(AgentFilter::default()).await?;
    let mut agents: Vec<AgentView> = agents.into_iter().map(AgentView::from).collect();
    let t = SystemTexts::of(frame.language);
    let mut rows = Vec::new();
    for process in managed(&state).await? {
        if process.kind != ProcessKind::Worker {
            continue;
        }
        let name = process.name.to_string();
        let role = role_of(process.name).map(|role| frame.t.role(role)).unwrap_or_default();
        // Of several lives the list begins with the one that lives.
        let found = agents.iter().position(|agent| agent.name == name);
        let agent = found.map(|at| Present::new(&agents.remove(at), &frame));
        rows.push(AgentRow { name, role, agent, process: Some(ProcessRow::new(process, t)) });
    }
    rows.extend(agents.iter().map(|agent| AgentRow {
        name: agent.name.clone(),
        role: frame.t.role(agent.role),
        agent: Some(Present::new(agent, &frame)),
        process: None,
    }));
    let environment = state.settings().settings.execution_environment;
    let page = Agents { t: AgentTexts::of(frame.language), environment, rows, frame };
    Ok(Html(page).into_response())
}

const fn role_of(name: ProcessName) -> Option<Role> {
    match name {
        ProcessName::Dispatcher => None,
        ProcessName::Agent { role, .. } => Some(role),
    }
}

/// The managed processes; none where nobody manages.
async fn managed(state: &ApiState) -> Result<Vec<ProcessView>, ApiError> {
    match processes::list(State(state.clone())).await {
        Ok(list) => Ok(list.0.items),
        Err(error) if error.code() == "no_manager" => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// An agent's page.
#[derive(Debug, Template)]
#[template(path = "agent.html")]
struct AgentPage {
    frame: Frame,
    t: &'static AgentTexts,
    agent: AgentView,
    role: &'static str,
    present: Present,
    since: Markup,
    left: Option<Markup>,
    process: Option<ProcessRow>,
    runs: Vec<ListedRun>,
    log: Option<LogEnd>,
}

/// Shows an agent with its latest runs and the end of its log.
pub(crate) async fn show(
    State(state): State<ApiState>,
    frame: Frame,
    PathId(id): PathId<AgentId>,
) -> Result<Response, ApiError> {
    let agent = state.store.agent(id).await?.ok_or_else(|| ApiError::not_found("agent"))?;
    let agent = AgentView::from(agent);
    let filter = RunFilter { agent: Some(id), limit: RUNS, ..RunFilter::default() };
    let (runs, _) = listed(&state, filter, frame.language).await?;
    let mut page = AgentPage {
        t: AgentTexts::of(frame.language),
        role: frame.t.role(agent.role),
        present: Present::new(&agent, &frame),
        since: ago(agent.registered_at, Timestamp::now(), frame.language),
        left: agent.retired_at.map(|at| ago(at, Timestamp::now(), frame.language)),
        process: None,
        log: None,
        runs,
        agent,
        frame,
    };
    let name: Option<ProcessName> = page.agent.name.parse().ok();
    if let Some(name) = name {
        page.look_at_process(&state, name).await?;
    }
    Ok(Html(page).into_response())
}

impl AgentPage {
    /// Adds the managed process of this name, where it is this agent's own life.
    async fn look_at_process(
        &mut self,
        state: &ApiState,
        name: ProcessName,
    ) -> Result<(), ApiError> {
        let process = match processes::show(State(state.clone()), PathProcess(name)).await {
            Ok(answer) => answer.0.process,
            Err(error) if error.code() == "no_manager" => return Ok(()),
            Err(error) => return Err(error),
        };
        let lives = self.agent.retired_at.is_none();
        let is_of_agent = lives && process.host.as_ref() == Some(&self.agent.host);
        if is_of_agent {
            self.log = Some(LogEnd::read(state, name).await);
            let t = SystemTexts::of(self.frame.language);
            self.process = Some(ProcessRow::new(process, t));
        }
        Ok(())
    }
}
