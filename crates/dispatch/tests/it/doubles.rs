//! A launcher that works, except where a test says that it does not.

use std::{
    collections::BTreeSet,
    io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard},
};

use async_trait::async_trait;
use futures_util::stream::{BoxStream, StreamExt as _};
use launcher::{
    error::{AttachError, HandleError, LaunchError, LauncherError, LogError, ProbeError},
    handle::{Destroy, Handle, HandleBackend, HandleRecord, LaunchState, LaunchStats, StopRequest},
    id::LaunchId,
    launcher::{Capabilities, Created, Discovered, Launched, Launcher, ReapPolicy, ReapReport},
    outcome::ExitReport,
    output::{LogChunk, LogCursor},
    process::ProcessLauncher,
    spec::{Input, LaunchSpec},
};
use tokio::sync::watch;

/// What does not work.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// Launches cannot be listed.
    NoList,
    /// This launch cannot be attached to.
    NoAttach(LaunchId),
    /// A process of this launch cannot be killed.
    Survivor(LaunchId),
}

/// A real launcher with faults.
#[derive(Debug)]
pub(crate) struct FaultyLauncher {
    inner: Arc<ProcessLauncher>,
    faults: Mutex<BTreeSet<Fault>>,
}

impl FaultyLauncher {
    pub(crate) fn new(inner: Arc<ProcessLauncher>) -> Self {
        Self { inner, faults: Mutex::default() }
    }

    pub(crate) fn breaks(&self, fault: Fault) {
        self.faults().insert(fault);
    }

    pub(crate) fn works_again(&self) {
        self.faults().clear();
    }

    fn faults(&self) -> MutexGuard<'_, BTreeSet<Fault>> {
        self.faults.lock().expect("no test panics while it holds this")
    }
}

#[async_trait]
impl Launcher for FaultyLauncher {
    async fn probe(&self) -> Result<Capabilities, ProbeError> {
        self.inner.probe().await
    }

    async fn create(&self, id: &LaunchId, spec: &LaunchSpec) -> Result<Created, LaunchError> {
        self.inner.create(id, spec).await
    }

    async fn assign(&self, created: Created, input: Input) -> Result<Launched, LaunchError> {
        self.inner.assign(created, input).await
    }

    async fn attach(&self, record: &HandleRecord) -> Result<Handle, AttachError> {
        if self.faults().contains(&Fault::NoAttach(record.id.clone())) {
            return Err(AttachError::Io { path: PathBuf::from("launches"), source: broken() });
        }
        let handle = self.inner.attach(record).await?;
        let survives = self.faults().contains(&Fault::Survivor(record.id.clone()));
        Ok(if survives { Handle::new(Survivor { inner: handle }) } else { handle })
    }

    async fn discover(&self) -> Result<Vec<Discovered>, LauncherError> {
        if self.faults().contains(&Fault::NoList) {
            let path = PathBuf::from("launches");
            return Err(LauncherError::Io { what: "list", path, source: broken() });
        }
        self.inner.discover().await
    }

    async fn reap(&self, policy: &ReapPolicy) -> Result<ReapReport, LauncherError> {
        self.inner.reap(policy).await
    }
}

fn broken() -> io::Error {
    io::Error::other("the disk fails")
}

/// A handle whose launch does not die: it says so and does nothing.
#[derive(Debug)]
struct Survivor {
    inner: Handle,
}

#[async_trait]
impl HandleBackend for Survivor {
    fn id(&self) -> &LaunchId {
        self.inner.id()
    }

    fn record(&self) -> HandleRecord {
        self.inner.record()
    }

    fn state(&self) -> watch::Receiver<LaunchState> {
        self.inner.state()
    }

    fn logs(&self, from: LogCursor) -> BoxStream<'static, Result<LogChunk, LogError>> {
        self.inner.logs(from).boxed()
    }

    async fn renew(&self) -> Result<(), HandleError> {
        self.inner.renew().await
    }

    async fn stop(&self, request: StopRequest) -> ExitReport {
        let report = self.inner.stop(request).await;
        ExitReport { survivors: 1, ..report }
    }

    async fn stats(&self) -> Result<LaunchStats, HandleError> {
        self.inner.stats().await
    }

    async fn destroy(&self, what: Destroy) -> Result<(), HandleError> {
        self.inner.destroy(what).await
    }
}
