//! The gap rule (D5): after the dispatcher itself did not look for a while, silence of others proves nothing.
//!
//! At its start, after the database was away, after a suspended laptop or a jumped clock, no silent run is taken back
//! for one lease period; whoever is alive renews meanwhile. Deaths that are *seen* do not wait.

use std::time::Duration;

use tokio::time::Instant;

/// A longer time than this between two looks is a gap: ten times the look interval.
const GAP: Duration = Duration::from_secs(10);

/// What the dispatcher knows about its own view of the world.
#[derive(Debug)]
pub struct View {
    lease: Duration,
    last_look: Option<Look>,
    trust_silence_from: Option<Instant>,
}

/// When a look happened, by a clock that stops while the machine sleeps and by one that does not.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    /// Monotonic time.
    pub at: Instant,
    /// Time since boot, suspended time included.
    pub since_boot: Duration,
}

impl View {
    /// A view that has seen nothing yet.
    #[must_use]
    pub const fn new(lease: Duration) -> Self {
        Self { lease, last_look: None, trust_silence_from: None }
    }

    /// Tells the view of a successful look at the database; true when it came after a gap.
    pub fn looked(&mut self, now: Look) -> bool {
        let gap = self.last_look.is_none_or(|last| {
            now.at.duration_since(last.at) > GAP
                || now.since_boot.saturating_sub(last.since_boot) > GAP
        });
        if gap {
            self.trust_silence_from = Some(now.at + self.lease);
        }
        self.last_look = Some(now);
        gap
    }

    /// Whether a run whose lease is over may be taken back.
    #[must_use]
    pub fn trusts_silence(&self, now: Instant) -> bool {
        self.trust_silence_from.is_some_and(|from| now >= from)
    }
}

/// The present moment.
#[must_use]
pub fn look_now() -> Look {
    let boot = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let seconds = u64::try_from(boot.tv_sec).unwrap_or_default();
    let nanos = u32::try_from(boot.tv_nsec).unwrap_or_default();
    Look { at: Instant::now(), since_boot: Duration::new(seconds, nanos) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(30);

    fn look(start: Instant, awake: u64, since_boot: u64) -> Look {
        Look { at: start + Duration::from_secs(awake), since_boot: Duration::from_secs(since_boot) }
    }

    #[test]
    fn silence_is_not_trusted_for_a_lease_after_the_start() {
        let start = Instant::now();
        let mut view = View::new(LEASE);
        assert!(!view.trusts_silence(start));
        assert!(view.looked(look(start, 0, 100)));
        for second in 1..=30 {
            assert!(!view.looked(look(start, second, 100 + second)));
        }
        assert!(!view.trusts_silence(start + Duration::from_secs(29)));
        assert!(view.trusts_silence(start + Duration::from_secs(30)));
    }

    #[test]
    fn a_database_that_was_away_starts_the_period_anew() {
        let start = Instant::now();
        let mut view = View::new(LEASE);
        view.looked(look(start, 0, 100));
        assert!(view.looked(look(start, 60, 160)));
        assert!(!view.trusts_silence(start + Duration::from_secs(89)));
        assert!(view.trusts_silence(start + Duration::from_secs(90)));
    }

    #[test]
    fn a_suspended_machine_starts_the_period_anew() {
        let start = Instant::now();
        let mut view = View::new(LEASE);
        view.looked(look(start, 0, 100));
        // One second awake, an hour since boot: the lid was closed.
        assert!(view.looked(look(start, 1, 3700)));
        assert!(!view.trusts_silence(start + Duration::from_secs(30)));
    }
}
