//! Health as clients see it. Says what is missing, never what a driver said.

use serde::Serialize;
use utoipa::ToSchema;

/// This process answers.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct HealthView {
    #[schema(examples("ok"))]
    pub(crate) status: &'static str,
    pub(crate) version: &'static str,
}

/// Whether a task that is posted now will be done.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ReadinessView {
    pub(crate) ready: bool,
    /// What is missing, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
    /// `not_ready` where something is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) code: Option<&'static str>,
    pub(crate) checks: Vec<CheckView>,
    /// What does not stand in the way of a task, and should be known.
    pub(crate) warnings: Vec<String>,
}

/// One thing that a working system needs.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CheckView {
    /// `server`, `database`, `schema`, `settings`, `redis` where there is one, `dispatcher`, `agent`.
    #[schema(examples("dispatcher"))]
    pub(crate) name: &'static str,
    pub(crate) ok: bool,
    /// What is found, or what is missing.
    pub(crate) message: String,
}

impl ReadinessView {
    pub(crate) fn new(checks: Vec<CheckView>, warnings: Vec<String>) -> Self {
        let missing: Vec<&str> =
            checks.iter().filter(|check| !check.ok).map(|check| check.message.as_str()).collect();
        let ready = missing.is_empty();
        Self {
            ready,
            error: (!ready).then(|| missing.join("; ")),
            code: (!ready).then_some("not_ready"),
            checks,
            warnings,
        }
    }
}
