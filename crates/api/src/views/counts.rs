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
    total: u64,
    /// How many stand so.
    #[serde(flatten)]
    by_status: StatusCounts,
    /// The same for each role.
    by_role: BTreeMap<&'static str, StatusCounts>,
    /// The queued task that was made first.
    #[schema(value_type = Option<String>)]
    oldest_queued: Option<TaskId>,
    /// For how long it has been there, in seconds.
    oldest_queued_age_s: Option<f64>,
}

/// How many tasks stand how.
#[derive(Debug, Default, Clone, Copy, Serialize, ToSchema)]
struct StatusCounts {
    queued: u64,
    running: u64,
    done: u64,
    failed: u64,
    blocked: u64,
    cancelled: u64,
}

impl StatusCounts {
    const fn of(&mut self, status: TaskStatus) -> &mut u64 {
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
            *by_status.of(status) += count;
            *by_role.entry(role.as_str()).or_default().of(status) += count;
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
