//! `worker self-test`: the way of a run in a sandbox, step by step, with a scripted model in the same process.
//!
//! What it takes is what `worker once` takes, and from the first call of the command line on it is the same code. No
//! database, login or provider is used. The report is one line on standard output; every fault that a person may have
//! made of the image or the host is in it.

use std::{
    fs,
    io::{self, Write as _},
    path::Path,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use agent::sandboxed::{Once, Rehearsal};
use anyhow::Context as _;
use checkout::git::GitCommand;
use core_types::{
    event::RunEvent,
    outcome::RunOutcome,
    sandbox::{SandboxAssignment, WorkerExit},
    secret::Secret,
    self_test::{SelfTestAssignment, SelfTestReport, TestStep},
};
use executor::environment::DEFAULT_PATH;
use launcher::{descendants, process::ProcessLauncher};
use model_stub::{
    script::{Script, Turn},
    server::ModelStub,
};
use serde_json::{Value, json};
use telemetry::chain::error_chain;

/// The file that the tool call leaves: the id of the user that it ran as.
const PROOF: &str = "opentiger-self-test.txt";
/// What the command line may take in all; it takes a few seconds.
const AGENT_WITHIN: Duration = Duration::from_secs(90);
/// A key in the form that command lines expect.
const KEY: &str = "sk-ant-self-test-0000000000";
/// A model of the provider that is scripted, for command lines that have to be told one.
const MODEL: &str = "anthropic/claude-sonnet-4-5";
/// Settings that would limit what the run may use.
const LIMITS: [&str; 4] =
    ["TASK_TOKEN_LIMIT", "TASK_COST_LIMIT_USD", "DAILY_TOKEN_LIMIT", "DAILY_COST_LIMIT_USD"];

/// Tests the sandbox that it is in.
pub(crate) async fn run() -> ExitCode {
    match try_run().await {
        Ok(()) => ExitCode::from(WorkerExit::Reported.code()),
        Err(error) => {
            let _printed = bootstrap::exit::report("worker", Err(error));
            ExitCode::from(WorkerExit::BadAssignment.code())
        }
    }
}

async fn try_run() -> anyhow::Result<()> {
    bootstrap::once::hide_memory().context("close this process's memory to others")?;
    descendants::adopt().context("become the parent of orphans")?;
    bootstrap::once::start_logging().context("start logging")?;
    let assignment: SelfTestAssignment = crate::once::read()?;
    let mut report = SelfTestReport::default();
    report.passes(TestStep::Container);
    if let Err((step, cause)) = places(&assignment, &mut report) {
        report.fails(step, cause, hint_of(step));
    } else {
        call(assignment.run, &mut report).await?;
    }
    let line = serde_json::to_string(&report).context("write the report")?;
    let mut out = io::stdout().lock();
    writeln!(out, "{line}").context("write to standard output")?;
    out.flush().context("write to standard output")
}

/// A step that failed, and why.
type Fault = (TestStep, String);

/// Looks at who this is and at what is mounted.
fn places(assignment: &SelfTestAssignment, report: &mut SelfTestReport) -> Result<(), Fault> {
    let SelfTestAssignment { uid, gid, run } = assignment;
    let is = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    if is != (*uid, *gid) {
        let cause = format!("it runs as {}:{}, and should as {uid}:{gid}", is.0, is.1);
        return Err((TestStep::User, cause));
    }
    report.passes(TestStep::User);
    let checkout = &run.checkout.directory;
    for name in ["work", "home", "tmp", "result"] {
        writable(&checkout.join(name)).map_err(|cause| (TestStep::Checkout, cause))?;
    }
    if writable(&checkout.join("objects")).is_ok() {
        return Err((TestStep::Checkout, "the user's own objects can be written".to_owned()));
    }
    report.passes(TestStep::Checkout);
    writable(&run.state).map_err(|cause| (TestStep::State, cause))?;
    report.passes(TestStep::State);
    login(run).map_err(|cause| (TestStep::Login, cause))?;
    report.passes(TestStep::Login);
    Ok(())
}

const fn hint_of(step: TestStep) -> Option<&'static str> {
    match step {
        TestStep::User => Some("see whether the engine maps users to others (userns-remap)"),
        TestStep::Checkout | TestStep::State | TestStep::Login => Some(
            "see whether the engine may share OPENTIGER_STATE_DIR with containers (SELinux, AppArmor, file sharing)",
        ),
        TestStep::Git => Some("put git into the image; `cargo xtask image` builds one that has it"),
        TestStep::Container
        | TestStep::Cli
        | TestStep::Tool
        | TestStep::Events
        | TestStep::Result => None,
    }
}

fn writable(directory: &Path) -> Result<(), String> {
    let file = directory.join(".opentiger-self-test");
    let left = fs::write(&file, "").and_then(|()| fs::remove_file(&file));
    left.map_err(|error| format!("`{}` cannot be written: {error}", directory.display()))
}

/// A view without a login is fine, and one that cannot be read is not.
fn login(run: &SandboxAssignment) -> Result<(), String> {
    let told = |path: &Path, error: io::Error| format!("`{}`: {error}", path.display());
    let directory = run.logins.claude_code.as_deref();
    let file = match (directory, run.logins.opencode.as_deref()) {
        (Some(directory), _) => directory.join(".credentials.json"),
        (None, Some(file)) => file.to_owned(),
        (None, None) => return Err("no login is mounted".to_owned()),
    };
    let directory = file.parent().unwrap_or(&file);
    fs::read_dir(directory).map_err(|error| told(directory, error))?;
    match fs::File::open(&file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(told(&file, error)),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Has the command line do a task of one tool call, and looks at what came of it.
async fn call(mut run: SandboxAssignment, report: &mut SelfTestReport) -> anyhow::Result<()> {
    let model = ModelStub::start(script()).await.context("start the scripted model")?;
    let stop = bootstrap::once::stop_token().context("listen for signals")?;
    let mut own_env = bootstrap::environment::environment();
    own_env.retain(|name, _| !is_proxy(name));
    run.environment.retain(|name, _| !is_proxy(name));
    set_up(&mut run, &model);
    let given = run.environment.get("PATH").map(|path| path.expose().to_owned());
    let path = given.or_else(|| own_env.get("PATH").cloned());
    let git = match GitCommand::find(path.as_deref().unwrap_or(DEFAULT_PATH)) {
        Ok(git) => git,
        Err(error) => {
            let cause = error_chain(&error).to_string();
            report.fails(TestStep::Git, cause, hint_of(TestStep::Git));
            return Ok(());
        }
    };
    report.passes(TestStep::Git);
    let launcher = ProcessLauncher::new(&run.launches as &Path);
    let launcher = Arc::new(launcher.context("make a place for launches")?);
    let proof = run.checkout.directory.join("work").join(PROOF);
    let rehearsal = Once { assignment: run, launcher, git, own_env }.rehearse(&stop).await?;
    judge(&rehearsal, &proof, report);
    model.stop().await;
    Ok(())
}

/// One tool call, and a word.
fn script() -> Script {
    let call = json!({ "command": format!("id -u > {PROOF}"), "description": "Leave a proof" });
    Script::of([Turn::call("Bash", call), Turn::text("Done.")])
}

/// The scripted model is reached by no proxy.
fn is_proxy(name: &str) -> bool {
    name.to_ascii_lowercase().ends_with("_proxy")
}

/// Everything of the run that is about the work, the model and its cost.
fn set_up(run: &mut SandboxAssignment, model: &ModelStub) {
    "self-test".clone_into(&mut run.task.title);
    "Do what the model says.".clone_into(&mut run.task.goal);
    run.task.verification = vec![vec!["test".to_owned(), "-s".to_owned(), PROOF.to_owned()]];
    run.task.timebox = Some(AGENT_WITHIN);
    run.task.model = None;
    for limit in LIMITS {
        run.settings.remove(limit);
    }
    for other in ["OPENAI_API_KEY", "GEMINI_API_KEY", "CLAUDE_CODE_MODEL"] {
        run.settings.remove(other);
    }
    let base_url = model.base_url();
    for (key, value) in [
        ("ANTHROPIC_BASE_URL", base_url.as_str()),
        ("ANTHROPIC_API_KEY", KEY),
        ("OPENCODE_MODEL", MODEL),
    ] {
        run.settings.insert(key.to_owned(), Secret::new(Value::from(value).to_string()));
    }
}

/// Says how far the command line came, by its own events and by what it left.
fn judge(rehearsal: &Rehearsal, proof: &Path, report: &mut SelfTestReport) {
    let Rehearsal { report: ended, events } = rehearsal;
    let outcome = ended.report.outcome;
    let said = ended.report.message.clone().unwrap_or_else(|| outcome.rule().text.to_owned());
    let hint = ended.report.hint.as_deref();
    report.cli_version = events.iter().find_map(|event| match event {
        RunEvent::AgentStarted { cli_version, .. } => cli_version.clone(),
        _ => None,
    });
    let spoke = |event: &RunEvent| {
        matches!(event, RunEvent::AgentStarted { .. } | RunEvent::ToolCall { .. })
    };
    if !events.iter().any(spoke) {
        return report.fails(TestStep::Cli, with_noise(said, events), hint);
    }
    report.passes(TestStep::Cli);
    let answered = |event: &RunEvent| matches!(event, RunEvent::ToolResult { is_error: false, .. });
    let uid = rustix::process::geteuid().as_raw().to_string();
    let left = fs::read_to_string(proof).unwrap_or_default();
    if left.trim() != uid {
        let cause = if left.is_empty() {
            format!("the tool call left nothing: {said}")
        } else {
            format!("the tool call ran as user {}, and should as {uid}", left.trim())
        };
        return report.fails(TestStep::Tool, cause, hint);
    }
    report.passes(TestStep::Tool);
    let finished = |event: &RunEvent| matches!(event, RunEvent::AgentResult { is_error: false, usage, .. } if usage.output_tokens > 0);
    if !(events.iter().any(answered) && events.iter().any(finished)) {
        let cause = format!("what the command line reports is not understood: {said}");
        return report.fails(TestStep::Events, cause, hint);
    }
    report.passes(TestStep::Events);
    if outcome != RunOutcome::Succeeded || ended.claim.is_none() {
        return report.fails(TestStep::Result, said, hint);
    }
    report.passes(TestStep::Result);
}

/// What happened, and the first line that the command line printed instead of its protocol.
fn with_noise(said: String, events: &[RunEvent]) -> String {
    let printed = events.iter().find_map(|event| match event {
        RunEvent::Output { text, .. } => text.lines().find(|line| !line.trim().is_empty()),
        _ => None,
    });
    match printed {
        Some(line) => format!("{said}; it printed: {}", line.chars().take(200).collect::<String>()),
        None => said,
    }
}
