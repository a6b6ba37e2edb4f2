//! One launch as a handle sees it, and the task that watches it.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use tokio::sync::watch;
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use super::{
    Launch, aside, follow,
    site::{self, Finding, Site},
    watcher::Watcher,
};
use crate::{
    error::{HandleError, LogError},
    handle::{Destroy, HandleBackend, HandleRecord, LaunchState, LaunchStats, StopRequest},
    id::LaunchId,
    outcome::ExitReport,
    output::{LogChunk, LogCursor},
};

/// The longest reason that travels to the shim; with it a request fits into one atomic write.
const MAX_REASON: usize = 1000;
/// Tries to hand over a request before the shim is signalled instead.
const ASKS: u32 = 50;
/// Beyond the grace: the shim gives up what it cannot kill after 30 s.
const SHIM_PATIENCE: Duration = Duration::from_secs(35);

/// A view of one launch.
#[derive(Debug, Clone)]
pub(crate) struct View {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    site: Arc<dyn Site>,
    launch: Launch,
    state: watch::Sender<LaunchState>,
    /// Ends the watching task with the last view.
    _watching: DropGuard,
}

impl View {
    /// A view whose first finding is known already.
    pub(crate) fn new(
        site: Arc<dyn Site>,
        launch: Launch,
        first: &Finding,
        tasks: &TaskTracker,
    ) -> Self {
        let (state, _) = watch::channel(first.as_state());
        let unwatched = CancellationToken::new();
        if !matches!(first, Finding::Ended(_)) {
            let watcher =
                Watcher { site: Arc::clone(&site), launch: launch.clone(), state: state.clone() };
            // Now, because the directory may be removed before the task has its first look.
            let life = match first {
                Finding::Running { shim, .. } => watcher.life(*shim),
                Finding::Created { .. } | Finding::Ended(_) => None,
            };
            let stop = unwatched.clone();
            // Ends with the last view or with the launch; its failures become the state.
            tasks.spawn(async move { stop.run_until_cancelled(watcher.run(life)).await });
        }
        let _watching = unwatched.drop_guard();
        Self { shared: Arc::new(Shared { site, launch, state, _watching }) }
    }

    async fn find(&self) -> io::Result<Finding> {
        self.shared.site.look(&self.shared.launch).await
    }

    async fn ended(&self) -> ExitReport {
        let mut state = self.shared.state.subscribe();
        loop {
            if let LaunchState::Ended(report) = &*state.borrow_and_update() {
                return report.clone();
            }
            if state.changed().await.is_err() {
                // We hold the sender ourselves.
                std::future::pending::<()>().await;
            }
        }
    }

    fn publish(&self, report: &ExitReport) {
        self.shared.state.send_replace(LaunchState::Ended(report.clone()));
    }

    fn io_error(&self, what: &'static str) -> impl FnOnce(io::Error) -> HandleError + '_ {
        move |source| HandleError::Io { id: self.shared.launch.intent.id.clone(), what, source }
    }

    fn ended_error(&self) -> HandleError {
        HandleError::Ended { id: self.shared.launch.intent.id.clone() }
    }

    /// Waits for the end that was asked for. A shim that stands still is woken, and one that does
    /// not answer at all is killed with everything below it.
    async fn see_to_end(&self, grace: Duration) -> ExitReport {
        let asked = Instant::now();
        let woken_after = grace.saturating_add(Duration::from_secs(2));
        loop {
            let step = Duration::from_secs(1);
            if let Ok(report) = tokio::time::timeout(step, self.ended()).await {
                return report;
            }
            let shim = match self.find().await {
                Ok(Finding::Running { shim, .. } | Finding::Created { shim: Some(shim) }) => shim,
                Ok(Finding::Ended(report)) => {
                    self.publish(&report);
                    return report;
                }
                Ok(Finding::Created { shim: None }) => {
                    // The shim died before it took its input. A directory that is gone is told by
                    // the watcher.
                    let Shared { site, launch, .. } = &*self.shared;
                    if let Ok(Some(report)) = site.abandon(launch).await {
                        self.publish(&report);
                        return report;
                    }
                    continue;
                }
                Err(_) => continue,
            };
            let Shared { site, launch, .. } = &*self.shared;
            if asked.elapsed() > woken_after {
                site.wake(launch, shim).await;
            }
            if asked.elapsed() > grace.saturating_add(SHIM_PATIENCE) {
                site.kill(launch, shim).await;
            }
        }
    }

    /// Hands a request to the shim. A report: the launch is over and needs none.
    async fn ask(&self, line: &str, is_last: bool) -> io::Result<Option<ExitReport>> {
        let Shared { site, launch, .. } = &*self.shared;
        let (directory, line) = (launch.directory.clone(), line.to_owned());
        let Err(error) = aside(move || directory.write_control(&line)).await else {
            return Ok(None);
        };
        match site.look(launch).await? {
            Finding::Ended(report) => return Ok(Some(report)),
            Finding::Created { shim: None } => {
                if let Some(report) = site.abandon(launch).await? {
                    return Ok(Some(report));
                }
            }
            // The fifo is full, or gone, or something else: the shim knows what a signal means.
            Finding::Running { shim, .. } | Finding::Created { shim: Some(shim) } => {
                if is_last && site.terminate(launch, shim).await {
                    return Ok(None);
                }
            }
        }
        Err(error)
    }

    /// Removes an ended launch; `false`: it runs.
    async fn remove(&self, what: Destroy) -> io::Result<bool> {
        let Shared { site, launch, .. } = &*self.shared;
        if !launch.directory.has("intent.json")? {
            return Ok(true);
        }
        match site.look(launch).await? {
            Finding::Running { .. } | Finding::Created { shim: Some(_) } => return Ok(false),
            // Somebody may be about to start it.
            Finding::Created { shim: None } if site.abandon(launch).await?.is_none() => {
                return Ok(false);
            }
            Finding::Created { shim: None } | Finding::Ended(_) => {}
        }
        site.clear(launch).await?;
        let (store, launch) = (Arc::clone(site.store()), launch.clone());
        aside(move || match what {
            Destroy::Everything => store.remove(launch.id()),
            Destroy::KeepLogs => keep_logs(&launch),
        })
        .await?;
        Ok(true)
    }
}

fn keep_logs(Launch { directory, .. }: &Launch) -> io::Result<()> {
    let kept = |name: &str| {
        matches!(name, "." | ".." | "intent.json" | "exit.json" | "verdict.json")
            || name.starts_with("out")
    };
    let names = directory.names()?;
    names.iter().filter(|name| !kept(name)).try_for_each(|name| directory.remove_file(name))
}

#[async_trait]
impl HandleBackend for View {
    fn id(&self) -> &LaunchId {
        &self.shared.launch.intent.id
    }

    fn record(&self) -> HandleRecord {
        site::record(self.shared.site.as_ref(), &self.shared.launch)
    }

    fn state(&self) -> watch::Receiver<LaunchState> {
        self.shared.state.subscribe()
    }

    fn logs(&self, from: LogCursor) -> BoxStream<'static, Result<LogChunk, LogError>> {
        let state = self.shared.state.subscribe();
        follow::follow(self.shared.launch.directory.clone(), from, state, self.clone())
    }

    async fn renew(&self) -> Result<(), HandleError> {
        let directory = self.shared.launch.directory.clone();
        match aside(move || directory.write_control("renew\n")).await {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(self.ended_error()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                Err(HandleError::NotAnswering { id: self.id().clone() })
            }
            Err(error) => Err(self.io_error("renew the lease")(error)),
        }
    }

    async fn stop(&self, request: StopRequest) -> ExitReport {
        let StopRequest { reason, grace } = request;
        let reason: String = reason.chars().map(|c| if c == '\n' { ' ' } else { c }).collect();
        let cut = reason.char_indices().map(|(at, c)| at + c.len_utf8());
        let end = cut.take_while(|end| *end <= MAX_REASON).last().unwrap_or(0);
        let reason = reason.get(..end).unwrap_or_default().to_owned();
        let line = format!("stop {} {reason}\n", grace.as_millis().min(u64::MAX.into()));
        // The first try at once, so that a caller that polled first has asked first. It waits for
        // nobody: the fifo takes the line or does not.
        let is_told = self.shared.launch.directory.write_control(&line).is_ok();
        let tries = if is_told { 0 } else { ASKS };
        for tries_left in (0..tries).rev() {
            match self.ask(&line, tries_left == 0).await {
                Ok(Some(report)) => {
                    self.publish(&report);
                    return report;
                }
                Ok(None) => break,
                // The fifo is full of requests that the shim has not read yet, or the shim is about
                // to make or to remove it.
                Err(_) if tries_left > 0 => tokio::time::sleep(Duration::from_millis(20)).await,
                Err(_) => {}
            }
        }
        self.shared.state.send_if_modified(|state| {
            let is_new = matches!(state, LaunchState::Created | LaunchState::Running { .. });
            if is_new {
                *state = LaunchState::Stopping { reason };
            }
            is_new
        });
        self.see_to_end(grace).await
    }

    async fn stats(&self) -> Result<LaunchStats, HandleError> {
        let usage = self.shared.site.usage(&self.shared.launch).await?;
        usage.ok_or_else(|| self.ended_error())
    }

    async fn destroy(&self, what: Destroy) -> Result<(), HandleError> {
        if self.remove(what).await.map_err(self.io_error("remove the files"))? {
            Ok(())
        } else {
            Err(HandleError::StillRunning { id: self.id().clone() })
        }
    }
}
