//! The heartbeat of one run: renews its lease, and tells the run when it must stop.
//!
//! The launch of the agent is renewed only after the run's own lease was: whoever cannot renew has its agent ended
//! by the shim before the lease is over, even if the worker itself hangs.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use core_types::ids::RunKey;
use launcher::handle::Handle;
use store::pool::Store;
use telemetry::chain::error_chain;
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use crate::policy::{LAUNCH_LEASE, LEASE, RENEW_EVERY};

/// Wait before a failed renewal is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Whether the run may go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Authority {
    /// The lease is ours.
    Held,
    /// Somebody asked for the task to be cancelled.
    CancelRequested,
    /// The lease could not be renewed for so long that it may be gone.
    Unreachable,
    /// The lease belongs to somebody else, or the run is over.
    Fenced,
}

/// The heartbeat of one run; ends when it is dropped.
#[derive(Debug)]
pub struct Heartbeat {
    authority: watch::Receiver<Authority>,
    launch: LaunchSlot,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// Where the launch lies that shall live as long as the run does.
type LaunchSlot = Arc<Mutex<Option<Handle>>>;

impl Heartbeat {
    /// Starts to renew the lease of a run.
    #[must_use]
    pub fn start(store: Store, key: RunKey, alarm: watch::Receiver<u64>) -> Self {
        let launch = LaunchSlot::default();
        let stop = CancellationToken::new();
        let (tell, authority) = watch::channel(Authority::Held);
        let beat = Beat { store, key, launch: Arc::clone(&launch), tell };
        let beat = beat.go_on(alarm, stop.clone());
        #[expect(clippy::disallowed_methods, reason = "owned by the Heartbeat, ended by its drop")]
        let task = tokio::spawn(beat);
        Self { authority, launch, stop, task }
    }

    /// Whether the run may go on; changes at most once, away from [`Authority::Held`].
    #[must_use]
    pub fn authority(&self) -> watch::Receiver<Authority> {
        self.authority.clone()
    }

    /// Keeps a launch alive with the run, instead of the one before.
    pub fn hold(&self, launch: Option<Handle>) {
        *self.launch.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = launch;
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        self.stop.cancel();
        self.task.abort();
    }
}

/// What a heartbeat works with.
struct Beat {
    store: Store,
    key: RunKey,
    launch: LaunchSlot,
    tell: watch::Sender<Authority>,
}

impl Beat {
    async fn go_on(self, mut alarm: watch::Receiver<u64>, stop: CancellationToken) {
        let mut renewed_at = Instant::now();
        loop {
            let renewed = self.renew(&mut renewed_at).await;
            let wait = match renewed {
                Some(true) => RENEW_EVERY,
                Some(false) => RETRY,
                None => return,
            };
            // Each arm is cancel-safe: an alarm that is lost here is made up for by the next renewal.
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(wait) => {}
                changed = alarm.changed(), if wait == RENEW_EVERY => {
                    if changed.is_err() {
                        sleep(wait).await;
                    }
                }
            }
        }
    }

    /// Renews once: true when it worked, false when the database did not answer, `None` when the run is not ours.
    async fn renew(&self, renewed_at: &mut Instant) -> Option<bool> {
        match self.store.renew_leases(&[self.key], LEASE).await {
            Ok(answers) => {
                let answer = answers.into_iter().find(|answer| answer.key == self.key);
                let Some(answer) = answer.filter(|answer| answer.valid) else {
                    self.tell.send_replace(Authority::Fenced);
                    return None;
                };
                *renewed_at = Instant::now();
                renew_launch(&self.launch).await;
                if answer.cancel_requested {
                    self.leave_held(Authority::CancelRequested);
                }
                Some(true)
            }
            Err(error) => {
                tracing::warn!(run.id = %self.key.run, error = %error_chain(&error), "lease not renewed");
                if renewed_at.elapsed() > LAUNCH_LEASE {
                    self.leave_held(Authority::Unreachable);
                }
                Some(false)
            }
        }
    }

    /// The first reason to stop is the one that counts.
    fn leave_held(&self, reason: Authority) {
        self.tell.send_if_modified(|now| {
            let first = *now == Authority::Held;
            if first {
                *now = reason;
            }
            first
        });
    }
}

async fn renew_launch(launch: &LaunchSlot) {
    let handle = launch.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
    if let Some(handle) = handle
        && let Err(error) = handle.renew().await
    {
        tracing::debug!(error = %error_chain(&error), "launch not renewed");
    }
}
