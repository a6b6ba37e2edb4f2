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
    pub(crate) name: ProcessName,
    /// What people call it.
    #[schema(examples("Worker #1"))]
    pub(crate) label: String,
    #[schema(schema_with = crate::schema::process_kind)]
    pub(crate) kind: ProcessKind,
    /// How it stands, with what was asked for and not followed yet.
    #[schema(schema_with = crate::schema::process_state)]
    pub(crate) state: ProcessState,
    /// What somebody wants of it: what the settings say, or the contrary of that.
    #[schema(schema_with = crate::schema::wanted)]
    pub(crate) wanted: Wanted,
    /// Which start of it this is; absent before the first.
    pub(crate) generation: Option<u64>,
    /// Where it is, or was last.
    pub(crate) host: Option<String>,
    pub(crate) pid: Option<i32>,
    /// When it was started, while it is alive.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) uptime_s: Option<u64>,
    /// Memory of it and what it started; only where it is on the host of this server.
    pub(crate) memory_bytes: Option<u64>,
    /// Processor time of it and what it started.
    pub(crate) cpu_ms: Option<u64>,
    /// How often it was started after an end that nobody asked for.
    pub(crate) restarts: u64,
    pub(crate) last_exit: Option<ExitView>,
    /// Why it stands so.
    pub(crate) message: Option<String>,
    /// What to do about it.
    pub(crate) hint: Option<String>,
}

/// How a process ended.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ExitView {
    #[schema(examples("exited with 1"))]
    pub(crate) outcome: String,
    #[schema(value_type = String, format = DateTime)]
    pub(crate) at: Timestamp,
    /// Whether nobody here had asked for it.
    pub(crate) unasked: bool,
    /// The last lines it wrote, where nobody had asked.
    pub(crate) last_lines: Option<String>,
}

/// Managed processes.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ProcessList {
    pub(crate) items: Vec<ProcessView>,
    /// Who manages them; absent where nobody does at this moment.
    pub(crate) manager: Option<ManagerView>,
}

/// Who manages processes.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ManagerView {
    pub(crate) host: String,
    #[schema(value_type = String, format = DateTime)]
    pub(crate) since: Timestamp,
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
    pub(crate) items: Vec<StoppedView>,
}

/// What becomes of a process that was asked to stop.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct StoppedView {
    #[schema(schema_with = crate::schema::process_name)]
    pub(crate) name: ProcessName,
    /// `stopping` where it was alive, else `skipped`.
    #[schema(examples("stopping"))]
    pub(crate) result: &'static str,
    /// Why it is skipped.
    pub(crate) reason: Option<&'static str>,
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
