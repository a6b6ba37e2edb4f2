//! Why a task waits, for people.

use core_types::{
    gate::Shut,
    ids::TaskId,
    provider::Provider,
    task::{BlockReason, ExecutionEnvironment, ExecutorKind, Role, TaskState},
    usage::SpendLimits,
};
use jiff::Timestamp;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use crate::{
    agents::LIVE_FOR_MS,
    connections::{Connection, Statements as _},
    dispatch::picking::own_provider,
    dispatchers,
    error::StoreError,
    gates,
    pool::Store,
    row::get,
    self_tests::{self, LastTest},
    spend::{self, DayIsSpent},
    tasks::{Task, find},
};

/// What a task waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Waiting {
    /// Tasks it depends on are not done.
    Dependency {
        /// Those that are not done.
        tasks: Vec<TaskId>,
    },
    /// Another task of its area runs, or is next.
    Area {
        /// The area.
        area: String,
        /// The task that runs or is next.
        held_by: TaskId,
    },
    /// Its last attempt failed a short while ago.
    Cooldown {
        /// When it goes on by itself.
        until: Timestamp,
    },
    /// The provider's limit is reached.
    Quota {
        /// When it goes on by itself.
        until: Timestamp,
    },
    /// The gate of its executor is not open.
    Gate {
        /// The executor.
        executor: ExecutorKind,
        /// Whose model it asks.
        provider: Provider,
        /// Why, and since when.
        shut: Shut,
        /// When one run is let through to try; absent while one tries.
        until: Option<Timestamp>,
    },
    /// Its executor does not work in a sandbox, as the self-test found.
    SelfTest {
        /// The executor.
        executor: ExecutorKind,
        /// What the self-test found.
        found: LastTest,
    },
    /// A limit of the day leaves nothing for another run.
    SpendCap(DayIsSpent),
    /// It is blocked and does not go on by itself.
    Blocked {
        /// Why.
        reason: BlockReason,
    },
    /// Every dispatcher claims nothing for now.
    Paused {
        /// Why, as one of them says.
        reason: String,
    },
    /// No dispatcher gave a sign lately.
    NoDispatcher,
    /// The same, where a sandbox has ended and what it left is to be collected.
    NobodyCollects,
    /// No agent of its role is alive.
    NoAgent {
        /// The role.
        role: Role,
    },
    /// Every agent of its role is busy.
    Capacity {
        /// The role.
        role: Role,
        /// How many are alive.
        agents: u64,
    },
    /// An agent is free and nothing else is in the way: a dispatcher takes it with its next look. If that lasts, the
    /// limit on running tasks is reached.
    Turn,
}

impl Store {
    /// Why a task waits in this environment under these limits, and with this provider where a task of `opencode` names
    /// none; nothing for one that is worked on, is over or does not exist.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn why_waiting(
        &self,
        id: TaskId,
        limits: &SpendLimits,
        environment: ExecutionEnvironment,
        default_provider: &Provider,
    ) -> Result<Option<Waiting>, StoreError> {
        let connection = self.connection().await?;
        let Some(task) = find(&connection, id).await? else {
            return Ok(None);
        };
        match task.state {
            TaskState::Running => left_lying(&connection, id).await,
            TaskState::Done | TaskState::Failed | TaskState::Cancelled => Ok(None),
            TaskState::Blocked { reason } => Ok(Some(blocked(reason, task.not_before))),
            TaskState::Queued => {
                queued(&connection, &task, limits, environment, default_provider).await.map(Some)
            }
        }
    }
}

const fn blocked(reason: BlockReason, not_before: Option<Timestamp>) -> Waiting {
    match (reason, not_before) {
        (BlockReason::QuotaWait, Some(until)) => Waiting::Quota { until },
        (reason, _) => Waiting::Blocked { reason },
    }
}

async fn queued(
    connection: &Connection,
    task: &Task,
    limits: &SpendLimits,
    environment: ExecutionEnvironment,
    default_provider: &Provider,
) -> Result<Waiting, StoreError> {
    if task.pending_dependencies > 0 {
        return Ok(Waiting::Dependency { tasks: pending(connection, task.new.id).await? });
    }
    if let Some(until) = task.not_before {
        return Ok(Waiting::Cooldown { until });
    }
    if let Some(area) = &task.new.target_area
        && let Some(held_by) = holder(connection, area, task).await?
    {
        return Ok(Waiting::Area { area: area.clone(), held_by });
    }
    let executor = task.new.executor;
    let named = provider_of(task);
    let provider = own_provider(executor, &named, default_provider);
    if let Some(waiting) = gate(connection, environment, executor, provider).await? {
        return Ok(waiting);
    }
    if limits.limits_days()
        && let Some(spent) = spend::day(connection).await?.exhausted(limits)
    {
        return Ok(Waiting::SpendCap(spent));
    }
    match claiming(connection).await? {
        Some(waiting) => Ok(waiting),
        None => match environment {
            ExecutionEnvironment::Host => agents(connection, task.new.role).await,
            ExecutionEnvironment::Sandbox => {
                let found = self_test(connection, environment, executor).await?;
                Ok(found.map_or(Waiting::Turn, |found| Waiting::SelfTest { executor, found }))
            }
        },
    }
}

/// What keeps an executor from being used there.
async fn self_test(
    connection: &Connection,
    environment: ExecutionEnvironment,
    executor: ExecutorKind,
) -> Result<Option<LastTest>, StoreError> {
    let params: [&(dyn ToSql + Sync); 2] = [&environment.as_str(), &executor.as_str()];
    let rows = connection.query_cached(self_tests::FAILING, &params).await?;
    let test = rows.first().map(self_tests::from_row).transpose()?;
    Ok(test.and_then(|test| test.last))
}

fn provider_of(task: &Task) -> Provider {
    Provider::of(task.new.executor, task.new.model.as_deref())
}

/// Whether the gate of an executor and provider keeps their runs back.
async fn gate(
    connection: &Connection,
    environment: ExecutionEnvironment,
    executor: ExecutorKind,
    provider: &Provider,
) -> Result<Option<Waiting>, StoreError> {
    let environment = environment.as_str();
    let rows = connection.query_cached(gates::SHUT_IN_ENVIRONMENT, &[&environment]).await?;
    for row in &rows {
        let stored = gates::from_row(row)?;
        if stored.key.executor == executor
            && stored.key.provider == *provider
            && let Some(shut) = stored.gate.shut()
        {
            let until = stored.gate.next_trial();
            let (provider, shut) = (provider.clone(), shut.clone());
            return Ok(Some(Waiting::Gate { executor, provider, shut, until }));
        }
    }
    Ok(None)
}

/// What the dispatchers say; nothing where one of them claims.
async fn claiming(connection: &Connection) -> Result<Option<Waiting>, StoreError> {
    let rows = connection
        .query(
            "SELECT paused FROM dispatchers
             WHERE last_beat > clock_timestamp() - $1::bigint * interval '1 millisecond'
             ORDER BY paused NULLS FIRST LIMIT 1",
            &[&dispatchers::LIVE_FOR_MS],
        )
        .await?;
    let Some(row) = rows.first() else {
        return Ok(Some(Waiting::NoDispatcher));
    };
    Ok(get::<Option<String>>(row, "paused")?.map(|reason| Waiting::Paused { reason }))
}

/// Whether its run has reported from a sandbox, and there is no dispatcher to collect what it left. Served by the list of
/// a task's runs.
async fn left_lying(connection: &Connection, task: TaskId) -> Result<Option<Waiting>, StoreError> {
    let reported = connection
        .query_opt(
            "SELECT 1 AS one FROM runs
             WHERE task = $1 AND status = 'collecting' AND environment = 'sandbox' LIMIT 1",
            &[&task.as_uuid()],
        )
        .await?;
    if reported.is_none() {
        return Ok(None);
    }
    let claiming = claiming(connection).await?;
    Ok(claiming.and_then(|why| match why {
        Waiting::NoDispatcher => Some(Waiting::NobodyCollects),
        // One that claims nothing collects all the same.
        _ => None,
    }))
}

/// Served by `task_dependencies_by_task` and the primary key of `tasks`.
async fn pending(connection: &Connection, id: TaskId) -> Result<Vec<TaskId>, StoreError> {
    let rows = connection
        .query(
            "SELECT t.id FROM task_dependencies e JOIN tasks t ON t.id = e.dependency
             WHERE e.task = $1 AND t.status <> 'done' ORDER BY t.id",
            &[&id.as_uuid()],
        )
        .await?;
    rows.iter().map(|row| get(row, "id").map(TaskId::from_uuid)).collect()
}

/// Served by `tasks_running_area` and `ready_area`.
async fn holder(
    connection: &Connection,
    area: &str,
    task: &Task,
) -> Result<Option<TaskId>, StoreError> {
    let row = connection
        .query_opt(
            "SELECT coalesce(
                 (SELECT t.id FROM tasks t WHERE t.target_area = $1 AND t.status = 'running'),
                 (SELECT r.task FROM ready r WHERE r.area = $1 AND r.executor = $2 AND r.provider = $3)
             ) AS holder",
            &[&area, &task.new.executor.as_str(), &provider_of(task).as_str()],
        )
        .await?;
    let holder = row.map(|row| get::<Option<Uuid>>(&row, "holder")).transpose()?.flatten();
    Ok(holder.map(TaskId::from_uuid).filter(|holder| *holder != task.new.id))
}

/// Served by `agents_present`.
async fn agents(connection: &Connection, role: Role) -> Result<Waiting, StoreError> {
    let row = connection
        .query_one(
            "SELECT count(*) AS live, count(*) FILTER (WHERE run IS NULL) AS idle FROM agents
             WHERE retired_at IS NULL AND role = $1
                 AND last_beat > clock_timestamp() - $2::bigint * interval '1 millisecond'",
            &[&role.as_str(), &LIVE_FOR_MS],
        )
        .await?;
    let live = crate::row::number::<i64, u64>(&row, "live")?;
    Ok(match get::<i64>(&row, "idle")? {
        _ if live == 0 => Waiting::NoAgent { role },
        0 => Waiting::Capacity { role, agents: live },
        _ => Waiting::Turn,
    })
}
