use core_types::{
    ids::TaskId,
    outcome::{RunOutcome, RunReport},
    task::{BlockReason, Role, TaskState},
    usage::Usage,
};
use store::{
    dispatch::claim::Claimed,
    tasks::{
        NewTask,
        cancel::CancelResult,
        retry::{Retry, RetryResult},
    },
};
use tokio::task::JoinSet;

use crate::world::{World, plain_task, task_after, task_in};

fn with_feedback(feedback: &str) -> Retry {
    Retry { feedback: Some(feedback.to_owned()), continue_session: true }
}

async fn retry(world: &World, id: TaskId) -> RetryResult {
    world.store.retry_task(id, &Retry::default()).await.unwrap()
}

/// Has the next ready task end in this outcome.
async fn end(world: &World, outcome: RunOutcome) {
    let run = world.run_with_new_agent().await;
    world.finish(run.key, outcome).await;
}

#[tokio::test]
async fn failed_task_is_queued_again_with_a_budget_of_its_own_and_the_feedback() {
    let world = World::new().await;
    let task = world.task(NewTask { max_attempts: 1, ..plain_task() }).await;
    end(&world, RunOutcome::AgentFailed).await;
    assert_eq!(world.read(task).await.state, TaskState::Failed);
    let asked = world.store.retry_task(task, &with_feedback("use \0 tabs")).await.unwrap();
    assert_eq!(asked, RetryResult::Queued);
    let again = world.read(task).await;
    assert_eq!((again.state, again.reason, again.finished_at), (TaskState::Queued, None, None));
    assert_eq!(again.feedback.as_deref(), Some("use \u{fffd} tabs"));
    assert!(again.continue_session);
    assert_eq!((again.attempts, again.attempts_before, again.retries), (1, 1, 1));
    world.assert_rules().await;
    end(&world, RunOutcome::AgentFailed).await;
    let ended = world.read(task).await;
    assert_eq!((ended.state, ended.attempts), (TaskState::Failed, 2), "one more attempt, not two");
    assert_eq!(ended.new.max_attempts, 1, "what was asked for at first stays as it was");
}

#[tokio::test]
async fn asking_again_while_it_is_queued_changes_nothing() {
    let world = World::new().await;
    let task = world.task(NewTask { max_attempts: 1, ..plain_task() }).await;
    end(&world, RunOutcome::AgentFailed).await;
    for _ in 0..3 {
        let asked = world.store.retry_task(task, &with_feedback("tabs")).await.unwrap();
        assert_eq!(asked, RetryResult::Queued);
    }
    let queued = world.read(task).await;
    assert_eq!((queued.retries, queued.attempts_before), (1, 1));
    world.assert_rules().await;
}

#[tokio::test]
async fn every_state_but_running_can_begin_again() {
    let world = World::new().await;
    for outcome in [RunOutcome::Succeeded, RunOutcome::CheckoutFailed, RunOutcome::WorkerLost] {
        let task = world.task(NewTask { max_attempts: 1, ..plain_task() }).await;
        end(&world, outcome).await;
        assert_ne!(world.read(task).await.state, TaskState::Queued, "{outcome}");
        assert_eq!(retry(&world, task).await, RetryResult::Queued, "{outcome}");
        assert_eq!(world.read(task).await.state, TaskState::Queued, "{outcome}");
        world.assert_rules().await;
        let run = world.run_with_new_agent().await;
        assert_eq!(retry(&world, task).await, RetryResult::Running);
        world.finish(run.key, RunOutcome::Succeeded).await;
    }
    let cancelled = world.plain().await;
    assert_eq!(world.store.cancel_task(cancelled, "x").await.unwrap(), CancelResult::Cancelled);
    assert_eq!(retry(&world, cancelled).await, RetryResult::Queued);
    let again = world.run_with_new_agent().await;
    world.finish(again.key, RunOutcome::Succeeded).await;
    assert_eq!(world.read(cancelled).await.state, TaskState::Done, "the old cancel is forgotten");
    assert_eq!(retry(&world, TaskId::generate()).await, RetryResult::NotFound);
    let limited = world.plain().await;
    end(&world, RunOutcome::QuotaExceeded).await;
    let waits = TaskState::Blocked { reason: BlockReason::QuotaWait };
    assert_eq!(world.read(limited).await.state, waits);
    assert_eq!(retry(&world, limited).await, RetryResult::Queued);
    assert_eq!(world.read(limited).await.not_before, None);
    world.assert_rules().await;
}

#[tokio::test]
async fn cooling_task_goes_on_at_once_and_keeps_its_budget() {
    let world = World::new().await;
    let task = world.plain().await;
    end(&world, RunOutcome::AgentFailed).await;
    assert!(world.read(task).await.not_before.is_some());
    assert_eq!(retry(&world, task).await, RetryResult::Queued);
    let queued = world.read(task).await;
    assert_eq!((queued.not_before, queued.retries, queued.attempts_before), (None, 0, 0));
    world.run_with_new_agent().await;
}

#[tokio::test]
async fn what_waited_in_vain_waits_again_and_runs_in_the_end() {
    let world = World::new().await;
    let parent = world.task(NewTask { max_attempts: 1, ..plain_task() }).await;
    let child = world.task(task_after(&[parent])).await;
    let grandchild = world.task(task_after(&[child])).await;
    end(&world, RunOutcome::CheckoutFailed).await;
    let blocked = TaskState::Blocked { reason: BlockReason::DependencyFailed };
    assert_eq!(world.read(grandchild).await.state, blocked);
    assert_eq!(retry(&world, child).await, RetryResult::Hopeless(parent));
    assert_eq!(retry(&world, grandchild).await, RetryResult::Hopeless(child));
    assert_eq!(retry(&world, parent).await, RetryResult::Queued);
    for id in [child, grandchild] {
        let task = world.read(id).await;
        assert_eq!((task.state, task.pending_dependencies), (TaskState::Queued, 1));
    }
    world.assert_rules().await;
    for id in [parent, child, grandchild] {
        end(&world, RunOutcome::Succeeded).await;
        assert_eq!(world.read(id).await.state, TaskState::Done);
    }
    world.assert_rules().await;
}

#[tokio::test]
async fn task_with_another_hopeless_dependency_stays_blocked() {
    let world = World::new().await;
    let one = world.plain().await;
    let other = world.plain().await;
    let child = world.task(task_after(&[one, other])).await;
    world.store.cancel_task(one, "x").await.unwrap();
    world.store.cancel_task(other, "x").await.unwrap();
    assert_eq!(retry(&world, one).await, RetryResult::Queued);
    let blocked = TaskState::Blocked { reason: BlockReason::DependencyCancelled };
    assert_eq!(world.read(child).await.state, blocked);
    assert_eq!(retry(&world, child).await, RetryResult::Hopeless(other));
    assert_eq!(retry(&world, other).await, RetryResult::Queued);
    assert_eq!(world.read(child).await.state, TaskState::Queued);
    world.assert_rules().await;
}

#[tokio::test]
async fn task_that_was_done_is_waited_for_again_by_what_has_not_begun() {
    let world = World::new().await;
    let parent = world.plain().await;
    let begun = world.task(task_after(&[parent])).await;
    end(&world, RunOutcome::Succeeded).await;
    end(&world, RunOutcome::Succeeded).await;
    assert_eq!(world.read(begun).await.state, TaskState::Done);
    let waiting =
        world.task(NewTask { target_area: Some("a".to_owned()), ..task_after(&[parent]) });
    let waiting = waiting.await;
    assert_eq!(retry(&world, parent).await, RetryResult::Queued);
    assert_eq!(world.read(waiting).await.pending_dependencies, 1);
    assert_eq!(world.read(begun).await.state, TaskState::Done, "what is done stays done");
    world.assert_rules().await;
    world.agent(Role::Worker).await;
    let claimed = world.claim(5).await;
    assert_eq!(claimed.len(), 1, "only the parent may start");
    world.store.start_run(claimed[0].key, claimed[0].agent).await.unwrap();
    world.finish(claimed[0].key, RunOutcome::Succeeded).await;
    end(&world, RunOutcome::Succeeded).await;
    assert_eq!(world.read(waiting).await.state, TaskState::Done);
    world.assert_rules().await;
}

#[tokio::test]
async fn retried_task_of_an_area_stands_in_its_line() {
    let world = World::new().await;
    let first = world.task(NewTask { max_attempts: 1, ..task_in("a") }).await;
    let second = world.task(task_in("a")).await;
    end(&world, RunOutcome::CheckoutFailed).await;
    let run = world.run_with_new_agent().await;
    assert_eq!(retry(&world, first).await, RetryResult::Queued);
    world.assert_rules().await;
    world.agent(Role::Worker).await;
    assert!(world.claim(5).await.is_empty(), "the area is taken");
    world.finish(run.key, RunOutcome::Succeeded).await;
    assert_eq!(world.read(second).await.state, TaskState::Done);
    world.run_one().await;
    world.assert_rules().await;
}

#[tokio::test]
async fn retry_of_a_parent_and_the_end_of_another_at_once_leave_nothing_stuck() {
    let world = World::new().await;
    for _ in 0..20 {
        let failed = world.plain().await;
        let running = world.plain().await;
        let child = world.task(task_after(&[failed, running])).await;
        end(&world, RunOutcome::CheckoutFailed).await;
        assert_eq!(world.read(failed).await.state, TaskState::Failed);
        let run = world.run_with_new_agent().await;
        let other = world.another_store().await;
        let default = Retry::default();
        let (asked, _) = tokio::join!(
            other.retry_task(failed, &default),
            world.finish(run.key, RunOutcome::CheckoutFailed)
        );
        assert_eq!(asked.unwrap(), RetryResult::Queued);
        let blocked = TaskState::Blocked { reason: BlockReason::DependencyFailed };
        assert_eq!(world.read(child).await.state, blocked);
        world.assert_rules().await;
        // Out of the way of the next round.
        world.store.cancel_task(failed, "x").await.unwrap();
    }
}

/// A parent that was done and is wanted once more, and a child that began meanwhile and runs.
async fn parent_again_and_running_child(world: &World) -> (TaskId, Claimed) {
    let parent = world.plain().await;
    let child = world.task(task_after(&[parent])).await;
    end(world, RunOutcome::Succeeded).await;
    let run = world.run_with_new_agent().await;
    assert_eq!(run.task, child);
    assert_eq!(retry(world, parent).await, RetryResult::Queued);
    (parent, run)
}

#[tokio::test]
async fn a_running_task_whose_parent_fails_after_all_does_not_wait_for_it() {
    let world = World::new().await;
    let in_vain = TaskState::Blocked { reason: BlockReason::DependencyFailed };
    for outcome in [RunOutcome::Interrupted, RunOutcome::AgentFailed, RunOutcome::QuotaExceeded] {
        let (parent, child) = parent_again_and_running_child(&world).await;
        end(&world, RunOutcome::CheckoutFailed).await;
        // Its parent is over and it runs: who is put below it now waits in vain, too, if it does.
        let below = world.task(task_after(&[child.task])).await;
        let finished = world.finish(child.key, outcome).await;
        assert_eq!(finished.task_state, in_vain, "{outcome}");
        assert_eq!(world.finish(child.key, outcome).await, finished, "the same answer again");
        let task = world.read(child.task).await;
        assert_eq!((task.state, task.not_before), (in_vain, None), "{outcome}");
        assert_eq!(task.reason, Some(format!("`{parent}` failed")), "{outcome}");
        assert_eq!(world.read(below).await.state, in_vain, "{outcome}");
        world.open_gates().await;
        world.assert_rules().await;
        assert_eq!(retry(&world, parent).await, RetryResult::Queued);
        assert_eq!(world.read(child.task).await.state, TaskState::Queued, "it waits again");
        world.store.cancel_task(parent, "x").await.unwrap();
    }
    let (_, child) = parent_again_and_running_child(&world).await;
    end(&world, RunOutcome::CheckoutFailed).await;
    assert_eq!(world.finish(child.key, RunOutcome::Succeeded).await.task_state, TaskState::Done);
}

#[tokio::test]
async fn a_task_that_waits_for_a_limit_does_not_come_back_behind_a_parent_that_failed() {
    let world = World::new().await;
    let (parent, child) = parent_again_and_running_child(&world).await;
    world.finish(child.key, RunOutcome::QuotaExceeded).await;
    world.open_gates().await;
    world.store.cancel_task(parent, "x").await.unwrap();
    let in_vain = TaskState::Blocked { reason: BlockReason::DependencyCancelled };
    assert_eq!(world.read(child.task).await.state, in_vain);
    world
        .sql
        .batch_execute("UPDATE tasks SET not_before = now() WHERE not_before > now()")
        .await
        .unwrap();
    world.store.release_cooled(10).await.unwrap();
    assert_eq!(world.read(child.task).await.state, in_vain);
    world.assert_rules().await;
}

#[tokio::test]
async fn finishes_of_a_family_at_once_wait_for_each_other_in_one_order() {
    let world = World::new().await;
    let parents = [world.plain().await, world.plain().await];
    for _ in 0..2 {
        world.agent(Role::Worker).await;
    }
    let children = [world.task(task_after(&parents)).await, world.task(task_after(&parents)).await];
    for _ in parents {
        let run = world.run_one().await;
        world.finish(run.key, RunOutcome::Succeeded).await;
    }
    for round in 0..8_u64 {
        for _ in 0..4 {
            world.agent(Role::Worker).await;
        }
        let mut runs = world.claim(5).await;
        assert_eq!(runs.len(), children.len(), "round {round}");
        for parent in parents {
            retry(&world, parent).await;
        }
        runs.extend(world.claim(5).await);
        assert_eq!(runs.len(), 4, "round {round}");
        // One closes the gate, some count on it, one opens nothing; all add to the day.
        let outcomes = [
            RunOutcome::LaunchFailed,
            RunOutcome::ProviderOverloaded,
            RunOutcome::KeyRejected,
            if round % 2 == 0 { RunOutcome::CheckoutFailed } else { RunOutcome::Succeeded },
        ];
        let mut ends = JoinSet::new();
        for (run, outcome) in runs.into_iter().zip(outcomes) {
            let store = world.another_store().await;
            let usage = Usage { input_tokens: 1, ..Usage::default() };
            let report = RunReport { usage, ..RunReport::new(outcome) };
            ends.spawn(async move { store.finish_run(run.key, &report).await.unwrap() });
        }
        ends.join_all().await;
        world.assert_rules().await;
        // All over again: the parents done, the children ready.
        world.open_gates().await;
        for parent in parents {
            retry(&world, parent).await;
        }
        let cool = "UPDATE tasks SET not_before = now() WHERE not_before IS NOT NULL";
        world.sql.batch_execute(cool).await.unwrap();
        world.store.release_cooled(10).await.unwrap();
        for run in world.claim(5).await {
            world.finish(run.key, RunOutcome::Succeeded).await;
        }
        for child in children {
            retry(&world, child).await;
        }
    }
    let deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
    assert_eq!(world.count(deadlocks).await, 0, "the order of locks is not kept");
}
