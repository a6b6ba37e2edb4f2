//! On a real engine.

use core_types::{ids::RunKey, outcome::RunOutcome, task::TaskState};
use testing::wait::wait_for;

use super::hall::{EATS, Hall, LONG, WAITS};

async fn work(hall: &Hall, key: RunKey) {
    let worker = hall.started(key).await;
    hall.works_inside(key.run);
    let claim = Some(hall.claim(key.run));
    hall.reports(key, &worker, RunOutcome::Succeeded, claim).await;
}

#[tokio::test]
async fn a_task_becomes_a_commit_and_no_container_is_left() {
    let (hall, task, key) = Hall::with_containers(WAITS).await.busy(true).await;
    work(&hall, key).await;
    let report = hall.ended(key.run).await;
    assert_eq!(report.outcome, RunOutcome::Succeeded, "{report:?}");
    assert_eq!(hall.state_of(task).await, TaskState::Done);
    hall.nothing_is_left().await;
}

#[tokio::test]
async fn a_container_at_work_is_taken_over() {
    let (mut hall, _, key) = Hall::with_containers(WAITS).await.busy(false).await;
    hall.said(key.run).await;
    hall.kill_dispatchers().await;
    hall.dispatcher(true).await;
    work(&hall, key).await;
    assert_eq!(hall.ended(key.run).await.outcome, RunOutcome::Succeeded);
    hall.nothing_is_left().await;
}

#[tokio::test]
async fn a_container_out_of_memory_says_so() {
    let (hall, task, key) = Hall::with_containers(EATS).await.busy(true).await;
    let report = hall.ended(key.run).await;
    assert_eq!(report.outcome, RunOutcome::OutOfMemory, "{report:?}");
    wait_for("the task to wait", LONG, async || match hall.state_of(task).await {
        TaskState::Queued => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    hall.nothing_is_left().await;
}
