//! The environment as a layer: raw texts, typed by the table and never guessed.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
};

use figment::value::Dict;

use crate::{
    fault::{Fault, Faults, Source},
    kind::Given,
    layer::Layer,
    nearest::nearest,
    table::{SETTINGS, Setting, setting},
};

/// Variables with this prefix are ours: one that the table does not have is a mistake.
const PREFIX: &str = "OPENTIGER_";
/// But these belong to tests and are read by them alone.
const TEST_PREFIX: &str = "OPENTIGER_TEST_";
/// And these to the command line `opentiger`, which says with them where the server is and who asks. Somebody who has
/// them set may start any other program too.
const CLIENT_VARIABLES: &[&str] = &["OPENTIGER_API_URL", "OPENTIGER_API_KEY"];

/// The variables of a process.
#[derive(Debug)]
pub(crate) struct Environment(BTreeMap<OsString, OsString>);

impl Environment {
    pub(crate) fn new(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        Self(variables.into_iter().collect())
    }

    /// The layer, and what is wrong with the variables that are not in it.
    pub(crate) fn layer(&self) -> (Layer, Faults) {
        let mut values = Dict::new();
        let mut faults = Faults::default();
        for (name, value) in &self.0 {
            let Some(key) = name.to_str() else { continue };
            match setting(key).map(|setting| typed(setting, value)) {
                Some(Ok(value)) => {
                    values.insert(key.to_owned(), value);
                }
                Some(Err(fault)) => faults.push(fault),
                None if is_ours(key) => faults.push(unknown(key)),
                None => {}
            }
        }
        (Layer::new(Source::Environment, values), faults)
    }

    /// Where data lies that nobody gave a place: the system's directory for root, else the user's.
    pub(crate) fn state_directory(&self) -> Option<String> {
        if rustix::process::geteuid().is_root() {
            return Some("/var/lib/opentiger".to_owned());
        }
        let absolute = |name: &str| {
            let value = self.0.get(OsStr::new(name))?.to_str()?;
            value.starts_with('/').then(|| value.trim_end_matches('/').to_owned())
        };
        let data = absolute("XDG_DATA_HOME")
            .or_else(|| absolute("HOME").map(|home| format!("{home}/.local/share")))?;
        Some(format!("{data}/opentiger"))
    }
}

fn is_ours(key: &str) -> bool {
    key.starts_with(PREFIX) && !key.starts_with(TEST_PREFIX) && !CLIENT_VARIABLES.contains(&key)
}

fn typed(setting: &Setting, value: &OsStr) -> Result<figment::value::Value, Fault> {
    let fault = |what: String| Fault {
        key: setting.key.to_owned(),
        source: Source::Environment,
        what,
        allowed: setting.kind.allowed(),
        hint: format!("set the variable to an allowed value or unset `{}`", setting.key),
    };
    let text = value.to_str().ok_or_else(|| fault("is not valid UTF-8".to_owned()))?;
    setting.kind.check(Given::Text(text)).map_err(|complaint| fault(complaint.0))
}

fn unknown(key: &str) -> Fault {
    let known = || SETTINGS.iter().map(|setting| setting.key);
    let ours: Vec<&str> = known().filter(|key| is_ours(key)).collect();
    let hint = nearest(key, known()).map_or_else(
        || format!("unset `{key}`; `docs/config.md` lists every setting"),
        |name| format!("did you mean `{name}`?"),
    );
    Fault {
        key: key.to_owned(),
        source: Source::Environment,
        what: "is not a setting".to_owned(),
        allowed: ours.join(", "),
        hint,
    }
}

/// The fault of a state directory that neither the environment names nor a home directory gives.
pub(crate) fn no_state_directory() -> Fault {
    Fault {
        key: "OPENTIGER_STATE_DIR".to_owned(),
        source: Source::Default,
        what: "has no default because neither `XDG_DATA_HOME` nor `HOME` is an absolute path"
            .to_owned(),
        allowed: "an absolute path".to_owned(),
        hint: "set `OPENTIGER_STATE_DIR` or `HOME`".to_owned(),
    }
}
