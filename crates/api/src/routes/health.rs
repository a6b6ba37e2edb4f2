//! `/health`: does this process answer, and is everything there that a task needs.

use axum::{Extension, Json, extract::State};
use core_types::task::ExecutionEnvironment;
use http::StatusCode;
use store::{error::StoreError, pool::Store};
use telemetry::chain::error_chain;

use crate::{
    access::Standing,
    agreement::Agreement,
    openapi::Always,
    state::ApiState,
    views::health::{CheckView, HealthView, ReadinessView},
};

/// What everybody is told of dispatchers that take nothing; why is for those who may read.
const PAUSED: &str = "no dispatcher takes tasks";

/// Says that this process answers.
#[utoipa::path(
    get, path = "/health", tag = "system", operation_id = "health",
    responses((status = 200, description = "This process answers.", body = HealthView), Always)
)]
pub(crate) async fn alive() -> Json<HealthView> {
    Json(HealthView { status: "ok", version: env!("CARGO_PKG_VERSION") })
}

/// Says whether a task that is posted now will be done, and what is missing where it will not.
#[utoipa::path(
    get, path = "/health/ready", tag = "system", operation_id = "readiness",
    responses(
        (status = 200, description = "Everything is there.", body = ReadinessView),
        (status = 503, description = "Something is missing.", body = ReadinessView),
        (status = 403, description = "The `Host` of the request is not this server.", body = crate::error::ErrorBody),
        (status = 500, description = "A fault of the server.", body = crate::error::ErrorBody),
    )
)]
pub(crate) async fn ready(
    State(state): State<ApiState>,
    Extension(standing): Extension<Standing>,
) -> (StatusCode, Json<ReadinessView>) {
    let mut checks = checks(&state).await;
    let reachable = checks.iter().any(|check| check.name == "database" && check.ok);
    let mut warnings = if reachable { warnings(&state).await } else { Vec::new() };
    if !standing.may_read {
        // Which keys are set to what, what was spent and what an engine said is nothing for strangers (O4).
        checks.iter_mut().for_each(CheckView::without_details);
        warnings.clear();
    }
    let view = ReadinessView::new(checks, warnings);
    let status = if view.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(view))
}

impl CheckView {
    /// Leaves whether it holds, and of a dispatcher that takes nothing no more than that.
    fn without_details(&mut self) {
        let text = match (self.name, self.ok) {
            ("dispatcher", false) if self.message.starts_with(PAUSED) => PAUSED,
            ("settings", false) => "settings in the database cannot be used",
            _ => return,
        };
        text.clone_into(&mut self.message);
    }
}

/// What a working system needs, one check for each.
pub(crate) async fn checks(state: &ApiState) -> Vec<CheckView> {
    let mut checks = vec![server(state), settings(state)];
    checks.extend(redis(state));
    let database = database(state).await;
    let reachable = database.ok;
    checks.push(database);
    if reachable {
        checks.push(schema(state).await);
        checks.push(dispatcher(state).await);
        // In a sandbox the dispatcher starts what a task needs.
        if state.settings().settings.execution_environment == ExecutionEnvironment::Host {
            checks.push(agent(state).await);
        }
    }
    checks
}

fn server(state: &ApiState) -> CheckView {
    let stopping = state.stop.is_cancelled();
    let message = if stopping { "the server is stopping" } else { "the server answers" };
    check("server", !stopping, message)
}

fn settings(state: &ApiState) -> CheckView {
    match &state.settings.borrow().database_faults {
        None => check("settings", true, "all settings can be used"),
        Some(faults) => {
            let keys: Vec<&str> = faults.iter().map(|fault| fault.key.as_str()).collect();
            check(
                "settings",
                false,
                format!("settings in the database cannot be used: {}", keys.join(", ")),
            )
        }
    }
}

/// Redis makes things faster and is needed for nothing; without one there is nothing to say.
fn redis(state: &ApiState) -> Option<CheckView> {
    let health = state.queue.as_ref()?.health();
    let message = match health.fault {
        _ if health.connected => "Redis answers".to_owned(),
        Some(fault) => format!("slower: Redis {fault}, using the database"),
        None => "slower: Redis does not answer yet, using the database".to_owned(),
    };
    Some(check("redis", true, message))
}

async fn database(state: &ApiState) -> CheckView {
    match state.store.ping().await {
        Ok(()) => check("database", true, "the database answers"),
        Err(error) => unknown("database", "the database does not answer", &error),
    }
}

async fn schema(state: &ApiState) -> CheckView {
    match state.store.schema_version().await {
        Ok(version) if version == Some(Store::newest_schema_version()) => {
            check("schema", true, "the database is migrated")
        }
        Ok(_) => check("schema", false, "the database is not migrated to this version"),
        Err(error) => unknown("schema", "the database's version cannot be read", &error),
    }
}

async fn dispatcher(state: &ApiState) -> CheckView {
    match state.store.dispatchers().await {
        Ok(seen) if seen.is_empty() => check("dispatcher", false, "no dispatcher runs"),
        Ok(seen) => match seen.iter().find_map(|dispatcher| dispatcher.beat.paused.as_deref()) {
            Some(reason) if seen.iter().all(|dispatcher| dispatcher.beat.paused.is_some()) => {
                check("dispatcher", false, format!("{PAUSED}: {reason}"))
            }
            Some(_) | None => check("dispatcher", true, "a dispatcher takes tasks"),
        },
        Err(error) => unknown("dispatcher", "dispatchers cannot be read", &error),
    }
}

async fn agent(state: &ApiState) -> CheckView {
    match state.store.agents().await {
        Ok(agents) if agents.iter().any(|agent| agent.live) => {
            check("agent", true, "an agent is alive")
        }
        Ok(_) => check("agent", false, "no agent is alive"),
        Err(error) => unknown("agent", "agents cannot be read", &error),
    }
}

/// What differs between the settings of living processes (C7).
async fn warnings(state: &ApiState) -> Vec<String> {
    let here = state.settings();
    match Agreement::look(&state.store, &here).await {
        Ok(agreement) => agreement.warnings(&here),
        Err(error) => {
            tracing::warn!(error = %error_chain(&error), "settings of other processes not known");
            vec!["it is not known whether all processes have the same settings".to_owned()]
        }
    }
}

fn check(name: &'static str, ok: bool, message: impl Into<String>) -> CheckView {
    CheckView { name, ok, message: message.into() }
}

/// A check that could not be made; the reason is for the log and not for strangers.
fn unknown(name: &'static str, message: &str, error: &StoreError) -> CheckView {
    tracing::warn!(check = name, error = %error_chain(error), "readiness not known");
    check(name, false, message)
}
