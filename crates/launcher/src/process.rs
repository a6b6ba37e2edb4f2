//! Launches on this machine, each under a shim of its own.
//!
//! It owns the order of operations; `docs/launcher.md` shows it with the layout of a launch
//! directory and the recovery table. It keeps nothing in memory that a second launcher on the same
//! state directory would have to know.

mod cgroup;
mod directory;
mod evidence;
mod follow;
#[expect(dead_code, reason = "the host writes input frames and reads output frames only")]
#[path = "../shim/format.rs"]
mod format;
mod housekeeping;
mod log;
mod procfs;
mod records;
mod start;
mod store;
mod view;
mod watcher;

use std::{
    collections::BTreeMap,
    fmt, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, Weak},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use tokio_util::task::TaskTracker;

use self::{
    directory::Directory,
    evidence::Finding,
    format::VERSION,
    records::{Cgroups, Intent},
    start::{Answer, Hello, WaitingShim},
    store::{Place, Store},
    view::View,
};
use crate::{
    error::{AttachError, LaunchError, LauncherError, ProbeError},
    handle::{Handle, HandleRecord, RECORD_VERSION},
    id::LaunchId,
    launcher::{Capabilities, Created, Discovered, Launched, Launcher, ReapPolicy, ReapReport},
    outcome::Outcome,
    spec::{Input, LaunchSpec},
};

/// How long a caller waits for another one to assign the launch that both want.
const ASSIGNMENT_PATIENCE: Duration = Duration::from_secs(30);

/// Launches commands on this machine. Cheap to clone; any number of them, in any number of
/// processes, may use one state directory.
#[derive(Clone)]
pub struct ProcessLauncher {
    store: Arc<Store>,
    tasks: TaskTracker,
    /// One starter per id at a time within this process; between processes the launch lock decides.
    starting: Arc<Mutex<BTreeMap<LaunchId, Weak<tokio::sync::Mutex<()>>>>>,
}

/// What `create` hands to `assign`.
struct Waiting {
    directory: Directory,
    intent: Intent,
    spec: LaunchSpec,
    /// The shim that waits for us; `None`: the launch is another caller's.
    shim: Option<(Box<WaitingShim>, Cgroups)>,
}

impl ProcessLauncher {
    /// A launcher on `<state_dir>/launches`, which is made if it is missing.
    ///
    /// # Errors
    /// When the directory cannot be made, read or written, or is of another version.
    pub fn new(state_dir: impl Into<PathBuf>) -> Result<Self, LauncherError> {
        let store = Store::open(&state_dir.into())?;
        let starting = Arc::new(Mutex::new(BTreeMap::new()));
        Ok(Self { store: Arc::new(store), tasks: TaskTracker::new(), starting })
    }

    /// The state directory, absolute.
    #[must_use]
    pub fn state_dir(&self) -> &Path {
        self.store.state_dir()
    }

    /// The id of the store of launches below it: what [`HandleRecord::store`] names.
    #[must_use]
    pub fn store_id(&self) -> &str {
        &self.store.id
    }

    /// Where the launch directory of an id is or would be.
    #[must_use]
    pub fn launch_dir(&self, id: &LaunchId) -> PathBuf {
        self.store.path(id)
    }

    fn handle(&self, directory: Directory, intent: Intent, finding: &Finding) -> Handle {
        let store = Arc::clone(&self.store);
        Handle::new(View::new(store, directory, intent, finding, &self.tasks))
    }

    fn starter(&self, id: &LaunchId) -> Arc<tokio::sync::Mutex<()>> {
        let mut starting = self.starting.lock().unwrap_or_else(PoisonError::into_inner);
        starting.retain(|_, lock| lock.strong_count() > 0);
        if let Some(lock) = starting.get(id).and_then(Weak::upgrade) {
            return lock;
        }
        let lock = Arc::new(tokio::sync::Mutex::new(()));
        starting.insert(id.clone(), Arc::downgrade(&lock));
        lock
    }

    /// Directory, intent and cgroup: everything that must be there before the process is.
    fn prepare(&self, id: &LaunchId, spec: &LaunchSpec) -> Result<Prepared, LaunchError> {
        self.store.hierarchies().check(&spec.limits)?;
        let shim = self
            .store
            .shim()
            .map_err(|(path, source)| LaunchError::ShimUnusable { path, source })?;
        let (directory, intent) = match self.store.place(id, spec)? {
            Place::Made(directory, intent) => (directory, intent),
            Place::Found(directory, intent) => {
                let found = evidence::look(&directory, &intent);
                let found = found.map_err(|source| self.io_error(id, "look at", source))?;
                if !matches!(found, Finding::Created { shim: None }) {
                    return Ok(Prepared { directory, intent, shim, cgroups: None });
                }
                // A crash left it between intent and shim: go on where it stopped.
                (directory, intent)
            }
        };
        let name = cgroup::name(self.store.launches(), id);
        let cgroups = self.store.hierarchies().make(&name, &spec.limits)?;
        let json = serde_json::to_vec(&cgroups)
            .map_err(|error| self.io_error(id, "describe the cgroups of", error.into()))?;
        directory
            .replace("cgroup.json", &json)
            .map_err(|source| self.io_error(id, "describe the cgroups of", source))?;
        Ok(Prepared { directory, intent, shim, cgroups: Some(cgroups) })
    }

    async fn start_shim(
        &self,
        prepared: Prepared,
        spec: &LaunchSpec,
    ) -> Result<Waiting, LaunchError> {
        let Prepared { directory, intent, shim: path, cgroups } = prepared;
        let waiting = |shim| Waiting { directory, intent, spec: spec.clone(), shim };
        let Some(cgroups) = cgroups else {
            return Ok(waiting(None));
        };
        let place = waiting(None);
        match start::start(&path, place.directory.path()).await {
            Ok(Hello::Ready(shim)) => Ok(Waiting { shim: Some((shim, cgroups)), ..place }),
            Ok(Hello::Taken) => Ok(place),
            Err(source) => Err(start::error(path, source)),
        }
    }

    /// Waits for what another caller makes of the launch. `None`: nobody has it any more.
    async fn join(
        &self,
        directory: &Directory,
        intent: &Intent,
    ) -> Result<Option<Launched>, LaunchError> {
        let id = &intent.id;
        let deadline = Instant::now() + ASSIGNMENT_PATIENCE;
        let mut pause = Duration::from_millis(2);
        loop {
            let found = look(directory, intent)
                .await
                .map_err(|source| self.io_error(id, "look at", source))?;
            match &found {
                // Accepted, but it may still turn out that the program cannot be executed.
                Finding::Running { since: None, .. } | Finding::Created { shim: Some(_) } => {}
                Finding::Running { .. } => {
                    let handle = self.handle(directory.clone(), intent.clone(), &found);
                    return Ok(Some(Launched::AlreadyRunning(handle)));
                }
                Finding::Ended(report) => {
                    if let Outcome::NeverStarted(failure) = &report.outcome {
                        return Err(failure.clone().into());
                    }
                    let handle = self.handle(directory.clone(), intent.clone(), &found);
                    return Ok(Some(Launched::AlreadyExited(handle)));
                }
                Finding::Created { shim: None } => return Ok(None),
            }
            if Instant::now() > deadline {
                return Err(LaunchError::AwaitsAssignment { id: id.clone() });
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }

    fn io_error(&self, id: &LaunchId, what: &'static str, source: io::Error) -> LaunchError {
        LaunchError::Io { what, path: self.store.path(id), source }
    }
}

/// A launch with everything but the shim; without cgroups it is another caller's already.
struct Prepared {
    directory: Directory,
    intent: Intent,
    shim: PathBuf,
    cgroups: Option<Cgroups>,
}

/// Looks at a launch away from the caller's thread, which may be the only one.
async fn look(directory: &Directory, intent: &Intent) -> io::Result<Finding> {
    let (directory, intent) = (directory.clone(), intent.clone());
    aside(move || evidence::look(&directory, &intent)).await
}

/// Does what may wait for a disk away from the caller's thread.
async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other).flatten()
}

#[async_trait]
impl Launcher for ProcessLauncher {
    async fn probe(&self) -> Result<Capabilities, ProbeError> {
        let store = Arc::clone(&self.store);
        let unusable = |path, source| ProbeError::ShimUnusable { path, source };
        tokio::task::spawn_blocking(move || store.shim().map(drop))
            .await
            .map_err(|error| unusable(self.store.state_dir().to_owned(), io::Error::other(error)))?
            .map_err(|(path, source)| unusable(path, source))?;
        let hierarchies = self.store.hierarchies();
        let (limit_memory, limit_cpu, limit_processes) = hierarchies.limits();
        Ok(Capabilities {
            cgroup: hierarchies.support(),
            limit_memory,
            limit_cpu,
            limit_processes,
            other_users: rustix::process::geteuid().is_root(),
            shared_directory: true,
        })
    }

    async fn create(&self, id: &LaunchId, spec: &LaunchSpec) -> Result<Created, LaunchError> {
        spec.validate()?;
        if spec.container.is_some() {
            let why = "this launcher starts processes of the host".to_owned();
            return Err(LaunchError::InvalidSpec { field: "container", why });
        }
        let starter = self.starter(id);
        let _one_at_a_time = starter.lock().await;
        let prepare = (self.clone(), id.clone(), spec.clone());
        let prepare = move || prepare.0.prepare(&prepare.1, &prepare.2);
        let prepared = tokio::task::spawn_blocking(prepare)
            .await
            .map_err(|error| self.io_error(id, "make", io::Error::other(error)))??;
        let waiting = self.start_shim(prepared, spec).await?;
        Ok(Created::new(id.clone(), waiting))
    }

    async fn assign(&self, created: Created, input: Input) -> Result<Launched, LaunchError> {
        input.validate()?;
        let mut created = created;
        for _ in 0..3 {
            let id = created.id().clone();
            let Some(waiting) = created.into_parts::<Waiting>() else {
                let why = "it was made by another kind of launcher".to_owned();
                return Err(LaunchError::InvalidSpec { field: "created", why });
            };
            let Waiting { directory, intent, spec, shim } = waiting;
            let Some((shim, cgroups)) = shim else {
                if let Some(launched) = self.join(&directory, &intent).await? {
                    return Ok(launched);
                }
                created = self.create(&id, &spec).await?;
                continue;
            };
            return match shim.begin(start::frame(&spec, input, &cgroups)).await {
                Answer::Started(child) => {
                    self.reap_when_done(*child);
                    let found = look(&directory, &intent)
                        .await
                        .map_err(|source| self.io_error(&id, "look at", source))?;
                    Ok(Launched::Started(self.handle(directory, intent, &found)))
                }
                Answer::Failed(failure) => Err(failure.into()),
                Answer::Silent => match self.join(&directory, &intent).await? {
                    Some(launched) => Ok(launched),
                    None => Err(LaunchError::ShimUnusable {
                        path: directory.path().to_owned(),
                        source: io::Error::other("the shim ended before it took the input"),
                    }),
                },
            };
        }
        Err(LaunchError::AwaitsAssignment { id: created.id().clone() })
    }

    async fn attach(&self, record: &HandleRecord) -> Result<Handle, AttachError> {
        let HandleRecord { version, kind, id, store, spec_hash, boot_id: _ } = record;
        let id = id.clone();
        if *version != RECORD_VERSION {
            return Err(AttachError::Incompatible { id, found: *version, known: RECORD_VERSION });
        }
        if kind != view::KIND || *store != self.store.id {
            return Err(AttachError::Foreign { id, owner: format!("{kind}:{store}") });
        }
        let path = self.store.path(&id);
        let fail = |source| AttachError::Io { path: path.clone(), source };
        let (store, wanted) = (Arc::clone(&self.store), id.clone());
        let found = aside(move || store.find(&wanted)).await.map_err(fail)?;
        let Some((directory, intent)) = found else {
            return Err(AttachError::Gone { id });
        };
        if intent.version != VERSION {
            let found = intent.version;
            return Err(AttachError::Incompatible { id, found, known: VERSION });
        }
        if intent.spec_hash != *spec_hash {
            // The one that was meant is gone; another has its id now.
            return Err(AttachError::Gone { id });
        }
        let found = look(&directory, &intent).await.map_err(fail)?;
        Ok(self.handle(directory, intent, &found))
    }

    async fn discover(&self) -> Result<Vec<Discovered>, LauncherError> {
        self.aside(Self::list).await
    }

    async fn reap(&self, policy: &ReapPolicy) -> Result<ReapReport, LauncherError> {
        self.sweep(policy).await
    }
}

impl ProcessLauncher {
    /// The shim is our child for as long as we live, so it is reaped here. It needs us for nothing.
    fn reap_when_done(&self, mut shim: tokio::process::Child) {
        self.tasks.spawn(async move { shim.wait().await });
    }
}

impl fmt::Debug for ProcessLauncher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state_dir = self.state_dir();
        f.debug_struct("ProcessLauncher").field("state_dir", &state_dir).finish_non_exhaustive()
    }
}
