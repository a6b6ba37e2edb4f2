//! The list of runs, and runs as rows of other pages.

use std::collections::BTreeMap;

use askama::Template;
use axum::{
    extract::State,
    response::{IntoResponse as _, Response},
};
use core_types::{
    auth::Language,
    ids::TaskId,
    outcome::RunOutcome,
    task::{ExecutionEnvironment, ExecutorKind, RunStatus},
};
use store::runs::{Run, list::RunFilter};

use crate::{
    error::ApiError,
    pages::{
        form::{Fields, PageQuery, encoded},
        frame::{Frame, Html},
        run::RunRow,
        tasks::{Choice, choices},
        texts::{outcomes::RunWords, runs::RunListTexts},
    },
    requests::filters::{RunsQuery, next_run_cursor},
    state::ApiState,
    views::run::RunView,
};

/// The filters of the list that its address carries.
const FILTERS: [&str; 5] = ["status", "outcome", "executor", "agent", "task"];

/// A run in a list of runs of several tasks.
#[derive(Debug)]
pub(crate) struct ListedRun {
    pub(crate) run: RunRow,
    pub(crate) task: TaskId,
    /// What the task is called.
    pub(crate) title: String,
    pub(crate) environment: ExecutionEnvironment,
    pub(crate) host: String,
}

impl ListedRun {
    fn new(run: Run, titles: &BTreeMap<TaskId, String>, language: Language) -> Self {
        Self {
            task: run.task,
            title: titles.get(&run.task).cloned().unwrap_or_default(),
            environment: run.environment,
            host: run.host.as_ref().map(|host| host.as_str().to_owned()).unwrap_or_default(),
            run: RunRow::new(RunView::from(run), language),
        }
    }
}

/// Runs with the titles of their tasks, and the query of the next page.
pub(crate) async fn listed(
    state: &ApiState,
    filter: RunFilter,
    language: Language,
) -> Result<(Vec<ListedRun>, Option<String>), ApiError> {
    let page = state.store.list_runs(&filter).await?;
    let titles = state.store.titles_of(&page.items).await?;
    let rows = page.items.into_iter().map(|run| ListedRun::new(run, &titles, language)).collect();
    Ok((rows, next_run_cursor(filter, page.next_cursor)))
}

/// The list.
#[derive(Debug, Template)]
#[template(path = "runs.html")]
struct List {
    frame: Frame,
    t: &'static RunListTexts,
    given: Fields,
    statuses: Vec<Choice>,
    outcomes: Vec<Choice>,
    executors: Vec<Choice>,
    filtered: bool,
    rows: Vec<ListedRun>,
    /// The query of the next page.
    older: Option<String>,
    /// Whether this is not the first page.
    further: bool,
}

/// Shows runs.
pub(crate) async fn list(
    State(state): State<ApiState>,
    frame: Frame,
    PageQuery(query): PageQuery,
) -> Result<Response, ApiError> {
    let language = frame.language;
    let words = RunWords::of(language);
    let (rows, older) = listed(&state, asked(&query).filter()?, language).await?;
    let kept = kept(&query);
    let page = List {
        t: RunListTexts::of(language),
        statuses: choices(RunStatus::ALL, query.text("status"), |one| {
            (one.as_str(), words.status(one))
        }),
        outcomes: choices(RunOutcome::ALL, query.text("outcome"), |one| {
            (one.as_str(), words.outcome(one))
        }),
        executors: choices(ExecutorKind::ALL, query.text("executor"), |one| {
            (one.as_str(), one.as_str())
        }),
        filtered: !kept.is_empty(),
        rows,
        older: older.map(|cursor| format!("{kept}cursor={}", encoded(&cursor))),
        further: query.filled("cursor").is_some(),
        given: query,
        frame,
    };
    Ok(Html(page).into_response())
}

/// The query of the API that a page's query means; what is left empty is left out.
fn asked(query: &Fields) -> RunsQuery {
    let text = |field: &str| query.filled(field).map(ToOwned::to_owned);
    RunsQuery {
        task: text("task"),
        status: text("status"),
        outcome: text("outcome"),
        agent: text("agent"),
        executor: text("executor"),
        cursor: text("cursor"),
        ..RunsQuery::default()
    }
}

/// The filters of a query, as the beginning of another one.
fn kept(query: &Fields) -> String {
    let pair = |name: &&str| Some(format!("{name}={}&", encoded(query.filled(name)?)));
    FILTERS.iter().filter_map(pair).collect()
}
