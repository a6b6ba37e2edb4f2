//! `/system/readiness`: everything that a task needs, each with what was found and what to do about it.

use std::{path::Path, time::Duration};

use auth_probe::{
    finding::Report,
    machine::{self, SpaceLevel},
};
use axum::{Json, extract::State};
use core_types::{
    auth::{AuthReason, Language},
    readiness::CheckState,
    task::{ExecutionEnvironment, ExecutorKind},
};
use tokio::time::timeout;

use crate::{
    agreement::Agreement,
    error::ApiError,
    extract::QueryTexts,
    logins::Checks,
    openapi::{AboutQuery, Always},
    requests::auth::ReadinessQuery,
    routes::{health, self_tests},
    state::ApiState,
    views::{
        health::CheckView,
        readiness::{FullCheckView, FullReadinessView},
    },
};

/// Longest check of a login that is waited for: with what else is looked at it stays below a request's limit.
const LOGIN_WITHIN: Duration = Duration::from_secs(27);

/// Looks at everything that a task needs, logins included, and says of each what was found and what to do about it.
#[utoipa::path(
    get, path = "/system/readiness", tag = "system", operation_id = "showReadiness",
    params(ReadinessQuery),
    responses((status = 200, description = "What was found, be it good or bad.", body = FullReadinessView), AboutQuery, Always)
)]
pub(crate) async fn show(
    State(state): State<ApiState>,
    QueryTexts(query): QueryTexts<ReadinessQuery>,
) -> Result<Json<FullReadinessView>, ApiError> {
    let refresh = query.refresh()?;
    let environment = state.settings().settings.execution_environment;
    Ok(Json(look(&state, environment, refresh).await))
}

/// Looks at everything that a task in an environment needs.
pub(crate) async fn look(
    state: &ApiState,
    environment: ExecutionEnvironment,
    refresh: bool,
) -> FullReadinessView {
    let (system, git, around, claude_auth, opencode_auth) = tokio::join!(
        system(state),
        git(state),
        around(state, environment),
        timeout(LOGIN_WITHIN, state.login(environment, ExecutorKind::ClaudeCode, refresh)),
        timeout(LOGIN_WITHIN, state.login(environment, ExecutorKind::Opencode, refresh)),
    );
    let mut checks = system;
    checks.push(disk(state));
    checks.push(embedded(state));
    checks.push(git);
    checks.extend(around);
    let used = state.settings().settings.llm_executor;
    for (executor, report) in
        [(ExecutorKind::ClaudeCode, claude_auth), (ExecutorKind::Opencode, opencode_auth)]
    {
        checks.push(match report {
            Ok(Ok(report)) => auth(&report, executor == used),
            Ok(Err(_)) => not_looked(auth_name(executor)),
            Err(_) => late(auth_name(executor)),
        });
    }
    checks.extend(self_tests::check(state, environment, used).await);
    let mut view = FullReadinessView::new(environment, checks);
    // A login that is not known to work is none to count on.
    view.ready &= view.checks.iter().any(|check| {
        check.name == auth_name(used) && matches!(check.state, CheckState::Ok | CheckState::Warn)
    });
    view
}

/// What `/health/ready` looks at, with what to do about it.
async fn system(state: &ApiState) -> Vec<FullCheckView> {
    let mut checks: Vec<_> = health::checks(state).await.into_iter().map(of_health).collect();
    let here = state.settings();
    let agreement = Agreement::look(&state.store, &here).await;
    checks.push(match agreement.map(|agreement| agreement.warnings(&here)) {
        Ok(warnings) if warnings.is_empty() => {
            FullCheckView::ok("settings_agree", "all processes have the same settings in force")
        }
        Ok(warnings) => FullCheckView::bad(
            "settings_agree",
            CheckState::Warn,
            warnings.join("; "),
            "look at `opentiger config get`, give every process the same environment, and restart those that differ",
        ),
        Err(_) => FullCheckView::bad(
            "settings_agree",
            CheckState::Unknown,
            "it is not known whether all processes have the same settings",
            "see to the database first",
        ),
    });
    checks
}

fn of_health(check: CheckView) -> FullCheckView {
    let CheckView { name, ok, message } = check;
    let slower = name == "redis" && message.starts_with("slower");
    if ok && !slower {
        return FullCheckView::ok(name, message);
    }
    let state = if slower { CheckState::Warn } else { CheckState::Fail };
    let fix = match name {
        "server" => "wait until it has ended, then `opentiger up`",
        "settings" => "correct them with `opentiger config set`",
        "redis" => "start it, correct REDIS_URL, or unset REDIS_URL to use a private one",
        "database" => {
            "start Postgres, or correct DATABASE_URL; without one a private Postgres is used"
        }
        "schema" => "restart openTiger in the newest version, which migrates the database",
        // It runs, and says itself what keeps it.
        "dispatcher" if message.starts_with("no dispatcher takes tasks") => {
            "mend that; tasks go on by themselves then"
        }
        "dispatcher" => "`opentiger up`, and look at DISPATCHER_ENABLED and `opentiger status`",
        "agent" => "`opentiger up`, and look at WORKER_COUNT and `opentiger status`",
        _ => "look at the server's log",
    };
    FullCheckView::bad(name, state, message, fix)
}

async fn git(state: &ApiState) -> FullCheckView {
    let Some(checks) = &state.checks else {
        return not_looked("git");
    };
    match machine::version("git", &checks.environment).await {
        Ok(version) => FullCheckView::ok("git", version),
        Err(why) => FullCheckView::bad("git", CheckState::Fail, why, "install git"),
    }
}

/// What agents need where they run: programs on this host, or everything of a sandbox.
async fn around(state: &ApiState, environment: ExecutionEnvironment) -> Vec<FullCheckView> {
    let Some(checks) = &state.checks else {
        return vec![not_looked("claude_cli"), not_looked("opencode_cli")];
    };
    match (environment, &checks.sandboxes) {
        (ExecutionEnvironment::Host, _) => {
            let (claude, opencode) = tokio::join!(
                cli(state, checks, ExecutorKind::ClaudeCode),
                cli(state, checks, ExecutorKind::Opencode),
            );
            vec![claude, opencode]
        }
        (ExecutionEnvironment::Sandbox, Some(sandboxes)) => {
            sandboxes.inspect().await.into_iter().map(FullCheckView::of_part).collect()
        }
        (ExecutionEnvironment::Sandbox, None) => vec![FullCheckView::bad(
            "docker_engine",
            CheckState::Unknown,
            "this server does not look at sandboxes",
            "see its log for why, then restart it",
        )],
    }
}

/// A program that no task asks for may be missing; which one tasks ask for is a setting, and a task's own choice.
async fn cli(state: &ApiState, checks: &Checks, executor: ExecutorKind) -> FullCheckView {
    let settings = state.settings();
    let settings = &settings.settings;
    let (name, command) = match executor {
        ExecutorKind::ClaudeCode => ("claude_cli", &settings.claude_code_command),
        ExecutorKind::Opencode => ("opencode_cli", &settings.opencode_command),
    };
    match machine::version(command, &checks.environment).await {
        Ok(version) => FullCheckView::ok(name, version),
        Err(why) => {
            let host = ExecutionEnvironment::Host;
            let hint = AuthReason::CliMissing.hint(executor, host, Language::English);
            let state = weight(executor == settings.llm_executor);
            FullCheckView::bad(name, state, why, hint.unwrap_or_default())
        }
    }
}

const fn auth_name(executor: ExecutorKind) -> &'static str {
    match executor {
        ExecutorKind::ClaudeCode => "claude_auth",
        ExecutorKind::Opencode => "opencode_auth",
    }
}

fn auth(report: &Report, used: bool) -> FullCheckView {
    let (reason, executor) = (report.finding.reason, report.executor);
    let name = auth_name(executor);
    let message = reason.message(executor, Language::English);
    let quota = report.finding.quota.iter();
    let quota: Vec<String> =
        quota.map(|window| format!("{}: {}% used", window.name, window.used_percent)).collect();
    let more = report.finding.detail.clone().or_else(|| Some(quota.join(", ")));
    let more = more.filter(|text| !text.is_empty()).map(|text| format!(" ({text})"));
    let cause = format!("{message}{}", more.unwrap_or_default());
    let Some(fix) = reason.hint(executor, report.environment, Language::English) else {
        return FullCheckView::ok(name, cause);
    };
    let state = match reason {
        AuthReason::Unknown | AuthReason::Timeout => CheckState::Unknown,
        _ => weight(used),
    };
    FullCheckView::bad(name, state, cause, fix)
}

/// What is wrong with the executor that tasks get unless they name another stands in their way.
const fn weight(used: bool) -> CheckState {
    if used { CheckState::Fail } else { CheckState::Warn }
}

fn disk(state: &ApiState) -> FullCheckView {
    let settings = state.settings();
    let path: &Path = &settings.settings.state_dir;
    let Ok(space) = machine::disk_space(path) else {
        let cause = format!("the disk of `{}` cannot be looked at", path.display());
        let fix = "see whether the directory is there, and OPENTIGER_STATE_DIR is right";
        return FullCheckView::bad("disk", CheckState::Unknown, cause, fix);
    };
    let (free, total) = (gib(space.free), gib(space.total));
    let found = format!("{free} of {total} GiB free at `{}`", path.display());
    let fix = "free some, or try `opentiger gc`";
    match space.level() {
        SpaceLevel::None => FullCheckView::bad("disk", CheckState::Fail, found, fix),
        SpaceLevel::Little => FullCheckView::bad("disk", CheckState::Warn, found, fix),
        SpaceLevel::Enough => FullCheckView::ok("disk", found),
    }
}

/// Gibibytes with one digit after the point.
fn gib(bytes: u64) -> String {
    let tenths = bytes / ((1 << 30) / 10);
    format!("{}.{}", tenths / 10, tenths % 10)
}

fn embedded(state: &ApiState) -> FullCheckView {
    let settings = state.settings();
    let settings = &settings.settings;
    let of = |configured: bool| if configured { "configured" } else { "private" };
    let redis = match (&settings.redis_url, &state.queue) {
        (Some(_), _) => "configured",
        (None, Some(_)) => "private",
        (None, None) => "not used",
    };
    let found = format!("Postgres is {}, Redis is {redis}", of(settings.database_url.is_some()));
    FullCheckView::ok("services", found)
}

/// The check goes on, and its answer is there for who asks a moment later.
fn late(name: &str) -> FullCheckView {
    let cause = format!("the check takes longer than {} s", LOGIN_WITHIN.as_secs());
    FullCheckView::bad(
        name,
        CheckState::Unknown,
        cause,
        "see to the machine's load, then look again",
    )
}

fn not_looked(name: &str) -> FullCheckView {
    FullCheckView::bad(
        name,
        CheckState::Unknown,
        "this server cannot start programs",
        "ask the api-server that `opentiger up` starts",
    )
}
