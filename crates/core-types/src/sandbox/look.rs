//! What `worker look` is asked in a sandbox, and what it saw: nothing of a task, and nothing that costs.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::on_the_wire_if_any;
use crate::secret::Secret;

/// What to look at, as one JSON document on standard input.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LookOrder {
    /// Directories whose files must be readable, with whether files must be writable in them, too.
    pub directories: BTreeMap<PathBuf, bool>,
    /// Programs that are asked for their versions, as names that `PATH` is searched for.
    pub programs: Vec<String>,
    /// The database with the login of sandboxes, as a container reaches it.
    #[serde(serialize_with = "on_the_wire_if_any", default)]
    pub database_url: Option<Secret>,
}

/// What was seen, as one line of JSON on standard output.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LookReport {
    /// What is wrong with directories; those that are well are not named.
    pub directories: BTreeMap<PathBuf, String>,
    /// The first line that each program says of its version, or why there is none.
    pub programs: BTreeMap<String, Result<String, ProgramFault>>,
    /// What came of the database; absent where none was named.
    pub database: Option<Result<DatabaseLook, String>>,
}

/// Why a program tells no version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProgramFault {
    /// It is not there.
    Missing,
    /// It is there and of no use: in one line, how so.
    Useless(String),
}

/// How the database received the login of sandboxes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseLook {
    /// Milliseconds from the first packet to the last answer.
    pub took_ms: u64,
    /// Whether the run's functions can be called, and refuse who has no run.
    pub answers: bool,
    /// Whether the tables are closed to it.
    pub closed: bool,
}
