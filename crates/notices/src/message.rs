//! What a notice says: ids, names and reasons, and no prompt, output or secret.

use core_types::{
    ids::{NoticeId, RunId, TaskId},
    notice::NoticeEvent,
    task::BlockReason,
};
use jiff::Timestamp;
use serde::Serialize;
use store::notices::Notice;

/// A notice as receivers get it. The same at each attempt, byte for byte, unless more of what it is about became known.
#[derive(Debug, Clone, Serialize)]
pub struct Message<'a> {
    id: NoticeId,
    event: NoticeEvent,
    at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    task: Option<TaskId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    run: Option<RunId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    block_reason: Option<BlockReason>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    commit: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    branch: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cost_usd: Option<f64>,
    /// Where the API shows what it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
}

impl<'a> Message<'a> {
    /// What a notice says.
    #[must_use]
    pub fn new(notice: &'a Notice) -> Self {
        Self {
            id: notice.id,
            event: notice.event,
            at: notice.created_at,
            task: notice.task,
            run: notice.run,
            title: notice.title.as_deref(),
            subject: notice.subject.as_deref(),
            block_reason: notice.block_reason,
            reason: notice.reason.as_deref(),
            commit: notice.commit.as_deref(),
            branch: notice.branch.as_deref(),
            until: notice.until,
            cost_usd: notice.cost_microusd.map(|cost| cost as f64 / 1_000_000.0),
            path: notice.task.map(|task| format!("/tasks/{task}")),
        }
    }

    /// The notice's id.
    #[must_use]
    pub const fn id(&self) -> NoticeId {
        self.id
    }

    /// What it is about.
    #[must_use]
    pub const fn event(&self) -> NoticeEvent {
        self.event
    }

    /// Its text.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("ids, texts and numbers can be written as JSON")
    }
}
