//! The table: what each outcome of a run is, what follows from it, and what it says to people.
//!
//! Dispatcher, API and page ask this table and nothing else, so that a countdown never differs from what is done.

use std::time::Duration;

use super::{FollowUp, RunOutcome};
use crate::{
    gate::GateCause,
    task::{BlockReason, TaskState},
    words,
};

words! {
    /// Whose matter an outcome is.
    OutcomeClass, "outcome class" {
        /// Nobody's: it went well.
        Success = "success",
        /// The agent's work: the next attempt may do better.
        Work = "work",
        /// The provider of the model: nobody's fault here.
        Provider = "provider",
        /// The agent's login: a person must act.
        Login = "login",
        /// The start of the agent on this host: a person must act, most of the time.
        Launch = "launch",
        /// The host or the process that carried the run.
        Host = "host",
        /// A stop from outside.
        Interruption = "interruption",
        /// Whoever asked for the task.
        Caller = "caller",
    }
}

/// What an outcome says about the executor as a whole, see [`crate::gate`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    /// It was started and its provider answered.
    Works,
    /// Nothing, unless the model answered in the run.
    Nothing,
    /// It does not work for now, whichever task is tried.
    Fails(GateCause),
}

/// What follows for the task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// The task is done.
    Done,
    /// The task is cancelled.
    Cancelled,
    /// The task failed; trying again would come to the same.
    Fail,
    /// The run counts as an attempt, and another one follows if one is left.
    Attempt {
        /// How long it waits for that.
        wait: Wait,
        /// What becomes of it after the last one.
        spent: Spent,
    },
    /// Queued again at once; the run counts as none, unless that happens again and again.
    Free,
    /// Queued again at once; the run counts as none. The gate of its executor holds it, and says when it goes on.
    Held,
    /// Blocked until the provider lifts its limit; the run counts as none.
    QuotaWait,
}

/// How long a task waits for its next attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Not at all.
    Nothing,
    /// 30 s after the first attempt, doubling with each further one, 30 min at most.
    BackOff,
}

/// What becomes of a task whose last attempt is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spent {
    /// It failed.
    Failed,
    /// It is blocked: the fault is not in its work, a person may let it go on.
    Blocked,
}

/// One line of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Whose matter it is.
    pub class: OutcomeClass,
    /// What follows for the task.
    pub next: Next,
    /// What it says about the executor.
    pub sign: Sign,
    /// What happened, for people: in lower case, without a period.
    pub text: &'static str,
}

/// The usual: another attempt after a while, and failed after the last.
const AGAIN: Next = Next::Attempt { wait: Wait::BackOff, spent: Spent::Failed };
/// For what is nobody's work: another attempt after a while, and blocked after the last.
const AGAIN_OR_BLOCKED: Next = Next::Attempt { wait: Wait::BackOff, spent: Spent::Blocked };
/// For a run that nobody carries any more: another attempt at once, and blocked after the last.
const AT_ONCE_OR_BLOCKED: Next = Next::Attempt { wait: Wait::Nothing, spent: Spent::Blocked };

impl RunOutcome {
    /// The line of this outcome.
    #[must_use]
    pub const fn rule(self) -> Rule {
        use OutcomeClass as Class;
        let login = Sign::Fails(GateCause::Login);
        let quota = Sign::Fails(GateCause::Quota);
        let overload = Sign::Fails(GateCause::Overload);
        let launch = Sign::Fails(GateCause::Launch);
        let (class, next, sign) = match self {
            Self::Succeeded | Self::NoChange => (Class::Success, Next::Done, Sign::Works),
            Self::NothingDone => (Class::Work, AGAIN, Sign::Works),
            Self::VerificationFailed => (Class::Work, AGAIN, Sign::Works),
            Self::ToolsDenied => (Class::Work, AGAIN, Sign::Works),
            Self::CollectFailed => (Class::Work, AGAIN, Sign::Works),
            Self::AgentFailed => (Class::Work, AGAIN, Sign::Nothing),
            Self::IdleTimeout => (Class::Work, AGAIN, Sign::Nothing),
            Self::TimedOut => (Class::Work, AGAIN, Sign::Nothing),
            Self::OutOfMemory => (Class::Work, AGAIN, Sign::Nothing),
            Self::DiskLimit => (Class::Work, AGAIN, Sign::Nothing),
            Self::LimitReached => (Class::Work, Next::Fail, Sign::Nothing),
            Self::LoginRequired => (Class::Login, Next::Held, login),
            Self::KeyRejected => (Class::Login, Next::Held, login),
            Self::QuotaExceeded => (Class::Provider, Next::QuotaWait, quota),
            Self::ProviderOverloaded => (Class::Provider, AGAIN_OR_BLOCKED, overload),
            Self::LaunchFailed => (Class::Launch, AGAIN_OR_BLOCKED, launch),
            Self::CheckoutFailed => (Class::Caller, Next::Fail, Sign::Nothing),
            Self::RepositoryMissing => (Class::Caller, Next::Fail, Sign::Nothing),
            Self::BaseBranchMissing => (Class::Caller, Next::Fail, Sign::Nothing),
            Self::RepositoryTooLarge => (Class::Caller, Next::Fail, Sign::Nothing),
            Self::CheckoutTimedOut => (Class::Host, AGAIN_OR_BLOCKED, Sign::Nothing),
            Self::RepositoryDenied => (Class::Host, AGAIN_OR_BLOCKED, Sign::Nothing),
            Self::HostNotTrusted => (Class::Host, AGAIN_OR_BLOCKED, Sign::Nothing),
            Self::RemoteUnreachable => (Class::Host, AGAIN_OR_BLOCKED, Sign::Nothing),
            Self::RemoteHungUp => (Class::Host, AGAIN_OR_BLOCKED, Sign::Nothing),
            Self::DiskFull => (Class::Host, AGAIN_OR_BLOCKED, Sign::Nothing),
            Self::HostFailed => (Class::Host, AGAIN_OR_BLOCKED, Sign::Nothing),
            // Only a run whose agent did its work comes that far.
            Self::PushRefused => (Class::Host, Next::Fail, Sign::Works),
            Self::BranchTaken => (Class::Host, AGAIN, Sign::Works),
            Self::Cancelled => (Class::Caller, Next::Cancelled, Sign::Nothing),
            Self::WorkerLost => (Class::Host, AT_ONCE_OR_BLOCKED, Sign::Nothing),
            Self::Interrupted => (Class::Interruption, Next::Free, Sign::Nothing),
        };
        Rule { class, next, sign, text: self.text() }
    }

    const fn text(self) -> &'static str {
        match self {
            Self::Succeeded => "it went well",
            Self::NoChange => "nothing needed to change",
            Self::NothingDone => "the agent changed nothing",
            Self::VerificationFailed => "a verification command failed",
            Self::ToolsDenied => "the agent could not use its tools",
            Self::CollectFailed => "the result could not be taken over",
            Self::AgentFailed => "the agent ended with an error",
            Self::IdleTimeout => "the agent was silent for too long",
            Self::TimedOut => "the agent took longer than it may",
            Self::OutOfMemory => "the agent used more memory than it may",
            Self::DiskLimit => "the sandbox used more disk than it may",
            Self::LimitReached => "a limit of turns, tokens or money is reached",
            Self::LoginRequired => "the agent is not logged in",
            Self::KeyRejected => "the provider refuses the key or the account",
            Self::QuotaExceeded => "the provider's limit is reached",
            Self::ProviderOverloaded => "the provider is overloaded or fails",
            Self::LaunchFailed => "the agent's program could not be started",
            Self::CheckoutFailed => "the repository or the base branch cannot be used",
            Self::CheckoutTimedOut => "the copy of the repository was not made in time",
            Self::RepositoryMissing => {
                "there is no such repository, or none that this host may see"
            }
            Self::BaseBranchMissing => "the repository does not have the base branch",
            Self::RepositoryTooLarge => "the repository is larger than allowed",
            Self::RepositoryDenied => "this host's login is not accepted for the repository",
            Self::HostNotTrusted => "this host does not trust the repository's host",
            Self::RemoteUnreachable => "the repository's host cannot be reached",
            Self::RemoteHungUp => "the connection to the repository's host broke",
            Self::DiskFull => "no space is left on this host",
            Self::HostFailed => "this host could not do what the run needs",
            Self::PushRefused => "the repository's host refused the branch",
            Self::BranchTaken => "the run's branch is there already, with something else on it",
            Self::Cancelled => "the task was cancelled",
            Self::WorkerLost => "the process that carried the run died or fell silent",
            Self::Interrupted => "the run was interrupted",
        }
    }

    /// Whether it says something about the work that the next attempt should know.
    #[must_use]
    pub const fn is_about_the_work(self) -> bool {
        match self {
            Self::NothingDone
            | Self::VerificationFailed
            | Self::AgentFailed
            | Self::ToolsDenied
            | Self::IdleTimeout
            | Self::TimedOut
            | Self::OutOfMemory
            | Self::DiskLimit
            | Self::LimitReached
            | Self::CollectFailed => true,
            Self::Succeeded
            | Self::NoChange
            | Self::LoginRequired
            | Self::KeyRejected
            | Self::QuotaExceeded
            | Self::ProviderOverloaded
            | Self::Cancelled
            | Self::LaunchFailed
            | Self::CheckoutFailed
            | Self::CheckoutTimedOut
            | Self::RepositoryMissing
            | Self::RepositoryDenied
            | Self::HostNotTrusted
            | Self::BaseBranchMissing
            | Self::RemoteUnreachable
            | Self::RemoteHungUp
            | Self::PushRefused
            | Self::BranchTaken
            | Self::RepositoryTooLarge
            | Self::DiskFull
            | Self::HostFailed
            | Self::WorkerLost
            | Self::Interrupted => false,
        }
    }

    /// What follows for the task, where `attempts` counts the task's attempts so far, this one included.
    #[must_use]
    pub const fn follow_up(self, attempts: u32, max_attempts: u32) -> FollowUp {
        match self.rule().next {
            Next::Done => FollowUp::Done,
            Next::Cancelled => FollowUp::Cancelled,
            Next::Fail => FollowUp::Fail,
            Next::Free | Next::Held => FollowUp::Retry { delay: Duration::ZERO, counts: false },
            Next::QuotaWait => FollowUp::Block(BlockReason::QuotaWait),
            Next::Attempt { wait, .. } if attempts < max_attempts => {
                FollowUp::Retry { delay: wait.after(attempts), counts: true }
            }
            Next::Attempt { spent: Spent::Failed, .. } => FollowUp::Fail,
            Next::Attempt { spent: Spent::Blocked, .. } => {
                FollowUp::Block(BlockReason::AttemptsExhausted)
            }
        }
    }
}

/// How long a task waits after a failed attempt, before doubling, in seconds.
const RETRY_BASE_S: u64 = 30;
/// The longest wait between two attempts, in seconds.
const RETRY_MAX_S: u64 = 30 * 60;

impl Wait {
    /// The wait after the `attempts`-th attempt.
    #[must_use]
    pub const fn after(self, attempts: u32) -> Duration {
        match self {
            Self::Nothing => Duration::ZERO,
            Self::BackOff => doubled(RETRY_BASE_S, RETRY_MAX_S, attempts),
        }
    }
}

/// `base` seconds the first time, doubling up to `max` seconds.
pub(crate) const fn doubled(base: u64, max: u64, time: u32) -> Duration {
    let doublings = time.saturating_sub(1);
    let doublings = if doublings > 20 { 20 } else { doublings };
    let seconds = base.saturating_mul(1 << doublings);
    Duration::from_secs(if seconds < max { seconds } else { max })
}

/// Whether a task goes on by itself, and what is to say about that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outlook {
    /// Whether another attempt follows without anybody doing something; for a task that runs: whether one would.
    pub auto_retry: bool,
    /// Why, for people.
    pub reason: String,
}

impl Outlook {
    /// What is to be expected of a task that runs and shall be cancelled.
    #[must_use]
    pub fn cancelling() -> Self {
        Self { auto_retry: false, reason: "it is being cancelled".to_owned() }
    }
}

/// What is to be expected of a task in this state, whose last run that is over ended with `last`.
#[must_use]
pub fn outlook(
    state: TaskState,
    attempts: u32,
    max_attempts: u32,
    last: Option<RunOutcome>,
) -> Outlook {
    let text = last.map_or("it was not tried yet", |last| last.rule().text);
    let told = |auto_retry, reason: String| Outlook { auto_retry, reason };
    match state {
        TaskState::Queued => told(true, text.to_owned()),
        TaskState::Running => {
            let left = max_attempts.saturating_sub(attempts).saturating_sub(1);
            told(left > 0, format!("it runs; {left} attempts are left after this one"))
        }
        TaskState::Blocked { reason } => told(reason.ends_by_itself(), blocked(reason, text)),
        TaskState::Done => told(false, "it is done".to_owned()),
        TaskState::Cancelled => told(false, "it was cancelled".to_owned()),
        TaskState::Failed if last.is_some_and(|last| last.rule().next == Next::Fail) => {
            told(false, format!("{text}; trying again would come to the same"))
        }
        TaskState::Failed => told(false, format!("{text}; every attempt is used up")),
    }
}

fn blocked(reason: BlockReason, text: &str) -> String {
    match reason {
        BlockReason::QuotaWait => format!("{text}; it goes on when the limit is lifted"),
        BlockReason::LoginRequired => format!("{text}; it goes on when the login works again"),
        BlockReason::AttemptsExhausted => format!("{text}; every attempt is used up"),
        BlockReason::DependencyFailed => "a task it depends on failed".to_owned(),
        BlockReason::DependencyCancelled => "a task it depends on was cancelled".to_owned(),
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
    fn every_outcome_has_a_line_that_fits_its_class() {
        for outcome in RunOutcome::ALL {
            let Rule { class, next, sign, text } = outcome.rule();
            assert!(!text.is_empty() && !text.ends_with('.'), "{outcome}");
            assert_eq!(class == OutcomeClass::Success, next == Next::Done, "{outcome}");
            let login = sign == Sign::Fails(GateCause::Login);
            assert_eq!(class == OutcomeClass::Login, login && next == Next::Held, "{outcome}");
            // What holds for the executor as a whole is never the end of one task at its first attempt.
            if let Sign::Fails(_) = sign {
                assert!(!matches!(next, Next::Fail | Next::Done), "{outcome}");
            }
            let counted = matches!(next, Next::Attempt { .. });
            let retried = matches!(outcome.follow_up(1, 3), FollowUp::Retry { counts: true, .. });
            assert_eq!(counted, retried, "{outcome}");
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
        assert_eq!(Wait::BackOff.after(1), Duration::from_secs(30));
        assert_eq!(Wait::BackOff.after(2), Duration::from_secs(60));
        assert_eq!(Wait::BackOff.after(40), Duration::from_secs(RETRY_MAX_S));
    }

    #[test]
    fn what_is_said_of_a_task_is_what_the_table_does_with_it() {
        for outcome in RunOutcome::ALL {
            let state = match outcome.follow_up(3, 3) {
                FollowUp::Done => TaskState::Done,
                FollowUp::Cancelled => TaskState::Cancelled,
                FollowUp::Retry { .. } => TaskState::Queued,
                FollowUp::Block(reason) => TaskState::Blocked { reason },
                FollowUp::Fail => TaskState::Failed,
            };
            let outlook = outlook(state, 3, 3, Some(*outcome));
            let goes_on = matches!(
                outcome.follow_up(3, 3),
                FollowUp::Retry { .. } | FollowUp::Block(BlockReason::QuotaWait)
            );
            assert_eq!(outlook.auto_retry, goes_on, "{outcome}: {outlook:?}");
        }
        assert!(!outlook(TaskState::Running, 2, 3, None).auto_retry);
        assert!(outlook(TaskState::Running, 1, 3, None).auto_retry);
    }
}
