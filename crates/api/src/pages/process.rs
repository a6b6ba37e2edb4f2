//! Managed processes: as rows, each with a page and the end of its log, and what is asked of one or of all.

use askama::Template;
use axum::{
    extract::State,
    response::{IntoResponse as _, Redirect, Response},
};
use core_types::process::{ProcessName, ProcessState};

use crate::{
    error::{ApiError, FieldFault},
    extract::{PathProcess, QueryTexts},
    pages::{
        form::{Fields, PageForm},
        frame::{Frame, Html, local_address},
        shown::{count, span},
        texts::system::SystemTexts,
    },
    requests::processes::LinesQuery,
    routes::processes,
    state::ApiState,
    views::process::ProcessView,
};

/// A managed process.
#[derive(Debug)]
pub(crate) struct ProcessRow {
    pub(crate) name: ProcessName,
    pub(crate) label: String,
    pub(crate) tone: &'static str,
    pub(crate) state: &'static str,
    pub(crate) uptime: String,
    pub(crate) restarts: u64,
    pub(crate) memory: String,
    pub(crate) pid: Option<i32>,
    pub(crate) message: Option<String>,
    pub(crate) hint: Option<String>,
    pub(crate) may_start: bool,
    pub(crate) may_stop: bool,
    pub(crate) skipped: bool,
}

impl ProcessRow {
    pub(crate) fn new(process: ProcessView, t: &'static SystemTexts) -> Self {
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

/// A process' page.
#[derive(Debug, Template)]
#[template(path = "process.html")]
struct ProcessPage {
    frame: Frame,
    t: &'static SystemTexts,
    row: ProcessRow,
    last_exit: Option<String>,
    log: LogEnd,
}

/// The end of what a process wrote.
#[derive(Debug)]
pub(crate) struct LogEnd {
    pub(crate) lines: Vec<String>,
    /// Why it cannot be shown.
    pub(crate) fault: Option<String>,
}

impl LogEnd {
    pub(crate) async fn read(state: &ApiState, name: ProcessName) -> Self {
        let (state, query) = (State(state.clone()), QueryTexts(LinesQuery::default()));
        match processes::log(state, PathProcess(name), query).await {
            Ok(log) => Self { lines: log.0.lines, fault: None },
            Err(error) => Self { lines: Vec::new(), fault: Some(error.text().to_owned()) },
        }
    }
}

/// Shows a process with the end of its log.
pub(crate) async fn show(
    State(state): State<ApiState>,
    frame: Frame,
    PathProcess(name): PathProcess,
) -> Result<Response, ApiError> {
    let shown = processes::show(State(state.clone()), PathProcess(name)).await?.0.process;
    let log = LogEnd::read(&state, name).await;
    let t = SystemTexts::of(frame.language);
    let last_exit = shown.last_exit.as_ref().map(|exit| exit.outcome.clone());
    let page = ProcessPage { t, row: ProcessRow::new(shown, t), last_exit, log, frame };
    Ok(Html(page).into_response())
}

/// Starts, stops or restarts a process.
pub(crate) async fn ask(
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
    Ok(back_to(&form, said))
}

/// Stops every process.
pub(crate) async fn stop_all(
    State(state): State<ApiState>,
    PageForm(form): PageForm,
) -> Result<Redirect, ApiError> {
    processes::stop_all(State(state)).await.map(drop)?;
    Ok(back_to(&form, "all_stopped"))
}

/// Lets the settings say again which processes run.
pub(crate) async fn start_all(
    State(state): State<ApiState>,
    PageForm(form): PageForm,
) -> Result<Redirect, ApiError> {
    processes::start_all(State(state)).await.map(drop)?;
    Ok(back_to(&form, "all_started"))
}

/// Back to the page that a form was on, which says what was done.
pub(crate) fn back_to(form: &Fields, said: &str) -> Redirect {
    let page = form.filled("next").map_or("/ui/system", local_address);
    let joint = if page.contains('?') { '&' } else { '?' };
    Redirect::to(&format!("{page}{joint}said={said}"))
}
