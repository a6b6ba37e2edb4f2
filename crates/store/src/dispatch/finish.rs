//! The end of a run, and all that follows from it, in one transaction.
//!
//! What follows is decided by `core-types`; what is here is how it is written: the run ended, the lease gone, the
//! agent idle, the task where it belongs, those that wait for it counted down or blocked, the next of its area ready.

use std::{collections::BTreeSet, time::Duration};

use core_types::{
    event::RunEvent,
    gate::{QUOTA_WAIT_MIN, QUOTA_WAIT_UNKNOWN},
    ids::{RunKey, TaskId},
    outcome::{FollowUp, RunReport},
    task::{BlockReason, TaskState},
};
use deadpool_postgres::{GenericClient as _, Transaction};
use jiff::Timestamp;
use tokio_postgres::types::{Json, ToSql};
use uuid::Uuid;

use super::{
    ending::{Decision, Ending, Finisher, decide},
    holding::{EndingTask, Held, lock_run},
    progress::{USAGE, as_params, report_values, set_report},
    spending::add_to_day,
    telling::tell_gate,
};
use crate::{
    connections::Connection,
    error::{FencedError, StoreError},
    pool::Store,
    ready,
    row::{clean_opt, get, millis},
    tasks::{
        block_word,
        cancel::{block_dependants, in_vain_of},
    },
    wake::Channel,
};

/// What the end of a run meant for its task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Finished {
    /// Where the task stands since.
    pub task_state: TaskState,
    /// What follows. `Cancelled` also where another attempt would have followed, had nobody asked to cancel.
    pub follow_up: FollowUp,
}

impl Store {
    /// Ends a run. The same again, with the same outcome, gives the same answer and changes nothing.
    ///
    /// # Errors
    /// [`FencedError::Fenced`] where the run was revoked or ended by somebody else: this outcome does not count.
    pub async fn finish_run(
        &self,
        key: RunKey,
        report: &RunReport,
    ) -> Result<Finished, FencedError> {
        self.finish(key, report, Finisher::Holder).await
    }

    /// Ends a run that was revoked, as [`Store::finish_run`] ends one that was not. End its processes first.
    ///
    /// # Errors
    /// [`FencedError::Fenced`] where the run was not revoked, or was ended by somebody else with another outcome.
    pub async fn finish_revoked(
        &self,
        key: RunKey,
        report: &RunReport,
    ) -> Result<Finished, FencedError> {
        self.finish(key, report, Finisher::Recoverer).await
    }

    async fn finish(
        &self,
        key: RunKey,
        report: &RunReport,
        by: Finisher,
    ) -> Result<Finished, FencedError> {
        let finished =
            self.retrying(|connection| self.try_finish(connection, key, report, by)).await?;
        self.wake(Channel::Tasks);
        self.wake(Channel::Events);
        Ok(finished)
    }

    async fn try_finish(
        &self,
        mut connection: Connection,
        key: RunKey,
        report: &RunReport,
        by: Finisher,
    ) -> Result<Finished, FencedError> {
        let tx = connection.transaction().await?;
        let held = lock_run(&tx, key, by, report.outcome).await?;
        let task = match held {
            Held::Ours(task) => *task,
            Held::Ended(outcome, ending, _) if outcome == report.outcome && ending.by() == by => {
                return Ok(Finished::try_from(ending)?);
            }
            Held::Ended(_, _, held_by) | Held::Other(held_by) => {
                return Err(FencedError::Fenced { held_by });
            }
        };
        let around =
            tell_gate(&tx, &task.at, task.gate.as_ref(), key.run, task.claimed_at, report).await?;
        let decision = decide(task.standing, report.outcome, around)
            .map_err(|error| StoreError::corrupt("status", error))?;
        let decision = decision.in_vain(task.in_vain.map(|(_, why)| why));
        // Sent together: the order of these does not matter, for the task and its lease are locked.
        let ((), (), freed) = futures_util::try_join!(
            end_run(&tx, key, report, Ending::new(decision, by)),
            move_task(&tx, &task, report, &decision),
            release_dependants(&tx, task.id, decision.state),
        )?;
        settle(&tx, task, freed).await?;
        tx.commit().await?;
        Ok(Finished { task_state: decision.state, follow_up: decision.follow_up })
    }
}

/// Run, lease, agent, and a last event where the run wrote none. Served by the primary keys.
fn end_run_sql() -> String {
    format!(
        "WITH {}, ended AS (
            UPDATE runs r SET status = 'ended', ended_at = clock_timestamp(), ending = $16, {}
            WHERE r.id = $1 RETURNING r.agent
        ), released AS (
            DELETE FROM leases WHERE run = $1 AND number = $2
        ), idle AS (
            UPDATE agents a SET run = NULL, idle_since = clock_timestamp()
            FROM ended WHERE a.id = ended.agent AND a.run = $1
        )
        INSERT INTO run_events (run, seq, at, kind, event)
        SELECT $1, coalesce(last.seq, 0) + 1, clock_timestamp(), 'ended', $17
        FROM (SELECT) AS one LEFT JOIN LATERAL (
            SELECT seq, kind FROM run_events WHERE run = $1 ORDER BY seq DESC LIMIT 1
        ) AS last ON true
        WHERE last.kind IS DISTINCT FROM 'ended'",
        add_to_day("SELECT $1::uuid", USAGE),
        set_report()
    )
}

async fn end_run(
    tx: &Transaction<'_>,
    key: RunKey,
    report: &RunReport,
    ending: Ending,
) -> Result<(), StoreError> {
    let event = RunEvent::Ended { outcome: report.outcome, message: report.message.clone() };
    let (run, values) = (key.run.as_uuid(), report_values(report));
    let (ending, event) = (Json(ending), Json(event));
    let mut params: Vec<&(dyn ToSql + Sync)> = vec![&run, &key.lease.0];
    params.extend(as_params(&values));
    params.extend([&ending as &(dyn ToSql + Sync), &event]);
    let statement = tx.prepare_cached(&end_run_sql()).await?;
    tx.execute(&statement, &params).await?;
    Ok(())
}

/// `$5` is a wait from now in milliseconds, `$6` a moment to wait for. A commit comes with its branch, or is on
/// none. Served by the primary key.
const MOVE_TASK: &str = "
    UPDATE tasks SET status = $2, block_reason = $3, attempts = $4, excused = excused + $11, current_run = NULL, reason = $7,
        not_before = CASE
            WHEN $5::bigint IS NULL THEN NULL
            ELSE greatest($6::timestamptz, clock_timestamp() + $5::bigint * interval '1 millisecond')
        END,
        commit_id = coalesce($8, commit_id), branch = CASE WHEN $8 IS NULL THEN branch ELSE $9 END,
        updated_at = clock_timestamp(), finished_at = CASE WHEN $10 THEN clock_timestamp() END
    WHERE id = $1";

async fn move_task(
    tx: &Transaction<'_>,
    task: &EndingTask,
    report: &RunReport,
    decision: &Decision,
) -> Result<(), StoreError> {
    let (wait, until) = wait(decision.follow_up, report.retry_at);
    let statement = tx.prepare_cached(MOVE_TASK).await?;
    let attempts = i32::try_from(decision.attempts).unwrap_or(i32::MAX);
    tx.execute(
        &statement,
        &[
            &task.id.as_uuid(),
            &decision.state.status().as_str(),
            &block_word(decision.state),
            &attempts,
            &wait.map(millis),
            &until,
            &reason(task, report, decision.state),
            &clean_opt(report.commit.as_deref()),
            &clean_opt(report.branch.as_deref()),
            &decision.state.status().is_final(),
            &i32::from(decision.excused),
        ],
    )
    .await?;
    Ok(())
}

/// How long the task waits at least, and until when.
fn wait(follow_up: FollowUp, retry_at: Option<Timestamp>) -> (Option<Duration>, Option<Timestamp>) {
    match follow_up {
        FollowUp::Retry { delay, counts: _ } => (Some(delay).filter(|d| !d.is_zero()), None),
        FollowUp::Block(BlockReason::QuotaWait) => match retry_at {
            Some(until) => (Some(QUOTA_WAIT_MIN), Some(until)),
            None => (Some(QUOTA_WAIT_UNKNOWN), None),
        },
        FollowUp::Block(
            BlockReason::DependencyFailed
            | BlockReason::DependencyCancelled
            | BlockReason::LoginRequired
            | BlockReason::AttemptsExhausted,
        )
        | FollowUp::Done
        | FollowUp::Cancelled
        | FollowUp::Fail => (None, None),
    }
}

fn reason(task: &EndingTask, report: &RunReport, state: TaskState) -> Option<String> {
    match state {
        TaskState::Done => None,
        TaskState::Cancelled if task.standing.cancel_requested => task.cancel_reason.clone(),
        TaskState::Blocked {
            reason: why @ (BlockReason::DependencyFailed | BlockReason::DependencyCancelled),
        } => task.in_vain.map(|(parent, _)| in_vain_of(parent, why)),
        TaskState::Queued
        | TaskState::Running
        | TaskState::Failed
        | TaskState::Blocked { .. }
        | TaskState::Cancelled => {
            clean_opt(report.message.as_deref()).or_else(|| Some(report.outcome.to_string()))
        }
    }
}

/// Tasks that may now be eligible.
#[derive(Debug, Default)]
struct Freed {
    tasks: Vec<Uuid>,
    areas: BTreeSet<String>,
}

/// Tasks are locked by `seq`. Served by the primary keys.
const COUNT_DOWN: &str = "
    WITH waiting AS MATERIALIZED (
        SELECT t.id FROM task_dependencies e JOIN tasks t ON t.id = e.task
        WHERE e.dependency = $1 ORDER BY t.seq FOR NO KEY UPDATE OF t
    )
    UPDATE tasks t SET pending_dependencies = t.pending_dependencies - 1, updated_at = clock_timestamp()
    FROM waiting WHERE t.id = waiting.id
    RETURNING t.id, t.target_area, t.pending_dependencies = 0 AND t.status = 'queued' AS free";

async fn release_dependants(
    tx: &Transaction<'_>,
    task: TaskId,
    state: TaskState,
) -> Result<Freed, StoreError> {
    match state {
        TaskState::Done => count_down(tx, task).await,
        TaskState::Failed => {
            block_dependants(tx, task, BlockReason::DependencyFailed).await?;
            Ok(Freed::default())
        }
        TaskState::Cancelled => {
            block_dependants(tx, task, BlockReason::DependencyCancelled).await?;
            Ok(Freed::default())
        }
        // Who was put below it while it ran and its own dependency was over already.
        TaskState::Blocked {
            reason: why @ (BlockReason::DependencyFailed | BlockReason::DependencyCancelled),
        } => {
            block_dependants(tx, task, why).await?;
            Ok(Freed::default())
        }
        TaskState::Queued | TaskState::Running | TaskState::Blocked { .. } => Ok(Freed::default()),
    }
}

async fn count_down(tx: &Transaction<'_>, task: TaskId) -> Result<Freed, StoreError> {
    let statement = tx.prepare_cached(COUNT_DOWN).await?;
    let mut freed = Freed::default();
    for row in &tx.query(&statement, &[&task.as_uuid()]).await? {
        if !get::<bool>(row, "free")? {
            continue;
        }
        match get::<Option<String>>(row, "target_area")? {
            Some(area) => drop(freed.areas.insert(area)),
            None => freed.tasks.push(get(row, "id")?),
        }
    }
    Ok(freed)
}

async fn settle(
    tx: &Transaction<'_>,
    task: EndingTask,
    mut freed: Freed,
) -> Result<(), StoreError> {
    match task.area {
        Some(area) => drop(freed.areas.insert(area)),
        None => freed.tasks.push(task.id.as_uuid()),
    }
    ready::settle(tx, &freed.tasks, &freed.areas).await
}
