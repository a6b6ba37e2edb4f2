//! The System page: where agents run, what is ready, what the account has left, which processes there are.

use askama::Template;
use axum::{
    extract::State,
    response::{IntoResponse as _, Redirect, Response},
};
use core_types::{
    process::{ProcessName, ProcessState},
    task::{ExecutionEnvironment, ExecutorKind},
};
use jiff::Timestamp;

use crate::{
    error::{ApiError, FieldFault},
    extract::{PathProcess, QueryTexts},
    pages::{
        form::{PageForm, PageQuery},
        frame::{Frame, Html},
        shown::{Markup, ago, count, span},
        switching::Lock,
        texts::system::SystemTexts,
    },
    requests::{gates::ProviderQuery, processes::LinesQuery},
    routes::{
        gates::{self, PathExecutor},
        processes, readiness as ready,
    },
    state::ApiState,
    views::{gate::GateView, process::ProcessView, readiness::FullReadinessView},
};

/// One environment to choose.
#[derive(Debug)]
struct Place {
    environment: ExecutionEnvironment,
    name: &'static str,
    means: &'static str,
    chosen: bool,
}

/// A limit of an account.
#[derive(Debug)]
struct Window {
    name: String,
    used: String,
    left: String,
    resets: Option<Markup>,
}

/// An executor and whether it takes tasks.
#[derive(Debug)]
struct GateRow {
    executor: ExecutorKind,
    environment: ExecutionEnvironment,
    provider: Option<String>,
    open: bool,
    message: Option<String>,
    hint: Option<String>,
    retry_at: Option<Markup>,
    windows: Vec<Window>,
    told: Option<Markup>,
}

/// A managed process.
#[derive(Debug)]
struct ProcessRow {
    name: ProcessName,
    label: String,
    tone: &'static str,
    state: &'static str,
    uptime: String,
    restarts: u64,
    memory: String,
    pid: Option<i32>,
    message: Option<String>,
    hint: Option<String>,
    may_start: bool,
    may_stop: bool,
    skipped: bool,
}

/// The System page.
#[derive(Debug, Template)]
#[template(path = "system.html")]
struct System {
    frame: Frame,
    t: &'static SystemTexts,
    places: Vec<Place>,
    lock: Option<Lock>,
    gates: Vec<GateRow>,
    /// None where nobody manages processes.
    processes: Option<Vec<ProcessRow>>,
    faults: Vec<String>,
}

/// Shows the System page.
pub(crate) async fn show(
    State(state): State<ApiState>,
    frame: Frame,
) -> Result<Response, ApiError> {
    let t = SystemTexts::of(frame.language);
    let loaded = state.settings();
    let present = loaded.settings.execution_environment;
    let place = |environment: &ExecutionEnvironment| Place {
        environment: *environment,
        name: t.name(*environment),
        means: t.means(*environment),
        chosen: *environment == present,
    };
    let gates = gates::list(State(state.clone())).await?.0.items;
    let processes = match processes::list(State(state.clone())).await {
        Ok(list) => Some(list.0.items.into_iter().map(|one| ProcessRow::new(one, t)).collect()),
        Err(error) if error.code() == "no_manager" => None,
        Err(error) => return Err(error),
    };
    let page = System {
        t,
        places: ExecutionEnvironment::ALL.iter().map(place).collect(),
        lock: Lock::look(&state).await?,
        gates: gates.into_iter().map(|gate| GateRow::new(gate, &frame)).collect(),
        processes,
        faults: loaded.database_faults.iter().flatten().map(ToString::to_string).collect(),
        frame,
    };
    Ok(Html(page).into_response())
}

impl GateRow {
    fn new(gate: GateView, frame: &Frame) -> Self {
        let now = Timestamp::now();
        let when = |at: Timestamp| ago(at, now, frame.language);
        let window = |window: crate::views::auth::QuotaView| Window {
            name: window.name,
            used: format!("{:.0}", window.used_percent.clamp(0.0, 100.0)),
            left: format!("{:.0}", (100.0 - window.used_percent).clamp(0.0, 100.0)),
            resets: window.resets_at.map(when),
        };
        Self {
            executor: gate.executor,
            environment: gate.environment,
            provider: gate.provider,
            open: gate.cause.is_none(),
            message: gate.message,
            hint: gate.hint,
            retry_at: gate.retry_at.map(when),
            windows: gate.quota.into_iter().flatten().map(window).collect(),
            told: gate.quota_told_at.map(when),
        }
    }
}

impl ProcessRow {
    fn new(process: ProcessView, t: &'static SystemTexts) -> Self {
        let (tone, state) = t.process(process.state);
        let live = process.state.is_live();
        let skipped = process.state == ProcessState::Skipped;
        Self {
            name: process.name,
            label: process.label,
            tone,
            state,
            uptime: process.uptime_s.map(|seconds| span(seconds as f64)).unwrap_or_default(),
            restarts: process.restarts,
            memory: process
                .memory_bytes
                .map(|bytes| format!("{} MiB", count(bytes >> 20)))
                .unwrap_or_default(),
            pid: process.pid,
            message: process.message,
            hint: process.hint,
            may_start: !live && !skipped,
            may_stop: live && process.state != ProcessState::Stopping,
            skipped,
        }
    }
}

/// A check as the page shows it.
#[derive(Debug)]
struct CheckRow {
    name: String,
    tone: &'static str,
    state: &'static str,
    cause: String,
    fix: Option<String>,
}

/// Whether tasks could run in an environment.
#[derive(Debug, Template)]
#[template(path = "readiness.html")]
struct Readiness {
    frame: Frame,
    t: &'static SystemTexts,
    environment: ExecutionEnvironment,
    ready: bool,
    checks: Vec<CheckRow>,
}

/// Looks whether tasks could run in an environment. It may take a while, so pages ask for it when they are shown.
pub(crate) async fn readiness(
    State(state): State<ApiState>,
    frame: Frame,
    PageQuery(query): PageQuery,
) -> Result<Response, ApiError> {
    let environment = match query.filled("environment") {
        Some(word) => environment_of(word)?,
        None => state.settings().settings.execution_environment,
    };
    let refresh = query.text("refresh") == "true";
    let FullReadinessView { ready, environment, checks } =
        ready::look(&state, environment, refresh).await;
    let t = SystemTexts::of(frame.language);
    let checks = checks.into_iter().map(|check| {
        let (tone, state) = t.check(check.state);
        CheckRow { name: check.name, tone, state, cause: check.cause, fix: check.fix }
    });
    let checks = checks.collect();
    Ok(Html(Readiness { frame, t, environment, ready, checks }).into_response())
}

/// The environment of this name.
pub(crate) fn environment_of(word: &str) -> Result<ExecutionEnvironment, ApiError> {
    word.parse().map_err(|_| {
        let allowed = ExecutionEnvironment::WORDS.join(", ");
        ApiError::parameters(vec![FieldFault::new("environment", "is not allowed", allowed)])
    })
}

/// Has one run let through to try an executor that takes none.
pub(crate) async fn try_gate(
    State(state): State<ApiState>,
    executor: PathExecutor,
    PageForm(form): PageForm,
) -> Result<Redirect, ApiError> {
    let provider = form.filled("provider").map(ToOwned::to_owned);
    let query = QueryTexts(ProviderQuery { provider });
    gates::try_now(State(state), executor, query).await.map(drop)?;
    Ok(Redirect::to("/ui/system?said=gate_tried"))
}

/// A process' page.
#[derive(Debug, Template)]
#[template(path = "process.html")]
struct ProcessPage {
    frame: Frame,
    t: &'static SystemTexts,
    row: ProcessRow,
    last_exit: Option<String>,
    lines: Vec<String>,
    fault: Option<String>,
}

/// Shows a process with the end of its log.
pub(crate) async fn process(
    State(state): State<ApiState>,
    frame: Frame,
    PathProcess(name): PathProcess,
) -> Result<Response, ApiError> {
    let shown = processes::show(State(state.clone()), PathProcess(name)).await?.0.process;
    let log =
        processes::log(State(state), PathProcess(name), QueryTexts(LinesQuery::default())).await;
    let (lines, fault) = match log {
        Ok(log) => (log.0.lines, None),
        Err(error) => (Vec::new(), Some(error.text().to_owned())),
    };
    let t = SystemTexts::of(frame.language);
    let last_exit = shown.last_exit.as_ref().map(|exit| exit.outcome.clone());
    let page = ProcessPage { t, row: ProcessRow::new(shown, t), last_exit, lines, fault, frame };
    Ok(Html(page).into_response())
}

/// Starts, stops or restarts a process.
pub(crate) async fn ask_process(
    State(state): State<ApiState>,
    name: PathProcess,
    PageForm(form): PageForm,
) -> Result<Redirect, ApiError> {
    let state = State(state);
    let wish = match form.text("wish") {
        "start" => processes::start(state, name).await?,
        "stop" => processes::stop(state, name).await?,
        "restart" => processes::restart(state, name).await?,
        _ => {
            let fault = FieldFault::new("wish", "is not allowed", "start, stop, restart");
            return Err(ApiError::fields(vec![fault]));
        }
    };
    let said = if wish.0.skipped { "process_skipped" } else { "process_asked" };
    Ok(Redirect::to(&format!("/ui/system?said={said}")))
}
