//! The database as a whole, for commands that save it or fill it: as it is, not migrated.

use core_config::settings::Settings;
use embedded::{error::EmbeddedError, postgres::EmbeddedPostgres};
use launcher::process::ProcessLauncher;
use store::pool::{PoolOptions, Store};

use crate::{error::StartError, servers::database, start::make_state_directory};

/// A database of which nobody knows yet whether anything is in it.
#[derive(Debug)]
pub struct WholeDatabase {
    /// The database.
    pub store: Store,
    /// The private server, where none is configured.
    private: Option<EmbeddedPostgres>,
}

impl WholeDatabase {
    /// Connects to the configured database, or to the private one, which is started where it does not run.
    ///
    /// # Errors
    /// [`StartError`]: there is none, or it cannot be reached.
    pub async fn open(program: &str, settings: &Settings) -> Result<Self, StartError> {
        make_state_directory(&settings.state_dir)?;
        let launcher = ProcessLauncher::new(&settings.state_dir).map_err(StartError::Launcher)?;
        let (url, private) = database(settings, &launcher).await?;
        let options = PoolOptions::new(format!("opentiger {program}"));
        let store = Store::connect(&url, options).await.map_err(StartError::Connect)?;
        Ok(Self { store, private })
    }

    /// Works on the database, and keeps the private server alive meanwhile.
    ///
    /// # Errors
    /// [`EmbeddedError`] where the private server is gone; what was under way is given up then.
    pub async fn during<T>(&self, work: impl Future<Output = T>) -> Result<T, EmbeddedError> {
        let Some(private) = &self.private else {
            return Ok(work.await);
        };
        // Dropping either is how to stop it.
        tokio::select! {
            done = work => Ok(done),
            gone = private.keep_alive() => match gone {
                Err(error) => Err(error),
                Ok(never) => match never {},
            },
        }
    }
}
