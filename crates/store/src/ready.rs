//! The table `ready`: what may start now, and nothing else.
//!
//! A task is eligible while it is queued, none of its dependencies is pending and it does not cool down. `ready`
//! holds every eligible task without an area, and for each area in which nothing runs the best eligible one of each
//! executor and provider, so that a closed gate does not hold up what waits at another. Whoever changes what a task is eligible
//! for settles the table in the same transaction.

use std::collections::BTreeSet;

use deadpool_postgres::{GenericClient as _, Transaction};
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use crate::error::StoreError;

/// What makes a task eligible; spelled as in the index `tasks_area_line`.
macro_rules! eligible {
    () => {
        "status = 'queued' AND pending_dependencies = 0 AND not_before IS NULL"
    };
}

/// Makes the rows of areas that are named for the first time.
pub(crate) async fn make_lanes(
    tx: &Transaction<'_>,
    areas: &BTreeSet<String>,
) -> Result<(), StoreError> {
    if areas.is_empty() {
        return Ok(());
    }
    let names: Vec<&String> = areas.iter().collect();
    let statement = tx
        .prepare_cached("INSERT INTO lanes (area) SELECT unnest($1::text[]) ON CONFLICT DO NOTHING")
        .await?;
    tx.execute(&statement, &[&names]).await?;
    Ok(())
}

/// Areas, in order. Served by the primary key.
const LOCK_LANES: &str =
    "SELECT area FROM lanes WHERE area = ANY($1) ORDER BY area FOR NO KEY UPDATE";

/// Tasks without an area. Served by the primary keys.
const SETTLE_TASKS: &str = concat!(
    "WITH gone AS (
        DELETE FROM ready r USING tasks t
        WHERE r.task = ANY($1) AND t.id = r.task AND r.area IS NULL AND NOT (t.",
    "status = 'queued' AND t.pending_dependencies = 0 AND t.not_before IS NULL",
    ")
    )
    INSERT INTO ready (task, role, executor, provider, rank)
    SELECT id, role, executor, provider, rank FROM tasks
    WHERE id = ANY($1) AND target_area IS NULL AND ",
    eligible!(),
    " ON CONFLICT (task) DO NOTHING"
);

/// Areas whose lanes are locked by the statement before; which executors and providers have a line in one is found by
/// stepping from one line to the next. Served by `tasks_area_line`, `tasks_running_area` and `ready_area`.
const SETTLE_AREAS: &str = concat!(
    "WITH RECURSIVE free AS MATERIALIZED (
        SELECT lane.area FROM unnest($1::text[]) AS lane (area)
        WHERE NOT EXISTS (
            SELECT FROM tasks other WHERE other.target_area = lane.area AND other.status = 'running'
        )
    ), line (area, executor, provider) AS (
        SELECT free.area, first.executor, first.provider
        FROM free CROSS JOIN LATERAL (
            SELECT executor, provider FROM tasks WHERE target_area = free.area AND ",
    eligible!(),
    "       ORDER BY executor, provider LIMIT 1
        ) AS first
        UNION ALL
        SELECT line.area, next.executor, next.provider
        FROM line CROSS JOIN LATERAL (
            SELECT executor, provider FROM tasks
            WHERE target_area = line.area AND (executor, provider) > (line.executor, line.provider) AND ",
    eligible!(),
    "       ORDER BY executor, provider LIMIT 1
        ) AS next
    ), best AS MATERIALIZED (
        SELECT line.area, line.executor, line.provider, first.id, first.role, first.rank
        FROM line CROSS JOIN LATERAL (
            SELECT id, role, rank FROM tasks
            WHERE target_area = line.area AND executor = line.executor AND provider = line.provider AND ",
    eligible!(),
    "       ORDER BY rank, id LIMIT 1
        ) AS first
    ), gone AS (
        DELETE FROM ready r WHERE r.area = ANY($1) AND NOT EXISTS (
            SELECT FROM best
            WHERE best.area = r.area AND best.executor = r.executor AND best.provider = r.provider
        )
    )
    INSERT INTO ready (task, role, executor, provider, rank, area)
    SELECT id, role, executor, provider, rank, area FROM best
    ON CONFLICT (area, executor, provider) WHERE area IS NOT NULL
    DO UPDATE SET task = excluded.task, role = excluded.role, rank = excluded.rank, since = excluded.since
    WHERE ready.task <> excluded.task"
);

/// Makes `ready` right for these tasks (those without an area) and for these areas.
///
/// The lanes are locked by one statement and the next one decides what runs in them: one that did both would decide
/// by a snapshot from before the lock, and lose wake-ups.
pub(crate) async fn settle(
    tx: &Transaction<'_>,
    tasks: &[Uuid],
    areas: &BTreeSet<String>,
) -> Result<(), StoreError> {
    if !areas.is_empty() {
        let lock = tx.prepare_cached(LOCK_LANES).await?;
        let settle = tx.prepare_cached(SETTLE_AREAS).await?;
        let names: Vec<&String> = areas.iter().collect();
        let lanes: [&(dyn ToSql + Sync); 1] = [&names];
        // Sent together, run one after the other.
        futures_util::try_join!(tx.query(&lock, &lanes), tx.execute(&settle, &lanes))?;
    }
    if !tasks.is_empty() {
        let statement = tx.prepare_cached(SETTLE_TASKS).await?;
        tx.execute(&statement, &[&tasks]).await?;
    }
    Ok(())
}
