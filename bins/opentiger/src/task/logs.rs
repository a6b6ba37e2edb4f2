//! `task logs`.

use client::client::Client;
use serde::Deserialize;
use serde_json::Value;

use super::{follow, naming::resolve};
use crate::{
    cli::task::LogsArgs,
    code::Code,
    console::Console,
    failure::Failure,
    shape::{Run, Task, read},
    story::Teller,
};

#[derive(Deserialize)]
struct EventPage {
    items: Vec<Value>,
    next_after: i64,
}

/// Shows a run's events.
pub(crate) async fn run(
    args: &LogsArgs,
    client: &Client,
    console: &Console,
) -> Result<Code, Failure> {
    let id = resolve(client, &args.id).await?;
    if args.follow && args.run.is_none() {
        return follow::task(client, &id, console).await;
    }
    let task: Task = read("a task", &client.get(&format!("/tasks/{id}")).await?)?;
    let Some(run) = wanted(&task, args.run)? else {
        console.remark(format!("the task has no run yet: {}", task.why(jiff::Timestamp::now())));
        return Ok(Code::Done);
    };
    if args.follow {
        let following = async {
            follow::follow_run(client, &run.id, 0, console).await?;
            let task: Task = read("a task", &client.get(&format!("/tasks/{id}")).await?)?;
            let over = matches!(task.status.as_str(), "done" | "failed" | "blocked" | "cancelled");
            Ok(if over { follow::result(&task.status) } else { Code::Done })
        };
        return follow::or_interrupted(following, &id).await;
    }
    all(client, &run.id, console).await?;
    Ok(Code::Done)
}

fn wanted(task: &Task, number: Option<u64>) -> Result<Option<&Run>, Failure> {
    let Some(number) = number else {
        return Ok(task.newest_run());
    };
    match task.runs.iter().find(|run| run.number == number) {
        Some(run) => Ok(Some(run)),
        None => Err(Failure::new(Code::NotFound, format!("the task has no run {number}"))
            .with_hint(format!("it has {}", task.runs.len()))),
    }
}

async fn all(client: &Client, run: &str, console: &Console) -> Result<(), Failure> {
    let mut teller = Teller::new(console);
    let mut after = 0;
    loop {
        let path = format!("/runs/{run}/events?after={after}&limit=1000");
        let page: EventPage = read("a page of events", &client.get(&path).await?)?;
        if page.items.is_empty() {
            return Ok(());
        }
        for event in &page.items {
            teller.tell(event)?;
        }
        after = page.next_after;
    }
}
