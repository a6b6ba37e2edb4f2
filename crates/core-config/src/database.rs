//! The rows of `system_config` as a layer. Who reads them from the database is not known here.

use std::collections::BTreeMap;

use figment::value::Dict;

use crate::{
    fault::{Fault, Faults, Source},
    kind::Given,
    layer::Layer,
    nearest::nearest,
    table::{Layers, SETTINGS, setting},
};

/// What the table `system_config` held at one moment.
#[derive(Clone, Default, PartialEq)]
pub struct DatabaseSnapshot {
    /// Rises with every change.
    pub revision: i64,
    /// Key and value of every row.
    pub rows: BTreeMap<String, serde_json::Value>,
}

impl std::fmt::Debug for DatabaseSnapshot {
    /// Shows the keys only: rows hold secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DatabaseSnapshot")
            .field("revision", &self.revision)
            .field("keys", &self.rows.keys())
            .finish()
    }
}

impl DatabaseSnapshot {
    /// The layer, and what is wrong with the rows that are not in it.
    pub(crate) fn layer(&self) -> (Layer, Faults) {
        let mut values = Dict::new();
        let mut faults = Faults::default();
        for (key, json) in &self.rows {
            match check_row(key, json) {
                Ok(value) => {
                    values.insert(key.clone(), value);
                }
                Err(fault) => faults.push(fault),
            }
        }
        (Layer::new(Source::Database, values), faults)
    }
}

/// Checks one value that is, or shall be, in the database.
///
/// # Errors
/// The fault, where the key is no setting, is not for the database, or the value is not allowed.
pub fn validate_row(key: &str, value: &serde_json::Value) -> Result<(), Fault> {
    check_row(key, value).map(drop)
}

/// Checks a change that somebody asks for, and gives the value as it is to be stored.
///
/// No value removes a row, whatever is in it: `has_row` says whether there is one, so that a row that another version
/// left behind can be removed although its key is no setting, and a mistyped key is told.
///
/// # Errors
/// The fault, where the key is no setting, is not for the database, or the value is not allowed. Its hint is for whoever
/// asks, and may be empty.
pub fn check_update(
    key: &str,
    value: Option<&serde_json::Value>,
    has_row: bool,
) -> Result<Option<serde_json::Value>, Fault> {
    let fault = |what: &str, allowed: String, hint: String| Fault {
        key: key.to_owned(),
        source: Source::Database,
        what: what.to_owned(),
        allowed,
        hint,
    };
    match (setting(key), value) {
        (_, None) if has_row => Ok(None),
        (None, _) => {
            let meant = nearest(key, from_database().into_iter());
            let hint = meant.map_or_else(String::new, |name| format!("did you mean `{name}`?"));
            Err(fault("is not a setting", from_database().join(", "), hint))
        }
        (Some(setting), _) if setting.layers == Layers::Environment => {
            let hint = format!("set the variable `{key}` and start the process again");
            Err(fault("cannot be set in the database", "the environment only".to_owned(), hint))
        }
        (Some(_), None) => Ok(None),
        (Some(setting), Some(json)) => match setting.kind.check(Given::Json(json)) {
            Ok(typed) => Ok(Some(serde_json::to_value(typed).unwrap_or_else(|_| json.clone()))),
            Err(complaint) => Err(fault(&complaint.0, setting.kind.allowed(), String::new())),
        },
    }
}

fn check_row(key: &str, json: &serde_json::Value) -> Result<figment::value::Value, Fault> {
    let fault = |what: String, allowed: String, hint: String| Fault {
        key: key.to_owned(),
        source: Source::Database,
        what,
        allowed,
        hint,
    };
    let Some(setting) = setting(key) else {
        return Err(fault("is not a setting".to_owned(), from_database().join(", "), remedy(key)));
    };
    match setting.layers {
        Layers::Environment => Err(fault(
            "cannot be set in the database".to_owned(),
            "the environment only".to_owned(),
            format!("delete the row of `system_config` and set the variable `{key}`"),
        )),
        Layers::EnvironmentOrDatabase => {
            setting.kind.check(Given::Json(json)).map_err(|complaint| {
                let hint = "set an allowed value, or delete the row of `system_config`";
                fault(complaint.0, setting.kind.allowed(), hint.to_owned())
            })
        }
    }
}

fn from_database() -> Vec<&'static str> {
    SETTINGS
        .iter()
        .filter(|setting| setting.layers == Layers::EnvironmentOrDatabase)
        .map(|setting| setting.key)
        .collect()
}

fn remedy(key: &str) -> String {
    nearest(key, from_database().into_iter()).map_or_else(
        || "delete the row of `system_config`".to_owned(),
        |name| format!("did you mean `{name}`?"),
    )
}
