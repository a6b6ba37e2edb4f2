//! One launch on this machine as a handle sees it, and the task that watches it.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use jiff::Timestamp;
use rustix::process::Signal;
use tokio::sync::watch;
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use super::{
    aside, cgroup,
    directory::Directory,
    evidence::{self, Finding},
    follow,
    format::VERSION,
    look, procfs,
    records::{Cgroups, Identity, Intent},
    store::Store,
    watcher::Watcher,
};
use crate::{
    error::{HandleError, LogError},
    handle::{Destroy, HandleBackend, HandleRecord, LaunchState, LaunchStats, StopRequest},
    id::LaunchId,
    outcome::ExitReport,
    output::{LogChunk, LogCursor},
};

/// The name of this launcher in records.
pub(crate) const KIND: &str = "process";
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
    store: Arc<Store>,
    directory: Directory,
    intent: Intent,
    state: watch::Sender<LaunchState>,
    /// Ends the watching task with the last view.
    _watching: DropGuard,
}

impl View {
    /// A view whose first finding is known already.
    pub(crate) fn new(
        store: Arc<Store>,
        directory: Directory,
        intent: Intent,
        first: &Finding,
        tasks: &TaskTracker,
    ) -> Self {
        let (state, _) = watch::channel(as_state(first));
        let unwatched = CancellationToken::new();
        if !matches!(first, Finding::Ended(_)) {
            let watcher = Watcher {
                directory: directory.clone(),
                intent: intent.clone(),
                state: state.clone(),
            };
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
        Self { shared: Arc::new(Shared { store, directory, intent, state, _watching }) }
    }

    async fn find(&self) -> io::Result<Finding> {
        look(&self.shared.directory, &self.shared.intent).await
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
        move |source| HandleError::Io { id: self.shared.intent.id.clone(), what, source }
    }

    fn ended_error(&self) -> HandleError {
        HandleError::Ended { id: self.shared.intent.id.clone() }
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
                    if let Ok(Some(report)) = self.abandon().await {
                        self.publish(&report);
                        return report;
                    }
                    continue;
                }
                Err(_) => continue,
            };
            if asked.elapsed() > woken_after {
                evidence::wake(&self.shared.directory, shim);
            }
            if asked.elapsed() > grace.saturating_add(SHIM_PATIENCE) {
                let view = self.clone();
                let kill = move || {
                    let Shared { directory, intent, .. } = &*view.shared;
                    evidence::kill_with_shim(directory, intent, shim);
                };
                tokio::task::spawn_blocking(kill).await.ok();
            }
        }
    }

    async fn abandon(&self) -> io::Result<Option<ExitReport>> {
        let view = self.clone();
        aside(move || evidence::abandon(&view.shared.directory, &view.shared.intent)).await
    }

    /// Hands a request to the shim. A report: the launch is over and needs none.
    fn ask(&self, line: &str, is_last: bool) -> io::Result<Option<ExitReport>> {
        let Shared { directory, intent, .. } = &*self.shared;
        let Err(error) = directory.write_control(line) else {
            return Ok(None);
        };
        match evidence::look(directory, intent)? {
            Finding::Ended(report) => return Ok(Some(report)),
            Finding::Created { shim: None } => {
                if let Some(report) = evidence::abandon(directory, intent)? {
                    return Ok(Some(report));
                }
            }
            // The fifo is full, or gone, or something else: the shim knows what a signal means.
            Finding::Running { shim, .. } | Finding::Created { shim: Some(shim) } => {
                if is_last && evidence::signal_shim(directory, shim, Signal::TERM) {
                    return Ok(None);
                }
            }
        }
        Err(error)
    }

    /// Removes an ended launch; `false`: it runs.
    fn remove(&self, what: Destroy) -> io::Result<bool> {
        let Shared { store, directory, intent, .. } = &*self.shared;
        if !directory.has("intent.json")? {
            return Ok(true);
        }
        match evidence::look(directory, intent)? {
            Finding::Running { .. } | Finding::Created { shim: Some(_) } => return Ok(false),
            // Somebody may be about to start it.
            Finding::Created { shim: None } if evidence::abandon(directory, intent)?.is_none() => {
                return Ok(false);
            }
            Finding::Created { shim: None } | Finding::Ended(_) => {}
        }
        let cgroups: Cgroups = directory.read_if_there("cgroup.json")?.unwrap_or_default();
        let name = cgroup::name(store.launches(), &intent.id);
        cgroup::remove(&cgroups, &name);
        store.hierarchies().remove(&name);
        match what {
            Destroy::Everything => store.remove(&intent.id)?,
            Destroy::KeepLogs => {
                let kept = |name: &str| {
                    matches!(name, "." | ".." | "intent.json" | "exit.json" | "verdict.json")
                        || name.starts_with("out")
                };
                let names = directory.names()?;
                for name in names.iter().filter(|name| !kept(name)) {
                    directory.remove_file(name)?;
                }
            }
        }
        Ok(true)
    }

    fn look_at_usage(&self) -> io::Result<Option<LaunchStats>> {
        let Shared { store, directory, intent, .. } = &*self.shared;
        let Finding::Running { shim, since } = evidence::look(directory, intent)? else {
            return Ok(None);
        };
        let leader: Option<Identity> = directory.read_if_there("started.json")?;
        let cgroups: Cgroups = directory.read_if_there("cgroup.json")?.unwrap_or_default();
        let table = procfs::table();
        let mut pids = procfs::descendants(&table, shim.as_raw_pid());
        pids.extend(cgroup::members(&cgroups, &cgroup::name(store.launches(), &intent.id)));
        let usage = procfs::usage(&table, &pids);
        let uptime = since.map_or(0, |since| Timestamp::now().duration_since(since).as_millis());
        let is_leader = |identity: &Identity| {
            table.get(&identity.pid).is_some_and(|e| e.start_ticks == identity.start_ticks)
        };
        Ok(Some(LaunchStats {
            leader_pid: leader.filter(is_leader).map(|identity| identity.pid),
            memory_bytes: usage.memory_bytes,
            cpu: usage.cpu,
            processes: usage.processes,
            uptime: Duration::from_millis(u64::try_from(uptime).unwrap_or(0)),
        }))
    }
}

#[async_trait]
impl HandleBackend for View {
    fn id(&self) -> &LaunchId {
        &self.shared.intent.id
    }

    fn record(&self) -> HandleRecord {
        record(&self.shared.store, &self.shared.intent)
    }

    fn state(&self) -> watch::Receiver<LaunchState> {
        self.shared.state.subscribe()
    }

    fn logs(&self, from: LogCursor) -> BoxStream<'static, Result<LogChunk, LogError>> {
        let state = self.shared.state.subscribe();
        follow::follow(self.shared.directory.clone(), from, state, self.clone())
    }

    async fn renew(&self) -> Result<(), HandleError> {
        let directory = self.shared.directory.clone();
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
        let is_told = self.shared.directory.write_control(&line).is_ok();
        let tries = if is_told { 0 } else { ASKS };
        for tries_left in (0..tries).rev() {
            let (view, line) = (self.clone(), line.clone());
            match aside(move || view.ask(&line, tries_left == 0)).await {
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
        let view = self.clone();
        let usage = aside(move || view.look_at_usage()).await;
        usage.map_err(self.io_error("look at"))?.ok_or_else(|| self.ended_error())
    }

    async fn destroy(&self, what: Destroy) -> Result<(), HandleError> {
        let view = self.clone();
        let removed = aside(move || view.remove(what)).await;
        if removed.map_err(self.io_error("remove the files"))? {
            Ok(())
        } else {
            Err(HandleError::StillRunning { id: self.id().clone() })
        }
    }
}

/// What a database keeps of a launch.
pub(crate) fn record(store: &Store, intent: &Intent) -> HandleRecord {
    HandleRecord {
        version: VERSION,
        kind: KIND.to_owned(),
        id: intent.id.clone(),
        store: store.id.clone(),
        spec_hash: intent.spec_hash.clone(),
        boot_id: intent.boot_id.clone(),
    }
}

/// A finding as the public state.
pub(crate) fn as_state(finding: &Finding) -> LaunchState {
    match finding {
        Finding::Created { .. } => LaunchState::Created,
        Finding::Running { since, .. } => LaunchState::Running { since: *since },
        Finding::Ended(report) => LaunchState::Ended(report.clone()),
    }
}
