//! One layer of settings as figment sees it: typed values under their keys, with the name of their source.

use figment::{
    Metadata, Profile, Provider,
    value::{Dict, Map, Value},
};

use crate::{
    capacity::capacity,
    fault::Source,
    kind::{Given, Kind},
    table::{Fallback, SETTINGS},
};

/// A layer whose values the table has typed already.
#[derive(Debug)]
pub(crate) struct Layer {
    source: Source,
    values: Dict,
}

impl Layer {
    pub(crate) const fn new(source: Source, values: Dict) -> Self {
        Self { source, values }
    }

    /// The layer that gives every key a value, but the state directory, which depends on the environment.
    pub(crate) fn defaults(state_directory: Option<String>) -> Self {
        let mut values: Dict = SETTINGS
            .iter()
            .filter(|setting| setting.default != Fallback::StateDirectory)
            .map(|setting| (setting.key.to_owned(), default(setting.kind, setting.default)))
            .collect();
        if let Some(directory) = state_directory {
            values.insert("OPENTIGER_STATE_DIR".to_owned(), Value::from(directory));
        }
        Self::new(Source::Default, values)
    }

    pub(crate) fn contains(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }
}

impl Provider for &Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.source.as_str())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Profile::Default.collect(self.values.clone()))
    }
}

fn default(kind: Kind, fallback: Fallback) -> Value {
    let text = match fallback {
        Fallback::Empty | Fallback::StateDirectory => "",
        Fallback::Text(text) => text,
        Fallback::Integer(number) => return Value::from(number),
        Fallback::Capacity => return Value::from(capacity()),
        Fallback::CapacityUpTo(most) => return Value::from(capacity().min(most)),
    };
    // A default that its own kind refuses stays as it is; a test says that there is none.
    kind.check(Given::Text(text)).unwrap_or_else(|_| Value::from(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_allowed_by_its_kind() {
        for setting in SETTINGS {
            let given = match setting.default {
                Fallback::Empty => String::new(),
                Fallback::Text(text) => text.to_owned(),
                Fallback::Integer(number) => number.to_string(),
                Fallback::Capacity => capacity().to_string(),
                Fallback::CapacityUpTo(most) => capacity().min(most).to_string(),
                Fallback::StateDirectory => "/var/lib/opentiger".to_owned(),
            };
            let checked = setting.kind.check(Given::Text(&given));
            assert!(checked.is_ok(), "{}: {checked:?}", setting.key);
        }
    }
}
