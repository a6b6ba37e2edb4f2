//! How many tasks there are, as clients see it.

use std::collections::BTreeMap;

use core_types::{
    ids::TaskId,
    task::{Role, TaskStatus},
};
use serde::Serialize;
use store::tasks::list::TaskCounts;
use utoipa::ToSchema;

/// How many tasks there are.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TaskSummaryView {
    /// How many in all.
    pub(crate) total: u64,
    /// How many stand so.
    #[serde(flatten)]
    pub(crate) by_status: StatusCounts,
    /// The same for each role.
    pub(crate) by_role: BTreeMap<&'static str, StatusCounts>,
    /// The queued task that was made first.
    #[schema(value_type = Option<String>)]
    pub(crate) oldest_queued: Option<TaskId>,
    /// For how long it has been there, in seconds.
    pub(crate) oldest_queued_age_s: Option<f64>,
}

/// How many tasks stand how.
#[derive(Debug, Default, Clone, Copy, Serialize, ToSchema)]
pub(crate) struct StatusCounts {
    pub(crate) queued: u64,
    pub(crate) running: u64,
    pub(crate) done: u64,
    pub(crate) failed: u64,
    pub(crate) blocked: u64,
    pub(crate) cancelled: u64,
}

impl StatusCounts {
    /// How many stand so.
    pub(crate) const fn of(mut self, status: TaskStatus) -> u64 {
        *self.of_mut(status)
    }

    const fn of_mut(&mut self, status: TaskStatus) -> &mut u64 {
        match status {
            TaskStatus::Queued => &mut self.queued,
            TaskStatus::Running => &mut self.running,
            TaskStatus::Done => &mut self.done,
            TaskStatus::Failed => &mut self.failed,
            TaskStatus::Blocked => &mut self.blocked,
            TaskStatus::Cancelled => &mut self.cancelled,
        }
    }
}

impl From<TaskCounts> for TaskSummaryView {
    fn from(TaskCounts { counts, oldest_queued }: TaskCounts) -> Self {
        let mut by_role: BTreeMap<&'static str, StatusCounts> =
            Role::ALL.iter().map(|role| (role.as_str(), StatusCounts::default())).collect();
        let (mut total, mut by_status) = (0, StatusCounts::default());
        for (role, status, count) in counts {
            total += count;
            *by_status.of_mut(status) += count;
            *by_role.entry(role.as_str()).or_default().of_mut(status) += count;
        }
        Self {
            total,
            by_status,
            by_role,
            oldest_queued: oldest_queued.map(|(id, _)| id),
            oldest_queued_age_s: oldest_queued.map(|(_, age)| age),
        }
    }
}
