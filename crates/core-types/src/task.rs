//! Tasks and runs: their words, their states, and the one function that says which step is allowed.

use serde::{Deserialize, Serialize};

use crate::words;

words! {
    /// What kind of agent does a task.
    Role, "role" {
        /// Changes code; a run without a change is a failure.
        Worker = "worker",
        /// Checks and tests; a run without a change is fine.
        Tester = "tester",
        /// Writes documents; a run without a change is fine.
        Docser = "docser",
    }
}

impl Role {
    /// Whether a run of this role that changed nothing failed.
    #[must_use]
    pub const fn requires_change(self) -> bool {
        match self {
            Self::Worker => true,
            Self::Tester | Self::Docser => false,
        }
    }
}

words! {
    /// How much harm a task could do; a riskier one is taken later.
    RiskLevel, "risk level" {
        Low = "low",
        Medium = "medium",
        High = "high",
    }
}

words! {
    /// The agent command line that does a task.
    ExecutorKind, "executor" {
        ClaudeCode = "claude_code",
        Opencode = "opencode",
    }
}

words! {
    /// Where agents run.
    ExecutionEnvironment, "execution environment" {
        /// As processes of this host.
        Host = "host",
        /// Each task in a container of its own.
        Sandbox = "sandbox",
    }
}

words! {
    /// How an agent is launched.
    LaunchMode, "launch mode" {
        Process = "process",
        Docker = "docker",
    }
}

impl ExecutionEnvironment {
    /// The launch mode of this environment; the only place that maps one to the other (E2).
    #[must_use]
    pub const fn launch_mode(self) -> LaunchMode {
        match self {
            Self::Host => LaunchMode::Process,
            Self::Sandbox => LaunchMode::Docker,
        }
    }
}

words! {
    /// Why a task cannot go on without something changing.
    BlockReason, "block reason" {
        /// A task it depends on failed or was blocked for good.
        DependencyFailed = "dependency_failed",
        /// A task it depends on was cancelled.
        DependencyCancelled = "dependency_cancelled",
        /// The provider's limit is reached; it goes on by itself at the retry time.
        QuotaWait = "quota_wait",
        /// The agent is not logged in, or its key is refused. Not made any more: such a task waits in the queue.
        LoginRequired = "login_required",
        /// Every attempt was used up.
        AttemptsExhausted = "attempts_exhausted",
    }
}

impl BlockReason {
    /// Whether a task that is blocked for this goes on without anybody doing something for it.
    #[must_use]
    pub const fn ends_by_itself(self) -> bool {
        match self {
            Self::QuotaWait => true,
            Self::DependencyFailed
            | Self::DependencyCancelled
            | Self::LoginRequired
            | Self::AttemptsExhausted => false,
        }
    }
}

words! {
    /// The kind of state a task is in; see [`TaskState`].
    TaskStatus, "task status" {
        Queued = "queued",
        Running = "running",
        Done = "done",
        Failed = "failed",
        Blocked = "blocked",
        Cancelled = "cancelled",
    }
}

impl TaskStatus {
    /// Whether nothing moves a task on from here but a person.
    #[must_use]
    pub const fn is_final(self) -> bool {
        match self {
            Self::Done | Self::Failed | Self::Cancelled => true,
            Self::Queued | Self::Running | Self::Blocked => false,
        }
    }
}

/// The state of a task with what belongs to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum TaskState {
    /// Waits to be claimed (for a dependency, an area, a free agent or its retry time).
    Queued,
    /// A run of it is alive.
    Running,
    /// Its result is there.
    Done,
    /// Its last run failed and no further one follows by itself.
    Failed,
    /// Waits for something outside.
    Blocked {
        /// What it waits for.
        reason: BlockReason,
    },
    /// Somebody called it off.
    Cancelled,
}

/// What may happen to a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskStep {
    /// A dispatcher claimed it.
    Claim,
    /// Its run ended and another attempt shall follow.
    Requeue,
    /// Its run ended well.
    Complete,
    /// Its run ended badly for good.
    Fail,
    /// It cannot go on for now.
    Block(BlockReason),
    /// What it waited for is there.
    Unblock,
    /// Somebody called it off.
    Cancel,
    /// Somebody asked for it once more.
    Retry,
}

/// A step that the present state does not allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a task that is {} cannot {step:?}", .from.status())]
pub struct ForbiddenStep {
    /// The state the task is in.
    pub from: TaskState,
    /// The step that was asked for.
    pub step: TaskStep,
}

impl TaskState {
    /// The word for this state.
    #[must_use]
    pub const fn status(self) -> TaskStatus {
        match self {
            Self::Queued => TaskStatus::Queued,
            Self::Running => TaskStatus::Running,
            Self::Done => TaskStatus::Done,
            Self::Failed => TaskStatus::Failed,
            Self::Blocked { .. } => TaskStatus::Blocked,
            Self::Cancelled => TaskStatus::Cancelled,
        }
    }

    /// The state after a step.
    ///
    /// # Errors
    /// [`ForbiddenStep`] where the step makes no sense in this state; nothing changes then.
    pub const fn transition(self, step: TaskStep) -> Result<Self, ForbiddenStep> {
        match (self, step) {
            (Self::Queued, TaskStep::Claim) => Ok(Self::Running),
            (Self::Running, TaskStep::Requeue) | (Self::Blocked { .. }, TaskStep::Unblock) => {
                Ok(Self::Queued)
            }
            (
                Self::Queued | Self::Blocked { .. } | Self::Done | Self::Failed | Self::Cancelled,
                TaskStep::Retry,
            ) => Ok(Self::Queued),
            (Self::Running, TaskStep::Complete) => Ok(Self::Done),
            (Self::Running, TaskStep::Fail) => Ok(Self::Failed),
            (Self::Queued | Self::Running, TaskStep::Block(reason)) => Ok(Self::Blocked { reason }),
            (Self::Queued | Self::Running | Self::Blocked { .. }, TaskStep::Cancel) => {
                Ok(Self::Cancelled)
            }
            (
                Self::Queued
                | Self::Running
                | Self::Blocked { .. }
                | Self::Done
                | Self::Failed
                | Self::Cancelled,
                TaskStep::Claim
                | TaskStep::Requeue
                | TaskStep::Complete
                | TaskStep::Fail
                | TaskStep::Block(_)
                | TaskStep::Unblock
                | TaskStep::Cancel
                | TaskStep::Retry,
            ) => Err(ForbiddenStep { from: self, step }),
        }
    }
}

words! {
    /// Where a run stands. What came of an ended one is its [`crate::outcome::RunOutcome`].
    RunStatus, "run status" {
        /// Claimed; nobody has accepted it yet.
        Launching = "launching",
        /// An agent works on it.
        Running = "running",
        /// The agent says it ended; its result is being taken over.
        Collecting = "collecting",
        /// Over.
        Ended = "ended",
    }
}

impl RunStatus {
    /// Whether a run may go from this status to `next`.
    #[must_use]
    pub const fn allows(self, next: Self) -> bool {
        match (self, next) {
            (Self::Launching, Self::Running | Self::Ended)
            | (Self::Running, Self::Collecting | Self::Ended)
            | (Self::Collecting, Self::Ended) => true,
            (
                Self::Launching | Self::Running | Self::Collecting | Self::Ended,
                Self::Launching | Self::Running | Self::Collecting | Self::Ended,
            ) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn final_states_allow_nothing_but_to_begin_again() {
        let steps = [
            TaskStep::Claim,
            TaskStep::Requeue,
            TaskStep::Complete,
            TaskStep::Fail,
            TaskStep::Block(BlockReason::QuotaWait),
            TaskStep::Unblock,
            TaskStep::Cancel,
        ];
        for state in [TaskState::Done, TaskState::Failed, TaskState::Cancelled] {
            assert!(state.status().is_final());
            for step in steps {
                assert_eq!(state.transition(step), Err(ForbiddenStep { from: state, step }));
            }
            assert_eq!(state.transition(TaskStep::Retry), Ok(TaskState::Queued));
        }
    }

    #[test]
    fn a_running_task_cannot_begin_again() {
        assert!(TaskState::Running.transition(TaskStep::Retry).is_err());
    }

    #[test]
    fn only_a_queued_task_can_be_claimed() {
        assert_eq!(TaskState::Queued.transition(TaskStep::Claim), Ok(TaskState::Running));
        assert!(TaskState::Running.transition(TaskStep::Claim).is_err());
        let blocked = TaskState::Blocked { reason: BlockReason::QuotaWait };
        assert!(blocked.transition(TaskStep::Claim).is_err());
        assert_eq!(blocked.transition(TaskStep::Unblock), Ok(TaskState::Queued));
    }

    #[test]
    fn an_ended_run_stays_ended() {
        for next in RunStatus::ALL {
            assert!(!RunStatus::Ended.allows(*next));
        }
        assert!(RunStatus::Launching.allows(RunStatus::Running));
        assert!(!RunStatus::Running.allows(RunStatus::Launching));
    }

    #[test]
    fn unknown_word_names_what_is_allowed() {
        let error = "boss".parse::<Role>().unwrap_err();
        assert_eq!(error.to_string(), "`boss` is not a role; allowed: worker, tester, docser");
    }
}
