//! Readiness in full as clients see it.

use auth_probe::part::Part;
use core_types::{readiness::CheckState, task::ExecutionEnvironment};
use serde::Serialize;
use utoipa::ToSchema;

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

    pub(crate) fn of_part(part: Part) -> Self {
        let Part { name, state, cause, fix } = part;
        Self { name: name.to_owned(), state, cause, fix }
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
