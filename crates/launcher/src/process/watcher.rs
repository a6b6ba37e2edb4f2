//! The task that follows one launch to its end and tells its state.

use std::time::Duration;

use jiff::Timestamp;
use rustix::process::Pid;
use tokio::{io::unix::AsyncFd, sync::watch};

use super::{
    directory::Directory,
    evidence::{self, Finding},
    look,
    records::Intent,
    view::as_state,
};
use crate::{
    handle::LaunchState,
    outcome::{ExitReport, ExitSource, LostReason, Outcome},
    pidfd,
};

/// Between two looks at whether the shim stands still.
const STANDSTILL_LOOK: Duration = Duration::from_secs(10);

/// Follows one launch to its end.
pub(crate) struct Watcher {
    pub(crate) directory: Directory,
    pub(crate) intent: Intent,
    pub(crate) state: watch::Sender<LaunchState>,
}

impl Watcher {
    pub(crate) async fn run(self) {
        let mut pause = Duration::from_millis(5);
        let mut is_told = false;
        loop {
            let shim = match look(&self.directory, &self.intent).await {
                Ok(Finding::Ended(report)) => {
                    self.state.send_replace(LaunchState::Ended(report));
                    return;
                }
                Ok(Finding::Created { shim: None }) if self.is_gone() => {
                    self.state.send_replace(LaunchState::Ended(removed()));
                    return;
                }
                Ok(finding) => {
                    is_told = false;
                    self.publish(&finding)
                }
                // No evidence of anything: look again.
                Err(error) => {
                    if !std::mem::replace(&mut is_told, true) {
                        let error = &error as &(dyn std::error::Error + 'static);
                        tracing::warn!(launch.id = %self.intent.id, error, "cannot look at launch");
                    }
                    None
                }
            };
            match shim.and_then(|shim| Some((shim, self.pidfd(shim)?))) {
                Some((shim, exit)) => self.until(shim, &exit).await,
                None => {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_millis(200));
                }
            }
        }
    }

    /// Waits for the end of the shim, and wakes it if somebody made it stand still: then neither
    /// wall time nor lease would end the command.
    async fn until(&self, shim: Pid, exit: &AsyncFd<rustix::fd::OwnedFd>) {
        // Cancel safe: the descriptor stays readable.
        while tokio::time::timeout(STANDSTILL_LOOK, exit.readable()).await.is_err() {
            if evidence::wake(&self.directory, shim) {
                tracing::warn!(launch.id = %self.intent.id, "woke a shim that stood still");
            }
        }
    }

    /// Tells the state; the shim to wait for once the command runs.
    fn publish(&self, finding: &Finding) -> Option<Pid> {
        self.state.send_if_modified(|state| {
            let next = as_state(finding);
            let is_new = !matches!(state, LaunchState::Stopping { .. }) && *state != next;
            if is_new {
                *state = next;
            }
            is_new
        });
        match finding {
            Finding::Running { shim, since: Some(_) } => Some(*shim),
            Finding::Running { .. } | Finding::Created { .. } | Finding::Ended(_) => None,
        }
    }

    /// The shim as a descriptor that becomes readable at its end; proven by the lock it holds.
    fn pidfd(&self, shim: Pid) -> Option<AsyncFd<rustix::fd::OwnedFd>> {
        let exit = pidfd::watch(shim).ok()?;
        (self.directory.lock_holder().ok()? == Some(shim)).then_some(exit)
    }

    fn is_gone(&self) -> bool {
        matches!(self.directory.has("intent.json"), Ok(false))
    }
}

/// What is left to say when somebody removed the directory under a launch.
fn removed() -> ExitReport {
    let why = "the launch directory was removed".to_owned();
    ExitReport {
        outcome: Outcome::Lost(LostReason::RecordUnreadable { why }),
        cause: None,
        out_of_memory: false,
        leftovers_killed: 0,
        survivors: 0,
        log_end: 0,
        dropped_bytes: 0,
        started_at: None,
        ended_at: Timestamp::now(),
        source: ExitSource::Evidence,
    }
}
