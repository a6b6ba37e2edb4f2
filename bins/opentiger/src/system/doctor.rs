//! `doctor`: everything that a task needs, what was found of it, and what to do about what is missing.

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use auth_probe::{
    checker::Checker,
    host::Host,
    machine,
    part::Part,
    place::{Ask, Site},
    sandboxed::Sandboxed,
};
use client::client::Client;
use core_config::settings::Settings;
use core_types::{
    auth::{AuthReason, Language},
    readiness::CheckState,
    task::{ExecutionEnvironment, ExecutorKind},
};
use executor::environment::allow_list;
use launcher::{handle::StopRequest, launcher::Launcher, process::ProcessLauncher};
use sandbox::premises::{Opening, Premises};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::self_test;
use crate::{
    cli::system::DoctorArgs,
    code::Code,
    console::{Console, Style},
    failure::Failure,
    server::Wanted,
    surroundings::Surroundings,
};

/// One thing that was looked at, as the server tells it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Check {
    name: String,
    /// `ok`, `warn`, `fail` or `unknown`.
    state: String,
    cause: String,
    fix: Option<String>,
}

/// Looks at everything and shows it.
pub(crate) async fn run(
    args: &DoctorArgs,
    wanted: &Wanted,
    surroundings: &Surroundings,
    console: &Console,
) -> Result<Code, Failure> {
    let told = match wanted.client(surroundings) {
        Ok(client) => ask(&client, args.self_test).await,
        Err(failure) => Err(failure),
    };
    let (running, answer) = match told {
        Ok(answer) => (true, answer),
        Err(failure) if failure.code == Code::NotRunning => {
            let why = failure.text.unwrap_or_default();
            let mut answer = alone(why, wanted, surroundings).await?;
            if args.self_test {
                put(&mut answer, vec![self_test::not_made("nothing runs that would make it")]);
            }
            (false, answer)
        }
        Err(failure) => return Err(failure),
    };
    let checks: Vec<Check> = answer
        .get("checks")
        .and_then(|checks| Vec::deserialize(checks).ok())
        .ok_or_else(|| Failure::new(Code::Failed, "the server does not say how it stands"))?;
    let mut whole = json!({ "running": running });
    if let (Value::Object(whole), Value::Object(answer)) = (&mut whole, answer) {
        whole.extend(answer);
    }
    console.value(&whole)?;
    print(&checks, console)?;
    let fails = checks.iter().any(|check| check.state == "fail");
    Ok(if fails { Code::Failed } else { Code::Done })
}

async fn ask(client: &Client, with_self_test: bool) -> Result<Value, Failure> {
    let mut answer = client.get("/system/readiness?refresh=true").await?;
    if with_self_test {
        let tested = match self_test::run(client).await {
            // What was found of all else is told nevertheless.
            Err(Failure { code: Code::Conflict, text, .. }) => {
                vec![self_test::not_made(&text.unwrap_or_default())]
            }
            tested => tested?,
        };
        put(&mut answer, tested);
    }
    Ok(answer)
}

/// Puts what came of self-tests in the place of what is known of earlier ones.
fn put(answer: &mut Value, tested: Vec<Check>) {
    if let Some(Value::Array(checks)) = answer.get_mut("checks") {
        checks.retain(|check| check.get("name").and_then(Value::as_str) != Some("self_test"));
        checks.extend(tested.iter().filter_map(|check| serde_json::to_value(check).ok()));
    }
}

fn print(checks: &[Check], console: &Console) -> std::io::Result<()> {
    for check in checks {
        let (style, sign) = match check.state.as_str() {
            "ok" => (Style::Green, "ok"),
            "warn" => (Style::Yellow, "warn"),
            "fail" => (Style::Red, "FAIL"),
            _ => (Style::Yellow, "?"),
        };
        let fix = check.fix.as_deref().map(|fix| format!("  fix: {fix}")).unwrap_or_default();
        console.parts(&[
            (style, &format!("{sign:<5}")),
            (Style::Plain, &format!("{:<20}", check.name)),
            (Style::Plain, &check.cause),
            (Style::Yellow, &fix),
        ])?;
    }
    let count = |state: &str| checks.iter().filter(|check| check.state == state).count();
    console.line("")?;
    console.line(format!(
        "{} fail, {} not known, {} to be known, {} well",
        count("fail"),
        count("unknown"),
        count("warn"),
        count("ok")
    ))
}

/// What can be looked at without a server: this machine, where the server that is meant would run on it.
async fn alone(
    why: String,
    wanted: &Wanted,
    surroundings: &Surroundings,
) -> Result<Value, Failure> {
    let settings = surroundings.settings()?;
    let mut checks = vec![check("server", "fail", why, Some("`opentiger up` starts it"))];
    if !wanted.is_named(surroundings) {
        checks.extend(this_machine(&settings, surroundings).await?);
    }
    let environment = settings.execution_environment.as_str();
    Ok(json!({ "ready": false, "environment": environment, "checks": checks }))
}

async fn this_machine(
    settings: &Settings,
    surroundings: &Surroundings,
) -> Result<Vec<Check>, Failure> {
    let variables: BTreeMap<String, String> = surroundings
        .variables()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let seen = allow_list(&variables);
    let mut checks = vec![git(&seen).await, disk(&settings.state_dir)];
    let scratch = tempfile::TempDir::new()
        .map_err(|error| Failure::of("make a temporary directory", &error))?;
    let launcher = ProcessLauncher::new(scratch.path())
        .map_err(|error| Failure::of("look at what can be started here", &error))?;
    let launcher: Arc<dyn Launcher> = Arc::new(launcher);
    let host = Host::new(Arc::clone(&launcher), scratch.path().join("checks"), variables.clone());
    let sandboxes = match settings.execution_environment {
        ExecutionEnvironment::Host => None,
        ExecutionEnvironment::Sandbox => {
            Some(sandboxes(surroundings, scratch.path(), &launcher, variables)?)
        }
    };
    let site = sandboxes.clone().map(|sandboxes| -> Arc<dyn Site> { Arc::new(sandboxes) });
    let checker = Checker::new(Arc::new(host), site);
    let (claude, opencode) = tokio::join!(
        login(&checker, settings, ExecutorKind::ClaudeCode),
        login(&checker, settings, ExecutorKind::Opencode),
    );
    if let Some(sandboxes) = sandboxes {
        checks.extend(sandboxes.inspect().await.into_iter().map(Check::from));
        end_relays(&*launcher).await;
    }
    checks.extend([claude, opencode]);
    Ok(checks)
}

/// Sandboxes as the server would make them, in a directory that goes with this look, and without a database.
fn sandboxes(
    surroundings: &Surroundings,
    scratch: &Path,
    host: &Arc<dyn Launcher>,
    environment: BTreeMap<String, String>,
) -> Result<Sandboxed, Failure> {
    let loaded = surroundings.loaded()?;
    let own = std::env::current_exe().map_err(|error| Failure::of("find own program", &error))?;
    let premises = Premises::open(Opening {
        docker_host: loaded.settings.docker_host.clone(),
        state_dir: scratch,
        programs: own.parent().unwrap_or(Path::new("/")),
        host: Arc::clone(host),
        environment,
    })
    .map_err(|error| Failure::of("look at what sandboxes need", &error))?;
    let (_, settings) = watch::channel(Arc::new(loaded));
    Ok(Sandboxed::new(premises, settings, None))
}

/// Relays would go on for the rest of their lease, in a directory that is gone.
async fn end_relays(host: &dyn Launcher) {
    for found in host.discover().await.unwrap_or_default() {
        if let Ok(handle) = host.attach(&found.record).await {
            handle.stop(StopRequest::new("the look is over", Duration::from_secs(1))).await;
        }
    }
}

async fn login(checker: &Checker, settings: &Settings, executor: ExecutorKind) -> Check {
    let environment = settings.execution_environment;
    let home = settings.opentiger_claude_home.clone();
    let ask = Ask { executor, settings: settings.into(), home };
    let report = checker.check(environment, ask, true).await;
    let reason = report.finding.reason;
    let detail = report.finding.detail.map(|detail| format!(" ({detail})")).unwrap_or_default();
    let cause = format!("{}{detail}", reason.message(executor, Language::English));
    let state = match reason {
        AuthReason::Ready => CheckState::Ok,
        AuthReason::Unknown | AuthReason::Timeout => CheckState::Unknown,
        _ if executor == settings.llm_executor => CheckState::Fail,
        _ => CheckState::Warn,
    };
    let name = match executor {
        ExecutorKind::ClaudeCode => "claude_auth",
        ExecutorKind::Opencode => "opencode_auth",
    };
    check(name, state.as_str(), cause, reason.hint(executor, environment, Language::English))
}

impl From<Part> for Check {
    fn from(part: Part) -> Self {
        let Part { name, state, cause, fix } = part;
        check(name, state.as_str(), cause, fix.as_deref())
    }
}

async fn git(environment: &BTreeMap<String, String>) -> Check {
    match machine::version("git", environment).await {
        Ok(version) => check("git", "ok", version, None),
        Err(why) => check("git", "fail", why, Some("install git")),
    }
}

/// The disk of the state directory, or of the nearest directory above it that is there.
fn disk(state_dir: &Path) -> Check {
    let there = state_dir.ancestors().find_map(|path| machine::disk_space(path).ok());
    let Some(space) = there else {
        let cause = format!("the disk of `{}` cannot be looked at", state_dir.display());
        return check("disk", "unknown", cause, Some("see whether OPENTIGER_STATE_DIR is right"));
    };
    let found = format!(
        "{} of {} free at `{}`",
        crate::units::bytes(space.free),
        crate::units::bytes(space.total),
        state_dir.display()
    );
    match space.level() {
        machine::SpaceLevel::Enough => check("disk", "ok", found, None),
        machine::SpaceLevel::Little => check("disk", "warn", found, Some(FREE_SPACE)),
        machine::SpaceLevel::None => check("disk", "fail", found, Some(FREE_SPACE)),
    }
}

const FREE_SPACE: &str = "free some, or try `opentiger gc`";

pub(super) fn check(name: &str, state: &str, cause: impl Into<String>, fix: Option<&str>) -> Check {
    Check {
        name: name.to_owned(),
        state: state.to_owned(),
        cause: cause.into(),
        fix: fix.map(ToOwned::to_owned),
    }
}
