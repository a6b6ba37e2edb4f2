//! Making tasks from requests: checks that need the database or the host, then one transaction.

use std::collections::HashSet;

use checkout::{error::CheckoutError, url::UrlRules};
use core_config::fault::Fault;
use core_types::{ids::TaskId, repository::Repository};
use http::StatusCode;
use store::tasks::{
    NewTask, Task,
    create::{CreateTasksError, CreatedTasks},
};

use crate::{
    access::caller::Caller,
    error::{ApiError, FieldFault, repository_error},
    repositories::Question,
    requests::{
        batch,
        new_task::{NewTaskRequest, TaskDefaults},
    },
    state::ApiState,
};

/// How a fault names the task of the request it is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Naming {
    /// The request is the task.
    Single,
    /// The task is an item of `tasks`.
    Batch,
}

/// What became of a request for tasks.
#[derive(Debug)]
pub(crate) struct Made {
    /// The tasks, in the order of the request.
    pub(crate) tasks: Vec<Task>,
    /// Whether this request made any of them.
    pub(crate) fresh: bool,
}

/// Makes tasks in one transaction, or says what is wrong with any of them.
pub(crate) async fn make(
    state: ApiState,
    caller: Caller,
    requests: Vec<NewTaskRequest>,
    naming: Naming,
) -> Result<Made, ApiError> {
    check_count(&requests, naming)?;
    let existing = existing(&state, &requests).await?;
    let tasks = check_all(&state, &caller, requests, &existing, naming)?;
    check_repositories(&state, &tasks, &existing, naming).await?;
    let dependencies: Vec<Vec<TaskId>> =
        tasks.iter().map(|task| task.dependencies.clone()).collect();
    let CreatedTasks { tasks, made } = state
        .store
        .create_or_find_tasks(tasks)
        .await
        .map_err(|error| refused(error, &dependencies, naming))?;
    for task in tasks.iter().filter(|task| made.contains(&task.new.id)) {
        tracing::info!(task.id = %task.new.id, task.role = %task.new.role, "task made");
    }
    Ok(Made { fresh: !made.is_empty(), tasks })
}

impl Naming {
    fn field(self, index: usize, field: &str) -> String {
        match self {
            Self::Single => field.to_owned(),
            Self::Batch => format!("tasks[{index}].{field}"),
        }
    }

    fn fault(self, index: usize, fault: FieldFault) -> FieldFault {
        match self {
            Self::Single => fault,
            Self::Batch => fault.within(&format!("tasks[{index}]")),
        }
    }
}

fn check_count(requests: &[NewTaskRequest], naming: Naming) -> Result<(), ApiError> {
    let count = requests.len();
    if !(1..=batch::TASKS).contains(&count) {
        let allowed = format!("1 to {} tasks", batch::TASKS);
        let fault = FieldFault::new("tasks", format!("has {count} items"), allowed);
        return Err(ApiError::fields(vec![fault]));
    }
    let mut seen = HashSet::new();
    let twice = |(index, request): (usize, &NewTaskRequest)| {
        let again = request.id.is_some_and(|id| !seen.insert(id));
        again.then(|| {
            let allowed = "an id that no other task of the request has";
            FieldFault::new(naming.field(index, "id"), "is there twice", allowed)
        })
    };
    let faults: Vec<FieldFault> = requests.iter().enumerate().filter_map(twice).collect();
    if faults.is_empty() { Ok(()) } else { Err(ApiError::fields(faults)) }
}

/// The tasks that are there already under ids of the request.
async fn existing(
    state: &ApiState,
    requests: &[NewTaskRequest],
) -> Result<Vec<Option<Task>>, ApiError> {
    let mut existing = Vec::with_capacity(requests.len());
    for request in requests {
        existing.push(match request.id {
            Some(id) => state.store.task(id).await?,
            None => None,
        });
    }
    Ok(existing)
}

fn check_all(
    state: &ApiState,
    caller: &Caller,
    requests: Vec<NewTaskRequest>,
    existing: &[Option<Task>],
    naming: Naming,
) -> Result<Vec<NewTask>, ApiError> {
    let loaded = state.settings();
    let settings = &loaded.settings;
    let urls = UrlRules { http_loopback: settings.git_allow_http_loopback };
    let mut tasks = Vec::with_capacity(requests.len());
    let mut faults = Vec::new();
    for (index, (request, existing)) in requests.into_iter().zip(existing).enumerate() {
        if existing.is_none() {
            loaded.known(request.left_to_settings()).map_err(unknown_default)?;
        }
        // A repeated request means the same task, though the settings may have changed since.
        let defaults = existing.as_ref().map_or(
            TaskDefaults {
                executor: settings.llm_executor,
                max_attempts: settings.task_max_attempts,
                created_by: caller.who(),
                urls,
            },
            |task| TaskDefaults {
                executor: task.new.executor,
                max_attempts: task.new.max_attempts,
                created_by: task.new.created_by.clone(),
                urls,
            },
        );
        match request.checked(&defaults) {
            Ok(task) => tasks.push(task),
            Err(found) => {
                faults.extend(found.into_iter().map(|fault| naming.fault(index, fault)));
            }
        }
    }
    if faults.is_empty() { Ok(tasks) } else { Err(ApiError::fields(faults)) }
}

/// Looks at the repository of each task that is not there already.
async fn check_repositories(
    state: &ApiState,
    tasks: &[NewTask],
    existing: &[Option<Task>],
    naming: Naming,
) -> Result<(), ApiError> {
    let loaded = state.settings();
    for (index, (task, existing)) in tasks.iter().zip(existing).enumerate() {
        let (Repository::Local { path }, None) = (&task.repository, existing) else {
            continue;
        };
        let roots = loaded.local_repo_roots().map_err(unknown_limit)?.to_vec();
        let of_settings = loaded.settings.base_branch.clone();
        let branch = task.base_branch.clone().or(of_settings);
        let question = Question { path: path.clone(), branch, roots };
        let answer = state.repositories.check(question).await?;
        answer.map_err(|error| unusable(&error, index, task.base_branch.is_some(), naming))?;
    }
    Ok(())
}

/// While nobody knows which repositories are allowed, none is.
pub(crate) fn unknown_limit(fault: &Fault) -> ApiError {
    let text = format!("no repository is looked at while a setting is faulty: {fault}");
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "setting_unusable", text)
}

/// A task is written down with the values that hold for it, so these must be somebody's.
fn unknown_default(fault: &Fault) -> ApiError {
    let text = format!(
        "the request leaves something to a setting that cannot be used: {fault}; say it in the request, or mend the setting"
    );
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "setting_unusable", text)
}

fn unusable(
    error: &CheckoutError,
    index: usize,
    branch_was_sent: bool,
    naming: Naming,
) -> ApiError {
    let at_branch =
        matches!(error, CheckoutError::BranchMissing { .. } | CheckoutError::BranchInvalid(_));
    if at_branch && !branch_was_sent {
        let what =
            format!("is left out, and `BASE_BRANCH` of the settings cannot be used: {error}");
        let allowed = "a branch of this repository, here or in the setting";
        let fault = FieldFault::new(naming.field(index, "base_branch"), what, allowed);
        return ApiError::fields(vec![fault]);
    }
    let field = if at_branch { "base_branch" } else { "repository.path" };
    repository_error(error, naming.field(index, field), "a git repository on this host")
}

/// What the database's refusal means for the fields of the request.
fn refused(error: CreateTasksError, dependencies: &[Vec<TaskId>], naming: Naming) -> ApiError {
    let dependency = |index: usize, id: Option<TaskId>| {
        let place =
            dependencies.get(index).and_then(|ids| ids.iter().position(|other| Some(*other) == id));
        let field =
            place.map_or_else(|| "dependencies".to_owned(), |at| format!("dependencies[{at}]"));
        naming.field(index, &field)
    };
    let unprocessable = |code, field: String, what: String, allowed: &str| {
        let details = vec![FieldFault::new(field, what, allowed)];
        ApiError::with_fields(StatusCode::UNPROCESSABLE_ENTITY, code, details)
    };
    match error {
        CreateTasksError::Store(error) => ApiError::maybe_made(error),
        CreateTasksError::Invalid { index, field, problem } => unprocessable(
            "invalid_fields",
            naming.field(index, field),
            problem.to_owned(),
            "see `GET /openapi.json`",
        ),
        CreateTasksError::DependencyMissing { index, missing } => unprocessable(
            "dependency_missing",
            dependency(index, Some(missing)),
            format!("is `{missing}`, which does not exist"),
            "ids of tasks that exist or are in the same request",
        ),
        CreateTasksError::DependencyOnItself { index } => unprocessable(
            "dependency_on_itself",
            dependency(index, None),
            "names the task itself".to_owned(),
            "ids of other tasks",
        ),
        CreateTasksError::DependencyCycle { index, path } => {
            let names: Vec<String> =
                path.iter().chain(path.first()).map(ToString::to_string).collect();
            let next = path.get(1).or_else(|| path.first()).copied();
            let what = format!("closes a circle: {}", names.join(" → "));
            unprocessable(
                "dependency_cycle",
                dependency(index, next),
                what,
                "tasks that do not depend on this one",
            )
        }
        CreateTasksError::DependencyFailed { index, dependency: id, status } => unprocessable(
            "dependency_failed",
            dependency(index, Some(id)),
            format!("is `{id}`, which is {status} and will not be done"),
            "tasks that are done or may still be",
        ),
        CreateTasksError::IdTaken { index } => {
            let allowed = "an id that is not in use; leave it out to have one made";
            let fault = FieldFault::new(
                naming.field(index, "id"),
                "belongs to a task with another content",
                allowed,
            );
            ApiError::with_fields(StatusCode::CONFLICT, "id_taken", vec![fault])
        }
    }
}
