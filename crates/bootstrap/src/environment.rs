//! The environment of this process, read here and nowhere else.

use std::{collections::BTreeMap, ffi::OsString};

/// Every variable of this process.
pub(crate) fn variables() -> impl Iterator<Item = (OsString, OsString)> {
    std::env::vars_os()
}

/// The variables of this process that are text: what parts of it may be handed on to an agent.
#[must_use]
pub fn environment() -> BTreeMap<String, String> {
    variables()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}
