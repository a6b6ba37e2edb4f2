//! A launcher that starts nothing and keeps the same contract, for tests of code above launchers.
//!
//! What a launch does is set by its program with [`FakeLauncher::on`]; a program that nobody set
//! exits with 0. Everything lives in memory, so a clone is "another process on the same store".

mod launch;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio_util::task::TaskTracker;

use self::launch::{Launch, Output, Request, View};
use crate::{
    error::{AttachError, LaunchError, LauncherError, ProbeError},
    handle::{Handle, HandleRecord, LaunchState, RECORD_VERSION},
    id::LaunchId,
    launcher::{
        Capabilities, CgroupSupport, Created, Discovered, Launched, Launcher, ReapPolicy,
        ReapReport,
    },
    outcome::{ExitReport, Outcome, StartFailure},
    output::LogStream,
    spec::{Input, LaunchSpec},
};

const KIND: &str = "fake";

/// What a launch of a program does.
#[derive(Debug, Clone)]
pub struct Behaviour {
    /// Set: it does not start.
    pub start_failure: Option<StartFailure>,
    /// Printed first.
    pub output: Vec<(LogStream, Bytes)>,
    /// Whether it prints its standard input next.
    pub echo_stdin: bool,
    /// Then it works for so long.
    pub runs_for: Duration,
    /// How it ends.
    pub end: End,
}

/// How a fake launch ends when its time is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It exits.
    Exit(i32),
    /// A signal ends it.
    Signal(i32),
    /// It goes on until it is stopped, and then ends when it is asked.
    Hang,
    /// It goes on until it is killed.
    HangDeaf,
    /// Its shim dies.
    Lost,
}

/// A launcher in memory. Clones share their launches.
#[derive(Debug, Clone)]
pub struct FakeLauncher {
    store: String,
    tasks: TaskTracker,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    behaviours: BTreeMap<PathBuf, Behaviour>,
    launches: BTreeMap<LaunchId, Arc<Launch>>,
    inputs: BTreeMap<LaunchId, Input>,
}

/// What `create` hands to `assign`. Dropped unassigned by its owner, the launch never starts.
struct Waiting {
    launch: Arc<Launch>,
    owned: Option<mpsc::UnboundedReceiver<Request>>,
}

impl Default for Behaviour {
    /// Prints nothing and exits with 0.
    fn default() -> Self {
        Self {
            start_failure: None,
            output: Vec::new(),
            echo_stdin: false,
            runs_for: Duration::ZERO,
            end: End::Exit(0),
        }
    }
}

impl Behaviour {
    /// Ends like this at once.
    #[must_use]
    pub fn ending(end: End) -> Self {
        Self { end, ..Self::default() }
    }

    /// Prints this to standard output, then exits with a code.
    pub fn printing(text: impl Into<Bytes>, code: i32) -> Self {
        let output = vec![(LogStream::Stdout, text.into())];
        Self { output, end: End::Exit(code), ..Self::default() }
    }
}

impl FakeLauncher {
    /// A launcher without launches.
    #[must_use]
    pub fn new() -> Self {
        let shared = Arc::new(Mutex::new(Shared::default()));
        let store = format!("fake-{:p}", Arc::as_ptr(&shared));
        Self { store, tasks: TaskTracker::new(), shared }
    }

    /// Sets what launches of a program do from now on.
    pub fn on(&self, program: impl Into<PathBuf>, behaviour: Behaviour) -> &Self {
        self.lock().behaviours.insert(program.into(), behaviour);
        self
    }

    /// The input with which a launch was assigned.
    #[must_use]
    pub fn input(&self, id: &LaunchId) -> Option<Input> {
        self.lock().inputs.get(id).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        lock(&self.shared)
    }

    fn find_or_make(&self, id: &LaunchId, spec: &LaunchSpec) -> Result<Waiting, LaunchError> {
        let mut shared = self.lock();
        if let Some(launch) = shared.launches.get(id) {
            if launch.spec != *spec {
                return Err(LaunchError::SpecMismatch { id: id.clone() });
            }
            return Ok(Waiting { launch: Arc::clone(launch), owned: None });
        }
        let (requests, received) = mpsc::unbounded_channel();
        let launch = Arc::new(Launch {
            id: id.clone(),
            spec: spec.clone(),
            record: HandleRecord {
                version: RECORD_VERSION,
                kind: KIND.to_owned(),
                id: id.clone(),
                store: self.store.clone(),
                spec_hash: spec.hash(),
                boot_id: "fake".to_owned(),
            },
            created_at: Timestamp::now(),
            state: watch::Sender::new(LaunchState::Created),
            output: watch::Sender::new(Output::default()),
            requests,
            shared: Arc::clone(&self.shared),
        });
        shared.launches.insert(id.clone(), Arc::clone(&launch));
        Ok(Waiting { launch, owned: Some(received) })
    }

    fn begin(
        &self,
        launch: &Arc<Launch>,
        input: Input,
        requests: mpsc::UnboundedReceiver<Request>,
    ) {
        let behaviour = {
            let mut shared = self.lock();
            shared.inputs.insert(launch.id.clone(), input.clone());
            shared.behaviours.get(&launch.spec.program).cloned().unwrap_or_default()
        };
        if let Some(failure) = behaviour.start_failure {
            launch.end(Outcome::NeverStarted(failure), None, None);
            return;
        }
        let since = Timestamp::now();
        launch.state.send_replace(LaunchState::Running { since: Some(since) });
        let launch = Arc::clone(launch);
        // Ends with its launch; it has no failures.
        self.tasks.spawn(async move { launch.run(behaviour, input, requests, since).await });
    }
}

impl Default for FakeLauncher {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Launcher for FakeLauncher {
    async fn probe(&self) -> Result<Capabilities, ProbeError> {
        Ok(Capabilities {
            cgroup: CgroupSupport::None,
            limit_memory: false,
            limit_cpu: false,
            limit_processes: false,
            other_users: true,
            shared_directory: false,
        })
    }

    async fn create(&self, id: &LaunchId, spec: &LaunchSpec) -> Result<Created, LaunchError> {
        spec.validate()?;
        let limits = [
            ("memory_bytes", spec.limits.memory_bytes.is_some()),
            ("cpu_millis", spec.limits.cpu_millis.is_some()),
            ("processes", spec.limits.processes.is_some()),
        ];
        if let Some((limit, _)) = limits.into_iter().find(|(_, is_set)| *is_set) {
            let why = "nothing is started here".to_owned();
            return Err(LaunchError::LimitUnsupported { limit, why });
        }
        Ok(Created::new(id.clone(), self.find_or_make(id, spec)?))
    }

    async fn assign(&self, created: Created, input: Input) -> Result<Launched, LaunchError> {
        input.validate()?;
        let id = created.id().clone();
        let Some(mut waiting) = created.into_parts::<Waiting>() else {
            let why = "it was made by another kind of launcher".to_owned();
            return Err(LaunchError::InvalidSpec { field: "created", why });
        };
        let owned = waiting.owned.take();
        let is_first = owned.is_some();
        if let Some(requests) = owned {
            self.begin(&waiting.launch, input, requests);
        }
        let mut state = waiting.launch.state.subscribe();
        let begun = state.wait_for(|state| *state != LaunchState::Created).await;
        let begun = begun.map_err(|_closed| LaunchError::AwaitsAssignment { id })?.clone();
        let handle = Handle::new(View(Arc::clone(&waiting.launch)));
        match begun {
            LaunchState::Ended(ExitReport { outcome: Outcome::NeverStarted(failure), .. }) => {
                Err(failure.into())
            }
            _ if is_first => Ok(Launched::Started(handle)),
            LaunchState::Ended(_) => Ok(Launched::AlreadyExited(handle)),
            LaunchState::Created | LaunchState::Running { .. } | LaunchState::Stopping { .. } => {
                Ok(Launched::AlreadyRunning(handle))
            }
        }
    }

    async fn attach(&self, record: &HandleRecord) -> Result<Handle, AttachError> {
        let HandleRecord { version, kind, id, store, spec_hash, boot_id: _ } = record;
        let id = id.clone();
        if *version != RECORD_VERSION {
            return Err(AttachError::Incompatible { id, found: *version, known: RECORD_VERSION });
        }
        if kind != KIND || *store != self.store {
            return Err(AttachError::Foreign { id, owner: format!("{kind}:{store}") });
        }
        let launch = self.lock().launches.get(&id).map(Arc::clone);
        match launch.filter(|launch| launch.record.spec_hash == *spec_hash) {
            Some(launch) => Ok(Handle::new(View(launch))),
            None => Err(AttachError::Gone { id }),
        }
    }

    async fn discover(&self) -> Result<Vec<Discovered>, LauncherError> {
        let describe = |launch: &Arc<Launch>| Discovered {
            id: launch.id.clone(),
            labels: launch.spec.labels.clone(),
            state: launch.state.borrow().clone(),
            created_at: launch.created_at,
            record: launch.record.clone(),
        };
        Ok(self.lock().launches.values().map(describe).collect())
    }

    async fn reap(&self, policy: &ReapPolicy) -> Result<ReapReport, LauncherError> {
        let mut report = ReapReport::default();
        for found in self.discover().await? {
            let due = match &found.state {
                LaunchState::Ended(ended) => Some((ended.ended_at, policy.keep_ended)),
                LaunchState::Created
                | LaunchState::Running { .. }
                | LaunchState::Stopping { .. } => None,
            };
            let is_due = due.is_some_and(|(since, keep)| {
                let age = Timestamp::now().duration_since(since);
                Duration::try_from(age).is_ok_and(|age| age >= keep)
            });
            if !is_due {
                report.kept.push(found.id);
                continue;
            }
            if !policy.dry_run {
                self.lock().launches.remove(&found.id);
            }
            report.removed.push(found.id);
        }
        Ok(report)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.owned.is_some() {
            let incomplete = Outcome::NeverStarted(StartFailure::InputIncomplete);
            self.launch.end(incomplete, None, None);
        }
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
