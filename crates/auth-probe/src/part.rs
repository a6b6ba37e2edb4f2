//! One thing that a working system needs, as it was found.

use core_types::readiness::CheckState;

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Its name, such as `sandbox_image`.
    pub name: &'static str,
    /// How it was found.
    pub state: CheckState,
    /// What was found, in one line.
    pub cause: String,
    /// What to do about it; nothing where it is well.
    pub fix: Option<String>,
}

impl Part {
    /// One that is well.
    #[must_use]
    pub fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, state: CheckState::Ok, cause: found.into(), fix: None }
    }

    /// One that is not.
    #[must_use]
    pub fn bad(
        name: &'static str,
        state: CheckState,
        cause: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self { name, state, cause: cause.into(), fix: Some(fix.into()) }
    }
}
