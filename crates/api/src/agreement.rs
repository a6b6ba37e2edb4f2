//! Whether the living processes have the same settings in force as this one.

use std::collections::BTreeMap;

use core_config::load::Loaded;
use store::{
    error::StoreError,
    pool::Store,
    process_settings::{LiveSettings, ProcessSettings},
};

/// The program whose environment decides for everybody: it claims, and tells agents what to run.
const DISPATCHER: &str = "dispatcher";

/// The living processes, each with what differs from this one.
#[derive(Debug)]
pub(crate) struct Agreement {
    pub(crate) processes: Vec<(LiveSettings, Vec<String>)>,
}

impl Agreement {
    /// Asks the database what the processes told.
    pub(crate) async fn look(store: &Store, here: &Loaded) -> Result<Self, StoreError> {
        let live = store.live_settings().await?;
        let ours = here.fingerprints(&store.settings_salt().await?);
        let compare = |live: LiveSettings| {
            let differing = differing(&live.said.fingerprints, &ours);
            (live, differing)
        };
        Ok(Self { processes: live.into_iter().map(compare).collect() })
    }

    /// The processes whose environment sets a key.
    pub(crate) fn setters(&self, key: &str) -> Vec<&ProcessSettings> {
        let said = self.processes.iter().map(|(live, _)| &live.said);
        said.filter(|said| said.environment.iter().any(|set| set == key)).collect()
    }

    /// What people should know, where not everybody has the same in force. Names keys and counts, and no host.
    pub(crate) fn warnings(&self, here: &Loaded) -> Vec<String> {
        let mut warnings = Vec::new();
        let behind = self.processes.iter().filter(|(live, _)| live.said.revision != here.revision);
        let behind = behind.count();
        if behind > 0 {
            warnings.push(format!(
                "{behind} of {} processes have another revision of the settings",
                self.processes.len()
            ));
        }
        let in_step = self.processes.iter().filter(|(live, _)| live.said.revision == here.revision);
        let mut keys: Vec<&str> =
            in_step.flat_map(|(_, differing)| differing).map(String::as_str).collect();
        keys.sort_unstable();
        keys.dedup();
        if !keys.is_empty() {
            warnings.push(format!(
                "processes have different values of {}; `GET /config` says which",
                keys.join(", ")
            ));
        }
        warnings
    }
}

/// Whether the environment of this process decides for the whole system.
pub(crate) fn decides(said: &ProcessSettings) -> bool {
    said.program == DISPATCHER
}

/// The keys that both know and whose values differ.
fn differing(
    theirs: &BTreeMap<String, String>,
    ours: &BTreeMap<&'static str, String>,
) -> Vec<String> {
    let differs = |(key, print): &(&String, &String)| {
        ours.get(key.as_str()).is_some_and(|ours| ours != *print)
    };
    theirs.iter().filter(differs).map(|(key, _)| key.clone()).collect()
}
