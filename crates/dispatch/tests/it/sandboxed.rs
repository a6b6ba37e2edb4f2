//! Runs in sandboxes from claim to finish, with a shell in place of the container and the test in place of its worker.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]
#![expect(
    clippy::disallowed_methods,
    reason = "the engine is named by variables; git runs as in a container"
)]

mod docker;
mod hall;
mod launching;

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
};

use core_config::load::load;
use core_types::{
    outcome::RunOutcome,
    sandbox::ResultClaim,
    task::{Role, RunStatus, TaskState},
};
use dispatch::sandboxed::outfit::NotReady;
use launcher::handle::LaunchState;
use store::{agents::HostId, dispatch::sandboxed::SandboxClaimRequest};
use testing::{samples, wait::wait_for};
use uuid::Uuid;

use self::hall::{CRASHES, FILLS, Hall, LONG, WAITS, WORKS, settings};

#[tokio::test]
async fn a_task_becomes_a_commit_and_nothing_is_left() {
    let (hall, task, key) = Hall::new(WORKS, &[]).await.busy(true).await;
    hall.work(key).await;
    let report = hall.ended(key.run).await;
    assert_eq!(report.outcome, RunOutcome::Succeeded, "{report:?}");
    let branch = report.branch.unwrap();
    assert_eq!(hall.repository.git(&["show", &format!("{branch}:new.txt")]), "new\n");
    assert_eq!(hall.state_of(task).await, TaskState::Done);
    hall.nothing_is_left().await;
    let events = hall.database.store.stored_events(key.run, 0, 100).await.unwrap();
    let commit = events.iter().find(|event| event.event["kind"] == "commit").unwrap();
    // Counted here, whatever the sandbox said.
    assert_eq!(commit.event["files_changed"], 1);
}

#[tokio::test]
async fn twenty_tasks_at_once_become_twenty_commits() {
    let mut hall = Hall::new(WORKS, &[]).await;
    let mut tasks = Vec::new();
    for _ in 0..20 {
        tasks.push(hall.queue().await);
    }
    hall.dispatcher(true).await;
    let work = tasks.iter().map(async |task| {
        let key = hall.run_of(*task).await;
        hall.work(key).await;
        hall.ended(key.run).await.outcome
    });
    let outcomes = futures_util::future::join_all(work).await;
    assert!(outcomes.iter().all(|outcome| *outcome == RunOutcome::Succeeded), "{outcomes:?}");
    hall.nothing_is_left().await;
}

#[tokio::test]
async fn a_run_that_was_only_claimed_is_taken_over() {
    let mut hall = Hall::new(WORKS, &[]).await;
    let task = hall.queue().await;
    let request = SandboxClaimRequest {
        claim: samples::claim(1),
        counts: BTreeMap::from([(Role::Worker, 1)]),
        without: Vec::new(),
        host: HostId::new("here"),
        // It signed off.
        dispatcher: Uuid::now_v7(),
    };
    let claimed = hall.database.store.claim_sandbox_runs(&request).await.unwrap();
    let key = claimed[0].key;
    assert_eq!(claimed[0].task, task);
    hall.dispatcher(true).await;
    hall.succeeds(key).await;
    hall.nothing_is_left().await;
}

#[tokio::test]
async fn a_run_that_works_is_taken_over_without_a_second_start() {
    let (mut hall, task, key) = Hall::new(WORKS, &[]).await.busy(false).await;
    hall.said(key.run).await;
    hall.worker(key).await.start().await.unwrap();
    hall.kill_dispatchers().await;
    hall.dispatcher(true).await;
    hall.succeeds(key).await;
    assert_eq!(hall.database.store.runs_of_task(task).await.unwrap().len(), 1);
    hall.nothing_is_left().await;
}

#[tokio::test]
async fn a_run_that_reported_and_ended_while_nobody_looked_is_collected() {
    let (mut hall, _, key) = Hall::new(WORKS, &[]).await.busy(false).await;
    hall.said(key.run).await;
    hall.kill_dispatchers().await;
    hall.work(key).await;
    wait_for("the end of the shell", LONG, async || {
        let launches = hall.launcher.discover().await.unwrap();
        let ended = launches.iter().all(|found| matches!(found.state, LaunchState::Ended(_)));
        ended.then_some(()).ok_or("it runs")
    })
    .await;
    hall.dispatcher(true).await;
    assert_eq!(hall.ended(key.run).await.outcome, RunOutcome::Succeeded);
    hall.nothing_is_left().await;
}

#[tokio::test]
async fn a_run_of_a_dispatcher_that_lives_is_left_to_it() {
    let (mut hall, _, key) = Hall::new(WORKS, &[]).await.busy(true).await;
    hall.dispatcher(true).await;
    hall.succeeds(key).await;
    assert_eq!(hall.shells.tokens.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_worker_that_crashes_is_told_with_its_last_words() {
    let (hall, _, key) = Hall::new(CRASHES, &[]).await.busy(true).await;
    let report = hall.ended(key.run).await;
    assert_eq!(report.outcome, RunOutcome::WorkerLost);
    let message = report.message.unwrap();
    assert!(message.contains("101") && message.contains("the last straw"), "{message}");
}

#[tokio::test]
async fn a_result_that_is_not_what_it_claims_to_be_is_refused() {
    let (hall, _, key) = Hall::new(WORKS, &[]).await.busy(true).await;
    let worker = hall.started(key).await;
    let claim = ResultClaim { commit: "a".repeat(40), ..hall.claim(key.run) };
    hall.reports(key, &worker, RunOutcome::Succeeded, Some(claim)).await;
    assert_eq!(hall.ended(key.run).await.outcome, RunOutcome::CollectFailed);
    assert_eq!(hall.repository.git(&["branch", "--list", "opentiger/*"]), "");
    hall.nothing_is_left().await;
}

#[tokio::test]
async fn a_worker_that_claims_that_nothing_had_to_change_is_not_believed() {
    let (hall, _, key) = Hall::new(WAITS, &[]).await.busy(true).await;
    let worker = hall.started(key).await;
    hall.reports(key, &worker, RunOutcome::NoChange, None).await;
    assert_eq!(hall.ended(key.run).await.outcome, RunOutcome::NothingDone);
}

#[tokio::test]
async fn a_launch_that_fails_for_all_pauses_claims_and_costs_nothing() {
    let mut hall = Hall::new(WORKS, &[]).await;
    hall.shells.broken.store(true, Ordering::Relaxed);
    let tasks = [hall.queue().await, hall.queue().await];
    hall.dispatcher(true).await;
    let mut pauses = hall.readiness.changes();
    let paused = |unready: &Option<NotReady>| {
        unready.as_ref().is_some_and(|fault| fault.reason == "the engine is asleep")
    };
    pauses.wait_for(paused).await.unwrap();
    for task in tasks {
        wait_for("the task to be queued", LONG, async || match hall.state_of(task).await {
            TaskState::Queued => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
        assert_eq!(hall.database.store.task(task).await.unwrap().unwrap().attempts, 0);
    }
    hall.shells.broken.store(false, Ordering::Relaxed);
    for task in tasks {
        let key = wait_for("another run", LONG, async || {
            let runs = hall.database.store.runs_of_task(task).await.unwrap();
            let last = runs.iter().max_by_key(|run| run.number).unwrap();
            if last.status == RunStatus::Ended { Err("ended") } else { Ok(last.key()) }
        })
        .await;
        hall.succeeds(key).await;
    }
}

#[tokio::test]
async fn a_sandbox_that_fills_its_place_is_stopped() {
    let (hall, _, key) =
        Hall::new(FILLS, &[("SANDBOX_DISK_LIMIT_BYTES", "4000000")]).await.busy(true).await;
    let report = hall.ended(key.run).await;
    assert_eq!(report.outcome, RunOutcome::DiskLimit, "{report:?}");
    hall.nothing_is_left().await;
}

#[tokio::test]
async fn a_switch_to_the_host_leaves_what_runs_and_claims_no_more() {
    let (hall, _, key) = Hall::new(WORKS, &[]).await.busy(true).await;
    hall.said(key.run).await;
    hall.settings.send_replace(Arc::new(load([], None).unwrap()));
    let after = hall.queue().await;
    hall.succeeds(key).await;
    assert!(hall.database.store.runs_of_task(after).await.unwrap().is_empty());
    hall.settings.send_replace(settings(&[]));
    let key = hall.run_of(after).await;
    hall.succeeds(key).await;
}

#[tokio::test]
async fn a_cancelled_task_is_ended_by_its_worker_and_keeps_nothing() {
    let (hall, task, key) = Hall::new(WAITS, &[]).await.busy(true).await;
    let worker = hall.started(key).await;
    hall.database.store.cancel_task(task, "enough").await.unwrap();
    wait_for("the worker to learn of it", LONG, async || {
        let beat = worker.renew().await.unwrap();
        beat.cancel_requested.then_some(()).ok_or("not yet")
    })
    .await;
    hall.reports(key, &worker, RunOutcome::Cancelled, None).await;
    assert_eq!(hall.ended(key.run).await.outcome, RunOutcome::Cancelled);
    assert_eq!(hall.state_of(task).await, TaskState::Cancelled);
    hall.nothing_is_left().await;
}
