//! Why there is no private server.

use std::{fmt, io, path::PathBuf, time::Duration};

use crate::download::error::DownloadError;

/// Which server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerKind {
    /// PostgreSQL.
    Postgres,
    /// Redis or Valkey.
    Redis,
}

impl ServerKind {
    /// Its directory within the state directory.
    pub(crate) const fn directory(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Redis => "redis",
        }
    }

    /// As people call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Postgres => "PostgreSQL",
            Self::Redis => "Redis",
        }
    }

    /// The accounts that a privileged process runs it as, the best first.
    pub(crate) const fn users(self) -> &'static [&'static str] {
        match self {
            Self::Postgres => &["postgres", "nobody"],
            Self::Redis => &["redis", "valkey", "nobody"],
        }
    }
}

impl fmt::Display for ServerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why there is no private server.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// No usable binaries.
    #[error("no usable {server} binaries found; tried: {tried}")]
    BinariesMissing {
        /// Of which server.
        server: ServerKind,
        /// Every place with what is wrong there, separated by `; `.
        tried: String,
        /// Why none were downloaded; none where that was not tried.
        #[source]
        download: Option<DownloadError>,
    },
    /// The data was written by a major version of which there are no binaries.
    #[error(
        "the data in `{}` is of PostgreSQL {data_major}, and no binaries of that version work; tried: {tried}",
        data_dir.display()
    )]
    VersionMissing {
        /// The data directory.
        data_dir: PathBuf,
        /// The version that wrote it.
        data_major: u32,
        /// Every place with what is wrong there, separated by `; `.
        tried: String,
    },
    /// Running as root, and there is no user to run the server as.
    #[error("{server} is not run as root, and there is no user of its own nor `nobody`")]
    NoUnprivilegedUser {
        /// Which server.
        server: ServerKind,
    },
    /// A directory above the data shuts the server's user out.
    #[error("user `{user}` cannot reach the data through `{}`", path.display())]
    Unreachable {
        /// The directory that shuts it out.
        path: PathBuf,
        /// The user that the server runs as.
        user: String,
    },
    /// Another process holds the lock on the server for too long.
    #[error("another process has been starting the server for {} s (lock `{}`)", waited.as_secs(), path.display())]
    Busy {
        /// The lock file.
        path: PathBuf,
        /// How long this one waited.
        waited: Duration,
    },
    /// A PostgreSQL that was not started here uses the data.
    #[error("process {pid}, which was not started here, uses the data in `{}`", data_dir.display())]
    DataInUse {
        /// The data directory.
        data_dir: PathBuf,
        /// The process.
        pid: i32,
    },
    /// The data directory lacks its password.
    #[error("the data in `{}` has no password file", data_dir.display())]
    PasswordLost {
        /// The data directory.
        data_dir: PathBuf,
    },
    /// The port that was asked for is taken.
    #[error("port {port} on 127.0.0.1 is taken")]
    PortTaken {
        /// The port.
        port: u16,
    },
    /// `initdb` failed.
    #[error("initdb failed: {detail}")]
    InitFailed {
        /// Its last words.
        detail: String,
    },
    /// The server ended while it was starting.
    #[error("{server} ended while it was starting: {detail}")]
    StartFailed {
        /// Which server.
        server: ServerKind,
        /// Its last words.
        detail: String,
    },
    /// The server did not become ready.
    #[error("{server} was not ready after {} s", waited.as_secs())]
    NotReady {
        /// Which server.
        server: ServerKind,
        /// How long this process waited.
        waited: Duration,
    },
    /// The server is ready and takes a connection, but says nothing on it.
    #[error("the private PostgreSQL on port {port} did not answer within {} s", waited.as_secs())]
    NotAnswering {
        /// The port.
        port: u16,
        /// How long this process waited, all attempts together.
        waited: Duration,
    },
    /// The directory of the server belongs to another user.
    #[error("`{}` belongs to user {owner}, not to user {user}", path.display())]
    NotOurs {
        /// The directory.
        path: PathBuf,
        /// The number of the user that it belongs to.
        owner: u32,
        /// The number of the user of this process.
        user: u32,
    },
    /// The server runs and refuses its own password or does not answer.
    #[error("cannot connect to the private PostgreSQL on port {port}")]
    Connect {
        /// The port.
        port: u16,
        /// What the driver said.
        #[source]
        source: tokio_postgres::Error,
    },
    /// The server came back on another port, so that its URL is not true any more.
    #[error("the private {server} moved from port {from} to port {to}")]
    Moved {
        /// Which server.
        server: ServerKind,
        /// The port in the URL that was handed out.
        from: u16,
        /// The present port.
        to: u16,
    },
    /// The launcher failed.
    #[error("cannot {doing}")]
    Launch {
        /// What was tried.
        doing: &'static str,
        /// What the launcher said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A file could not be read or written.
    #[error("cannot {doing} `{}`", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On which path.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl EmbeddedError {
    /// What to do about it, where that is known.
    #[must_use]
    pub const fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::BinariesMissing { server: ServerKind::Redis, .. } => {
                "install Redis 6 or newer, or Valkey (Debian, Ubuntu: `apt-get install redis-server`; Fedora: `dnf install \
                 valkey`; Arch: `pacman -S valkey`; macOS: `brew install valkey`), or set REDIS_BIN, or set REDIS_URL to a \
                 server of your own; where downloads are allowed, `python3` with pip is enough"
            }
            Self::BinariesMissing { server: ServerKind::Postgres, .. } => {
                "install PostgreSQL 15 or newer (Debian, Ubuntu: `apt-get install postgresql`; Fedora: `dnf install \
                 postgresql-server`; Arch: `pacman -S postgresql`; macOS: `brew install postgresql@17`), or set \
                 POSTGRES_BIN_DIR, or set DATABASE_URL to a server of your own; where downloads are allowed, `python3` \
                 with pip is enough"
            }
            Self::VersionMissing { .. } => {
                "install that version again, or dump the data with it and load it into a new one; to start empty, \
                 move the directory away"
            }
            Self::NoUnprivilegedUser { .. } => {
                "run openTiger as a normal user, or add a user `nobody`"
            }
            Self::Unreachable { .. } => {
                "set OPENTIGER_STATE_DIR to a directory that every user can enter, such as /var/lib/opentiger"
            }
            Self::Busy { .. } => "look for a hanging openTiger process and end it",
            Self::DataInUse { .. } => {
                "stop that process, or set OPENTIGER_STATE_DIR to another directory"
            }
            Self::PasswordLost { .. } => {
                "restore the file from a backup, or move the directory away to start empty"
            }
            Self::PortTaken { .. } => "name another port, or none",
            Self::InitFailed { .. } | Self::StartFailed { .. } => {
                "check free disk space and memory; or set DATABASE_URL or REDIS_URL to a server of your own"
            }
            Self::Moved { .. } => "restart this process",
            Self::NotReady { .. } => {
                "it was left running: it may be recovering after a crash, or the machine is overloaded; wait, then \
                 try again"
            }
            Self::NotAnswering { .. } => {
                "the machine may be overloaded; wait, then try again, or set DATABASE_URL to a server of your own"
            }
            Self::NotOurs { .. } => {
                "run openTiger as that user, or set OPENTIGER_STATE_DIR to another directory"
            }
            Self::Connect { .. } | Self::Launch { .. } | Self::Io { .. } => return None,
        })
    }
}

/// Makes an error of this crate from one of the system.
pub(crate) fn io_error(
    doing: &'static str,
    path: &std::path::Path,
) -> impl FnOnce(io::Error) -> EmbeddedError {
    let path = path.to_owned();
    move |source| EmbeddedError::Io { doing, path, source }
}

/// Makes an error of this crate from one of the launcher.
pub(crate) fn launch_error<E: std::error::Error + Send + Sync + 'static>(
    doing: &'static str,
) -> impl FnOnce(E) -> EmbeddedError {
    move |source| EmbeddedError::Launch { doing, source: Box::new(source) }
}
