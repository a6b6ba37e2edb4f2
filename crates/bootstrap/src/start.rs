//! Settings, logging, state directory, launcher, database: in this order, each one fit before the next begins.

use std::{
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use agent_queue::queue::Queue;
use core_config::{
    database::DatabaseSnapshot,
    fault::Faults,
    load::{Loaded, load_lenient_database, load_to_serve},
    settings::{LogFormat, Settings},
};
use core_types::secret::Secret;
use embedded::{error::EmbeddedError, postgres::EmbeddedPostgres, redis::EmbeddedRedis};
use launcher::{identity::ProcessIdentity, process::ProcessLauncher};
use store::{
    agents::HostId,
    dispatchers::DispatcherBeat,
    pool::{PoolOptions, Store},
};
use telemetry::{
    chain::error_chain,
    log::{Format, LogOptions},
};
use tokio::sync::watch;
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};
use uuid::Uuid;

use crate::{
    environment::variables,
    error::StartError,
    host::host_name,
    publishing::Publisher,
    queue,
    secrecy::hide_memory,
    servers::{database, private_redis},
    settings::{follow, report, snapshot},
    signals::StopSignals,
};

/// How long a call waits for a free connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a call may take, the first connection too; shorter than a request to the API may take, so that a database
/// that is silent is said to be.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(20);

/// What a binary works with. Its background tasks end when it is dropped.
#[derive(Debug)]
pub struct Started {
    /// The settings in force, with those of the database. Bad rows do not stop a start: see
    /// [`Loaded::database_faults`].
    pub settings: Arc<Loaded>,
    /// The rows of which the settings were made.
    rows: DatabaseSnapshot,
    /// The database, migrated.
    pub store: Store,
    /// Starts processes in the state directory.
    pub launcher: Arc<ProcessLauncher>,
    /// Where openTiger keeps what is not in the database; it exists.
    pub state_dir: PathBuf,
    /// The private Postgres, where no database is configured. It is kept alive as long as this value is.
    pub embedded: Option<EmbeddedPostgres>,
    /// Redis, where there is one; it may be away. The store rings through it and hears from it.
    pub queue: Option<Queue>,
    /// The private Redis, where none is configured. It is kept alive as long as this value is.
    redis: Option<EmbeddedRedis>,
    /// The name of this host, see [`host_name`].
    pub host: HostId,
    tasks: TaskTracker,
    /// The name of this program.
    program: String,
    /// Cancelled when this process is asked to stop, and when this value is dropped.
    stopping: CancellationToken,
    /// Cancelled when this value is dropped.
    ended: CancellationToken,
    /// Cancelled when the private Postgres is gone for good.
    broken: CancellationToken,
    /// Why it is gone.
    lost: Arc<Mutex<Option<EmbeddedError>>>,
    _end: DropGuard,
}

/// What a program needs of the database.
#[derive(Debug, Clone)]
pub struct StartOptions {
    /// The name under which the database knows this program's connections.
    pub program: String,
    /// The most connections in the pool.
    pub connections: usize,
    /// Whether it serves the API: what it listens on must not be open to strangers.
    pub serves_api: bool,
}

/// Starts with a pool of four connections.
///
/// # Errors
/// See [`start_with`].
pub async fn start(program: &str) -> Result<Started, StartError> {
    start_with(StartOptions { program: program.to_owned(), connections: 4, serves_api: false })
        .await
}

/// Starts a program that serves the API, with a pool of four connections.
///
/// # Errors
/// See [`start_with`].
pub async fn start_serving(program: &str) -> Result<Started, StartError> {
    start_with(StartOptions { program: program.to_owned(), connections: 4, serves_api: true }).await
}

/// Loads the settings, starts logging, connects to the configured database or starts the private one, and migrates it.
///
/// # Errors
/// [`StartError`]; its exit code is 2 where the settings are at fault and 1 otherwise.
pub async fn start_with(options: StartOptions) -> Result<Started, StartError> {
    let (program, serves_api) = (options.program.clone(), options.serves_api);
    let hidden = hide_memory();
    let first = first_settings(options.serves_api).map_err(StartError::Settings)?;
    start_logging(&first.settings)?;
    if let Err(error) = hidden {
        tracing::error!(error = %error, "secrets of this process can be read by others of its user");
    }
    let state_dir = first.settings.state_dir.clone();
    make_state_directory(&state_dir)?;
    let launcher = ProcessLauncher::new(state_dir.clone()).map_err(StartError::Launcher)?;
    let (url, embedded) = database(&first.settings, &launcher).await?;
    let (store, rows, settings) = open(&url, options).await?;
    let redis = private_redis(&first.settings, &launcher, serves_api).await;
    let redis_url = first.settings.redis_url.as_ref().or(redis.as_ref().map(|redis| &redis.url));
    let queue = match redis_url {
        Some(url) => queue::connect(url, &store).await,
        None => None,
    };
    let host = HostId::new(host_name(launcher.store_id()));
    let ended = CancellationToken::new();
    let started = Started {
        settings: Arc::new(settings),
        rows,
        store,
        launcher: Arc::new(launcher),
        state_dir,
        embedded,
        queue,
        redis,
        host,
        tasks: TaskTracker::new(),
        _end: ended.clone().drop_guard(),
        program,
        stopping: ended.child_token(),
        ended,
        broken: CancellationToken::new(),
        lost: Arc::default(),
    };
    started.keep_embedded();
    started.use_redis();
    Ok(started)
}

/// The settings of the environment alone.
pub(crate) fn first_settings(serves_api: bool) -> Result<Loaded, Faults> {
    if serves_api {
        load_to_serve(variables(), None)
    } else {
        load_lenient_database(variables(), None)
    }
}

impl Started {
    /// The settings as they are from now on: the rows of the database are followed, and what is in force is told to
    /// others until this process is asked to stop.
    #[must_use]
    pub fn watch_settings(&self) -> watch::Receiver<Arc<Loaded>> {
        let (sender, receiver) = watch::channel(Arc::clone(&self.settings));
        let publisher = Publisher::new(self.store.clone(), &self.program, &self.host);
        let (store, rows) = (self.store.clone(), self.rows.clone());
        self.tasks.spawn(follow(
            store,
            rows,
            sender,
            publisher,
            self.stopping.clone(),
            self.ended.clone(),
        ));
        receiver
    }

    /// A token that SIGTERM, SIGINT or the loss of the private Postgres cancels; a second signal ends the process at
    /// once.
    ///
    /// # Errors
    /// The system refuses a signal handler.
    pub fn stop_token(&self) -> io::Result<CancellationToken> {
        let signals = StopSignals::new()?;
        let stop = self.stopping.clone();
        let obey = signals.obey(stop.clone(), self.broken.clone());
        self.tasks.spawn(self.ended.clone().run_until_cancelled_owned(obey));
        Ok(stop)
    }

    /// What a dispatcher says of itself in the beginning.
    ///
    /// # Errors
    /// The identity of this process cannot be read.
    pub fn dispatcher_beat(&self) -> io::Result<DispatcherBeat> {
        Ok(DispatcherBeat {
            id: Uuid::now_v7(),
            host: self.host.clone(),
            process: own_process()?,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            paused: None,
        })
    }

    /// Says whether everything held until the end.
    ///
    /// # Errors
    /// [`StartError::Embedded`] where the private Postgres was lost on the way.
    pub fn outcome(&self) -> Result<(), StartError> {
        let lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner).take();
        lost.map_or(Ok(()), |error| Err(StartError::Embedded(error)))
    }

    /// Hears through Redis, and keeps the private one alive. Losing it only makes things slower.
    fn use_redis(&self) {
        if let Some(queue) = self.queue.clone() {
            let hear = queue::hear(queue, self.store.clone());
            self.tasks.spawn(self.ended.clone().run_until_cancelled_owned(hear));
        }
        if let Some(redis) = self.redis.clone() {
            let keep = async move {
                let Err(error) = redis.keep_alive().await;
                tracing::warn!(error = %error_chain(&error), "private redis lost, going on without one");
            };
            self.tasks.spawn(self.ended.clone().run_until_cancelled_owned(keep));
        }
    }

    fn keep_embedded(&self) {
        let Some(postgres) = self.embedded.clone() else {
            return;
        };
        let (lost, broken) = (Arc::clone(&self.lost), self.broken.clone());
        let keep = async move {
            let Err(error) = postgres.keep_alive().await;
            tracing::error!(error = %error_chain(&error), "private database lost");
            *lost.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            broken.cancel();
        };
        self.tasks.spawn(self.ended.clone().run_until_cancelled_owned(keep));
    }
}

/// The identity of this process, as agents and dispatchers register it.
///
/// # Errors
/// `/proc` cannot be read.
pub fn own_process() -> io::Result<store::agents::ProcessIdentity> {
    let ProcessIdentity { pid, start_ticks, boot_id } = ProcessIdentity::own()?;
    Ok(store::agents::ProcessIdentity { pid, start_ticks, boot_id })
}

fn start_logging(settings: &Settings) -> Result<(), StartError> {
    let format = match settings.log_format {
        LogFormat::Text => Format::Text,
        LogFormat::Json => Format::Json,
    };
    telemetry::log::init(&LogOptions { filter: settings.log.clone(), format })
        .map_err(StartError::Logging)
}

pub(crate) fn make_state_directory(path: &Path) -> Result<(), StartError> {
    // 0711 and not 0700: agents and the private Postgres may run as another user, beneath it.
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o711)
        .create(path)
        .map_err(|source| StartError::StateDirectory { path: path.to_owned(), source })
}

async fn open(
    url: &Secret,
    options: StartOptions,
) -> Result<(Store, DatabaseSnapshot, Loaded), StartError> {
    let pool = PoolOptions {
        max_size: options.connections,
        acquire_timeout: ACQUIRE_TIMEOUT,
        operation_timeout: OPERATION_TIMEOUT,
        ..PoolOptions::new(format!("opentiger {}", options.program))
    };
    let store = Store::connect(url, pool).await.map_err(StartError::Connect)?;
    let migrated = store.migrate().await.map_err(StartError::Migrate)?;
    if migrated.applied > 0 {
        tracing::info!(
            schema.version = migrated.to,
            migrations = migrated.applied,
            "database migrated"
        );
    }
    let rows = snapshot(store.config_rows().await.map_err(StartError::Rows)?);
    let settings = load_lenient_database(variables(), Some(&rows)).map_err(StartError::Settings)?;
    report(&settings);
    Ok((store, rows, settings))
}
