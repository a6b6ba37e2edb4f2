//! Tasks: their rows, and reading one. Listing, making, cancelling and explaining them are in the modules below.

use std::time::Duration;

use core_types::{
    ids::{LeaseNumber, RunId, TaskId},
    repository::Repository,
    sandbox::TaskBrief,
    task::{BlockReason, ExecutorKind, RiskLevel, Role, TaskState, TaskStatus},
};
use jiff::Timestamp;
use serde_json::Value;
use tokio_postgres::Row;
use uuid::Uuid;

use crate::{
    connections::Statements,
    error::StoreError,
    pool::Store,
    row::{get, json, number, number_opt, word},
};

pub mod cancel;
pub mod create;
pub mod list;
pub mod retry;
pub mod waiting;

mod check;
mod rank;

/// A task as somebody asks for it.
#[derive(Debug, Clone, PartialEq)]
pub struct NewTask {
    /// Chosen by the caller, so that asking twice makes one task.
    pub id: TaskId,
    /// One line.
    pub title: String,
    /// What shall be true afterwards.
    pub goal: String,
    /// Anything else the agent should know.
    pub context: Option<Value>,
    /// The kind of agent that does it.
    pub role: Role,
    /// -100 to 100; larger is taken earlier.
    pub priority: i32,
    /// A riskier task is taken later.
    pub risk: RiskLevel,
    /// Tasks that must be done before; may be tasks of the same call.
    pub dependencies: Vec<TaskId>,
    /// At most one task of an area runs at a time.
    pub target_area: Option<String>,
    /// Where its repository is.
    pub repository: Repository,
    /// The branch it starts from; absent means the repository's HEAD.
    pub base_branch: Option<String>,
    /// Commands that must succeed on the result, each as program and arguments.
    pub verification: Vec<Vec<String>>,
    /// The longest time one run may take.
    pub timebox: Option<Duration>,
    /// The agent command line.
    pub executor: ExecutorKind,
    /// The model; absent means the executor's default.
    pub model: Option<String>,
    /// How many attempts may fail; at least one.
    pub max_attempts: u32,
    /// Most tokens of one run.
    pub token_limit: Option<u64>,
    /// Most money of one run, in millionths of a US dollar.
    pub cost_limit_microusd: Option<u64>,
    /// Who asked.
    pub created_by: String,
}

/// A task as it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    /// What was asked for; its dependencies are sorted, each once.
    pub new: NewTask,
    /// Where it stands.
    pub state: TaskState,
    /// Attempts used up; interruptions and quota waits use none.
    pub attempts: u32,
    /// Attempts used up before it was last asked for once more; they count for nothing since.
    pub attempts_before: u32,
    /// How often it was asked for once more.
    pub retries: u32,
    /// What the next run's agent is told about the last one.
    pub feedback: Option<String>,
    /// Whether the next run's agent goes on with its own last session.
    pub continue_session: bool,
    /// Dependencies that are not done yet.
    pub pending_dependencies: u32,
    /// While it cools down or waits for a quota: when it goes on by itself.
    pub not_before: Option<Timestamp>,
    /// Why it stands where it stands, for people.
    pub reason: Option<String>,
    /// The number of its latest claim; 0 before the first.
    pub lease: LeaseNumber,
    /// The run that is alive.
    pub current_run: Option<RunId>,
    /// When somebody asked to cancel it while it ran.
    pub cancel_requested_at: Option<Timestamp>,
    /// The commit that holds its result.
    pub commit: Option<String>,
    /// The branch that commit is on.
    pub branch: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When its row last changed.
    pub updated_at: Timestamp,
    /// When it became done, failed or cancelled.
    pub finished_at: Option<Timestamp>,
}

impl Task {
    /// A task as if it had just been queued, which no database knows.
    #[must_use]
    pub fn unstored(new: NewTask) -> Self {
        let now = Timestamp::now();
        Self {
            new,
            state: TaskState::Queued,
            attempts: 0,
            attempts_before: 0,
            retries: 0,
            feedback: None,
            continue_session: false,
            pending_dependencies: 0,
            not_before: None,
            reason: None,
            lease: LeaseNumber(0),
            current_run: None,
            cancel_requested_at: None,
            commit: None,
            branch: None,
            created_at: now,
            updated_at: now,
            finished_at: None,
        }
    }

    /// What a run has to know of it.
    #[must_use]
    pub fn brief(&self) -> TaskBrief {
        let new = &self.new;
        TaskBrief {
            id: new.id,
            title: new.title.clone(),
            goal: new.goal.clone(),
            context: new.context.clone(),
            role: new.role,
            verification: new.verification.clone(),
            timebox: new.timebox,
            executor: new.executor,
            model: new.model.clone(),
            token_limit: new.token_limit,
            cost_limit_microusd: new.cost_limit_microusd,
            feedback: self.feedback.clone(),
        }
    }
}

/// The columns of a [`Task`], of a table named `t`. Served by the primary key and `task_dependencies_by_task`.
pub(crate) const COLUMNS: &str = "
    t.id, t.seq, t.title, t.goal, t.context, t.role, t.priority, t.risk,
    ARRAY(SELECT e.dependency FROM task_dependencies e WHERE e.task = t.id ORDER BY e.dependency) AS dependencies,
    t.target_area, t.repository, t.base_branch, t.verification, t.timebox_ms, t.executor, t.model, t.max_attempts,
    t.token_limit, t.cost_limit_microusd, t.created_by, t.status, t.block_reason, t.attempts,
    t.attempts_before, t.retries, t.feedback, t.continue_session,
    t.pending_dependencies, t.not_before, t.reason, t.lease_number, t.current_run, t.cancel_requested_at,
    t.commit_id, t.branch, t.created_at, t.updated_at, t.finished_at";

/// Reads a row of [`COLUMNS`].
pub(crate) fn from_row(row: &Row) -> Result<Task, StoreError> {
    Ok(Task {
        new: new_from_row(row)?,
        state: state_from_row(row)?,
        attempts: number::<i32, u32>(row, "attempts")?,
        attempts_before: number::<i32, u32>(row, "attempts_before")?,
        retries: number::<i32, u32>(row, "retries")?,
        feedback: get(row, "feedback")?,
        continue_session: get(row, "continue_session")?,
        pending_dependencies: number::<i32, u32>(row, "pending_dependencies")?,
        not_before: get(row, "not_before")?,
        reason: get(row, "reason")?,
        lease: LeaseNumber(get(row, "lease_number")?),
        current_run: get::<Option<Uuid>>(row, "current_run")?.map(RunId::from_uuid),
        cancel_requested_at: get(row, "cancel_requested_at")?,
        commit: get(row, "commit_id")?,
        branch: get(row, "branch")?,
        created_at: get(row, "created_at")?,
        updated_at: get(row, "updated_at")?,
        finished_at: get(row, "finished_at")?,
    })
}

fn new_from_row(row: &Row) -> Result<NewTask, StoreError> {
    Ok(NewTask {
        id: TaskId::from_uuid(get(row, "id")?),
        title: get(row, "title")?,
        goal: get(row, "goal")?,
        context: get(row, "context")?,
        role: word(row, "role")?,
        priority: get(row, "priority")?,
        risk: word(row, "risk")?,
        dependencies: ids(get(row, "dependencies")?),
        target_area: get(row, "target_area")?,
        repository: json(row, "repository")?,
        base_branch: get(row, "base_branch")?,
        verification: json(row, "verification")?,
        timebox: number_opt::<i64, u64>(row, "timebox_ms")?.map(Duration::from_millis),
        executor: word(row, "executor")?,
        model: get(row, "model")?,
        max_attempts: number::<i32, u32>(row, "max_attempts")?,
        token_limit: number_opt::<i64, u64>(row, "token_limit")?,
        cost_limit_microusd: number_opt::<i64, u64>(row, "cost_limit_microusd")?,
        created_by: get(row, "created_by")?,
    })
}

/// Reads the columns `status` and `block_reason`.
pub(crate) fn state_from_row(row: &Row) -> Result<TaskState, StoreError> {
    Ok(match word::<TaskStatus>(row, "status")? {
        TaskStatus::Queued => TaskState::Queued,
        TaskStatus::Running => TaskState::Running,
        TaskStatus::Done => TaskState::Done,
        TaskStatus::Failed => TaskState::Failed,
        TaskStatus::Blocked => TaskState::Blocked { reason: word(row, "block_reason")? },
        TaskStatus::Cancelled => TaskState::Cancelled,
    })
}

/// The value of the column `block_reason` for a state.
pub(crate) const fn block_word(state: TaskState) -> Option<&'static str> {
    match state {
        TaskState::Blocked { reason } => Some(reason.as_str()),
        TaskState::Queued
        | TaskState::Running
        | TaskState::Done
        | TaskState::Failed
        | TaskState::Cancelled => None,
    }
}

/// Whether a dependency in this state will never be done, and what that means for those that wait for it.
pub(crate) const fn hopeless(state: TaskState) -> Option<BlockReason> {
    match state {
        TaskState::Failed | TaskState::Blocked { reason: BlockReason::DependencyFailed } => {
            Some(BlockReason::DependencyFailed)
        }
        TaskState::Cancelled | TaskState::Blocked { reason: BlockReason::DependencyCancelled } => {
            Some(BlockReason::DependencyCancelled)
        }
        TaskState::Queued
        | TaskState::Running
        | TaskState::Done
        | TaskState::Blocked {
            reason:
                BlockReason::QuotaWait | BlockReason::LoginRequired | BlockReason::AttemptsExhausted,
        } => None,
    }
}

fn ids(uuids: Vec<Uuid>) -> Vec<TaskId> {
    uuids.into_iter().map(TaskId::from_uuid).collect()
}

impl Store {
    /// The task, if there is one.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn task(&self, id: TaskId) -> Result<Option<Task>, StoreError> {
        let connection = self.connection().await?;
        find(&connection, id).await
    }
}

/// Reads one task, inside a transaction or not.
pub(crate) async fn find(client: &impl Statements, id: TaskId) -> Result<Option<Task>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM tasks t WHERE t.id = $1");
    let rows = client.query_cached(&sql, &[&id.as_uuid()]).await?;
    rows.first().map(from_row).transpose()
}
