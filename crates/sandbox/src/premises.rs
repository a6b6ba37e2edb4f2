//! What every sandbox of this host is made with, whoever launches it: the engine with the network of the settings, the
//! addresses that it is given, the relays to what those name, the view of the logins.
//!
//! A run and a check of a login are launched by different programs, and must meet the same. What they have in common is
//! here; whose checkout, assignment and labels a sandbox gets is its launcher's business. It makes no login of the
//! database and no container.

mod knocking;
mod sharing;

use std::{
    collections::BTreeMap,
    io,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use core_config::settings::Settings;
use core_types::{secret::Secret, task::ExecutorKind};
use launcher::{
    docker::{DockerConfig, DockerLauncher, EngineInfo, ImageFetch, ImageInfo, NetworkInfo},
    error::{EngineError, LaunchError, LauncherError},
    id::LaunchId,
    launcher::Launcher,
    spec::UserId,
};
use telemetry::chain::error_chain;
use tokio::time::Instant;

use crate::{
    addresses::{Addresses, Given, rewrite},
    image::resolved,
    relay::{
        Network, Relay, RelayError,
        clients::Clients,
        keep::Relays,
        own_api, plan,
        strangers::{Callers, ServiceOpenToLoopback},
    },
    rewrite::{RewriteError, postgres},
    sandbox::{Purpose, Sandbox, SandboxError, check_network},
    view::{self, Sources, View, ViewError},
};

/// What no image sets.
static NOTHING: BTreeMap<String, String> = BTreeMap::new();

/// What sandboxes of this host are made with.
#[derive(Debug)]
pub struct Premises {
    /// The engine.
    pub launcher: Arc<DockerLauncher>,
    /// Starts relays on this host.
    pub host: Arc<dyn Launcher>,
    /// The environment of this process, of which proxies are taken.
    pub environment: BTreeMap<String, String>,
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
    knocked: Mutex<Option<(Vec<Relay>, Callers, Instant)>>,
    sharing: sharing::Sharing,
}

/// What [`Premises`] are opened with.
#[derive(Debug)]
pub struct Opening<'a> {
    /// The engine's address as in `DOCKER_HOST`, where the settings name one.
    pub docker_host: Option<String>,
    /// The state directory.
    pub state_dir: &'a Path,
    /// The directory with the programs `worker` and `worker-static`.
    pub programs: &'a Path,
    /// Starts relays on this host.
    pub host: Arc<dyn Launcher>,
    /// The environment of this process.
    pub environment: BTreeMap<String, String>,
}

/// Why there are no premises.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory of the containers cannot be used.
    #[error("open the directory of containers")]
    Containers(#[source] LauncherError),
    /// The view of the logins cannot be made.
    #[error("make the view of the logins")]
    View(#[source] ViewError),
}

/// The database, with a login that is for sandboxes.
#[derive(Debug, Clone, Copy)]
pub struct Database<'a> {
    /// As this process reaches it.
    pub owners: &'a Secret,
    /// The user of sandboxes.
    pub name: &'a str,
    /// Its password.
    pub password: &'a Secret,
}

/// Engine, network and addresses of a moment.
#[derive(Debug)]
pub struct Surroundings {
    /// The settings in force.
    pub settings: Arc<Settings>,
    /// The engine.
    pub engine: EngineInfo,
    /// The network of the settings.
    pub network: NetworkInfo,
    /// The image of the settings, where the engine has it.
    pub image: Option<ImageInfo>,
    /// Whether the engine runs in this machine's own network.
    pub engine_is_here: bool,
    /// Every address that a sandbox is given.
    pub addresses: Addresses,
    /// The relays that those need.
    pub relays: Vec<Relay>,
    /// Under which names what they lead to must refuse strangers.
    pub callers: Callers,
}

/// Why there can be no sandbox for now, whatever it is for.
#[derive(Debug, thiserror::Error)]
pub enum Obstacle {
    /// The engine gives no usable answer.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The engine has no such network.
    #[error("network `{network}` not found")]
    NetworkMissing {
        /// As the setting names it.
        network: String,
    },
    /// What a sandbox is made of is missing on this host.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// The image is not there, or cannot be fetched.
    #[error(transparent)]
    Image(#[from] LaunchError),
    /// The image is being fetched.
    #[error("fetching image `{image}`")]
    Fetching {
        /// As the engine takes it.
        image: String,
        /// Bytes that have arrived.
        done_bytes: u64,
        /// Bytes in all, as far as is known; 0 before anything is.
        total_bytes: u64,
    },
    /// The image is made for another kind of machine.
    #[error("image `{image}` is {why}")]
    ImageForeign {
        /// The image.
        image: String,
        /// What it is made for, and what this machine is.
        why: String,
    },
    /// An address cannot be given to a sandbox.
    #[error(transparent)]
    Address(#[from] RewriteError),
    /// A service on loopback cannot be led to.
    #[error(transparent)]
    Relay(#[from] RelayError),
    /// A service on loopback would let sandboxes in as anybody.
    #[error("service_open_to_loopback: {0}")]
    Open(ServiceOpenToLoopback),
    /// The view of the logins cannot be kept.
    #[error(transparent)]
    View(#[from] ViewError),
}

impl Obstacle {
    /// What a person can do about it.
    #[must_use]
    pub fn hint(&self) -> &str {
        match self {
            Self::Engine(error) => error.hint(),
            Self::NetworkMissing { .. } => {
                "make it with `docker network create`, or set SANDBOX_DOCKER_NETWORK"
            }
            Self::Sandbox(error) => error.hint(),
            Self::Image(error) => error.hint(),
            Self::Fetching { .. } => "it goes on by itself",
            Self::ImageForeign { .. } => "build or pull it for this machine's architecture",
            Self::Address(error) => error.hint(),
            Self::Relay(error) => error.hint(),
            Self::Open(open) => open.hint(),
            Self::View(error) => error.hint(),
        }
    }

    /// How far what is waited for has come, for people.
    #[must_use]
    pub fn progress(&self) -> Option<String> {
        match self {
            Self::Fetching { total_bytes: 0, .. } => Some("not begun yet".to_owned()),
            Self::Fetching { done_bytes, total_bytes, .. } => {
                let (done, all) = (done_bytes / 1_000_000, total_bytes.div_ceil(1_000_000));
                Some(format!("{done} of {all} MB"))
            }
            Self::Engine(_)
            | Self::NetworkMissing { .. }
            | Self::Sandbox(_)
            | Self::Image(_)
            | Self::ImageForeign { .. }
            | Self::Address(_)
            | Self::Relay(_)
            | Self::Open(_)
            | Self::View(_) => None,
        }
    }
}

/// What engines call the architectures that this program is built for, where they call them otherwise.
const ARCHITECTURES: &[(&str, &str)] = &[("x86_64", "amd64"), ("aarch64", "arm64"), ("x86", "386")];

/// For which machine an image is made, where it is not this one: an engine takes any, and fails at each start.
#[must_use]
pub fn made_for_another(image: &ImageInfo) -> Option<String> {
    let (os, own) = (std::env::consts::OS, std::env::consts::ARCH);
    let known = ARCHITECTURES.iter().find(|(here, _)| *here == own);
    let own = known.map_or(own, |(_, engines)| engines);
    let ImageInfo { os: its_os, architecture, .. } = image;
    let fits = (architecture == own && its_os == os) || architecture.is_empty();
    (!fits).then(|| format!("made for {its_os}/{architecture}, and this machine is {os}/{own}"))
}

impl Surroundings {
    /// Checks that the image, where it is there, is for this machine.
    ///
    /// # Errors
    /// [`Obstacle::ImageForeign`].
    pub fn check_image(&self) -> Result<(), Obstacle> {
        let image = resolved(&self.settings.sandbox_docker_image).to_owned();
        match self.image.as_ref().and_then(made_for_another) {
            Some(why) => Err(Obstacle::ImageForeign { image, why }),
            None => Ok(()),
        }
    }

    /// The network as planning takes it.
    #[must_use]
    pub fn network(&self) -> Network<'_> {
        as_planned(&self.network, self.engine_is_here)
    }
}

fn as_planned(network: &NetworkInfo, engine_is_here: bool) -> Network<'_> {
    Network { name: &network.name, gateways: &network.gateways, engine_is_here }
}

impl Premises {
    /// Opens them; the engine need not be there yet.
    ///
    /// # Errors
    /// [`OpenError`], where the state directory cannot be used.
    pub fn open(opening: Opening<'_>) -> Result<Self, OpenError> {
        let Opening { docker_host, state_dir, programs, host, environment } = opening;
        let config = DockerConfig { host: docker_host, store: state_dir.to_owned() };
        let launcher = DockerLauncher::open(config).map_err(OpenError::Containers)?;
        let user = view::user(UserId {
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
        });
        Ok(Self {
            launcher: Arc::new(launcher),
            host,
            environment,
            state_dir: state_dir.to_owned(),
            static_worker: programs.join("worker-static"),
            relays: Relays { worker: programs.join("worker"), state_dir: state_dir.to_owned() },
            user,
            view: View::open(state_dir, user).map_err(OpenError::View)?,
            knocked: Mutex::default(),
            sharing: sharing::Sharing::default(),
        })
    }

    /// The network of the settings.
    ///
    /// # Errors
    /// [`Obstacle::Engine`] and [`Obstacle::NetworkMissing`].
    pub async fn network(&self, settings: &Settings) -> Result<NetworkInfo, Obstacle> {
        let name = &settings.sandbox_docker_network;
        let found = self.launcher.network(name).await?;
        found.ok_or_else(|| Obstacle::NetworkMissing { network: name.clone() })
    }

    /// Looks at engine, network and image, and plans addresses and relays, without changing anything. Without a database a
    /// sandbox can do no run.
    ///
    /// # Errors
    /// See [`Obstacle`].
    pub async fn survey(
        &self,
        settings: &Arc<Settings>,
        database: Option<Database<'_>>,
    ) -> Result<Surroundings, Obstacle> {
        let engine = self.launcher.engine().await?;
        let found = self.network(settings).await?;
        check_network(&found.name)?;
        let image = self.image(settings).await?;
        let engine_is_here = !engine.rootless && self.launcher.host().starts_with("unix:");
        let on = as_planned(&found, engine_is_here);
        let (mut lent, mut callers) = (None, Callers::default());
        if let Some(Database { owners, name, password }) = database {
            lent = Some(postgres::lend(owners.expose(), name, password)?);
            callers = Callers::of(postgres::names(owners.expose())?, name);
        }
        let database = lent.as_ref();
        let given = Given { database, redis: None, settings, environment: &self.environment };
        let addresses = rewrite(given, on)?;
        let own_api = own_api::addresses(&self.state_dir, settings.api_listen);
        let relays = plan(on, &addresses.targets, &own_api)?;
        let settings = Arc::clone(settings);
        let network = found;
        Ok(Surroundings {
            settings,
            engine,
            network,
            image,
            engine_is_here,
            addresses,
            relays,
            callers,
        })
    }

    /// The image of the settings, where the engine has it.
    ///
    /// # Errors
    /// [`Obstacle::Engine`].
    pub async fn image(&self, settings: &Settings) -> Result<Option<ImageInfo>, Obstacle> {
        Ok(self.launcher.image(resolved(&settings.sandbox_docker_image)).await?)
    }

    /// A sandbox of these surroundings.
    #[must_use]
    pub fn sandbox<'a>(&'a self, around: &'a Surroundings) -> Sandbox<'a> {
        Sandbox {
            settings: &around.settings,
            network: around.network(),
            worker: &self.static_worker,
            user: self.user,
            view: &self.view,
            image_env: around.image.as_ref().map_or(&NOTHING, |image| &image.env),
        }
    }

    /// Whether the image is there; where it is not and the settings say so, it is being fetched from then on, and nobody
    /// waits for that.
    ///
    /// # Errors
    /// [`Obstacle::Image`] and [`Obstacle::Fetching`].
    pub async fn ensure_image(&self, around: &Surroundings) -> Result<(), Obstacle> {
        around.check_image()?;
        let purpose = Purpose::of(ExecutorKind::ClaudeCode);
        let spec = self.sandbox(around).launch(&purpose);
        let Some(container) = spec.container else { return Ok(()) };
        match self.launcher.fetch_image(&container).await? {
            ImageFetch::There => Ok(()),
            ImageFetch::UnderWay { done_bytes, total_bytes } => {
                Err(Obstacle::Fetching { image: container.image, done_bytes, total_bytes })
            }
        }
    }

    /// Fetches the image anew where the settings want that for each sandbox, and waits for it.
    ///
    /// # Errors
    /// [`Obstacle::Image`], where there is none afterwards, or one for other machines.
    pub async fn renew_image(&self, around: &mut Surroundings) -> Result<(), Obstacle> {
        let spec = self.sandbox(around).launch(&Purpose::of(ExecutorKind::ClaudeCode));
        let Some(container) = spec.container else { return Ok(()) };
        self.launcher.ensure_image(&container).await?;
        around.image = self.image(&around.settings).await?;
        around.check_image()
    }

    /// Lets a container that was created, and has no input yet, reach what relays lead to.
    ///
    /// # Errors
    /// [`AdmitError`]; it reaches nothing then.
    pub async fn admit(&self, network: &str, launch: &LaunchId) -> Result<(), AdmitError> {
        let addresses: Vec<IpAddr> = self.launcher.addresses(launch).await?;
        Ok(Clients::of_network(&self.state_dir, network).admit(launch, &addresses)?)
    }

    /// The same for a container that runs already, on the networks that it is on.
    ///
    /// # Errors
    /// [`AdmitError`]; it reaches what it reached.
    pub async fn admit_again(&self, launch: &LaunchId) -> Result<(), AdmitError> {
        for (network, addresses) in self.launcher.networks_of(launch).await? {
            Clients::of_network(&self.state_dir, &network).admit(launch, &addresses)?;
        }
        Ok(())
    }

    /// Takes back what a container was let reach. May be called for one that never was.
    pub fn dismiss(&self, launch: &LaunchId) {
        for clients in self.clients_of_every_network() {
            if let Err(error) = clients.dismiss(launch) {
                tracing::warn!(launch.id = %launch, error = %error_chain(&error), "client of a relay not removed");
            }
        }
    }

    /// A container keeps its network when the setting changes.
    #[must_use]
    pub fn clients_of_every_network(&self) -> Vec<Clients> {
        Clients::of_every_network(&self.state_dir).unwrap_or_else(|error| {
            tracing::warn!(error = %error_chain(&error), "clients of relays not found");
            Vec::new()
        })
    }

    /// Where the logins are looked for.
    ///
    /// # Errors
    /// [`ViewError`], where a setting names what is not there.
    pub fn sources(&self, settings: &Settings) -> Result<Sources, ViewError> {
        Sources::of(settings, self.environment.get("HOME").map(Path::new))
    }
}

/// Why a container was not let reach anything.
#[derive(Debug, thiserror::Error)]
pub enum AdmitError {
    /// The engine does not tell its addresses.
    #[error("ask for the container's addresses")]
    Engine(#[from] EngineError),
    /// The list cannot be written.
    #[error("write the relay's list")]
    List(#[from] io::Error),
}
