//! `kill -9` of each part, and of several, in the middle of a run: the task ends exactly once, rightly.

use rustix::process::Signal;
use serde_json::json;
use testing::wait::wait_for;

use crate::system::{DEADLINE, Part, System, text_at};

/// An agent that works for some seconds, then writes a file.
const SLOW: &str = "[fake: slow] [seconds: 3] [file: made.txt]";

#[tokio::test]
async fn run_goes_on_while_the_dispatcher_is_dead() {
    let mut system = System::with_fake_agent().await;
    let task = system.queue(SLOW, json!({})).await;
    system.wait_event(&task, "agent_started").await;
    system.kill(Part::Dispatcher);
    system.wait_status(&task, "done").await;
    system.spawn(Part::Dispatcher);
    ends_once_after(&system, &task, &["succeeded"]).await;
}

#[tokio::test]
async fn run_goes_on_while_the_api_server_is_dead() {
    let mut system = System::with_fake_agent().await;
    let task = system.queue(SLOW, json!({})).await;
    system.wait_event(&task, "agent_started").await;
    system.kill(Part::ApiServer);
    system.spawn(Part::ApiServer);
    system.wait_status(&task, "done").await;
    ends_once_after(&system, &task, &["succeeded"]).await;
}

#[tokio::test]
async fn killed_worker_has_its_agent_ended_and_its_task_run_again() {
    let mut system = System::with_fake_agent().await;
    let task = system.queue(SLOW, json!({})).await;
    system.wait_event(&task, "agent_started").await;
    let killed_at = std::time::Instant::now();
    system.kill(Part::Worker);
    system.wait_status(&task, "queued").await;
    // The requirement is 2 s (D5); the rest is room for a loaded machine.
    assert!(killed_at.elapsed().as_secs() < 4, "{:?}", killed_at.elapsed());
    assert_eq!(system.live_launches().await, Vec::<String>::new(), "the agent outlived its run");
    system.spawn(Part::Worker);
    system.wait_status(&task, "done").await;
    ends_once_after(&system, &task, &["worker_lost", "succeeded"]).await;
}

/// A lease, twice: the dispatcher has just started, and concludes nothing from silence in its first lease period.
const LEASES: std::time::Duration = std::time::Duration::from_secs(90);

#[tokio::test]
async fn worker_that_stood_still_past_its_lease_writes_nothing_when_it_returns() {
    let system = System::with_fake_agent().await;
    let task = system.queue(SLOW, json!({})).await;
    system.wait_event(&task, "agent_started").await;
    system.signal(Part::Worker, Signal::STOP);
    wait_for("the silent run to be taken back", LEASES, async || {
        let shown = system.task(&task).await?;
        if text_at(&shown, "/status") == "queued" { Ok(()) } else { Err(shown.to_string()) }
    })
    .await;
    assert_eq!(system.live_launches().await, Vec::<String>::new(), "the agent outlived its run");
    let before = system.runs(&task).await;
    system.signal(Part::Worker, Signal::CONT);
    system.wait_status(&task, "done").await;
    let after = system.runs(&task).await;
    assert_eq!(after.first(), before.first(), "the returned worker changed a run that was over");
    ends_once_after(&system, &task, &["worker_lost", "succeeded"]).await;
}

#[tokio::test]
async fn worker_that_is_asked_to_end_gives_its_run_back_once_and_free_of_charge() {
    let mut system = System::with_fake_agent().await;
    let task = system.queue("[fake: hang]", json!({ "max_attempts": 1 })).await;
    system.wait_event(&task, "agent_started").await;
    assert_eq!(system.terminate(Part::Worker), Some(0), "{}", system.logs());
    let shown = system.wait_status(&task, "queued").await;
    assert_eq!(shown.pointer("/attempts"), Some(&json!(0)), "{shown}");
    let runs = system.runs(&task).await;
    let outcomes: Vec<String> = runs.iter().map(|run| text_at(run, "/outcome")).collect();
    assert_eq!(outcomes, ["interrupted"]);
    system.wait_clean().await;
}

#[tokio::test]
async fn every_part_ends_by_itself_when_asked() {
    let mut system = System::with_fake_agent().await;
    for part in [Part::Worker, Part::Dispatcher, Part::ApiServer] {
        assert_eq!(system.terminate(part), Some(0), "{part:?}\n{}", system.logs());
    }
}

#[tokio::test]
async fn everything_killed_at_once_comes_back_and_ends_the_task_once() {
    let mut system = System::with_fake_agent().await;
    let task = system.queue(SLOW, json!({})).await;
    system.wait_event(&task, "agent_started").await;
    for part in [Part::Worker, Part::Dispatcher, Part::ApiServer] {
        system.kill(part);
    }
    for part in [Part::ApiServer, Part::Dispatcher, Part::Worker] {
        system.spawn(part);
    }
    system.wait_status(&task, "done").await;
    ends_once_after(&system, &task, &["worker_lost", "succeeded"]).await;
}

#[tokio::test]
async fn run_goes_on_over_a_restart_of_the_database() {
    let system = System::with_private_postgres().await;
    let task = system.queue(SLOW, json!({})).await;
    system.wait_event(&task, "agent_started").await;
    system.kill_postgres();
    wait_for("the task to be done", DEADLINE, async || {
        let shown = system.task(&task).await?;
        if text_at(&shown, "/status") == "done" { Ok(()) } else { Err(shown.to_string()) }
    })
    .await;
    ends_once_after(&system, &task, &["succeeded"]).await;
}

/// The runs ended as listed, only the last one made a branch, and nothing is alive or left.
async fn ends_once_after(system: &System, task: &str, outcomes: &[&str]) {
    let runs = system.runs(task).await;
    let seen: Vec<String> = runs.iter().map(|run| text_at(run, "/outcome")).collect();
    assert_eq!(seen, outcomes, "{}", system.logs());
    let branches =
        system.repository.git(&["branch", "--list", "--format=%(refname:short)", "opentiger/*"]);
    assert_eq!(branches.trim(), format!("opentiger/{task}-{}", outcomes.len()));
    let files = system.repository.git(&["show", "--stat", "--format=", branches.trim()]);
    assert!(files.contains("made.txt"), "{files}");
    assert_eq!(system.live_launches().await, Vec::<String>::new());
    system.wait_clean().await;
}
