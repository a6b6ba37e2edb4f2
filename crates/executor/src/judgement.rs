//! What a verdict is made of, whatever the agent's program: the judgement itself, and what a stop by us or the end of a
//! process says.

use core_types::outcome::RunOutcome;
use jiff::Timestamp;

use crate::{
    text::one_line,
    verdict::{AgentEnd, EndedHow, StopKind},
};

/// The part of the verdict that has to be judged.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Judgement {
    pub(crate) outcome: Result<(), RunOutcome>,
    pub(crate) message: Option<String>,
    pub(crate) hint: Option<String>,
    pub(crate) retry_at: Option<Timestamp>,
    pub(crate) session_lost: bool,
}

/// The hint of an account that may not be used, whatever its key.
pub(crate) const HINT_ACCOUNT: &str =
    "look into the provider's account: its billing, its plan, or its organisation's rules";
pub(crate) const HINT_LIMITS: &str =
    "raise the limit (CLAUDE_CODE_MAX_TURNS, or the task's limits), or make the task smaller";
const HINT_IDLE: &str = "raise AGENT_IDLE_TIMEOUT_S (for `opencode`, OPENCODE_IDLE_TIMEOUT_S) if the task needs long silent commands";
const HINT_TIME: &str =
    "post a smaller task, or one with a longer `timebox_s` (without one TASK_TIMEBOX_S holds)";
const HINT_MEMORY: &str = "raise AGENT_MEMORY_LIMIT_BYTES, or make the task smaller";

impl Judgement {
    pub(crate) fn fine() -> Self {
        Self { outcome: Ok(()), message: None, hint: None, retry_at: None, session_lost: false }
    }

    pub(crate) fn bad(outcome: RunOutcome, message: impl Into<String>) -> Self {
        Self { outcome: Err(outcome), message: Some(message.into()), ..Self::fine() }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// The outcome of a stop that openTiger asked for, else what `by_itself` says.
pub(crate) fn stopped_or(end: &AgentEnd, by_itself: impl FnOnce() -> Judgement) -> Judgement {
    let Some(stop) = end.stopped else {
        return by_itself();
    };
    match stop {
        StopKind::Idle => Judgement::bad(
            RunOutcome::IdleTimeout,
            "agent gave no sign for too long and was stopped",
        )
        .hint(HINT_IDLE),
        StopKind::Total => {
            Judgement::bad(RunOutcome::TimedOut, "agent took too long and was stopped")
                .hint(HINT_TIME)
        }
        StopKind::Cancelled => Judgement::bad(RunOutcome::Cancelled, "task was cancelled"),
        StopKind::SpendLimit => {
            Judgement::bad(RunOutcome::LimitReached, "agent reached its limit of tokens or money")
                .hint(HINT_LIMITS)
        }
        StopKind::Interrupted => {
            Judgement::bad(RunOutcome::Interrupted, "run was interrupted by openTiger stopping")
        }
    }
}

/// What the end of a process says where nobody here stopped it; `exited` judges an exit code.
pub(crate) fn ended_by_itself(end: &AgentEnd, exited: impl FnOnce(i32) -> Judgement) -> Judgement {
    if end.out_of_memory {
        let message = "agent was ended for using more memory than it may";
        return Judgement::bad(RunOutcome::OutOfMemory, message).hint(HINT_MEMORY);
    }
    match &end.how {
        EndedHow::Lost { text } => {
            let message = format!("nobody can tell how the agent ended: {}", one_line(text));
            Judgement::bad(RunOutcome::WorkerLost, message)
        }
        // 1, 2, 15: hang-up, interrupt, terminate. The CLI turns them into 128 + signal. Nobody of ours sent it, so it
        // may well be the agent's own work: a failure that costs an attempt, or it would go on for ever.
        EndedHow::Signaled(1 | 2 | 15) | EndedHow::Exited(129 | 130 | 143) => Judgement::bad(
            RunOutcome::AgentFailed,
            "agent was ended by a signal that openTiger did not send",
        ),
        EndedHow::Signaled(signal) => {
            Judgement::bad(RunOutcome::AgentFailed, format!("agent was ended by signal {signal}"))
        }
        EndedHow::Exited(code) => exited(*code),
        EndedHow::NeverStarted { text, .. } => {
            Judgement::bad(RunOutcome::LaunchFailed, one_line(text))
        }
        EndedHow::HostFailed { text, hint } => {
            let message = format!("agent could not be started: {}", one_line(text));
            Judgement::bad(RunOutcome::HostFailed, message).hint(hint.as_str())
        }
    }
}

/// The line as part of one of ours: no period at the end, no capital where it starts a plain word.
pub(crate) fn lower(text: &str) -> String {
    let text = text.trim().trim_end_matches('.');
    let mut characters = text.chars();
    match (characters.next(), characters.next()) {
        (Some(first), Some(second)) if first.is_uppercase() && second.is_lowercase() => {
            first.to_lowercase().chain(text.chars().skip(1)).collect()
        }
        _ => text.to_owned(),
    }
}
