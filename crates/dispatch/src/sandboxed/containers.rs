//! Sandboxes as containers of a Docker engine: what has to be there, what one is launched with, and what it may reach.
//!
//! It puts together what others know: `sandbox` the container and the addresses, the store the login of the database,
//! the launcher the engine. It keeps the relays alive while a container of this host needs them, and not much longer.

use std::{
    collections::{BTreeSet, HashSet},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use checkout::{
    access::RemoteAccess,
    checkouts::{Checkouts, Remotes},
    roots::AllowedRoots,
};
use core_config::{
    load::Loaded,
    settings::{ImagePull, Settings},
};
use core_types::{
    ids::TaskId,
    label,
    sandbox::{SandboxAssignment, paths},
    secret::Secret,
    task::ExecutorKind,
};
use launcher::{
    docker::ImageInfo,
    id::LaunchId,
    launcher::Launcher,
    spec::{Input, UserId},
};
use sandbox::{
    addresses::ProxyWithheld,
    disk, image,
    premises::{Database, Obstacle, Premises, Surroundings},
    rewrite::{Service, http},
    sandbox::{Purpose, logins},
    view::{ViewError, warning},
};
use store::{pool::Store, sandbox::login::SandboxLogin};
use telemetry::chain::error_chain;
use tokio::{sync::watch, time::timeout};

use super::{
    demand::Demand,
    outfit::{NotReady, Order, Outfit, Outfitter, Unfit},
    sessions::Sessions,
};

/// How long an engine may take to answer while relays are kept; the client's own patience is longer than their leases.
const KEEP_WITHIN: Duration = Duration::from_secs(10);
/// What a run may take beside its agent's time: the seal, and each of its verification commands.
const BESIDE_TIMEBOX: Duration = Duration::from_secs(30 * 60);

/// Fits out containers.
#[derive(Debug)]
pub struct Containers {
    /// What every sandbox of this host is made with.
    pub premises: Premises,
    /// Starts git on this host.
    pub host: Arc<dyn Launcher>,
    /// The database, as this process reaches it.
    pub store: Store,
    /// Its address.
    pub database_url: Secret,
    /// The settings in force.
    pub settings: watch::Receiver<Arc<Loaded>>,
    /// The checkouts of this host.
    pub checkouts: Checkouts,
    /// How repositories of other hosts are reached under some settings.
    pub remotes: fn(&Settings) -> RemoteAccess,
    /// Whether relays are needed.
    pub demand: Demand,
    /// What was said before.
    pub warned: Mutex<HashSet<String>>,
}

impl Containers {
    /// Renews the relays that containers of this host use.
    async fn keep_relays(&self) {
        let relays = &self.premises.relays;
        // Those of a network that the settings named before, too.
        if let Err(error) = relays.renew_used(&*self.host).await {
            tracing::warn!(error = %error_chain(&error), "relays in use not renewed");
        }
        let found = timeout(KEEP_WITHIN, self.surroundings()).await;
        let kept = match found.unwrap_or_else(|_| Err(silent())) {
            Ok((_, around)) => relays
                .ensure(&*self.host, &around.relays)
                .await
                .map(drop)
                .map_err(|error| fault(&error, Some(error.hint()))),
            Err(error) => Err(error),
        };
        if let Err(error) = kept {
            tracing::warn!(%error, "relays of running sandboxes not renewed");
        }
    }

    /// Makes the relays run. What cannot be had is still wanted, so that nothing is claimed until it can.
    async fn ensure_relays(&self, around: &Surroundings) -> Result<(), NotReady> {
        let ensured = self.premises.ensure_relays(around).await;
        ensured.map_err(|error| {
            self.demand.arise();
            in_the_way(&error)
        })
    }

    /// Looks at engine, network and database, without changing anything but the database's login.
    async fn surroundings(&self) -> Result<(Arc<Loaded>, Surroundings), NotReady> {
        let loaded = Arc::clone(&self.settings.borrow());
        let login = self.store.ensure_sandbox_login().await;
        let login = login.map_err(|error| fault(&error, Some(error.hint())))?;
        let SandboxLogin { name, password, .. } = &login;
        let database = Database { owners: &self.database_url, name, password };
        let around = self.premises.survey(&loaded.settings, Some(database)).await;
        Ok((loaded, around.map_err(|error| in_the_way(&error))?))
    }

    /// The same with the newest image, where the settings want that. What a sandbox is made of is decided here and not by
    /// the engine as it makes the container: only so it is what was tested.
    async fn newest_surroundings(&self) -> Result<(Arc<Loaded>, Surroundings), NotReady> {
        let (loaded, mut around) = self.surroundings().await?;
        if loaded.settings.sandbox_image_pull == ImagePull::Always {
            let renewed = self.premises.renew_image(&mut around).await;
            renewed.map_err(|error| in_the_way(&error))?;
        }
        Ok((loaded, around))
    }

    fn subject_of(
        &self,
        settings: &Settings,
        image: Option<&ImageInfo>,
        executor: ExecutorKind,
    ) -> String {
        let image = image.map(|image| image.id.as_str()).unwrap_or_default();
        let command = match executor {
            ExecutorKind::ClaudeCode => &settings.claude_code_command,
            ExecutorKind::Opencode => &settings.opencode_command,
        };
        let network = &settings.sandbox_docker_network;
        let UserId { uid, gid } = self.premises.user;
        let version = env!("CARGO_PKG_VERSION");
        format!("{image} {command} {uid}:{gid} {network} {version}")
    }

    /// Says once for each cause that agents will find no login (S6).
    fn warn_of_logins(&self, settings: &Settings) -> Result<(), NotReady> {
        let of_view = |error: ViewError| in_the_way(&Obstacle::View(error));
        let sources = self.premises.sources(settings).map_err(of_view)?;
        let logins = self.premises.view.refresh(&sources).map_err(of_view)?;
        for kind in ExecutorKind::ALL {
            let missing = warning(*kind, settings, &sources, &logins);
            if let Some(missing) = missing {
                self.warn_once(&missing.to_string(), missing.hint());
            }
        }
        Ok(())
    }

    fn warn_once(&self, what: &str, hint: &str) {
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        if warned.insert(what.to_owned()) {
            tracing::warn!(hint, "{what}");
        }
    }

    /// What the command line of a task keeps between its runs, and whether there is something.
    fn open_state(&self, task: TaskId) -> Result<(PathBuf, bool), Unfit> {
        let opened = Sessions::of(&self.premises.state_dir).open(task, self.premises.user);
        let unfit = |error| Unfit::Run {
            reason: format!("cannot make the state of {task}: {error}"),
            hint: Some("check that the state directory can be written and is not full".to_owned()),
        };
        opened.map_err(unfit)
    }
}

#[async_trait]
impl Outfitter for Containers {
    async fn ready(&self) -> Result<(), NotReady> {
        // Whatever else is missing, it is said now.
        let of_logins = self.warn_of_logins(&Arc::clone(&self.settings.borrow()).settings);
        let (_, around) = self.surroundings().await?;
        let (premises, settings) = (&self.premises, &around.settings);
        premises.check_sharing(&around.engine).await.map_err(|error| in_the_way(&error))?;
        for proxy in &around.addresses.withheld {
            self.warn_once(&proxy.to_string(), ProxyWithheld::HINT);
        }
        premises.sandbox(&around).check().map_err(|error| in_the_way(&error.into()))?;
        premises.ensure_image(&around).await.map_err(|error| in_the_way(&error))?;
        let free = disk::free(&premises.state_dir, settings.sandbox_disk_reserve);
        free.map_err(|error| fault(&error, Some(error.hint())))?;
        if self.demand.is_there() {
            self.ensure_relays(&around).await?;
        }
        of_logins
    }

    async fn subject(&self, executor: ExecutorKind) -> Result<Option<String>, NotReady> {
        let loaded = Arc::clone(&self.settings.borrow());
        let settings = &loaded.settings;
        let image = image::resolved(&settings.sandbox_docker_image);
        let image = self.premises.launcher.image(image).await;
        let image = image.map_err(|error| fault(&error, Some(error.hint())))?;
        Ok(Some(self.subject_of(settings, image.as_ref(), executor)))
    }

    fn user(&self) -> UserId {
        self.premises.user
    }

    fn checkouts(&self) -> Result<Checkouts, NotReady> {
        let loaded = Arc::clone(&self.settings.borrow());
        let settings = &loaded.settings;
        let mut access = (self.remotes)(settings);
        access.environment = self.premises.environment.clone();
        let remotes = Remotes { access: Arc::new(access), launcher: Arc::clone(&self.host) };
        let roots = loaded.local_repo_roots().map_err(|fault| NotReady::new(fault.to_string()))?;
        let roots = AllowedRoots::new(roots.to_vec());
        Ok(self.checkouts.clone().with_allowed_roots(roots).with_remotes(remotes))
    }

    async fn outfit(&self, order: Order<'_>) -> Result<Outfit, Unfit> {
        let (loaded, around) = self.newest_surroundings().await?;
        self.demand.arise();
        self.ensure_relays(&around).await?;
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
            ..Purpose::of(task.executor)
        };
        let mut spec = self.premises.sandbox(&around).launch(&purpose);
        // By its id: the name may be another image's by the time the container is made.
        if let (Some(container), Some(image)) = (&mut spec.container, &around.image) {
            container.image.clone_from(&image.id);
        }
        let subject = self.subject_of(&around.settings, around.image.as_ref(), task.executor);
        spec.labels.insert(label::SUBJECT.to_owned(), subject);
        let mut before = order.before;
        // What it would go on with lies elsewhere, or nowhere any more.
        before.session = before.session.filter(|_| held);
        let address = |url: &str| {
            http::rewrite(url, Service::Provider)
                .map_or_else(|_| url.to_owned(), |new| new.text.expose().to_owned())
        };
        let database = around.addresses.database.clone();
        let database = database.ok_or_else(|| NotReady::new("there is no database"))?;
        let assignment = SandboxAssignment {
            key: order.key,
            number: order.number,
            token: order.token,
            database_url: database,
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
        let stdin = serde_json::to_vec(&assignment).map_err(|error| Unfit::Run {
            reason: format!("the assignment cannot be written: {error}"),
            hint: None,
        })?;
        Ok(Outfit { spec, input: Input { stdin, ..Input::default() } })
    }

    async fn admit(&self, launch: &LaunchId, network: Option<&str>) -> Result<(), NotReady> {
        let Some(network) = network else { return Ok(()) };
        let admitted = self.premises.admit(network, launch).await;
        admitted.map_err(|error| fault(&error, None))
    }

    async fn admit_again(&self, launch: &LaunchId) -> Result<(), NotReady> {
        let admitted = self.premises.admit_again(launch).await;
        admitted.map_err(|error| fault(&error, None))
    }

    async fn dismiss(&self, launch: &LaunchId) {
        self.premises.dismiss(launch);
    }

    async fn admitted(&self) -> BTreeSet<LaunchId> {
        let all = self.premises.clients_of_every_network();
        all.iter().flat_map(|clients| clients.entries().unwrap_or_default()).collect()
    }

    async fn keep(&self, gone: BTreeSet<LaunchId>) {
        for clients in self.premises.clients_of_every_network() {
            if let Err(error) = clients.sweep(&gone) {
                tracing::debug!(error = %error_chain(&error), "clients of relays not swept");
            }
        }
        if !self.admitted().await.is_empty() {
            self.demand.arise();
            self.keep_relays().await;
        }
        // After what cannot wait: it asks the database, and what it removes may be large.
        if let Err(error) = Sessions::of(&self.premises.state_dir).sweep(&self.store).await {
            tracing::debug!(error = %error_chain(&error), "sessions of tasks not swept");
        }
    }

    fn state_of(&self, task: TaskId) -> Option<PathBuf> {
        Some(Sessions::of(&self.premises.state_dir).directory(task))
    }

    async fn forget(&self, task: TaskId) {
        Sessions::of(&self.premises.state_dir).forget(task).await;
    }
}

fn fault(error: &(dyn std::error::Error + 'static), hint: Option<&str>) -> NotReady {
    let fault = NotReady::new(error_chain(error).to_string());
    NotReady { hint: hint.map(str::to_owned), ..fault }
}

fn silent() -> NotReady {
    NotReady::new(format!(
        "engine and database were not looked at within {} s",
        KEEP_WITHIN.as_secs()
    ))
}

fn in_the_way(obstacle: &Obstacle) -> NotReady {
    NotReady { progress: obstacle.progress(), ..fault(obstacle, Some(obstacle.hint())) }
}
