//! Whether sandboxes can be launched: looked at every few seconds while the settings ask for sandboxes, and pushed back
//! by each launch that failed for a reason that is not its task's.
//!
//! While they cannot, nothing is claimed for them, so that a missing image or a dead engine costs one run its launch and
//! no task an attempt; tasks go on by themselves.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use core_types::ids::TaskId;
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

use super::outfit::{NotReady, Outfitter};

/// How long one look may take.
const LOOK_WITHIN: Duration = Duration::from_secs(30);
/// How long nothing is claimed after a launch failed that the look before had not foreseen; doubled with each.
const HOLD: Duration = Duration::from_secs(5);
/// The longest of these.
const HOLD_MAX: Duration = Duration::from_secs(300);
/// So many tasks in a row whose launches failed for reasons that may be their own, and none that worked in between, are
/// no coincidence.
const NO_COINCIDENCE: usize = 3;

/// Whether sandboxes can be launched.
#[derive(Debug)]
pub struct Readiness {
    unready: watch::Sender<Option<NotReady>>,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    until: Option<Instant>,
    failures: u32,
    suspects: BTreeSet<TaskId>,
}

impl Readiness {
    /// Nothing is known yet, so nothing is claimed.
    #[must_use]
    pub fn new() -> Self {
        let unready = watch::Sender::new(Some(NotReady::new("sandboxes are being looked at")));
        Self { unready, held: Mutex::default() }
    }

    /// Why nothing is claimed for sandboxes; nothing while it is.
    #[must_use]
    pub fn unready(&self) -> Option<NotReady> {
        self.unready.borrow().clone()
    }

    /// Tells when that changes.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<Option<NotReady>> {
        self.unready.subscribe()
    }

    /// Looks once.
    pub async fn look(&self, outfitter: &dyn Outfitter) {
        let seen = match timeout(LOOK_WITHIN, outfitter.ready()).await {
            Ok(Ok(())) => None,
            Ok(Err(fault)) => Some(fault),
            Err(_) => Some(NotReady::new(format!(
                "whether a sandbox can start was not found out within {} s",
                LOOK_WITHIN.as_secs()
            ))),
        };
        // A launch has failed in spite of what was seen: its reason stays for a while.
        if seen.is_none() && self.is_held() {
            return;
        }
        self.unready.send_if_modified(|unready| {
            let changed = *unready != seen;
            *unready = seen;
            changed
        });
    }

    /// Notes that a launch failed for a reason that is not its task's.
    pub fn failed(&self, fault: NotReady) {
        let mut held = self.held();
        let doublings = held.failures.min(10);
        held.failures = held.failures.saturating_add(1);
        let hold = HOLD.saturating_mul(1 << doublings).min(HOLD_MAX);
        held.until = Some(Instant::now() + hold);
        drop(held);
        self.unready.send_replace(Some(fault));
    }

    /// Notes that the launch of a task failed for a reason that may be the task's or everybody's. True where it is
    /// everybody's: so it has been with others.
    pub fn suspects(&self, task: TaskId) -> bool {
        let mut held = self.held();
        held.suspects.insert(task);
        held.suspects.len() >= NO_COINCIDENCE
    }

    /// Notes that a launch worked.
    pub fn worked(&self) {
        *self.held() = Held::default();
    }

    fn is_held(&self) -> bool {
        self.held().until.is_some_and(|until| Instant::now() < until)
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Readiness {
    fn default() -> Self {
        Self::new()
    }
}
