//! Tasks as clients see them, and why they wait.

use std::mem;

use core_types::{
    gate::{GateCause, Shut},
    ids::{RunId, TaskId},
    outcome::{
        RunOutcome,
        table::{OutcomeClass, Outlook, outlook},
    },
    provider::Provider,
    repository::Repository,
    task::{
        BlockReason, ExecutionEnvironment, ExecutorKind, RiskLevel, Role, RunStatus, TaskState,
        TaskStatus,
    },
};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use store::{
    runs::Run,
    self_tests::LastTest,
    spend::DayIsSpent,
    tasks::{Task, waiting::Waiting},
};
use utoipa::ToSchema;

use crate::views::run::{RunView, usd};

/// A task.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TaskView {
    #[serde(flatten)]
    pub(crate) summary: TaskSummary,
    pub(crate) goal: String,
    /// Any JSON.
    #[schema(value_type = Value)]
    pub(crate) context: Option<Value>,
    pub(crate) verification: Vec<Vec<String>>,
}

/// A task without its long fields: `GET /tasks/{id}` shows `goal`, `context` and `verification` too.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TaskSummary {
    #[schema(schema_with = crate::schema::task_id)]
    pub(crate) id: TaskId,
    pub(crate) title: String,
    #[schema(schema_with = crate::schema::role)]
    pub(crate) role: Role,
    pub(crate) priority: i32,
    #[schema(schema_with = crate::schema::risk)]
    pub(crate) risk: RiskLevel,
    #[schema(value_type = Vec<String>)]
    pub(crate) dependencies: Vec<TaskId>,
    pub(crate) target_area: Option<String>,
    pub(crate) repository: RepositoryView,
    pub(crate) base_branch: Option<String>,
    pub(crate) timebox_s: Option<f64>,
    #[schema(schema_with = crate::schema::executor)]
    pub(crate) executor: ExecutorKind,
    pub(crate) model: Option<String>,
    pub(crate) max_attempts: u32,
    pub(crate) token_limit: Option<u64>,
    pub(crate) cost_limit_usd: Option<f64>,
    pub(crate) created_by: String,
    #[schema(schema_with = crate::schema::task_status)]
    pub(crate) status: TaskStatus,
    /// Why it is blocked.
    #[schema(schema_with = crate::schema::optional_block_reason)]
    pub(crate) block_reason: Option<BlockReason>,
    /// What happened last, for people.
    pub(crate) reason: Option<String>,
    /// How many attempts are used up.
    pub(crate) attempts: u32,
    /// How many of the tasks it depends on are not done.
    pub(crate) pending_dependencies: u32,
    /// When it may be tried again.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) not_before: Option<Timestamp>,
    /// Its run that is alive.
    #[schema(value_type = Option<String>)]
    pub(crate) current_run: Option<RunId>,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) cancel_requested_at: Option<Timestamp>,
    /// The commit that holds the result.
    pub(crate) commit: Option<String>,
    /// The branch the commit is on.
    pub(crate) branch: Option<String>,
    #[schema(value_type = String, format = DateTime)]
    pub(crate) created_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    pub(crate) updated_at: Timestamp,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) finished_at: Option<Timestamp>,
}

/// A task with what is known around it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TaskDetail {
    #[serde(flatten)]
    pub(crate) task: TaskView,
    /// Why it waits; absent for a task that is worked on or is over.
    pub(crate) waiting: Option<WaitingView>,
    pub(crate) retry: RetryView,
    /// Its runs, newest first.
    pub(crate) runs: Vec<RunView>,
}

/// Whether and when a task is tried again, by the table that the dispatcher goes by.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RetryView {
    /// Whether another attempt follows without anybody doing something; for a task that runs: whether one would.
    pub(crate) auto_retry: bool,
    /// Why, for people.
    pub(crate) reason: String,
    /// When the next attempt may begin, where that is known.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) retry_at: Option<Timestamp>,
    /// The same in seconds from now, never negative.
    pub(crate) retry_in_s: Option<f64>,
    pub(crate) attempts: u32,
    pub(crate) max_attempts: u32,
    pub(crate) attempts_left: u32,
    /// How often somebody asked for it once more; `max_attempts` grows with that.
    pub(crate) retries: u32,
    /// What the agent of the next run is told about the last one.
    pub(crate) feedback: Option<String>,
    /// Whether the agent of the next run goes on with its last session.
    pub(crate) continue_session: bool,
    /// Whose matter the last run's outcome is.
    #[schema(schema_with = crate::schema::optional_outcome_class)]
    pub(crate) class: Option<OutcomeClass>,
    /// What came of the last run that is over.
    #[schema(schema_with = crate::schema::optional_run_outcome)]
    pub(crate) last_outcome: Option<RunOutcome>,
    /// When the task itself may go on; its executor may have to wait for longer.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) not_before: Option<Timestamp>,
}

/// What a task waits for.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WaitingView {
    /// `dependency`, `area`, `cooldown`, `blocked`, `spend_cap`, `sandbox_not_ready`, `paused`, `no_dispatcher`, `no_agent`,
    /// `capacity`, `turn`; and where the executor as a whole waits: `quota`, `login`, `provider`, `launch`,
    /// `self_test`.
    #[schema(examples("dependency"))]
    pub(crate) kind: &'static str,
    /// For people.
    pub(crate) message: String,
    /// The tasks it waits for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false, value_type = Vec<String>)]
    pub(crate) tasks: Vec<TaskId>,
    /// When it goes on by itself; for an executor that waits: when one run is let through to try.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) until: Option<Timestamp>,
    /// Since when.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) since: Option<Timestamp>,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) hint: Option<String>,
}

/// Where a task's repository is.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RepositoryView {
    /// `local` or `git`.
    pub(crate) mode: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) url: Option<String>,
}

/// A page of tasks, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TaskPage {
    /// Without `goal`, `context` and `verification`.
    pub(crate) items: Vec<TaskSummary>,
    /// Where the next page begins; absent on the last one.
    pub(crate) next_cursor: Option<String>,
}

/// Tasks that were made together, in the order of the request.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TaskBatch {
    pub(crate) items: Vec<TaskView>,
}

/// What became of a request to cancel.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CancelView {
    #[schema(schema_with = crate::schema::task_id)]
    pub(crate) id: TaskId,
    /// `cancelled`, or `cancel_requested` where a run is alive and will be stopped.
    #[schema(examples("cancelled"))]
    pub(crate) result: &'static str,
}

impl From<Repository> for RepositoryView {
    fn from(repository: Repository) -> Self {
        match repository {
            Repository::Local { path } => Self { mode: "local", path: Some(path), url: None },
            Repository::Git { url } => Self { mode: "git", path: None, url: Some(url) },
        }
    }
}

impl From<Task> for TaskView {
    fn from(mut task: Task) -> Self {
        Self {
            goal: mem::take(&mut task.new.goal),
            context: task.new.context.take(),
            verification: mem::take(&mut task.new.verification),
            summary: task.into(),
        }
    }
}

impl From<Task> for TaskSummary {
    fn from(task: Task) -> Self {
        let status = task.state.status();
        let block_reason = match task.state {
            TaskState::Blocked { reason } => Some(reason),
            TaskState::Queued
            | TaskState::Running
            | TaskState::Done
            | TaskState::Failed
            | TaskState::Cancelled => None,
        };
        Self {
            id: task.new.id,
            title: task.new.title,
            role: task.new.role,
            priority: task.new.priority,
            risk: task.new.risk,
            dependencies: task.new.dependencies,
            target_area: task.new.target_area,
            repository: task.new.repository.into(),
            base_branch: task.new.base_branch,
            timebox_s: task.new.timebox.map(|timebox| timebox.as_secs_f64()),
            executor: task.new.executor,
            model: task.new.model,
            max_attempts: task.new.max_attempts,
            token_limit: task.new.token_limit,
            cost_limit_usd: task.new.cost_limit_microusd.map(usd),
            created_by: task.new.created_by,
            status,
            block_reason,
            reason: task.reason,
            attempts: task.attempts,
            pending_dependencies: task.pending_dependencies,
            not_before: task.not_before,
            current_run: task.current_run,
            cancel_requested_at: task.cancel_requested_at,
            commit: task.commit,
            branch: task.branch,
            created_at: task.created_at,
            updated_at: task.updated_at,
            finished_at: task.finished_at,
        }
    }
}

impl TaskDetail {
    /// A task whose runs are given newest first.
    pub(crate) fn new(task: Task, waiting: Option<WaitingView>, runs: Vec<Run>) -> Self {
        let last = runs.iter().find(|run| run.status == RunStatus::Ended).and_then(Run::outcome);
        let retry = RetryView::of(&task, last, waiting.as_ref());
        let runs = runs.into_iter().map(RunView::from).collect();
        Self { task: task.into(), waiting, retry, runs }
    }
}

impl RetryView {
    fn of(task: &Task, last: Option<RunOutcome>, waiting: Option<&WaitingView>) -> Self {
        let attempts = task.attempts;
        let max_attempts = task.new.max_attempts.saturating_add(task.attempts_before);
        let Outlook { auto_retry, reason } = match task.cancel_requested_at {
            Some(_) if task.state == TaskState::Running => Outlook::cancelling(),
            _ => outlook(task.state, attempts, max_attempts, last),
        };
        let retry_at = waiting.and_then(|waiting| waiting.until).max(task.not_before);
        let left = |at: Timestamp| at.duration_since(Timestamp::now()).as_secs_f64().max(0.0);
        Self {
            auto_retry,
            reason,
            retry_at,
            retry_in_s: retry_at.map(left),
            attempts,
            max_attempts,
            attempts_left: max_attempts.saturating_sub(attempts),
            retries: task.retries,
            feedback: task.feedback.clone(),
            continue_session: task.continue_session,
            class: last.map(|last| last.rule().class),
            last_outcome: last,
            not_before: task.not_before,
        }
    }
}

impl From<Waiting> for WaitingView {
    fn from(waiting: Waiting) -> Self {
        match waiting {
            Waiting::Dependency { tasks } => Self {
                tasks: tasks.clone(),
                ..Self::plain("dependency", format!("waits for {} other tasks", tasks.len()))
            },
            Waiting::Area { area, held_by } => Self {
                tasks: vec![held_by],
                ..Self::plain("area", format!("another task holds the area `{area}`"))
            },
            Waiting::Cooldown { until } => Self {
                until: Some(until),
                ..Self::plain("cooldown", "its last attempt left it to be tried later".to_owned())
            },
            Waiting::Quota { until } => Self {
                until: Some(until),
                ..Self::plain("quota", "the provider's limit is reached".to_owned())
            },
            Waiting::Gate { executor, provider, shut, until } => Self {
                until,
                since: Some(shut.since),
                hint: shut.hint.clone(),
                ..Self::plain(
                    gate_kind(shut.cause),
                    gate_message(executor, &provider, &shut, until),
                )
            },
            Waiting::SelfTest { executor, found } => {
                let LastTest { report, tested_at, retry_at, .. } = found;
                let why = report.text().unwrap_or_default();
                Self {
                    until: retry_at,
                    since: Some(tested_at),
                    hint: report.hint().map(ToOwned::to_owned),
                    ..Self::plain(
                        "self_test",
                        format!(
                            "`{executor}` does not work in a sandbox, says the self-test: {why}"
                        ),
                    )
                }
            }
            Waiting::SpendCap(DayIsSpent { message, until }) => {
                Self { until: Some(until), ..Self::plain("spend_cap", message) }
            }
            Waiting::Blocked { reason } => {
                Self::plain("blocked", format!("it is blocked: {reason}"))
            }
            Waiting::NoAgent { role } => {
                Self::plain("no_agent", format!("no agent of the role `{role}` is alive"))
            }
            Waiting::Capacity { role, agents } => Self::plain(
                "capacity",
                format!("all agents of the role `{role}` are busy ({agents})"),
            ),
            Waiting::Paused { reason } => {
                Self::plain("paused", format!("no dispatcher takes tasks: {reason}"))
            }
            Waiting::NoDispatcher => Self::plain("no_dispatcher", "no dispatcher runs".to_owned()),
            Waiting::NobodyCollects => Self::plain(
                "no_dispatcher",
                "its sandbox has ended, and no dispatcher runs that collects the result".to_owned(),
            ),
            Waiting::Turn => Self::plain(
                "turn",
                "it is taken next, as soon as the limit on running tasks allows".to_owned(),
            ),
        }
    }
}

impl WaitingView {
    const fn plain(kind: &'static str, message: String) -> Self {
        Self { kind, message, tasks: Vec::new(), until: None, since: None, hint: None }
    }

    /// What a task waits for under an environment that takes no tasks in this version is that environment.
    pub(crate) fn under(self, environment: ExecutionEnvironment) -> Self {
        match (environment, self.kind) {
            (ExecutionEnvironment::Sandbox, "paused") => Self { kind: "sandbox_not_ready", ..self },
            (ExecutionEnvironment::Host | ExecutionEnvironment::Sandbox, _) => self,
        }
    }
}

const fn gate_kind(cause: GateCause) -> &'static str {
    match cause {
        GateCause::Quota => "quota",
        GateCause::Login => "login",
        GateCause::Overload => "provider",
        GateCause::Launch => "launch",
    }
}

fn gate_message(
    executor: ExecutorKind,
    provider: &Provider,
    shut: &Shut,
    until: Option<Timestamp>,
) -> String {
    let models = provider.name().map(|name| format!(" for models of `{name}`"));
    let models = models.unwrap_or_default();
    let said = shut.message.as_deref().unwrap_or_else(|| shut.cause.text());
    match until {
        Some(_) => format!("`{executor}` takes no tasks{models}: {said}"),
        None => format!("`{executor}` takes no tasks{models}, and one is being tried: {said}"),
    }
}
