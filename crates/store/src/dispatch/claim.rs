//! The claim: ready tasks meet idle agents, in one transaction.
//!
//! Claims wait for each other at the gate, so that the limit on running tasks holds whatever the number of
//! dispatchers; behind it they lock only what is free and therefore never wait. What is locked by somebody else is
//! left for the next look, and whoever holds it wakes the dispatchers when it lets go.
//!
//! The cost does not depend on the backlog: only the heads of the roles' lines are read, by index. Each claim starts
//! at the head; a cursor past dead index entries is not kept, for what one claim takes is a handful.

use std::{
    collections::{BTreeSet, HashMap, HashSet, VecDeque},
    time::Duration,
};

use core_types::{
    ids::{AgentId, LeaseNumber, RunId, RunKey, TaskId},
    task::Role,
};
use deadpool_postgres::{GenericClient as _, Transaction};
use tokio_postgres::{Row, types::ToSql};
use uuid::Uuid;

use crate::{
    agents::LIVE_FOR_MS,
    connections::Connection,
    error::StoreError,
    pool::Store,
    row::{get, millis, number, word},
    wake::Channel,
};

/// Most runs one claim hands out; a caller that gets as many as it asked for asks again.
pub const CLAIM_LIMIT: u32 = 64;

/// What a dispatcher wants to hand out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClaimRequest {
    /// Most runs of this claim; at most [`CLAIM_LIMIT`] are handed out.
    pub limit: u32,
    /// How long the lease holds without renewal.
    pub lease: Duration,
    /// Most runs alive at a time, over all roles and dispatchers.
    pub max_running: u32,
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

const GATE: &str = "SELECT FROM claim_gate FOR NO KEY UPDATE";

/// Counts no further than the limit. Served by the unique key of `leases`.
const RUNNING: &str =
    "SELECT count(*) AS running FROM (SELECT FROM leases ORDER BY task LIMIT $1::bigint) AS held";

/// The agents that have been idle the longest, for each role. Served by `agents_idle`. The limit is a literal: with
/// a parameter the planner may sort all of them.
fn idle_agents(limit: u32) -> String {
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

/// The heads of the roles' lines. Served by `ready_by_rank`, in its order.
fn ready_heads(limit: u32) -> String {
    format!(
        "SELECT head.task, head.role, head.rank, head.area FROM unnest($1::text[]) AS wanted (role)
         CROSS JOIN LATERAL (
             SELECT task, role, rank, area FROM ready
             WHERE role = wanted.role ORDER BY rank, task LIMIT {limit} FOR UPDATE SKIP LOCKED
         ) AS head"
    )
}

/// Served by the primary key.
const LANES: &str = "
    SELECT area FROM lanes WHERE area = ANY($1) ORDER BY area FOR NO KEY UPDATE SKIP LOCKED";

/// Served by the primary key.
const TASKS: &str = "
    SELECT id FROM tasks WHERE id = ANY($1) AND status = 'queued'
    ORDER BY seq FOR NO KEY UPDATE SKIP LOCKED";

/// Decides and writes, in a statement after the one that locked the lanes. Served by the primary keys and by
/// `tasks_running_area`; the condition on areas only leaves out what would break that unique index and with it the
/// whole claim.
const CLAIM: &str = "
    WITH pick AS MATERIALIZED (
        SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[]) AS p (task, agent, run)
    ), claimed AS (
        UPDATE tasks t SET status = 'running', lease_number = t.lease_number + 1, current_run = pick.run,
            reason = NULL, updated_at = clock_timestamp()
        FROM pick
        WHERE t.id = pick.task AND t.status = 'queued' AND t.pending_dependencies = 0 AND t.not_before IS NULL
            AND NOT EXISTS (
                SELECT FROM tasks other WHERE other.target_area = t.target_area AND other.status = 'running'
            )
        RETURNING t.id AS task, t.lease_number AS number, t.role, t.rank, pick.agent, pick.run
    ), taken AS (
        DELETE FROM ready r USING claimed WHERE r.task = claimed.task
    ), busy AS (
        UPDATE agents a SET run = claimed.run, idle_since = NULL
        FROM claimed WHERE a.id = claimed.agent
        RETURNING a.id, a.host
    ), made AS (
        INSERT INTO runs (id, task, lease_number, agent, host, status, created_at)
        SELECT run, task, number, agent, host, 'launching', clock_timestamp()
        FROM claimed JOIN busy ON busy.id = claimed.agent ORDER BY rank, task
    ), leased AS (
        INSERT INTO leases (run, task, number, agent, host, expires_at)
        SELECT run, task, number, agent, host, clock_timestamp() + $4::bigint * interval '1 millisecond'
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
            self.retrying(|connection| self.try_claim(connection, request, limit)).await?;
        if !claimed.is_empty() {
            self.wake(Channel::Agents);
        }
        Ok(claimed)
    }

    async fn try_claim(
        &self,
        mut connection: Connection,
        request: ClaimRequest,
        limit: u32,
    ) -> Result<Vec<Claimed>, StoreError> {
        let tx = connection.transaction().await?;
        let (free, agents) = free_and_idle(&tx, limit, request.max_running).await?;
        if free == 0 || agents.is_empty() {
            return Ok(Vec::new());
        }
        let heads = heads(&tx, &agents, limit).await?;
        if heads.is_empty() {
            return Ok(Vec::new());
        }
        let locked = lock(&tx, &heads).await?;
        let picks = pick(heads, agents, &locked, free.min(limit));
        if picks.is_empty() {
            return Ok(Vec::new());
        }
        let claimed = write(&tx, &picks, request.lease).await?;
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
        for sql in [idle_agents(CLAIM_LIMIT), ready_heads(CLAIM_LIMIT)] {
            let rows = tx.query(&format!("EXPLAIN {sql}"), &[&role_words()]).await?;
            for row in &rows {
                let line: String = row.try_get(0).map_err(|e| StoreError::corrupt("plan", e))?;
                plan.push(line);
            }
        }
        Ok(plan)
    }
}

/// A task at the head of its line.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Head {
    rank: i64,
    task: Uuid,
    role: Role,
    area: Option<String>,
}

/// Idle agents by role, the longest idle first.
type Idle = HashMap<Role, VecDeque<Uuid>>;

/// What this claim could lock.
#[derive(Debug, Default)]
struct Locked {
    areas: HashSet<String>,
    tasks: HashSet<Uuid>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pick {
    task: Uuid,
    agent: Uuid,
}

/// Passes the gate, then counts in a statement of its own: its snapshot shows what the claim before has written.
async fn free_and_idle(
    tx: &Transaction<'_>,
    limit: u32,
    max_running: u32,
) -> Result<(u32, Idle), StoreError> {
    let gate = tx.prepare_cached(GATE).await?;
    let running = tx.prepare_cached(RUNNING).await?;
    let idle = tx.prepare_cached(&idle_agents(limit.next_power_of_two())).await?;
    let (most, roles) = (i64::from(max_running), role_words());
    let limit: [&(dyn ToSql + Sync); 1] = [&most];
    let roles: [&(dyn ToSql + Sync); 1] = [&roles];
    // Sent together, run one after the other.
    let (_, count, agents) = futures_util::try_join!(
        tx.query(&gate, &[]),
        tx.query_one(&running, &limit),
        tx.query(&idle, &roles),
    )?;
    let count = number::<i64, u32>(&count, "running")?;
    Ok((max_running.saturating_sub(count), idle_from(&agents)?))
}

fn idle_from(rows: &[Row]) -> Result<Idle, StoreError> {
    let mut idle = Idle::new();
    for row in rows {
        idle.entry(word(row, "role")?).or_default().push_back(get(row, "id")?);
    }
    Ok(idle)
}

/// The heads of the lines that have an idle agent, best first. Some more than needed: a lane or a task may be locked.
async fn heads(tx: &Transaction<'_>, idle: &Idle, limit: u32) -> Result<Vec<Head>, StoreError> {
    let roles: Vec<&str> = idle.keys().map(|role| role.as_str()).collect();
    let most = idle.values().map(VecDeque::len).max().unwrap_or_default();
    let wanted = u32::try_from(most).unwrap_or(limit).min(limit) + 3;
    let statement = tx.prepare_cached(&ready_heads(wanted.next_power_of_two())).await?;
    let rows = tx.query(&statement, &[&roles]).await?;
    let mut heads = rows.iter().map(head_from).collect::<Result<Vec<_>, _>>()?;
    heads.sort_by_key(|head| (head.rank, head.task));
    Ok(heads)
}

fn head_from(row: &Row) -> Result<Head, StoreError> {
    Ok(Head {
        rank: get(row, "rank")?,
        task: get(row, "task")?,
        role: word(row, "role")?,
        area: get(row, "area")?,
    })
}

async fn lock(tx: &Transaction<'_>, heads: &[Head]) -> Result<Locked, StoreError> {
    let areas: BTreeSet<&str> = heads.iter().filter_map(|head| head.area.as_deref()).collect();
    let areas: Vec<&str> = areas.into_iter().collect();
    let tasks: Vec<Uuid> = heads.iter().map(|head| head.task).collect();
    let lanes = tx.prepare_cached(LANES).await?;
    let rows = tx.prepare_cached(TASKS).await?;
    let tasks: [&(dyn ToSql + Sync); 1] = [&tasks];
    let lane_rows =
        async { if areas.is_empty() { Ok(Vec::new()) } else { tx.query(&lanes, &[&areas]).await } };
    let (lane_rows, task_rows) = futures_util::try_join!(lane_rows, tx.query(&rows, &tasks))?;
    Ok(Locked {
        areas: lane_rows.iter().map(|row| get(row, "area")).collect::<Result<_, _>>()?,
        tasks: task_rows.iter().map(|row| get(row, "id")).collect::<Result<_, _>>()?,
    })
}

/// Gives each head, best first, the agent of its role that has been idle the longest.
fn pick(heads: Vec<Head>, mut idle: Idle, locked: &Locked, most: u32) -> Vec<Pick> {
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let mut picks = Vec::new();
    for head in heads {
        let free_area = head.area.is_none_or(|area| locked.areas.contains(&area));
        if picks.len() >= most || !free_area || !locked.tasks.contains(&head.task) {
            continue;
        }
        if let Some(agent) = idle.get_mut(&head.role).and_then(VecDeque::pop_front) {
            picks.push(Pick { task: head.task, agent });
        }
    }
    picks
}

async fn write(
    tx: &Transaction<'_>,
    picks: &[Pick],
    lease: Duration,
) -> Result<Vec<Claimed>, StoreError> {
    let tasks: Vec<Uuid> = picks.iter().map(|pick| pick.task).collect();
    let agents: Vec<Uuid> = picks.iter().map(|pick| pick.agent).collect();
    let runs: Vec<Uuid> = picks.iter().map(|_| RunId::generate().as_uuid()).collect();
    let statement = tx.prepare_cached(CLAIM).await?;
    let rows = tx.query(&statement, &[&tasks, &agents, &runs, &millis(lease)]).await?;
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

fn role_words() -> Vec<&'static str> {
    Role::WORDS.to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(rank: i64, role: Role, area: Option<&str>) -> Head {
        Head { rank, task: Uuid::now_v7(), role, area: area.map(ToOwned::to_owned) }
    }

    fn all_tasks(heads: &[Head]) -> Locked {
        Locked { areas: HashSet::new(), tasks: heads.iter().map(|head| head.task).collect() }
    }

    #[test]
    fn a_role_without_agents_is_passed_over() {
        let heads = vec![head(1, Role::Tester, None), head(2, Role::Worker, None)];
        let idle = Idle::from([(Role::Worker, VecDeque::from([Uuid::now_v7()]))]);
        let locked = all_tasks(&heads);
        let worker_task = heads.last().map(|head| head.task);
        let picks = pick(heads, idle, &locked, 5);
        assert_eq!(picks.first().map(|pick| pick.task), worker_task);
        assert_eq!(picks.len(), 1);
    }

    #[test]
    fn a_locked_area_does_not_use_up_the_room() {
        let heads = vec![head(1, Role::Worker, Some("a")), head(2, Role::Worker, None)];
        let agents = VecDeque::from([Uuid::now_v7(), Uuid::now_v7()]);
        let idle = Idle::from([(Role::Worker, agents)]);
        let locked = all_tasks(&heads);
        let free_task = heads.last().map(|head| head.task);
        let picks = pick(heads, idle, &locked, 1);
        assert_eq!(picks.first().map(|pick| pick.task), free_task);
    }
}
