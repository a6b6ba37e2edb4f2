//! Managed processes as clients see them.

use core_types::process::{ProcessKind, ProcessName, ProcessState, Wanted};
use jiff::Timestamp;
use processes::info::ProcessInfo;
use serde::Serialize;
use store::processes::{LastExit, Manager};
use utoipa::ToSchema;

/// A managed process.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ProcessView {
    #[schema(schema_with = crate::schema::process_name)]
    name: ProcessName,
    /// What people call it.
    #[schema(examples("Worker #1"))]
    label: String,
    #[schema(schema_with = crate::schema::process_kind)]
    kind: ProcessKind,
    /// How it stands, with what was asked for and not followed yet.
    #[schema(schema_with = crate::schema::process_state)]
    state: ProcessState,
    /// What somebody wants of it: what the settings say, or the contrary of that.
    #[schema(schema_with = crate::schema::wanted)]
    wanted: Wanted,
    /// Which start of it this is; absent before the first.
    generation: Option<u64>,
    /// Where it is, or was last.
    host: Option<String>,
    pid: Option<i32>,
    /// When it was started, while it is alive.
    #[schema(value_type = Option<String>, format = DateTime)]
    started_at: Option<Timestamp>,
    uptime_s: Option<u64>,
    /// Memory of it and what it started; only where it is on the host of this server.
    memory_bytes: Option<u64>,
    /// Processor time of it and what it started.
    cpu_ms: Option<u64>,
    /// How often it was started after an end that nobody asked for.
    restarts: u64,
    last_exit: Option<ExitView>,
    /// Why it stands so.
    message: Option<String>,
    /// What to do about it.
    hint: Option<String>,
}

/// How a process ended.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ExitView {
    #[schema(examples("exited with 1"))]
    outcome: String,
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// Whether nobody here had asked for it.
    unasked: bool,
    /// The last lines it wrote, where nobody had asked.
    last_lines: Option<String>,
}

/// Managed processes.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ProcessList {
    items: Vec<ProcessView>,
    /// Who manages them; absent where nobody does at this moment.
    manager: Option<ManagerView>,
}

/// Who manages processes.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ManagerView {
    host: String,
    #[schema(value_type = String, format = DateTime)]
    since: Timestamp,
}

/// One process.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ProcessAnswer {
    pub(crate) process: ProcessView,
}

/// What became of what was asked of a process.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ProcessWishView {
    pub(crate) process: ProcessView,
    /// Whether nothing was changed, because there is no place for the process now.
    pub(crate) skipped: bool,
    /// Why.
    pub(crate) reason: Option<&'static str>,
}

/// The end of a log.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ProcessLog {
    pub(crate) name: String,
    /// The launch that wrote it; absent before the first.
    pub(crate) launch: Option<String>,
    pub(crate) lines: Vec<String>,
}

/// What becomes of each process.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct StoppedList {
    items: Vec<StoppedView>,
}

/// What becomes of a process that was asked to stop.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct StoppedView {
    #[schema(schema_with = crate::schema::process_name)]
    name: ProcessName,
    /// `stopping` where it was alive, else `skipped`.
    #[schema(examples("stopping"))]
    result: &'static str,
    /// Why it is skipped.
    reason: Option<&'static str>,
}

impl ProcessList {
    pub(crate) fn new(items: Vec<ProcessInfo>, manager: Option<Manager>) -> Self {
        let manager = manager
            .map(|Manager { host, since }| ManagerView { host: host.as_str().to_owned(), since });
        Self { items: items.into_iter().map(ProcessView::from).collect(), manager }
    }
}

impl From<ProcessInfo> for ProcessView {
    fn from(info: ProcessInfo) -> Self {
        let millis =
            |span: std::time::Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        Self {
            name: info.name,
            label: info.name.label(),
            kind: info.name.kind(),
            state: info.state,
            wanted: info.wanted,
            generation: info.generation,
            host: info.host.map(|host| host.as_str().to_owned()),
            pid: info.pid,
            started_at: info.started_at,
            uptime_s: info.uptime.map(|uptime| uptime.as_secs()),
            memory_bytes: info.usage.map(|usage| usage.memory_bytes),
            cpu_ms: info.usage.map(|usage| millis(usage.cpu)),
            restarts: info.restarts,
            last_exit: info.last_exit.map(ExitView::from),
            message: info.message,
            hint: info.hint,
        }
    }
}

impl From<LastExit> for ExitView {
    fn from(LastExit { outcome, at, unasked, lines }: LastExit) -> Self {
        Self { outcome, at, unasked, last_lines: lines }
    }
}

impl From<Vec<ProcessInfo>> for StoppedList {
    fn from(infos: Vec<ProcessInfo>) -> Self {
        let stopped = |info: ProcessInfo| {
            let live = info.state.is_live();
            StoppedView {
                name: info.name,
                result: if live { "stopping" } else { "skipped" },
                reason: (!live).then_some("it does not run"),
            }
        };
        Self { items: infos.into_iter().map(stopped).collect() }
    }
}
