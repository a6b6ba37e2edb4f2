//! What came of a run and all that is known about it. What follows from it is in [`table`].

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{task::BlockReason, usage::Usage, words};

pub mod table;

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
        /// Its sandbox used more disk than it may, and was stopped.
        DiskLimit = "disk_limit",
        /// Somebody cancelled the task.
        Cancelled = "cancelled",
        /// The agent's program could not be started or called.
        LaunchFailed = "launch_failed",
        /// The repository or the base branch cannot be used.
        CheckoutFailed = "checkout_failed",
        /// The copy of the repository was not made in time.
        CheckoutTimedOut = "checkout_timed_out",
        /// The result could not be committed, collected or moved to its branch.
        CollectFailed = "collect_failed",
        /// There is no repository at the URL, or none that this host's login may see.
        RepositoryMissing = "repository_missing",
        /// This host's login is not accepted for the repository.
        RepositoryDenied = "repository_denied",
        /// This host does not trust the key or the certificate of the repository's host.
        HostNotTrusted = "host_not_trusted",
        /// The repository does not have the branch to start from.
        BaseBranchMissing = "base_branch_missing",
        /// The repository's host cannot be reached, or does not answer in time.
        RemoteUnreachable = "remote_unreachable",
        /// The connection to the repository's host broke.
        RemoteHungUp = "remote_hung_up",
        /// The repository's host does not take the run's branch: a permission, a rule, a hook.
        PushRefused = "push_refused",
        /// The run's branch is there already, with something else on it.
        BranchTaken = "branch_taken",
        /// The repository, or what is pushed, is larger than allowed.
        RepositoryTooLarge = "repository_too_large",
        /// No space is left on this host.
        DiskFull = "disk_full",
        /// This host could not do what a run needs: its files, its memory, its settings.
        HostFailed = "host_failed",
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
