//! Sums of values, by which processes find out whether they have the same settings without showing them.

use std::{collections::BTreeMap, fmt};

use figment::Figment;
use sha2::{Digest as _, Sha256};

use crate::table::{Layers, SETTINGS};

/// How many bytes of a sum are published.
const PUBLISHED: usize = 4;

/// A sum of each value in force. A sum of a secret helps to guess it, so that they are not shown.
#[derive(Clone)]
pub(crate) struct Sums(Vec<(&'static str, [u8; 32])>);

impl fmt::Debug for Sums {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Sums").finish_non_exhaustive()
    }
}

impl Sums {
    /// Sums of what the database may set. Keys of the environment alone differ from process to process with good
    /// reason: an agent needs no key of the API.
    pub(crate) fn of(figment: &Figment) -> Self {
        let shared =
            SETTINGS.iter().filter(|setting| setting.layers == Layers::EnvironmentOrDatabase);
        let sum = |key: &str| {
            let value = figment.find_value(key).ok();
            let json = value.and_then(|value| serde_json::to_string(&value).ok());
            Sha256::digest(json.unwrap_or_default()).into()
        };
        Self(shared.map(|setting| (setting.key, sum(setting.key))).collect())
    }

    pub(crate) fn fingerprints(&self, salt: &[u8]) -> BTreeMap<&'static str, String> {
        let short = |key: &str, sum: &[u8]| {
            let salted = Sha256::new()
                .chain_update(salt)
                .chain_update(key)
                .chain_update([0])
                .chain_update(sum);
            salted.finalize().iter().take(PUBLISHED).map(|byte| format!("{byte:02x}")).collect()
        };
        self.0.iter().map(|(key, sum)| (*key, short(key, sum))).collect()
    }
}
