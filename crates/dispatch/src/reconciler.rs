//! The dispatcher's loops: recovery and sweeping by time, claims by wake-up and by time.
//!
//! They are apart so that a run that is slow to die, or a directory that is slow to remove, holds up no claim.

use std::{sync::Arc, time::Duration};

use checkout::checkouts::Checkouts;
use core_config::load::Loaded;
use launcher::launcher::Launcher;
use store::{
    agents::HostId, dispatchers::DispatcherBeat, error::StoreError, pool::Store, wake::Channel,
};
use telemetry::chain::error_chain;
use tokio::{
    sync::{oneshot, watch},
    task::{JoinError, JoinSet},
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use crate::{
    claim::{Claims, claim_all, claims_under},
    janitor::{Janitor, SWEEP_EVERY},
    recovery::{ACCEPT_WITHIN, Recovery},
    view::{View, look_now},
};

/// How long a claimed run lives without renewal, by the database's clock.
pub const LEASE: Duration = Duration::from_secs(30);
/// How often the dispatcher looks even if nobody wakes it.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How soon it looks again after a wake-up that came to nothing: a claim passes over rows that are locked, and an
/// agent's heartbeat locks its own for a moment.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// A dispatcher.
#[derive(Debug, Clone)]
pub struct Dispatcher {
    /// The database.
    pub store: Store,
    /// Finds and ends what is left of runs on this host.
    pub launcher: Arc<dyn Launcher>,
    /// The checkouts of this host.
    pub checkouts: Arc<Checkouts>,
    /// This host.
    pub host: HostId,
    /// Who this dispatcher is, as the database shall know it.
    pub beat: DispatcherBeat,
    /// The settings in force.
    pub settings: watch::Receiver<Arc<Loaded>>,
}

impl Dispatcher {
    /// Reconciles until it is told to stop. The database being away only makes it wait.
    ///
    /// # Errors
    /// [`JoinError`] where one of the loops panicked; the others were stopped then.
    pub async fn run(self, stop: CancellationToken) -> Result<(), JoinError> {
        let (store, id) = (self.store.clone(), self.beat.id);
        let stop_all = stop.child_token();
        let stop = stop_all.clone();
        let mut loops = JoinSet::new();
        let (recovered, first_look) = oneshot::channel();
        loops.spawn(self.clone().recover(recovered, stop.clone()));
        loops.spawn(self.clone().sweep(stop.clone()));
        loops.spawn(async move {
            // What died gives its capacity back before anything new is handed out.
            if first_look.await.is_ok() {
                self.hand_out(stop).await;
            }
        });
        let mut result = Ok(());
        while let Some(ended) = loops.join_next().await {
            if let Err(error) = ended {
                stop_all.cancel();
                result = Err(error);
            }
        }
        if let Err(error) = store.retire_dispatcher(id).await {
            tracing::warn!(error = %error_chain(&error), "dispatcher not signed off");
        }
        result
    }

    /// Says each second that it is there, and takes back what died.
    async fn recover(mut self, recovered: oneshot::Sender<()>, stop: CancellationToken) {
        let recovery = Recovery {
            store: self.store.clone(),
            launcher: Arc::clone(&self.launcher),
            checkouts: Arc::clone(&self.checkouts),
            host: self.host.clone(),
            accept_within: ACCEPT_WITHIN,
        };
        let mut view = View::new(LEASE);
        let mut recovered = Some(recovered);
        while !stop.is_cancelled() {
            match self.look(&recovery, &mut view).await {
                Ok(()) => {
                    if recovered.take().is_some_and(|recovered| recovered.send(()).is_err()) {
                        // The loop that hands out is gone, so this one has no business either.
                        return;
                    }
                }
                Err(error) => tracing::warn!(error = %error_chain(&error), "look failed"),
            }
            // Both arms are cancel-safe: they only say that it is time to look, or that settings changed.
            tokio::select! {
                _ = stop.run_until_cancelled(sleep(LOOK_EVERY)) => {}
                Ok(()) = self.settings.changed() => {}
            }
        }
    }

    async fn look(&mut self, recovery: &Recovery, view: &mut View) -> Result<(), StoreError> {
        let claims = claims_under(&self.settings.borrow_and_update());
        let paused = match claims {
            Claims::Open { .. } => None,
            Claims::Paused { reason } => Some(reason),
        };
        if paused != self.beat.paused {
            log_pause(paused.as_deref());
            self.beat.paused = paused;
        }
        self.store.dispatcher_beat(&self.beat).await?;
        if view.looked(look_now()) {
            tracing::info!("first look after a gap: silent runs are left alone for one lease");
        }
        recovery.look(view).await
    }

    /// Hands out runs whenever there may be something to hand out.
    async fn hand_out(mut self, stop: CancellationToken) {
        // Registered before the first look, so that nothing queued in between is missed.
        let mut wakes = self.store.wakes(&[Channel::Tasks]);
        let mut wait = Duration::ZERO;
        while !stop.is_cancelled() {
            // Every arm is cancel-safe: each only says that it is time to look.
            let woken = tokio::select! {
                () = stop.cancelled() => break,
                _ = wakes.next() => true,
                Ok(()) = self.settings.changed() => true,
                () = sleep(wait) => false,
            };
            let claims = claims_under(&self.settings.borrow_and_update());
            let handed_out = match claims {
                Claims::Open { max_running } => claim_all(&self.store, LEASE, max_running).await,
                Claims::Paused { .. } => Ok(0),
            };
            wait = match handed_out {
                Ok(0) if woken => LOOK_AGAIN,
                Ok(_) => LOOK_EVERY,
                Err(error) => {
                    tracing::warn!(error = %error_chain(&error), "nothing handed out");
                    LOOK_EVERY
                }
            };
        }
    }

    /// Removes each minute what ended runs left on this host.
    async fn sweep(self, stop: CancellationToken) {
        let janitor =
            Janitor { store: self.store, launcher: self.launcher, checkouts: self.checkouts };
        while !stop.is_cancelled() {
            match janitor.sweep().await {
                Ok(0) => {}
                Ok(removed) => tracing::info!(removed, "leftovers of ended runs removed"),
                Err(error) => tracing::warn!(error = %error_chain(&error), "sweep failed"),
            }
            stop.run_until_cancelled(sleep(SWEEP_EVERY)).await;
        }
    }
}

fn log_pause(reason: Option<&str>) {
    match reason {
        Some(reason) => tracing::error!(reason, "claims paused"),
        None => tracing::info!("claims open"),
    }
}
