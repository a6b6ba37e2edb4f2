//! Why a binary cannot start, with the exit code that says so.

use std::{io, path::PathBuf, process::ExitCode};

use core_config::fault::Faults;

/// A start that came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The environment is at fault; the text is the whole report.
    #[error(transparent)]
    Settings(Faults),
    /// Logging cannot be started.
    #[error("start logging")]
    Logging(#[source] telemetry::log::InitError),
    /// The state directory cannot be made or written to.
    #[error("cannot use the state directory `{}`", .path.display())]
    StateDirectory {
        /// The directory.
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// Processes cannot be launched from here.
    #[error("prepare the launcher")]
    Launcher(#[source] launcher::error::LauncherError),
    /// No database is configured and the private one cannot be started.
    #[error("start the private Postgres")]
    Embedded(#[source] embedded::error::EmbeddedError),
    /// No database is configured and none may be started.
    #[error("no database is configured, and `OPENTIGER_EMBEDDED=never` forbids a private one")]
    NoDatabase,
    /// The database cannot be reached.
    #[error("connect to the database")]
    Connect(#[source] store::pool::ConnectError),
    /// The database cannot be brought to the version of this program.
    #[error("migrate the database")]
    Migrate(#[source] store::migrate::MigrateError),
    /// The table `system_config` cannot be read.
    #[error("read the settings in the database")]
    Rows(#[source] store::error::StoreError),
}

impl StartError {
    /// 2 where the settings are at fault, 1 for everything else.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Settings(_) | Self::Logging(_) | Self::NoDatabase => ExitCode::from(2),
            Self::StateDirectory { .. }
            | Self::Launcher(_)
            | Self::Embedded(_)
            | Self::Connect(_)
            | Self::Migrate(_)
            | Self::Rows(_) => ExitCode::FAILURE,
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Settings(_) => None,
            Self::Logging(error) => Some(error.hint().to_owned()),
            Self::StateDirectory { .. } => {
                Some("make it writable, or set `OPENTIGER_STATE_DIR`".to_owned())
            }
            Self::Launcher(_) => Some(
                "check `OPENTIGER_STATE_DIR`: it must be writable and of this version".to_owned(),
            ),
            Self::Embedded(error) => error.hint().map(ToOwned::to_owned),
            Self::NoDatabase => {
                Some("set `DATABASE_URL`, or `OPENTIGER_EMBEDDED` to `auto`".to_owned())
            }
            Self::Connect(error) => Some(error.hint().to_owned()),
            Self::Migrate(_) => None,
            Self::Rows(_) => None,
        }
    }
}
