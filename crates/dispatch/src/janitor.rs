//! Sweeping up on this host: checkouts and launch directories whose run is over.
//!
//! It removes only what carries a run id that the database knows as ended; what it cannot place it leaves alone.

use std::{sync::Arc, time::Duration};

use checkout::checkouts::Checkouts;
use core_types::{ids::RunId, task::RunStatus};
use launcher::{
    handle::{Destroy, LaunchState},
    launcher::Launcher,
};
use store::{error::StoreError, pool::Store};
use telemetry::chain::error_chain;

use crate::recovery::LABEL_RUN;

/// How often the host is swept.
pub const SWEEP_EVERY: Duration = Duration::from_secs(60);
/// A run that ended less than this ago is left to whoever ran it.
const LEAVE_ALONE: Duration = Duration::from_secs(30);

/// Sweeps one host.
#[derive(Debug)]
pub struct Janitor {
    /// The database.
    pub store: Store,
    /// Knows the launch directories.
    pub launcher: Arc<dyn Launcher>,
    /// Knows the checkouts.
    pub checkouts: Arc<Checkouts>,
}

impl Janitor {
    /// Removes what ended runs left; tells how many things.
    ///
    /// # Errors
    /// [`StoreError`] where the database does not answer.
    pub async fn sweep(&self) -> Result<usize, StoreError> {
        Ok(self.sweep_launches().await? + self.sweep_checkouts().await?)
    }

    async fn sweep_launches(&self) -> Result<usize, StoreError> {
        let launches = match self.launcher.discover().await {
            Ok(launches) => launches,
            Err(error) => {
                tracing::warn!(error = %error_chain(&error), "launches not listed");
                return Ok(0);
            }
        };
        let mut removed = 0;
        for found in launches {
            let Some(Ok(run)) = found.labels.get(LABEL_RUN).map(|run| run.parse::<RunId>()) else {
                continue;
            };
            if !matches!(found.state, LaunchState::Ended(_)) || !self.is_over(run).await? {
                continue;
            }
            let destroyed = match self.launcher.attach(&found.record).await {
                Ok(handle) => handle.destroy(Destroy::Everything).await.is_ok(),
                Err(_) => false,
            };
            removed += usize::from(destroyed);
        }
        Ok(removed)
    }

    async fn sweep_checkouts(&self) -> Result<usize, StoreError> {
        let checkouts = match self.checkouts.list().await {
            Ok(checkouts) => checkouts,
            Err(error) => {
                tracing::warn!(error = %error_chain(&error), "checkouts not listed");
                return Ok(0);
            }
        };
        let mut removed = 0;
        for run in checkouts {
            if self.is_over(run).await? {
                match self.checkouts.remove(run).await {
                    Ok(()) => removed += 1,
                    Err(error) => {
                        tracing::warn!(run.id = %run, error = %error_chain(&error), "checkout not removed");
                    }
                }
            }
        }
        Ok(removed)
    }

    async fn is_over(&self, run: RunId) -> Result<bool, StoreError> {
        let Some(run) = self.store.run(run).await? else {
            return Ok(false);
        };
        let old = run.ended_at.is_some_and(|ended| {
            let age = jiff::Timestamp::now().duration_since(ended);
            Duration::try_from(age).is_ok_and(|age| age > LEAVE_ALONE)
        });
        Ok(run.status == RunStatus::Ended && old)
    }
}
