//! The dispatcher's loops: its pulse, recovery, mending and sweeping by time, the gates, claims by wake-up and by time.
//!
//! They are apart so that a run that is slow to die, or a directory that is slow to remove, holds up neither a claim
//! nor the pulse.

use std::{sync::Arc, time::Duration};

use checkout::checkouts::Checkouts;
use core_config::load::Loaded;
use core_types::task::ExecutionEnvironment;
use launcher::launcher::Launcher;
use store::{agents::HostId, dispatchers::DispatcherBeat, pool::Store, wake::Channel};
use telemetry::chain::error_chain;
use tokio::{
    sync::{oneshot, watch},
    task::{JoinError, JoinSet},
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;

use crate::{
    claim::{Claims, claim_all, claims_under},
    complaints::Complaints,
    found::LEASE,
    gates::tend_gates,
    janitor::Janitor,
    launches::Launches,
    pulse::Pulse,
    recovery::{ACCEPT_WITHIN, Recovery},
    retention::keep_small,
    sandboxed::tenders::{Sandboxes, Tenders},
    take_back::TakeBack,
};

/// How often the dispatcher looks even if nobody wakes it.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How soon it looks again after a wake-up that came to nothing: a claim passes over rows that are locked, and an
/// agent's heartbeat locks its own for a moment.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// How long a dispatcher that stops waits for what it is taking back. What is not done then, the next one takes up.
const LAST_WORK: Duration = Duration::from_secs(3);

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
    /// How runs in sandboxes are launched, where this dispatcher knows.
    pub sandboxes: Option<Sandboxes>,
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
        let pulse = Pulse::new(store.clone(), self.beat.clone(), self.settings.clone());
        let readiness = self.sandboxes.as_ref().map(|all| Arc::clone(&all.readiness));
        let pulse = Arc::new(pulse.with_sandboxes(readiness));
        let (looked, first_look) = oneshot::channel();
        let mut loops = JoinSet::new();
        loops.spawn(beat(Arc::clone(&pulse), stop.clone()));
        loops.spawn(self.clone().recover(Arc::clone(&pulse), looked, stop.clone()));
        loops.spawn(tend_gates(self.store.clone(), self.settings.clone(), stop.clone()));
        loops.spawn(self.janitor().keep_claimable(stop.clone()));
        loops.spawn(self.janitor().keep_clean(stop.clone()));
        loops.spawn(keep_small(self.store.clone(), self.settings.clone(), stop.clone()));
        if let Some(sandboxes) = self.sandboxes.clone() {
            let (store, host) = (self.store.clone(), self.host.clone());
            let tenders = Tenders::new(store, host, id, self.settings.clone(), sandboxes);
            let (pulse, stop) = (Arc::clone(&pulse), stop.clone());
            loops.spawn(async move {
                // Until then others would take us for gone.
                if stop.run_until_cancelled(pulse.first_beat()).await.is_some() {
                    tenders.run(stop).await;
                }
            });
        }
        loops.spawn(async move {
            // What died gives its capacity back before anything new is handed out, if it dies quickly.
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

    /// Has what died taken back.
    async fn recover(
        self,
        pulse: Arc<Pulse>,
        looked: oneshot::Sender<()>,
        stop: CancellationToken,
    ) {
        let hands = TakeBack {
            store: self.store,
            launches: Launches::new(self.launcher),
            sandboxes: self.sandboxes.map(|all| Launches::new(all.launcher)),
            checkouts: self.checkouts,
            host: self.host,
        };
        let mut recovery = Recovery::new(hands, ACCEPT_WITHIN);
        let mut looked = Some(looked);
        // Deaths that are seen do not wait for a pulse for longer.
        drop(timeout(LOOK_EVERY, pulse.first_beat()).await);
        let looking = async {
            loop {
                let next_look = Instant::now() + LOOK_EVERY;
                look(&mut recovery, &pulse).await;
                if pulse.view().has_looked()
                    && looked.take().is_some_and(|looked| looked.send(()).is_err())
                {
                    // The loop that hands out is gone, so this one has no business either.
                    return;
                }
                while timeout_at(next_look, recovery.one_done()).await.is_ok() {}
            }
        };
        stop.run_until_cancelled(looking).await;
        drop(timeout(LAST_WORK, recovery.all_done()).await);
    }

    /// Hands out runs whenever there may be something to hand out.
    async fn hand_out(mut self, stop: CancellationToken) {
        // Registered before the first look, so that nothing queued in between is missed.
        let mut wakes = self.store.wakes(&[Channel::Tasks]);
        let mut complaints = Complaints::default();
        let mut wait = Duration::ZERO;
        while !stop.is_cancelled() {
            // Every arm is cancel-safe: each only says that it is time to look.
            let woken = tokio::select! {
                () = stop.cancelled() => break,
                _ = wakes.next() => true,
                Ok(()) = self.settings.changed() => true,
                () = sleep(wait) => false,
            };
            let loaded = Arc::clone(&self.settings.borrow_and_update());
            let claims = claims_under(&loaded);
            let handed_out = match claims {
                Claims::Open { environment: ExecutionEnvironment::Host, max_running, spend } => {
                    let provider = loaded.settings.default_provider();
                    claim_all(&self.store, LEASE, max_running, spend, &provider).await
                }
                Claims::Open { .. } | Claims::Paused { .. } => Ok(0),
            };
            wait = match complaints.note("claims", handed_out) {
                Some(0) if woken => LOOK_AGAIN,
                Some(_) | None => LOOK_EVERY,
            };
        }
    }

    fn janitor(&self) -> Janitor {
        Janitor {
            store: self.store.clone(),
            launcher: Arc::clone(&self.launcher),
            sandboxes: self.sandboxes.as_ref().map(|all| Arc::clone(&all.launcher)),
            checkouts: Arc::clone(&self.checkouts),
            settings: self.settings.clone(),
        }
    }
}

async fn beat(pulse: Arc<Pulse>, stop: CancellationToken) {
    pulse.run(stop).await;
}

/// One look: reads what may be nobody's, and starts to take it back.
async fn look(recovery: &mut Recovery, pulse: &Pulse) {
    let found = recovery.find().await;
    // Silence counts only where a beat *after* it was read shows no gap.
    let view = if found.rests_on_silence() { pulse.view_now().await } else { pulse.view() };
    recovery.take_up(found, &view);
}
