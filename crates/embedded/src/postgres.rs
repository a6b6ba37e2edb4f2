//! The private PostgreSQL: ensures that it runs, and keeps it while it is used.

mod binaries;
mod cluster;
mod database;
pub(crate) mod init;
mod program;

use std::path::{Path, PathBuf};

use core_types::secret::Secret;
use launcher::process::ProcessLauncher;

use crate::{
    endpoint::Endpoint,
    error::{EmbeddedError, ServerKind},
    keep::Kept,
    options::EmbeddedOptions,
    place::Place,
    postgres::{cluster::Cluster, database::make_database, program::Postgres},
    server::{Running, Server},
};

/// The database role that everything runs as.
pub(crate) const ROLE: &str = "opentiger";
/// The database that is made for the user of the URL.
pub(crate) const DATABASE: &str = "opentiger";

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
    let place = Place::prepare(ServerKind::Postgres, &options.state_dir)?;
    let _lock = place.lock().await?;
    let cluster = Cluster { data_dir: place.directory.join("data") };
    let program = Postgres { cluster, account: &place.account, durability: options.durability };
    let server = Server { launcher: &options.launcher, program: &program, lease: options.lease };
    let (running, started_here) = match server.find().await? {
        Some(running) => (running, false),
        None => (start(&place, &server, &options).await?, true),
    };
    let url = make_url(&program.cluster.password()?, running.port, DATABASE);
    publish(&place, &program.cluster, &running, &url).await?;
    let (port, data_dir) = (running.port, program.cluster.data_dir.clone());
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
        let again = || async { Ok(ensure_postgres(self.options.clone()).await?.running) };
        self.kept().alive(again).await
    }

    /// Ends the server now, also for its other users, and waits until it is gone.
    pub async fn stop(&self, reason: &str) {
        self.kept().stop(reason).await;
    }

    const fn kept(&self) -> Kept<'_> {
        Kept { kind: ServerKind::Postgres, running: &self.running, lease: self.options.lease }
    }
}

/// Makes the database and writes how to reach it, unless somebody did both for this server.
async fn publish(
    place: &Place,
    cluster: &Cluster,
    running: &Running,
    url: &Secret,
) -> Result<(), EmbeddedError> {
    let file = place.endpoint_file();
    let endpoint = Endpoint::new(running.port, running.handle.record(), url);
    if endpoint.is_in(&file)? {
        return Ok(());
    }
    let maintenance = make_url(&cluster.password()?, running.port, "postgres");
    make_database(&maintenance, running.port).await?;
    endpoint.write(&file)
}

/// Makes the data if there is none, and starts a server on it.
async fn start(
    place: &Place,
    server: &Server<'_, Postgres<'_>>,
    options: &EmbeddedOptions,
) -> Result<Running, EmbeddedError> {
    let (launcher, postgres): (&ProcessLauncher, _) = (server.launcher, server.program);
    init::clear_leftovers(launcher, &place.directory).await?;
    let major = postgres.cluster.major()?;
    let binaries = binaries::find(options, &place.account, major).await;
    let binaries = binaries.map_err(|missing| missing.explain(&postgres.cluster, major))?;
    let last = Endpoint::read(&place.endpoint_file())?.map(|endpoint| endpoint.port);
    if major.is_none() {
        Endpoint::forget(&place.endpoint_file())?;
        init::make(launcher, postgres, &binaries).await?;
    }
    postgres.cluster.clear_stale()?;
    let spec = |port| Ok(postgres.spec(&binaries, port));
    let running = server.start(options.port.or(last), options.port.is_some(), spec).await?;
    tracing::info!(
        postgres.version = binaries.version,
        postgres.port = running.port,
        postgres.data = %postgres.cluster.data_dir.display(),
        "started a private database"
    );
    Ok(running)
}

fn make_url(password: &Secret, port: u16, database: &str) -> Secret {
    Secret::new(format!("postgresql://{ROLE}:{}@127.0.0.1:{port}/{database}", password.expose()))
}

/// Where the server of a state directory writes how to reach it.
#[must_use]
pub fn endpoint_file(state_dir: &Path) -> PathBuf {
    state_dir.join("postgres/endpoint.json")
}
