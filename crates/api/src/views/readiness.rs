//! Readiness in full as clients see it.

use core_types::{task::ExecutionEnvironment, words};
use serde::Serialize;
use utoipa::ToSchema;

words! {
    /// How a check came out.
    CheckState, "state of a check" {
        /// It is well.
        Ok = "ok",
        /// It does not stand in the way of a task, and should be known.
        Warn = "warn",
        /// It stands in the way of tasks.
        Fail = "fail",
        /// It could not be found out.
        Unknown = "unknown",
    }
}

/// Everything that was looked at.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FullReadinessView {
    /// Whether nothing fails, and the login that tasks use by default is known to work.
    pub(crate) ready: bool,
    #[schema(schema_with = crate::schema::environment)]
    pub(crate) environment: ExecutionEnvironment,
    pub(crate) checks: Vec<FullCheckView>,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct FullCheckView {
    #[schema(examples("claude_auth"))]
    pub(crate) name: String,
    #[schema(schema_with = crate::schema::check_state)]
    pub(crate) state: CheckState,
    /// What was found.
    pub(crate) cause: String,
    /// What to do about it; `null` where it is well.
    pub(crate) fix: Option<String>,
}

impl FullReadinessView {
    pub(crate) fn new(environment: ExecutionEnvironment, checks: Vec<FullCheckView>) -> Self {
        let ready = checks.iter().all(|check| check.state != CheckState::Fail);
        Self { ready, environment, checks }
    }
}

impl FullCheckView {
    pub(crate) fn ok(name: &str, found: impl Into<String>) -> Self {
        Self { name: name.to_owned(), state: CheckState::Ok, cause: found.into(), fix: None }
    }

    pub(crate) fn bad(
        name: &str,
        state: CheckState,
        cause: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self { name: name.to_owned(), state, cause: cause.into(), fix: Some(fix.into()) }
    }
}
