//! Sandboxes as containers of a Docker engine: what has to be there, what one is launched with, and what it may reach.
//!
//! It puts together what others know: `sandbox` the container and the addresses, the store the login of the database,
//! the launcher the engine. It keeps the relays alive while a container of this host needs them.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use checkout::{
    access::RemoteAccess,
    checkouts::{Checkouts, Remotes},
    roots::AllowedRoots,
};
use core_config::{load::Loaded, settings::Settings};
use core_types::{
    ids::TaskId,
    sandbox::{SandboxAssignment, paths},
    secret::Secret,
    task::ExecutorKind,
};
use launcher::{
    docker::{DockerLauncher, EngineInfo, NetworkInfo},
    id::LaunchId,
    launcher::Launcher,
    spec::{Input, UserId},
};
use sandbox::{
    addresses::{Addresses, Given, rewrite},
    disk,
    relay::{Network, Relay, RelayError, clients::Clients, keep::Relays, plan, strangers::knock},
    rewrite::http,
    sandbox::{Purpose, Sandbox, logins},
    view::{LoginWarning, Sources, View, warning},
};
use store::pool::Store;
use telemetry::chain::error_chain;
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

use super::{
    outfit::{NotReady, Order, Outfit, Outfitter},
    sessions::Sessions,
};

/// How often it is asked whether a relayed service lets strangers in.
const KNOCK_EVERY: Duration = Duration::from_secs(60);
/// How long an engine may take to answer while relays are kept; the client's own patience is longer than their leases.
const KEEP_WITHIN: Duration = Duration::from_secs(10);
/// What a run may take beside its agent's time: the seal, and each of its verification commands.
const BESIDE_TIMEBOX: Duration = Duration::from_secs(30 * 60);

/// Fits out containers.
#[derive(Debug)]
pub struct Containers {
    /// The engine.
    pub launcher: Arc<DockerLauncher>,
    /// Starts relays and git on this host.
    pub host: Arc<dyn Launcher>,
    /// The database, as this process reaches it.
    pub store: Store,
    /// Its address.
    pub database_url: Secret,
    /// The settings in force.
    pub settings: watch::Receiver<Arc<Loaded>>,
    /// The environment of this process, of which proxies and git's logins are taken.
    pub environment: BTreeMap<String, String>,
    /// The checkouts of this host.
    pub checkouts: Checkouts,
    /// How repositories of other hosts are reached under some settings.
    pub remotes: fn(&Settings) -> RemoteAccess,
    /// The state directory.
    pub state_dir: PathBuf,
    /// The static worker that containers run.
    pub static_worker: PathBuf,
    /// How relays are started.
    pub relays: Relays,
    /// Who sandboxes run as.
    pub user: UserId,
    /// The view of the host's logins.
    pub view: View,
    /// What was said and seen.
    pub memory: Mutex<Memory>,
}

/// What was said and seen before.
#[derive(Debug, Default)]
pub struct Memory {
    warned: HashSet<LoginWarning>,
    knocked: Option<(Vec<Relay>, Instant)>,
}

/// What sandboxes of this moment share.
struct Surroundings {
    loaded: Arc<Loaded>,
    engine: EngineInfo,
    network: NetworkInfo,
    addresses: Addresses,
    relays: Vec<Relay>,
}

impl Surroundings {
    fn network<'a>(&'a self, launcher: &DockerLauncher) -> Network<'a> {
        network(&self.network, &self.engine, launcher)
    }
}

fn network<'a>(
    network: &'a NetworkInfo,
    engine: &EngineInfo,
    launcher: &DockerLauncher,
) -> Network<'a> {
    let engine_is_here = !engine.rootless && launcher.host().starts_with("unix:");
    Network { name: &network.name, gateways: &network.gateways, engine_is_here }
}

impl Containers {
    /// Renews the relays that containers of this host use.
    async fn keep_relays(&self) {
        // Those of a network that the settings named before, too.
        if let Err(error) = self.relays.renew_used(&*self.host).await {
            tracing::warn!(error = %error_chain(&error), "relays in use not renewed");
        }
        let found = timeout(KEEP_WITHIN, self.surroundings()).await;
        let kept = match found.unwrap_or_else(|_| Err(silent())) {
            Ok(around) => self
                .relays
                .ensure(&*self.host, &around.relays)
                .await
                .map(drop)
                .map_err(|error| of_relay(&error)),
            Err(error) => Err(error),
        };
        if let Err(error) = kept {
            tracing::warn!(%error, "relays of running sandboxes not renewed");
        }
    }

    /// Looks at engine, network and database, without changing anything but the database's login.
    async fn surroundings(&self) -> Result<Surroundings, NotReady> {
        let loaded = Arc::clone(&self.settings.borrow());
        let engine = self.launcher.engine().await;
        let engine = engine.map_err(|error| fault(&error, Some(error.hint())))?;
        let name = &loaded.settings.sandbox_docker_network;
        let found = self.launcher.network(name).await;
        let found = found.map_err(|error| fault(&error, Some(error.hint())))?;
        let Some(found) = found else {
            let hint = "make it with `docker network create`, or set SANDBOX_DOCKER_NETWORK";
            return Err(NotReady {
                reason: format!("network `{name}` not found"),
                hint: Some(hint.to_owned()),
            });
        };
        let login = self.store.ensure_sandbox_login().await;
        let login = login.map_err(|error| fault(&error, Some(error.hint())))?;
        let database = login.url(&self.database_url);
        let database = database.ok_or_else(|| {
            NotReady::new("DATABASE_URL has a form that sandboxes cannot be given")
        })?;
        let on = network(&found, &engine, &self.launcher);
        let given = Given {
            database: &database,
            redis: None,
            settings: &loaded.settings,
            environment: &self.environment,
        };
        let addresses = rewrite(given, on).map_err(|error| fault(&error, Some(error.hint())))?;
        let relays = plan(on, &addresses.targets, Some(loaded.settings.api_listen));
        let relays = relays.map_err(|error| of_relay(&error))?;
        Ok(Surroundings { loaded, engine, network: found, addresses, relays })
    }

    fn sandbox<'a>(&'a self, around: &'a Surroundings) -> Sandbox<'a> {
        Sandbox {
            settings: &around.loaded.settings,
            network: around.network(&self.launcher),
            worker: &self.static_worker,
            user: self.user,
            view: &self.view,
        }
    }

    /// Whether the image is there; it is fetched where the settings say so.
    async fn check_image(&self, around: &Surroundings) -> Result<(), NotReady> {
        let purpose = self.purpose(ExecutorKind::ClaudeCode);
        let spec = self.sandbox(around).launch(&purpose);
        let Some(container) = spec.container else { return Ok(()) };
        let found = self.launcher.image(&container.image).await;
        if found.map_err(|error| fault(&error, Some(error.hint())))?.is_some() {
            return Ok(());
        }
        let fetched = self.launcher.fetch_image(&container).await;
        fetched.map_err(|error| fault(&error, Some(error.hint())))
    }

    const fn purpose(&self, executor: ExecutorKind) -> Purpose<'static> {
        Purpose {
            args: &["once"],
            executor,
            checkout: None,
            objects: None,
            state: None,
            wall: None,
            lease: None,
            labels: BTreeMap::new(),
        }
    }

    /// Makes sure that relays run and that what they lead to refuses strangers.
    async fn check_relays(&self, relays: &[Relay]) -> Result<(), NotReady> {
        let ensured = self.relays.ensure(&*self.host, relays).await;
        ensured.map_err(|error| of_relay(&error))?;
        if !self.is_knock_due(relays) {
            return Ok(());
        }
        for relay in relays {
            if let Err(open) = knock(relay).await {
                return Err(NotReady {
                    reason: format!("service_open_to_loopback: {open}"),
                    hint: Some(open.hint().to_owned()),
                });
            }
        }
        self.memory().knocked = Some((relays.to_vec(), Instant::now()));
        Ok(())
    }

    fn is_knock_due(&self, relays: &[Relay]) -> bool {
        let memory = self.memory();
        let fresh = memory.knocked.as_ref();
        !fresh.is_some_and(|(known, at)| known == relays && at.elapsed() < KNOCK_EVERY)
    }

    fn memory(&self) -> std::sync::MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the logins are looked for.
    fn sources(&self, settings: &Settings) -> Result<Sources, NotReady> {
        let home = self.environment.get("HOME").map(Path::new);
        Sources::of(settings, home).map_err(|error| fault(&error, Some(error.hint())))
    }

    /// Says once for each cause that agents will find no login (S6).
    fn warn_of_logins(&self, settings: &Settings) -> Result<(), NotReady> {
        let sources = self.sources(settings)?;
        let refreshed = self.view.refresh(&sources);
        let logins = refreshed.map_err(|error| fault(&error, Some(error.hint())))?;
        for kind in ExecutorKind::ALL {
            let missing = warning(*kind, settings, &sources, &logins);
            if let Some(missing) = missing.filter(|it| self.memory().warned.insert(it.clone())) {
                tracing::warn!(hint = missing.hint(), "{missing}");
            }
        }
        Ok(())
    }

    /// What the command line of a task keeps between its runs, and whether there is something.
    fn open_state(&self, task: TaskId) -> Result<(PathBuf, bool), NotReady> {
        let opened = Sessions::of(&self.state_dir).open(task, self.user);
        opened.map_err(|error| NotReady::new(format!("cannot make the state of {task}: {error}")))
    }

    /// A run keeps its network when the setting changes.
    fn clients_of_every_network(&self) -> Vec<Clients> {
        Clients::of_every_network(&self.state_dir).unwrap_or_else(|error| {
            tracing::warn!(error = %error_chain(&error), "clients of relays not found");
            Vec::new()
        })
    }

    fn clients(&self, network: &str) -> Clients {
        Clients::of_network(&self.state_dir, network)
    }
}

#[async_trait]
impl Outfitter for Containers {
    async fn ready(&self) -> Result<(), NotReady> {
        let around = self.surroundings().await?;
        let settings = &around.loaded.settings;
        self.sandbox(&around).check().map_err(|error| fault(&error, Some(error.hint())))?;
        self.check_image(&around).await?;
        let free = disk::free(&self.state_dir, settings.sandbox_disk_reserve);
        free.map_err(|error| fault(&error, Some(error.hint())))?;
        self.check_relays(&around.relays).await?;
        self.warn_of_logins(settings)
    }

    fn user(&self) -> UserId {
        self.user
    }

    fn checkouts(&self) -> Result<Checkouts, NotReady> {
        let loaded = Arc::clone(&self.settings.borrow());
        let settings = &loaded.settings;
        let mut access = (self.remotes)(settings);
        access.environment = self.environment.clone();
        let remotes = Remotes { access: Arc::new(access), launcher: Arc::clone(&self.host) };
        let roots = loaded.local_repo_roots().map_err(|fault| NotReady::new(fault.to_string()))?;
        let roots = AllowedRoots::new(roots.to_vec());
        Ok(self.checkouts.clone().with_allowed_roots(roots).with_remotes(remotes))
    }

    async fn outfit(&self, order: Order<'_>) -> Result<Outfit, NotReady> {
        let around = self.surroundings().await?;
        self.check_relays(&around.relays).await?;
        let loaded = &around.loaded;
        let task = &order.task.new;
        let (state, held) = self.open_state(task.id)?;
        let timebox = task.timebox.unwrap_or(loaded.settings.task_timebox);
        let commands = u32::try_from(task.verification.len().max(1)).unwrap_or(u32::MAX);
        let verification = loaded.settings.verification_timeout.saturating_mul(commands);
        let wall = timebox.saturating_add(verification).saturating_add(BESIDE_TIMEBOX);
        let purpose = Purpose {
            checkout: Some(&order.mounts.directory),
            objects: Some(&order.mounts.objects),
            state: Some(&state),
            wall: Some(wall),
            ..self.purpose(task.executor)
        };
        let spec = self.sandbox(&around).launch(&purpose);
        let mut before = order.before;
        // What it would go on with lies elsewhere, or nowhere any more.
        before.session = before.session.filter(|_| held);
        let address = |url: &str| {
            http::rewrite(url).map_or_else(|_| url.to_owned(), |new| new.text.expose().to_owned())
        };
        let assignment = SandboxAssignment {
            key: order.key,
            number: order.number,
            token: order.token,
            database_url: around.addresses.database.clone(),
            redis_url: None,
            task: order.task.brief(),
            checkout: order.checkout,
            launches: paths::LAUNCHES.into(),
            state: paths::STATE.into(),
            logins: logins(task.executor),
            settings: loaded.for_sandbox(address),
            environment: around.addresses.environment.clone(),
            before,
        };
        let stdin = serde_json::to_vec(&assignment)
            .map_err(|error| NotReady::new(format!("the assignment cannot be written: {error}")))?;
        Ok(Outfit { spec, input: Input { stdin, ..Input::default() } })
    }

    async fn admit(&self, launch: &LaunchId) -> Result<(), NotReady> {
        let addresses: Vec<IpAddr> = {
            let found = self.launcher.addresses(launch).await;
            found.map_err(|error| fault(&error, Some(error.hint())))?
        };
        let network = self.settings.borrow().settings.sandbox_docker_network.clone();
        let admitted = self.clients(&network).admit(launch, &addresses);
        admitted.map_err(|error| NotReady::new(format!("cannot write the relay's list: {error}")))
    }

    async fn dismiss(&self, launch: &LaunchId) {
        for clients in self.clients_of_every_network() {
            if let Err(error) = clients.dismiss(launch) {
                tracing::warn!(launch.id = %launch, error = %error_chain(&error), "client of a relay not removed");
            }
        }
    }

    async fn keep(&self, live: BTreeSet<LaunchId>) {
        for clients in self.clients_of_every_network() {
            if let Err(error) = clients.keep_only(&live) {
                tracing::debug!(error = %error_chain(&error), "clients of relays not swept");
            }
        }
        if !live.is_empty() {
            self.keep_relays().await;
        }
        // After what cannot wait: it asks the database, and what it removes may be large.
        if let Err(error) = Sessions::of(&self.state_dir).sweep(&self.store).await {
            tracing::debug!(error = %error_chain(&error), "sessions of tasks not swept");
        }
    }

    fn state_of(&self, task: TaskId) -> Option<PathBuf> {
        Some(Sessions::of(&self.state_dir).directory(task))
    }

    async fn forget(&self, task: TaskId) {
        Sessions::of(&self.state_dir).forget(task).await;
    }
}

fn fault(error: &(dyn std::error::Error + 'static), hint: Option<&str>) -> NotReady {
    NotReady { reason: error_chain(error).to_string(), hint: hint.map(str::to_owned) }
}

fn silent() -> NotReady {
    NotReady::new(format!(
        "engine and database were not looked at within {} s",
        KEEP_WITHIN.as_secs()
    ))
}

fn of_relay(error: &RelayError) -> NotReady {
    fault(error, Some(error.hint()))
}
