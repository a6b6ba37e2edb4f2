//! The private Redis: ensures that it runs, and keeps it while it is used.

mod binary;
mod program;
mod question;

use std::{
    io,
    path::{Path, PathBuf},
};

use core_types::secret::Secret;

use crate::{
    endpoint::Endpoint,
    error::{EmbeddedError, ServerKind, io_error},
    files::{make_directory, new_password, read_plain, write_private},
    keep::Kept,
    options::EmbeddedOptions,
    place::Place,
    redis::program::Redis,
    server::{Running, Server},
};

/// A private Redis or Valkey that runs.
#[derive(Debug, Clone)]
pub struct EmbeddedRedis {
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

/// Answers with a private Redis that is ready: the one that runs, or else a new start on the same data.
///
/// The server ends about a minute after the last call of this function and of [`EmbeddedRedis::keep_alive`].
///
/// # Errors
/// An [`EmbeddedError`] with a hint where the user can do something.
///
/// # Cancel safety
/// A cancelled call leaves at most a server that nobody renews.
pub async fn ensure_redis(options: EmbeddedOptions) -> Result<EmbeddedRedis, EmbeddedError> {
    let place = Place::prepare(ServerKind::Redis, &options.state_dir)?;
    let _lock = place.lock().await?;
    let program = Redis {
        directory: place.directory.clone(),
        account: &place.account,
        durability: options.durability,
        password: password(&place)?,
    };
    let server = Server { launcher: &options.launcher, program: &program, lease: options.lease };
    let (running, started_here) = match server.find().await? {
        Some(running) => (running, false),
        None => (start(&place, &server, &options).await?, true),
    };
    let url = make_url(&program.password, running.port);
    let endpoint = Endpoint::new(running.port, running.handle.record(), &url);
    if !endpoint.is_in(&place.endpoint_file())? {
        endpoint.write(&place.endpoint_file())?;
    }
    let (port, data_dir) = (running.port, program.data_dir());
    Ok(EmbeddedRedis { url, port, data_dir, started_here, running, options })
}

impl EmbeddedRedis {
    /// Keeps the server alive for as long as this future is polled, and brings it back when it dies. Returns only when
    /// that is not possible any more.
    ///
    /// # Errors
    /// Why it is not possible; [`EmbeddedError::Moved`] where it came back on another port.
    ///
    /// # Cancel safety
    /// Dropping it is how to stop.
    pub async fn keep_alive(&self) -> Result<std::convert::Infallible, EmbeddedError> {
        let again = || async { Ok(ensure_redis(self.options.clone()).await?.running) };
        self.kept().alive(again).await
    }

    /// Ends the server now, also for its other users, and waits until it is gone.
    pub async fn stop(&self, reason: &str) {
        self.kept().stop(reason).await;
    }

    const fn kept(&self) -> Kept<'_> {
        Kept { kind: ServerKind::Redis, running: &self.running, lease: self.options.lease }
    }
}

/// Where the server of a state directory writes how to reach it.
#[must_use]
pub fn endpoint_file(state_dir: &Path) -> PathBuf {
    state_dir.join("redis/endpoint.json")
}

async fn start(
    place: &Place,
    server: &Server<'_, Redis<'_>>,
    options: &EmbeddedOptions,
) -> Result<Running, EmbeddedError> {
    let redis = server.program;
    let binary = binary::find(options, &place.account).await?;
    let last = Endpoint::read(&place.endpoint_file())?.map(|endpoint| endpoint.port);
    if !redis.data_dir().is_dir() {
        make_directory(&redis.data_dir(), 0o700, place.account.user)?;
    }
    let spec = |port| redis.spec(&binary, port);
    let running = server.start(options.port.or(last), options.port.is_some(), spec).await?;
    tracing::info!(
        redis.version = binary.version,
        redis.port = running.port,
        redis.data = %redis.data_dir().display(),
        "started a private Redis"
    );
    Ok(running)
}

/// The password of this place, made at the first start. Nothing of the data depends on it.
fn password(place: &Place) -> Result<Secret, EmbeddedError> {
    let file = place.directory.join("password");
    match read_plain(&file) {
        Ok(text) if !text.trim().is_empty() => return Ok(Secret::new(text.trim())),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(io_error("read", &file)(error)),
    }
    let password = new_password();
    write_private(&file, password.expose().as_bytes(), None)?;
    Ok(password)
}

fn make_url(password: &Secret, port: u16) -> Secret {
    Secret::new(format!("redis://:{}@127.0.0.1:{port}", password.expose()))
}
