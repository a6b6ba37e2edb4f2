//! The connection to the engine, and its errors by what they mean.
//!
//! A socket that is not there is no failure of opening a launcher: the engine may come later, and
//! it may go and come back.

use std::{error::Error as _, io, time::Duration};

use bollard::{API_DEFAULT_VERSION, Docker, errors::Error};
use tokio::sync::OnceCell;

use super::facts::EngineInfo;
use crate::error::{EngineError, LaunchError};

/// How long the engine may take for the first byte of an answer, in seconds. Starting a container
/// on a machine at its limits takes tens of them.
const TIMEOUT: u64 = 120;
/// Where the engine of the whole machine listens.
const SYSTEM_SOCKET: &str = "/var/run/docker.sock";

/// One engine.
#[derive(Debug)]
pub(crate) struct Client {
    host: String,
    connected: OnceCell<Docker>,
    info: OnceCell<EngineInfo>,
}

impl Client {
    /// A client of the engine at an address in the form of `DOCKER_HOST`.
    pub(crate) fn new(host: Option<String>) -> Self {
        let host = host.unwrap_or_else(default_host);
        Self { host, connected: OnceCell::new(), info: OnceCell::new() }
    }

    /// Where it listens.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// The engine. Every request is a connection of its own, so one that was restarted is the same.
    pub(crate) async fn docker(&self) -> Result<&Docker, EngineError> {
        self.connected.get_or_try_init(|| self.connect()).await
    }

    /// What the engine said of itself at first.
    pub(crate) async fn info(&self) -> Result<&EngineInfo, EngineError> {
        self.info.get_or_try_init(|| self.ask_info()).await
    }

    /// What the engine says of itself now.
    pub(crate) async fn ask_info(&self) -> Result<EngineInfo, EngineError> {
        let docker = self.docker().await?;
        let info = docker.info().await.map_err(|error| self.error(error))?;
        Ok(EngineInfo::from(info))
    }

    /// An error of the client by what it means.
    pub(crate) fn error(&self, error: Error) -> EngineError {
        let host = self.host.clone();
        match error {
            Error::DockerResponseServerError { status_code, message } => {
                EngineError::Refused { status: status_code, message: message.trim().to_owned() }
            }
            Error::DockerStreamError { error } => {
                EngineError::Refused { status: 0, message: error }
            }
            error if is_denied(&error) => EngineError::Permission { host },
            error @ (Error::JsonDataError { .. }
            | Error::JsonSerdeError { .. }
            | Error::APIVersionParseError {}) => EngineError::Unexpected(Box::new(error)),
            // Everything else is about the way there.
            error => EngineError::Unreachable { host, source: Box::new(error) },
        }
    }

    async fn connect(&self) -> Result<Docker, EngineError> {
        let unsupported = |why| EngineError::HostUnsupported { host: self.host.clone(), why };
        let docker = match self.host.split_once("://") {
            Some(("unix", path)) => Docker::connect_with_unix(path, TIMEOUT, API_DEFAULT_VERSION),
            Some(("tcp" | "http", _)) => {
                Docker::connect_with_http(&self.host, TIMEOUT, API_DEFAULT_VERSION)
            }
            Some(("https", _)) => return Err(unsupported("TLS is not spoken here")),
            Some(("ssh", _)) => {
                return Err(unsupported("an engine on another host is no use here"));
            }
            Some(_) | None => return Err(unsupported("it is neither `unix://` nor `tcp://`")),
        };
        let docker = docker.map_err(|error| self.error(error))?;
        // Engines refuse versions above their own and, since 29, below 1.44.
        docker.negotiate_version().await.map_err(|error| self.error(error))
    }
}

impl EngineError {
    /// As the reason of a launch that did not happen.
    pub(crate) fn refusing(self, what: &'static str) -> LaunchError {
        match self {
            Self::Unreachable { host, source } => LaunchError::EngineUnreachable { host, source },
            Self::Permission { host } => LaunchError::EnginePermission { host },
            other @ (Self::HostUnsupported { .. } | Self::Refused { .. } | Self::Unexpected(_)) => {
                LaunchError::EngineRefused { what, source: Box::new(other) }
            }
        }
    }
}

/// The machine's engine, or else the user's own.
fn default_host() -> String {
    let user = rustix::process::geteuid().as_raw();
    let own = format!("/run/user/{user}/docker.sock");
    let is_there = |path: &str| std::fs::exists(path).unwrap_or(false);
    if !is_there(SYSTEM_SOCKET) && is_there(&own) {
        format!("unix://{own}")
    } else {
        format!("unix://{SYSTEM_SOCKET}")
    }
}

fn is_denied(error: &Error) -> bool {
    let mut cause = error.source();
    if matches!(error, Error::IOError { err } if err.kind() == io::ErrorKind::PermissionDenied) {
        return true;
    }
    while let Some(error) = cause {
        let io = error.downcast_ref::<io::Error>();
        if io.is_some_and(|error| error.kind() == io::ErrorKind::PermissionDenied) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Waits for an engine that is being asked, no longer than that.
pub(crate) async fn within<T>(
    time: Duration,
    host: &str,
    asked: impl Future<Output = T>,
) -> Result<T, EngineError> {
    tokio::time::timeout(time, asked).await.map_err(|elapsed| EngineError::Unreachable {
        host: host.to_owned(),
        source: Box::new(elapsed),
    })
}
