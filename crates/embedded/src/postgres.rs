//! The private PostgreSQL: ensures that it runs, and keeps it while it is used.

use std::{
    fs,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use core_types::secret::Secret;
use launcher::{
    error::HandleError,
    handle::{Handle, StopRequest},
    process::ProcessLauncher,
};
use tokio::time::MissedTickBehavior;

use crate::{
    account::Account,
    binaries,
    cluster::Cluster,
    database::make_database,
    endpoint::Endpoint,
    error::{EmbeddedError, io_error},
    init,
    lock::StartLock,
    server::{Running, Server},
};

/// The database role that everything runs as.
pub(crate) const ROLE: &str = "opentiger";
/// The database that is made for the user of the URL.
pub(crate) const DATABASE: &str = "opentiger";
/// How long the server lives after the last renewal.
const LEASE: Duration = Duration::from_secs(60);
/// How many times a lease is renewed in its length.
const RENEWALS: u32 = 6;

/// Whether a commit is on the disk when it is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Survives a power cut.
    Full,
    /// Faster, and loses everything at a power cut: for tests.
    Test,
}

/// Where the server lives and how it is found.
#[derive(Debug, Clone)]
pub struct EmbeddedOptions {
    /// The state directory; everything is below its `postgres`.
    pub state_dir: PathBuf,
    /// The directory of PostgreSQL's binaries; none: they are looked for.
    pub bin_dir: Option<PathBuf>,
    /// Directories separated by `:` in which binaries are looked for first.
    pub search_path: String,
    /// Whether a commit is on the disk when it is acknowledged.
    pub durability: Durability,
    /// The port on 127.0.0.1; none: the last one if it is free, else any.
    pub port: Option<u16>,
    /// Starts the server. All users of one server need launchers on the same directory.
    pub launcher: ProcessLauncher,
    /// How long the server lives after the last renewal; 60 s unless a test says otherwise.
    pub lease: Duration,
}

/// A private PostgreSQL that runs.
#[derive(Debug, Clone)]
pub struct EmbeddedPostgres {
    /// How to connect, password included.
    pub url: Secret,
    /// The port on 127.0.0.1.
    pub port: u16,
    /// The data directory.
    pub data_dir: PathBuf,
    /// Whether this call started it; otherwise it was there.
    pub started_here: bool,
    running: Running,
    options: EmbeddedOptions,
}

impl EmbeddedOptions {
    /// Full durability, any port, binaries from `search_path` and the usual places.
    #[must_use]
    pub const fn new(state_dir: PathBuf, search_path: String, launcher: ProcessLauncher) -> Self {
        Self {
            state_dir,
            bin_dir: None,
            search_path,
            durability: Durability::Full,
            port: None,
            launcher,
            lease: LEASE,
        }
    }
}

/// Answers with a private PostgreSQL that is ready: the one that runs, or else a new start on the same data.
///
/// The server ends about a minute after the last call of this function and of [`EmbeddedPostgres::keep_alive`].
///
/// # Errors
/// An [`EmbeddedError`] with a hint where the user can do something.
///
/// # Cancel safety
/// A cancelled call leaves at most a server that nobody renews, or an unfinished data directory that is made again.
pub async fn ensure_postgres(options: EmbeddedOptions) -> Result<EmbeddedPostgres, EmbeddedError> {
    let place = Place::prepare(&options)?;
    let _lock = StartLock::take(&place.directory.join("lock")).await?;
    let server = Server {
        launcher: &options.launcher,
        cluster: &place.cluster,
        account: &place.account,
        durability: options.durability,
        lease: options.lease,
    };
    let (running, started_here) = match server.find().await? {
        Some(running) => (running, false),
        None => (place.start(&server, &options).await?, true),
    };
    let url = make_url(&place.cluster.password()?, running.port, DATABASE);
    place.publish(&running, &url).await?;
    let (port, data_dir) = (running.port, place.cluster.data_dir);
    Ok(EmbeddedPostgres { url, port, data_dir, started_here, running, options })
}

impl EmbeddedPostgres {
    /// Keeps the server alive for as long as this future is polled, and brings it back when it dies. Returns only when
    /// that is not possible any more.
    ///
    /// # Errors
    /// Why it is not possible; [`EmbeddedError::Moved`] where it came back on another port.
    ///
    /// # Cancel safety
    /// Dropping it is how to stop.
    pub async fn keep_alive(&self) -> Result<std::convert::Infallible, EmbeddedError> {
        let mut handle = self.running.handle.clone();
        let mut tick = tokio::time::interval(self.options.lease / RENEWALS);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let report = tokio::select! {
                // Cancel safe: an interval keeps its place.
                _ = tick.tick() => match handle.renew().await {
                    Ok(()) => continue,
                    Err(HandleError::Ended { .. }) => None,
                    Err(error) => {
                        tracing::debug!(error = %error, "cannot renew the private database's lease");
                        continue;
                    }
                },
                // Cancel safe: it only watches.
                report = handle.exited() => Some(report),
            };
            let outcome = report.map(|report| report.outcome);
            tracing::warn!(?outcome, "the private database ended; starting it again");
            handle = self.bring_back().await?;
        }
    }

    async fn bring_back(&self) -> Result<Handle, EmbeddedError> {
        let again = ensure_postgres(self.options.clone()).await?;
        if again.port == self.port {
            return Ok(again.running.handle);
        }
        Err(EmbeddedError::Moved { from: self.port, to: again.port })
    }

    /// Ends the server now, also for its other users, and waits until it is gone.
    pub async fn stop(&self, reason: &str) {
        let request = StopRequest::new(reason, Duration::from_secs(30));
        self.running.handle.stop(request).await;
    }
}

/// The directory of the server and who it belongs to.
struct Place {
    directory: PathBuf,
    cluster: Cluster,
    account: Account,
}

impl Place {
    fn prepare(options: &EmbeddedOptions) -> Result<Self, EmbeddedError> {
        let account = Account::choose()?;
        let state_dir = std::path::absolute(&options.state_dir)
            .map_err(io_error("resolve", &options.state_dir))?;
        let directory = state_dir.join("postgres");
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&directory)
            .map_err(io_error("make directory", &directory))?;
        close_to_others(&directory)?;
        account.open_way(&directory, &[&directory, &state_dir])?;
        let cluster = Cluster { data_dir: directory.join("data") };
        Ok(Self { directory, cluster, account })
    }

    fn endpoint_file(&self) -> PathBuf {
        self.directory.join("endpoint.json")
    }

    /// Makes the database and writes how to reach it, unless somebody did both for this server.
    async fn publish(&self, running: &Running, url: &Secret) -> Result<(), EmbeddedError> {
        let file = self.endpoint_file();
        let endpoint = Endpoint::new(running.port, running.handle.record(), url);
        if endpoint.is_in(&file)? {
            return Ok(());
        }
        let maintenance = make_url(&self.cluster.password()?, running.port, "postgres");
        make_database(&maintenance, running.port).await?;
        endpoint.write(&file)
    }

    /// Makes the data if there is none, and starts a server on it.
    async fn start(
        &self,
        server: &Server<'_>,
        options: &EmbeddedOptions,
    ) -> Result<Running, EmbeddedError> {
        init::clear_leftovers(server.launcher, &self.directory).await?;
        let major = self.cluster.major()?;
        let found =
            binaries::find(options.bin_dir.as_deref(), &options.search_path, &self.account, major);
        let binaries = found.await.map_err(|tried| match major {
            None => EmbeddedError::BinariesMissing { tried },
            Some(data_major) => {
                let data_dir = self.cluster.data_dir.clone();
                EmbeddedError::VersionMissing { data_dir, data_major, tried }
            }
        })?;
        let last = Endpoint::read(&self.endpoint_file())?.map(|endpoint| endpoint.port);
        if major.is_none() {
            Endpoint::forget(&self.endpoint_file())?;
            init::make(server, &binaries).await?;
        }
        self.cluster.clear_stale()?;
        let running =
            server.start(&binaries, options.port.or(last), options.port.is_some()).await?;
        tracing::info!(
            postgres.version = binaries.version,
            postgres.port = running.port,
            postgres.data = %self.cluster.data_dir.display(),
            "started a private database"
        );
        Ok(running)
    }
}

fn make_url(password: &Secret, port: u16, database: &str) -> Secret {
    Secret::new(format!("postgresql://{ROLE}:{}@127.0.0.1:{port}/{database}", password.expose()))
}

/// Others may pass through the directory at most, and it must be ours: who can rename in it could give us another server.
fn close_to_others(directory: &Path) -> Result<(), EmbeddedError> {
    let metadata = fs::metadata(directory).map_err(io_error("look at", directory))?;
    let (owner, user) = (metadata.uid(), rustix::process::geteuid().as_raw());
    if owner != user {
        return Err(EmbeddedError::NotOurs { path: directory.to_owned(), owner, user });
    }
    let mode = metadata.mode() & 0o7777;
    if mode & 0o711 == mode {
        return Ok(());
    }
    let closed = fs::Permissions::from_mode(mode & 0o711);
    fs::set_permissions(directory, closed).map_err(io_error("close", directory))
}

/// Where the server of a state directory writes how to reach it.
#[must_use]
pub fn endpoint_file(state_dir: &Path) -> PathBuf {
    state_dir.join("postgres/endpoint.json")
}
