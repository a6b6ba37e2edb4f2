//! How a process stands, as anybody may be told.

use std::time::Duration;

use core_types::process::{ProcessName, ProcessState, Wanted};
use jiff::Timestamp;
use store::{
    agents::HostId,
    processes::{LastExit, ProcessRow, Wish},
};

use crate::desired::Desired;

/// How a process stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessInfo {
    /// Its name.
    pub name: ProcessName,
    /// How it stands, with what was asked for and not followed yet.
    pub state: ProcessState,
    /// What somebody wants of it.
    pub wanted: Wanted,
    /// Which start of it this is; absent before the first.
    pub generation: Option<u64>,
    /// Where it is, or was last.
    pub host: Option<HostId>,
    /// Its number while it runs.
    pub pid: Option<i32>,
    /// When it was started, while it is alive.
    pub started_at: Option<Timestamp>,
    /// How long it has been running.
    pub uptime: Option<Duration>,
    /// What it and its descendants use; only where it runs on this host.
    pub usage: Option<Usage>,
    /// How often it was started after an end that nobody asked for.
    pub restarts: u64,
    /// How the last one that ended did.
    pub last_exit: Option<LastExit>,
    /// Why it stands so.
    pub message: Option<String>,
    /// What to do about it.
    pub hint: Option<String>,
}

/// What a process and its descendants use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Memory.
    pub memory_bytes: u64,
    /// Processor time.
    pub cpu: Duration,
    /// How many processes they are.
    pub processes: u32,
}

/// What there is to know of a process before anybody looks at its launch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known<'a> {
    pub(crate) name: ProcessName,
    pub(crate) row: Option<&'a ProcessRow>,
    pub(crate) wish: Wish,
    pub(crate) desired: Desired,
    /// Why it is skipped, where it is.
    pub(crate) skipped: Option<&'static str>,
    /// Whether somebody manages processes.
    pub(crate) is_managed: bool,
}

impl Known<'_> {
    /// Whether anybody wants to hear of it.
    pub(crate) const fn is_of_interest(&self) -> bool {
        self.row.is_some() || !matches!(self.desired, Desired::Stopped(_))
    }

    pub(crate) fn info(&self) -> ProcessInfo {
        let state = self.state();
        let row = self.row;
        let live = row.filter(|row| row.state.is_live());
        let started_at = live.and_then(|row| row.started_at);
        let now = Timestamp::now();
        ProcessInfo {
            name: self.name,
            state,
            wanted: self.wish.wanted,
            generation: row.map(|row| row.generation),
            host: row.map(|row| row.host.clone()),
            pid: live.and_then(|row| row.pid),
            started_at,
            uptime: started_at.and_then(|since| Duration::try_from(now.duration_since(since)).ok()),
            usage: None,
            restarts: row.map_or(0, |row| row.restarts),
            last_exit: row.and_then(|row| row.last_exit.clone()),
            message: self.message(state),
            hint: row.filter(|row| row.state == state).and_then(|row| row.hint.clone()),
        }
    }

    /// How it stands, or is about to: what was asked for shows at once, not only when the manager has followed.
    fn state(&self) -> ProcessState {
        let Some(row) = self.row else {
            return match self.desired {
                Desired::Running if self.is_managed => ProcessState::Starting,
                Desired::Skipped => ProcessState::Skipped,
                Desired::Running | Desired::Stopped(_) => ProcessState::Idle,
            };
        };
        let restart = self.wish.restart_number > row.restart_seen;
        let asked = restart || self.wish.start_number > row.start_seen;
        match (row.state, self.desired) {
            (state, _) if !self.is_managed => state,
            (ProcessState::Running, Desired::Running) if restart => ProcessState::Stopping,
            (ProcessState::Running, Desired::Stopped(_) | Desired::Skipped) => {
                ProcessState::Stopping
            }
            (ProcessState::BackingOff | ProcessState::Failed, Desired::Running) if asked => {
                ProcessState::Starting
            }
            (ProcessState::Stopped, Desired::Running) => ProcessState::Starting,
            (state, Desired::Skipped) if !state.is_live() => ProcessState::Skipped,
            (ProcessState::BackingOff | ProcessState::Failed, Desired::Stopped(_)) => {
                ProcessState::Stopped
            }
            (state, _) => state,
        }
    }

    fn message(&self, state: ProcessState) -> Option<String> {
        let own = self.row.filter(|row| row.state == state).and_then(|row| row.message.clone());
        let skipped = self.skipped.filter(|_| state == ProcessState::Skipped);
        let unmanaged = !self.is_managed
            && self.desired == Desired::Running
            && self.row.is_none_or(|row| !row.state.is_live());
        let unmanaged = unmanaged.then_some(
            "no api-server manages processes; start one with `OPENTIGER_PROCESS_MANAGER=on`",
        );
        own.or_else(|| skipped.or(unmanaged).map(ToOwned::to_owned))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::Manner;

    fn row(state: ProcessState) -> ProcessRow {
        ProcessRow {
            host: HostId::new("here"),
            name: ProcessName::Dispatcher,
            generation: 1,
            state,
            draining: false,
            launch: String::new(),
            record: None,
            pid: Some(7),
            started_at: None,
            restarts: 0,
            attempts: 0,
            window_began: None,
            next_start: None,
            start_seen: 1,
            restart_seen: 1,
            last_exit: None,
            message: Some("said before".to_owned()),
            hint: None,
        }
    }

    fn shown(state: Option<ProcessState>, wish: (u64, u64), desired: Desired) -> ProcessState {
        let row = state.map(row);
        let (start_number, restart_number) = wish;
        let wish = Wish { wanted: Wanted::Settings, start_number, restart_number };
        let name = ProcessName::Dispatcher;
        let row = row.as_ref();
        Known { name, row, wish, desired, skipped: Some("why"), is_managed: true }.info().state
    }

    #[test]
    fn what_was_asked_for_shows_at_once() {
        use ProcessState::{
            BackingOff, Failed, Idle, Running, Skipped, Starting, Stopped, Stopping,
        };
        let off = Desired::Stopped(Manner::Now);
        for (state, wish, desired, expected) in [
            (None, (0, 0), Desired::Running, Starting),
            (None, (0, 0), off, Idle),
            (None, (0, 0), Desired::Skipped, Skipped),
            (Some(Running), (1, 1), Desired::Running, Running),
            (Some(Running), (2, 2), Desired::Running, Stopping),
            (Some(Running), (2, 1), Desired::Running, Running),
            (Some(Running), (1, 1), off, Stopping),
            (Some(Failed), (1, 1), Desired::Running, Failed),
            (Some(Failed), (2, 1), Desired::Running, Starting),
            (Some(BackingOff), (1, 1), Desired::Running, BackingOff),
            (Some(BackingOff), (1, 1), off, Stopped),
            (Some(Stopped), (1, 1), Desired::Running, Starting),
            (Some(Stopped), (1, 1), Desired::Skipped, Skipped),
            (Some(Stopping), (1, 1), Desired::Skipped, Stopping),
        ] {
            assert_eq!(shown(state, wish, desired), expected, "{state:?} {wish:?} {desired:?}");
        }
    }
}
