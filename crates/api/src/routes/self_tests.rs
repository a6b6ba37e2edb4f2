//! `/system/self-test`: whether agents' command lines work in sandboxes, found out without a model.

use std::time::Duration;

use axum::{Json, extract::State};
use core_types::{
    readiness::CheckState,
    task::{ExecutionEnvironment, ExecutorKind},
};
use http::StatusCode;
use store::{
    error::StoreError,
    self_tests::{SelfTest, SelfTestKey},
};
use tokio::time::{Instant, sleep};

use crate::{
    error::ApiError,
    extract::QueryTexts,
    openapi::{AboutQuery, Always},
    requests::self_test::SelfTestQuery,
    state::ApiState,
    views::{
        readiness::FullCheckView,
        self_test::{SelfTestList, SelfTestView},
    },
};

/// How long a request waits for what comes of it; a test takes a few seconds where nothing else runs.
const TEST_TIME: Duration = Duration::from_secs(25);
/// How often it looks.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Shows what the last self-tests found.
#[utoipa::path(
    get, path = "/system/self-test", tag = "system", operation_id = "listSelfTests",
    responses((status = 200, description = "The self-tests.", body = SelfTestList), Always)
)]
pub(crate) async fn list(State(state): State<ApiState>) -> Result<Json<SelfTestList>, ApiError> {
    let tests = state.store.self_tests().await?;
    Ok(Json(SelfTestList { items: tests.into_iter().map(SelfTestView::from).collect() }))
}

/// Has every host with a dispatcher test now whether a command line works in its sandboxes.
///
/// It makes one scripted tool call in a container like a run's. No login is needed, and nothing is asked of a provider.
/// Where a host has not come to a result soon enough, the answer is 202 and `GET /system/self-test` will show it.
#[utoipa::path(
    post, path = "/system/self-test", tag = "system", operation_id = "selfTest",
    params(SelfTestQuery),
    responses(
        (status = 200, description = "What was found, be it good or bad.", body = SelfTestList),
        (status = 202, description = "It was asked for.", body = SelfTestList),
        (status = 409, description = "No dispatcher runs, which would make it.", body = crate::error::ErrorBody),
        AboutQuery, Always,
    )
)]
pub(crate) async fn run(
    State(state): State<ApiState>,
    QueryTexts(query): QueryTexts<SelfTestQuery>,
) -> Result<(StatusCode, Json<SelfTestList>), ApiError> {
    let asked = ask(&state, &query).await?;
    let until = Instant::now() + TEST_TIME;
    loop {
        let tests = of(&state, &asked).await?;
        let done = tests.iter().all(|test| test.asked_at.is_none());
        if done || Instant::now() >= until || state.stop.is_cancelled() {
            let status = if done { StatusCode::OK } else { StatusCode::ACCEPTED };
            let items = tests.into_iter().map(SelfTestView::from).collect();
            return Ok((status, Json(SelfTestList { items })));
        }
        sleep(LOOK_EVERY).await;
    }
}

/// Asks for it, without waiting for what comes of it.
pub(crate) async fn ask(
    state: &ApiState,
    query: &SelfTestQuery,
) -> Result<Vec<SelfTestKey>, ApiError> {
    let environment = query.environment()?;
    let executor = query.executor(state.settings().settings.llm_executor)?;
    let asked = state.store.ask_for_self_test(environment, executor).await?;
    if asked.is_empty() {
        return Err(ApiError::new(
            StatusCode::CONFLICT,
            "no_dispatcher",
            "no dispatcher runs, which would make the self-test; start one with `opentiger up`",
        ));
    }
    Ok(asked)
}

async fn of(state: &ApiState, keys: &[SelfTestKey]) -> Result<Vec<SelfTest>, StoreError> {
    let mut tests = state.store.self_tests().await?;
    tests.retain(|test| keys.contains(&test.key));
    Ok(tests)
}

/// What readiness says of it.
pub(crate) async fn check(
    state: &ApiState,
    environment: ExecutionEnvironment,
    executor: ExecutorKind,
) -> Option<FullCheckView> {
    const NAME: &str = "self_test";
    if environment != ExecutionEnvironment::Sandbox {
        return None;
    }
    let tests = state.store.self_tests().await.unwrap_or_default();
    let of = |test: &&SelfTest| {
        test.key.environment == ExecutionEnvironment::Sandbox && test.key.executor == executor
    };
    let mut known = tests.iter().filter(of).filter_map(|test| test.last.as_ref());
    let failed = known.clone().find(|last| !last.report.passed());
    let Some(last) = failed.or_else(|| known.next()) else {
        let cause =
            format!("whether {executor} works in a sandbox is tested before its first task");
        let fix = "`opentiger doctor --self-test` tests it now";
        return Some(FullCheckView::bad(NAME, CheckState::Unknown, cause, fix));
    };
    let report = &last.report;
    Some(match report.text() {
        None => {
            let version = report.cli_version.as_deref().unwrap_or("of an unknown version");
            let took = report.took_ms;
            let found = format!("{executor} {version} did a scripted task in {took} ms");
            FullCheckView::ok(NAME, found)
        }
        Some(why) => {
            let fix = report.hint().unwrap_or("mend the image; it is tested again by itself");
            FullCheckView::bad(NAME, CheckState::Fail, why, fix)
        }
    })
}
