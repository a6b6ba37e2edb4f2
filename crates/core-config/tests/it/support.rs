//! Environments and database rows for tests.

use std::{collections::BTreeMap, ffi::OsString};

use core_config::{database::DatabaseSnapshot, load::Loaded, provenance::Provenance};

/// An environment with a state directory and the given variables.
pub(crate) fn environment(variables: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
    let base = [("OPENTIGER_STATE_DIR", "/srv/tiger"), ("PATH", "/usr/bin"), ("HOME", "/home/me")];
    base.iter().chain(variables).map(|(key, value)| ((*key).into(), (*value).into())).collect()
}

pub(crate) fn rows(rows: &[(&str, serde_json::Value)]) -> DatabaseSnapshot {
    let rows: BTreeMap<String, serde_json::Value> =
        rows.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
    DatabaseSnapshot { revision: 7, rows }
}

#[track_caller]
pub(crate) fn provenance<'a>(loaded: &'a Loaded, key: &str) -> &'a Provenance {
    loaded.provenance.iter().find(|entry| entry.setting.key == key).expect("the table has the key")
}
