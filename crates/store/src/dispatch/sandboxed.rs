//! Runs in sandboxes: claimed without an agent, tended by a dispatcher, taken over by another one of the same host.
//!
//! The claim is the one for agents with other columns: the same gate, the same lines, the same limits. Room for a role
//! is what its count leaves beside the runs of that role that are alive, wherever they are.
//!
//! A lease is renewed by the worker in the sandbox while that works, and by whoever tends the run before and after. So
//! the death of a dispatcher takes nothing back by itself: the next one of the host finds what it tended by
//! [`Store::sandbox_runs_on`] and goes on.

use std::collections::{BTreeMap, HashMap, VecDeque};

use core_types::{
    ids::{LeaseNumber, RunId, RunKey, TaskId},
    task::{ExecutionEnvironment, ExecutorKind, Role, RunStatus},
};
use deadpool_postgres::{GenericClient as _, Transaction};
use tokio_postgres::Row;
use uuid::Uuid;

use super::{
    claim::{CLAIM_LIMIT, ClaimRequest, lock},
    lines::{Cursors, heads},
    picking::{Pick, Place, Room, pick},
};
use crate::{
    agents::{HostId, ProcessIdentity, process_from_row},
    connections::{Connection, Statements as _},
    error::StoreError,
    pool::Store,
    row::{bigint, get, millis, number, word},
    wake::Channel,
};

/// What a dispatcher wants to claim for sandboxes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SandboxClaimRequest {
    /// How much, and under which limits.
    pub claim: ClaimRequest,
    /// Most runs of each role alive at a time; a role that is not here gets none.
    pub counts: BTreeMap<Role, u32>,
    /// The executors of which tasks are left alone: they have not proved that they work in a sandbox.
    pub without: Vec<ExecutorKind>,
    /// Where the sandboxes are.
    pub host: HostId,
    /// The dispatcher that tends them.
    pub dispatcher: Uuid,
}

/// A run that was claimed for a sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SandboxClaimed {
    /// What every write of the run carries.
    pub key: RunKey,
    /// The task.
    pub task: TaskId,
    /// Its role.
    pub role: Role,
}

/// A run in a sandbox that is not over, and who tends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TendedRun {
    /// What every write of the run carries.
    pub key: RunKey,
    /// The task.
    pub task: TaskId,
    /// Where the run stands.
    pub status: RunStatus,
    /// The dispatcher that tends it.
    pub dispatcher: Option<Uuid>,
    /// That dispatcher's process; absent where it signed off.
    pub process: Option<ProcessIdentity>,
    /// Whether somebody asked for the task to be cancelled.
    pub cancel_requested: bool,
    /// Whether it was taken from its worker.
    pub revoked: bool,
}

/// How many runs of each role are alive. There are no more leases than runs may be alive.
pub(super) const BY_ROLE: &str = "
    SELECT t.role, count(*) AS running FROM leases l JOIN tasks t ON t.id = l.task GROUP BY t.role";

/// As the claim for agents, see there.
const CLAIM: &str = "
    WITH pick AS MATERIALIZED (
        SELECT * FROM unnest($1::uuid[], $2::uuid[], $4::bigint[], $7::text[])
            AS p (task, run, aside, provider)
    ), claimed AS (
        UPDATE tasks t SET status = 'running', lease_number = t.lease_number + 1, current_run = pick.run,
            reason = NULL, updated_at = clock_timestamp()
        FROM pick
        WHERE t.id = pick.task AND t.status = 'queued' AND t.pending_dependencies = 0 AND t.not_before IS NULL
            AND NOT EXISTS (
                SELECT FROM tasks other WHERE other.target_area = t.target_area AND other.status = 'running'
            )
        RETURNING t.id AS task, t.lease_number AS number, t.role, t.rank, t.target_area, pick.run, pick.aside,
            pick.provider
    ), taken AS (
        DELETE FROM ready r USING claimed WHERE r.task = claimed.task RETURNING r.task, r.since
    ), beside AS (
        DELETE FROM ready r USING claimed WHERE r.area = claimed.target_area AND r.task <> claimed.task
    ), made AS (
        INSERT INTO runs (id, task, lease_number, host, environment, status, provider, created_at, claimable_at)
        SELECT run, task, number, $5, 'sandbox', 'launching', provider, clock_timestamp(), taken.since
        FROM claimed LEFT JOIN taken USING (task) ORDER BY rank, task
    ), leased AS (
        INSERT INTO leases (run, task, number, host, dispatcher, expires_at, cost_reserved_microusd)
        SELECT run, task, number, $5, $6, clock_timestamp() + $3::bigint * interval '1 millisecond', aside
        FROM claimed
    )
    SELECT run, number, task, role FROM claimed ORDER BY rank, task";

/// Served by `leases_by_host` and the primary keys.
const TENDED: &str = "
    SELECT l.run, l.number, l.task, r.status, l.dispatcher, d.pid, d.start_ticks, d.boot_id,
        t.cancel_requested_at IS NOT NULL AS cancel_requested, l.revoked_at IS NOT NULL AS revoked
    FROM leases l
    JOIN runs r ON r.id = l.run AND r.environment = 'sandbox'
    JOIN tasks t ON t.id = l.task
    LEFT JOIN dispatchers d ON d.id = l.dispatcher
    WHERE l.host = $1 ORDER BY l.run";

/// Served by the primary key.
const TAKE_OVER: &str = "
    UPDATE leases SET dispatcher = $4
    WHERE run = $1 AND number = $2 AND dispatcher IS NOT DISTINCT FROM $3 AND revoked_at IS NULL";

impl Store {
    /// Claims ready tasks for sandboxes of a host, best first, while there is room. Lease, run row and
    /// `queued` → `running` are one transaction; if its answer is lost, [`Store::sandbox_runs_on`] shows what became.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn claim_sandbox_runs(
        &self,
        request: &SandboxClaimRequest,
    ) -> Result<Vec<SandboxClaimed>, StoreError> {
        let limit = request.claim.limit.min(CLAIM_LIMIT).min(request.claim.max_running);
        if limit == 0 {
            return Ok(Vec::new());
        }
        let claimed =
            self.retrying(|connection| try_claim(connection, request, self.lines(), limit)).await?;
        if !claimed.is_empty() {
            self.wake(Channel::Events);
        }
        Ok(claimed)
    }

    /// Every run in a sandbox of this host that is not over.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn sandbox_runs_on(&self, host: &HostId) -> Result<Vec<TendedRun>, StoreError> {
        let rows = self.connection().await?.query_cached(TENDED, &[&host.as_str()]).await?;
        rows.iter().map(tended_from_row).collect()
    }

    /// Makes `to` the dispatcher that tends a run in place of `from`, which is gone; false where somebody else was
    /// quicker, or the run is nobody's to tend any more.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn take_over_sandbox_run(
        &self,
        key: RunKey,
        from: Option<Uuid>,
        to: Uuid,
    ) -> Result<bool, StoreError> {
        let connection = self.connection().await?;
        let statement = connection.prepare_cached(TAKE_OVER).await?;
        let changed =
            connection.execute(&statement, &[&key.run.as_uuid(), &key.lease.0, &from, &to]).await?;
        Ok(changed > 0)
    }
}

async fn try_claim(
    mut connection: Connection,
    request: &SandboxClaimRequest,
    lines: &Cursors,
    limit: u32,
) -> Result<Vec<SandboxClaimed>, StoreError> {
    let tx = connection.transaction().await?;
    let place = Place::Sandbox { counts: &request.counts, without: &request.without };
    let mut room = Room::look(&tx, limit, &request.claim, place).await?;
    if room.free == 0 || room.agents.is_empty() {
        return Ok(Vec::new());
    }
    room.open_due(&tx, ExecutionEnvironment::Sandbox).await?;
    let heads = heads(&tx, &room, lines, limit).await?;
    if heads.is_empty() {
        return Ok(Vec::new());
    }
    let locked = lock(&tx, &heads, &request.claim.spend).await?;
    let picks = pick(heads, &mut room, &locked, &request.claim.spend, limit);
    if picks.is_empty() {
        return Ok(Vec::new());
    }
    let claimed = write(&tx, &picks, request).await?;
    let runs: Vec<(TaskId, RunId)> =
        claimed.iter().map(|claim| (claim.task, claim.key.run)).collect();
    room.pass(&tx, &picks, &runs).await?;
    tx.commit().await?;
    Ok(claimed)
}

async fn write(
    tx: &Transaction<'_>,
    picks: &[Pick],
    request: &SandboxClaimRequest,
) -> Result<Vec<SandboxClaimed>, StoreError> {
    let tasks: Vec<Uuid> = picks.iter().map(|pick| pick.task).collect();
    let runs: Vec<Uuid> = picks.iter().map(|_| RunId::generate().as_uuid()).collect();
    let aside: Vec<i64> = picks.iter().map(|pick| bigint(pick.aside)).collect();
    let providers: Vec<&str> = picks.iter().map(|pick| pick.gate.provider.as_str()).collect();
    let statement = tx.prepare_cached(CLAIM).await?;
    let lease = millis(request.claim.lease);
    let host = request.host.as_str();
    let dispatcher = &request.dispatcher;
    let rows = tx
        .query(&statement, &[&tasks, &runs, &lease, &aside, &host, dispatcher, &providers])
        .await?;
    rows.iter()
        .map(|row| {
            Ok(SandboxClaimed {
                key: key_from_row(row)?,
                task: TaskId::from_uuid(get(row, "task")?),
                role: word(row, "role")?,
            })
        })
        .collect()
}

/// As many places as the counts leave, in the form of agents without a name.
pub(super) fn places_from(
    rows: &[Row],
    counts: &BTreeMap<Role, u32>,
) -> Result<HashMap<Role, VecDeque<Uuid>>, StoreError> {
    let mut running = BTreeMap::new();
    for row in rows {
        running.insert(word::<Role>(row, "role")?, number::<i64, u32>(row, "running")?);
    }
    let left = |role: &Role, count: u32| {
        count.saturating_sub(running.get(role).copied().unwrap_or_default()).min(CLAIM_LIMIT)
    };
    let places = counts.iter().map(|(role, count)| (*role, left(role, *count)));
    let places = places.filter(|(_, left)| *left > 0);
    Ok(places.map(|(role, left)| (role, (0..left).map(|_| Uuid::nil()).collect())).collect())
}

fn tended_from_row(row: &Row) -> Result<TendedRun, StoreError> {
    let process = get::<Option<i32>>(row, "pid")?.map(|_| process_from_row(row)).transpose()?;
    Ok(TendedRun {
        key: key_from_row(row)?,
        task: TaskId::from_uuid(get(row, "task")?),
        status: word(row, "status")?,
        dispatcher: get(row, "dispatcher")?,
        process,
        cancel_requested: get(row, "cancel_requested")?,
        revoked: get(row, "revoked")?,
    })
}

fn key_from_row(row: &Row) -> Result<RunKey, StoreError> {
    let run = RunId::from_uuid(get(row, "run")?);
    Ok(RunKey { run, lease: LeaseNumber(get(row, "number")?) })
}
