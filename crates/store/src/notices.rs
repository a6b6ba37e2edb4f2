//! The outbox of notices: what people shall be told. Rows are written by the database itself, in the transaction that
//! makes them true; see migration V8.
//!
//! A notice is claimed for a while and then settled. Whoever dies in between leaves it to the next, who may deliver it a
//! second time under the same id: it is never lost, and a receiver can tell that it has it already. What is delivered,
//! how, and how often, is not decided here.

use std::time::Duration;

use core_types::{
    ids::{NoticeId, RunId, TaskId},
    notice::{NoticeEvent, NoticeState},
    task::BlockReason,
};
use jiff::Timestamp;
use tokio_postgres::Row;
use uuid::Uuid;

use crate::{
    connections::Statements as _,
    error::StoreError,
    listing::Listing,
    page::{Cursor, Order, Page},
    pool::{SIGN_OF_LIFE, Store},
    row::{clean_opt, get, millis, number, number_opt, word, word_opt},
    wake::Channel,
};

/// Something that people shall be told.
#[derive(Debug, Clone, PartialEq)]
pub struct Notice {
    /// The same at each attempt to deliver it.
    pub id: NoticeId,
    /// What it is about.
    pub event: NoticeEvent,
    /// The task it is about.
    pub task: Option<TaskId>,
    /// The run that made it so.
    pub run: Option<RunId>,
    /// The task's title.
    pub title: Option<String>,
    /// What is paused, or goes on.
    pub subject: Option<String>,
    /// Why the task is blocked.
    pub block_reason: Option<BlockReason>,
    /// What happened, for people.
    pub reason: Option<String>,
    /// The commit that holds the result.
    pub commit: Option<String>,
    /// The branch the commit is on.
    pub branch: Option<String>,
    /// When it goes on by itself.
    pub until: Option<Timestamp>,
    /// What all runs of the task cost, in millionths of a US dollar.
    pub cost_microusd: Option<u64>,
    /// How it stands.
    pub state: NoticeState,
    /// When it went to the webhook.
    pub webhook_sent_at: Option<Timestamp>,
    /// When the command took it.
    pub command_sent_at: Option<Timestamp>,
    /// How often it was tried, the present attempt included.
    pub attempts: u32,
    /// Why the last attempt failed.
    pub last_error: Option<String>,
    /// When it is tried next.
    pub next_at: Option<Timestamp>,
    /// When it became true.
    pub created_at: Timestamp,
    /// When it was delivered or given up.
    pub ended_at: Option<Timestamp>,
}

/// What became of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    /// Whether it has gone to the webhook, now or before.
    pub webhook: bool,
    /// Whether the command took it, now or before.
    pub command: bool,
    /// What follows.
    pub next: NoticeNext,
    /// Why something failed.
    pub error: Option<String>,
}

/// What follows an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoticeNext {
    /// It is delivered.
    Sent,
    /// Nobody asked for it.
    Unwanted,
    /// It is given up.
    GiveUp,
    /// It is tried again after this time.
    Again(Duration),
}

/// Which notices a list shows; what is left out is not asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NoticeFilter {
    /// Only those in one of these states; none is any.
    pub states: Vec<NoticeState>,
    /// Only those about this.
    pub event: Option<NoticeEvent>,
    /// Only those behind this place.
    pub before: Option<Cursor>,
    /// Longest page; 1 to [`crate::page::PAGE_LIMIT`].
    pub limit: u32,
}

/// The columns of a [`Notice`], of a table named `n`. The cost is served by `runs_by_task`.
const COLUMNS: &str = "
    n.seq, n.id, n.event, n.task, n.run, n.title, n.subject, n.block_reason, n.reason, n.commit_id, n.branch, n.until,
    n.state, n.webhook_sent_at, n.command_sent_at, n.attempts, n.last_error, n.next_at, n.created_at, n.ended_at,
    (SELECT sum(r.cost_microusd)::bigint FROM runs r WHERE r.task = n.task) AS cost";

fn from_row(row: &Row) -> Result<Notice, StoreError> {
    Ok(Notice {
        id: NoticeId::from_uuid(get(row, "id")?),
        event: word(row, "event")?,
        task: get::<Option<Uuid>>(row, "task")?.map(TaskId::from_uuid),
        run: get::<Option<Uuid>>(row, "run")?.map(RunId::from_uuid),
        title: get(row, "title")?,
        subject: get(row, "subject")?,
        block_reason: word_opt(row, "block_reason")?,
        reason: get(row, "reason")?,
        commit: get(row, "commit_id")?,
        branch: get(row, "branch")?,
        until: get(row, "until")?,
        cost_microusd: number_opt::<i64, u64>(row, "cost")?,
        state: word(row, "state")?,
        webhook_sent_at: get(row, "webhook_sent_at")?,
        command_sent_at: get(row, "command_sent_at")?,
        attempts: number::<i32, u32>(row, "attempts")?,
        last_error: get(row, "last_error")?,
        next_at: get(row, "next_at")?,
        created_at: get(row, "created_at")?,
        ended_at: get(row, "ended_at")?,
    })
}

impl Store {
    /// Takes notices that are due, the oldest first, for so long, all or those of tests alone; what others hold is passed
    /// over. Served by `notices_due` and the primary key.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn claim_notices(
        &self,
        limit: u32,
        lease: Duration,
        tests_only: bool,
    ) -> Result<Vec<Notice>, StoreError> {
        let sql = format!(
            "WITH due AS MATERIALIZED (
                SELECT id FROM notices WHERE next_at <= clock_timestamp() AND (NOT $3 OR event = 'test')
                ORDER BY next_at, seq LIMIT $1 FOR UPDATE SKIP LOCKED
            ), n AS (
                UPDATE notices n SET attempts = attempts + 1,
                    next_at = clock_timestamp() + $2::bigint * interval '1 millisecond'
                FROM due WHERE n.id = due.id RETURNING n.*
            )
            SELECT {COLUMNS} FROM n ORDER BY n.seq"
        );
        let connection = self.connection().await?;
        let rows = connection
            .query_cached(&sql, &[&i64::from(limit), &millis(lease), &tests_only])
            .await?;
        rows.iter().map(from_row).collect()
    }

    /// Writes down what became of an attempt; tells whether it counted, which it does not where another attempt has begun
    /// since. Served by the primary key.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn settle_notice(
        &self,
        notice: &Notice,
        settled: &Settled,
    ) -> Result<bool, StoreError> {
        let (state, again) = match settled.next {
            NoticeNext::Sent => (NoticeState::Sent, None),
            NoticeNext::Unwanted => (NoticeState::Unwanted, None),
            NoticeNext::GiveUp => (NoticeState::Failed, None),
            NoticeNext::Again(delay) => (NoticeState::Pending, Some(millis(delay))),
        };
        let attempts = i32::try_from(notice.attempts).unwrap_or(i32::MAX);
        let connection = self.connection().await?;
        let statement = connection
            .prepare_cached(
                "UPDATE notices SET state = $3, last_error = $4,
                     next_at = clock_timestamp() + $5::bigint * interval '1 millisecond',
                     ended_at = CASE WHEN $5::bigint IS NULL THEN clock_timestamp() END,
                     webhook_sent_at = CASE WHEN $6 THEN coalesce(webhook_sent_at, clock_timestamp()) END,
                     command_sent_at = CASE WHEN $7 THEN coalesce(command_sent_at, clock_timestamp()) END
                 WHERE id = $1 AND attempts = $2 AND state = 'pending'",
            )
            .await?;
        let changed = connection
            .execute(
                &statement,
                &[
                    &notice.id.as_uuid(),
                    &attempts,
                    &state.as_str(),
                    &clean_opt(settled.error.as_deref()),
                    &again,
                    &settled.webhook,
                    &settled.command,
                ],
            )
            .await?;
        Ok(changed > 0)
    }

    /// Makes a notice that only shows whether notices arrive.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn add_test_notice(&self) -> Result<NoticeId, StoreError> {
        let id = NoticeId::generate();
        let connection = self.connection().await?;
        connection
            .execute(
                "INSERT INTO notices (id, event, reason, next_at, created_at)
                 VALUES ($1, 'test', 'somebody asked for a test', clock_timestamp(), clock_timestamp())",
                &[&id.as_uuid()],
            )
            .await?;
        drop(connection);
        self.wake(Channel::Tasks);
        Ok(id)
    }

    /// Notes for people that `subject` claims nothing, for this reason, or claims again; nothing where they were told
    /// that last. Served by `notices_by_subject`.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn note_claims(&self, subject: &str, paused: Option<&str>) -> Result<(), StoreError> {
        let (id, event) =
            (uuid::Uuid::now_v7(), if paused.is_some() { "paused" } else { "resumed" });
        let reason = clean_opt(paused);
        let connection = self.connection_within(SIGN_OF_LIFE).await?;
        let told = connection
            .execute(
                "INSERT INTO notices (id, event, subject, reason, next_at, created_at)
                 SELECT $1, $2, $3, $4, clock_timestamp(), clock_timestamp()
                 WHERE coalesce((SELECT event FROM notices WHERE subject = $3 ORDER BY seq DESC LIMIT 1), 'resumed') <> $2",
                &[&id, &event, &subject, &reason],
            )
            .await?;
        drop(connection);
        if told > 0 {
            self.wake(Channel::Tasks);
        }
        Ok(())
    }

    /// The notice, if there is one. Served by the primary key.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn notice(&self, id: NoticeId) -> Result<Option<Notice>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM notices n WHERE n.id = $1");
        let connection = self.connection().await?;
        let rows = connection.query_cached(&sql, &[&id.as_uuid()]).await?;
        rows.first().map(from_row).transpose()
    }

    /// Notices, newest first. A page with a next one may be short or empty: it looked at enough rows. Served by
    /// `notices_by_state` or the index on `seq`.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn list_notices(&self, filter: &NoticeFilter) -> Result<Page<Notice>, StoreError> {
        let mut list =
            Listing::new(("notices", "n"), COLUMNS, Order::Newest, filter.before, filter.limit);
        let mut states: Vec<&'static str> =
            filter.states.iter().map(|state| state.as_str()).collect();
        states.sort_unstable();
        states.dedup();
        if !states.is_empty() {
            list.any_of("state", states);
        }
        if let Some(event) = filter.event {
            list.also("n.event = ?", event.as_str());
        }
        let connection = self.connection().await?;
        list.page(&connection, from_row).await
    }
}
