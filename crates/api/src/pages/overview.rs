//! The first page: how many tasks stand how, what runs where, what needs somebody, how it went.

use askama::Template;
use axum::{
    extract::State,
    response::{IntoResponse as _, Response},
};
use core_types::{
    auth::Language,
    task::{ExecutionEnvironment, RunStatus, TaskStatus},
};
use store::{agents::AgentFilter, runs::list::RunFilter, tasks::list::TaskFilter};

use crate::{
    charted::Window,
    error::{ApiError, FieldFault},
    pages::{
        charts::{Chart, charts},
        form::PageQuery,
        frame::{Frame, Html},
        gates::GateRow,
        runs::{ListedRun, listed},
        shown::{count, tone},
        tasks::TaskRow,
        texts::{overview::OverviewTexts, runs::AgentTexts},
    },
    state::ApiState,
    views::{agent::AgentView, counts::TaskSummaryView, gate::GateView},
};

/// How many tasks each list shows.
const ROWS: u32 = 8;
/// How many runs that are alive are shown, and how many agents.
const ALIVE: u32 = 12;

/// How many tasks stand so.
#[derive(Debug)]
struct Tile {
    status: &'static str,
    word: &'static str,
    tone: &'static str,
    count: String,
}

/// A time that charts can show.
#[derive(Debug)]
struct WindowChoice {
    window: &'static str,
    text: &'static str,
    chosen: bool,
}

/// A resident agent.
#[derive(Debug)]
struct Agent {
    view: AgentView,
    tone: &'static str,
    state: &'static str,
}

/// The first page.
#[derive(Debug, Template)]
#[template(path = "overview.html")]
struct Overview {
    frame: Frame,
    t: &'static OverviewTexts,
    empty: bool,
    tiles: Vec<Tile>,
    runs: Vec<ListedRun>,
    in_sandboxes: u64,
    on_hosts: u64,
    recent: Vec<TaskRow>,
    blocked: Vec<TaskRow>,
    gates: Vec<GateRow>,
    agents: Vec<Agent>,
    more_agents: bool,
    environment: ExecutionEnvironment,
    /// Whether processes can be stopped here.
    managed: bool,
    windows: Vec<WindowChoice>,
    charts: Vec<Chart>,
}

/// Shows the first page.
pub(crate) async fn show(
    State(state): State<ApiState>,
    frame: Frame,
    PageQuery(query): PageQuery,
) -> Result<Response, ApiError> {
    let window = match query.filled("window") {
        None => Window::Day,
        Some(word) => word.parse().map_err(|_| {
            let allowed = Window::WORDS.join(", ");
            ApiError::parameters(vec![FieldFault::new("window", "is not allowed", allowed)])
        })?,
    };
    let t = OverviewTexts::of(frame.language);
    let counts = TaskSummaryView::from(state.store.count_tasks().await?);
    let tile = |status: &TaskStatus| Tile {
        status: status.as_str(),
        word: frame.t.status(*status),
        tone: tone(*status),
        count: count(counts.by_status.of(*status)),
    };
    let environment = state.settings().settings.execution_environment;
    let gates = state.store.gates().await?.into_iter().map(GateView::from);
    let gates = gates.filter(|gate| gate.cause.is_some());
    let alive = state.store.count_live_runs().await?;
    let agents = state.store.list_agents(AgentFilter::default()).await?;
    let shown = usize::try_from(ALIVE).unwrap_or(usize::MAX);
    let charted = state.charted(window).await;
    let page = Overview {
        t,
        empty: counts.total == 0,
        tiles: TaskStatus::ALL.iter().map(tile).collect(),
        runs: listed(&state, alive_runs(), frame.language).await?.0,
        in_sandboxes: alive.in_sandboxes,
        on_hosts: alive.on_hosts,
        recent: rows(&state, &frame, &[TaskStatus::Done, TaskStatus::Failed]).await?,
        blocked: rows(&state, &frame, &[TaskStatus::Blocked]).await?,
        gates: gates.map(|gate| GateRow::new(gate, environment, &frame)).collect(),
        more_agents: agents.len() > shown,
        agents: agents
            .into_iter()
            .take(shown)
            .map(|agent| Agent::new(AgentView::from(agent), frame.language))
            .collect(),
        environment,
        managed: state.processes.is_some(),
        windows: Window::ALL.iter().map(|one| WindowChoice::new(*one, window, t)).collect(),
        charts: charts(&charted, window, frame.language),
        frame,
    };
    Ok(Html(page).into_response())
}

impl WindowChoice {
    fn new(one: Window, chosen: Window, t: &'static OverviewTexts) -> Self {
        let text = match one {
            Window::Day => t.window_day,
            Window::Week => t.window_week,
            Window::Month => t.window_month,
        };
        Self { window: one.as_str(), text, chosen: one == chosen }
    }
}

impl Agent {
    fn new(view: AgentView, language: Language) -> Self {
        let (tone, state) = AgentTexts::of(language).state(view.state);
        Self { view, tone, state }
    }
}

/// Runs that are alive, those that were handed out last first.
fn alive_runs() -> RunFilter {
    let statuses = vec![RunStatus::Launching, RunStatus::Running, RunStatus::Collecting];
    RunFilter { statuses, limit: ALIVE, ..RunFilter::default() }
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
