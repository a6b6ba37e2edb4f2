use std::time::Duration;

use core_types::{
    event::{NumberedEvent, RunEvent},
    outcome::{FollowUp, RunOutcome, RunReport},
    task::{BlockReason, Role, RunStatus, TaskState},
};
use jiff::{Timestamp, ToSpan as _};
use store::{error::FencedError, tasks::NewTask};

use crate::world::{World, plain_task, task_after, task_in};

#[tokio::test]
async fn success_ends_run_and_task_and_frees_agent_and_lease() {
    let world = World::new().await;
    let task = world.plain().await;
    let run = world.run_with_new_agent().await;
    let finished = world.finish(run.key, RunOutcome::Succeeded).await;
    assert_eq!((finished.task_state, finished.follow_up), (TaskState::Done, FollowUp::Done));
    let task = world.read(task).await;
    assert_eq!((task.state, task.attempts, task.current_run), (TaskState::Done, 1, None));
    assert!(task.finished_at.is_some());
    let stored = world.store.run(run.key.run).await.unwrap().unwrap();
    assert_eq!((stored.status, stored.outcome()), (RunStatus::Ended, Some(RunOutcome::Succeeded)));
    world.assert_rules().await;
    world.plain().await;
    assert_eq!(world.run_one().await.agent, run.agent);
}

#[tokio::test]
async fn finishing_twice_gives_the_same_answer_and_another_outcome_is_fenced() {
    let world = World::new().await;
    let task = world.task(task_after(&[])).await;
    let child = world.task(task_after(&[task])).await;
    for outcome in [RunOutcome::AgentFailed, RunOutcome::QuotaExceeded, RunOutcome::Succeeded] {
        world.open_gates().await;
        let run = world.run_with_new_agent().await;
        let first = world.finish(run.key, outcome).await;
        assert_eq!(world.finish(run.key, outcome).await, first);
        let other = RunReport::new(RunOutcome::WorkerLost);
        let refused = world.store.finish_run(run.key, &other).await;
        assert!(matches!(refused, Err(FencedError::Fenced { .. })), "{refused:?}");
        world
            .sql
            .batch_execute("UPDATE tasks SET not_before = now() WHERE not_before IS NOT NULL")
            .await
            .unwrap();
        world.store.release_cooled(10).await.unwrap();
    }
    assert_eq!(world.read(child).await.pending_dependencies, 0);
    assert_eq!(world.read(task).await.attempts, 2);
    world.assert_rules().await;
}

#[tokio::test]
async fn of_two_finishes_at_once_one_counts() {
    let world = World::new().await;
    for _ in 0..20 {
        let parent = world.plain().await;
        let child = world.task(task_after(&[parent])).await;
        let run = world.run_with_new_agent().await;
        let other = world.another_store().await;
        let (done, lost) =
            (RunReport::new(RunOutcome::Succeeded), RunReport::new(RunOutcome::WorkerLost));
        let (one, two) =
            tokio::join!(world.store.finish_run(run.key, &done), other.finish_run(run.key, &lost));
        assert!(one.is_ok() != two.is_ok(), "{one:?} {two:?}");
        let task = world.read(parent).await;
        assert_eq!(task.state == TaskState::Done, one.is_ok());
        world.assert_rules().await;
        world.store.cancel_task(parent, "over").await.unwrap();
        world.store.cancel_task(child, "over").await.unwrap();
    }
}

#[tokio::test]
async fn a_failed_attempt_cools_down_and_the_last_one_fails_the_task() {
    let world = World::new().await;
    let task = world.plain().await;
    let run = world.run_with_new_agent().await;
    let report = RunReport::new(RunOutcome::VerificationFailed).with_message("`cargo test` failed");
    let finished = world.store.finish_run(run.key, &report).await.unwrap();
    let delay = Duration::from_secs(30);
    assert_eq!(finished.follow_up, FollowUp::Retry { delay, counts: true });
    let cooling = world.read(task).await;
    assert_eq!((cooling.state, cooling.attempts), (TaskState::Queued, 1));
    assert_eq!(cooling.reason.as_deref(), Some("`cargo test` failed"));
    let wait = cooling.not_before.unwrap().duration_since(Timestamp::now()).as_secs();
    assert!((20..=31).contains(&wait), "{wait}");
    world.agent(Role::Worker).await;
    assert!(world.claim(5).await.is_empty());
    assert_eq!(world.store.release_cooled(10).await.unwrap(), 0);
    world.assert_rules().await;

    world.sql.batch_execute("UPDATE tasks SET not_before = now()").await.unwrap();
    assert_eq!(world.store.release_cooled(10).await.unwrap(), 1);
    let run = world.run_one().await;
    let finished = world.finish(run.key, RunOutcome::VerificationFailed).await;
    assert_eq!((finished.task_state, finished.follow_up), (TaskState::Failed, FollowUp::Fail));
    let failed = world.read(task).await;
    assert_eq!((failed.attempts, failed.reason.as_deref()), (2, Some("verification_failed")));
}

#[tokio::test]
async fn an_interruption_is_free_at_first_then_waits_and_in_the_end_counts() {
    let world = World::new().await;
    let task = world.task(NewTask { max_attempts: 1, ..plain_task() }).await;
    let interrupt = async || {
        world.sql.batch_execute("UPDATE tasks SET not_before = now()").await.unwrap();
        world.store.release_cooled(10).await.unwrap();
        let run = world.run_with_new_agent().await;
        world.finish(run.key, RunOutcome::Interrupted).await.task_state
    };
    for _ in 0..2 {
        let run = world.run_with_new_agent().await;
        let finished = world.finish(run.key, RunOutcome::Interrupted).await;
        assert_eq!(finished.task_state, TaskState::Queued);
        assert_eq!(world.read(task).await.not_before, None);
    }
    let mut interruptions = 2;
    while world.read(task).await.attempts == 0 {
        interruptions += 1;
        assert!(interruptions < 20, "something that interrupts every run is paid for without end");
        if interrupt().await == TaskState::Queued {
            assert!(world.read(task).await.not_before.is_some(), "it waits a while");
        }
    }
    assert_eq!(interruptions, 11);
    let blocked = TaskState::Blocked { reason: BlockReason::AttemptsExhausted };
    assert_eq!(world.read(task).await.state, blocked);
}

#[tokio::test]
async fn a_quota_wait_ends_by_itself_at_the_time_the_provider_told() {
    let world = World::new().await;
    let task = world.task(task_in("a")).await;
    let run = world.run_with_new_agent().await;
    let retry_at = Timestamp::from_second(Timestamp::now().as_second() + 7200).unwrap();
    let report =
        RunReport { retry_at: Some(retry_at), ..RunReport::new(RunOutcome::QuotaExceeded) };
    let finished = world.store.finish_run(run.key, &report).await.unwrap();
    let blocked = TaskState::Blocked { reason: BlockReason::QuotaWait };
    assert_eq!(finished.task_state, blocked);
    let waiting = world.read(task).await;
    assert_eq!((waiting.attempts, waiting.not_before), (0, Some(retry_at)));
    assert_eq!(world.store.release_cooled(10).await.unwrap(), 0);
    world.sql.batch_execute("UPDATE tasks SET not_before = now()").await.unwrap();
    assert_eq!(world.store.release_cooled(10).await.unwrap(), 1);
    world.open_gates().await;
    assert_eq!(world.run_one().await.task, task);
    world.assert_rules().await;
}

#[tokio::test]
async fn a_quota_wait_of_unknown_length_is_fifteen_minutes_and_a_past_one_is_not_a_loop() {
    let world = World::new().await;
    let now = Timestamp::now();
    for (retry_at, least, most) in [(None, 14 * 60, 16 * 60), (Some(now - 1.hour()), 20, 40)] {
        let task = world.plain().await;
        world.open_gates().await;
        let run = world.run_with_new_agent().await;
        let report = RunReport { retry_at, ..RunReport::new(RunOutcome::QuotaExceeded) };
        world.store.finish_run(run.key, &report).await.unwrap();
        let until = world.read(task).await.not_before.unwrap();
        let wait = until.duration_since(now).as_secs();
        assert!((least..=most).contains(&wait), "{wait}");
    }
}

#[tokio::test]
async fn a_refused_login_goes_back_to_the_queue_and_costs_no_attempt() {
    let world = World::new().await;
    let task = world.plain().await;
    let run = world.run_with_new_agent().await;
    world.finish(run.key, RunOutcome::LoginRequired).await;
    let task = world.read(task).await;
    assert_eq!((task.state, task.attempts, task.not_before), (TaskState::Queued, 0, None));
    assert!(world.claim(5).await.is_empty(), "its executor's gate is closed");
    world.assert_rules().await;
}

#[tokio::test]
async fn dependants_go_when_their_last_dependency_is_done() {
    let world = World::new().await;
    let (one, two) = (world.plain().await, world.plain().await);
    let child =
        world.task(NewTask { target_area: Some("a".to_owned()), ..task_after(&[one, two]) }).await;
    let grandchild = world.task(task_after(&[child])).await;
    for expected in [one, two, child, grandchild] {
        let run = world.run_with_new_agent().await;
        assert_eq!(run.task, expected);
        world.agent(Role::Worker).await;
        if expected != one {
            assert!(world.claim(5).await.is_empty());
        }
        world.finish(run.key, RunOutcome::Succeeded).await;
        world.assert_rules().await;
        world.sql.batch_execute("UPDATE agents SET retired_at = now()").await.unwrap();
        if expected == one {
            assert_eq!(world.read(child).await.pending_dependencies, 1);
        }
    }
}

#[tokio::test]
async fn what_waits_for_a_failed_task_is_blocked_with_the_reason_down_the_line() {
    let world = World::new().await;
    let parent = world.task(NewTask { max_attempts: 1, ..plain_task() }).await;
    let child = world.task(task_after(&[parent])).await;
    let grandchild = world.task(task_after(&[child])).await;
    let other = world.plain().await;
    let run = world.run_with_new_agent().await;
    world.finish(run.key, RunOutcome::NothingDone).await;
    for id in [child, grandchild] {
        let task = world.read(id).await;
        assert_eq!(task.state, TaskState::Blocked { reason: BlockReason::DependencyFailed });
        assert_eq!(task.reason, Some(format!("`{parent}` failed")));
    }
    assert_eq!(world.read(other).await.state, TaskState::Queued);
    world.assert_rules().await;
}

#[tokio::test]
async fn the_last_event_of_a_run_tells_its_end_whoever_ended_it() {
    let world = World::new().await;
    world.plain().await;
    world.plain().await;
    let ended = |outcome| RunEvent::Ended { outcome, message: None };
    let told = world.run_with_new_agent().await;
    let own = NumberedEvent { seq: 1, at: Timestamp::now(), event: ended(RunOutcome::Succeeded) };
    world.store.append_events(told.key, &[own]).await.unwrap();
    world.finish(told.key, RunOutcome::Succeeded).await;
    let silent = world.run_one().await;
    let notice = RunEvent::Notice { text: "so far".to_owned() };
    let events = [NumberedEvent { seq: 1, at: Timestamp::now(), event: notice }];
    world.store.append_events(silent.key, &events).await.unwrap();
    world.finish(silent.key, RunOutcome::WorkerLost).await;

    let of = async |run| {
        let events = world.store.events(run, 0, 10).await.unwrap();
        events.into_iter().map(|event| (event.seq, event.event)).collect::<Vec<_>>()
    };
    assert_eq!(of(told.key.run).await, [(1, ended(RunOutcome::Succeeded))]);
    assert_eq!(of(silent.key.run).await.last().unwrap(), &(2, ended(RunOutcome::WorkerLost)));
}
