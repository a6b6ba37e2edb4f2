//! The task that follows one launch to its end and tells its state.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use rustix::{fd::OwnedFd, process::Pid};
use tokio::{io::unix::AsyncFd, sync::watch};

use super::{
    Launch,
    site::{Finding, Site},
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
    pub(crate) site: Arc<dyn Site>,
    pub(crate) launch: Launch,
    pub(crate) state: watch::Sender<LaunchState>,
}

/// A shim, and the descriptor that becomes readable at its end.
pub(crate) type Life = (Pid, AsyncFd<OwnedFd>);

impl Watcher {
    /// Follows the launch to its end. `life`: the shim, if one was seen already.
    pub(crate) async fn run(self, mut life: Option<Life>) {
        let mut pause = Duration::from_millis(5);
        let mut is_told = false;
        loop {
            let shim = match self.site.look(&self.launch).await {
                Ok(Finding::Ended(report)) => {
                    self.state.send_replace(LaunchState::Ended(report));
                    return;
                }
                Ok(Finding::Created { shim: None }) if self.is_gone() => {
                    // A shim ends without its directory, but not at once.
                    if let Some((shim, exit)) = &life {
                        self.until(*shim, exit).await;
                    }
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
                        tracing::warn!(launch.id = %self.launch.intent.id, error, "cannot look at launch");
                    }
                    None
                }
            };
            if life.as_ref().map(|(seen, _)| *seen) != shim && shim.is_some() {
                life = shim.and_then(|shim| self.life(shim));
            }
            match &life {
                Some((seen, exit)) if Some(*seen) == shim => self.until(*seen, exit).await,
                Some(_) | None => {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_millis(200));
                }
            }
        }
    }

    /// Waits for the end of the shim, and wakes it if somebody made it stand still: then neither
    /// wall time nor lease would end the command.
    async fn until(&self, shim: Pid, exit: &AsyncFd<OwnedFd>) {
        // Cancel safe: the descriptor stays readable.
        while tokio::time::timeout(STANDSTILL_LOOK, exit.readable()).await.is_err() {
            if self.site.wake(&self.launch, shim).await {
                tracing::warn!(launch.id = %self.launch.intent.id, "woke a shim that stood still");
            }
        }
    }

    /// Tells the state; the shim to wait for once the command runs.
    fn publish(&self, finding: &Finding) -> Option<Pid> {
        self.state.send_if_modified(|state| {
            let next = finding.as_state();
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

    /// The life of a shim; proven by the lock it holds. One without a number here has none.
    pub(crate) fn life(&self, shim: Pid) -> Option<Life> {
        if shim == Pid::INIT {
            return None;
        }
        let exit = pidfd::watch(shim).ok()?;
        (self.launch.directory.lock_holder().ok()? == Some(shim)).then_some((shim, exit))
    }

    fn is_gone(&self) -> bool {
        matches!(self.launch.directory.has("intent.json"), Ok(false))
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
