//! The first page: how many tasks stand how, what runs, what needs somebody.

use askama::Template;
use axum::{
    extract::State,
    response::{IntoResponse as _, Response},
};
use core_types::task::{ExecutionEnvironment, TaskStatus};
use store::{agents::AgentFilter, tasks::list::TaskFilter};

use crate::{
    error::ApiError,
    pages::{
        charts::{Chart, of_days, of_hours},
        frame::{Frame, Html},
        shown::{count, tone},
        tasks::TaskRow,
        texts::overview::OverviewTexts,
    },
    state::ApiState,
    views::{agent::AgentView, counts::TaskSummaryView, gate::GateView},
};

/// How many tasks each list shows.
const ROWS: u32 = 8;
/// How many days of use are asked for.
const DAYS: u32 = 14;

/// How many tasks stand so.
#[derive(Debug)]
struct Tile {
    status: &'static str,
    word: &'static str,
    tone: &'static str,
    count: String,
}

/// The first page.
#[derive(Debug, Template)]
#[template(path = "overview.html")]
struct Overview {
    frame: Frame,
    t: &'static OverviewTexts,
    empty: bool,
    tiles: Vec<Tile>,
    running: Vec<TaskRow>,
    recent: Vec<TaskRow>,
    blocked: Vec<TaskRow>,
    gates: Vec<GateView>,
    agents: Vec<AgentView>,
    environment: ExecutionEnvironment,
    charts: Vec<Chart>,
}

impl Overview {
    fn agent_state(&self, agent: &AgentView) -> &'static str {
        match agent.state {
            "idle" => self.t.agent_idle,
            "busy" => self.t.agent_busy,
            _ => self.t.agent_silent,
        }
    }
}

/// Shows the first page.
pub(crate) async fn show(
    State(state): State<ApiState>,
    frame: Frame,
) -> Result<Response, ApiError> {
    let counts = TaskSummaryView::from(state.store.count_tasks().await?);
    let tile = |status: &TaskStatus| Tile {
        status: status.as_str(),
        word: frame.t.status(*status),
        tone: tone(*status),
        count: count(counts.by_status.of(*status)),
    };
    let tiles = TaskStatus::ALL.iter().map(tile).collect();
    let running = rows(&state, &frame, &[TaskStatus::Running]).await?;
    let recent = rows(&state, &frame, &[TaskStatus::Done, TaskStatus::Failed]).await?;
    let blocked = rows(&state, &frame, &[TaskStatus::Blocked]).await?;
    let gates = state.store.gates().await?.into_iter().map(GateView::from);
    let gates = gates.filter(|gate| gate.cause.is_some()).collect();
    let agents = state.store.list_agents(AgentFilter::default()).await?;
    let hours = of_hours(&state.store.hours_of_runs().await?, frame.language);
    let days = of_days(&state.store.spend_of_days(DAYS).await?, frame.language);
    let page = Overview {
        charts: hours.into_iter().chain(days).collect(),
        t: OverviewTexts::of(frame.language),
        empty: counts.total == 0,
        tiles,
        running,
        recent,
        blocked,
        gates,
        agents: agents.into_iter().map(AgentView::from).collect(),
        environment: state.settings().settings.execution_environment,
        frame,
    };
    Ok(Html(page).into_response())
}

async fn rows(
    state: &ApiState,
    frame: &Frame,
    statuses: &[TaskStatus],
) -> Result<Vec<TaskRow>, ApiError> {
    let filter = TaskFilter { statuses: statuses.to_vec(), limit: ROWS, ..TaskFilter::default() };
    let page = state.store.list_tasks(&filter).await?;
    Ok(page.items.into_iter().map(|task| TaskRow::new(task, frame.language)).collect())
}
