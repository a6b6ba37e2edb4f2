//! Finding what nobody takes care of any more, and taking it from its worker. Nothing here decides that a run is dead:
//! whoever asks does.
//!
//! A look is old as soon as it is read: a lease in it may have been renewed since, a run accepted. So first
//! [`Store::revoke`], which sees what holds at that moment; then end the run's processes; then
//! [`Store::finish_revoked`]. A worker writes nothing after the first step, and what dies between the steps is found
//! by [`Store::revoked_runs`].

use std::{collections::BTreeSet, time::Duration};

use core_types::{
    ids::{AgentId, LeaseNumber, RunId, RunKey, TaskId},
    task::RunStatus,
};
use deadpool_postgres::{GenericClient as _, Transaction};
use tokio_postgres::{Row, types::ToSql};
use uuid::Uuid;

use crate::{
    agents::{HostId, ProcessIdentity, process_from_row},
    connections::Connection,
    error::StoreError,
    pool::Store,
    ready,
    row::{get, millis, number, word},
    wake::Channel,
};

/// Most rows of one look that takes no limit.
const LOOK_LIMIT: i64 = 500;

/// A run that is not over, and who has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Orphan {
    /// What a finish of it must carry.
    pub key: RunKey,
    /// Its task.
    pub task: TaskId,
    /// Where it stands.
    pub status: RunStatus,
    /// The agent it was handed to.
    pub agent: Option<AgentId>,
    /// That agent's process.
    pub process: Option<ProcessIdentity>,
    /// Where that process is.
    pub host: Option<HostId>,
    /// How long ago its lease ran out, by the database's clock; zero while it holds.
    pub lease_expired_for: Duration,
    /// Whether somebody asked for its task to be cancelled.
    pub cancel_requested: bool,
    /// Whether it was taken from its worker already.
    pub revoked: bool,
}

/// Why a run is taken from its worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revocation {
    /// Its lease has run out; asked again by the database's clock.
    LeaseExpired,
    /// No agent has accepted it in time; asked again.
    NotAccepted {
        /// How long it may have been handed out.
        within: Duration,
    },
    /// Whoever asks has seen that its worker's process is gone.
    WorkerDead,
}

impl Revocation {
    const fn word(self) -> &'static str {
        match self {
            Self::LeaseExpired => "lease_expired",
            Self::NotAccepted { .. } => "not_accepted",
            Self::WorkerDead => "worker_dead",
        }
    }

    const fn within(self) -> Duration {
        match self {
            Self::NotAccepted { within } => within,
            Self::LeaseExpired | Self::WorkerDead => Duration::ZERO,
        }
    }
}

const SELECT: &str = "
    SELECT l.run, l.number, l.task, l.agent, l.host, r.status, a.pid, a.start_ticks, a.boot_id,
        greatest((extract(epoch FROM clock_timestamp() - l.expires_at) * 1000)::bigint, 0) AS expired_ms,
        t.cancel_requested_at IS NOT NULL AS cancel_requested, l.revoked_at IS NOT NULL AS revoked
    FROM leases l
    JOIN runs r ON r.id = l.run
    JOIN tasks t ON t.id = l.task
    LEFT JOIN agents a ON a.id = l.agent";

impl Store {
    /// Runs whose lease has run out by the database's clock, the longest first; without those that were revoked.
    /// Served by `leases_by_expiry`.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn expired_leases(&self, limit: i64) -> Result<Vec<Orphan>, StoreError> {
        let rest = "WHERE l.expires_at < clock_timestamp() AND l.revoked_at IS NULL
            ORDER BY l.expires_at LIMIT $1";
        self.orphans(rest, &[&limit]).await
    }

    /// Every run that is not over and was handed to an agent of this host. Served by `leases_by_host`.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn live_runs_on(&self, host: &HostId) -> Result<Vec<Orphan>, StoreError> {
        self.orphans("WHERE l.host = $1 ORDER BY l.run", &[&host.as_str()]).await
    }

    /// Runs that were handed out longer than `older_than` ago and that no agent has accepted; without those that
    /// were revoked. Served by `runs_launching`.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn unaccepted(&self, older_than: Duration) -> Result<Vec<Orphan>, StoreError> {
        // Who tends a run in a sandbox knows how far it is.
        let rest =
            "WHERE r.status = 'launching' AND r.environment = 'host' AND l.revoked_at IS NULL
                AND r.created_at < clock_timestamp() - $1::bigint * interval '1 millisecond'
            ORDER BY r.created_at LIMIT $2";
        self.orphans(rest, &[&millis(older_than), &LOOK_LIMIT]).await
    }

    /// Runs that were revoked and not ended yet, the longest first. Served by `leases_revoked`.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn revoked_runs(&self, limit: i64) -> Result<Vec<Orphan>, StoreError> {
        let rest = "WHERE l.revoked_at IS NOT NULL ORDER BY l.revoked_at LIMIT $1";
        self.orphans(rest, &[&limit]).await
    }

    /// Takes a run from its worker, if the reason holds now or it was taken before; tells whether it is taken.
    ///
    /// Then its worker can neither renew, write nor end it, and only [`Store::finish_revoked`] ends it. Served by the
    /// primary keys.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails; then it may be taken or not.
    pub async fn revoke(&self, key: RunKey, why: Revocation) -> Result<bool, StoreError> {
        let revoked = self.retrying(|connection| try_revoke(connection, key, why)).await?;
        if revoked {
            self.wake(Channel::Agents);
        }
        Ok(revoked)
    }

    async fn orphans(
        &self,
        rest: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Orphan>, StoreError> {
        let connection = self.connection().await?;
        let statement = connection.prepare_cached(&format!("{SELECT} {rest}")).await?;
        let rows = connection.query(&statement, params).await?;
        rows.iter().map(orphan_from_row).collect()
    }

    /// Lets tasks go on whose cooldown or quota wait is over; tells how many, at most `limit`. Served by
    /// `tasks_cooling`.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn release_cooled(&self, limit: i64) -> Result<usize, StoreError> {
        let released = self.retrying(|connection| self.try_release(connection, limit)).await?;
        if released > 0 {
            self.wake(Channel::Tasks);
        }
        Ok(released)
    }

    async fn try_release(
        &self,
        mut connection: Connection,
        limit: i64,
    ) -> Result<usize, StoreError> {
        let tx = connection.transaction().await?;
        let statement = tx.prepare_cached(RELEASE).await?;
        let rows = tx.query(&statement, &[&limit]).await?;
        settle_rows(&tx, &rows).await?;
        tx.commit().await?;
        Ok(rows.len())
    }

    /// Mends `ready` where it does not fit the tasks; tells how many tasks and areas were wrong.
    ///
    /// It must find nothing: more than zero is a fault of openTiger. Reads every eligible task, so run it now and
    /// then, not in a loop.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn reconcile_areas(&self) -> Result<usize, StoreError> {
        let mended = self.retrying(|connection| self.try_reconcile(connection)).await?;
        if mended > 0 {
            tracing::error!(rows.mended = mended, "tasks were not where the claim looks for them");
            self.wake(Channel::Tasks);
        }
        Ok(mended)
    }

    async fn try_reconcile(&self, mut connection: Connection) -> Result<usize, StoreError> {
        let tx = connection.transaction().await?;
        // The one statement that reads whole tables.
        tx.batch_execute("SET LOCAL enable_hashjoin = on; SET LOCAL enable_seqscan = on").await?;
        let rows = tx.query(ASTRAY, &[]).await?;
        // What is claimed in this moment must not be put back.
        let ids: Vec<Uuid> = rows.iter().filter_map(|row| get(row, "id").ok()).collect();
        let lock = "SELECT FROM tasks WHERE id = ANY($1) ORDER BY seq FOR NO KEY UPDATE";
        tx.query(lock, &[&ids]).await?;
        settle_rows(&tx, &rows).await?;
        tx.commit().await?;
        Ok(rows.len())
    }
}

/// The lease is locked against writes of the run that are under way, and after them the run: both are looked at again
/// as those writes have left them.
const REVOKE: &str = "
    WITH held AS MATERIALIZED (
        SELECT l.run FROM leases l JOIN runs r ON r.id = l.run
        WHERE l.run = $1 AND l.number = $2 AND (l.revoked_at IS NOT NULL OR CASE $3::text
            WHEN 'lease_expired' THEN l.expires_at < clock_timestamp()
            WHEN 'not_accepted' THEN r.status = 'launching'
                AND r.created_at < clock_timestamp() - $4::bigint * interval '1 millisecond'
            WHEN 'worker_dead' THEN true
        END)
        FOR UPDATE OF l FOR NO KEY UPDATE OF r
    )
    UPDATE leases l SET revoked_at = coalesce(l.revoked_at, clock_timestamp())
    FROM held WHERE l.run = held.run";

async fn try_revoke(
    connection: Connection,
    key: RunKey,
    why: Revocation,
) -> Result<bool, StoreError> {
    let statement = connection.prepare_cached(REVOKE).await?;
    let (run, within) = (key.run.as_uuid(), millis(why.within()));
    let revoked =
        connection.execute(&statement, &[&run, &key.lease.0, &why.word(), &within]).await?;
    Ok(revoked > 0)
}

/// Locked ones are left for the next look, so that this never waits while it holds something.
const RELEASE: &str = "
    WITH cooled AS MATERIALIZED (
        SELECT id FROM tasks
        WHERE not_before IS NOT NULL AND not_before <= clock_timestamp()
        ORDER BY not_before LIMIT $1 FOR NO KEY UPDATE SKIP LOCKED
    )
    UPDATE tasks t SET status = 'queued', block_reason = NULL, not_before = NULL, updated_at = clock_timestamp()
    FROM cooled
    WHERE t.id = cooled.id AND (t.status = 'queued' OR (t.status = 'blocked' AND t.block_reason IN ('quota_wait', 'login_required')))
    RETURNING t.id, t.target_area";

/// Eligible tasks without an area that are not in `ready`, areas with a line in which nothing runs and nothing of its
/// executor and provider is ready, and rows of `ready` that should not be there; all in one snapshot, so none is merely under way.
const ASTRAY: &str = "
    SELECT t.id, NULL AS target_area FROM tasks t
    WHERE t.target_area IS NULL AND t.status = 'queued' AND t.pending_dependencies = 0 AND t.not_before IS NULL
        AND NOT EXISTS (SELECT FROM ready r WHERE r.task = t.id)
    UNION ALL
    SELECT NULL, line.target_area FROM (
        SELECT DISTINCT target_area, executor, provider FROM tasks
        WHERE target_area IS NOT NULL AND status = 'queued' AND pending_dependencies = 0 AND not_before IS NULL
    ) AS line
    WHERE NOT EXISTS (SELECT FROM tasks o WHERE o.target_area = line.target_area AND o.status = 'running')
        AND NOT EXISTS (
            SELECT FROM ready r
            WHERE r.area = line.target_area AND r.executor = line.executor AND r.provider = line.provider
        )
    UNION ALL
    SELECT r.task, r.area FROM ready r
    WHERE NOT EXISTS (
            SELECT FROM tasks t WHERE t.id = r.task AND t.status = 'queued' AND t.pending_dependencies = 0
                AND t.not_before IS NULL AND t.target_area IS NOT DISTINCT FROM r.area AND t.executor = r.executor
                AND t.provider = r.provider
        )
        OR EXISTS (SELECT FROM tasks o WHERE o.target_area = r.area AND o.status = 'running')";

/// Settles the tasks and areas of rows with `id` and `target_area`.
async fn settle_rows(tx: &Transaction<'_>, rows: &[Row]) -> Result<(), StoreError> {
    let mut tasks: Vec<Uuid> = Vec::new();
    let mut areas = BTreeSet::new();
    for row in rows {
        match get::<Option<String>>(row, "target_area")? {
            Some(area) => drop(areas.insert(area)),
            None => tasks.extend(get::<Option<Uuid>>(row, "id")?),
        }
    }
    ready::settle(tx, &tasks, &areas).await
}

fn orphan_from_row(row: &Row) -> Result<Orphan, StoreError> {
    let process = get::<Option<i32>>(row, "pid")?.map(|_| process_from_row(row)).transpose()?;
    Ok(Orphan {
        key: RunKey {
            run: RunId::from_uuid(get(row, "run")?),
            lease: LeaseNumber(get(row, "number")?),
        },
        task: TaskId::from_uuid(get(row, "task")?),
        status: word(row, "status")?,
        agent: get::<Option<Uuid>>(row, "agent")?.map(AgentId::from_uuid),
        process,
        host: get::<Option<String>>(row, "host")?.map(HostId::new),
        lease_expired_for: Duration::from_millis(number::<i64, u64>(row, "expired_ms")?),
        cancel_requested: get(row, "cancel_requested")?,
        revoked: get(row, "revoked")?,
    })
}
