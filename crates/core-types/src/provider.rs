//! The names of models: which can be passed to an agent's command line, and the provider in one, which decides at whose
//! gate a task waits.

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

/// What a name of a model may be, for people.
pub const MODEL_ALLOWED: &str = "letters, digits and `-._:/@[]`, not starting with `-`";
/// What a name of a model with its provider may be, for people.
pub const PROVIDER_MODEL_ALLOWED: &str =
    "`provider/model` of letters, digits and `-._:/@[]`, not starting with `-`";

/// Whether a text can be passed as a model: a command line would read others as something else.
#[must_use]
pub fn is_model(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with('-')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "-._:/@[]".contains(c))
}

/// Whether a text can be passed as a model with its provider.
#[must_use]
pub fn is_provider_model(text: &str) -> bool {
    let parts = text.split_once('/');
    is_model(text)
        && parts.is_some_and(|(provider, model)| !provider.is_empty() && !model.is_empty())
}
