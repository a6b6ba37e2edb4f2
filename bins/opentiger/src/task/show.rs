//! `task show`.

use client::{client::Client, telling::cut};
use jiff::Timestamp;

use super::naming::{resolve, short};
use crate::{
    code::Code,
    console::{Console, Style},
    failure::Failure,
    shape::{Run, Task, read},
    table::{Columns, Facts},
    units,
};

/// The longest message of a run in the table.
const MESSAGE: usize = 60;

/// Shows everything about a task.
pub(crate) async fn run(text: &str, client: &Client, console: &Console) -> Result<Code, Failure> {
    let id = resolve(client, text).await?;
    let answer = client.get(&format!("/tasks/{id}")).await?;
    console.value(&answer)?;
    if !console.json {
        print(&read("a task", &answer)?, console)?;
    }
    Ok(Code::Done)
}

fn print(task: &Task, console: &Console) -> std::io::Result<()> {
    console.parts(&[
        (Style::Bold, &task.title),
        (Style::Plain, "  "),
        (style(&task.status), &task.status),
    ])?;
    facts(task).print(console)?;
    let waits = task.waiting.is_some() || task.status == "failed" || task.status == "blocked";
    let run = task.newest_run().filter(|_| waits);
    if let Some(hint) = run.and_then(|run| run.hint.as_ref()) {
        console.parts(&[(Style::Yellow, "hint: "), (Style::Plain, hint)])?;
    }
    if !task.runs.is_empty() {
        console.line("")?;
        runs(&task.runs, console)?;
    }
    if let Some(next) = next(task) {
        console.line("")?;
        console.parts(&[(Style::Dim, &next)])?;
    }
    Ok(())
}

fn facts(task: &Task) -> Facts {
    let now = Timestamp::now();
    let mut facts = Facts::default();
    facts.add("id", &task.id);
    let why = task.why(now);
    let label = match task.status.as_str() {
        "queued" => "waiting",
        _ => "reason",
    };
    facts.add_some(label, Some(why).filter(|why| !why.is_empty()));
    if let Some(until) = task.waiting.as_ref().and_then(|waiting| waiting.until) {
        facts.add("until", units::moment(until));
    }
    if task.status != "queued" {
        facts.add_some("message", task.newest_run().and_then(|run| run.message.clone()));
    }
    facts.add_some("goal", task.goal.as_deref().filter(|goal| *goal != task.title));
    if let Some(repository) = &task.repository {
        let place = repository.path.as_ref().or(repository.url.as_ref());
        facts.add(
            "repository",
            format!("{} ({})", place.map_or("", String::as_str), repository.mode),
        );
    }
    facts.add_some("base", task.base_branch.clone());
    for command in &task.verification {
        facts.add("verify", shell_words::join(command));
    }
    for dependency in &task.dependencies {
        facts.add("depends on", dependency);
    }
    facts.add_some("role", task.role.clone());
    facts.add_some("executor", task.executor.clone());
    facts.add_some("model", task.model.clone());
    facts.add_some("area", task.target_area.clone());
    facts.add_some(
        "priority",
        task.priority.filter(|priority| *priority != 0).map(|p| p.to_string()),
    );
    facts.add("created", units::moment(task.created_at));
    facts.add_some("finished", task.finished_at.map(units::moment));
    if let Some(retry) = &task.retry {
        facts.add("attempts", format!("{} of {}", retry.attempts, retry.max_attempts));
    }
    facts.add_some("branch", task.branch.clone());
    facts.add_some("commit", task.commit.clone());
    facts
}

fn runs(runs: &[Run], console: &Console) -> std::io::Result<()> {
    let mut table = Columns::new(
        console,
        &["RUN", "STATUS", "OUTCOME", "STARTED", "TOOK", "TOKENS", "USD", "MESSAGE"],
    );
    for run in runs {
        let took =
            run.duration_s.and_then(|seconds| std::time::Duration::try_from_secs_f64(seconds).ok());
        let usage = run.usage.as_ref();
        table.row([
            run.number.to_string(),
            run.status.clone(),
            run.outcome.clone().unwrap_or_default(),
            units::moment(run.created_at),
            took.map(units::length).unwrap_or_default(),
            usage.map(|usage| usage.total_tokens.to_string()).unwrap_or_default(),
            usage.map(|usage| format!("{:.4}", usage.cost_usd)).unwrap_or_default(),
            cut(run.message.as_deref().unwrap_or_default(), MESSAGE),
        ]);
    }
    table.print(console)
}

/// What can be done next.
fn next(task: &Task) -> Option<String> {
    let name = short(&task.id);
    match task.status.as_str() {
        "queued" | "running" => Some(format!("opentiger task logs -f {name}")),
        "done" if task.commit.is_some() => {
            Some(format!("opentiger task diff {name}; opentiger task apply {name}"))
        }
        "failed" | "blocked" if task.commit.is_some() => Some(format!(
            "opentiger task logs {name}; opentiger task apply {name}; opentiger task retry {name} --feedback \"…\""
        )),
        "failed" | "blocked" => Some(format!(
            "opentiger task logs {name}; opentiger task retry {name} --feedback \"…\""
        )),
        _ => None,
    }
}

/// How a task's status stands out.
pub(crate) fn style(status: &str) -> Style {
    match status {
        "done" => Style::Green,
        "failed" | "blocked" => Style::Red,
        "running" => Style::Cyan,
        _ => Style::Yellow,
    }
}
