//! What this process has in force of the settings, told to the others (C7).

use std::{collections::BTreeMap, time::Duration};

use core_config::load::Loaded;
use store::{agents::HostId, pool::Store, process_settings::ProcessSettings};
use telemetry::chain::error_chain;
use tokio::time::timeout;
use uuid::Uuid;

use crate::start::own_process;

/// How often it is told although nothing changed; three times as often as it takes to be thought gone.
pub(crate) const BEAT: Duration = Duration::from_secs(5);
/// How long a process that ends takes at most to say so.
const FAREWELL: Duration = Duration::from_secs(1);

/// Tells what one process has in force.
#[derive(Debug)]
pub(crate) struct Publisher {
    store: Store,
    said: ProcessSettings,
    salt: Option<Vec<u8>>,
}

impl Publisher {
    /// A publisher for this process; none where its own identity cannot be read, for then it cannot be told apart.
    pub(crate) fn new(store: Store, program: &str, host: &HostId) -> Option<Self> {
        let process = match own_process() {
            Ok(process) => process,
            Err(error) => {
                tracing::warn!(error = %error, "settings of this process are not shown to others");
                return None;
            }
        };
        let said = ProcessSettings {
            id: Uuid::now_v7(),
            program: program.to_owned(),
            host: host.clone(),
            process,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            revision: None,
            environment: Vec::new(),
            fingerprints: BTreeMap::new(),
        };
        Some(Self { store, said, salt: None })
    }

    /// Tells what is in force now. While the database is away nobody can be told, and the next beat tells it again.
    pub(crate) async fn tell(&mut self, loaded: &Loaded) {
        if let Err(error) = self.try_tell(loaded).await {
            tracing::debug!(error = %error_chain(&error), "settings of this process not told");
        }
    }

    async fn try_tell(&mut self, loaded: &Loaded) -> Result<(), store::error::StoreError> {
        let salt = match &self.salt {
            Some(salt) => salt,
            None => self.salt.insert(self.store.settings_salt().await?),
        };
        let prints = loaded.fingerprints(salt);
        self.said.fingerprints =
            prints.into_iter().map(|(key, print)| (key.to_owned(), print)).collect();
        self.said.environment = loaded.set_by_environment().map(ToOwned::to_owned).collect();
        self.said.revision = loaded.revision;
        self.store.publish_settings(&self.said).await
    }

    /// Says that this process goes; where that fails, its silence says it a little later.
    pub(crate) async fn retire(self) {
        match timeout(FAREWELL, self.store.retire_settings(self.said.id)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::debug!(error = %error_chain(&error), "settings of this process not taken back");
            }
            Err(_) => tracing::debug!("settings of this process not taken back in time"),
        }
    }
}
