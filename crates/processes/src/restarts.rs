//! When a process that ended unasked is started again, and when it is given up.

use std::time::Duration;

use core_config::settings::Settings;
use jiff::Timestamp;
use store::processes::ProcessRow;

/// The longest wait before a start.
const LONGEST: Duration = Duration::from_secs(60);

/// How often and how soon a process is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RestartPolicy {
    delay: Duration,
    max_attempts: u32,
    window: Duration,
}

/// What follows an end that nobody asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// It is started again.
    Again {
        /// Then.
        at: Timestamp,
        /// How long that is from now.
        delay: Duration,
        /// Which attempt of this window it is.
        attempt: u32,
        /// When the window began.
        window_began: Timestamp,
    },
    /// It ended too often.
    GiveUp,
}

impl RestartPolicy {
    pub(crate) const fn from_settings(settings: &Settings) -> Self {
        Self {
            delay: settings.process_restart_delay,
            max_attempts: settings.process_restart_max_attempts,
            window: settings.process_restart_window,
        }
    }

    /// What follows if the process ended now.
    pub(crate) fn after_end(&self, row: &ProcessRow, now: Timestamp) -> Next {
        let age = |began: Timestamp| Duration::try_from(now.duration_since(began)).ok();
        let open =
            row.window_began.filter(|began| age(*began).is_some_and(|age| age < self.window));
        let (window_began, attempts) = open.map_or((now, 0), |began| (began, row.attempts));
        if attempts >= self.max_attempts {
            return Next::GiveUp;
        }
        let delay = self.delay_after(attempts);
        let at = now.checked_add(delay).unwrap_or(now);
        Next::Again { at, delay, attempt: attempts + 1, window_began }
    }

    /// How long to wait after so many attempts.
    pub(crate) fn delay_after(&self, attempts: u32) -> Duration {
        self.delay.saturating_mul(1 << attempts.min(16)).min(LONGEST)
    }

    /// What it was given, for people.
    pub(crate) fn limit(&self) -> String {
        format!("{} restarts within {} s", self.max_attempts, self.window.as_secs())
    }
}

#[cfg(test)]
mod tests {
    use core_types::process::{ProcessName, ProcessState};
    use store::agents::HostId;

    use super::*;

    const POLICY: RestartPolicy = RestartPolicy {
        delay: Duration::from_secs(1),
        max_attempts: 8,
        window: Duration::from_secs(600),
    };

    fn row() -> ProcessRow {
        ProcessRow {
            host: HostId::new("here"),
            name: ProcessName::Dispatcher,
            generation: 1,
            state: ProcessState::Running,
            draining: false,
            launch: String::new(),
            record: None,
            pid: None,
            started_at: None,
            restarts: 0,
            attempts: 0,
            window_began: None,
            next_start: None,
            start_seen: 0,
            restart_seen: 0,
            last_exit: None,
            message: None,
            hint: None,
        }
    }

    #[test]
    fn a_crash_loop_waits_longer_each_time_and_is_given_up() {
        let (mut row, mut now) = (row(), Timestamp::UNIX_EPOCH);
        let mut delays = Vec::new();
        while let Next::Again { at, delay, attempt, window_began } = POLICY.after_end(&row, now) {
            delays.push(delay.as_secs());
            row.attempts = attempt;
            row.window_began = Some(window_began);
            now = at;
        }
        assert_eq!(delays, [1, 2, 4, 8, 16, 32, 60, 60]);
    }

    #[test]
    fn what_ends_rarely_is_started_soon_for_ever() {
        let (mut row, mut now) = (row(), Timestamp::UNIX_EPOCH);
        for _ in 0..100 {
            let Next::Again { delay, attempt, window_began, .. } = POLICY.after_end(&row, now)
            else {
                panic!("given up");
            };
            assert_eq!(delay, POLICY.delay);
            row.attempts = attempt;
            row.window_began = Some(window_began);
            now = now.checked_add(POLICY.window).unwrap();
        }
    }
}
