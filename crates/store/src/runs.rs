//! Runs and their events: rows, and reading them. Writing them is in [`crate::dispatch`], fenced.

use core_types::{
    event::{NumberedEvent, RunEvent},
    ids::{AgentId, LeaseNumber, RunId, RunKey, TaskId},
    outcome::{RunOutcome, RunReport},
    task::{ExecutionEnvironment, RunStatus},
    usage::Usage,
};
use jiff::Timestamp;
use tokio_postgres::Row;
use uuid::Uuid;

use crate::{
    agents::HostId,
    connections::Statements,
    error::StoreError,
    pool::Store,
    row::{get, number, word, word_opt},
    tasks::Task,
};

pub mod list;

/// Most events in one answer.
pub const EVENTS_LIMIT: i64 = 10_000;

/// A run as it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// Its id.
    pub id: RunId,
    /// The task it is an attempt at.
    pub task: TaskId,
    /// 1 for the first run of the task, 2 for the second; the same number as its lease's.
    pub number: u32,
    /// The fencing number of its claim.
    pub lease: LeaseNumber,
    /// The agent it was handed to.
    pub agent: Option<AgentId>,
    /// Where that agent runs.
    pub host: Option<HostId>,
    /// Whether it runs on the host itself or in a sandbox.
    pub environment: ExecutionEnvironment,
    /// Where it stands.
    pub status: RunStatus,
    /// What came of it; present from `collecting` on.
    pub report: Option<RunReport>,
    /// The commit it started from, once that is known.
    pub base_commit: Option<String>,
    /// When it was claimed.
    pub created_at: Timestamp,
    /// When its agent accepted it.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
}

impl Run {
    /// What came of it.
    #[must_use]
    pub fn outcome(&self) -> Option<RunOutcome> {
        self.report.as_ref().map(|report| report.outcome)
    }

    /// What every write of it carries.
    #[must_use]
    pub const fn key(&self) -> RunKey {
        RunKey { run: self.id, lease: self.lease }
    }
}

/// A run that was handed to an agent.
#[derive(Debug, Clone, PartialEq)]
pub struct Assignment {
    /// What every write of the run carries.
    pub key: RunKey,
    /// The task.
    pub task: Task,
    /// The number of the run among those of its task.
    pub number: u32,
}

/// An event as it is stored. Its kind may be one that only a newer version knows.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredEvent {
    /// The place in the run.
    pub seq: i64,
    /// When it happened, by the clock of the machine it happened on.
    pub at: Timestamp,
    /// What happened; the field `kind` tells which other fields there are.
    pub event: serde_json::Value,
}

/// The columns of a [`Run`], of a table named `r`.
pub(crate) const COLUMNS: &str = "
    r.id, r.seq, r.task, r.lease_number, r.agent, r.host, r.environment, r.status, r.outcome, r.message, r.hint, r.retry_at,
    r.input_tokens, r.output_tokens, r.cache_read_tokens, r.cache_write_tokens, r.cost_microusd, r.turns,
    r.session, r.commit_id, r.branch, r.base_commit, r.created_at, r.started_at, r.ended_at";

/// Reads a row of [`COLUMNS`].
pub(crate) fn from_row(row: &Row) -> Result<Run, StoreError> {
    let lease = LeaseNumber(get(row, "lease_number")?);
    let outcome: Option<RunOutcome> = word_opt(row, "outcome")?;
    Ok(Run {
        id: RunId::from_uuid(get(row, "id")?),
        task: TaskId::from_uuid(get(row, "task")?),
        number: number_of(lease)?,
        lease,
        agent: get::<Option<Uuid>>(row, "agent")?.map(AgentId::from_uuid),
        host: get::<Option<String>>(row, "host")?.map(HostId::new),
        environment: word(row, "environment")?,
        status: word(row, "status")?,
        report: outcome.map(|outcome| report_from_row(row, outcome)).transpose()?,
        base_commit: get(row, "base_commit")?,
        created_at: get(row, "created_at")?,
        started_at: get(row, "started_at")?,
        ended_at: get(row, "ended_at")?,
    })
}

fn report_from_row(row: &Row, outcome: RunOutcome) -> Result<RunReport, StoreError> {
    Ok(RunReport {
        outcome,
        message: get(row, "message")?,
        hint: get(row, "hint")?,
        retry_at: get(row, "retry_at")?,
        usage: Usage {
            input_tokens: number::<i64, u64>(row, "input_tokens")?,
            output_tokens: number::<i64, u64>(row, "output_tokens")?,
            cache_read_tokens: number::<i64, u64>(row, "cache_read_tokens")?,
            cache_write_tokens: number::<i64, u64>(row, "cache_write_tokens")?,
            cost_microusd: number::<i64, u64>(row, "cost_microusd")?,
            turns: number::<i64, u32>(row, "turns")?,
        },
        session: get(row, "session")?,
        commit: get(row, "commit_id")?,
        branch: get(row, "branch")?,
    })
}

/// The number of a run among those of its task: each claim makes one run.
pub(crate) fn number_of(lease: LeaseNumber) -> Result<u32, StoreError> {
    u32::try_from(lease.0).map_err(|error| StoreError::corrupt("lease_number", error))
}

impl Store {
    /// The run, if there is one.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn run(&self, id: RunId) -> Result<Option<Run>, StoreError> {
        let connection = self.connection().await?;
        find(&connection, id).await
    }

    /// The runs of a task, newest first; at most [`crate::page::PAGE_LIMIT`]. Served by the unique key of task and
    /// lease number.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn runs_of_task(&self, task: TaskId) -> Result<Vec<Run>, StoreError> {
        let connection = self.connection().await?;
        let sql = format!(
            "SELECT {COLUMNS} FROM runs r WHERE r.task = $1 ORDER BY r.lease_number DESC LIMIT {}",
            crate::page::PAGE_LIMIT
        );
        let statement = connection.prepare_cached(&sql).await?;
        let rows = connection.query(&statement, &[&task.as_uuid()]).await?;
        rows.iter().map(from_row).collect()
    }

    /// The last verification command of a run that failed. Served by the primary key, read from its end.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails, or where the event is not understood.
    pub async fn failed_verification(&self, run: RunId) -> Result<Option<RunEvent>, StoreError> {
        let connection = self.connection().await?;
        let statement = connection
            .prepare_cached(
                "SELECT event FROM run_events
                 WHERE run = $1 AND kind = 'verification' AND event->>'passed' = 'false'
                 ORDER BY seq DESC LIMIT 1",
            )
            .await?;
        let row = connection.query_opt(&statement, &[&run.as_uuid()]).await?;
        let event = row.map(|row| get::<serde_json::Value>(&row, "event")).transpose()?;
        let event = event.map(serde_json::from_value).transpose();
        event.map_err(|error| StoreError::corrupt("event", error))
    }

    /// The events of a run with numbers above `after_seq`, in order; at most `limit` and [`EVENTS_LIMIT`].
    ///
    /// # Errors
    /// [`StoreError`] when the database fails, or where one is of a kind that this version does not know.
    pub async fn events(
        &self,
        run: RunId,
        after_seq: i64,
        limit: i64,
    ) -> Result<Vec<NumberedEvent>, StoreError> {
        let stored = self.stored_events(run, after_seq, limit).await?.into_iter();
        stored
            .map(|StoredEvent { seq, at, event }| {
                let event = serde_json::from_value(event);
                let event = event.map_err(|error| StoreError::corrupt("event", error))?;
                Ok(NumberedEvent { seq, at, event })
            })
            .collect()
    }

    /// Like [`Store::events`], as they are stored: one that is not understood hides no other. Served by the primary
    /// key.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn stored_events(
        &self,
        run: RunId,
        after_seq: i64,
        limit: i64,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        let limit = limit.clamp(1, EVENTS_LIMIT);
        let connection = self.connection().await?;
        let rows = connection
            .query_cached(
                "SELECT seq, at, event FROM run_events WHERE run = $1 AND seq > $2 ORDER BY seq LIMIT $3",
                &[&run.as_uuid(), &after_seq, &limit],
            )
            .await?;
        rows.iter().map(stored_event).collect()
    }
}

/// Reads the columns `seq`, `at` and `event`.
pub(crate) fn stored_event(row: &Row) -> Result<StoredEvent, StoreError> {
    Ok(StoredEvent { seq: get(row, "seq")?, at: get(row, "at")?, event: get(row, "event")? })
}

/// Reads one run, inside a transaction or not. Served by the primary key.
pub(crate) async fn find(client: &impl Statements, id: RunId) -> Result<Option<Run>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM runs r WHERE r.id = $1");
    let rows = client.query_cached(&sql, &[&id.as_uuid()]).await?;
    rows.first().map(from_row).transpose()
}
