//! The programs that make up a running openTiger, and the environment each is given.
//!
//! Nothing is inherited: a program sees the variables of a machine, the declared settings, and nothing else.

use std::{collections::BTreeMap, ffi::OsString, path::PathBuf, sync::Arc};

use anyhow::{Context as _, Result};
use core_config::{load::load, settings::Settings, table::setting};
use core_types::secret::Secret;

/// Variables besides the agents' own list that the programs may see.
const MACHINE: &[&str] = &["XDG_CACHE_HOME", "XDG_DATA_HOME", "RUST_BACKTRACE"];
/// Settings that say where things are on this machine; the demo takes these and no others.
const PLACES: &[&str] = &[
    "OPENTIGER_STATE_DIR",
    "POSTGRES_BIN_DIR",
    "REDIS_BIN",
    "OPENTIGER_EMBEDDED",
    "OPENTIGER_DOWNLOADS",
    "OPENTIGER_LOG",
];

/// The variables of one program. Secrets are kept apart: they are handed over without being written down.
#[derive(Debug, Clone, Default)]
pub(crate) struct Environment {
    /// What may be written down.
    pub plain: BTreeMap<String, String>,
    /// What may not.
    pub secret: BTreeMap<String, Secret>,
}

impl Environment {
    /// The machine's variables and where things are: nobody's key, database or login.
    #[must_use]
    pub(crate) fn of_machine() -> Self {
        let plain = executor::environment::allow_list(std::env::vars_os());
        let mut environment = Self { plain, secret: BTreeMap::new() };
        for (name, value) in std::env::vars_os().filter_map(texts) {
            if [PLACES, MACHINE].iter().any(|names| names.contains(&name.as_str())) {
                environment.set(&name, value);
            }
        }
        environment
    }

    /// Sets a variable.
    pub(crate) fn set(&mut self, name: &str, value: impl Into<String>) {
        if is_secret(name) {
            self.secret.insert(name.to_owned(), Secret::new(value));
        } else {
            self.plain.insert(name.to_owned(), value.into());
        }
    }

    /// The same with a variable.
    #[must_use]
    pub(crate) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.set(name, value);
        self
    }

    /// Whether a variable is set.
    #[must_use]
    pub(crate) fn has(&self, name: &str) -> bool {
        self.plain.contains_key(name) || self.secret.contains_key(name)
    }

    /// The settings that a program with these variables would find, before it looks into the database.
    pub(crate) fn settings(&self) -> Result<Arc<Settings>> {
        let secret = self.secret.iter().map(|(name, value)| (name.as_str(), value.expose()));
        let plain = self.plain.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let variables = plain.chain(secret).map(|(name, value)| (name.into(), value.into()));
        Ok(load(variables, None).context("load settings")?.settings)
    }
}

fn texts((name, value): (OsString, OsString)) -> Option<(String, String)> {
    Some((name.into_string().ok()?, value.into_string().ok()?))
}

fn is_secret(name: &str) -> bool {
    setting(name).is_some_and(|setting| setting.kind.is_secret())
}

/// One program to start.
#[derive(Debug, Clone)]
pub(crate) struct Service {
    /// What people call it.
    pub name: String,
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its variables.
    pub environment: Environment,
}

impl Service {
    /// A program without arguments.
    #[must_use]
    pub(crate) fn new(name: &str, program: PathBuf, environment: &Environment) -> Self {
        Self { name: name.to_owned(), program, args: Vec::new(), environment: environment.clone() }
    }

    /// The same with arguments.
    #[must_use]
    pub(crate) fn args(mut self, args: &[&str]) -> Self {
        self.args = args.iter().map(|one| (*one).to_owned()).collect();
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_kept_apart_from_what_is_written_down() {
        let environment = Environment::default()
            .with("ANTHROPIC_API_KEY", "sk-1")
            .with("DATABASE_URL", "postgres://u:p@h/d")
            .with("OPENTIGER_API_LISTEN", "127.0.0.1:0");
        let plain: Vec<&str> = environment.plain.keys().map(String::as_str).collect();
        let secret: Vec<&str> = environment.secret.keys().map(String::as_str).collect();
        assert_eq!(plain, ["OPENTIGER_API_LISTEN"]);
        assert_eq!(secret, ["ANTHROPIC_API_KEY", "DATABASE_URL"]);
    }

    #[test]
    fn places_are_declared_settings() {
        for name in PLACES {
            assert!(setting(name).is_some(), "{name}");
        }
    }
}
