//! What the end of a run looks at and holds: the task and those below it, the lease, the run, its gate.

use core_types::{
    ids::{LeaseNumber, RunId, RunKey, TaskId},
    outcome::{RunOutcome, table::Next},
    provider::Provider,
    task::{BlockReason, RunStatus},
};
use deadpool_postgres::{GenericClient as _, Transaction};
use jiff::Timestamp;
use tokio_postgres::{Row, types::ToSql};

use super::ending::{Ending, Finisher, Standing};
use crate::{
    error::StoreError,
    gates::{self, GateKey, StoredGate},
    row::{get, json, number, word},
    tasks::{retry::hopeless_parent, state_from_row},
};

/// A task whose run ends, locked.
#[derive(Debug)]
pub(super) struct EndingTask {
    pub(super) id: TaskId,
    pub(super) area: Option<String>,
    /// Which gate the run concerns.
    pub(super) at: GateKey,
    /// That gate, as it was seen before anything was decided about it.
    pub(super) gate: Option<StoredGate>,
    pub(super) claimed_at: Timestamp,
    pub(super) standing: Standing,
    pub(super) cancel_reason: Option<String>,
    /// A task it depends on that was done, was wanted once more, and will never be done now.
    pub(super) in_vain: Option<(TaskId, BlockReason)>,
}

/// How the run stands to whoever wants to finish it.
#[derive(Debug)]
pub(super) enum Held {
    Ours(Box<EndingTask>),
    /// Ended under this very lease; the task may be held under a later one.
    Ended(RunOutcome, Ending, Option<LeaseNumber>),
    /// Not held under this lease, or not by this one.
    Other(Option<LeaseNumber>),
}

/// Served by the primary keys of `runs` and `tasks`.
const LOCK_TASK: &str = "
    SELECT id, target_area, status, block_reason, attempts, max_attempts, attempts_before, excused,
        cancel_requested_at IS NOT NULL AS cancel_requested, cancel_reason, executor, pending_dependencies > 0 AS waits
    FROM tasks WHERE id = (SELECT task FROM runs WHERE id = $1) FOR NO KEY UPDATE";
/// Waits for writes of the run that are under way. Served by the unique key of `leases`.
const LOCK_LEASE: &str = "
    SELECT run, number, revoked_at IS NOT NULL AS revoked
    FROM leases WHERE task = (SELECT task FROM runs WHERE id = $1) FOR UPDATE";
const READ_RUN: &str = "
    SELECT status, lease_number, outcome, ending, created_at, environment, provider FROM runs WHERE id = $1";

/// Those that this end may move. Tasks are locked before anything that many finishes change: gates, the sum of a day.
/// A task that ends and one that waits for it and runs, having begun when the other was done the first time, would
/// otherwise wait for each other. Served by the primary keys.
const LOCK_DEPENDANTS: &str = "
    SELECT FROM task_dependencies e JOIN tasks t ON t.id = e.task
    WHERE e.dependency = (SELECT task FROM runs WHERE id = $1) ORDER BY t.seq FOR NO KEY UPDATE OF t";
/// The same, where all below may have to be blocked.
const LOCK_BELOW: &str = "
    WITH RECURSIVE below (id) AS (
        SELECT task FROM task_dependencies WHERE dependency = (SELECT task FROM runs WHERE id = $1)
        UNION
        SELECT e.task FROM below JOIN task_dependencies e ON e.dependency = below.id
    )
    SELECT FROM below JOIN tasks t ON t.id = below.id
    WHERE t.status IN ('queued', 'running', 'blocked') ORDER BY t.seq FOR NO KEY UPDATE OF t";

pub(super) async fn lock_run(
    tx: &Transaction<'_>,
    key: RunKey,
    by: Finisher,
    outcome: RunOutcome,
) -> Result<Held, StoreError> {
    let below = if outcome.rule().next == Next::Done { LOCK_DEPENDANTS } else { LOCK_BELOW };
    let task = tx.prepare_cached(LOCK_TASK).await?;
    let below = tx.prepare_cached(below).await?;
    let lease = tx.prepare_cached(LOCK_LEASE).await?;
    let run = tx.prepare_cached(READ_RUN).await?;
    let gate = tx.prepare_cached(gates::OF_RUN).await?;
    let id = key.run.as_uuid();
    let params: [&(dyn ToSql + Sync); 1] = [&id];
    // Sent together, run one after the other: the run is read after its task is locked.
    let (task, _, lease, run, gate) = futures_util::try_join!(
        tx.query_opt(&task, &params),
        tx.query(&below, &params),
        tx.query_opt(&lease, &params),
        tx.query_opt(&run, &params),
        tx.query_opt(&gate, &params),
    )?;
    let lease = lease.as_ref().map(held_lease).transpose()?;
    let held_by = lease.filter(|lease| lease.of == Finisher::Holder).map(|lease| lease.key.lease);
    let (Some(task), Some(run)) = (task, run) else {
        return Ok(Held::Other(held_by));
    };
    if LeaseNumber(get(&run, "lease_number")?) != key.lease {
        return Ok(Held::Other(held_by));
    }
    if word::<RunStatus>(&run, "status")? == RunStatus::Ended {
        let outcome = word(&run, "outcome")?;
        return Ok(Held::Ended(outcome, json(&run, "ending")?, held_by));
    }
    if lease != Some(HeldLease { key, of: by }) {
        return Ok(Held::Other(held_by));
    }
    let gate = gate.as_ref().map(gates::from_row).transpose()?;
    let mut ending = ending_task(&task, &run, gate, key.lease)?;
    if get(&task, "waits")? {
        // Whoever ends a dependency has this task locked before: either that is over, or it decides after this one.
        ending.in_vain = hopeless_parent(tx, ending.id).await?;
    }
    Ok(Held::Ours(Box::new(ending)))
}

/// The lease of a task, and who may end its run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct HeldLease {
    key: RunKey,
    of: Finisher,
}

fn held_lease(row: &Row) -> Result<HeldLease, StoreError> {
    let revoked = get::<bool>(row, "revoked")?;
    Ok(HeldLease {
        key: RunKey {
            run: RunId::from_uuid(get(row, "run")?),
            lease: LeaseNumber(get(row, "number")?),
        },
        of: if revoked { Finisher::Recoverer } else { Finisher::Holder },
    })
}

fn ending_task(
    row: &Row,
    run: &Row,
    gate: Option<StoredGate>,
    claims: LeaseNumber,
) -> Result<EndingTask, StoreError> {
    Ok(EndingTask {
        id: TaskId::from_uuid(get(row, "id")?),
        area: get(row, "target_area")?,
        at: GateKey {
            environment: word(run, "environment")?,
            executor: word(row, "executor")?,
            provider: Provider::named(get(run, "provider")?),
        },
        gate,
        claimed_at: get(run, "created_at")?,
        standing: Standing {
            state: state_from_row(row)?,
            attempts: number::<i32, u32>(row, "attempts")?,
            max_attempts: number::<i32, u32>(row, "max_attempts")?,
            cancel_requested: get(row, "cancel_requested")?,
            run: word(run, "status")?,
            claims,
            attempts_before: number::<i32, u32>(row, "attempts_before")?,
            excused: number::<i32, u32>(row, "excused")?,
        },
        cancel_reason: get(row, "cancel_reason")?,
        in_vain: None,
    })
}
