//! Taking back runs whose worker died, hangs, or never took them.

use std::time::Duration;

use core_types::{
    event::{NumberedEvent, RunEvent},
    ids::RunId,
    outcome::RunOutcome,
    task::{RunStatus, TaskStatus},
};
use futures_util::StreamExt as _;
use jiff::Timestamp;
use launcher::{
    handle::{Handle, LaunchState},
    launcher::Launcher as _,
    output::{LogContent, LogCursor},
};
use store::error::FencedError;

use crate::bench::{Bench, LEASE, SPENT, Worker, end, fresh, is_running, look, steady};

#[tokio::test]
async fn dead_workers_agent_is_ended_before_its_task_is_queued_again() {
    let bench = Bench::new().await;
    let key = bench.started(Worker::Dead, LEASE).await;
    let agent = bench.launched(&key.run.to_string()).await;
    // A death that is seen does not wait for trust in silence.
    look(&mut bench.recovery(), fresh()).await;
    assert!(matches!(&*agent.state().borrow(), LaunchState::Ended(_)), "the agent still lives");
    let run = bench.run(key).await;
    assert_eq!(run.outcome(), Some(RunOutcome::WorkerLost));
    let task = bench.task(run.task).await;
    assert_eq!((task.state.status(), task.attempts), (TaskStatus::Queued, 1));
    assert!(bench.launcher.discover().await.unwrap().is_empty(), "its launch directory is left");
    let retired = bench.database.store.agents().await.unwrap();
    assert!(retired.iter().all(|agent| agent.retired_at.is_some()), "{retired:?}");
}

#[tokio::test]
async fn what_a_lost_agent_printed_is_in_no_message() {
    let canary = "sk-canary-7f3a";
    let bench = Bench::new().await;
    let key = bench.started(Worker::Dead, LEASE).await;
    let agent = bench.launched_printing(&key.run.to_string(), canary).await;
    assert!(first_output(&agent).await.contains(canary));
    look(&mut bench.recovery(), fresh()).await;
    let run = bench.run(key).await;
    let task = bench.task(run.task).await;
    let events = bench.database.store.events(key.run, 0, 100).await.unwrap();
    let all = format!("{run:?} {task:?} {events:?}");
    assert!(!all.contains(canary), "{all}");
    // How its agent ended is told, from the exit report.
    assert!(all.contains("its worker process ended; its agent ended by signal 15"), "{all}");
}

#[tokio::test]
async fn living_worker_keeps_its_run_and_its_agent() {
    let bench = Bench::new().await;
    let key = bench.started(Worker::Alive, LEASE).await;
    let agent = bench.launched(&key.run.to_string()).await;
    look(&mut bench.recovery(), steady()).await;
    assert_eq!(bench.run(key).await.status, RunStatus::Running);
    assert!(is_running(&agent));
    end(&agent).await;
}

#[tokio::test]
async fn launches_of_other_runs_are_left_alone() {
    let bench = Bench::new().await;
    let key = bench.started(Worker::Dead, LEASE).await;
    let other = bench.launched(&RunId::generate().to_string()).await;
    look(&mut bench.recovery(), fresh()).await;
    assert_eq!(bench.run(key).await.status, RunStatus::Ended);
    assert!(is_running(&other));
    end(&other).await;
}

#[tokio::test]
async fn run_of_another_launch_store_is_not_touched() {
    let bench = Bench::new().await;
    let key = bench.started(Worker::Dead, LEASE).await;
    let agent = bench.launched(&key.run.to_string()).await;
    // The same machine, another state directory: a pid that is gone and launches that are not there prove nothing.
    look(&mut bench.recovery_of("here-with-another-store", LEASE), steady()).await;
    assert_eq!(bench.run(key).await.status, RunStatus::Running);
    assert!(is_running(&agent));
    end(&agent).await;
}

#[tokio::test]
async fn silent_run_is_left_alone_after_a_gap_and_fenced_when_taken_back() {
    let bench = Bench::new().await;
    let key = bench.started(Worker::Alive, SPENT).await;
    let mut recovery = bench.recovery();
    look(&mut recovery, fresh()).await;
    assert_eq!(bench.run(key).await.status, RunStatus::Running);

    look(&mut recovery, steady()).await;
    assert_eq!(bench.run(key).await.outcome(), Some(RunOutcome::WorkerLost));
    // The worker comes back from its pause: nothing of it is written any more.
    let event = RunEvent::Notice { text: "late".to_owned() };
    let late = NumberedEvent { seq: 1_000, at: Timestamp::now(), event };
    let answer = bench.database.store.append_events(key, &[late]).await;
    assert!(matches!(answer, Err(FencedError::Fenced { .. })), "{answer:?}");
}

#[tokio::test]
async fn run_that_its_agent_never_accepted_is_taken_back_and_costs_no_attempt() {
    let bench = Bench::new().await;
    let (key, _) = bench.handed_out(Worker::Alive, LEASE).await;
    look(&mut bench.recovery(), steady()).await;
    assert_eq!(bench.run(key).await.status, RunStatus::Launching, "it has ten seconds");
    look(&mut bench.recovery_of("here", Duration::ZERO), fresh()).await;
    assert_eq!(bench.run(key).await.status, RunStatus::Launching, "there was a gap");
    look(&mut bench.recovery_of("here", Duration::ZERO), steady()).await;
    let run = bench.run(key).await;
    assert_eq!(run.outcome(), Some(RunOutcome::WorkerLost));
    let task = bench.task(run.task).await;
    assert_eq!((task.state.status(), task.attempts), (TaskStatus::Queued, 0));
}

/// The first piece of output of a launch.
async fn first_output(handle: &Handle) -> String {
    let mut logs = handle.logs(LogCursor::default());
    while let Some(chunk) = logs.next().await {
        if let LogContent::Output { data, .. } = chunk.expect("the output can be read").content {
            return String::from_utf8_lossy(&data).into_owned();
        }
    }
    String::new()
}
