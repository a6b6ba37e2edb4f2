//! `/system/processes`: the managed processes, and what is wanted of them.

use axum::{Json, extract::State};
use core_types::process::ProcessName;
use http::StatusCode;
use processes::control::{Asked, Control, ControlError, LogTailError};
use telemetry::chain::error_chain;

use crate::{
    error::ApiError,
    extract::{PathProcess, QueryTexts},
    openapi::{AboutProcess, AboutQuery, Always},
    requests::processes::LinesQuery,
    state::ApiState,
    views::process::{
        ProcessAnswer, ProcessList, ProcessLog, ProcessView, ProcessWishView, StoppedList,
    },
};

/// Lists the processes that run, ran or are wanted, the dispatcher first.
#[utoipa::path(
    get, path = "/system/processes", tag = "system", operation_id = "listProcesses",
    responses((status = 200, description = "The processes.", body = ProcessList), Always)
)]
pub(crate) async fn list(State(state): State<ApiState>) -> Result<Json<ProcessList>, ApiError> {
    let control = state.processes()?;
    let items = control.list(&state.settings().settings).await?;
    Ok(Json(ProcessList::new(items, control.manager().await?)))
}

/// Shows a process.
#[utoipa::path(
    get, path = "/system/processes/{name}", tag = "system", operation_id = "showProcess",
    params(("name" = String, Path, description = "The process.")),
    responses((status = 200, description = "The process.", body = ProcessAnswer), AboutProcess, Always)
)]
pub(crate) async fn show(
    State(state): State<ApiState>,
    PathProcess(name): PathProcess,
) -> Result<Json<ProcessAnswer>, ApiError> {
    let info = state.processes()?.show(name, &state.settings().settings).await?;
    Ok(Json(ProcessAnswer { process: info.into() }))
}

/// Starts a process, whatever the settings say. What held it up is forgotten; one that ends is started when it is gone.
///
/// In the environment `sandbox` no agent runs on the host: the answer is `skipped` and says why, and nothing is changed.
#[utoipa::path(
    post, path = "/system/processes/{name}/start", tag = "system", operation_id = "startProcess",
    params(("name" = String, Path, description = "The process.")),
    responses(
        (status = 200, description = "It is started, or it is skipped.", body = ProcessWishView),
        (status = 409, description = "No api-server manages processes.", body = crate::error::ErrorBody),
        AboutProcess, Always,
    )
)]
pub(crate) async fn start(
    State(state): State<ApiState>,
    PathProcess(name): PathProcess,
) -> Result<Json<ProcessWishView>, ApiError> {
    wish(&state, name, Wish::Start).await
}

/// Stops a process, whatever the settings say: it is asked, and killed after `PROCESS_STOP_GRACE_S`. An agent gives its
/// run back, which costs no attempt. The answer does not wait for the end.
#[utoipa::path(
    post, path = "/system/processes/{name}/stop", tag = "system", operation_id = "stopProcess",
    params(("name" = String, Path, description = "The process.")),
    responses(
        (status = 200, description = "It is stopped, or did not run.", body = ProcessWishView),
        (status = 409, description = "No api-server manages processes.", body = crate::error::ErrorBody),
        AboutProcess, Always,
    )
)]
pub(crate) async fn stop(
    State(state): State<ApiState>,
    PathProcess(name): PathProcess,
) -> Result<Json<ProcessWishView>, ApiError> {
    wish(&state, name, Wish::Stop).await
}

/// Stops a process and starts it again once it is gone.
#[utoipa::path(
    post, path = "/system/processes/{name}/restart", tag = "system", operation_id = "restartProcess",
    params(("name" = String, Path, description = "The process.")),
    responses(
        (status = 200, description = "It is restarted, or it is skipped.", body = ProcessWishView),
        (status = 409, description = "No api-server manages processes.", body = crate::error::ErrorBody),
        AboutProcess, Always,
    )
)]
pub(crate) async fn restart(
    State(state): State<ApiState>,
    PathProcess(name): PathProcess,
) -> Result<Json<ProcessWishView>, ApiError> {
    wish(&state, name, Wish::Restart).await
}

/// Shows the last lines that the present launch of a process wrote, or the last one.
#[utoipa::path(
    get, path = "/system/processes/{name}/log", tag = "system", operation_id = "showProcessLog",
    params(("name" = String, Path, description = "The process."), LinesQuery),
    responses(
        (status = 200, description = "The lines, the oldest first.", body = ProcessLog),
        (status = 409, description = "The log lies on another host.", body = crate::error::ErrorBody),
        AboutQuery, AboutProcess, Always,
    )
)]
pub(crate) async fn log(
    State(state): State<ApiState>,
    PathProcess(name): PathProcess,
    QueryTexts(query): QueryTexts<LinesQuery>,
) -> Result<Json<ProcessLog>, ApiError> {
    let count = query.count()?;
    let log = state.processes()?.log(name, count).await?;
    Ok(Json(ProcessLog { name: name.to_string(), launch: log.launch, lines: log.lines }))
}

/// Stops every process, and keeps all of them stopped until they are started one by one or by `start-all`.
#[utoipa::path(
    post, path = "/system/processes/stop-all", tag = "system", operation_id = "stopProcesses",
    responses(
        (status = 200, description = "What becomes of each.", body = StoppedList),
        (status = 409, description = "No api-server manages processes.", body = crate::error::ErrorBody),
        Always,
    )
)]
pub(crate) async fn stop_all(State(state): State<ApiState>) -> Result<Json<StoppedList>, ApiError> {
    let (control, settings) = (state.processes()?.clone(), state.settings());
    let stopping = async move { Ok(control.stop_all(&settings.settings).await?) };
    Ok(Json(StoppedList::from(state.to_the_end(stopping).await?)))
}

/// Lets the settings alone say again which processes run. What held one up is forgotten.
#[utoipa::path(
    post, path = "/system/processes/start-all", tag = "system", operation_id = "startProcesses",
    responses(
        (status = 200, description = "The processes.", body = ProcessList),
        (status = 409, description = "No api-server manages processes.", body = crate::error::ErrorBody),
        Always,
    )
)]
pub(crate) async fn start_all(
    State(state): State<ApiState>,
) -> Result<Json<ProcessList>, ApiError> {
    let (control, settings) = (state.processes()?.clone(), state.settings());
    let starting = async move {
        let items = control.start_all(&settings.settings).await?;
        Ok(ProcessList::new(items, control.manager().await?))
    };
    Ok(Json(state.to_the_end(starting).await?))
}

/// What is wanted of one process.
#[derive(Debug, Clone, Copy)]
enum Wish {
    Start,
    Stop,
    Restart,
}

async fn wish(
    state: &ApiState,
    name: ProcessName,
    wish: Wish,
) -> Result<Json<ProcessWishView>, ApiError> {
    let (control, settings) = (state.processes()?.clone(), state.settings());
    let wishing = async move {
        let settings = &settings.settings;
        let asked = match wish {
            Wish::Start => control.start(name, settings).await,
            Wish::Stop => control.stop(name, settings).await,
            Wish::Restart => control.restart(name, settings).await,
        };
        Ok(asked?)
    };
    let Asked { process, skipped } = state.to_the_end(wishing).await?;
    let process = ProcessView::from(process);
    Ok(Json(ProcessWishView { process, skipped: skipped.is_some(), reason: skipped }))
}

impl ApiState {
    fn processes(&self) -> Result<&Control, ApiError> {
        self.processes.as_ref().ok_or_else(no_manager)
    }
}

impl From<ControlError> for ApiError {
    fn from(error: ControlError) -> Self {
        match error {
            ControlError::NoManager => no_manager(),
            ControlError::Store(error) => error.into(),
        }
    }
}

impl From<LogTailError> for ApiError {
    fn from(error: LogTailError) -> Self {
        match error {
            LogTailError::OtherHost { .. } => {
                let text = format!("{error}; ask an api-server there");
                Self::new(StatusCode::CONFLICT, "other_host", text)
            }
            LogTailError::Attach(_) => {
                tracing::error!(error = %error_chain(&error), "log of a process not read");
                Self::internal()
            }
            LogTailError::Store(error) => error.into(),
        }
    }
}

fn no_manager() -> ApiError {
    ApiError::new(
        StatusCode::CONFLICT,
        "no_manager",
        "no api-server manages processes; start one with `OPENTIGER_PROCESS_MANAGER=on`",
    )
}
