//! Sweeping up: checkouts and launch directories of this host whose run is over, mirrors and agents that are long gone,
//! rows that are not where the claim looks for them.
//!
//! Of this host it removes what carries a run id that the database knows as ended, and launches that ended so long ago
//! that no run can need them; what it cannot place it leaves alone.

use std::{sync::Arc, time::Duration};

use checkout::checkouts::Checkouts;
use core_config::load::Loaded;
use core_types::{ids::RunId, label, task::RunStatus};
use launcher::{
    handle::{Destroy, LaunchState, StopRequest},
    launcher::{Launcher, ReapPolicy},
};
use store::{error::StoreError, pool::Store};
use telemetry::chain::error_chain;
use tokio::{sync::watch, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::{complaints::Complaints, launches::aside, sandboxed::tending::launch_id};

/// How often the host is swept.
const SWEEP_EVERY: Duration = Duration::from_secs(60);
/// How often tasks are put where the claim looks for them.
const MEND_EVERY: Duration = Duration::from_secs(30);
const DAY: Duration = Duration::from_secs(24 * 3600);
/// The gate of a provider that no task named for so long is forgotten.
const GATE_UNUSED: Duration = Duration::from_secs(7 * 24 * 3600);
/// A run that ended less than this ago is left to whoever ran it.
const LEAVE_ALONE: Duration = Duration::from_secs(30);
/// Launches that no run of the database accounts for. What runs is never removed, whatever its age. An ended one is
/// evidence for a run that cannot be taken back, and a created one may still be started (the private Postgres uses one
/// id again and again), so both are kept for longer than either takes.
const REAP: ReapPolicy = ReapPolicy {
    keep_ended: Duration::from_secs(7 * 24 * 3600),
    keep_unassigned: Duration::from_secs(24 * 3600),
    dry_run: false,
};

/// Sweeps one host, and mends the database.
#[derive(Debug, Clone)]
pub struct Janitor {
    /// The database.
    pub store: Store,
    /// Knows the launch directories.
    pub launcher: Arc<dyn Launcher>,
    /// Knows the containers.
    pub sandboxes: Option<Arc<dyn Launcher>>,
    /// Knows the checkouts.
    pub checkouts: Arc<Checkouts>,
    /// The settings in force.
    pub settings: watch::Receiver<Arc<Loaded>>,
}

impl Janitor {
    /// Sweeps each minute until it is told to stop.
    pub async fn keep_clean(self, stop: CancellationToken) {
        let mut complaints = Complaints::default();
        while !stop.is_cancelled() {
            self.sweep(&mut complaints).await;
            stop.run_until_cancelled(sleep(SWEEP_EVERY)).await;
        }
    }

    /// Puts tasks where the claim looks for them, each half minute until it is told to stop.
    pub async fn keep_claimable(self, stop: CancellationToken) {
        let mut complaints = Complaints::default();
        while !stop.is_cancelled() {
            complaints.note("tasks astray", self.store.reconcile_areas().await);
            stop.run_until_cancelled(sleep(MEND_EVERY)).await;
        }
    }

    /// Removes what ended runs left, and signs off agents that have been silent for long. Each part by itself: what
    /// fails is logged and tried again the next time.
    pub async fn sweep(&self, complaints: &mut Complaints) {
        for launcher in [Some(&self.launcher), self.sandboxes.as_ref()].into_iter().flatten() {
            complaints.note("launches of ended runs", self.sweep_launches(launcher).await);
        }
        complaints.note("checkouts of ended runs", self.sweep_checkouts().await);
        self.sweep_mirrors().await;
        complaints.note("silent agents", self.store.retire_silent_agents().await);
        complaints.note("unused gates", self.store.forget_unused_gates(GATE_UNUSED).await);
        for launcher in [Some(&self.launcher), self.sandboxes.as_ref()].into_iter().flatten() {
            reap(Arc::clone(launcher)).await;
        }
    }

    async fn sweep_launches(&self, launcher: &Arc<dyn Launcher>) -> Result<(), StoreError> {
        let discovering = Arc::clone(launcher);
        let launches = match aside(async move { discovering.discover().await }).await {
            Ok(launches) => launches,
            Err(error) => {
                tracing::warn!(error = %error_chain(&error), "launches not listed");
                return Ok(());
            }
        };
        for found in launches {
            let Some(Ok(run)) = found.labels.get(label::RUN).map(|run| run.parse::<RunId>()) else {
                continue;
            };
            // A container of an ended run may still be there, for the engine was away when the run ended.
            let in_sandbox = found.id == launch_id(run);
            let ended = in_sandbox || matches!(found.state, LaunchState::Ended(_));
            if !ended || !self.is_over(run).await? {
                continue;
            }
            let removed = match launcher.attach(&found.record).await {
                Ok(handle) if in_sandbox => {
                    handle.stop(StopRequest::new("its run is over", Duration::ZERO)).await;
                    handle.destroy(Destroy::Everything).await.is_ok()
                }
                Ok(handle) => handle.destroy(Destroy::Everything).await.is_ok(),
                Err(_) => false,
            };
            if removed {
                tracing::info!(launch.id = %found.id, "launch of an ended run removed");
            }
        }
        Ok(())
    }

    async fn sweep_checkouts(&self) -> Result<(), StoreError> {
        let checkouts = match self.checkouts.list().await {
            Ok(checkouts) => checkouts,
            Err(error) => {
                tracing::warn!(error = %error_chain(&error), "checkouts not listed");
                return Ok(());
            }
        };
        for run in checkouts {
            if !self.is_over(run).await? {
                continue;
            }
            match self.checkouts.remove(run).await {
                Ok(()) => tracing::info!(run.id = %run, "checkout of an ended run removed"),
                Err(error) => {
                    tracing::warn!(run.id = %run, error = %error_chain(&error), "checkout not removed");
                }
            }
        }
        Ok(())
    }

    /// Removes mirrors that no run used for long, and results that are kept in one for as long; a run that needs a
    /// mirror fetches it anew.
    async fn sweep_mirrors(&self) {
        let days = self.settings.borrow().settings.mirror_keep_days;
        let (Some(days), Some(mirrors)) = (days, self.checkouts.mirrors()) else {
            return;
        };
        match mirrors.remove_unused(DAY * days).await {
            Ok(removed) => {
                for mirror in removed {
                    tracing::info!(mirror.url = mirror.url, mirror.bytes, "unused mirror removed");
                }
            }
            Err(error) => tracing::warn!(error = %error_chain(&error), "mirrors not swept"),
        }
        match mirrors.remove_results(DAY * days).await {
            Ok(removed) => {
                for run in removed {
                    tracing::info!(run.id = %run, "old result forgotten");
                }
            }
            Err(error) => tracing::warn!(error = %error_chain(&error), "results not swept"),
        }
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

async fn reap(launcher: Arc<dyn Launcher>) {
    match aside(async move { launcher.reap(&REAP).await }).await {
        Ok(report) => {
            for id in report.removed {
                tracing::info!(launch.id = %id, "old launch removed");
            }
        }
        Err(error) => tracing::warn!(error = %error_chain(&error), "launches not reaped"),
    }
}
