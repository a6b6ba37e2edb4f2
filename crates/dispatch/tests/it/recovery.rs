//! Taking back runs whose worker died, hangs, or never took them.

use std::time::Duration;

use core_types::{
    event::{NumberedEvent, RunEvent},
    outcome::RunOutcome,
    task::{RunStatus, TaskStatus},
};
use dispatch::view::{View, look_now};
use jiff::Timestamp;
use launcher::{
    handle::{LaunchState, StopRequest},
    launcher::Launcher as _,
};
use store::error::FencedError;

use crate::bench::{Bench, Worker};

const LEASE: Duration = Duration::from_secs(30);
/// A lease that is over as soon as it is written.
const SPENT: Duration = Duration::from_millis(1);

/// A view that trusts silence, as after a lease period of looks without a gap.
fn trusting() -> View {
    let mut view = View::new(Duration::ZERO);
    view.looked(look_now());
    view
}

#[tokio::test]
async fn dead_workers_agent_is_ended_before_its_task_is_queued_again() {
    let bench = Bench::new().await;
    let key = bench.started(Worker::Dead, LEASE).await;
    let agent = bench.launched(&key.run.to_string()).await;
    // A death that is seen does not wait for trust in silence.
    bench.recovery.look(&View::new(LEASE)).await.unwrap();
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
async fn living_worker_keeps_its_run_and_its_agent() {
    let bench = Bench::new().await;
    let key = bench.started(Worker::Alive, LEASE).await;
    let agent = bench.launched(&key.run.to_string()).await;
    bench.recovery.look(&trusting()).await.unwrap();
    assert_eq!(bench.run(key).await.status, RunStatus::Running);
    assert!(matches!(&*agent.state().borrow(), LaunchState::Running { .. }));
    agent.stop(StopRequest::new("the test is over", Duration::ZERO)).await;
}

#[tokio::test]
async fn launches_of_other_runs_are_left_alone() {
    let bench = Bench::new().await;
    let key = bench.started(Worker::Dead, LEASE).await;
    let other = bench.launched(&core_types::ids::RunId::generate().to_string()).await;
    bench.recovery.look(&View::new(LEASE)).await.unwrap();
    assert_eq!(bench.run(key).await.status, RunStatus::Ended);
    assert!(matches!(&*other.state().borrow(), LaunchState::Running { .. }));
    other.stop(StopRequest::new("the test is over", Duration::ZERO)).await;
}

#[tokio::test]
async fn silent_run_is_left_alone_after_a_gap_and_fenced_when_taken_back() {
    let bench = Bench::new().await;
    let key = bench.started(Worker::Alive, SPENT).await;
    let mut fresh = View::new(LEASE);
    assert!(fresh.looked(look_now()), "the first look comes after a gap");
    bench.recovery.look(&fresh).await.unwrap();
    assert_eq!(bench.run(key).await.status, RunStatus::Running);

    bench.recovery.look(&trusting()).await.unwrap();
    assert_eq!(bench.run(key).await.outcome(), Some(RunOutcome::WorkerLost));
    // The worker comes back from its pause: nothing of it is written any more.
    let event = RunEvent::Notice { text: "late".to_owned() };
    let late = NumberedEvent { seq: 1_000, at: Timestamp::now(), event };
    let answer = bench.database.store.append_events(key, &[late]).await;
    assert!(matches!(answer, Err(FencedError::Fenced { .. })), "{answer:?}");
}

#[tokio::test]
async fn run_that_its_agent_never_accepted_is_taken_back_and_counted() {
    let mut bench = Bench::new().await;
    let (key, _) = bench.handed_out(Worker::Alive, LEASE).await;
    bench.recovery.look(&View::new(LEASE)).await.unwrap();
    assert_eq!(bench.run(key).await.status, RunStatus::Launching, "it has ten seconds");
    bench.recovery.accept_within = Duration::ZERO;
    bench.recovery.look(&View::new(LEASE)).await.unwrap();
    let run = bench.run(key).await;
    assert_eq!(run.outcome(), Some(RunOutcome::LaunchFailed));
    let task = bench.task(run.task).await;
    assert_eq!((task.state.status(), task.attempts), (TaskStatus::Queued, 1));
    assert!(task.not_before.is_some(), "it cools down before the next attempt");
}
