//! `cargo xtask bench`: measurements of a whole system.
//!
//! `handover`: how long a task waits for an idle agent, and what the programs hold in memory.
//!
//! `pages`: what the dashboard's pages weigh, and how soon they show.
//!
//! The system is the real one with real Postgres; only the agent's command line is a stand-in that ends at once.

pub(crate) mod pages;
pub(crate) mod sandbox;

use std::{fs, time::Duration};

use anyhow::{Context as _, Result, bail};
use client::client::Client;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::{
    binaries::{Binaries, Profile},
    cli::HandoverArgs,
    console::{Steps, line},
    demo,
    install::{self, Purpose},
    interrupts::Interrupts,
    services::Environment,
    stack::{Ownership, Stack},
    system::{self, AGENT, PROGRAMS, Plan},
};

/// How long the system is left alone before its memory is read.
const IDLE: Duration = Duration::from_secs(5);
/// How long one task may take.
const TASK_LIMIT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(10);

/// Does what the command line asks for.
pub(crate) fn run(args: &HandoverArgs) -> Result<()> {
    install::ensure(Purpose::Running, args.yes)?;
    let profile = if args.release { Profile::Release } else { Profile::Debug };
    let packages: Vec<&str> = PROGRAMS.iter().copied().chain(["testing"]).collect();
    let binaries = Binaries::build(&packages, profile)?;
    let state_dir = system::purpose_directory("bench")?;
    let environment = Environment::of_machine()
        .with("OPENTIGER_STATE_DIR", state_dir.to_string_lossy())
        .with("CLAUDE_CODE_COMMAND", binaries.program("fake-agent")?.to_string_lossy());
    let plan = Plan::new(binaries, environment)?;
    Runtime::new()
        .context("start the runtime")?
        .block_on(serve(&plan, async |stack: &mut Stack, plan: &Plan| {
            measure(args.tasks, stack, plan).await
        }))
}

/// Runs a measurement on a system that has nothing from before, and stops it.
async fn serve(
    plan: &Plan,
    measure: impl AsyncFnOnce(&mut Stack, &Plan) -> Result<()>,
) -> Result<()> {
    let mut interrupts = Interrupts::new()?;
    let mut stack = Stack::new(&plan.state_dir, Ownership::Alone)?;
    let lock = plan.lock()?;
    stack.clear_earlier().await?;
    // A measurement starts from nothing: no backlog, no schema of another version.
    match std::fs::remove_dir_all(plan.state_dir.join("postgres")) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).context("remove the data of the measurement before");
        }
        Ok(()) | Err(_) => {}
    }
    let outcome = tokio::select! {
        outcome = measure(&mut stack, plan) => outcome,
        () = interrupts.next() => Err(anyhow::anyhow!("interrupted before it was done")),
    };
    stack.stop(interrupts.next()).await;
    let cleared = stack.expect_nothing_left().await;
    drop(lock);
    outcome.and(cleared)
}

async fn measure(count: u32, stack: &mut Stack, plan: &Plan) -> Result<()> {
    let client = system::start(stack, plan, &mut Steps::default()).await?;
    tokio::time::sleep(IDLE).await;
    tell_memory(stack, "idle").await?;
    let repository = demo::scratch_repository(&plan.state_dir.join("scratch"))?;
    let mut waits = Vec::new();
    for number in 0..count {
        let task = json!({
            "title": format!("Measure {number}"),
            "goal": "[fake: nothing]",
            "role": "worker",
            "max_attempts": 1,
            "repository": { "mode": "local", "path": repository },
        });
        let waited = tokio::time::timeout(TASK_LIMIT, stack.guard(one_task(&client, &task)));
        waits.push(waited.await.context("wait for a task")??);
    }
    tell_memory(stack, "after the tasks").await?;
    tell_waits(&waits)
}

/// Submits a task to the idle system and waits for its end; how long it had to wait.
///
/// Both ends are points of wall-clock time on this machine: ours before the request, the database's at the start.
async fn one_task(client: &Client, task: &Value) -> Result<Wait> {
    let asked = Timestamp::now();
    let run = ended_run(client, task).await?;
    let (claimed, accepted) = (point(&run, "created_at")?, point(&run, "started_at")?);
    Ok(Wait { claimed: since(asked, claimed)?, accepted: since(asked, accepted)? })
}

/// Submits a task and waits for the end of its run, which it returns.
async fn ended_run(client: &Client, task: &Value) -> Result<Value> {
    let answer = client.post("/tasks", task).await?;
    let id = answer.get("id").and_then(Value::as_str).context("find the task's id")?;
    let run = demo::run_of(client, id).await?;
    loop {
        let run = client.get(&format!("/runs/{run}")).await?;
        if run.get("ended_at").is_some_and(Value::is_string) {
            return Ok(run);
        }
        tokio::time::sleep(POLL).await;
    }
}

/// A point in time that an answer holds.
fn point(answer: &Value, key: &str) -> Result<Timestamp> {
    let text = answer.get(key).and_then(Value::as_str);
    text.with_context(|| format!("find `{key}` in {answer}"))?.parse().context("read a time")
}

fn since(from: Timestamp, to: Timestamp) -> Result<Duration> {
    Duration::try_from(to.duration_since(from)).context("compare the clocks")
}

/// How long a task waited, counted from the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Wait {
    /// Until a dispatcher had claimed it.
    claimed: Duration,
    /// Until the agent had accepted it.
    accepted: Duration,
}

fn tell_waits(waits: &[Wait]) -> Result<()> {
    tell("POST /tasks to claimed", waits.iter().map(|wait| wait.claimed).collect())?;
    tell("claimed to accepted", waits.iter().map(|wait| wait.accepted - wait.claimed).collect())?;
    tell("POST /tasks to accepted", waits.iter().map(|wait| wait.accepted).collect())
}

fn tell(what: &str, mut waits: Vec<Duration>) -> Result<()> {
    waits.sort_unstable();
    let last = waits.len().saturating_sub(1);
    let at = |percent: usize| waits.get((waits.len() * percent / 100).min(last));
    let (Some(half), Some(most), Some(longest)) = (at(50), at(99), waits.last()) else {
        bail!("no task was measured");
    };
    let [half, most, longest] = [half, most, longest].map(|wait| wait.as_secs_f64() * 1000.0);
    let count = waits.len();
    line(format!(
        "{what:<24} {count} times: p50 {half:.1} ms, p99 {most:.1} ms, max {longest:.1} ms"
    ));
    Ok(())
}

async fn tell_memory(stack: &Stack, when: &str) -> Result<()> {
    for name in ["api-server", "dispatcher", AGENT] {
        let kib = resident_kib(stack.pid(name).await?)?;
        line(format!("resident memory {when}: {name} {:.1} MiB", f64::from(kib) / 1024.0));
    }
    Ok(())
}

fn resident_kib(pid: i32) -> Result<u32> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).with_context(|| format!("read `{path}`"))?;
    let value = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let digits: String = value.unwrap_or_default().chars().filter(char::is_ascii_digit).collect();
    digits.parse().with_context(|| format!("find the resident memory in `{path}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_knows_its_resident_memory() {
        let pid = i32::try_from(std::process::id()).unwrap();
        assert!(resident_kib(pid).unwrap() > 100);
    }

    #[test]
    fn no_measurement_is_no_result() {
        assert!(tell_waits(&[]).is_err());
    }
}
