//! Launches in containers of a Docker engine, each with a shim as its first process.
//!
//! The shim is mounted read-only into whatever image is named, and the launch directory under a
//! directory in memory that only root can enter. The engine only makes the container: output, exit
//! record, deadline and lease are the shim's, so an engine that dies takes none of them away.
//!
//! # What a container is
//! The first process is the shim as root with the capabilities SETUID, SETGID and KILL. The command
//! runs as [`LaunchSpec::user`], never root, and has no capability. No new privileges, the default
//! seccomp profile, a private IPC name space, no swap above memory, no restart, no removal on exit,
//! no log of the engine. None of this can be turned off.
//!
//! # Which engines
//! Those that share this machine's kernel and can mount the state directory: the machine's own, and
//! a rootless one of the same user. An engine in a virtual machine (Docker Desktop) or on another
//! host is refused with [`LaunchError::DirectoryNotShared`], and
//! [`Capabilities::shared_directory`] says so beforehand. There is no fall-back by volume or archive:
//! it would have no lock that proves life, and a second way of recovery. Addresses are
//! `unix://` and plain `tcp://`; TLS and ssh are not spoken. Where SELinux confines containers, the
//! state directory needs a label that they may use (`container_file_t`).
//!
//! Images are pulled without a password: the user's `docker login` is not read.

mod client;
mod container;
mod facts;
mod image;
mod probe;
mod reap;
mod site;
mod start;

use std::{
    fmt,
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use tokio_util::task::TaskTracker;

use self::{
    client::Client,
    image::Pulls,
    site::{EngineSite, STARTER},
    start::WaitingShim,
};
pub use self::{
    container::{INSTANCE_LABEL, LAUNCH_LABEL, SPEC_LABEL},
    facts::{EngineInfo, ImageInfo, NetworkInfo},
    image::ImageFetch,
};
use crate::{
    container::ContainerSpec,
    error::{AttachError, EngineError, LaunchError, LauncherError, ProbeError},
    handle::{Handle, HandleRecord},
    id::LaunchId,
    launch::{
        Launch,
        answers::Second,
        aside, attach,
        format::VERSION,
        frame, housekeeping,
        records::Cgroups,
        site::{Finding, Site},
        store::{Place, Reach, Store},
    },
    launcher::{Capabilities, Created, Discovered, Launched, Launcher, ReapPolicy, ReapReport},
    spec::{Input, LaunchSpec, Limits},
};

/// The directory of the launches below the state directory: not that of the process launcher, so
/// that both may have the same state directory.
const LAUNCHES: &str = "containers";

/// Which engine, and where launches lie.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DockerConfig {
    /// The engine's address as in `DOCKER_HOST`; `None` is the machine's engine, or else the user's
    /// own.
    pub host: Option<String>,
    /// The state directory. It may be that of a process launcher.
    pub store: PathBuf,
}

/// Launches commands in containers. Cheap to clone; any number of them, in any number of processes,
/// may use one state directory, and any number of state directories one engine.
#[derive(Clone)]
pub struct DockerLauncher {
    site: EngineSite,
    pulls: Arc<Pulls>,
    shared: probe::Shared,
    tasks: TaskTracker,
}

/// What `create` hands to `assign`.
struct Waiting {
    launch: Launch,
    spec: LaunchSpec,
    /// The shim that waits for us; `None`: the launch is another caller's.
    shim: Option<Held>,
}

/// A shim that waits, and the guard that says whose it is.
struct Held {
    shim: WaitingShim,
    _starter: File,
}

impl DockerLauncher {
    /// A launcher on `<store>/containers`, which is made if it is missing. The engine need not be
    /// there yet.
    ///
    /// # Errors
    /// When the directory cannot be made, read or written, or is of another version.
    pub fn open(config: DockerConfig) -> Result<Self, LauncherError> {
        let DockerConfig { host, store } = config;
        let store = Store::open(&store, LAUNCHES, Reach::Mounted)?;
        let site = EngineSite { client: Arc::new(Client::new(host)), store: Arc::new(store) };
        Ok(Self {
            site,
            pulls: Arc::default(),
            shared: probe::Shared::default(),
            tasks: TaskTracker::new(),
        })
    }

    /// The state directory, absolute.
    #[must_use]
    pub fn state_dir(&self) -> &Path {
        self.site.store.state_dir()
    }

    /// The id of the store of launches below it: what [`HandleRecord::store`] and the label
    /// [`INSTANCE_LABEL`] name.
    #[must_use]
    pub fn store_id(&self) -> &str {
        &self.site.store.id
    }

    /// Where the launch directory of an id is or would be.
    #[must_use]
    pub fn launch_dir(&self, id: &LaunchId) -> PathBuf {
        self.site.store.path(id)
    }

    /// The address of the engine, as in `DOCKER_HOST`.
    #[must_use]
    pub fn host(&self) -> &str {
        self.site.client.host()
    }

    /// Asks the engine what it is.
    ///
    /// # Errors
    /// When it gives no usable answer.
    pub async fn engine(&self) -> Result<EngineInfo, EngineError> {
        self.site.client.ask_info().await
    }

    /// An image by name, digest or id; `None` if the engine does not have it.
    ///
    /// # Errors
    /// When the engine gives no usable answer, also to a reference that it does not take.
    pub async fn image(&self, reference: &str) -> Result<Option<ImageInfo>, EngineError> {
        self.site.client.image(reference).await
    }

    /// A network by name; `None` if the engine does not have it.
    ///
    /// # Errors
    /// When the engine gives no usable answer.
    pub async fn network(&self, name: &str) -> Result<Option<NetworkInfo>, EngineError> {
        self.site.client.network(name).await
    }

    /// Looks whether the image of a container is there, and begins to fetch it where it is not and may be. A fetch goes on
    /// whatever becomes of who asked, and a launch that needs the image waits for the same one.
    ///
    /// # Errors
    /// See [`LaunchError`]. That a fetch failed is told for a minute; then a look begins another one.
    pub async fn fetch_image(&self, container: &ContainerSpec) -> Result<ImageFetch, LaunchError> {
        self.pulls.look(&self.site.client, &self.tasks, container).await
    }

    fn site(&self) -> Arc<dyn Site> {
        Arc::new(self.site.clone())
    }

    /// What needs no launch directory: a refusal here uses no id up.
    async fn check(&self, spec: &LaunchSpec, container: &ContainerSpec) -> Result<(), LaunchError> {
        self.pulls.ensure(&self.site.client, &self.tasks, container).await?;
        let network = &container.network;
        let found = self.site.client.network(network).await;
        if found.map_err(|error| error.refusing("look for the network"))?.is_none() {
            return Err(LaunchError::NetworkMissing { network: network.clone() });
        }
        let info = self.site.client.info().await;
        let info = info.map_err(|error| error.refusing("describe itself"))?;
        let Limits { memory_bytes, cpu_millis, processes, wall: _ } = spec.limits;
        let wanted = [
            ("memory_bytes", memory_bytes.is_some(), info.limit_memory),
            ("cpu_millis", cpu_millis.is_some(), info.limit_cpu),
            ("processes", processes.is_some(), info.limit_processes),
        ];
        match wanted.into_iter().find(|(_, is_wanted, is_honoured)| *is_wanted && !is_honoured) {
            None => Ok(()),
            Some((limit, ..)) => {
                let why = "the engine has no cgroup controller for it".to_owned();
                Err(LaunchError::LimitUnsupported { limit, why })
            }
        }
    }

    /// A launch of this id that is there and that somebody has or had.
    async fn existing(
        &self,
        id: &LaunchId,
        spec: &LaunchSpec,
    ) -> Result<Option<Launch>, LaunchError> {
        let (store, wanted) = (Arc::clone(&self.site.store), id.clone());
        let found = aside(move || store.find(&wanted)).await;
        let found = found.map_err(|source| self.io_error(id, "read launch directory", source))?;
        let Some(launch) = found else {
            return Ok(None);
        };
        if launch.intent.spec_hash != spec.hash() {
            return Err(LaunchError::SpecMismatch { id: id.clone() });
        }
        let found = self.site.look(&launch).await;
        let found = found.map_err(|source| self.io_error(id, "look at", source))?;
        Ok(match found {
            Finding::Created { shim: None } => None,
            Finding::Created { shim: Some(_) } => {
                // Somebody is about to start it, or nobody knows: then the caller is told why.
                let asked = self.engine().await;
                asked.map_err(|error| error.refusing("describe itself"))?;
                Some(launch)
            }
            Finding::Running { .. } | Finding::Ended(_) => Some(launch),
        })
    }

    /// Starts the container of a launch whose guard is ours.
    async fn start(
        &self,
        launch: &Launch,
        container: &ContainerSpec,
    ) -> Result<Option<WaitingShim>, LaunchError> {
        let (client, name) = (&self.site.client, self.site.name(launch));
        let store = Arc::clone(&self.site.store);
        let shim = tokio::task::spawn_blocking(move || store.shim()).await;
        let shim = shim
            .map_err(|error| (self.state_dir().to_owned(), io::Error::other(error)))
            .flatten()
            .map_err(|(path, source)| LaunchError::ShimUnusable { path, source })?;
        // What a crash left of an earlier try: it has no shim, so nothing runs in it.
        start::remove(client, &name).await.map_err(|error| error.refusing("remove a container"))?;
        let request = container::request(&self.site.store, launch, container, &shim);
        let Some(shim) = start::start(client, &name, request, container, &shim).await? else {
            return Ok(None);
        };
        let looked = launch.clone();
        let holder = aside(move || looked.directory.lock_holder()).await;
        match holder.map_err(|source| self.io_error(launch.id(), "look at", source))? {
            Some(_) => Ok(Some(shim)),
            None => Err(LaunchError::DirectoryNotShared {
                path: self.site.store.launches().to_owned(),
                why: "the lock that the shim took in its container is not seen here".to_owned(),
            }),
        }
    }

    /// Takes back what a failed start has made, so that its id is not used up.
    async fn undo(&self, launch: &Launch) {
        let undone = async {
            self.site.clear(launch).await?;
            let (store, id) = (Arc::clone(&self.site.store), launch.id().clone());
            aside(move || store.remove(&id)).await
        };
        if let Err(error) = undone.await {
            let error = &error as &(dyn std::error::Error + 'static);
            tracing::warn!(launch.id = %launch.id(), error, "cannot take back a failed launch");
        }
    }

    async fn make(&self, id: &LaunchId, spec: &LaunchSpec) -> Result<Waiting, LaunchError> {
        let waiting = |launch, shim| Waiting { launch, spec: spec.clone(), shim };
        let container = container::check(spec)?;
        if let Some(launch) = self.existing(id, spec).await? {
            return Ok(waiting(launch, None));
        }
        self.check(spec, container).await?;
        let (store, place) = (Arc::clone(&self.site.store), (id.clone(), spec.clone()));
        let placed = tokio::task::spawn_blocking(move || store.place(&place.0, &place.1)).await;
        let failed = |error| self.io_error(id, "make", io::Error::other(error));
        let (Place::Made(launch) | Place::Found(launch)) = placed.map_err(failed)??;
        let guarded = launch.clone();
        let starter = aside(move || guarded.directory.guard(STARTER)).await;
        let Some(starter) = starter.map_err(|source| self.io_error(id, "guard", source))? else {
            return Ok(waiting(launch, None));
        };
        let found = self.site.look_as(&launch, true).await;
        let found = found.map_err(|source| self.io_error(id, "look at", source))?;
        match found {
            Finding::Created { shim: None } => {}
            // Who started it is gone, and so is the only writer of its input. It cannot go on.
            Finding::Created { shim: Some(_) } => {
                launch.directory.write_control("stop 0 its starter is gone\n").ok();
                return Ok(waiting(launch, None));
            }
            Finding::Running { .. } | Finding::Ended(_) => return Ok(waiting(launch, None)),
        }
        match self.start(&launch, container).await {
            Ok(shim) => Ok(waiting(launch, shim.map(|shim| Held { shim, _starter: starter }))),
            Err(error) => {
                self.undo(&launch).await;
                drop(starter);
                Err(error)
            }
        }
    }

    /// Where the shim finds out that the kernel killed for want of memory.
    async fn evidence(&self) -> Cgroups {
        let version = self.site.client.info().await.map_or(2, |info| info.cgroup_version);
        let file = match version {
            1 => "/sys/fs/cgroup/memory/memory.oom_control",
            _ => "/sys/fs/cgroup/memory.events",
        };
        Cgroups { version: VERSION, oom_file: Some(file.into()), ..Cgroups::default() }
    }

    fn io_error(&self, id: &LaunchId, what: &'static str, source: io::Error) -> LaunchError {
        LaunchError::Io { what, path: self.site.store.path(id), source }
    }
}

#[async_trait]
impl Launcher for DockerLauncher {
    async fn probe(&self) -> Result<Capabilities, ProbeError> {
        self.look_at_engine().await
    }

    async fn create(&self, id: &LaunchId, spec: &LaunchSpec) -> Result<Created, LaunchError> {
        spec.validate()?;
        // A caller that leaves in the middle must not leave a container half made.
        let (launcher, wanted, spec) = (self.clone(), id.clone(), spec.clone());
        let making = self.tasks.spawn(async move { launcher.make(&wanted, &spec).await });
        let made = making.await.map_err(|error| self.io_error(id, "make", io::Error::other(error)));
        Ok(Created::new(id.clone(), made??))
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
            let Some(held) = shim else {
                if let Some(launched) = attach::join(&site, &launch, &self.tasks).await? {
                    return Ok(launched);
                }
                created = self.create(&id, &spec).await?;
                continue;
            };
            let frame = frame::frame(&spec, input, &self.evidence().await);
            let Held { shim, _starter } = held;
            return match shim.begin(frame).await {
                Second::Started => {
                    let found = site.look(&launch).await;
                    let found = found.map_err(|source| self.io_error(&id, "look at", source))?;
                    Ok(Launched::Started(attach::handle(&site, launch, &found, &self.tasks)))
                }
                Second::Failed(failure) => Err(failure.into()),
                // The engine is gone, or the shim is. If it still waits, it is to end.
                Second::Silent => self.after_silence(&site, launch).await,
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
        let mut report = housekeeping::sweep(&self.site(), policy, &self.tasks).await?;
        self.reap_homeless(policy, &mut report).await;
        Ok(report)
    }
}

impl DockerLauncher {
    /// No second answer came: what became of the launch is in its directory.
    async fn after_silence(
        &self,
        site: &Arc<dyn Site>,
        launch: Launch,
    ) -> Result<Launched, LaunchError> {
        let asked = launch.clone();
        aside(move || {
            // After the acceptance it would end a command that runs.
            if !asked.directory.has("accepted")? {
                asked.directory.write_control("stop 0 the engine went away\n")?;
            }
            Ok(())
        })
        .await
        .ok();
        match attach::join(site, &launch, &self.tasks).await? {
            // It was ours to start, and it runs.
            Some(Launched::AlreadyRunning(handle)) => Ok(Launched::Started(handle)),
            Some(launched) => Ok(launched),
            None => Err(LaunchError::ShimUnusable {
                path: launch.directory.path().to_owned(),
                source: io::Error::other("the shim ended before it took the input"),
            }),
        }
    }
}

impl fmt::Debug for DockerLauncher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DockerLauncher")
            .field("host", &self.host())
            .field("state_dir", &self.state_dir())
            .finish_non_exhaustive()
    }
}
