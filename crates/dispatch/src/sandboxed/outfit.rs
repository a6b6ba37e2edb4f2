//! What turns a claimed run into something to launch.

use std::{collections::BTreeSet, fmt, path::PathBuf};

use async_trait::async_trait;
use checkout::{checkouts::Checkouts, sandboxed::SandboxMounts};
use core_types::{
    ids::{RunKey, TaskId},
    sandbox::{AttemptsBefore, SandboxCheckout},
    secret::Secret,
    task::ExecutorKind,
};
use launcher::{
    id::LaunchId,
    spec::{Input, LaunchSpec, UserId},
};
use store::tasks::Task;

/// Why sandboxes cannot be launched for now, whichever task they are for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct NotReady {
    /// What is missing, in one line.
    pub reason: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// How far what is waited for has come; it changes from look to look.
    pub progress: Option<String>,
}

/// Why a run gets no sandbox.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// No run gets one for now.
    #[error(transparent)]
    Environment(#[from] NotReady),
    /// This one does not; others may.
    #[error("{reason}")]
    Run {
        /// What is wrong, in one line.
        reason: String,
        /// What to do about it.
        hint: Option<String>,
    },
}

/// A run to be fitted out.
#[derive(Debug)]
pub struct Order<'a> {
    /// What every write of the run carries.
    pub key: RunKey,
    /// Which attempt at the task this is, from 1.
    pub number: u32,
    /// The task.
    pub task: &'a Task,
    /// What of the checkout the sandbox sees.
    pub mounts: SandboxMounts,
    /// What the worker is told about it.
    pub checkout: SandboxCheckout,
    /// What the worker is told of the attempts before.
    pub before: AttemptsBefore,
    /// By which the database knows the worker.
    pub token: Secret,
}

/// What to launch.
#[derive(Debug)]
pub struct Outfit {
    /// The worker in its container; labels of the run are added. Where executors have to prove that they work, the label
    /// [`label::SUBJECT`](core_types::label::SUBJECT) is what [`Outfitter::subject`] says of exactly this sandbox.
    pub spec: LaunchSpec,
    /// Its assignment.
    pub input: Input,
}

/// Knows what a sandbox looks like under the settings in force.
#[async_trait]
pub trait Outfitter: fmt::Debug + Send + Sync + 'static {
    /// Looks whether a sandbox could be launched now; cheap enough to be asked every few seconds.
    ///
    /// # Errors
    /// [`NotReady`] says what is missing.
    async fn ready(&self) -> Result<(), NotReady>;

    /// Everything that decides whether this executor works in a sandbox now: another text is another thing, which has not
    /// proved anything yet. Nothing where executors need not prove that they do.
    ///
    /// # Errors
    /// [`NotReady`] where that cannot be found out.
    async fn subject(&self, executor: ExecutorKind) -> Result<Option<String>, NotReady> {
        let _ = executor;
        Ok(None)
    }

    /// The user that sandboxes run as.
    fn user(&self) -> UserId;

    /// The checkouts of this host, with the way to repositories of others under the settings in force.
    ///
    /// # Errors
    /// [`NotReady`] where a setting cannot be used.
    fn checkouts(&self) -> Result<Checkouts, NotReady>;

    /// Says what to launch for a run.
    ///
    /// # Errors
    /// [`Unfit`]; nothing was launched.
    async fn outfit(&self, order: Order<'_>) -> Result<Outfit, Unfit>;

    /// Lets a container that was created and has no input yet reach what it needs, on the network that it was created
    /// with: the settings may name another one by now.
    ///
    /// # Errors
    /// [`NotReady`]; nothing is handed to the container then.
    async fn admit(&self, launch: &LaunchId, network: Option<&str>) -> Result<(), NotReady>;

    /// Lets a container that was found again, and runs, reach what it did: what was written of that may be lost.
    ///
    /// # Errors
    /// [`NotReady`]; it reaches what it reached.
    async fn admit_again(&self, launch: &LaunchId) -> Result<(), NotReady> {
        let _ = launch;
        Ok(())
    }

    /// The containers that were let reach something and not yet dismissed.
    async fn admitted(&self) -> BTreeSet<LaunchId> {
        BTreeSet::new()
    }

    /// Takes back what a container was let reach. May be called for one that never was.
    async fn dismiss(&self, launch: &LaunchId);

    /// Keeps alive what the containers that are [admitted](Self::admitted) need, but for those that are known to be `gone`.
    /// Called every few seconds.
    async fn keep(&self, gone: BTreeSet<LaunchId>) {
        drop(gone);
    }

    /// Where the containers of a task keep what its next run goes on with; they can fill it.
    fn state_of(&self, task: TaskId) -> Option<PathBuf> {
        let _ = task;
        None
    }

    /// Removes what a task's runs keep, while it has none. May be called for a task that keeps nothing.
    async fn forget(&self, task: TaskId) {
        let _ = task;
    }
}

impl NotReady {
    /// Without a hint.
    #[must_use]
    pub fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), hint: None, progress: None }
    }

    /// The same with what to do about it.
    #[must_use]
    pub fn with_hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// The same with how far it has come.
    #[must_use]
    pub fn with_progress(self, progress: impl Into<String>) -> Self {
        Self { progress: Some(progress.into()), ..self }
    }

    /// Reason, progress and hint in one line.
    #[must_use]
    pub fn text(&self) -> String {
        let progress = self.progress.as_ref().map(|it| format!(" ({it})")).unwrap_or_default();
        let hint = self.hint.as_ref().map(|it| format!("; {it}")).unwrap_or_default();
        format!("{}{progress}{hint}", self.reason)
    }
}
