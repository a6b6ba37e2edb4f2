//! One run in a sandbox, from wherever it stands to its finish.
//!
//! The order is the point: the checkout is whole before anything is launched, the container is gone before anything of it
//! is read, the result is where it belongs before the run is over, and the container's record is removed last. A step
//! that is cut off anywhere may be done again by whoever takes over.

mod blame;
mod collecting;
mod places;
mod starting;
mod watching;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use core_config::load::Loaded;
use core_types::{
    ids::{RunId, RunKey, TaskId},
    outcome::{RunOutcome, RunReport},
    task::RunStatus,
};
use launcher::{
    error::AttachError,
    handle::{Destroy, Handle, LaunchState, StopRequest},
    id::LaunchId,
    launcher::{Discovered, Launcher},
    outcome::{ExitReport, Outcome},
};
use store::{
    error::{FencedError, StoreError},
    pool::Store,
};
use telemetry::chain::error_chain;
use tokio::{
    sync::{Semaphore, watch},
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use self::places::Places;
use super::{
    ending::judge, outfit::Outfitter, readiness::Readiness, self_tests::SelfTests,
    tenders::Sandboxes,
};
use crate::launches::{NOTHING, aside};

/// Containers started at once; one that hangs keeps one of these places until its time is over.
const STARTED_AT_ONCE: usize = 8;
/// Wait before something that failed for the moment is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// What tending needs; shared by all runs of a dispatcher.
#[derive(Debug)]
pub struct Hands {
    pub(super) store: Store,
    pub(super) launcher: Arc<dyn Launcher>,
    pub(super) outfitter: Arc<dyn Outfitter>,
    pub(super) readiness: Arc<Readiness>,
    self_tests: Arc<SelfTests>,
    pub(super) settings: watch::Receiver<Arc<Loaded>>,
    untended: Duration,
    preparing: Places,
    starting: Semaphore,
}

/// What the dispatcher's looks tell about a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// Where it stands.
    pub status: RunStatus,
    /// Whether somebody asked for its task to be cancelled.
    pub cancel_requested: bool,
}

/// A run that is tended.
#[derive(Debug, Clone)]
pub struct Tended {
    /// What every write of the run carries.
    pub key: RunKey,
    /// Its task.
    pub task: TaskId,
    /// What is known of it, kept up to date.
    pub facts: watch::Receiver<Facts>,
    /// Whether its lease is ours to renew: always but while its worker does.
    pub renewing: Arc<AtomicBool>,
    /// Whether it was claimed in this moment, so that nothing of it can be there.
    pub fresh: bool,
}

/// How tending ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// The run is over and nothing of it is left here.
    Over,
    /// The run is not ours any more.
    Lost,
    /// The dispatcher stops; the run goes on, and whoever tends it next finds it.
    Detached,
}

/// How a launch ended, and the launch.
struct Ended {
    exit: ExitReport,
    handle: Handle,
}

/// Why nothing was launched: the run is over with this.
type Refusal = Box<RunReport>;

impl Hands {
    /// The hands of a dispatcher.
    #[must_use]
    pub fn new(
        store: Store,
        sandboxes: Sandboxes,
        self_tests: Arc<SelfTests>,
        settings: watch::Receiver<Arc<Loaded>>,
    ) -> Self {
        let Sandboxes { launcher, outfitter, readiness, untended } = sandboxes;
        let (preparing, starting) = (Places::default(), Semaphore::new(STARTED_AT_ONCE));
        Self {
            store,
            launcher,
            outfitter,
            readiness,
            self_tests,
            settings,
            untended,
            preparing,
            starting,
        }
    }

    /// Tends a run until it is over, lost, or the dispatcher stops.
    pub async fn tend(
        &self,
        tended: &Tended,
        lost: &CancellationToken,
        stop: &CancellationToken,
    ) -> Left {
        // Each may be dropped: whatever is done of the run is found again, by the next one or by recovery.
        let left = tokio::select! {
            left = self.carry(tended) => left,
            () = lost.cancelled() => Left::Lost,
            () = stop.cancelled() => return Left::Detached,
        };
        // A lease is gone too when it was us who ended the run.
        if left == Left::Over || self.is_over(tended.key.run).await {
            self.clean_up(tended.key.run).await;
            return Left::Over;
        }
        left
    }

    async fn carry(&self, tended: &Tended) -> Left {
        let ended = match self.launch_or_find(tended).await {
            Ok(ended) => ended,
            Err(refusal) => return self.finish(tended.key, &refusal).await,
        };
        tended.renewing.store(true, Ordering::Relaxed);
        let report = self.report(tended, ended.as_ref()).await;
        if report.outcome == RunOutcome::DiskLimit {
            // The next attempt would end by it too.
            self.outfitter.forget(tended.task).await;
        }
        self.finish(tended.key, &report).await
    }

    /// Brings the run's container to its end, starting it where it never was; nothing where it is gone.
    async fn launch_or_find(&self, tended: &Tended) -> Result<Option<Ended>, Refusal> {
        let id = launch_id(tended.key.run);
        let found = if tended.fresh { None } else { self.find(&id).await };
        let handle = match found {
            Some(found) => self.take_up(tended, found).await,
            None => None,
        };
        let handle = match handle {
            Some(handle) => handle,
            None if tended.facts.borrow().status == RunStatus::Launching => {
                self.start(tended, &id).await?
            }
            None => return Ok(None),
        };
        let exit = self.watch(tended, &handle).await;
        // Its address may be another container's from now on.
        self.outfitter.dismiss(&id).await;
        Ok(Some(Ended { exit, handle }))
    }

    /// Finds what is there of a launch; waits until its launcher answers, and until what bears its name can be read: what
    /// is not known may be running.
    async fn find(&self, id: &LaunchId) -> Option<Discovered> {
        let mut said = false;
        loop {
            let launcher = Arc::clone(&self.launcher);
            match aside(async move { launcher.discover().await }).await {
                Ok(launches) => {
                    let found = launches.into_iter().find(|found| found.id == *id);
                    if found.is_some() || !self.is_named(id).await {
                        return found;
                    }
                    if !said {
                        said = true;
                        tracing::warn!(launch.id = %id, "sandbox not readable; mend or remove its directory");
                    }
                }
                Err(error) if !said => {
                    said = true;
                    tracing::warn!(launch.id = %id, error = %error_chain(&error), "sandboxes not listed");
                }
                Err(_) => {}
            }
            sleep(TRY_AGAIN).await;
        }
    }

    /// Whether there is something with the name of a launch, readable or not; `true` where that cannot be found out.
    async fn is_named(&self, id: &LaunchId) -> bool {
        let launcher = Arc::clone(&self.launcher);
        let Ok(entries) = aside(async move { launcher.reap(&NOTHING).await }).await else {
            return true;
        };
        let mut ids = [&entries.kept, &entries.removed, &entries.failed].into_iter().flatten();
        let mut foreign = entries.foreign.iter().filter_map(|path| path.file_name());
        ids.any(|other| other == id) || foreign.any(|name| name == id.as_str())
    }

    /// Goes on with a launch that was found. One that never got its assignment is removed, so that it can be made anew.
    async fn take_up(&self, tended: &Tended, found: Discovered) -> Option<Handle> {
        let handle = loop {
            match self.launcher.attach(&found.record).await {
                Ok(handle) => break handle,
                Err(AttachError::Gone { .. }) => return None,
                Err(error) => {
                    tracing::warn!(launch.id = %found.id, error = %error_chain(&error), "sandbox not attached");
                    sleep(TRY_AGAIN).await;
                }
            }
        };
        let never_started = match &found.state {
            LaunchState::Created => true,
            LaunchState::Ended(exit) => matches!(exit.outcome, Outcome::NeverStarted(_)),
            LaunchState::Running { .. } | LaunchState::Stopping { .. } => false,
        };
        if !never_started || tended.facts.borrow().status != RunStatus::Launching {
            tracing::info!(run.id = %tended.key.run, "sandbox found again");
            if let LaunchState::Running { .. } = found.state {
                self.let_in_again(&found).await;
            }
            return Some(handle);
        }
        self.outfitter.dismiss(&found.id).await;
        handle.stop(StopRequest::new("it was never assigned", Duration::ZERO)).await;
        if let Err(error) = handle.destroy(Destroy::Everything).await {
            tracing::warn!(launch.id = %found.id, error = %error_chain(&error), "unused sandbox not removed");
        }
        None
    }

    /// A container that was found again reaches what it did, whatever has become of the list of those that may.
    async fn let_in_again(&self, found: &Discovered) {
        if let Err(fault) = self.outfitter.admit_again(&found.id).await {
            tracing::warn!(launch.id = %found.id, "sandbox not let in again: {}", fault.text());
        }
    }

    /// What the run is finished with: what it reported or how it ended, and where that is a success, what came of its
    /// result.
    async fn report(&self, tended: &Tended, ended: Option<&Ended>) -> RunReport {
        let reported = self.reported(tended.key.run).await;
        let last_words = match (&reported, ended) {
            (None, Some(ended)) => Some(ended.handle.last_words().await),
            (Some(_), _) | (None, None) => None,
        };
        let exit = ended.map(|ended| &ended.exit);
        let mut report = judge(reported, exit, last_words.as_deref());
        (report.commit, report.branch) = (None, None);
        if report.outcome == RunOutcome::Succeeded || report.outcome == RunOutcome::NoChange {
            report = self.result(tended, report).await;
        }
        report
    }

    /// What the worker said of its run.
    async fn reported(&self, run: RunId) -> Option<RunReport> {
        let run = patiently(|| self.store.run(run)).await?;
        run.report.filter(|_| run.status == RunStatus::Collecting)
    }

    async fn finish(&self, key: RunKey, report: &RunReport) -> Left {
        loop {
            match self.store.finish_run(key, report).await {
                Ok(finished) => {
                    tracing::info!(
                        run.id = %key.run,
                        outcome = %report.outcome,
                        task.status = %finished.task_state.status(),
                        "run in a sandbox ended"
                    );
                    return Left::Over;
                }
                Err(FencedError::Fenced { .. }) => return Left::Lost,
                Err(FencedError::Store(error)) if error.is_transient() => {}
                Err(FencedError::Store(error)) => {
                    tracing::error!(run.id = %key.run, error = %error_chain(&error), "run not finished");
                }
            }
            sleep(TRY_AGAIN).await;
        }
    }

    async fn is_over(&self, run: RunId) -> bool {
        let found = self.store.run(run).await;
        matches!(found, Ok(Some(run)) if run.status == RunStatus::Ended)
    }

    /// Removes what is left of a run that is over. What fails is left to the next sweep.
    async fn clean_up(&self, run: RunId) {
        let id = launch_id(run);
        self.outfitter.dismiss(&id).await;
        let launcher = Arc::clone(&self.launcher);
        match aside(async move { launcher.discover().await }).await {
            Ok(launches) => {
                for found in launches.iter().filter(|found| found.id == id) {
                    self.remove_launch(found).await;
                }
            }
            Err(error) => {
                tracing::warn!(run.id = %run, error = %error_chain(&error), "sandbox not removed yet");
            }
        }
        match self.outfitter.checkouts() {
            Ok(checkouts) => {
                if let Err(error) = checkouts.remove(run).await {
                    tracing::warn!(run.id = %run, error = %error_chain(&error), "checkout not removed");
                }
            }
            Err(error) => tracing::warn!(run.id = %run, %error, "checkout not removed yet"),
        }
    }

    async fn remove_launch(&self, found: &Discovered) {
        let Ok(handle) = self.launcher.attach(&found.record).await else { return };
        handle.stop(StopRequest::new("its run is over", Duration::ZERO)).await;
        if let Err(error) = handle.destroy(Destroy::Everything).await {
            tracing::warn!(launch.id = %found.id, error = %error_chain(&error), "sandbox not removed yet");
        }
    }
}

/// The launch of a run's sandbox: known before it is there.
#[must_use]
pub fn launch_id(run: RunId) -> LaunchId {
    let text = format!("{run}.sandbox");
    text.parse().expect("a run id, a point and a word make a launch id")
}

/// Asks the database until it answers.
async fn patiently<T, F>(ask: impl Fn() -> F) -> T
where
    F: Future<Output = Result<T, StoreError>>,
{
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(error) => {
                tracing::warn!(error = %error_chain(&error), "the database fails, trying again");
                sleep(TRY_AGAIN).await;
            }
        }
    }
}
