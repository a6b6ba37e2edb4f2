//! The System page: where agents run, what is ready, what the account has left, which processes there are.

use askama::Template;
use axum::{
    extract::State,
    response::{IntoResponse as _, Response},
};
use core_types::task::{ExecutionEnvironment, ExecutorKind};

use crate::{
    error::{ApiError, FieldFault},
    pages::{
        form::PageQuery,
        frame::{Frame, Html},
        gates::GateRow,
        process::ProcessRow,
        self_tests::TestRow,
        switching::Lock,
        tasks::{Choice, choices},
        texts::system::SystemTexts,
    },
    routes::{gates, processes, readiness as ready, self_tests},
    state::ApiState,
    views::readiness::FullReadinessView,
};

/// One environment to choose.
#[derive(Debug)]
struct Place {
    environment: ExecutionEnvironment,
    name: &'static str,
    means: &'static str,
    chosen: bool,
}

/// The System page.
#[derive(Debug, Template)]
#[template(path = "system.html")]
struct System {
    frame: Frame,
    t: &'static SystemTexts,
    places: Vec<Place>,
    lock: Option<Lock>,
    gates: Vec<GateRow>,
    tests: Vec<TestRow>,
    executors: Vec<Choice>,
    /// None where nobody manages processes.
    processes: Option<Vec<ProcessRow>>,
    faults: Vec<String>,
}

/// Shows the System page.
pub(crate) async fn show(
    State(state): State<ApiState>,
    frame: Frame,
) -> Result<Response, ApiError> {
    let t = SystemTexts::of(frame.language);
    let loaded = state.settings();
    let present = loaded.settings.execution_environment;
    let place = |environment: &ExecutionEnvironment| Place {
        environment: *environment,
        name: t.name(*environment),
        means: t.means(*environment),
        chosen: *environment == present,
    };
    let gates = gates::list(State(state.clone())).await?.0.items;
    let processes = match processes::list(State(state.clone())).await {
        Ok(list) => Some(list.0.items.into_iter().map(|one| ProcessRow::new(one, t)).collect()),
        Err(error) if error.code() == "no_manager" => None,
        Err(error) => return Err(error),
    };
    let tests = self_tests::list(State(state.clone())).await?.0.items;
    let used = loaded.settings.llm_executor;
    let page = System {
        t,
        tests: tests.into_iter().map(|test| TestRow::new(test, &frame)).collect(),
        executors: choices(ExecutorKind::ALL, used.as_str(), |one| (one.as_str(), one.as_str())),
        places: ExecutionEnvironment::ALL.iter().map(place).collect(),
        lock: Lock::look(&state).await?,
        gates: gates.into_iter().map(|gate| GateRow::new(gate, present, &frame)).collect(),
        processes,
        faults: loaded.database_faults.iter().flatten().map(ToString::to_string).collect(),
        frame,
    };
    Ok(Html(page).into_response())
}

/// A check as the page shows it.
#[derive(Debug)]
struct CheckRow {
    name: String,
    tone: &'static str,
    state: &'static str,
    cause: String,
    fix: Option<String>,
}

/// Whether tasks could run in an environment.
#[derive(Debug, Template)]
#[template(path = "readiness.html")]
struct Readiness {
    frame: Frame,
    t: &'static SystemTexts,
    environment: ExecutionEnvironment,
    ready: bool,
    checks: Vec<CheckRow>,
}

/// Looks whether tasks could run in an environment. It may take a while, so pages ask for it when they are shown.
pub(crate) async fn readiness(
    State(state): State<ApiState>,
    frame: Frame,
    PageQuery(query): PageQuery,
) -> Result<Response, ApiError> {
    let environment = match query.filled("environment") {
        Some(word) => environment_of(word)?,
        None => state.settings().settings.execution_environment,
    };
    let refresh = query.text("refresh") == "true";
    let FullReadinessView { ready, environment, checks } =
        ready::look(&state, environment, refresh).await;
    let t = SystemTexts::of(frame.language);
    let checks = checks.into_iter().map(|check| {
        let (tone, state) = t.check(check.state);
        CheckRow { name: check.name, tone, state, cause: check.cause, fix: check.fix }
    });
    let checks = checks.collect();
    Ok(Html(Readiness { frame, t, environment, ready, checks }).into_response())
}

/// The environment of this name.
pub(crate) fn environment_of(word: &str) -> Result<ExecutionEnvironment, ApiError> {
    word.parse().map_err(|_| {
        let allowed = ExecutionEnvironment::WORDS.join(", ");
        ApiError::parameters(vec![FieldFault::new("environment", "is not allowed", allowed)])
    })
}
