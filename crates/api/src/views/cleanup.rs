//! What a cleanup removes, as clients see it.

use jiff::Timestamp;
use serde::Serialize;
use store::cleanup::{CleanupCounts, CleanupPlan};
use utoipa::ToSchema;

use crate::requests::cleanup::{CleanupWish, DiskCounts};

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
    mirrors: u64,
    results: u64,
}

impl CleanupPlanView {
    pub(crate) fn new(
        wish: &CleanupWish,
        before: Timestamp,
        plan: CleanupPlan,
        disk: DiskCounts,
    ) -> Self {
        Self {
            older_than_days: wish.days,
            what: wish.what.iter().map(|one| one.as_str()).collect(),
            before,
            would_remove: CleanupCountsView::new(plan.counts, disk),
            kept_for_dependants: plan.kept_for_dependants,
            confirm: wish.confirmation(before, &plan, disk),
        }
    }
}

impl CleanupView {
    pub(crate) fn new(counts: CleanupCounts, disk: DiskCounts, finished: bool) -> Self {
        Self { removed: CleanupCountsView::new(counts, disk), finished }
    }
}

impl CleanupCountsView {
    const fn new(rows: CleanupCounts, disk: DiskCounts) -> Self {
        let CleanupCounts { tasks, runs, events, agents, notices } = rows;
        let DiskCounts { mirrors, results } = disk;
        Self { tasks, runs, events, agents, notices, mirrors, results }
    }
}
