//! Following a task to its end, over as many runs as it takes.

use std::time::Duration;

use client::{client::Client, follow::Follower};

use crate::{
    code::Code,
    console::{Console, Style},
    failure::Failure,
    progress::Progress,
    shape::{Run, Task, read},
    story::Teller,
    task::{naming::short, show::style},
};

/// How often a task is looked at while no run of it tells anything.
const LOOK: Duration = Duration::from_millis(250);

/// Tells what happens to a task until nothing more does; Ctrl-C ends the telling and not the task.
pub(crate) async fn task(client: &Client, id: &str, console: &Console) -> Result<Code, Failure> {
    or_interrupted(to_the_end(client, id, console), id).await
}

/// Does something until it is done or somebody presses Ctrl-C.
pub(crate) async fn or_interrupted(
    work: impl Future<Output = Result<Code, Failure>>,
    id: &str,
) -> Result<Code, Failure> {
    // Either arm only reads and tells; the one that loses can be dropped.
    tokio::select! {
        outcome = work => outcome,
        pressed = tokio::signal::ctrl_c() => {
            pressed.map_err(|error| Failure::of("listen for Ctrl-C", &error))?;
            let name = short(id);
            Err(Failure::new(Code::Interrupted, format!("no longer followed; the task {name} goes on"))
                .with_hint(format!("`opentiger task logs -f {name}` follows it again, `opentiger task cancel {name}` ends it")))
        }
    }
}

async fn to_the_end(client: &Client, id: &str, console: &Console) -> Result<Code, Failure> {
    let mut told = 0;
    loop {
        let task = next_run_or_end(client, id, told, console).await?;
        let mut runs: Vec<&Run> = task.runs.iter().filter(|run| run.number > told).collect();
        runs.sort_by_key(|run| run.number);
        if runs.is_empty() {
            return end(&task, console);
        }
        for run in runs {
            if run.number > 1 {
                console.parts(&[(Style::Bold, &format!("run {}", run.number))])?;
            }
            follow_run(client, &run.id, 0, console).await?;
            told = run.number;
        }
    }
}

/// Waits until the task has a run that was not told yet, or stands where nothing follows by itself.
async fn next_run_or_end(
    client: &Client,
    id: &str,
    told: u64,
    console: &Console,
) -> Result<Task, Failure> {
    let mut progress = Progress::new(console);
    loop {
        let task: Task = read("a task", &patient(client, &format!("/tasks/{id}")).await?)?;
        let new = task.runs.iter().any(|run| run.number > told && run.status != "launching");
        let over = matches!(task.status.as_str(), "done" | "failed" | "blocked" | "cancelled");
        if new || over {
            return Ok(task);
        }
        let why = task.why(jiff::Timestamp::now());
        let why =
            if why.is_empty() { task.status.clone() } else { format!("{}: {why}", task.status) };
        progress.during(&why, tokio::time::sleep(LOOK)).await;
    }
}

/// Asks again where the server is away for a moment: it may be started anew while a task is followed.
async fn patient(client: &Client, path: &str) -> Result<serde_json::Value, Failure> {
    let begun = std::time::Instant::now();
    loop {
        match client.get(path).await {
            Err(error) if error.is_transient() && begun.elapsed() < Duration::from_secs(30) => {
                tokio::time::sleep(error.retry_after().unwrap_or(LOOK).max(LOOK)).await;
            }
            answer => return Ok(answer?),
        }
    }
}

/// Tells the events of a run from after a number on, until it has ended.
pub(crate) async fn follow_run(
    client: &Client,
    run: &str,
    after: i64,
    console: &Console,
) -> Result<(), Failure> {
    let mut follower = Follower::new(client.clone(), format!("/runs/{run}/events/stream"), after);
    let mut teller = Teller::new(console);
    while let Some(event) = follower.next().await? {
        teller.tell(&event)?;
    }
    Ok(())
}

/// Tells how a task stands, and gives the code that says so.
fn end(task: &Task, console: &Console) -> Result<Code, Failure> {
    let why = task.why(jiff::Timestamp::now());
    let why = if why.is_empty() { why } else { format!(": {why}") };
    console.parts(&[(style(&task.status), &task.status), (Style::Plain, &why)])?;
    if let (Some(commit), Some(branch)) = (&task.commit, &task.branch) {
        let commit: String = commit.chars().take(12).collect();
        console.line(format!("commit {commit} on {branch}"))?;
    }
    let hint = task.newest_run().and_then(|run| run.hint.clone());
    match (result(&task.status), hint) {
        (Code::Done, _) | (_, None) => {}
        (_, Some(hint)) => console.remark(format!("hint: {hint}")),
    }
    Ok(result(&task.status))
}

/// The code of a task that is over.
pub(crate) fn result(status: &str) -> Code {
    match status {
        "done" => Code::Done,
        "blocked" => Code::TaskBlocked,
        "cancelled" => Code::TaskCancelled,
        _ => Code::TaskFailed,
    }
}
