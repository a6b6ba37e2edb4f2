//! What a check found.

use std::time::Duration;

use core_types::{
    auth::{AuthReason, CheckedBy, QuotaWindow},
    task::{ExecutionEnvironment, ExecutorKind},
};
use jiff::Timestamp;

/// What a check found.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// Whether an agent could run, or why not.
    pub reason: AuthReason,
    /// How it was found out.
    pub checked_by: CheckedBy,
    /// What was seen, in one line of English: a program's own words, a path. No secrets.
    pub detail: Option<String>,
    /// How much of the account's limits is used, where the provider told.
    pub quota: Vec<QuotaWindow>,
    /// When the provider lifts its limit, where it told.
    pub retry_at: Option<Timestamp>,
    /// Tokens of a model that the check itself used.
    pub tokens: u64,
}

/// A finding with its circumstances.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Whose login.
    pub executor: ExecutorKind,
    /// Where an agent would run.
    pub environment: ExecutionEnvironment,
    /// What was found.
    pub finding: Finding,
    /// When.
    pub checked_at: Timestamp,
    /// How long it took.
    pub took: Duration,
    /// Whether it was found for somebody else, or before.
    pub cached: bool,
}

impl Finding {
    /// A finding with nothing else known.
    #[must_use]
    pub const fn new(reason: AuthReason, checked_by: CheckedBy) -> Self {
        Self { reason, checked_by, detail: None, quota: Vec::new(), retry_at: None, tokens: 0 }
    }

    /// The same with what was seen.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }
}
