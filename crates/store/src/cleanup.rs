//! Removing what is over and old: tasks with their runs and events, events alone, agents that signed off, notices.
//!
//! Nothing that waits, runs or is blocked is touched, nor any setting, its history, a gate or a process. A task that a
//! kept one depends on is kept. Work goes in small transactions, so that it holds up nobody and may be broken off.

use std::time::Duration;

use deadpool_postgres::GenericClient as _;
use jiff::Timestamp;
use tokio::time::Instant;
use tokio_postgres::Row;
use uuid::Uuid;

use crate::{
    connections::{Connection, Statements as _},
    error::StoreError,
    pool::Store,
    row::{get, number},
};

/// How many tasks one transaction removes.
const BATCH: i64 = 50;
/// How many events of each run one statement removes.
const EVENTS: i64 = 1000;
/// The end of the list of finished tasks, from where it is read backwards.
const FROM_THE_END: i64 = i64::MAX;

/// What may be removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct CleanupScope {
    /// Tasks that are done, failed or cancelled, with their runs and events.
    pub tasks: bool,
    /// The events of such tasks' runs, where the tasks stay.
    pub events: bool,
    /// Agents that have signed off and have no run any more.
    pub agents: bool,
    /// Notices that were delivered, given up or wanted by nobody.
    pub notices: bool,
}

/// How much was, or would be, removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct CleanupCounts {
    /// Tasks.
    pub tasks: u64,
    /// Runs of these tasks.
    pub runs: u64,
    /// Events of runs.
    pub events: u64,
    /// Agents.
    pub agents: u64,
    /// Notices.
    pub notices: u64,
}

/// What a cleanup would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CleanupPlan {
    /// What would be removed.
    pub counts: CleanupCounts,
    /// Tasks that are old enough and stay, because others that stay depend on them.
    pub kept_for_dependants: u64,
}

/// What a cleanup did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cleaned {
    /// What was removed.
    pub counts: CleanupCounts,
    /// Whether nothing is left to remove; else the time was over.
    pub finished: bool,
}

/// Old tasks; `kept` are those of them that some task which stays depends on, directly or by way of others. Served by
/// `tasks_finished` and both indexes of `task_dependencies`.
const OLD: &str = "
    WITH RECURSIVE old AS MATERIALIZED (
        SELECT id FROM tasks WHERE finished_at < $1
    ), kept (id) AS (
        SELECT o.id FROM old o WHERE EXISTS (
            SELECT FROM task_dependencies e JOIN tasks t ON t.id = e.task
            WHERE e.dependency = o.id AND (t.finished_at IS NULL OR t.finished_at >= $1))
        UNION
        SELECT e.dependency FROM kept k JOIN task_dependencies e ON e.task = k.id
            JOIN tasks t ON t.id = e.dependency WHERE t.finished_at < $1
    )";

/// The number of a run's last event is the number of its events: they have no holes.
fn count_tasks() -> String {
    let of = |tasks: &str| {
        format!(
            "(SELECT count(*) FROM {tasks}) AS {tasks}_tasks,
             (SELECT count(*) FROM {tasks} o JOIN runs r ON r.task = o.id) AS {tasks}_runs,
             (SELECT coalesce(sum(last.seq), 0)::bigint FROM {tasks} o JOIN runs r ON r.task = o.id
                 CROSS JOIN LATERAL (SELECT max(seq) AS seq FROM run_events e WHERE e.run = r.id) AS last)
                 AS {tasks}_events"
        )
    };
    format!("{OLD} SELECT {}, {}", of("old"), of("kept"))
}

/// Served by `agents_retired` and `runs_by_agent`.
const OLD_AGENTS: &str = "
    FROM agents a WHERE a.retired_at < $1 AND a.run IS NULL AND NOT EXISTS (SELECT FROM runs r WHERE r.agent = a.id)";

impl Store {
    /// The moment that lies so many days back, by the database's clock.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn days_ago(&self, days: u32) -> Result<Timestamp, StoreError> {
        let connection = self.connection().await?;
        let days = i32::try_from(days).unwrap_or(i32::MAX);
        let rows = connection
            .query_cached("SELECT clock_timestamp() - make_interval(days => $1) AS at", &[&days])
            .await?;
        let row = rows.first().ok_or_else(|| StoreError::corrupt("at", "no row"))?;
        get(row, "at")
    }

    /// Tells what [`Store::clean_up`] would remove of what ended before a moment.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn plan_cleanup(
        &self,
        scope: CleanupScope,
        before: Timestamp,
    ) -> Result<CleanupPlan, StoreError> {
        let connection = self.connection().await?;
        let mut plan = CleanupPlan { counts: CleanupCounts::default(), kept_for_dependants: 0 };
        if scope.tasks || scope.events {
            let row = one(&connection, &count_tasks(), before).await?;
            let count = |column| number::<i64, u64>(&row, column);
            if scope.tasks {
                plan.kept_for_dependants = count("kept_tasks")?;
                plan.counts.tasks = count("old_tasks")? - plan.kept_for_dependants;
                plan.counts.runs = count("old_runs")? - count("kept_runs")?;
            }
            let kept_events = if scope.events { 0 } else { count("kept_events")? };
            plan.counts.events = count("old_events")? - kept_events;
        }
        if scope.agents {
            let sql = format!("SELECT count(*) AS count {OLD_AGENTS}");
            plan.counts.agents =
                number::<i64, u64>(&one(&connection, &sql, before).await?, "count")?;
        }
        if scope.notices {
            let sql = "SELECT count(*) AS count FROM notices WHERE ended_at < $1";
            plan.counts.notices =
                number::<i64, u64>(&one(&connection, sql, before).await?, "count")?;
        }
        Ok(plan)
    }

    /// Removes what ended before a moment, for so long at most. Several at once do not hurt.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails; what was removed by then stays removed.
    pub async fn clean_up(
        &self,
        scope: CleanupScope,
        before: Timestamp,
        time: Duration,
    ) -> Result<Cleaned, StoreError> {
        let mut cleaning = Cleaning {
            store: self,
            before,
            until: Instant::now() + time,
            counts: CleanupCounts::default(),
        };
        let finished = cleaning.tasks(scope).await?
            && (!scope.agents || cleaning.agents().await?)
            && (!scope.notices || cleaning.notices().await?);
        Ok(Cleaned { counts: cleaning.counts, finished })
    }
}

async fn one(connection: &Connection, sql: &str, before: Timestamp) -> Result<Row, StoreError> {
    let rows = connection.query_cached(sql, &[&before]).await?;
    rows.into_iter().next().ok_or_else(|| StoreError::corrupt("count", "no row"))
}

/// A cleanup under way. Its steps tell whether they came to their end.
struct Cleaning<'a> {
    store: &'a Store,
    before: Timestamp,
    until: Instant,
    counts: CleanupCounts,
}

/// A place in the list of finished tasks.
#[derive(Debug, Clone, Copy)]
struct Place {
    finished_at: Timestamp,
    seq: i64,
}

impl Cleaning<'_> {
    fn is_late(&self) -> bool {
        Instant::now() >= self.until
    }

    async fn tasks(&mut self, scope: CleanupScope) -> Result<bool, StoreError> {
        if scope.events && !self.events_of_all().await? {
            return Ok(false);
        }
        // A dependant goes before its parent, and mostly ended after it; again until a pass finds none that is free.
        let mut removed = scope.tasks;
        while removed {
            removed = false;
            let mut place = self.end();
            while let Some((ids, next)) = self.old_tasks(place, true).await? {
                if self.is_late() {
                    return Ok(false);
                }
                self.events_of(&ids).await?;
                removed |= self.remove(&ids).await?;
                place = next;
            }
        }
        Ok(true)
    }

    const fn end(&self) -> Place {
        Place { finished_at: self.before, seq: FROM_THE_END }
    }

    /// The next old tasks, the last ended first; all, or those that nothing depends on. Served by `tasks_finished` and
    /// the primary key of `task_dependencies`.
    async fn old_tasks(
        &self,
        place: Place,
        free: bool,
    ) -> Result<Option<(Vec<Uuid>, Place)>, StoreError> {
        let free = if free {
            "AND NOT EXISTS (SELECT FROM task_dependencies e WHERE e.dependency = t.id)"
        } else {
            ""
        };
        let sql = format!(
            "SELECT t.id, t.finished_at, t.seq FROM tasks t
             WHERE t.finished_at < $1 AND (t.finished_at, t.seq) < ($2, $3) {free}
             ORDER BY t.finished_at DESC, t.seq DESC LIMIT $4"
        );
        let connection = self.store.connection().await?;
        let rows = connection
            .query_cached(&sql, &[&self.before, &place.finished_at, &place.seq, &BATCH])
            .await?;
        let Some(last) = rows.last() else {
            return Ok(None);
        };
        let next = Place { finished_at: get(last, "finished_at")?, seq: get(last, "seq")? };
        let ids: Result<Vec<Uuid>, StoreError> = rows.iter().map(|row| get(row, "id")).collect();
        Ok(Some((ids?, next)))
    }

    async fn events_of_all(&mut self) -> Result<bool, StoreError> {
        let mut place = self.end();
        while let Some((ids, next)) = self.old_tasks(place, false).await? {
            if self.is_late() {
                return Ok(false);
            }
            self.events_of(&ids).await?;
            place = next;
        }
        Ok(true)
    }

    /// Removes the events of these tasks' runs, if the tasks are still over. Served by `runs_by_task` and the primary key.
    async fn events_of(&mut self, tasks: &[Uuid]) -> Result<(), StoreError> {
        let connection = self.store.connection().await?;
        let rows = connection
            .query_cached(
                "SELECT r.id, last.seq FROM tasks t JOIN runs r ON r.task = t.id AND r.status = 'ended'
                     CROSS JOIN LATERAL (SELECT max(seq) AS seq FROM run_events e WHERE e.run = r.id) AS last
                 WHERE t.id = ANY($1) AND t.finished_at < $2 AND last.seq IS NOT NULL",
                &[&tasks, &self.before],
            )
            .await?;
        let runs: Result<Vec<Uuid>, StoreError> = rows.iter().map(|row| get(row, "id")).collect();
        let lasts: Result<Vec<i64>, StoreError> = rows.iter().map(|row| get(row, "seq")).collect();
        let (runs, last) = (runs?, lasts?.into_iter().max().unwrap_or_default());
        let delete = connection
            .prepare_cached("DELETE FROM run_events WHERE run = ANY($1) AND seq > $2 AND seq <= $3")
            .await?;
        let mut from = 0;
        while from < last {
            let removed = connection.execute(&delete, &[&runs, &from, &(from + EVENTS)]).await?;
            self.counts.events += removed;
            from += EVENTS;
        }
        Ok(())
    }

    /// Removes tasks that are still over and that nothing depends on; tells whether there were any.
    async fn remove(&mut self, tasks: &[Uuid]) -> Result<bool, StoreError> {
        let mut connection = self.store.connection().await?;
        let tx = connection.transaction().await?;
        // Who makes a dependant locks its parents first: after this none can come.
        let lock = "SELECT id FROM tasks WHERE id = ANY($1) AND finished_at < $2 ORDER BY seq FOR UPDATE SKIP LOCKED";
        let locked = ids(&tx.query_cached(lock, &[&tasks, &self.before]).await?)?;
        let free = "SELECT id FROM tasks t WHERE id = ANY($1)
            AND NOT EXISTS (SELECT FROM task_dependencies e WHERE e.dependency = t.id)";
        let gone = ids(&tx.query_cached(free, &[&locked]).await?)?;
        if gone.is_empty() {
            return Ok(false);
        }
        let mut counts = Vec::new();
        for sql in [
            "DELETE FROM run_events e USING runs r WHERE r.task = ANY($1) AND e.run = r.id",
            "DELETE FROM runs WHERE task = ANY($1)",
            "DELETE FROM task_dependencies WHERE task = ANY($1)",
            "DELETE FROM tasks WHERE id = ANY($1)",
        ] {
            let statement = tx.prepare_cached(sql).await?;
            counts.push(tx.execute(&statement, &[&gone]).await?);
        }
        tx.commit().await?;
        if let [events, runs, _, tasks] = counts.as_slice() {
            self.counts.events += events;
            self.counts.runs += runs;
            self.counts.tasks += tasks;
        }
        Ok(true)
    }

    async fn agents(&mut self) -> Result<bool, StoreError> {
        let sql = format!(
            "DELETE FROM agents WHERE id = ANY(ARRAY(SELECT a.id {OLD_AGENTS} ORDER BY a.retired_at, a.id LIMIT 1000))"
        );
        let (removed, finished) = self.in_batches(&sql).await?;
        self.counts.agents += removed;
        Ok(finished)
    }

    async fn notices(&mut self) -> Result<bool, StoreError> {
        let sql = "DELETE FROM notices WHERE id = ANY(ARRAY(
            SELECT id FROM notices WHERE ended_at < $1 ORDER BY ended_at, seq LIMIT 1000))";
        let (removed, finished) = self.in_batches(sql).await?;
        self.counts.notices += removed;
        Ok(finished)
    }

    /// Repeats a statement until it removes nothing.
    async fn in_batches(&self, sql: &str) -> Result<(u64, bool), StoreError> {
        let connection = self.store.connection().await?;
        let statement = connection.prepare_cached(sql).await?;
        let mut total = 0;
        loop {
            let removed = connection.execute(&statement, &[&self.before]).await?;
            total += removed;
            if removed == 0 || self.is_late() {
                return Ok((total, removed == 0));
            }
        }
    }
}

fn ids(rows: &[Row]) -> Result<Vec<Uuid>, StoreError> {
    rows.iter().map(|row| get(row, "id")).collect()
}
