//! Taking back one run: fence it, end what is left of it on this host, finish it, clear away its checkout.
//!
//! The fence comes first, so that a run whose worker came back meanwhile is left alone. A fence stops a zombie's
//! writes, not its hands; so nothing is queued again while its processes may live on a host that answers. A dispatcher
//! that dies in between leaves a revoked run, which the next look of any dispatcher takes up.

use std::sync::Arc;

use checkout::checkouts::Checkouts;
use core_types::{ids::RunId, outcome::RunReport};
use store::{
    agents::HostId,
    error::{FencedError, StoreError},
    pool::Store,
};
use telemetry::chain::error_chain;

use crate::{
    found::Case,
    launches::{Launches, MayLive},
};

/// What taking back needs.
#[derive(Debug)]
pub struct TakeBack {
    /// The database.
    pub store: Store,
    /// Finds and ends what is left of a run on this host.
    pub launches: Launches,
    /// The same for its sandboxes.
    pub sandboxes: Option<Launches>,
    /// The checkouts of this host.
    pub checkouts: Arc<Checkouts>,
    /// This host.
    pub host: HostId,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// The run is over, by this call.
    Back,
    /// The reason does not hold any more: the run was left as it is.
    LeftAlone,
    /// Somebody else was quicker.
    BySomebodyElse,
}

/// Why a run stays as it is until the next look.
#[derive(Debug, thiserror::Error)]
pub enum Kept {
    /// Something of it may be alive.
    #[error("something of the run may still be alive")]
    MayLive(#[from] MayLive),
    /// The database fails.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Kept {
    /// Whether the next look may do better without anybody changing something.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::MayLive(_) => false,
            Self::Store(error) => error.is_transient(),
        }
    }
}

impl TakeBack {
    /// Takes a run back.
    ///
    /// # Errors
    /// [`Kept`]; the run is not over then, and a later call goes on where this one stopped.
    pub async fn run(&self, case: &Case) -> Result<Taken, Kept> {
        let key = case.orphan.key;
        if let Some(revocation) = case.revocation()
            && !self.store.revoke(key, revocation).await?
        {
            return Ok(Taken::LeftAlone);
        }
        let here = case.orphan.host.as_ref() == Some(&self.host);
        let message = if here { self.end(case).await? } else { case.message().to_owned() };
        let taken = self.finish(case, message).await?;
        if here {
            self.remove_checkout(key.run).await;
        }
        Ok(taken)
    }

    /// Ends what is left of the run here and tells how it ended. What an agent printed is not told: it may hold
    /// secrets.
    async fn end(&self, case: &Case) -> Result<String, Kept> {
        let run = case.orphan.key.run;
        let mut report = self.launches.end_all_of(run).await?;
        // A run without an agent is one in a sandbox; others do not depend on an engine that may be away.
        if case.orphan.agent.is_none()
            && let Some(sandboxes) = &self.sandboxes
        {
            report = sandboxes.end_all_of(run).await?.or(report);
        }
        let message = case.message();
        Ok(report.map_or_else(
            || message.to_owned(),
            |report| format!("{message}; its agent {}", report.outcome),
        ))
    }

    async fn finish(&self, case: &Case, message: String) -> Result<Taken, StoreError> {
        let (orphan, outcome) = (&case.orphan, case.outcome());
        let report = RunReport::new(outcome).with_message(message.clone());
        match self.store.finish_revoked(orphan.key, &report).await {
            Ok(finished) => {
                tracing::warn!(
                    run.id = %orphan.key.run,
                    task.id = %orphan.task,
                    outcome = %outcome,
                    task.status = %finished.task_state.status(),
                    message,
                    "run taken back"
                );
                Ok(Taken::Back)
            }
            Err(FencedError::Fenced { .. }) => Ok(Taken::BySomebodyElse),
            Err(FencedError::Store(error)) => Err(error),
        }
    }

    async fn remove_checkout(&self, run: RunId) {
        if let Err(error) = self.checkouts.remove(run).await {
            tracing::warn!(run.id = %run, error = %error_chain(&error), "checkout not removed");
        }
    }
}
