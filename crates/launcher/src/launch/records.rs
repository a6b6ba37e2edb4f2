//! The records of a launch directory, as JSON with a version.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    id::LaunchId,
    outcome::{ExitReport, ExitSource, Outcome, StopCause},
    spec::LaunchSpec,
};

/// `intent.json`: what is to be launched. Written by the host before anything else.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Intent {
    pub(crate) version: u32,
    pub(crate) id: LaunchId,
    pub(crate) spec_hash: String,
    pub(crate) boot_id: String,
    pub(crate) created_us: i64,
    pub(crate) spec: LaunchSpec,
}

/// `cgroup.json`: where its processes are. Written by the host before the shim starts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cgroups {
    pub(crate) version: u32,
    /// All directories, each one level below a hierarchy that is not ours.
    pub(crate) all: Vec<PathBuf>,
    /// The one by which the processes are found and killed.
    pub(crate) kill: Option<PathBuf>,
    /// The file that counts kills for want of memory.
    pub(crate) oom_file: Option<PathBuf>,
}

/// `shim.json` and `started.json`: a process that cannot be mistaken.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Identity {
    pub(crate) pid: i32,
    pub(crate) start_ticks: u64,
    pub(crate) boot_id: String,
    /// When the command was started.
    #[serde(default)]
    pub(crate) at_us: Option<i64>,
}

/// `exit.json`: how it ended. Written by the shim as its last act.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct ExitRecord {
    pub(crate) version: u32,
    outcome: Outcome,
    cause: Option<StopCause>,
    out_of_memory: bool,
    leftovers_killed: u32,
    survivors: u32,
    log_end: u64,
    dropped_bytes: u64,
    started_us: Option<i64>,
    ended_us: i64,
}

/// `verdict.json`: what the host concluded where the shim left no exit record.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Verdict {
    pub(crate) version: u32,
    pub(crate) report: ExitReport,
}

impl From<ExitRecord> for ExitReport {
    fn from(record: ExitRecord) -> Self {
        let ExitRecord {
            version: _,
            outcome,
            cause,
            out_of_memory,
            leftovers_killed,
            survivors,
            log_end,
            dropped_bytes,
            started_us,
            ended_us,
        } = record;
        Self {
            outcome,
            cause,
            out_of_memory,
            leftovers_killed,
            survivors,
            log_end,
            dropped_bytes,
            started_at: started_us.map(timestamp),
            ended_at: timestamp(ended_us),
            source: ExitSource::Record,
        }
    }
}

/// A point in time from microseconds since 1970; the epoch where it is out of range.
pub(crate) fn timestamp(micros: i64) -> Timestamp {
    Timestamp::from_microsecond(micros).unwrap_or(Timestamp::UNIX_EPOCH)
}
