//! The demo: one task in a scratch repository, done by the real agent against a scripted model.
//!
//! It has a state directory of its own, so that it never meets real data, and takes nobody's key, login or database.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use client::{client::Client, follow::Follower};
use core_types::event::{NumberedEvent, RunEvent};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    agent_tools::AgentTools,
    commands::Tool,
    console::{Steps, line},
    follow::Teller,
    services::{Environment, Service},
    stack::Stack,
    system::{self, Plan},
};

/// What stands in for a key. The scripted model takes any.
const NO_KEY: &str = "demo-key-without-any-rights";
/// How long the demo's task may take.
const TASK_LIMIT: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(20);

/// The variables of the demo's programs.
pub(crate) fn environment(tools: &AgentTools) -> Result<Environment> {
    let state_dir = system::purpose_directory("demo")?;
    let home = state_dir.join("claude-home");
    let mut environment = Environment::of_machine();
    environment.set("OPENTIGER_STATE_DIR", state_dir.to_string_lossy());
    environment.set("OPENTIGER_CLAUDE_HOME", home.to_string_lossy());
    for (key, program) in tools.settings() {
        environment.set(key, program.to_string_lossy());
    }
    environment.set("ANTHROPIC_API_KEY", NO_KEY);
    Ok(environment)
}

/// Starts the scripted model and lets the plan's programs know where it is.
pub(crate) async fn start_model(stack: &mut Stack, plan: &mut Plan) -> Result<()> {
    empty(&plan.state_dir.join("claude-home"))?;
    let program = plan.binaries.program("model-stub")?;
    let service = Service::new("model-stub", program, &Environment::of_machine());
    stack.start(&service.args(&["--listen", "127.0.0.1:0", "--script", "demo"])).await?;
    let address = stack.guard(stack.wait_for_line("model-stub", address)).await?;
    plan.environment.set("ANTHROPIC_BASE_URL", address);
    Ok(())
}

/// The address in a line such as `listening on http://127.0.0.1:1234`.
fn address(line: &str) -> Option<String> {
    let (_, rest) = line.split_once("http://127.0.0.1:")?;
    let port: String = rest.chars().take_while(char::is_ascii_digit).collect();
    (!port.is_empty()).then(|| format!("http://127.0.0.1:{port}"))
}

/// Submits the task, tells what happens to it, and shows the commit.
pub(crate) async fn run(
    stack: &Stack,
    plan: &Plan,
    client: &Client,
    steps: &mut Steps,
) -> Result<()> {
    let repository = scratch_repository(&plan.state_dir.join("scratch"))?;
    let begun = Instant::now();
    let since = Timestamp::now();
    let task = client.post("/tasks", &task(&repository)).await?;
    let id = text(&task, "id")?;
    line(format!("\nsubmitted {id}: {}", text(&task, "title")?));
    let story = tokio::time::timeout(TASK_LIMIT, stack.guard(follow(client, &id, since)));
    let story = story.await.with_context(|| format!("wait for {id} to end"))??;
    let task = final_state(client, &id).await?;
    story.note_phases(steps, since);
    steps.add("task, from POST to done", begun.elapsed());
    show(&repository, &task)
}

fn task(repository: &Path) -> Value {
    json!({
        "title": "Greet the tiger",
        "goal": "Write a file GREETING.md that greets the tiger in one line.",
        "role": "worker",
        "repository": { "mode": "local", "path": repository },
        "verification": [["grep", "-i", "tiger", "GREETING.md"]],
    })
}

/// What was seen of a run.
#[derive(Debug, Default)]
struct Story {
    phases: Vec<(String, Timestamp)>,
    ended: Option<Timestamp>,
}

impl Story {
    fn note(&mut self, event: &NumberedEvent) {
        match &event.event {
            RunEvent::Phase { name } => self.phases.push((name.clone(), event.at)),
            RunEvent::Ended { .. } => self.ended = Some(event.at),
            _ => {}
        }
    }

    /// Each phase lasts until the next one begins, the last one until the run's end.
    fn note_phases(&self, steps: &mut Steps, since: Timestamp) {
        let ends = self.phases.iter().skip(1).map(|(_, at)| *at).chain(self.ended);
        if let Some((_, accepted)) = self.phases.first() {
            steps.note("task: accepted", between(since, *accepted));
        }
        for ((name, from), to) in self.phases.iter().zip(ends) {
            steps.note(&format!("task: {name}"), between(*from, to));
        }
    }
}

fn between(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}

async fn follow(client: &Client, task: &str, since: Timestamp) -> Result<Story> {
    let run = run_of(client, task).await?;
    let teller = Teller::new(since);
    let mut story = Story::default();
    let mut events = Follower::new(client.clone(), format!("/runs/{run}/events/stream"), 0);
    while let Some(event) = next_event(&mut events).await? {
        teller.tell(&event);
        story.note(&event);
        if story.ended.is_some() {
            break;
        }
    }
    Ok(story)
}

/// The next event of a run; none after the last one.
pub(crate) async fn next_event(events: &mut Follower) -> Result<Option<NumberedEvent>> {
    let Some(event) = events.next().await? else {
        return Ok(None);
    };
    let text = event.to_string();
    let event = serde_json::from_value(event);
    Ok(Some(event.with_context(|| format!("read the run's event `{text}`"))?))
}

/// The newest run of a task, as soon as it has one.
pub(crate) async fn run_of(client: &Client, task: &str) -> Result<String> {
    loop {
        let state = client.get(&format!("/tasks/{task}")).await?;
        let newest = state.get("runs").and_then(|runs| runs.get(0)?.get("id")?.as_str());
        if let Some(run) = newest {
            return Ok(run.to_owned());
        }
        tokio::time::sleep(POLL).await;
    }
}

/// The run's last event comes a moment before the transaction that ends the task.
async fn final_state(client: &Client, id: &str) -> Result<Value> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let task = client.get(&format!("/tasks/{id}")).await?;
        match text(&task, "status")?.as_str() {
            "done" => return Ok(task),
            "queued" | "running" if Instant::now() < deadline => tokio::time::sleep(POLL).await,
            status => bail!("the task is `{status}` and not `done`: {task}"),
        }
    }
}

fn show(repository: &Path, task: &Value) -> Result<()> {
    let branch = text(task, "branch")?;
    line(format!("\ndone; the commit on `{branch}` of {}:\n", repository.display()));
    let log = Tool::new("git")
        .args(["-c", "color.ui=never", "log", "-1", "--stat", "--patch", &branch, "--"])
        .directory(repository)
        .output()?;
    for one in log.lines() {
        line(format!("    {one}"));
    }
    line("");
    Ok(())
}

/// A fresh repository with one commit; the one of the last demo is gone.
pub(crate) fn scratch_repository(path: &Path) -> Result<PathBuf> {
    empty(path)?;
    fs::write(path.join("README.md"), "# Scratch\n\nA repository for a demo task.\n")?;
    let git = |args: &[&str]| {
        let identity = ["-c", "user.name=openTiger demo", "-c", "user.email=demo@localhost"];
        let plain = ["-c", "commit.gpgsign=false", "-c", "core.hooksPath=/dev/null"];
        Tool::new("git").args(identity).args(plain).args(args).directory(path).output()
    };
    git(&["init", "--quiet", "--initial-branch=main", "."])?;
    git(&["add", "README.md"])?;
    git(&["commit", "--quiet", "--message", "Begin"])?;
    Ok(path.to_owned())
}

fn empty(path: &Path) -> Result<()> {
    if path.try_exists()? {
        fs::remove_dir_all(path).with_context(|| format!("empty `{}`", path.display()))?;
    }
    fs::create_dir_all(path).with_context(|| format!("make `{}`", path.display()))
}

fn text(value: &Value, key: &str) -> Result<String> {
    let text = value.get(key).and_then(Value::as_str);
    Ok(text.with_context(|| format!("find `{key}` in {value}"))?.to_owned())
}

/// How to use a system that is up.
#[must_use]
pub(crate) fn invitation(client: &Client) -> String {
    let base = client.base().as_str();
    format!(
        "\nopenTiger is up at {base}; Ctrl-C stops it. Submit a task:\n\n  \
         curl -s {base}/tasks -H 'content-type: application/json' -d '{{\n    \
         \"title\": \"…\", \"goal\": \"…\", \"role\": \"worker\",\n    \
         \"repository\": {{\"mode\": \"local\", \"path\": \"/path/to/a/repository\"}},\n    \
         \"verification\": [[\"cargo\", \"test\"]]\n  }}'\n\n\
         Look at it: curl -s {base}/tasks/TASK; follow it: curl -N {base}/runs/RUN/events/stream\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_s_address_is_read_from_its_words() {
        assert_eq!(
            address("listening on http://127.0.0.1:4312/"),
            Some("http://127.0.0.1:4312".to_owned())
        );
        assert_eq!(address("starting"), None);
    }

    #[test]
    fn a_scratch_repository_has_one_commit_however_often_it_is_made() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("scratch");
        for _ in 0..2 {
            scratch_repository(&path).unwrap();
        }
        let count =
            Tool::new("git").args(["rev-list", "--count", "main"]).directory(&path).output();
        assert_eq!(count.unwrap(), "1");
    }
}
