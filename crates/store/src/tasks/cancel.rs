//! Cancelling a task, and what the end of a task means for those that wait for it.

use core_types::{
    ids::TaskId,
    task::{BlockReason, TaskState, TaskStatus, TaskStep},
};
use deadpool_postgres::{GenericClient as _, Transaction};
use uuid::Uuid;

use crate::{
    connections::Connection,
    error::StoreError,
    pool::Store,
    ready,
    row::{clean, get},
    tasks::state_from_row,
    wake::Channel,
};

/// What became of a request to cancel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CancelResult {
    /// It is cancelled; those that waited for it are blocked.
    Cancelled,
    /// A run of it is alive and will be stopped. If the run ends well before it sees this, the task is done.
    Requested,
    /// It was over already.
    AlreadyFinal(TaskStatus),
    /// There is no such task.
    NotFound,
}

impl Store {
    /// Calls a task off: at once while nothing of it runs, else by asking its run to stop.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn cancel_task(&self, id: TaskId, reason: &str) -> Result<CancelResult, StoreError> {
        let reason = clean(reason);
        let result = self.retrying(|connection| self.try_cancel(connection, id, &reason)).await?;
        match result {
            CancelResult::Cancelled => self.wake(Channel::Tasks),
            CancelResult::Requested => self.wake(Channel::Agents),
            CancelResult::AlreadyFinal(_) | CancelResult::NotFound => {}
        }
        Ok(result)
    }

    async fn try_cancel(
        &self,
        mut connection: Connection,
        id: TaskId,
        reason: &str,
    ) -> Result<CancelResult, StoreError> {
        let tx = connection.transaction().await?;
        let Some((state, area)) = lock_task(&tx, id).await? else {
            return Ok(CancelResult::NotFound);
        };
        if state == TaskState::Running {
            request_cancel(&tx, id, reason).await?;
            tx.commit().await?;
            return Ok(CancelResult::Requested);
        }
        if state.transition(TaskStep::Cancel).is_err() {
            return Ok(CancelResult::AlreadyFinal(state.status()));
        }
        set_cancelled(&tx, id, reason).await?;
        block_dependants(&tx, id, BlockReason::DependencyCancelled).await?;
        let areas = area.into_iter().collect();
        ready::settle(&tx, &[id.as_uuid()], &areas).await?;
        tx.commit().await?;
        Ok(CancelResult::Cancelled)
    }
}

/// Served by the primary key.
async fn lock_task(
    tx: &Transaction<'_>,
    id: TaskId,
) -> Result<Option<(TaskState, Option<String>)>, StoreError> {
    let statement = tx
        .prepare_cached(
            "SELECT status, block_reason, target_area FROM tasks WHERE id = $1 FOR NO KEY UPDATE",
        )
        .await?;
    let Some(row) = tx.query_opt(&statement, &[&id.as_uuid()]).await? else {
        return Ok(None);
    };
    Ok(Some((state_from_row(&row)?, get(&row, "target_area")?)))
}

/// The first request counts. Served by the primary key.
async fn request_cancel(tx: &Transaction<'_>, id: TaskId, reason: &str) -> Result<(), StoreError> {
    let statement = tx
        .prepare_cached(
            "UPDATE tasks SET cancel_requested_at = clock_timestamp(), cancel_reason = $2, updated_at = clock_timestamp()
             WHERE id = $1 AND cancel_requested_at IS NULL",
        )
        .await?;
    tx.execute(&statement, &[&id.as_uuid(), &reason]).await?;
    Ok(())
}

/// Served by the primary key.
async fn set_cancelled(tx: &Transaction<'_>, id: TaskId, reason: &str) -> Result<(), StoreError> {
    let statement = tx
        .prepare_cached(
            "UPDATE tasks SET status = 'cancelled', block_reason = NULL, not_before = NULL, reason = $2,
                 updated_at = clock_timestamp(), finished_at = clock_timestamp()
             WHERE id = $1",
        )
        .await?;
    tx.execute(&statement, &[&id.as_uuid(), &reason]).await?;
    Ok(())
}

/// Tasks are locked by `seq`, in which parents come first. One that runs, having begun when its dependency was done the
/// first time, is locked and left: whoever ends its run sees what became of the dependency. Served by the primary keys
/// of both tables.
const BLOCK_DEPENDANTS: &str = "
    WITH RECURSIVE below (id) AS (
        SELECT task FROM task_dependencies WHERE dependency = $1
        UNION
        SELECT e.task FROM below JOIN task_dependencies e ON e.dependency = below.id
    ), locked AS MATERIALIZED (
        SELECT t.id, t.status FROM below JOIN tasks t ON t.id = below.id
        WHERE t.status IN ('queued', 'running') OR t.block_reason IN ('quota_wait', 'login_required')
        ORDER BY t.seq FOR NO KEY UPDATE OF t
    )
    UPDATE tasks t SET status = 'blocked', block_reason = $2, reason = $3, not_before = NULL,
        updated_at = clock_timestamp()
    FROM locked WHERE t.id = locked.id AND locked.status <> 'running'";

/// Blocks everything that waits for a task that will never be done, directly or by way of others.
///
/// None of them is in `ready` and none stands in an area's line, because each has a pending dependency.
pub(crate) async fn block_dependants(
    tx: &Transaction<'_>,
    parent: TaskId,
    why: BlockReason,
) -> Result<(), StoreError> {
    let reason = in_vain_of(parent, why);
    let statement = tx.prepare_cached(BLOCK_DEPENDANTS).await?;
    let parent: Uuid = parent.as_uuid();
    // Again until nothing is found: while this waited for a lock, somebody may have put a task below the locked one.
    while tx.execute(&statement, &[&parent, &why.as_str(), &reason]).await? > 0 {}
    Ok(())
}

/// Why a task waits in vain, for people.
pub(crate) fn in_vain_of(parent: TaskId, why: BlockReason) -> String {
    match why {
        BlockReason::DependencyCancelled => format!("`{parent}` was cancelled"),
        BlockReason::DependencyFailed
        | BlockReason::QuotaWait
        | BlockReason::LoginRequired
        | BlockReason::AttemptsExhausted => format!("`{parent}` failed"),
    }
}
