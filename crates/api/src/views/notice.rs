//! Notices as clients see them.

use core_types::{
    ids::{NoticeId, RunId, TaskId},
    notice::{NoticeEvent, NoticeState},
    task::BlockReason,
};
use jiff::Timestamp;
use serde::Serialize;
use store::notices::Notice;
use utoipa::ToSchema;

use crate::views::run::usd;

/// Something that people are told.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct NoticeView {
    #[schema(schema_with = crate::schema::notice_id)]
    id: NoticeId,
    #[schema(schema_with = crate::schema::notice_event)]
    event: NoticeEvent,
    #[schema(schema_with = crate::schema::notice_state)]
    state: NoticeState,
    #[schema(schema_with = crate::schema::optional_task_id)]
    task: Option<TaskId>,
    #[schema(schema_with = crate::schema::optional_run_id)]
    run: Option<RunId>,
    /// The task's title.
    title: Option<String>,
    /// What is paused, or goes on.
    subject: Option<String>,
    #[schema(schema_with = crate::schema::optional_block_reason)]
    block_reason: Option<BlockReason>,
    /// What happened, for people.
    reason: Option<String>,
    commit: Option<String>,
    branch: Option<String>,
    /// When it goes on by itself.
    #[schema(value_type = Option<String>, format = DateTime)]
    until: Option<Timestamp>,
    /// What all runs of the task cost.
    cost_usd: Option<f64>,
    /// How often it was tried.
    attempts: u32,
    /// Why the last attempt failed.
    last_error: Option<String>,
    /// When it went to the webhook.
    #[schema(value_type = Option<String>, format = DateTime)]
    webhook_sent_at: Option<Timestamp>,
    /// When the command took it.
    #[schema(value_type = Option<String>, format = DateTime)]
    command_sent_at: Option<Timestamp>,
    /// When it is tried next.
    #[schema(value_type = Option<String>, format = DateTime)]
    next_at: Option<Timestamp>,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// When it was delivered or given up.
    #[schema(value_type = Option<String>, format = DateTime)]
    ended_at: Option<Timestamp>,
}

/// A page of notices, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct NoticePage {
    pub(crate) items: Vec<NoticeView>,
    /// Where the next page begins; absent on the last one.
    pub(crate) next_cursor: Option<String>,
}

impl From<Notice> for NoticeView {
    fn from(notice: Notice) -> Self {
        Self {
            id: notice.id,
            event: notice.event,
            state: notice.state,
            task: notice.task,
            run: notice.run,
            title: notice.title,
            subject: notice.subject,
            block_reason: notice.block_reason,
            reason: notice.reason,
            commit: notice.commit,
            branch: notice.branch,
            until: notice.until,
            cost_usd: notice.cost_microusd.map(usd),
            attempts: notice.attempts,
            last_error: notice.last_error,
            webhook_sent_at: notice.webhook_sent_at,
            command_sent_at: notice.command_sent_at,
            next_at: notice.next_at,
            created_at: notice.created_at,
            ended_at: notice.ended_at,
        }
    }
}
