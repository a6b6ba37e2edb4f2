//! The gap rule (D5): after the dispatcher itself did not look for a while, silence of others proves nothing.
//!
//! At its start, after the database was away, after a suspended laptop or a jump of the database's clock, no silent
//! run is taken back for one lease period; whoever is alive renews meanwhile. Deaths that are *seen* do not wait.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// A longer time than this between two looks is a gap: ten times the look interval.
const GAP: Duration = Duration::from_secs(10);
/// The database's clock has jumped when it and our own differ by more than this on how long ago the last look was.
const JUMP: Duration = Duration::from_secs(5);

/// What the dispatcher knows about its own view of the world.
#[derive(Debug, Clone, Copy, Default)]
pub struct View {
    last_look: Option<Look>,
    last_gap: Option<Instant>,
}

/// When a look happened, by three clocks.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    /// Monotonic time; stands still while the machine sleeps.
    pub at: Instant,
    /// Time since boot, suspended time included.
    pub since_boot: Duration,
    /// The database's clock, by which leases run out.
    pub database: Timestamp,
}

impl View {
    /// Tells the view of a successful look at the database; true when it came after a gap.
    pub fn looked(&mut self, now: Look) -> bool {
        let gap = self.last_look.is_none_or(|last| is_gap(last, now));
        if gap {
            self.last_gap = Some(now.at);
        }
        self.last_look = Some(now);
        gap
    }

    /// Whether somebody's silence, seen at `seen_at`, means something: there was no gap in the `period` before it,
    /// and a look after it, which would have found the database's clock to have jumped.
    #[must_use]
    pub fn vouches_for(&self, seen_at: Instant, period: Duration) -> bool {
        let looked_since = self.last_look.is_some_and(|last| last.at >= seen_at);
        looked_since && self.last_gap.is_some_and(|gap| seen_at >= gap + period)
    }

    /// Whether there was a successful look at all.
    #[must_use]
    pub const fn has_looked(&self) -> bool {
        self.last_look.is_some()
    }
}

impl Look {
    /// A look at this moment, at which the database's clock showed `database`.
    #[must_use]
    pub fn now(database: Timestamp) -> Self {
        let boot = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let seconds = u64::try_from(boot.tv_sec).unwrap_or_default();
        let nanos = u32::try_from(boot.tv_nsec).unwrap_or_default();
        Self { at: Instant::now(), since_boot: Duration::new(seconds, nanos), database }
    }
}

fn is_gap(last: Look, now: Look) -> bool {
    let passed = now.at.saturating_duration_since(last.at);
    let by_database = now.database.duration_since(last.database);
    let passed_signed = SignedDuration::try_from(passed).unwrap_or(SignedDuration::MAX);
    let jump = by_database.saturating_sub(passed_signed).unsigned_abs();
    passed > GAP || now.since_boot.saturating_sub(last.since_boot) > GAP || jump > JUMP
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(30);

    /// Three clocks that agree on how many seconds have passed.
    fn look(start: Instant, second: i64) -> Look {
        look_at(start, second, second, second)
    }

    fn look_at(start: Instant, awake: i64, since_boot: i64, database: i64) -> Look {
        let seconds = |count: i64| Duration::from_secs(count.try_into().unwrap());
        Look {
            at: start + seconds(awake),
            since_boot: seconds(100 + since_boot),
            database: Timestamp::from_second(1_000_000 + database).unwrap(),
        }
    }

    /// A view that has looked each second up to the given one; only the first look came after a gap.
    fn steady(start: Instant, until: i64) -> View {
        let mut view = View::default();
        assert!(view.looked(look(start, 0)));
        for second in 1..=until {
            assert!(!view.looked(look(start, second)), "{second}");
        }
        view
    }

    #[test]
    fn silence_means_nothing_for_a_lease_after_the_start() {
        let start = Instant::now();
        let at = |second| start + Duration::from_secs(second);
        assert!(!View::default().vouches_for(start, Duration::ZERO));
        let view = steady(start, 31);
        assert!(!view.vouches_for(at(29), LEASE));
        assert!(view.vouches_for(at(30), LEASE));
    }

    #[test]
    fn silence_means_nothing_before_a_look_that_came_after_it() {
        let start = Instant::now();
        let view = steady(start, 40);
        assert!(view.vouches_for(start + Duration::from_secs(40), LEASE));
        assert!(!view.vouches_for(start + Duration::from_secs(41), LEASE));
    }

    #[test]
    fn a_database_that_was_away_starts_the_period_anew() {
        let start = Instant::now();
        let mut view = steady(start, 40);
        assert!(view.looked(look(start, 60)));
        for second in 61..=90 {
            assert!(!view.looked(look(start, second)));
        }
        assert!(!view.vouches_for(start + Duration::from_secs(89), LEASE));
        assert!(view.vouches_for(start + Duration::from_secs(90), LEASE));
        // A shorter period is over sooner.
        assert!(view.vouches_for(start + Duration::from_secs(70), Duration::from_secs(10)));
    }

    #[test]
    fn a_suspended_machine_starts_the_period_anew() {
        let start = Instant::now();
        let mut view = steady(start, 40);
        // One second awake, an hour since boot: the lid was closed.
        assert!(view.looked(look_at(start, 41, 3641, 41)));
        assert!(!view.vouches_for(start + Duration::from_secs(41), LEASE));
    }

    #[test]
    fn a_database_clock_that_jumps_either_way_starts_the_period_anew() {
        for jump in [6, 3600, -6, -3600] {
            let start = Instant::now();
            let mut view = steady(start, 40);
            assert!(view.looked(look_at(start, 41, 41, 41 + jump)), "{jump}");
            assert!(!view.vouches_for(start + Duration::from_secs(41), LEASE), "{jump}");
            // From now on the clocks agree again.
            assert!(!view.looked(look_at(start, 42, 42, 42 + jump)), "{jump}");
        }
    }

    #[test]
    fn a_slow_answer_is_no_jump() {
        let start = Instant::now();
        let mut view = steady(start, 40);
        assert!(!view.looked(look_at(start, 45, 45, 41)));
    }
}
