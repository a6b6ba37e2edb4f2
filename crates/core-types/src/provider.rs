//! The provider of a model, as far as it decides at whose gate a task waits.

use std::fmt;

use serde::Serialize;

use crate::task::ExecutorKind;

/// Most characters that tell one provider from another.
const TOLD_APART_BY: usize = 100;

/// The provider of a model. It has no name where the executor has one provider only, and where the executor's own
/// settings choose the model.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Provider(String);

impl Provider {
    /// The provider of a task with this model. The column `tasks.provider` is the same.
    #[must_use]
    pub fn of(executor: ExecutorKind, model: Option<&str>) -> Self {
        match executor {
            ExecutorKind::ClaudeCode => Self::default(),
            ExecutorKind::Opencode => {
                let name = model.and_then(|model| model.split_once('/')).map(|(name, _)| name);
                Self::named(name.unwrap_or_default())
            }
        }
    }

    /// The provider of this name.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self(name.chars().take(TOLD_APART_BY).collect())
    }

    /// Its name; empty where it has none.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its name, where it has one.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        Some(self.as_str()).filter(|name| !name.is_empty())
    }

    /// This one, or where it has no name the other.
    #[must_use]
    pub fn or<'a>(&'a self, other: &'a Self) -> &'a Self {
        if self.name().is_some() { self } else { other }
    }
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
