//! How a launch ended: the outcome, why we ended it, and the evidence for both.
//!
//! It owns the words only; a launcher fills them in.

use std::{fmt, path::PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// How the launched command itself ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It exited with this code.
    Exited(i32),
    /// This signal ended it.
    Signaled(i32),
    /// It was never started; nothing of it ran.
    NeverStarted(StartFailure),
    /// It ran, or may have run, and nobody knows how it ended. It is dead now.
    Lost(LostReason),
}

/// Why nothing was started.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StartFailure {
    /// The program is not there.
    #[error("program `{}` not found", program.display())]
    ProgramMissing {
        /// As it was given.
        program: PathBuf,
    },
    /// The program is there and cannot be executed.
    #[error("`{}` is not executable", program.display())]
    NotExecutable {
        /// As it was given.
        program: PathBuf,
    },
    /// The program is a script or a dynamic binary whose interpreter is not there.
    #[error("the interpreter of `{}` was not found", program.display())]
    InterpreterMissing {
        /// As it was given.
        program: PathBuf,
    },
    /// The working directory is not there or is no directory.
    #[error("working directory `{}` not found", cwd.display())]
    CwdMissing {
        /// As it was given.
        cwd: PathBuf,
    },
    /// The kernel refused it.
    #[error("{what}: permission denied")]
    Permission {
        /// What was tried.
        what: String,
    },
    /// No memory, process, descriptor or disk space was left.
    #[error("{what}: resource exhausted (error {errno})")]
    ResourceExhausted {
        /// What was tried.
        what: String,
        /// The kernel's error number.
        errno: i32,
    },
    /// The supervisor left before the whole input had arrived.
    #[error("the input ended before it was whole")]
    InputIncomplete,
    /// The input arrived damaged or in a format of another version.
    #[error("the input was damaged")]
    InputDamaged,
    /// It was stopped before it was started.
    #[error("it was stopped before it was started")]
    Stopped,
    /// Any other refusal of the kernel.
    #[error("{what}: error {errno}")]
    Refused {
        /// What was tried.
        what: String,
        /// The kernel's error number.
        errno: i32,
    },
}

/// The evidence from which a launch is taken for lost.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LostReason {
    /// The machine was started again since.
    #[error("the host was restarted")]
    HostRebooted,
    /// The shim is gone and left no exit record.
    #[error("the shim died without an exit record")]
    ShimDied,
    /// The container was removed while it ran, and nobody knows its exit code.
    #[error("the container was removed")]
    ContainerRemoved,
    /// There is something in the exit record's place that is none.
    #[error("the exit record cannot be read: {why}")]
    RecordUnreadable {
        /// What is wrong with it.
        why: String,
    },
}

/// Why a launch was ended; a report without a cause ended by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopCause {
    /// Somebody called `stop`.
    Requested {
        /// The first caller's words.
        reason: String,
    },
    /// The limit of wall time was reached.
    WallTime,
    /// Nobody renewed the lease in time.
    LeaseExpired,
    /// The shim itself got this signal: an engine, an init system or an operator.
    EngineOrOperator {
        /// The signal's number.
        signal: i32,
    },
}

/// Who says how it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExitSource {
    /// The shim's exit record.
    Record,
    /// The host, from what it found without one.
    Evidence,
    /// The container engine; the shim left no record.
    Engine,
    /// The container engine, and the exit record says something else: it is not believed.
    EngineAgainstRecord,
}

/// How a launch ended. Final: every reader gets the same one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitReport {
    /// How the command itself ended.
    pub outcome: Outcome,
    /// Why it was ended; `None`: it ended by itself.
    pub cause: Option<StopCause>,
    /// The kernel killed at least one of its processes for want of memory. Evidence, no outcome:
    /// the command may have gone on.
    pub out_of_memory: bool,
    /// Descendants that were still alive when the command was gone, and were killed.
    pub leftovers_killed: u32,
    /// Descendants that could not be killed within half a minute (stuck in the kernel).
    pub survivors: u32,
    /// The offset after the last byte that the command wrote.
    pub log_end: u64,
    /// How many of these bytes are not kept.
    pub dropped_bytes: u64,
    /// When the command was started; `None`: it was not, or nobody knows.
    pub started_at: Option<Timestamp>,
    /// When everything of it was gone; for a lost launch, when that was found out.
    pub ended_at: Timestamp,
    /// Who says so.
    pub source: ExitSource,
}

impl ExitReport {
    /// Whether the command exited with 0 by itself.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.outcome == Outcome::Exited(0) && self.cause.is_none()
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "exited with {code}"),
            Self::Signaled(signal) => write!(f, "ended by signal {signal}"),
            Self::NeverStarted(failure) => write!(f, "never started: {failure}"),
            Self::Lost(reason) => write!(f, "lost: {reason}"),
        }
    }
}
