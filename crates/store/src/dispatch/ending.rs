//! What the end of a run means for its task, and how that is kept for the answer to a second finish. No database.

use std::time::Duration;

use core_types::{
    ids::LeaseNumber,
    outcome::{
        FollowUp, RunOutcome,
        table::{Next, Sign},
    },
    task::{BlockReason, ForbiddenStep, RunStatus, TaskState, TaskStep},
};
use serde::{Deserialize, Serialize};

use super::finish::Finished;
use crate::error::StoreError;

/// How often a task may be handed out without it counting before a run that nobody accepted counts too, lest a task
/// that kills whoever takes it go round for ever.
const FREE_CLAIMS: u32 = 10;

/// How a task stands when its run ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) state: TaskState,
    pub(super) attempts: u32,
    pub(super) max_attempts: u32,
    /// Those of `attempts` that were used up before somebody asked for the task once more.
    pub(super) attempts_before: u32,
    pub(super) cancel_requested: bool,
    /// Where the run stands, its end apart.
    pub(super) run: RunStatus,
    /// How often the task was handed out, this run included: its lease's number.
    pub(super) claims: LeaseNumber,
    /// How many runs of it were put down to their executor.
    pub(super) excused: u32,
}

impl Standing {
    /// What becomes of it after so many attempts, of which those before the last asking do not count.
    fn follow_up(&self, outcome: RunOutcome, attempts: u32) -> FollowUp {
        outcome.follow_up(attempts.saturating_sub(self.attempts_before), self.max_attempts)
    }

    /// How many runs there were that cost no attempt and that nothing excuses.
    fn uncounted(&self) -> i64 {
        self.claims.0 - i64::from(self.attempts) - i64::from(self.excused)
    }
}

/// What else counts when a run ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Around {
    /// Its executor is at fault, not the task: how long the task steps back.
    pub(super) excused_for: Option<Duration>,
    /// A limit that the run reached is lifted after so long.
    pub(super) lifted_in: Option<Duration>,
}

/// How many runs that cost no attempt are followed by another at once.
const FREE_AT_ONCE: i64 = 2;
/// The pause before each further one.
const FREE_PAUSE: Duration = Duration::from_secs(30);

/// What becomes of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Decision {
    pub(super) state: TaskState,
    pub(super) follow_up: FollowUp,
    pub(super) attempts: u32,
    /// Whether the run is put down to its executor, so that it is not held against the task.
    pub(super) excused: bool,
}

impl Decision {
    /// The same for a task that may depend on one that will never be done: it does not wait for another run then.
    pub(super) const fn in_vain(self, why: Option<BlockReason>) -> Self {
        let Some(why) = why else {
            return self;
        };
        match self.state {
            TaskState::Queued
            | TaskState::Running
            | TaskState::Blocked { reason: BlockReason::QuotaWait | BlockReason::LoginRequired } => {
                let state = TaskState::Blocked { reason: why };
                Self { state, follow_up: FollowUp::Block(why), ..self }
            }
            TaskState::Done
            | TaskState::Failed
            | TaskState::Cancelled
            | TaskState::Blocked {
                reason:
                    BlockReason::DependencyFailed
                    | BlockReason::DependencyCancelled
                    | BlockReason::AttemptsExhausted,
            } => self,
        }
    }
}

/// Decides by the table of `core-types`, by the gate of the executor, and by whether somebody asked to cancel.
pub(super) fn decide(
    task: Standing,
    outcome: RunOutcome,
    around: Around,
) -> Result<Decision, ForbiddenStep> {
    let attempts = task.attempts.saturating_add(1);
    let excuse = excuse(outcome, around);
    let follow_up = match (task.follow_up(outcome, attempts), excuse) {
        (FollowUp::Retry { .. } | FollowUp::Block(_), _)
            if never_accepted(task, outcome) && !task.cancel_requested =>
        {
            FollowUp::Retry { delay: Duration::ZERO, counts: false }
        }
        // Whoever asked to cancel does not want what would follow; what is over is over, well or badly.
        (FollowUp::Retry { .. } | FollowUp::Block(_), _) if task.cancel_requested => {
            FollowUp::Cancelled
        }
        (_, Some(delay)) if !task.cancel_requested => FollowUp::Retry { delay, counts: false },
        (FollowUp::Retry { counts: false, .. }, None) => free_retry(task, attempts),
        (follow_up, _) => follow_up,
    };
    let (step, counts) = match follow_up {
        FollowUp::Done => (TaskStep::Complete, true),
        FollowUp::Cancelled => (TaskStep::Cancel, false),
        FollowUp::Retry { delay: _, counts } => (TaskStep::Requeue, counts),
        FollowUp::Block(reason) => (TaskStep::Block(reason), is_attempt(reason)),
        FollowUp::Fail => (TaskStep::Fail, true),
    };
    Ok(Decision {
        state: task.state.transition(step)?,
        follow_up,
        attempts: if counts { attempts } else { task.attempts },
        excused: excuse.is_some() || follow_up == FollowUp::Block(BlockReason::QuotaWait),
    })
}

/// How long the task waits for a run that is put down to its executor, or to a limit of the day; it costs no attempt, however
/// often that happens, because the gate or the day bounds how often.
fn excuse(outcome: RunOutcome, around: Around) -> Option<Duration> {
    let rule = outcome.rule();
    match (rule.next, rule.sign) {
        (Next::Held, _) => Some(Duration::ZERO),
        (Next::Attempt { .. }, Sign::Fails(_)) => around.excused_for,
        (Next::Fail, _) if outcome == RunOutcome::LimitReached => around.lifted_in,
        (Next::Attempt { .. }, Sign::Works | Sign::Nothing)
        | (Next::Done | Next::Cancelled | Next::Fail | Next::Free | Next::QuotaWait, _) => None,
    }
}

/// What follows a run that costs no attempt: soon the first times, later with a pause, and in the end it is held against
/// the task after all. Something that interrupts every run would otherwise have the agent paid for without end.
fn free_retry(task: Standing, attempts: u32) -> FollowUp {
    let uncounted = task.uncounted();
    if uncounted > i64::from(FREE_CLAIMS) {
        return task.follow_up(RunOutcome::HostFailed, attempts);
    }
    let delay = if uncounted > FREE_AT_ONCE { FREE_PAUSE } else { Duration::ZERO };
    FollowUp::Retry { delay, counts: false }
}

/// Whether the run's worker went away before it touched the task, which is no attempt at it.
fn never_accepted(task: Standing, outcome: RunOutcome) -> bool {
    let worker_went = matches!(outcome, RunOutcome::WorkerLost | RunOutcome::Interrupted);
    let uncounted = task.uncounted();
    task.run == RunStatus::Launching && worker_went && uncounted <= i64::from(FREE_CLAIMS)
}

/// Whether a run that ended in this block was an attempt at the task; a limit or a login is not the task's fault.
const fn is_attempt(reason: BlockReason) -> bool {
    match reason {
        BlockReason::AttemptsExhausted => true,
        BlockReason::QuotaWait
        | BlockReason::LoginRequired
        | BlockReason::DependencyFailed
        | BlockReason::DependencyCancelled => false,
    }
}

/// What is kept of a [`Decision`], for the answer to a second finish.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Ending {
    state: TaskState,
    follow_up: FollowUpWord,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retry: Option<RetryParts>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    block: Option<BlockReason>,
    by: Finisher,
}

impl Ending {
    pub(super) fn new(decision: Decision, by: Finisher) -> Self {
        let (mut retry, mut block) = (None, None);
        let follow_up = match decision.follow_up {
            FollowUp::Done => FollowUpWord::Done,
            FollowUp::Cancelled => FollowUpWord::Cancelled,
            FollowUp::Retry { delay, counts } => {
                let delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
                retry = Some(RetryParts { delay_ms, counts });
                FollowUpWord::Retry
            }
            FollowUp::Block(reason) => {
                block = Some(reason);
                FollowUpWord::Block
            }
            FollowUp::Fail => FollowUpWord::Fail,
        };
        Self { state: decision.state, follow_up, retry, block, by }
    }

    /// Who ended the run.
    pub(super) const fn by(&self) -> Finisher {
        self.by
    }
}

/// Who ends a run; the other's end of it does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Finisher {
    /// Whoever holds its lease.
    Holder,
    /// Whoever recovers it after its lease was revoked.
    Recoverer,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum FollowUpWord {
    Done,
    Cancelled,
    Retry,
    Block,
    Fail,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct RetryParts {
    delay_ms: u64,
    counts: bool,
}

impl TryFrom<Ending> for Finished {
    type Error = StoreError;

    fn try_from(ending: Ending) -> Result<Self, StoreError> {
        let follow_up = match (ending.follow_up, ending.retry, ending.block) {
            (FollowUpWord::Done, _, _) => FollowUp::Done,
            (FollowUpWord::Cancelled, _, _) => FollowUp::Cancelled,
            (FollowUpWord::Retry, Some(RetryParts { delay_ms, counts }), _) => {
                FollowUp::Retry { delay: Duration::from_millis(delay_ms), counts }
            }
            (FollowUpWord::Block, _, Some(reason)) => FollowUp::Block(reason),
            (FollowUpWord::Fail, _, _) => FollowUp::Fail,
            (FollowUpWord::Retry, None, _) | (FollowUpWord::Block, _, None) => {
                return Err(StoreError::corrupt("ending", "a part is missing"));
            }
        };
        Ok(Self { task_state: ending.state, follow_up })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUNNING: Standing = Standing {
        state: TaskState::Running,
        attempts: 0,
        max_attempts: 3,
        attempts_before: 0,
        cancel_requested: false,
        run: RunStatus::Running,
        claims: LeaseNumber(1),
        excused: 0,
    };
    const PLAIN: Around = Around { excused_for: None, lifted_in: None };

    #[test]
    fn every_outcome_moves_a_running_task_somewhere_and_is_answered_again_alike() {
        for outcome in RunOutcome::ALL {
            for (attempts, cancel_requested) in [(0, false), (2, false), (0, true), (2, true)] {
                let task = Standing { attempts, cancel_requested, ..RUNNING };
                let decision = decide(task, *outcome, PLAIN).unwrap();
                assert_ne!(decision.state, TaskState::Running);
                let stored = serde_json::to_value(Ending::new(decision, Finisher::Holder)).unwrap();
                let again = Finished::try_from(serde_json::from_value::<Ending>(stored).unwrap());
                let Finished { task_state, follow_up } = again.unwrap();
                assert_eq!((task_state, follow_up), (decision.state, decision.follow_up));
            }
        }
    }

    #[test]
    fn nothing_follows_a_cancelled_run_but_success_stays_success() {
        let task = Standing { cancel_requested: true, ..RUNNING };
        for outcome in RunOutcome::ALL {
            let state = decide(task, *outcome, PLAIN).unwrap().state;
            assert!(state.status().is_final(), "{outcome}: {state:?}");
        }
        assert_eq!(decide(task, RunOutcome::Succeeded, PLAIN).unwrap().state, TaskState::Done);
    }

    #[test]
    fn only_attempts_count() {
        let counted = |outcome| decide(RUNNING, outcome, PLAIN).unwrap().attempts;
        assert_eq!(counted(RunOutcome::AgentFailed), 1);
        assert_eq!(counted(RunOutcome::WorkerLost), 1);
        assert_eq!(counted(RunOutcome::Interrupted), 0);
        assert_eq!(counted(RunOutcome::QuotaExceeded), 0);
        assert_eq!(counted(RunOutcome::LoginRequired), 0);
    }

    #[test]
    fn a_worker_that_went_before_it_accepted_costs_no_attempt_up_to_a_bound() {
        let task = Standing { attempts: 2, run: RunStatus::Launching, ..RUNNING };
        let free = FollowUp::Retry { delay: Duration::ZERO, counts: false };
        for outcome in [RunOutcome::WorkerLost, RunOutcome::Interrupted] {
            let decision = decide(task, outcome, PLAIN).unwrap();
            assert_eq!((decision.follow_up, decision.attempts), (free, 2), "{outcome}");
            let cancelled = Standing { cancel_requested: true, ..task };
            assert_eq!(decide(cancelled, outcome, PLAIN).unwrap().state, TaskState::Cancelled);
        }
        assert_ne!(decide(task, RunOutcome::LaunchFailed, PLAIN).unwrap().follow_up, free);
        let last_free = Standing { claims: LeaseNumber(12), ..task };
        assert_eq!(decide(last_free, RunOutcome::WorkerLost, PLAIN).unwrap().follow_up, free);
        let too_often = Standing { claims: LeaseNumber(13), ..task };
        let exhausted = FollowUp::Block(BlockReason::AttemptsExhausted);
        assert_eq!(decide(too_often, RunOutcome::WorkerLost, PLAIN).unwrap().follow_up, exhausted);
    }
    #[test]
    fn what_the_executor_is_at_fault_for_costs_nothing_however_often() {
        let worn = Standing { attempts: 2, claims: LeaseNumber(500), excused: 497, ..RUNNING };
        let later = Around { excused_for: Some(Duration::from_secs(45)), lifted_in: None };
        for outcome in [RunOutcome::LaunchFailed, RunOutcome::ProviderOverloaded] {
            let decision = decide(worn, outcome, later).unwrap();
            let back = FollowUp::Retry { delay: Duration::from_secs(45), counts: false };
            assert_eq!((decision.follow_up, decision.attempts), (back, 2), "{outcome}");
            assert!(decision.excused);
            assert!(!decide(worn, outcome, PLAIN).unwrap().excused);
        }
        for outcome in [RunOutcome::LoginRequired, RunOutcome::KeyRejected] {
            let decision = decide(worn, outcome, PLAIN).unwrap();
            assert_eq!((decision.state, decision.excused), (TaskState::Queued, true), "{outcome}");
        }
        // What is the task's own is not excused by a closed gate.
        let failed = decide(worn, RunOutcome::VerificationFailed, later).unwrap();
        assert_eq!((failed.state, failed.attempts), (TaskState::Failed, 3));
    }

    #[test]
    fn a_limit_of_the_day_waits_for_the_next_one_and_a_limit_of_the_task_is_its_end() {
        let lifted = Around { excused_for: None, lifted_in: Some(Duration::from_secs(3600)) };
        let decision = decide(RUNNING, RunOutcome::LimitReached, lifted).unwrap();
        assert_eq!((decision.state, decision.attempts), (TaskState::Queued, 0));
        let decision = decide(RUNNING, RunOutcome::LimitReached, PLAIN).unwrap();
        assert_eq!((decision.state, decision.attempts), (TaskState::Failed, 1));
    }
}
