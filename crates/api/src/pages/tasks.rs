//! The list and the board of tasks.

use askama::Template;
use axum::{
    extract::State,
    response::{IntoResponse as _, Response},
};
use core_types::{
    auth::Language,
    task::{ExecutorKind, Role, TaskStatus},
};
use jiff::Timestamp;
use store::tasks::{Task, list::TaskFilter};

use crate::{
    error::ApiError,
    pages::{
        form::{Fields, PageQuery, encoded},
        frame::{Frame, Html},
        shown::{Markup, ago, tone},
        texts::{Shared, tasks::TaskTexts},
    },
    requests::filters::{TasksQuery, next_task_cursor},
    state::ApiState,
    views::task::TaskSummary,
};

/// How many tasks a column of the board shows.
const COLUMN: u32 = 20;
/// The filters of the list that its address carries.
const FILTERS: [&str; 6] = ["q", "status", "role", "executor", "target_area", "repository"];

/// A task in a list.
#[derive(Debug)]
pub(crate) struct TaskRow {
    pub(crate) id: String,
    pub(crate) title: String,
    pub(crate) tone: &'static str,
    pub(crate) status: &'static str,
    pub(crate) role: &'static str,
    pub(crate) executor: &'static str,
    pub(crate) area: Option<String>,
    /// The last part of the repository's path or address.
    pub(crate) repository: String,
    pub(crate) made: Markup,
    pub(crate) changed: Markup,
    pub(crate) attempts: u32,
    pub(crate) reason: Option<String>,
}

impl TaskRow {
    pub(crate) fn new(task: Task, language: Language) -> Self {
        let task = TaskSummary::from(task);
        let (t, now) = (Shared::of(language), Timestamp::now());
        let place = task.repository.path.or(task.repository.url).unwrap_or_default();
        let name = place.trim_end_matches('/').rsplit(['/', ':']).next().unwrap_or_default();
        Self {
            id: task.id.to_string(),
            title: task.title,
            tone: tone(task.status),
            status: t.status(task.status),
            role: t.role(task.role),
            executor: task.executor.as_str(),
            area: task.target_area,
            repository: name.to_owned(),
            made: ago(task.created_at, now, language),
            changed: ago(task.updated_at, now, language),
            attempts: task.attempts,
            reason: task.reason,
        }
    }
}

/// A choice of a filter.
#[derive(Debug)]
pub(crate) struct Choice {
    pub(crate) value: &'static str,
    pub(crate) text: &'static str,
    pub(crate) chosen: bool,
}

/// The list.
#[derive(Debug, Template)]
#[template(path = "tasks.html")]
struct List {
    frame: Frame,
    t: &'static TaskTexts,
    given: Fields,
    statuses: Vec<Choice>,
    roles: Vec<Choice>,
    executors: Vec<Choice>,
    filtered: bool,
    rows: Vec<TaskRow>,
    /// The query of the next page.
    older: Option<String>,
    /// Whether this is not the first page.
    further: bool,
}

/// One state's tasks on the board.
#[derive(Debug)]
struct Column {
    status: &'static str,
    word: &'static str,
    tone: &'static str,
    count: String,
    rows: Vec<TaskRow>,
    more: bool,
}

/// The board.
#[derive(Debug, Template)]
#[template(path = "board.html")]
struct Board {
    frame: Frame,
    t: &'static TaskTexts,
    columns: Vec<Column>,
}

/// Shows tasks, as a list or as a board.
pub(crate) async fn list(
    State(state): State<ApiState>,
    frame: Frame,
    PageQuery(query): PageQuery,
) -> Result<Response, ApiError> {
    if query.text("view") == "board" {
        return board(&state, frame).await;
    }
    let filter = asked(&query).filter()?;
    let page = state.store.list_tasks(&filter).await?;
    let kept = kept(&query);
    let older = next_task_cursor(filter, page.next_cursor)
        .map(|cursor| format!("{kept}cursor={}", encoded(&cursor)));
    let language = frame.language;
    let rows = page.items.into_iter().map(|task| TaskRow::new(task, language)).collect();
    let page = List {
        t: TaskTexts::of(language),
        statuses: choices(TaskStatus::ALL, query.text("status"), |one| {
            (one.as_str(), frame.t.status(one))
        }),
        roles: choices(Role::ALL, query.text("role"), |one| (one.as_str(), frame.t.role(one))),
        executors: choices(ExecutorKind::ALL, query.text("executor"), |one| {
            (one.as_str(), one.as_str())
        }),
        filtered: !kept.is_empty(),
        rows,
        older,
        further: query.filled("cursor").is_some(),
        given: query,
        frame,
    };
    Ok(Html(page).into_response())
}

/// The query of the API that a page's query means; what is left empty is left out.
fn asked(query: &Fields) -> TasksQuery {
    let text = |field: &str| query.filled(field).map(ToOwned::to_owned);
    TasksQuery {
        status: text("status"),
        role: text("role"),
        executor: text("executor"),
        target_area: text("target_area"),
        repository: text("repository"),
        q: text("q"),
        cursor: text("cursor"),
        ..TasksQuery::default()
    }
}

/// The filters of a query, as the beginning of another one.
fn kept(query: &Fields) -> String {
    let pair = |name: &&str| Some(format!("{name}={}&", encoded(query.filled(name)?)));
    FILTERS.iter().filter_map(pair).collect()
}

pub(crate) fn choices<T: Copy>(
    all: &[T],
    chosen: &str,
    of: impl Fn(T) -> (&'static str, &'static str),
) -> Vec<Choice> {
    let choice = |one: &T| {
        let (value, text) = of(*one);
        Choice { value, text, chosen: value == chosen }
    };
    all.iter().map(choice).collect()
}

async fn board(state: &ApiState, frame: Frame) -> Result<Response, ApiError> {
    let counts = state.store.count_tasks().await?.counts;
    let mut columns = Vec::new();
    for status in TaskStatus::ALL {
        let filter = TaskFilter { statuses: vec![*status], limit: COLUMN, ..TaskFilter::default() };
        let page = state.store.list_tasks(&filter).await?;
        let of_status = counts.iter().filter(|(_, counted, _)| counted == status);
        let count: u64 = of_status.map(|(_, _, count)| count).sum();
        columns.push(Column {
            status: status.as_str(),
            word: frame.t.status(*status),
            tone: tone(*status),
            count: super::shown::count(count),
            more: page.next_cursor.is_some(),
            rows: page.items.into_iter().map(|task| TaskRow::new(task, frame.language)).collect(),
        });
    }
    let t = TaskTexts::of(frame.language);
    Ok(Html(Board { frame, t, columns }).into_response())
}
