//! The heartbeat of one run: renews its lease, and tells the run when it must stop.
//!
//! The launch of the agent is renewed only after the run's own lease was: whoever cannot renew has its agent ended
//! by the shim before the lease is over, even if the worker itself hangs.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use core_types::ids::RunKey;
use launcher::handle::Handle;
use telemetry::chain::error_chain;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};

use crate::{
    ledger::{Ledger, Renewal},
    policy::{LAUNCH_LEASE, RENEW_EVERY},
};

/// Wait before a failed renewal is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// Least time between two renewals, however often the alarm rings.
const CALM: Duration = Duration::from_millis(250);
/// How long before the launch's lease ends the run is told, so that it and not the shim ends the agent.
const MARGIN: Duration = Duration::from_secs(4);

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
    beat: Arc<Beat>,
    authority: watch::Receiver<Authority>,
    _beating: JoinSet<()>,
}

/// What a heartbeat works with.
#[derive(Debug)]
struct Beat {
    ledger: Ledger,
    key: RunKey,
    tell: watch::Sender<Authority>,
    /// The launch that shall live as long as the run does.
    launch: Mutex<Option<Handle>>,
    /// When the last renewal that worked was asked for.
    renewed_at: Mutex<Instant>,
    failing: AtomicBool,
}

impl Heartbeat {
    /// Starts to renew the lease of a run that was started just now. Where `alarm` changes it renews at once, which
    /// tells of a request to cancel.
    #[must_use]
    pub fn start(ledger: Ledger, key: RunKey, alarm: watch::Receiver<u64>) -> Self {
        let (tell, authority) = watch::channel(Authority::Held);
        let beat = Arc::new(Beat {
            ledger,
            key,
            tell,
            launch: Mutex::default(),
            renewed_at: Mutex::new(Instant::now()),
            failing: AtomicBool::new(false),
        });
        let beating = JoinSet::from_iter([Arc::clone(&beat).go_on(alarm)]);
        Self { beat, authority, _beating: beating }
    }

    /// Whether the run may go on, as far as is known. Once it is not [`Authority::Held`] it never is again.
    #[must_use]
    pub fn authority(&self) -> watch::Receiver<Authority> {
        self.authority.clone()
    }

    /// Renews now and tells whether the run may go on: asked before every step that cannot be taken back, since a
    /// process that was paused does not know how long.
    pub async fn confirm(&self) -> Authority {
        let mut authority = self.authority();
        loop {
            let known = *authority.borrow_and_update();
            if known != Authority::Held {
                return known;
            }
            match self.beat.renew().await {
                Some(true) => return *authority.borrow(),
                Some(false) => sleep(RETRY).await,
                None => return Authority::Fenced,
            }
        }
    }

    /// How long a launch that starts now may live without renewal.
    #[must_use]
    pub fn launch_lease(&self) -> Duration {
        LAUNCH_LEASE.saturating_sub(self.beat.renewed_at().elapsed()).max(Duration::from_secs(1))
    }

    /// Keeps a launch alive with the run, instead of the one before.
    pub fn hold(&self, launch: Option<Handle>) {
        *self.beat.launch.lock().unwrap_or_else(PoisonError::into_inner) = launch;
    }
}

impl Beat {
    async fn go_on(self: Arc<Self>, mut alarm: watch::Receiver<u64>) {
        loop {
            let asked = Instant::now();
            let wait = match self.renew().await {
                Some(true) => RENEW_EVERY,
                Some(false) => RETRY,
                None => return,
            };
            // Both arms are cancel-safe: an alarm that is lost here is made up for by the next renewal.
            tokio::select! {
                () = sleep_until(asked + wait) => {}
                Ok(()) = alarm.changed(), if wait == RENEW_EVERY => sleep_until(asked + CALM).await,
            }
        }
    }

    /// Renews once: true when it worked, false when the database did not answer, `None` when the run is not ours.
    async fn renew(&self) -> Option<bool> {
        let asked = Instant::now();
        match self.ledger.renew(self.key).await {
            Ok(Renewal::Lost) => {
                self.tell.send_replace(Authority::Fenced);
                None
            }
            Ok(Renewal::Held { cancel_requested }) => {
                *self.renewed_at.lock().unwrap_or_else(PoisonError::into_inner) = asked;
                if self.failing.swap(false, Ordering::Relaxed) {
                    tracing::info!("lease renewed again");
                }
                self.renew_launch().await;
                if cancel_requested {
                    self.leave_held(Authority::CancelRequested);
                }
                Some(true)
            }
            Err(error) => {
                if !self.failing.swap(true, Ordering::Relaxed) {
                    tracing::warn!(error = %error_chain(&error), "lease not renewed");
                }
                if self.renewed_at().elapsed() > LAUNCH_LEASE - MARGIN {
                    self.leave_held(Authority::Unreachable);
                }
                Some(false)
            }
        }
    }

    fn renewed_at(&self) -> Instant {
        *self.renewed_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first reason to stop is the one that counts, but for a lost lease.
    fn leave_held(&self, reason: Authority) {
        self.tell.send_if_modified(|now| {
            let first = *now == Authority::Held;
            if first {
                *now = reason;
            }
            first
        });
    }

    async fn renew_launch(&self) {
        let handle = self.launch.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(handle) = handle
            && let Err(error) = handle.renew().await
        {
            tracing::debug!(error = %error_chain(&error), "launch not renewed");
        }
    }
}
