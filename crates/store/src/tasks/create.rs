//! Making tasks: all of a call or none, with their dependencies, and again without harm.

use std::collections::{BTreeSet, HashMap, HashSet};

use core_types::{
    ids::TaskId,
    task::{TaskState, TaskStatus},
};
use deadpool_postgres::{GenericClient as _, Transaction};
use serde_json::Value;
use tokio_postgres::types::Json;
use uuid::Uuid;

use crate::{
    connections::Connection,
    error::{MayBeStoreError, StoreError},
    pool::Store,
    ready,
    row::{bigint, get, millis},
    tasks::{
        COLUMNS, NewTask, Task, check::order_of, from_row, hopeless, rank::head_start_micros,
        state_from_row,
    },
    wake::Channel,
};

/// What became of a call for tasks.
#[derive(Debug, Clone, PartialEq)]
pub struct CreatedTasks {
    /// All of them, in the order of the call.
    pub tasks: Vec<Task>,
    /// Those that this call made; the others were there already.
    pub made: HashSet<TaskId>,
}

/// Why no task of the call was made. `index` is the place in the call.
#[derive(Debug, thiserror::Error)]
pub enum CreateTasksError {
    /// A field holds what cannot be stored.
    #[error("`{field}` of task {index} {problem}")]
    Invalid {
        /// The place in the call.
        index: usize,
        /// The field.
        field: &'static str,
        /// What is wrong with it, and what is allowed.
        problem: &'static str,
    },
    /// It depends on a task that is neither stored nor in the call.
    #[error("task {index} depends on `{missing}`, which does not exist")]
    DependencyMissing {
        /// The place in the call.
        index: usize,
        /// The task that does not exist.
        missing: TaskId,
    },
    /// It depends on itself.
    #[error("task {index} depends on itself")]
    DependencyOnItself {
        /// The place in the call.
        index: usize,
    },
    /// Tasks of the call depend on each other in a circle.
    #[error("task {index} depends on itself by way of others: {}", arrows(.path))]
    DependencyCycle {
        /// The place of the path's first task in the call.
        index: usize,
        /// The circle: each depends on the next, the last one on the first.
        path: Vec<TaskId>,
    },
    /// It depends on a task that will never be done.
    #[error("task {index} depends on `{dependency}`, which is {status} and will not be done")]
    DependencyFailed {
        /// The place in the call.
        index: usize,
        /// The task that will never be done.
        dependency: TaskId,
        /// Where that task stands.
        status: TaskStatus,
    },
    /// Its id belongs to a task with another content.
    #[error("the id of task {index} belongs to another task; leave it out to have one made")]
    IdTaken {
        /// The place in the call.
        index: usize,
    },
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<tokio_postgres::Error> for CreateTasksError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Store(error.into())
    }
}

impl MayBeStoreError for CreateTasksError {
    fn store_error(&self) -> Option<&StoreError> {
        match self {
            Self::Store(error) => Some(error),
            Self::Invalid { .. }
            | Self::DependencyMissing { .. }
            | Self::DependencyOnItself { .. }
            | Self::DependencyCycle { .. }
            | Self::DependencyFailed { .. }
            | Self::IdTaken { .. } => None,
        }
    }
}

fn arrows(path: &[TaskId]) -> String {
    let names: Vec<String> = path.iter().chain(path.first()).map(ToString::to_string).collect();
    names.join(" → ")
}

impl Store {
    /// Makes tasks in one transaction: all or none. They may depend on each other in any order.
    ///
    /// An id that exists with the same content is returned as it stands now.
    ///
    /// # Errors
    /// [`CreateTasksError`], naming the task of the call by its index.
    pub async fn create_tasks(&self, tasks: Vec<NewTask>) -> Result<Vec<Task>, CreateTasksError> {
        Ok(self.create_or_find_tasks(tasks).await?.tasks)
    }

    /// Like [`Store::create_tasks`], and tells which of them this very call made.
    ///
    /// # Errors
    /// [`CreateTasksError`], naming the task of the call by its index.
    pub async fn create_or_find_tasks(
        &self,
        tasks: Vec<NewTask>,
    ) -> Result<CreatedTasks, CreateTasksError> {
        let order = order_of(&tasks)?;
        let made = self.retrying(|connection| self.try_create(connection, &tasks, &order)).await?;
        self.wake(Channel::Tasks);
        Ok(made)
    }

    async fn try_create(
        &self,
        mut connection: Connection,
        tasks: &[NewTask],
        order: &[usize],
    ) -> Result<CreatedTasks, CreateTasksError> {
        let tx = connection.transaction().await?;
        let ids: Vec<Uuid> = tasks.iter().map(|task| task.id.as_uuid()).collect();
        let existing = find_all(&tx, &ids).await?;
        let fresh = fresh_ones(tasks, order, &existing)?;
        if fresh.is_empty() {
            let tasks = in_call_order(tasks, existing)?;
            return Ok(CreatedTasks { tasks, made: HashSet::new() });
        }
        let pending = count_pending(&tx, tasks, &fresh).await?;
        insert_tasks(&tx, tasks, &fresh, &pending).await?;
        insert_dependencies(&tx, tasks, &fresh).await?;
        let areas: BTreeSet<String> =
            fresh.iter().filter_map(|index| tasks.get(*index)?.target_area.clone()).collect();
        let new_ids: Vec<Uuid> =
            fresh.iter().filter_map(|index| ids.get(*index).copied()).collect();
        ready::make_lanes(&tx, &areas).await?;
        ready::settle(&tx, &new_ids, &areas).await?;
        let stored = find_all(&tx, &ids).await?;
        tx.commit().await?;
        let made = new_ids.into_iter().map(TaskId::from_uuid).collect();
        Ok(CreatedTasks { tasks: in_call_order(tasks, stored)?, made })
    }
}

/// The places of tasks that are not stored yet, parents first.
fn fresh_ones(
    tasks: &[NewTask],
    order: &[usize],
    existing: &HashMap<TaskId, Task>,
) -> Result<Vec<usize>, CreateTasksError> {
    let mut fresh = Vec::new();
    for (index, task) in order.iter().filter_map(|index| Some((*index, tasks.get(*index)?))) {
        match existing.get(&task.id) {
            None => fresh.push(index),
            Some(stored) if same_content(&stored.new, task) => {}
            Some(_) => return Err(CreateTasksError::IdTaken { index }),
        }
    }
    Ok(fresh)
}

fn in_call_order(
    tasks: &[NewTask],
    mut stored: HashMap<TaskId, Task>,
) -> Result<Vec<Task>, CreateTasksError> {
    let in_order = tasks.iter().map(|task| stored.remove(&task.id));
    in_order
        .collect::<Option<Vec<Task>>>()
        .ok_or_else(|| StoreError::raced("a task vanished").into())
}

/// Served by the primary key.
async fn find_all(tx: &Transaction<'_>, ids: &[Uuid]) -> Result<HashMap<TaskId, Task>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM tasks t WHERE t.id = ANY($1)");
    let statement = tx.prepare_cached(&sql).await?;
    let rows = tx.query(&statement, &[&ids]).await?;
    rows.iter().map(|row| from_row(row).map(|task| (task.new.id, task))).collect()
}

/// Locks the stored dependencies, so that none ends before this transaction does, and counts for each new task how
/// many are not done. Served by the primary key.
async fn count_pending(
    tx: &Transaction<'_>,
    tasks: &[NewTask],
    fresh: &[usize],
) -> Result<HashMap<usize, i32>, CreateTasksError> {
    let new_tasks = || fresh.iter().filter_map(|index| Some((*index, tasks.get(*index)?)));
    let new_ids: HashSet<TaskId> = new_tasks().map(|(_, task)| task.id).collect();
    let parents: BTreeSet<Uuid> = new_tasks()
        .flat_map(|(_, task)| &task.dependencies)
        .filter(|id| !new_ids.contains(id))
        .map(|id| id.as_uuid())
        .collect();
    let states = lock_parents(tx, parents.into_iter().collect()).await?;
    let mut pending = HashMap::new();
    for (index, task) in new_tasks() {
        let mut count = 0;
        for dependency in task.dependencies.iter().collect::<BTreeSet<_>>() {
            if new_ids.contains(dependency) {
                count += 1;
                continue;
            }
            let state = *states
                .get(dependency)
                .ok_or(CreateTasksError::DependencyMissing { index, missing: *dependency })?;
            if hopeless(state).is_some() {
                let (dependency, status) = (*dependency, state.status());
                return Err(CreateTasksError::DependencyFailed { index, dependency, status });
            }
            count += i32::from(state != TaskState::Done);
        }
        pending.insert(index, count);
    }
    Ok(pending)
}

async fn lock_parents(
    tx: &Transaction<'_>,
    parents: Vec<Uuid>,
) -> Result<HashMap<TaskId, TaskState>, StoreError> {
    if parents.is_empty() {
        return Ok(HashMap::new());
    }
    let statement = tx
        .prepare_cached(
            "SELECT id, status, block_reason FROM tasks WHERE id = ANY($1) ORDER BY seq FOR SHARE",
        )
        .await?;
    let rows = tx.query(&statement, &[&parents]).await?;
    rows.iter().map(|row| Ok((TaskId::from_uuid(get(row, "id")?), state_from_row(row)?))).collect()
}

const INSERT: &str = "
    INSERT INTO tasks (id, title, goal, context, role, priority, risk, target_area, repository, base_branch,
        verification, timebox_ms, executor, model, max_attempts, token_limit, cost_limit_microusd, created_by,
        pending_dependencies, rank, created_at, updated_at)
    SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19,
        (extract(epoch FROM clock.at) * 1000000)::bigint - $20::bigint, clock.at, clock.at
    FROM (SELECT clock_timestamp() AS at) AS clock
    ON CONFLICT (id) DO NOTHING";

async fn insert_tasks(
    tx: &Transaction<'_>,
    tasks: &[NewTask],
    fresh: &[usize],
    pending: &HashMap<usize, i32>,
) -> Result<(), StoreError> {
    let statement = tx.prepare_cached(INSERT).await?;
    let statement = &statement;
    // Sent one behind the other without waiting: `seq` rises in the order they are sent.
    let inserts = fresh.iter().filter_map(|index| Some((index, tasks.get(*index)?))).map(
        async |(index, task)| {
            let pending = pending.get(index).copied().unwrap_or_default();
            let max_attempts = i32::try_from(task.max_attempts).unwrap_or(i32::MAX);
            tx.execute(
                statement,
                &[
                    &task.id.as_uuid(),
                    &task.title,
                    &task.goal,
                    &task.context,
                    &task.role.as_str(),
                    &task.priority,
                    &task.risk.as_str(),
                    &task.target_area,
                    &Json(&task.repository),
                    &task.base_branch,
                    &Json(&task.verification),
                    &task.timebox.map(millis),
                    &task.executor.as_str(),
                    &task.model,
                    &max_attempts,
                    &task.token_limit.map(bigint),
                    &task.cost_limit_microusd.map(bigint),
                    &task.created_by,
                    &pending,
                    &head_start_micros(task),
                ],
            )
            .await
        },
    );
    let counts = futures_util::future::try_join_all(inserts).await?;
    if counts.contains(&0) {
        return Err(StoreError::raced("another call made a task of the same id"));
    }
    Ok(())
}

async fn insert_dependencies(
    tx: &Transaction<'_>,
    tasks: &[NewTask],
    fresh: &[usize],
) -> Result<(), StoreError> {
    let (dependencies, dependants): (Vec<Uuid>, Vec<Uuid>) = fresh
        .iter()
        .filter_map(|index| tasks.get(*index))
        .flat_map(|task| {
            let unique: BTreeSet<TaskId> = task.dependencies.iter().copied().collect();
            unique.into_iter().map(|dependency| (dependency.as_uuid(), task.id.as_uuid()))
        })
        .unzip();
    if dependencies.is_empty() {
        return Ok(());
    }
    let statement = tx
        .prepare_cached(
            "INSERT INTO task_dependencies (dependency, task) SELECT * FROM unnest($1::uuid[], $2::uuid[])",
        )
        .await?;
    tx.execute(&statement, &[&dependencies, &dependants]).await?;
    Ok(())
}

/// Whether a stored task is the one that is asked for again. Who asks does not matter.
fn same_content(stored: &NewTask, asked: &NewTask) -> bool {
    let NewTask {
        id,
        title,
        goal,
        context,
        role,
        priority,
        risk,
        dependencies,
        target_area,
        repository,
        base_branch,
        verification,
        timebox,
        executor,
        model,
        max_attempts,
        token_limit,
        cost_limit_microusd,
        created_by: _,
    } = asked;
    let dependencies: BTreeSet<TaskId> = dependencies.iter().copied().collect();
    stored.id == *id
        && stored.title == *title
        && stored.goal == *goal
        && stored.context == as_stored(context.as_ref())
        && stored.role == *role
        && stored.priority == *priority
        && stored.risk == *risk
        && stored.dependencies.iter().copied().eq(dependencies)
        && stored.target_area == *target_area
        && stored.repository == *repository
        && stored.base_branch == *base_branch
        && stored.verification == *verification
        && stored.timebox.map(millis) == timebox.map(millis)
        && stored.executor == *executor
        && stored.model == *model
        && stored.max_attempts == *max_attempts
        && stored.token_limit == *token_limit
        && stored.cost_limit_microusd == *cost_limit_microusd
}

/// What a value is after it was written and read: the last digit of a fraction may differ.
fn as_stored(value: Option<&Value>) -> Option<Value> {
    value.map(|value| serde_json::from_str(&value.to_string()).unwrap_or_else(|_| value.clone()))
}
