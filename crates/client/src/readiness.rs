//! Whether a system is ready, and what it says is missing.

use serde::Deserialize;
use serde_json::Value;

/// What the server says of itself and of what a task needs.
#[derive(Debug, Clone, Deserialize)]
pub struct Readiness {
    /// Whether a task that is posted now will be done.
    pub ready: bool,
    /// What was looked at.
    pub checks: Vec<Check>,
    /// The answer as it came.
    #[serde(skip)]
    pub answer: Value,
}

/// One thing that a working system needs.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Check {
    /// Its name, such as `database`.
    pub name: String,
    /// Whether it is there.
    pub ok: bool,
    /// What is found, or what is missing.
    pub message: String,
}

impl Readiness {
    /// Reads an answer, whatever its status. What holds no `ready` and no `checks` is none: the body of an error has
    /// neither, while a system that is not ready says so with the fields of an error besides.
    pub(crate) fn read(answer: &Value) -> Option<Self> {
        let this = Self::deserialize(answer).ok()?;
        Some(Self { answer: answer.clone(), ..this })
    }

    /// What is missing, in the order of the checks.
    pub fn missing(&self) -> impl Iterator<Item = &Check> {
        self.checks.iter().filter(|check| !check.ok)
    }
}
