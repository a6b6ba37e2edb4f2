//! The claim: ready tasks meet idle agents, in one transaction.
//!
//! Claims wait for each other at the gate, so that the limit on running tasks holds whatever the number of
//! dispatchers; behind it they lock only what is free and therefore never wait. What is locked by somebody else is
//! left for the next look, and whoever holds it wakes the dispatchers when it lets go.
//!
//! The cost does not depend on the backlog: only the heads of the lines are read, by index, and of a bounded number of
//! lines ([`lines`](super::lines)). Each claim starts at the head of a line; a cursor past dead index entries is not kept,
//! for what one claim takes is a handful.

use std::{collections::BTreeSet, time::Duration};

use core_types::{
    ids::{AgentId, LeaseNumber, RunId, RunKey, TaskId},
    provider::Provider,
    task::{ExecutionEnvironment, Role},
    usage::SpendLimits,
};
use deadpool_postgres::{GenericClient as _, Transaction};
use tokio_postgres::{Row, types::ToSql};
use uuid::Uuid;

use super::{
    lines::{AT_ONCE, heads, heads_of_lines},
    picking::{Head, Locked, Money, Pick, Place, Room, pick},
};
use crate::{
    agents::LIVE_FOR_MS,
    connections::Connection,
    error::StoreError,
    pool::Store,
    row::{bigint, get, millis, number_opt, word},
    wake::Channel,
};

/// Most runs one claim hands out; a caller that gets as many as it asked for asks again.
pub const CLAIM_LIMIT: u32 = 64;

/// What a dispatcher wants to hand out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimRequest {
    /// Most runs of this claim; at most [`CLAIM_LIMIT`] are handed out.
    pub limit: u32,
    /// How long the lease holds without renewal.
    pub lease: Duration,
    /// Most runs alive at a time, over all roles and dispatchers.
    pub max_running: u32,
    /// What may be spent. Where a day has a limit and it is reached, nothing is handed out.
    pub spend: SpendLimits,
    /// Whose model a task of `opencode` asks that names none.
    pub default_provider: Provider,
}

/// A run that was handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claimed {
    /// What every write of the run carries.
    pub key: RunKey,
    /// The task.
    pub task: TaskId,
    /// The agent it was handed to.
    pub agent: AgentId,
    /// The role of both.
    pub role: Role,
}

pub(super) const GATE: &str = "SELECT FROM claim_gate FOR NO KEY UPDATE";

/// Counts no further than the limit. Served by the unique key of `leases`.
pub(super) const RUNNING: &str =
    "SELECT count(*) AS running FROM (SELECT FROM leases ORDER BY task LIMIT $1::bigint) AS held";

/// The agents that have been idle the longest, for each role. Served by `agents_idle`. The limit is a literal: with
/// a parameter the planner may sort all of them.
pub(super) fn idle_agents(limit: u32) -> String {
    format!(
        "SELECT idle.id, idle.role FROM unnest($1::text[]) AS wanted (role)
         CROSS JOIN LATERAL (
             SELECT id, role FROM agents
             WHERE role = wanted.role AND run IS NULL AND retired_at IS NULL
                 AND last_beat > clock_timestamp() - {LIVE_FOR_MS} * interval '1 millisecond'
             ORDER BY idle_since, id LIMIT {limit} FOR NO KEY UPDATE SKIP LOCKED
         ) AS idle"
    )
}

/// Served by the primary key.
const LANES: &str = "
    SELECT area FROM lanes WHERE area = ANY($1) ORDER BY area FOR NO KEY UPDATE SKIP LOCKED";

/// Served by the primary key and the unique key of `runs`.
const TASKS: &str = "
    SELECT id, cost_limit_microusd, CASE WHEN $2 THEN
        (SELECT coalesce(sum(r.cost_microusd), 0)::bigint FROM runs r WHERE r.task = tasks.id) END AS cost
    FROM tasks WHERE id = ANY($1) AND status = 'queued'
    ORDER BY seq FOR NO KEY UPDATE SKIP LOCKED";

/// Decides and writes, in a statement after the one that locked the lanes. Served by the primary keys and by
/// `tasks_running_area`; the condition on areas only leaves out what would break that unique index and with it the
/// whole claim.
const CLAIM: &str = "
    WITH pick AS MATERIALIZED (
        SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $5::bigint[], $6::text[])
            AS p (task, agent, run, aside, provider)
    ), claimed AS (
        UPDATE tasks t SET status = 'running', lease_number = t.lease_number + 1, current_run = pick.run,
            reason = NULL, updated_at = clock_timestamp()
        FROM pick
        WHERE t.id = pick.task AND t.status = 'queued' AND t.pending_dependencies = 0 AND t.not_before IS NULL
            AND NOT EXISTS (
                SELECT FROM tasks other WHERE other.target_area = t.target_area AND other.status = 'running'
            )
        RETURNING t.id AS task, t.lease_number AS number, t.role, t.rank, t.target_area, pick.agent, pick.run,
            pick.aside, pick.provider
    ), taken AS (
        DELETE FROM ready r USING claimed WHERE r.task = claimed.task RETURNING r.task, r.since
    ), beside AS (
        DELETE FROM ready r USING claimed WHERE r.area = claimed.target_area AND r.task <> claimed.task
    ), busy AS (
        UPDATE agents a SET run = claimed.run, idle_since = NULL
        FROM claimed WHERE a.id = claimed.agent
        RETURNING a.id, a.host
    ), made AS (
        INSERT INTO runs (id, task, lease_number, agent, host, status, provider, created_at, claimable_at)
        SELECT run, task, number, agent, host, 'launching', provider, clock_timestamp(), taken.since
        FROM claimed JOIN busy ON busy.id = claimed.agent LEFT JOIN taken USING (task) ORDER BY rank, task
    ), leased AS (
        INSERT INTO leases (run, task, number, agent, host, expires_at, cost_reserved_microusd)
        SELECT run, task, number, agent, host, clock_timestamp() + $4::bigint * interval '1 millisecond', aside
        FROM claimed JOIN busy ON busy.id = claimed.agent
    )
    SELECT run, number, task, agent, role FROM claimed ORDER BY rank, task";

impl Store {
    /// Hands ready tasks to idle live agents of their role, best first, while there is room.
    ///
    /// Lease, run row and `queued` → `running` are one transaction. If its answer is lost, the agents still find
    /// their assignments.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn claim_host_runs(&self, request: ClaimRequest) -> Result<Vec<Claimed>, StoreError> {
        let limit = request.limit.min(CLAIM_LIMIT).min(request.max_running);
        if limit == 0 {
            return Ok(Vec::new());
        }
        let claimed =
            self.retrying(|connection| self.try_claim(connection, &request, limit)).await?;
        for claim in &claimed {
            self.wake_agent(claim.agent, claim.key);
        }
        if !claimed.is_empty() {
            self.wake(Channel::Agents);
        }
        Ok(claimed)
    }

    async fn try_claim(
        &self,
        mut connection: Connection,
        request: &ClaimRequest,
        limit: u32,
    ) -> Result<Vec<Claimed>, StoreError> {
        let tx = connection.transaction().await?;
        let mut room = Room::look(&tx, limit, request, Place::Host).await?;
        if room.free == 0 || room.agents.is_empty() {
            return Ok(Vec::new());
        }
        room.open_due(&tx, ExecutionEnvironment::Host).await?;
        let heads = heads(&tx, &room, self.lines(), limit).await?;
        if heads.is_empty() {
            return Ok(Vec::new());
        }
        let locked = lock(&tx, &heads, &request.spend).await?;
        let picks = pick(heads, &mut room, &locked, &request.spend, limit);
        if picks.is_empty() {
            return Ok(Vec::new());
        }
        let claimed = write(&tx, &picks, request.lease).await?;
        let runs: Vec<(TaskId, RunId)> =
            claimed.iter().map(|claim| (claim.task, claim.key.run)).collect();
        room.pass(&tx, &picks, &runs).await?;
        tx.commit().await?;
        Ok(claimed)
    }

    /// The plans of the selects that find agents and tasks, line by line; for tests and diagnosis.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn explain_claim(&self) -> Result<Vec<String>, StoreError> {
        let mut connection = self.connection().await?;
        let tx = connection.transaction().await?;
        let mut plan = Vec::new();
        let (roles, none) = (Role::WORDS, [""]);
        let (starts, most) = (vec![""; roles.len()], vec![AT_ONCE; roles.len()]);
        let of_agents: &[&(dyn ToSql + Sync)] = &[&roles];
        let none = none.as_slice();
        let of_tasks: &[&(dyn ToSql + Sync)] =
            &[&roles, &starts, &starts, &most, &none, &none, &none];
        for (sql, params) in
            [(idle_agents(CLAIM_LIMIT), of_agents), (heads_of_lines(CLAIM_LIMIT), of_tasks)]
        {
            let rows = tx.query(&format!("EXPLAIN {sql}"), params).await?;
            for row in &rows {
                let line: String = row.try_get(0).map_err(|e| StoreError::corrupt("plan", e))?;
                plan.push(line);
            }
        }
        Ok(plan)
    }
}

pub(super) async fn lock(
    tx: &Transaction<'_>,
    heads: &[Head],
    limits: &SpendLimits,
) -> Result<Locked, StoreError> {
    let areas: BTreeSet<&str> = heads.iter().filter_map(|head| head.area.as_deref()).collect();
    let areas: Vec<&str> = areas.into_iter().collect();
    let tasks: Vec<Uuid> = heads.iter().map(|head| head.task).collect();
    let money_matters = limits.day_cost_microusd.is_some();
    let lanes = tx.prepare_cached(LANES).await?;
    let rows = tx.prepare_cached(TASKS).await?;
    let tasks: [&(dyn ToSql + Sync); 2] = [&tasks, &money_matters];
    let lane_rows =
        async { if areas.is_empty() { Ok(Vec::new()) } else { tx.query(&lanes, &[&areas]).await } };
    let (lane_rows, task_rows) = futures_util::try_join!(lane_rows, tx.query(&rows, &tasks))?;
    Ok(Locked {
        areas: lane_rows.iter().map(|row| get(row, "area")).collect::<Result<_, _>>()?,
        tasks: task_rows.iter().map(money_from).collect::<Result<_, _>>()?,
    })
}

fn money_from(row: &Row) -> Result<(Uuid, Money), StoreError> {
    let limit = number_opt::<i64, u64>(row, "cost_limit_microusd")?;
    let used = number_opt::<i64, u64>(row, "cost")?.unwrap_or_default();
    Ok((get(row, "id")?, Money { limit, used }))
}

async fn write(
    tx: &Transaction<'_>,
    picks: &[Pick],
    lease: Duration,
) -> Result<Vec<Claimed>, StoreError> {
    let tasks: Vec<Uuid> = picks.iter().map(|pick| pick.task).collect();
    let agents: Vec<Uuid> = picks.iter().map(|pick| pick.agent).collect();
    let runs: Vec<Uuid> = picks.iter().map(|_| RunId::generate().as_uuid()).collect();
    let aside: Vec<i64> = picks.iter().map(|pick| bigint(pick.aside)).collect();
    let providers: Vec<&str> = picks.iter().map(|pick| pick.gate.provider.as_str()).collect();
    let statement = tx.prepare_cached(CLAIM).await?;
    let lease = millis(lease);
    let rows = tx.query(&statement, &[&tasks, &agents, &runs, &lease, &aside, &providers]).await?;
    rows.iter()
        .map(|row| {
            Ok(Claimed {
                key: RunKey {
                    run: RunId::from_uuid(get(row, "run")?),
                    lease: LeaseNumber(get(row, "number")?),
                },
                task: TaskId::from_uuid(get(row, "task")?),
                agent: AgentId::from_uuid(get(row, "agent")?),
                role: word(row, "role")?,
            })
        })
        .collect()
}
