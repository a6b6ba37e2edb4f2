//! A task's page: what it is, why it waits, its runs, the log of the one that is alive or was last; cancel and retry.

use askama::Template;
use axum::{
    extract::State,
    response::{IntoResponse as _, Redirect, Response},
};
use core_types::{
    ids::TaskId,
    task::{RunStatus, TaskStatus},
};
use jiff::Timestamp;

use crate::{
    error::ApiError,
    extract::PathId,
    pages::{
        form::PageForm,
        frame::{Frame, Html},
        run::{LogPart, RunRow},
        shown::{Markup, ago, count, dollars, span, tone},
        texts::tasks::DetailTexts,
    },
    requests::retry::RetryRequest,
    routes::tasks::{CalledOff, call_off, detail, once_more},
    state::ApiState,
    views::task::{TaskDetail, TaskSummary},
};

/// A task's page.
#[derive(Debug, Template)]
#[template(path = "task.html")]
struct TaskPage {
    frame: Frame,
    t: &'static DetailTexts,
    status: &'static str,
    tone: &'static str,
    waiting: Option<Waiting>,
    next: Option<String>,
    role: &'static str,
    risk: &'static str,
    place: String,
    limits: Vec<String>,
    context: Option<String>,
    commands: Vec<String>,
    attempts: u32,
    max_attempts: u32,
    made: Markup,
    finished: Option<Markup>,
    may_cancel: bool,
    may_retry: bool,
    runs: Vec<RunRow>,
    log: Option<LogPart>,
    task: TaskSummary,
    goal: String,
}

/// Why a task waits.
#[derive(Debug)]
struct Waiting {
    message: String,
    hint: Option<String>,
    since: Option<Markup>,
    until: Option<Markup>,
    tasks: Vec<TaskId>,
}

/// Shows a task.
pub(crate) async fn show(
    State(state): State<ApiState>,
    frame: Frame,
    PathId(id): PathId<TaskId>,
) -> Result<Response, ApiError> {
    let detail = detail(&state, id).await?;
    let last = detail.runs.first().map(|run| (run.id, run.status));
    let log = match last {
        Some((run, status)) => Some(LogPart::read(&state, run, status).await?),
        None => None,
    };
    Ok(Html(TaskPage::new(frame, detail, log)).into_response())
}

impl TaskPage {
    fn new(frame: Frame, detail: TaskDetail, log: Option<LogPart>) -> Self {
        let TaskDetail { task, waiting, retry, runs } = detail;
        let (language, now) = (frame.language, Timestamp::now());
        let when = |at: Timestamp| ago(at, now, language);
        let waiting = waiting.map(|waiting| Waiting {
            message: waiting.message,
            hint: waiting.hint,
            since: waiting.since.map(when),
            until: waiting.until.map(when),
            tasks: waiting.tasks,
        });
        let summary = task.summary;
        let status = summary.status;
        let is_over =
            matches!(status, TaskStatus::Done | TaskStatus::Failed | TaskStatus::Cancelled);
        let place = summary.repository.path.clone().or_else(|| summary.repository.url.clone());
        Self {
            t: DetailTexts::of(language),
            status: frame.t.status(status),
            tone: tone(status),
            waiting,
            next: Some(retry.reason).filter(|_| status != TaskStatus::Done),
            role: frame.t.role(summary.role),
            risk: frame.t.risk(summary.risk),
            place: place.unwrap_or_default(),
            limits: limits(&summary),
            context: task.context.map(|context| format!("{context:#}")),
            commands: task.verification.iter().map(shell_words::join).collect(),
            attempts: retry.attempts,
            max_attempts: retry.max_attempts,
            made: when(summary.created_at),
            finished: summary.finished_at.map(when),
            may_cancel: !is_over && summary.cancel_requested_at.is_none(),
            may_retry: status != TaskStatus::Running,
            runs: runs.into_iter().map(|run| RunRow::new(run, language)).collect(),
            log,
            goal: task.goal,
            task: summary,
            frame,
        }
    }
}

fn limits(task: &TaskSummary) -> Vec<String> {
    let parts = [
        task.timebox_s.map(span),
        task.token_limit.map(|tokens| format!("{} tokens", count(tokens))),
        task.cost_limit_usd.map(dollars),
    ];
    parts.into_iter().flatten().collect()
}

/// Calls a task off.
pub(crate) async fn cancel(
    State(state): State<ApiState>,
    PathId(id): PathId<TaskId>,
    _form: PageForm,
) -> Result<Redirect, ApiError> {
    let said = match call_off(&state, id).await? {
        CalledOff::Now => "cancelled",
        CalledOff::Soon => "cancel_requested",
    };
    Ok(Redirect::to(&format!("/ui/tasks/{id}?said={said}")))
}

/// Queues a task once more.
pub(crate) async fn retry(
    State(state): State<ApiState>,
    PathId(id): PathId<TaskId>,
    PageForm(form): PageForm,
) -> Result<Redirect, ApiError> {
    let feedback = form.filled("feedback").map(ToOwned::to_owned);
    let continue_session = form.text("continue_session") == "yes";
    once_more(&state, id, RetryRequest { feedback, continue_session }).await?;
    Ok(Redirect::to(&format!("/ui/tasks/{id}?said=retried")))
}

/// Whether a run may still write events.
pub(crate) fn is_alive(status: RunStatus) -> bool {
    status != RunStatus::Ended
}
