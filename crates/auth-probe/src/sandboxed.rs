//! Checks in a sandbox: a container like that of a run, with a checkout that is empty and goes with the check.
//!
//! What runs in it is the agent's command line itself, where a run has a worker that starts it; image, user, network,
//! mounts, limits and variables come from where runs get them. Before a login is tried, a look from inside says whether
//! the container sees what it needs.

mod inspecting;
mod looking;
mod obstacles;
mod passage;
mod room;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use core_config::load::Loaded;
use core_types::{
    auth::{AuthReason, CheckedBy},
    secret::Secret,
    task::ExecutorKind,
};
use executor::invocation::ExecutorSettings;
use launcher::{docker::EngineInfo, error::EngineError};
use sandbox::{
    premises::{self, Obstacle, Premises, Surroundings},
    rewrite::{Service, http},
};
use store::{pool::Store, sandbox::login::SandboxLogin};
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

pub(crate) use self::obstacles::of_launch;
use self::{looking::Cell, obstacles::in_the_way};
use crate::{
    credentials,
    finding::Finding,
    place::{Ask, Site, Spot},
};

/// What is older was left behind.
pub const LEFT_BEHIND: Duration = Duration::from_secs(120);
/// How long an engine may take to say what it is.
const ENGINE_WITHIN: Duration = Duration::from_secs(5);
/// How long relays may take to run.
const RELAYS_WITHIN: Duration = Duration::from_secs(8);
/// How long the database may take to tell its login for sandboxes.
const DATABASE_WITHIN: Duration = Duration::from_secs(6);

/// Sandboxes of this host. Clones share everything.
#[derive(Debug, Clone)]
pub struct Sandboxed {
    shared: Arc<Shared>,
}

/// The database, for which sandboxes have a login of their own.
#[derive(Debug, Clone)]
pub struct Database {
    /// As this process reaches it.
    pub store: Store,
    /// Its address.
    pub url: Secret,
}

#[derive(Debug)]
struct Shared {
    premises: Premises,
    settings: watch::Receiver<Arc<Loaded>>,
    database: Option<Database>,
    looks: Mutex<BTreeMap<ExecutorKind, Cell>>,
}

impl Sandboxed {
    /// Checks on these premises under the settings in force. Without a database a container is given none, and none is
    /// looked at.
    #[must_use]
    pub fn new(
        premises: Premises,
        settings: watch::Receiver<Arc<Loaded>>,
        database: Option<Database>,
    ) -> Self {
        let looks = Mutex::default();
        Self { shared: Arc::new(Shared { premises, settings, database, looks }) }
    }

    /// Removes containers, launches and entries of checks whose process has ended, and of those that began longer ago. No
    /// check lasts as long as [`LEFT_BEHIND`].
    pub async fn sweep(&self, older_than: Duration) {
        passage::sweep(&self.shared.premises, older_than).await;
    }
}

impl Shared {
    fn loaded(&self) -> Arc<Loaded> {
        Arc::clone(&self.settings.borrow())
    }

    async fn engine(&self) -> Result<EngineInfo, Obstacle> {
        let launcher = &self.premises.launcher;
        match timeout(ENGINE_WITHIN, launcher.engine()).await {
            Ok(engine) => Ok(engine?),
            Err(elapsed) => {
                let host = launcher.host().to_owned();
                Err(EngineError::Unreachable { host, source: Box::new(elapsed) }.into())
            }
        }
    }

    /// The database's login for sandboxes, or why there is none, in one line with what to do.
    async fn login(&self) -> Option<Result<SandboxLogin, (String, String)>> {
        let Database { store, .. } = self.database.as_ref()?;
        let made = timeout(DATABASE_WITHIN, store.ensure_sandbox_login()).await;
        Some(match made {
            Ok(Ok(login)) => Ok(login),
            Ok(Err(error)) => {
                Err((telemetry::chain::error_chain(&error).to_string(), error.hint().to_owned()))
            }
            Err(_) => Err((
                format!("no answer within {} s", DATABASE_WITHIN.as_secs()),
                "see to the database first".to_owned(),
            )),
        })
    }

    /// The database as sandboxes are given it, where they have a login.
    fn lent<'a>(&'a self, login: Option<&'a SandboxLogin>) -> Option<premises::Database<'a>> {
        let (Database { url, .. }, login) = (self.database.as_ref()?, login?);
        Some(premises::Database { owners: url, name: &login.name, password: &login.password })
    }

    /// What a container of this moment has around it, as far as nothing stands in its way.
    async fn around(&self) -> Result<Surroundings, Obstacle> {
        let loaded = self.loaded();
        self.engine().await?;
        // Its fault is no matter of a login: the container goes without, and readiness tells of it.
        let login = self.login().await.and_then(Result::ok);
        let around = self.premises.survey(&loaded.settings, self.lent(login.as_ref())).await?;
        obstacles::check_image(&around)?;
        self.premises.sandbox(&around).check()?;
        Ok(around)
    }

    async fn relays(&self, around: &Surroundings) -> Result<(), Obstacle> {
        let ensured = timeout(RELAYS_WITHIN, self.premises.ensure_relays(around)).await;
        ensured.unwrap_or_else(|_| Err(obstacles::relays_silent(around)))
    }

    async fn spot(self: &Arc<Self>, ask: &Ask, asked: Instant) -> Result<Spot, Finding> {
        let around = self.around().await.map_err(|error| in_the_way(&error))?;
        let found = credentials::in_sandbox(ask, &self.premises, &around.settings)?;
        self.relays(&around).await.map_err(|error| in_the_way(&error))?;
        let look = self.look(ask.executor, &around, asked).await?;
        looking::judge(ask, &look)?;
        let room = room::make(&self.premises, &around, ask.executor).map_err(|error| {
            let detail = format!("no place for a check can be made: {error}");
            Finding::new(AuthReason::Unknown, CheckedBy::Credentials).with_detail(detail)
        })?;
        room.spot(self, &around, ask.executor, found)
    }
}

#[async_trait]
impl Site for Sandboxed {
    async fn open(&self, ask: &Ask) -> Result<Spot, Finding> {
        let asked = Instant::now();
        let (shared, ask) =
            (Arc::clone(&self.shared), Ask { settings: inside(&ask.settings), ..ask.clone() });
        shared.spot(&ask, asked).await
    }

    fn revision(&self) -> Option<i64> {
        self.shared.settings.borrow().revision
    }

    fn settings(&self, ask: &Ask) -> ExecutorSettings {
        inside(&ask.settings)
    }
}

/// Settings as a sandbox gets them: the image has programs of its own, and loopback has another name.
fn inside(settings: &ExecutorSettings) -> ExecutorSettings {
    let name = |command: &str| command.rsplit('/').next().unwrap_or(command).to_owned();
    let address = |url: &String| {
        http::rewrite(url, Service::Provider)
            .map_or_else(|_| url.clone(), |new| new.text.expose().to_owned())
    };
    let mut inside = settings.clone();
    inside.claude_code.command = name(&settings.claude_code.command);
    inside.opencode.command = name(&settings.opencode.command);
    inside.claude_code.base_url = settings.claude_code.base_url.as_ref().map(address);
    inside.opencode.anthropic_base_url = settings.opencode.anthropic_base_url.as_ref().map(address);
    inside
}
