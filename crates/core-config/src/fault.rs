//! What is wrong with settings: every fault with its key, its source and its way out, all in one report.
//!
//! The value of a secret is in no fault.

use std::fmt;

use core_types::words;

words! {
    /// The layer a value comes from.
    Source, "source of a setting" {
        Default = "default",
        Database = "database",
        Environment = "environment",
    }
}

/// One setting that cannot be used as it is.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Fault {
    /// The key as it was given.
    pub key: String,
    /// Where the value comes from.
    pub source: Source,
    /// What is wrong.
    pub what: String,
    /// What is allowed.
    pub allowed: String,
    /// What to do.
    pub hint: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, source, what, allowed, hint } = self;
        write!(f, "{key} ({source}): {what}; allowed: {allowed}; {hint}")
    }
}

/// Everything that is wrong with the settings of one start.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
#[serde(transparent)]
pub struct Faults(pub(crate) Vec<Fault>);

impl Faults {
    /// Whether nothing is wrong.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many settings are wrong.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// The faults, those of the environment first.
    pub fn iter(&self) -> std::slice::Iter<'_, Fault> {
        self.0.iter()
    }

    pub(crate) fn push(&mut self, fault: Fault) {
        self.0.push(fault);
    }

    pub(crate) fn append(&mut self, mut other: Self) {
        self.0.append(&mut other.0);
    }
}

impl<'a> IntoIterator for &'a Faults {
    type Item = &'a Fault;
    type IntoIter = std::slice::Iter<'a, Fault>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.len() {
            1 => f.write_str("1 setting cannot be used")?,
            count => write!(f, "{count} settings cannot be used")?,
        }
        self.iter().try_for_each(|fault| write!(f, "\n  {fault}"))
    }
}

impl std::error::Error for Faults {}
