//! How an agent's process ended and what came of it (X0).

use core_types::{outcome::RunOutcome, usage::Usage};
use jiff::Timestamp;

use crate::judgement::HINT_ACCOUNT;

/// How the agent's process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EndedHow {
    /// With this exit code.
    Exited(i32),
    /// By this signal.
    Signaled(i32),
    /// It never ran.
    NeverStarted {
        /// Why.
        text: String,
        /// What to do about it; `None` stands for installing the agent's program.
        hint: Option<String>,
    },
    /// It never ran, for want of something that is not its program's: memory, space, a file of this host.
    HostFailed {
        /// Why.
        text: String,
        /// What to do about it.
        hint: String,
    },
    /// Nobody can tell.
    Lost {
        /// Why.
        text: String,
    },
}

/// Why openTiger stopped the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopKind {
    /// It gave no sign for too long.
    Idle,
    /// It took too long in all.
    Total,
    /// Somebody cancelled the task.
    Cancelled,
    /// It used more tokens or money than it may.
    SpendLimit,
    /// openTiger itself is stopping, or lost its claim on the run.
    Interrupted,
}

/// The end of an agent's process, as the launcher saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentEnd {
    /// How it ended.
    pub how: EndedHow,
    /// Why openTiger stopped it; `None` if it ended by itself, or had given its result and did not exit.
    pub stopped: Option<StopKind>,
    /// Whether something in it was killed for using too much memory.
    pub out_of_memory: bool,
    /// When it ended. Reset times that a provider tells only as a time of day are taken from here on.
    pub at: Timestamp,
}

/// What came of an agent's work, before its changes are looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// `Ok` where the agent finished its work; whether it changed anything is for others to see.
    pub outcome: Result<(), RunOutcome>,
    /// One line for people: what happened, in lower case, without a period.
    pub message: Option<String>,
    /// What to do about it.
    pub hint: Option<String>,
    /// What it used, on failure too.
    pub usage: Usage,
    /// The agent's own session, for continuing it.
    pub session: Option<String>,
    /// Whether the session that was to be continued is not there, so that nothing was done.
    pub session_lost: bool,
    /// When the provider lifts its limit, where it told.
    pub retry_at: Option<Timestamp>,
    /// The agent's last words.
    pub final_text: Option<String>,
}

impl Verdict {
    /// Whether the provider knows who asks and does not let the account work, in which case another key of it will not
    /// either.
    #[must_use]
    pub fn account_refused(&self) -> bool {
        self.outcome == Err(RunOutcome::KeyRejected) && self.hint.as_deref() == Some(HINT_ACCOUNT)
    }
}
