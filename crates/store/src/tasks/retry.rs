//! A task once more: with a fresh budget of attempts, with what somebody says about the last one, and with everything
//! that waited for it in vain waiting again.
//!
//! `pending_dependencies` is the number of dependencies that are not done, whatever state a task is in; a task that was
//! done and is queued again counts once more for all that depend on it.

use std::collections::BTreeSet;

use core_types::{
    ids::TaskId,
    task::{BlockReason, TaskState, TaskStep},
};
use deadpool_postgres::{GenericClient as _, Transaction};
use tokio_postgres::Row;
use uuid::Uuid;

use crate::{
    connections::Connection,
    error::StoreError,
    pool::Store,
    ready,
    row::{clean_opt, get},
    tasks::{hopeless, state_from_row},
    wake::Channel,
};

/// How a task shall be done once more.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Retry {
    /// What the agent shall know; nothing keeps what it was told before.
    pub feedback: Option<String>,
    /// Whether the agent goes on with its own last session.
    pub continue_session: bool,
}

/// What became of a request to do a task once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryResult {
    /// It is queued, again or still; what stood in the way of those that wait for it is gone.
    Queued,
    /// A run of it is alive.
    Running,
    /// It depends on a task that will not be done, which has to be done once more first.
    Hopeless(TaskId),
    /// There is no such task.
    NotFound,
}

impl Store {
    /// Queues a task again that is over or blocked, or lets one that cools down go on. The same again changes nothing
    /// while it is queued.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn retry_task(&self, id: TaskId, retry: &Retry) -> Result<RetryResult, StoreError> {
        let retry = Retry { feedback: clean_opt(retry.feedback.as_deref()), ..*retry };
        let result = self.retrying(|connection| self.try_retry(connection, id, &retry)).await?;
        match result {
            RetryResult::Queued => self.wake(Channel::Tasks),
            RetryResult::Running | RetryResult::Hopeless(_) | RetryResult::NotFound => {}
        }
        Ok(result)
    }

    async fn try_retry(
        &self,
        mut connection: Connection,
        id: TaskId,
        retry: &Retry,
    ) -> Result<RetryResult, StoreError> {
        let tx = connection.transaction().await?;
        lock_family(&tx, id).await?;
        let Some(task) = read(&tx, id).await? else {
            return Ok(RetryResult::NotFound);
        };
        let Ok(_) = task.state.transition(TaskStep::Retry) else {
            return Ok(RetryResult::Running);
        };
        if let Some((parent, _)) = hopeless_parent(&tx, id).await? {
            return Ok(RetryResult::Hopeless(parent));
        }
        requeue(&tx, id, task.state, retry).await?;
        let mut areas: BTreeSet<String> = task.area.into_iter().collect();
        let mut tasks = vec![id.as_uuid()];
        if task.state == TaskState::Done {
            count_up(&tx, id, &mut tasks, &mut areas).await?;
        }
        unblock_dependants(&tx, id).await?;
        ready::settle(&tx, &tasks, &areas).await?;
        tx.commit().await?;
        Ok(RetryResult::Queued)
    }
}

/// A task that is wanted once more, locked.
struct Wanted {
    state: TaskState,
    area: Option<String>,
}

/// The task, all below it, and everything that any of those depends on: whoever ends one of them decides about the
/// others. Locked by `seq`, in which parents come first. Served by the primary keys and `task_dependencies_by_task`.
const LOCK_FAMILY: &str = "
    WITH RECURSIVE below (id) AS (
        SELECT $1::uuid
        UNION
        SELECT e.task FROM below JOIN task_dependencies e ON e.dependency = below.id
    ), family AS (
        SELECT id FROM below
        UNION
        SELECT e.dependency FROM below JOIN task_dependencies e ON e.task = below.id
    )
    SELECT t.id FROM family JOIN tasks t ON t.id = family.id ORDER BY t.seq FOR NO KEY UPDATE OF t";

async fn lock_family(tx: &Transaction<'_>, id: TaskId) -> Result<(), StoreError> {
    let statement = tx.prepare_cached(LOCK_FAMILY).await?;
    tx.query(&statement, &[&id.as_uuid()]).await?;
    Ok(())
}

/// Served by the primary key.
async fn read(tx: &Transaction<'_>, id: TaskId) -> Result<Option<Wanted>, StoreError> {
    let statement = tx
        .prepare_cached("SELECT status, block_reason, target_area FROM tasks WHERE id = $1")
        .await?;
    let row = tx.query_opt(&statement, &[&id.as_uuid()]).await?;
    let wanted =
        |row: Row| Ok(Wanted { state: state_from_row(&row)?, area: get(&row, "target_area")? });
    row.map(wanted).transpose()
}

/// A dependency that will never be done as things stand, and what that means for the task. Served by
/// `task_dependencies_by_task`.
pub(crate) async fn hopeless_parent(
    tx: &Transaction<'_>,
    id: TaskId,
) -> Result<Option<(TaskId, BlockReason)>, StoreError> {
    let statement = tx
        .prepare_cached(
            "SELECT t.id, t.status, t.block_reason FROM task_dependencies e JOIN tasks t ON t.id = e.dependency
             WHERE e.task = $1 ORDER BY t.seq",
        )
        .await?;
    for row in &tx.query(&statement, &[&id.as_uuid()]).await? {
        if let Some(why) = hopeless(state_from_row(row)?) {
            return Ok(Some((TaskId::from_uuid(get(row, "id")?), why)));
        }
    }
    Ok(None)
}

/// One that is queued already keeps its budget and its place. Served by the primary key.
const REQUEUE: &str = "
    UPDATE tasks SET status = 'queued', block_reason = NULL, not_before = NULL, reason = NULL, finished_at = NULL,
        cancel_requested_at = NULL, cancel_reason = NULL, updated_at = clock_timestamp(),
        feedback = coalesce($2, feedback), continue_session = $3,
        retries = CASE WHEN $4 THEN retries ELSE retries + 1 END,
        attempts_before = CASE WHEN $4 THEN attempts_before ELSE attempts END,
        excused = CASE WHEN $4 THEN excused ELSE greatest(excused, lease_number - attempts) END
    WHERE id = $1";

async fn requeue(
    tx: &Transaction<'_>,
    id: TaskId,
    state: TaskState,
    retry: &Retry,
) -> Result<(), StoreError> {
    let statement = tx.prepare_cached(REQUEUE).await?;
    let queued = state == TaskState::Queued;
    let params: [&(dyn tokio_postgres::types::ToSql + Sync); 4] =
        [&id.as_uuid(), &retry.feedback, &retry.continue_session, &queued];
    tx.execute(&statement, &params).await?;
    Ok(())
}

/// Served by the primary keys.
const COUNT_UP: &str = "
    UPDATE tasks t SET pending_dependencies = t.pending_dependencies + 1, updated_at = clock_timestamp()
    FROM task_dependencies e WHERE e.dependency = $1 AND t.id = e.task
    RETURNING t.id, t.target_area";

/// Has those that depend on a task which was done wait for it again, as far as they have not begun.
async fn count_up(
    tx: &Transaction<'_>,
    id: TaskId,
    tasks: &mut Vec<Uuid>,
    areas: &mut BTreeSet<String>,
) -> Result<(), StoreError> {
    let statement = tx.prepare_cached(COUNT_UP).await?;
    for row in &tx.query(&statement, &[&id.as_uuid()]).await? {
        match get::<Option<String>>(row, "target_area")? {
            Some(area) => drop(areas.insert(area)),
            None => tasks.push(get(row, "id")?),
        }
    }
    Ok(())
}

/// Those below that were blocked for want of a dependency and have no other that will never be done. Served by the
/// primary keys and `task_dependencies_by_task`.
const UNBLOCK_DEPENDANTS: &str = "
    WITH RECURSIVE below (id) AS (
        SELECT task FROM task_dependencies WHERE dependency = $1
        UNION
        SELECT e.task FROM below JOIN task_dependencies e ON e.dependency = below.id
    )
    UPDATE tasks t SET status = 'queued', block_reason = NULL, reason = NULL, updated_at = clock_timestamp()
    FROM below
    WHERE t.id = below.id AND t.status = 'blocked'
        AND t.block_reason IN ('dependency_failed', 'dependency_cancelled')
        AND NOT EXISTS (
            SELECT FROM task_dependencies e JOIN tasks parent ON parent.id = e.dependency
            WHERE e.task = t.id AND (parent.status IN ('failed', 'cancelled')
                OR parent.block_reason IN ('dependency_failed', 'dependency_cancelled'))
        )";

/// None of them becomes ready, because each has a pending dependency.
async fn unblock_dependants(tx: &Transaction<'_>, id: TaskId) -> Result<(), StoreError> {
    let statement = tx.prepare_cached(UNBLOCK_DEPENDANTS).await?;
    // One level after the other, and again for those that somebody put below meanwhile.
    while tx.execute(&statement, &[&id.as_uuid()]).await? > 0 {}
    Ok(())
}
