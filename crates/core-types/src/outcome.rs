//! What came of a run, and what follows from it: one table for dispatcher, API and page.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{task::BlockReason, usage::Usage, words};

words! {
    /// What came of a run. True to what happened: exit code 0 alone is never `succeeded` (X0).
    RunOutcome, "run outcome" {
        /// The agent worked, verification passed, the commit is on the run's branch.
        Succeeded = "succeeded",
        /// The agent worked and changed nothing, which its role allows.
        NoChange = "no_change",
        /// The agent said it was done and had changed nothing, which its role does not allow.
        NothingDone = "nothing_done",
        /// A verification command failed on the agent's result.
        VerificationFailed = "verification_failed",
        /// The agent ended without a result, or reported an error of its own.
        AgentFailed = "agent_failed",
        /// Tools the agent needed were denied, or every tool call failed.
        ToolsDenied = "tools_denied",
        /// The agent is not logged in, or its login has expired.
        LoginRequired = "login_required",
        /// The provider refuses the key, or the account may not be used.
        KeyRejected = "key_rejected",
        /// The provider's limit for the account is reached.
        QuotaExceeded = "quota_exceeded",
        /// The provider is overloaded or fails (429 without a limit, 5xx, 529).
        ProviderOverloaded = "provider_overloaded",
        /// The agent gave no sign for longer than its idle limit and was stopped.
        IdleTimeout = "idle_timeout",
        /// The run took longer than its limit and was stopped.
        TimedOut = "timed_out",
        /// The run reached its limit of turns, tokens or money.
        LimitReached = "limit_reached",
        /// The agent was ended for using more memory than it may.
        OutOfMemory = "out_of_memory",
        /// Somebody cancelled the task.
        Cancelled = "cancelled",
        /// The agent could not be started.
        LaunchFailed = "launch_failed",
        /// The repository or the base branch cannot be used.
        CheckoutFailed = "checkout_failed",
        /// The result could not be committed, collected or moved to its branch.
        CollectFailed = "collect_failed",
        /// Whoever ran it died or fell silent, so nothing is known but that it is over.
        WorkerLost = "worker_lost",
        /// Ended from outside by a stop nobody here asked for, or by openTiger stopping.
        Interrupted = "interrupted",
    }
}

/// What becomes of a task when a run of it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FollowUp {
    /// The task is done.
    Done,
    /// The task is cancelled.
    Cancelled,
    /// Queued again, not before the delay has passed.
    Retry {
        /// How long to wait, counted from the end of the run.
        delay: Duration,
        /// Whether the run counts as one of the task's attempts.
        counts: bool,
    },
    /// Waits for the provider's limit to be lifted, or for a person.
    Block(BlockReason),
    /// The task failed for good.
    Fail,
}

/// How long a task waits after a failed attempt, before doubling: 30 s.
const RETRY_BASE: Duration = Duration::from_secs(30);
/// The longest wait between two attempts: 30 min.
const RETRY_MAX: Duration = Duration::from_secs(30 * 60);
/// How long to wait for a limit whose reset time the provider did not tell: 15 min.
pub const QUOTA_WAIT_UNKNOWN: Duration = Duration::from_secs(15 * 60);

impl RunOutcome {
    /// What follows for the task, where `attempts` counts the task's attempts so far, this one included.
    #[must_use]
    pub fn follow_up(self, attempts: u32, max_attempts: u32) -> FollowUp {
        match self {
            Self::Succeeded | Self::NoChange => FollowUp::Done,
            Self::Cancelled => FollowUp::Cancelled,
            Self::Interrupted => FollowUp::Retry { delay: Duration::ZERO, counts: false },
            Self::WorkerLost if attempts < max_attempts => {
                FollowUp::Retry { delay: Duration::ZERO, counts: true }
            }
            Self::QuotaExceeded => FollowUp::Block(BlockReason::QuotaWait),
            Self::LoginRequired | Self::KeyRejected => FollowUp::Block(BlockReason::LoginRequired),
            Self::CheckoutFailed | Self::LimitReached => FollowUp::Fail,
            Self::NothingDone
            | Self::VerificationFailed
            | Self::AgentFailed
            | Self::ToolsDenied
            | Self::ProviderOverloaded
            | Self::IdleTimeout
            | Self::TimedOut
            | Self::OutOfMemory
            | Self::LaunchFailed
            | Self::CollectFailed
                if attempts < max_attempts =>
            {
                FollowUp::Retry { delay: retry_delay(attempts), counts: true }
            }
            Self::NothingDone
            | Self::VerificationFailed
            | Self::AgentFailed
            | Self::ToolsDenied
            | Self::IdleTimeout
            | Self::TimedOut
            | Self::OutOfMemory
            | Self::CollectFailed => FollowUp::Fail,
            Self::ProviderOverloaded | Self::LaunchFailed | Self::WorkerLost => {
                FollowUp::Block(BlockReason::AttemptsExhausted)
            }
        }
    }
}

/// The wait after the `attempts`-th attempt: doubles from 30 s up to 30 min.
fn retry_delay(attempts: u32) -> Duration {
    let doublings = attempts.saturating_sub(1).min(10);
    RETRY_BASE.saturating_mul(1 << doublings).min(RETRY_MAX)
}

/// Everything known about a run that ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunReport {
    /// What came of it.
    pub outcome: RunOutcome,
    /// One line for people: what happened, in lower case, without a period. No secrets.
    pub message: Option<String>,
    /// What to do about it.
    pub hint: Option<String>,
    /// When the provider lifts its limit, where it told.
    pub retry_at: Option<Timestamp>,
    /// What it used.
    pub usage: Usage,
    /// The agent's own session, for continuing it later.
    pub session: Option<String>,
    /// The commit that holds the result, as a full object id.
    pub commit: Option<String>,
    /// The branch the commit is on.
    pub branch: Option<String>,
}

impl RunReport {
    /// A report of an outcome with nothing else known.
    #[must_use]
    pub fn new(outcome: RunOutcome) -> Self {
        Self {
            outcome,
            message: None,
            hint: None,
            retry_at: None,
            usage: Usage::default(),
            session: None,
            commit: None,
            branch: None,
        }
    }

    /// The same report with a line for people.
    #[must_use]
    pub fn with_message(mut self, message: impl Into<String>) -> Self {
        self.message = Some(message.into());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_ends_after_its_last_attempt() {
        for outcome in RunOutcome::ALL {
            let follow_up = outcome.follow_up(3, 3);
            let retries = matches!(follow_up, FollowUp::Retry { counts: true, .. });
            assert!(!retries, "{outcome} would retry for ever: {follow_up:?}");
        }
    }

    #[test]
    fn an_interruption_costs_no_attempt() {
        assert_eq!(
            RunOutcome::Interrupted.follow_up(3, 3),
            FollowUp::Retry { delay: Duration::ZERO, counts: false }
        );
    }

    #[test]
    fn waits_double_up_to_half_an_hour() {
        assert_eq!(retry_delay(1), Duration::from_secs(30));
        assert_eq!(retry_delay(2), Duration::from_secs(60));
        assert_eq!(retry_delay(40), RETRY_MAX);
    }
}
