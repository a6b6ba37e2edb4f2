//! `/tasks`: make, list, show, cancel, do once more.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    response::{IntoResponse as _, Response},
};
use core_types::ids::TaskId;
use http::{HeaderValue, StatusCode, header};
use store::tasks::{cancel::CancelResult, retry::RetryResult};

use crate::{
    access::caller::Caller,
    error::ApiError,
    extract::{JsonBody, PathId, QueryTexts},
    openapi::{AboutBody, AboutId, AboutQuery, Always},
    requests::{
        batch::BatchRequest,
        filters::{TasksQuery, next_task_cursor},
        new_task::NewTaskRequest,
        retry::RetryRequest,
    },
    routes::creation::{Made, Naming, make},
    state::ApiState,
    views::{
        counts::TaskSummaryView,
        run::{RunView, TaskRuns},
        task::{CancelView, TaskBatch, TaskDetail, TaskPage, TaskSummary, TaskView, WaitingView},
    },
};

/// Why a cancelled task is said to be cancelled.
const CANCEL_REASON: &str = "cancelled through the API";

/// Makes a task.
///
/// With an `id` of its own the request may be repeated: the same content gives the task that is there already.
#[utoipa::path(
    post, path = "/tasks", tag = "tasks", operation_id = "createTask", request_body = NewTaskRequest,
    responses(
        (status = 201, description = "The task was made.", body = TaskView,
            headers(("Location" = String, description = "Where the task is."))),
        (status = 200, description = "The task is there already, with the same content.", body = TaskView,
            headers(("Location" = String, description = "Where the task is."))),
        (status = 409, description = "The id belongs to a task with another content.", body = crate::error::ErrorBody),
        AboutBody, Always,
    )
)]
pub(crate) async fn create(
    State(state): State<ApiState>,
    caller: Caller,
    JsonBody(request): JsonBody<NewTaskRequest>,
) -> Result<Response, ApiError> {
    let making = make(state.clone(), caller, vec![request], Naming::Single);
    let Made { tasks, fresh } = state.to_the_end(making).await?;
    let task = tasks.into_iter().next().ok_or_else(ApiError::internal)?;
    let location = HeaderValue::from_str(&format!("/tasks/{}", task.new.id));
    let location = location.map_err(|_| ApiError::internal())?;
    let headers = [(header::LOCATION, location)];
    Ok((made_status(fresh), headers, Json(TaskView::from(task))).into_response())
}

/// Makes tasks, all of them or none.
#[utoipa::path(
    post, path = "/tasks/batch", tag = "tasks", operation_id = "createTasks", request_body = BatchRequest,
    responses(
        (status = 201, description = "The tasks were made, in the order of the request.", body = TaskBatch),
        (status = 200, description = "All of them are there already, with the same content.", body = TaskBatch),
        (status = 409, description = "An id belongs to a task with another content.", body = crate::error::ErrorBody),
        AboutBody, Always,
    )
)]
pub(crate) async fn create_batch(
    State(state): State<ApiState>,
    caller: Caller,
    JsonBody(request): JsonBody<BatchRequest>,
) -> Result<(StatusCode, Json<TaskBatch>), ApiError> {
    let making = make(state.clone(), caller, request.tasks, Naming::Batch);
    let Made { tasks, fresh } = state.to_the_end(making).await?;
    let items = tasks.into_iter().map(TaskView::from).collect();
    Ok((made_status(fresh), Json(TaskBatch { items })))
}

const fn made_status(fresh: bool) -> StatusCode {
    if fresh { StatusCode::CREATED } else { StatusCode::OK }
}

/// Lists tasks without their long fields `goal`, `context` and `verification`.
///
/// All filters hold together. Where no index serves them, a page looks at 20000 tasks at most: it may then be short or
/// empty although `next_cursor` is there, and the next page goes on.
#[utoipa::path(
    get, path = "/tasks", tag = "tasks", operation_id = "listTasks", params(TasksQuery),
    responses((status = 200, description = "A page of tasks.", body = TaskPage), AboutQuery, Always)
)]
pub(crate) async fn list(
    State(state): State<ApiState>,
    QueryTexts(query): QueryTexts<TasksQuery>,
) -> Result<Json<TaskPage>, ApiError> {
    let filter = query.filter()?;
    let page = state.store.list_tasks(&filter).await?;
    Ok(Json(TaskPage {
        items: page.items.into_iter().map(TaskSummary::from).collect(),
        next_cursor: next_task_cursor(filter, page.next_cursor),
    }))
}

/// Counts the tasks by status and role, and shows for how long the oldest queued one has been there.
#[utoipa::path(
    get, path = "/tasks/summary", tag = "tasks", operation_id = "countTasks",
    responses((status = 200, description = "How many there are.", body = TaskSummaryView), Always)
)]
pub(crate) async fn summary(
    State(state): State<ApiState>,
) -> Result<Json<TaskSummaryView>, ApiError> {
    Ok(Json(state.store.count_tasks().await?.into()))
}

/// Shows a task, its runs, and why it waits.
#[utoipa::path(
    get, path = "/tasks/{id}", tag = "tasks", operation_id = "showTask", params(("id" = String, Path, description = "The task.")),
    responses((status = 200, description = "The task.", body = TaskDetail), AboutId, Always)
)]
pub(crate) async fn show(
    State(state): State<ApiState>,
    PathId(id): PathId<TaskId>,
) -> Result<Json<TaskDetail>, ApiError> {
    Ok(Json(detail(&state, id).await?))
}

/// A task, its runs, and why it waits.
pub(crate) async fn detail(state: &ApiState, id: TaskId) -> Result<TaskDetail, ApiError> {
    let task = state.store.task(id).await?.ok_or_else(|| ApiError::not_found("task"))?;
    let runs = state.store.runs_of_task(id).await?;
    let loaded = Arc::clone(&state.settings.borrow());
    let (limits, environment) =
        (loaded.settings.spend_limits(), loaded.settings.execution_environment);
    let default_provider = loaded.settings.default_provider();
    let waiting = state.store.why_waiting(id, &limits, environment, &default_provider).await?;
    let waiting = waiting.map(|waiting| WaitingView::from(waiting).under(environment));
    Ok(TaskDetail::new(task, waiting, runs))
}

/// Calls a task off. A run that is alive is stopped within the grace.
#[utoipa::path(
    post, path = "/tasks/{id}/cancel", tag = "tasks", operation_id = "cancelTask", params(("id" = String, Path, description = "The task.")),
    responses(
        (status = 200, description = "The task is cancelled.", body = CancelView),
        (status = 202, description = "A run is alive and will be stopped.", body = CancelView),
        (status = 409, description = "The task is over already.", body = crate::error::ErrorBody),
        AboutId, Always,
    )
)]
pub(crate) async fn cancel(
    State(state): State<ApiState>,
    PathId(id): PathId<TaskId>,
) -> Result<(StatusCode, Json<CancelView>), ApiError> {
    let (status, result) = match call_off(&state, id).await? {
        CalledOff::Now => (StatusCode::OK, "cancelled"),
        CalledOff::Soon => (StatusCode::ACCEPTED, "cancel_requested"),
    };
    Ok((status, Json(CancelView { id, result })))
}

/// What became of calling a task off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CalledOff {
    /// It is cancelled.
    Now,
    /// A run is alive and will be stopped.
    Soon,
}

/// Calls a task off.
pub(crate) async fn call_off(state: &ApiState, id: TaskId) -> Result<CalledOff, ApiError> {
    let store = state.store.clone();
    let cancelling = async move { Ok(store.cancel_task(id, CANCEL_REASON).await?) };
    match state.to_the_end(cancelling).await? {
        CancelResult::Cancelled => Ok(CalledOff::Now),
        CancelResult::Requested => Ok(CalledOff::Soon),
        CancelResult::AlreadyFinal(status) => {
            let text = format!("the task is {status} already");
            Err(ApiError::new(StatusCode::CONFLICT, "already_final", text))
        }
        CancelResult::NotFound => Err(ApiError::not_found("task")),
    }
}

/// Lists the runs of a task, newest first.
#[utoipa::path(
    get, path = "/tasks/{id}/runs", tag = "tasks", operation_id = "listRunsOfTask", params(("id" = String, Path, description = "The task.")),
    responses((status = 200, description = "Its runs.", body = TaskRuns), AboutId, Always)
)]
pub(crate) async fn runs(
    State(state): State<ApiState>,
    PathId(id): PathId<TaskId>,
) -> Result<Json<TaskRuns>, ApiError> {
    let runs = state.store.runs_of_task(id).await?;
    if runs.is_empty() && state.store.task(id).await?.is_none() {
        return Err(ApiError::not_found("task"));
    }
    Ok(Json(TaskRuns { items: runs.into_iter().map(RunView::from).collect() }))
}

/// Does a task once more, whatever became of it: with a fresh budget of attempts, and with everything that waited for it
/// in vain waiting again.
///
/// A task that is queued stays so, and goes on at once if it cools down. One that depends on a task which will not be
/// done has to wait until that one is done once more.
#[utoipa::path(
    post, path = "/tasks/{id}/retry", tag = "tasks", operation_id = "retryTask", request_body = RetryRequest,
    params(("id" = String, Path, description = "The task.")),
    responses(
        (status = 200, description = "The task is queued.", body = TaskView),
        (status = 409, description = "A run of it is alive, or a task it depends on will not be done.", body = crate::error::ErrorBody),
        AboutId, AboutBody, Always,
    )
)]
pub(crate) async fn retry(
    State(state): State<ApiState>,
    PathId(id): PathId<TaskId>,
    JsonBody(request): JsonBody<RetryRequest>,
) -> Result<Json<TaskView>, ApiError> {
    once_more(&state, id, request).await?;
    let task = state.store.task(id).await?.ok_or_else(|| ApiError::not_found("task"))?;
    Ok(Json(task.into()))
}

/// Queues a task once more.
pub(crate) async fn once_more(
    state: &ApiState,
    id: TaskId,
    request: RetryRequest,
) -> Result<(), ApiError> {
    let retry = request.check()?;
    let store = state.store.clone();
    let retrying = async move { Ok(store.retry_task(id, &retry).await?) };
    match state.to_the_end(retrying).await? {
        RetryResult::Queued => Ok(()),
        RetryResult::Running => {
            let text = "a run of this task is alive; cancel it first, or wait for its end";
            Err(ApiError::new(StatusCode::CONFLICT, "running", text))
        }
        RetryResult::Hopeless(parent) => {
            let text =
                format!("it depends on `{parent}`, which will not be done; retry that one first");
            Err(ApiError::new(StatusCode::CONFLICT, "dependency_hopeless", text))
        }
        RetryResult::NotFound => Err(ApiError::not_found("task")),
    }
}
