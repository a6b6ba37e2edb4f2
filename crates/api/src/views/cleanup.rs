//! What a cleanup removes, as clients see it.

use jiff::Timestamp;
use serde::Serialize;
use store::cleanup::{CleanupCounts, CleanupPlan};
use utoipa::ToSchema;

use crate::requests::cleanup::CleanupWish;

/// What a cleanup would remove.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CleanupPlanView {
    older_than_days: u32,
    #[schema(value_type = Vec<String>)]
    what: Vec<&'static str>,
    /// Only what ended before goes.
    #[schema(value_type = String, format = DateTime)]
    before: Timestamp,
    /// How much would go.
    would_remove: CleanupCountsView,
    /// Tasks that are old enough and stay, because tasks that stay depend on them.
    kept_for_dependants: u64,
    /// Send it with `POST /system/cleanup` to have just this removed; good for an hour.
    confirm: String,
}

/// What a cleanup removed.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CleanupView {
    removed: CleanupCountsView,
    /// Whether nothing of it is left; else the time for one request was over, and another one goes on.
    finished: bool,
}

/// How much of each kind.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CleanupCountsView {
    tasks: u64,
    runs: u64,
    events: u64,
    agents: u64,
    notices: u64,
}

impl CleanupPlanView {
    pub(crate) fn new(wish: &CleanupWish, before: Timestamp, plan: CleanupPlan) -> Self {
        Self {
            older_than_days: wish.days,
            what: wish.what.iter().map(|one| one.as_str()).collect(),
            before,
            would_remove: plan.counts.into(),
            kept_for_dependants: plan.kept_for_dependants,
            confirm: wish.confirmation(before, &plan),
        }
    }
}

impl CleanupView {
    pub(crate) fn new(counts: CleanupCounts, finished: bool) -> Self {
        Self { removed: counts.into(), finished }
    }
}

impl From<CleanupCounts> for CleanupCountsView {
    fn from(CleanupCounts { tasks, runs, events, agents, notices }: CleanupCounts) -> Self {
        Self { tasks, runs, events, agents, notices }
    }
}
