//! Lists of runs, and what of a run's events says how it went.

use std::collections::BTreeMap;

use core_types::{
    ids::{AgentId, RunId, TaskId},
    outcome::RunOutcome,
    task::{ExecutorKind, RunStatus},
};
use jiff::Timestamp;
use tokio_postgres::Row;
use uuid::Uuid;

use crate::{
    connections::Statements as _,
    error::StoreError,
    listing::Listing,
    page::{Cursor, Order, Page},
    pool::Store,
    row::{get, number},
    runs::{COLUMNS, Run, StoredEvent, from_row, stored_event},
};

/// Most milestones of one run.
const MILESTONES: i64 = 500;

/// How many runs are alive where.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LiveRuns {
    /// In containers of their own.
    pub in_sandboxes: u64,
    /// By agents of hosts.
    pub on_hosts: u64,
}

/// Which runs a list shows; what is left out is not asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunFilter {
    /// Only those of this task.
    pub task: Option<TaskId>,
    /// Only those of one of these statuses; none is any.
    pub statuses: Vec<RunStatus>,
    /// Only those that came to one of these; none is any.
    pub outcomes: Vec<RunOutcome>,
    /// Only those of this agent.
    pub agent: Option<AgentId>,
    /// Only those of tasks for this agent command line.
    pub executor: Option<ExecutorKind>,
    /// Only those claimed then or later.
    pub since: Option<Timestamp>,
    /// Only those claimed earlier.
    pub until: Option<Timestamp>,
    /// Which come first.
    pub order: Order,
    /// Only those behind this place, in that order.
    pub before: Option<Cursor>,
    /// Longest page; 1 to [`crate::page::PAGE_LIMIT`].
    pub limit: u32,
}

impl RunFilter {
    /// The index that leaves most out, and everything else row by row.
    fn listing(&self) -> Listing {
        let mut list = Listing::new(("runs", "r"), COLUMNS, self.order, self.before, self.limit);
        let mut statuses = words(&self.statuses, |status| status.as_str());
        let mut outcomes = words(&self.outcomes, |outcome| outcome.as_str());
        let mut agent = self.agent;
        if let Some(task) = self.task {
            list.indexed("r.task", task.as_uuid());
        } else if let Some(agent) = agent.take() {
            list.indexed("r.agent", agent.as_uuid());
        } else if !outcomes.is_empty() {
            list.any_of("outcome", std::mem::take(&mut outcomes));
        } else if !statuses.is_empty() {
            list.any_of("status", std::mem::take(&mut statuses));
        }
        if let Some(agent) = agent {
            list.also("r.agent = ?", agent.as_uuid());
        }
        if !outcomes.is_empty() {
            list.also("r.outcome = ANY(?)", outcomes);
        }
        if !statuses.is_empty() {
            list.also("r.status = ANY(?)", statuses);
        }
        if let Some(executor) = self.executor {
            let of_task = "(SELECT t.executor FROM tasks t WHERE t.id = r.task) = ?";
            list.also(of_task, executor.as_str());
        }
        list.made_within(self.since, self.until);
        list
    }
}

/// Each word once.
fn words<T>(values: &[T], word: impl Fn(&T) -> &'static str) -> Vec<&'static str> {
    let mut words: Vec<&'static str> = values.iter().map(word).collect();
    words.sort_unstable();
    words.dedup();
    words
}

impl Store {
    /// Runs, by when they were claimed. A page with a next one may be short or empty: it looked at enough rows.
    ///
    /// Served by `runs_by_task`, `runs_by_agent`, `runs_by_outcome`, `runs_by_status` or the
    /// index on `seq`; moments by `runs_by_creation`.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn list_runs(&self, filter: &RunFilter) -> Result<Page<Run>, StoreError> {
        let connection = self.connection().await?;
        filter.listing().page(&connection, from_row).await
    }

    /// How the database serves [`Store::list_runs`], for people who wonder why it is slow.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn explain_list_runs(&self, filter: &RunFilter) -> Result<Vec<String>, StoreError> {
        let connection = self.connection().await?;
        filter.listing().explain(&connection).await
    }

    /// How many runs are alive. Served by `runs_by_status`.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn count_live_runs(&self) -> Result<LiveRuns, StoreError> {
        let connection = self.connection().await?;
        let sql = "SELECT count(*) FILTER (WHERE environment = 'sandbox')::bigint AS in_sandboxes,
                       count(*) FILTER (WHERE environment = 'host')::bigint AS on_hosts
                   FROM runs WHERE status IN ('launching', 'running', 'collecting')";
        let rows = connection.query_cached(sql, &[]).await?;
        let row = rows.first().ok_or_else(|| StoreError::corrupt("runs", "no count"))?;
        Ok(LiveRuns {
            in_sandboxes: number::<i64, u64>(row, "in_sandboxes")?,
            on_hosts: number::<i64, u64>(row, "on_hosts")?,
        })
    }

    /// What the tasks of these runs are called. Served by the primary key.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn titles_of(&self, runs: &[Run]) -> Result<BTreeMap<TaskId, String>, StoreError> {
        let connection = self.connection().await?;
        let tasks: Vec<Uuid> = runs.iter().map(|run| run.task.as_uuid()).collect();
        let sql = "SELECT id, title FROM tasks WHERE id = ANY($1)";
        let rows = connection.query_cached(sql, &[&tasks]).await?;
        let title = |row: &Row| Ok((TaskId::from_uuid(get(row, "id")?), get(row, "title")?));
        rows.iter().map(title).collect()
    }

    /// The events of a run that say how it went: its phases, its verification, its end; the first 500. Served by
    /// `run_events_milestones`.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn milestones(&self, run: RunId) -> Result<Vec<StoredEvent>, StoreError> {
        let connection = self.connection().await?;
        let rows = connection
            .query_cached(
                "SELECT seq, at, event FROM run_events
                 WHERE run = $1 AND kind IN ('phase', 'verification', 'ended') ORDER BY seq LIMIT $2",
                &[&run.as_uuid(), &MILESTONES],
            )
            .await?;
        rows.iter().map(stored_event).collect()
    }

    /// The last events of a run, in order; at most `limit` and [`crate::runs::EVENTS_LIMIT`]. Served by the primary key.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn last_events(
        &self,
        run: RunId,
        before_seq: i64,
        limit: i64,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        let limit = limit.clamp(1, crate::runs::EVENTS_LIMIT);
        let connection = self.connection().await?;
        let rows = connection
            .query_cached(
                "SELECT seq, at, event FROM run_events WHERE run = $1 AND seq < $2 ORDER BY seq DESC LIMIT $3",
                &[&run.as_uuid(), &before_seq, &limit],
            )
            .await?;
        rows.iter().rev().map(stored_event).collect()
    }
}
