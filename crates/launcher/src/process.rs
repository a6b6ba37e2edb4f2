//! Launches on this machine, each under a shim of its own.
//!
//! It owns the order of operations; `docs/launcher.md` shows it with the layout of a launch
//! directory and the recovery table. It keeps nothing in memory that a second launcher on the same
//! state directory would have to know.

mod cgroup;
mod site;
mod start;

use std::{
    collections::BTreeMap,
    fmt, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, Weak},
};

use async_trait::async_trait;
use tokio_util::task::TaskTracker;

use self::{
    site::HostSite,
    start::{Answer, Hello, WaitingShim},
};
use crate::{
    error::{AttachError, LaunchError, LauncherError, ProbeError},
    handle::{Handle, HandleRecord},
    id::LaunchId,
    launch::{
        Launch, attach, frame, housekeeping,
        records::Cgroups,
        site::{Finding, Site},
        store::{Place, Reach, Store},
    },
    launcher::{Capabilities, Created, Discovered, Launched, Launcher, ReapPolicy, ReapReport},
    spec::{Input, LaunchSpec},
};

/// The directory of the launches below the state directory.
const LAUNCHES: &str = "launches";

/// Launches commands on this machine. Cheap to clone; any number of them, in any number of
/// processes, may use one state directory.
#[derive(Clone)]
pub struct ProcessLauncher {
    site: HostSite,
    tasks: TaskTracker,
    /// One starter per id at a time within this process; between processes the launch lock decides.
    starting: Arc<Mutex<BTreeMap<LaunchId, Weak<tokio::sync::Mutex<()>>>>>,
}

/// What `create` hands to `assign`.
struct Waiting {
    launch: Launch,
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
        let store = Store::open(&state_dir.into(), LAUNCHES, Reach::Nobody)?;
        let starting = Arc::new(Mutex::new(BTreeMap::new()));
        Ok(Self { site: HostSite::new(store), tasks: TaskTracker::new(), starting })
    }

    /// The state directory, absolute.
    #[must_use]
    pub fn state_dir(&self) -> &Path {
        self.site.store.state_dir()
    }

    /// The id of the store of launches below it: what [`HandleRecord::store`] names.
    #[must_use]
    pub fn store_id(&self) -> &str {
        &self.site.store.id
    }

    /// Where the launch directory of an id is or would be.
    #[must_use]
    pub fn launch_dir(&self, id: &LaunchId) -> PathBuf {
        self.site.store.path(id)
    }

    fn site(&self) -> Arc<dyn Site> {
        Arc::new(self.site.clone())
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
        self.site.hierarchies().check(&spec.limits)?;
        let shim = self
            .site
            .store
            .shim()
            .map_err(|(path, source)| LaunchError::ShimUnusable { path, source })?;
        let launch = match self.site.store.place(id, spec)? {
            Place::Made(launch) => launch,
            Place::Found(launch) => {
                let found = HostSite::look_now(&launch);
                let found = found.map_err(|source| self.io_error(id, "look at", source))?;
                if !matches!(found, Finding::Created { shim: None }) {
                    return Ok(Prepared { launch, shim, cgroups: None });
                }
                // A crash left it between intent and shim: go on where it stopped.
                launch
            }
        };
        let name = cgroup::name(self.site.store.launches(), id);
        let cgroups = self.site.hierarchies().make(&name, &spec.limits)?;
        let json = serde_json::to_vec(&cgroups)
            .map_err(|error| self.io_error(id, "describe the cgroups of", error.into()))?;
        launch
            .directory
            .replace("cgroup.json", &json)
            .map_err(|source| self.io_error(id, "describe the cgroups of", source))?;
        Ok(Prepared { launch, shim, cgroups: Some(cgroups) })
    }

    async fn start_shim(
        &self,
        prepared: Prepared,
        spec: &LaunchSpec,
    ) -> Result<Waiting, LaunchError> {
        let Prepared { launch, shim: path, cgroups } = prepared;
        let place = Waiting { launch, spec: spec.clone(), shim: None };
        let Some(cgroups) = cgroups else {
            return Ok(place);
        };
        match start::start(&path, place.launch.directory.path()).await {
            Ok(Hello::Ready(shim)) => Ok(Waiting { shim: Some((shim, cgroups)), ..place }),
            Ok(Hello::Taken) => Ok(place),
            Err(source) => Err(start::error(path, source)),
        }
    }

    fn io_error(&self, id: &LaunchId, what: &'static str, source: io::Error) -> LaunchError {
        LaunchError::Io { what, path: self.site.store.path(id), source }
    }
}

/// A launch with everything but the shim; without cgroups it is another caller's already.
struct Prepared {
    launch: Launch,
    shim: PathBuf,
    cgroups: Option<Cgroups>,
}

#[async_trait]
impl Launcher for ProcessLauncher {
    async fn probe(&self) -> Result<Capabilities, ProbeError> {
        let store = Arc::clone(&self.site.store);
        let unusable = |path, source| ProbeError::ShimUnusable { path, source };
        tokio::task::spawn_blocking(move || store.shim().map(drop))
            .await
            .map_err(|error| {
                unusable(self.site.store.state_dir().to_owned(), io::Error::other(error))
            })?
            .map_err(|(path, source)| unusable(path, source))?;
        let hierarchies = self.site.hierarchies();
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
        let (site, mut created) = (self.site(), created);
        for _ in 0..3 {
            let id = created.id().clone();
            let Some(waiting) = created.into_parts::<Waiting>() else {
                let why = "it was made by another kind of launcher".to_owned();
                return Err(LaunchError::InvalidSpec { field: "created", why });
            };
            let Waiting { launch, spec, shim } = waiting;
            let Some((shim, cgroups)) = shim else {
                if let Some(launched) = attach::join(&site, &launch, &self.tasks).await? {
                    return Ok(launched);
                }
                created = self.create(&id, &spec).await?;
                continue;
            };
            return match shim.begin(frame::frame(&spec, input, &cgroups)).await {
                Answer::Started(child) => {
                    self.reap_when_done(*child);
                    let found = site.look(&launch).await;
                    let found = found.map_err(|source| self.io_error(&id, "look at", source))?;
                    Ok(Launched::Started(attach::handle(&site, launch, &found, &self.tasks)))
                }
                Answer::Failed(failure) => Err(failure.into()),
                Answer::Silent => match attach::join(&site, &launch, &self.tasks).await? {
                    Some(launched) => Ok(launched),
                    None => Err(LaunchError::ShimUnusable {
                        path: launch.directory.path().to_owned(),
                        source: io::Error::other("the shim ended before it took the input"),
                    }),
                },
            };
        }
        Err(LaunchError::AwaitsAssignment { id: created.id().clone() })
    }

    async fn attach(&self, record: &HandleRecord) -> Result<Handle, AttachError> {
        attach::attach(&self.site(), record, &self.tasks).await
    }

    async fn discover(&self) -> Result<Vec<Discovered>, LauncherError> {
        housekeeping::list(&self.site).await
    }

    async fn reap(&self, policy: &ReapPolicy) -> Result<ReapReport, LauncherError> {
        housekeeping::sweep(&self.site(), policy, &self.tasks).await
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
