//! Whether anybody needs what the sandboxes of a host share, or did a moment ago.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// For how long relays are kept for nobody: a next task needs not wait for them, and hears before it is claimed that they
/// do not start. One that comes later starts them itself.
pub const KEPT_IDLE: Duration = Duration::from_secs(10 * 60);

/// A need that outlasts whoever has it.
#[derive(Debug)]
pub struct Demand {
    lasts: Duration,
    arisen: Mutex<Instant>,
}

impl Demand {
    /// A need that lasts for so long each time that it arises, and that has just arisen.
    #[must_use]
    pub fn lasting(lasts: Duration) -> Self {
        Self { lasts, arisen: Mutex::new(Instant::now()) }
    }

    /// Notes that there is somebody.
    pub fn arise(&self) {
        *self.arisen() = Instant::now();
    }

    /// Whether there was somebody so shortly ago.
    #[must_use]
    pub fn is_there(&self) -> bool {
        self.arisen().elapsed() < self.lasts
    }

    fn arisen(&self) -> MutexGuard<'_, Instant> {
        self.arisen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
