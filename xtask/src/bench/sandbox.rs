//! `cargo xtask bench sandbox`: how long a task waits for its agent in a container, beside what the engine itself takes.
//!
//! The system is the real one, and so is the image; only the command line of the agent is a stand-in that answers at
//! once, so that no start of a large program is measured. Each round measures all three ways, one after another.

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use client::{client::Client, follow::Follower};
use core_types::event::{NumberedEvent, RunEvent};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::{TASK_LIMIT, ended_run, point, serve, since, tell};
use crate::{
    binaries::{Binaries, Profile},
    cli::SandboxArgs,
    console::Steps,
    demo,
    engine::Engine,
    image,
    install::{self, Purpose},
    sandbox_engine::SandboxEngine,
    services::Environment,
    stack::Stack,
    static_worker,
    system::{self, PROGRAMS, Plan},
    workspace,
};

/// The image of the measurement.
const IMAGE: &str = "opentiger/bench:latest";
/// What stands in for the command line: it reads the prompt, says hello and is done.
const AGENT: &str = r#"#!/bin/sh
# The self-test of the image brings a model of its own, and wants the real one.
[ -z "$ANTHROPIC_BASE_URL" ] || exec /usr/local/bin/claude-itself "$@"
if [ "$1" = --version ]; then echo '2.1.330 (Claude Code)'; exit 0; fi
cat >/dev/null
cat <<'END'
{"type":"system","subtype":"init","session_id":"00000000-0000-4000-8000-000000000001","model":"none","claude_code_version":"0.0.0","apiKeySource":"none","permissionMode":"dontAsk","tools":[]}
{"type":"assistant","session_id":"00000000-0000-4000-8000-000000000001","message":{"id":"m","role":"assistant","model":"none","content":[{"type":"text","text":"nothing to do"}],"usage":{"input_tokens":1,"output_tokens":1}}}
{"type":"result","subtype":"success","is_error":false,"result":"nothing to do","session_id":"00000000-0000-4000-8000-000000000001","num_turns":1,"duration_ms":1,"total_cost_usd":0,"usage":{"input_tokens":1,"output_tokens":1},"permission_denials":[],"modelUsage":{},"terminal_reason":"completed","api_error_status":null}
END
"#;

/// Measures and tells.
pub(crate) fn run(args: &SandboxArgs) -> Result<()> {
    install::ensure(Purpose::Running, args.yes)?;
    let profile = if args.release { Profile::Release } else { Profile::Debug };
    let binaries = Binaries::build(PROGRAMS, profile)?;
    static_worker::build(profile)?;
    Runtime::new().context("start the runtime")?.block_on(on_an_engine(args.runs, binaries))
}

async fn on_an_engine(rounds: u32, binaries: Binaries) -> Result<()> {
    let engine = SandboxEngine::ready(&mut Steps::default()).await?;
    let measured = with_image(rounds, binaries, &engine).await;
    let docker = engine.docker()?;
    drop(docker.docker().args(["image", "rm", "--force", IMAGE]).output());
    measured.and(engine.end().await)
}

async fn with_image(rounds: u32, binaries: Binaries, engine: &SandboxEngine) -> Result<()> {
    let docker = engine.docker()?;
    tokio::task::block_in_place(|| build_image(&docker))?;
    let socket = engine.socket()?;
    let state_dir = system::purpose_directory("bench")?;
    let mut environment = Environment::of_machine()
        .with("OPENTIGER_STATE_DIR", state_dir.to_string_lossy())
        .with("EXECUTION_ENVIRONMENT", "sandbox")
        .with("SANDBOX_DOCKER_IMAGE", IMAGE)
        .with("SANDBOX_IMAGE_PULL", "never")
        .with("ANTHROPIC_API_KEY", "no-key-is-needed");
    engine.name_to(&mut environment);
    let plan = Plan::new(binaries, environment)?;
    serve(&plan, async |stack: &mut Stack, plan: &Plan| {
        let client = system::start(stack, plan, &mut Steps::default()).await?;
        let repository = demo::scratch_repository(&plan.state_dir.join("scratch"))?;
        let mut all = Measured::default();
        for number in 0..rounds {
            let task = task(number, &repository);
            let run = tokio::time::timeout(TASK_LIMIT, stack.guard(ended_run(&client, &task)));
            let run = run.await.context("wait for a task")??;
            all.ours.push(claim_to_first_byte(&client, &run).await?);
            let (by_command, by_engine) = tokio::task::block_in_place(|| {
                anyhow::Ok((docker_run(&docker)?, create_and_start(&socket)?))
            })?;
            all.by_command.push(by_command);
            all.by_engine.push(by_engine);
        }
        all.tell()
    })
    .await
}

/// One time per round for each way.
#[derive(Debug, Default)]
struct Measured {
    ours: Vec<Duration>,
    by_command: Vec<Duration>,
    by_engine: Vec<Duration>,
}

impl Measured {
    fn tell(self) -> Result<()> {
        tell("claim to first byte", self.ours)?;
        tell("docker run, first byte", self.by_command)?;
        tell("engine: create + start", self.by_engine)
    }
}

fn build_image(docker: &Engine) -> Result<()> {
    let context = workspace::local_dir().join(format!("bench-{}", std::process::id()));
    fs::create_dir_all(&context).with_context(|| format!("make `{}`", context.display()))?;
    let (worker, claude) = (image::DEFAULT_TAG, "/usr/local/bin/claude");
    let dockerfile = format!(
        "FROM {worker}\nCOPY --from={worker} {claude} {claude}-itself\nCOPY claude {claude}\n"
    );
    let built = fs::write(context.join("claude"), AGENT)
        .and_then(|()| fs::write(context.join("Dockerfile"), dockerfile))
        .and_then(|()| make_executable(&context.join("claude")))
        .context("write the image of the measurement")
        .and_then(|()| {
            docker.docker().args(["build", "--quiet", "--tag", IMAGE]).args([&context]).output()
        });
    fs::remove_dir_all(&context).context("remove the build's context")?;
    built.map(drop).context("build the image of the measurement")
}

fn make_executable(file: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(file, fs::Permissions::from_mode(0o755))
}

fn task(number: u32, repository: &Path) -> Value {
    json!({
        "title": format!("Measure {number}"),
        "goal": "Nothing.",
        "role": "worker",
        "max_attempts": 1,
        "repository": { "mode": "local", "path": repository },
    })
}

/// From the database's claim to the agent's first line, both by this machine's clock.
async fn claim_to_first_byte(client: &Client, run: &Value) -> Result<Duration> {
    let claimed = point(run, "created_at")?;
    let id = run.get("id").and_then(Value::as_str).context("find the run's id")?;
    let mut events = Follower::new(client.clone(), format!("/runs/{id}/events/stream"), 0);
    while let Some(NumberedEvent { at, event, .. }) = demo::next_event(&mut events).await? {
        match event {
            RunEvent::AgentStarted { .. } => return since(claimed, at),
            RunEvent::Ended { outcome, message } => {
                bail!("the agent of {id} said nothing: {outcome:?}, {message:?}")
            }
            _ => {}
        }
    }
    bail!("the events of {id} end without its end")
}

/// The command line's way: until the first byte of the same program.
fn docker_run(docker: &Engine) -> Result<Duration> {
    let begun = Instant::now();
    let run = ["run", "--rm", "--network", "bridge", IMAGE, "claude"];
    Ok(docker.docker().args(run).first_byte()?.duration_since(begun))
}

/// The engine's own way, without a program between: until it says that the container has started.
fn create_and_start(socket: &Path) -> Result<Duration> {
    let begun = Instant::now();
    let wanted = json!({ "Image": IMAGE, "Cmd": ["claude"], "NetworkMode": "bridge" });
    let created = ask(socket, "POST", "/containers/create", &wanted)?;
    let id = created.get("Id").and_then(Value::as_str).context("find the container's id")?;
    ask(socket, "POST", &format!("/containers/{id}/start"), &Value::Null)?;
    let took = begun.elapsed();
    ask(socket, "DELETE", &format!("/containers/{id}?force=1"), &Value::Null)?;
    Ok(took)
}

fn ask(socket: &Path, method: &str, path: &str, body: &Value) -> Result<Value> {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let mut stream = UnixStream::connect(socket).context("speak to the Docker engine")?;
    let head = format!(
        "{method} {path} HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes()))?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("read the engine's answer")?;
    let status = head.split(' ').nth(1).unwrap_or_default();
    if !status.starts_with('2') {
        bail!("the engine answers {method} {path} with {status}: {}", body.trim());
    }
    Ok(serde_json::from_str(body).unwrap_or(Value::Null))
}
