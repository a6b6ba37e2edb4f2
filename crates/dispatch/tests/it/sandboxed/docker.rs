//! On a real engine.

use super::{EATS, Hall, LONG, RunOutcome, RunReport, SandboxReport, TaskState, WAITS, wait_for};

async fn work(hall: &Hall, key: core_types::ids::RunKey) {
    hall.said(key.run).await;
    let worker = hall.worker(key).await;
    worker.start().await.unwrap();
    hall.works_inside(key.run);
    let report = RunReport::new(RunOutcome::Succeeded);
    let claim = Some(hall.claim(key.run));
    worker.report(&SandboxReport { report, claim }).await.unwrap();
    hall.go(key.run);
}

#[tokio::test]
async fn a_task_becomes_a_commit_and_no_container_is_left() {
    let mut hall = Hall::with_containers(WAITS).await;
    let task = hall.queue().await;
    hall.dispatcher(true).await;
    let key = hall.run_of(task).await;
    work(&hall, key).await;
    let report = hall.ended(key.run).await;
    assert_eq!(report.outcome, RunOutcome::Succeeded, "{report:?}");
    assert_eq!(hall.state_of(task).await, TaskState::Done);
    hall.nothing_is_left().await;
}

#[tokio::test]
async fn a_container_at_work_is_taken_over() {
    let mut hall = Hall::with_containers(WAITS).await;
    let task = hall.queue().await;
    hall.dispatcher(false).await;
    let key = hall.run_of(task).await;
    hall.said(key.run).await;
    hall.kill_dispatchers().await;
    hall.dispatcher(true).await;
    work(&hall, key).await;
    assert_eq!(hall.ended(key.run).await.outcome, RunOutcome::Succeeded);
    hall.nothing_is_left().await;
}

#[tokio::test]
async fn a_container_out_of_memory_says_so() {
    let mut hall = Hall::with_containers(EATS).await;
    let task = hall.queue().await;
    hall.dispatcher(true).await;
    let key = hall.run_of(task).await;
    let report = hall.ended(key.run).await;
    assert_eq!(report.outcome, RunOutcome::OutOfMemory, "{report:?}");
    wait_for("the task to wait", LONG, async || match hall.state_of(task).await {
        TaskState::Queued => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    hall.nothing_is_left().await;
}
