//! Runs that ended and were not told to a collector of traces yet.
//!
//! Traces are made from the record of a run and not from the memory of the processes that carried it: what is told is
//! whole also where one of them was killed, and a sandbox needs no way to the collector. A place in the list of runs by
//! their end says how far it was told; whoever tells holds that row, so that several dispatchers do not tell the same at
//! once. One that dies in between leaves the place, so a run may be told twice, and a trace's ids are made so that this
//! is the same trace.

use std::time::Duration;

use core_types::{
    event::RunEvent,
    ids::{RunId, TaskId},
    outcome::RunOutcome,
    task::{ExecutionEnvironment, ExecutorKind, Role},
    usage::Usage,
};
use deadpool_postgres::GenericClient as _;
use jiff::Timestamp;
use tokio_postgres::Row;
use uuid::Uuid;

use crate::{
    connections::Statements as _,
    error::StoreError,
    pool::Store,
    row::{get, json, millis, number, word},
};

/// How long a collector may take for one batch; beside it the connection is held.
pub const TELL_WITHIN: Duration = Duration::from_secs(5);
/// What ended longer ago than this is not told any more: nobody asked for traces then.
const TOO_OLD: Duration = Duration::from_secs(3600);

/// A run that ended, as a trace shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct EndedRun {
    /// The run.
    pub run: RunId,
    /// Its task.
    pub task: TaskId,
    /// The number of the claim.
    pub number: u64,
    /// Where it ran.
    pub environment: ExecutionEnvironment,
    /// The host that carried it, where one did.
    pub host: Option<String>,
    /// What it ran.
    pub executor: ExecutorKind,
    /// The task's role.
    pub role: Role,
    /// The model that the task names.
    pub model: Option<String>,
    /// What came of it.
    pub outcome: RunOutcome,
    /// What it used.
    pub usage: Usage,
    /// When the task was made.
    pub task_created_at: Timestamp,
    /// When the task was over, where this run is the one that ended it.
    pub task_finished_at: Option<Timestamp>,
    /// When it was claimed.
    pub claimed_at: Timestamp,
    /// When its worker accepted it.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Timestamp,
    /// Its phases and what verification said, oldest first, by the clock of the machine they happened on.
    pub milestones: Vec<(Timestamp, RunEvent)>,
}

const PLACE: &str = "
    SELECT greatest(ended_at, clock_timestamp() - $1::bigint * interval '1 millisecond') AS ended_at,
        run FROM trace_cursor FOR UPDATE SKIP LOCKED";
/// Served by `runs_by_end`. A transaction that ends a run is over within `$3`: what ended later may still come.
const ENDED: &str = "
    SELECT r.id, r.task, r.lease_number, r.environment, r.host, t.executor, t.role, t.model, r.outcome, r.input_tokens,
        r.output_tokens, r.cache_read_tokens, r.cache_write_tokens, r.cost_microusd, r.turns,
        t.created_at AS task_created_at,
        CASE WHEN t.lease_number = r.lease_number THEN t.finished_at END AS task_finished_at,
        r.created_at AS claimed_at, r.started_at, r.ended_at
    FROM runs r JOIN tasks t ON t.id = r.task
    WHERE r.ended_at IS NOT NULL AND (r.ended_at, r.id) > ($1, $2)
        AND r.ended_at < clock_timestamp() - $3::bigint * interval '1 millisecond'
    ORDER BY r.ended_at, r.id LIMIT $4";
/// Served by `run_events_milestones`.
const MILESTONES: &str = "
    SELECT run, at, event FROM run_events WHERE run = ANY($1) AND kind IN ('phase', 'verification', 'ended') ORDER BY run, seq";

impl Store {
    /// Hands the next runs that ended, `settled` ago or earlier, to `tell`, and notes that they were told where it says
    /// so. Tells how many those were; none where nothing is due, or somebody else is telling.
    ///
    /// `tell` has [`TELL_WITHIN`] to answer.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails; the runs will be told again.
    pub async fn tell_ended(
        &self,
        limit: u32,
        settled: Duration,
        tell: impl AsyncFnOnce(&[EndedRun]) -> bool,
    ) -> Result<usize, StoreError> {
        let mut connection = self.connection().await?;
        let transaction = connection.transaction().await?;
        let places = transaction.query_cached(PLACE, &[&millis(TOO_OLD)]).await?;
        let Some(place) = places.first() else {
            return Ok(0);
        };
        let (ended_at, run): (Timestamp, Uuid) = (get(place, "ended_at")?, get(place, "run")?);
        let rows = transaction
            .query_cached(ENDED, &[&ended_at, &run, &millis(settled), &i64::from(limit)])
            .await?;
        let runs: Result<Vec<EndedRun>, StoreError> = rows.iter().map(ended_run).collect();
        let mut runs = runs?;
        let Some(last) = runs.last().map(|last| (last.ended_at, last.run.as_uuid())) else {
            return Ok(0);
        };
        let ids: Vec<Uuid> = runs.iter().map(|run| run.run.as_uuid()).collect();
        for row in &transaction.query_cached(MILESTONES, &[&ids]).await? {
            let of: Uuid = get(row, "run")?;
            // An event of a later version is left out: a trace without it is better than none.
            let Ok(event) = json::<RunEvent>(row, "event") else { continue };
            if let Some(run) = runs.iter_mut().find(|run| run.run.as_uuid() == of) {
                run.milestones.push((get(row, "at")?, event));
            }
        }
        let told = tokio::time::timeout(TELL_WITHIN, tell(&runs)).await;
        if !matches!(told, Ok(true)) {
            return Ok(0);
        }
        let note =
            transaction.prepare_cached("UPDATE trace_cursor SET ended_at = $1, run = $2").await?;
        transaction.execute(&note, &[&last.0, &last.1]).await?;
        transaction.commit().await?;
        Ok(runs.len())
    }
}

fn usage(row: &Row) -> Result<Usage, StoreError> {
    Ok(Usage {
        input_tokens: number::<i64, u64>(row, "input_tokens")?,
        output_tokens: number::<i64, u64>(row, "output_tokens")?,
        cache_read_tokens: number::<i64, u64>(row, "cache_read_tokens")?,
        cache_write_tokens: number::<i64, u64>(row, "cache_write_tokens")?,
        cost_microusd: number::<i64, u64>(row, "cost_microusd")?,
        turns: number::<i64, u32>(row, "turns")?,
    })
}

fn ended_run(row: &Row) -> Result<EndedRun, StoreError> {
    Ok(EndedRun {
        run: RunId::from_uuid(get(row, "id")?),
        task: TaskId::from_uuid(get(row, "task")?),
        number: number::<i64, u64>(row, "lease_number")?,
        environment: word(row, "environment")?,
        host: get(row, "host")?,
        executor: word(row, "executor")?,
        role: word(row, "role")?,
        model: get(row, "model")?,
        outcome: word(row, "outcome")?,
        usage: usage(row)?,
        task_created_at: get(row, "task_created_at")?,
        task_finished_at: get(row, "task_finished_at")?,
        claimed_at: get(row, "claimed_at")?,
        started_at: get(row, "started_at")?,
        ended_at: get(row, "ended_at")?,
        milestones: Vec::new(),
    })
}
