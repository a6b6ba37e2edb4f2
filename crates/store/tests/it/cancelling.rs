use core_types::{
    outcome::RunOutcome,
    task::{BlockReason, Role, TaskState, TaskStatus},
};
use store::tasks::cancel::CancelResult;

use crate::world::{World, task_after, task_in};

#[tokio::test]
async fn cancelling_a_queued_task_is_immediate_and_blocks_what_waits_for_it() {
    let world = World::new().await;
    let parent = world.plain().await;
    let child = world.task(task_after(&[parent])).await;
    let cancelled = world.store.cancel_task(parent, "no \0 need").await.unwrap();
    assert_eq!(cancelled, CancelResult::Cancelled);
    let task = world.read(parent).await;
    assert_eq!(
        (task.state, task.reason.as_deref()),
        (TaskState::Cancelled, Some("no \u{fffd} need"))
    );
    let child_state = world.read(child).await.state;
    assert_eq!(child_state, TaskState::Blocked { reason: BlockReason::DependencyCancelled });
    world.agent(Role::Worker).await;
    assert!(world.claim(5).await.is_empty());
    world.assert_rules().await;

    let again = world.store.cancel_task(parent, "again").await.unwrap();
    assert_eq!(again, CancelResult::AlreadyFinal(TaskStatus::Cancelled));
    assert_eq!(world.store.cancel_task(child, "too").await.unwrap(), CancelResult::Cancelled);
    let nobody = core_types::ids::TaskId::generate();
    assert_eq!(world.store.cancel_task(nobody, "x").await.unwrap(), CancelResult::NotFound);
}

#[tokio::test]
async fn a_cooling_task_can_be_cancelled_and_does_not_come_back() {
    let world = World::new().await;
    let task = world.plain().await;
    let run = world.run_with_new_agent().await;
    world.finish(run.key, RunOutcome::AgentFailed).await;
    assert_eq!(world.store.cancel_task(task, "x").await.unwrap(), CancelResult::Cancelled);
    assert_eq!(world.read(task).await.not_before, None);
    assert_eq!(world.store.release_cooled(10).await.unwrap(), 0);
}

#[tokio::test]
async fn a_running_task_is_asked_to_stop_and_ends_by_what_really_happened() {
    let world = World::new().await;
    let cases = [
        (RunOutcome::Cancelled, TaskState::Cancelled, Some("enough")),
        (RunOutcome::Succeeded, TaskState::Done, None),
        (RunOutcome::Interrupted, TaskState::Cancelled, Some("enough")),
        (RunOutcome::AgentFailed, TaskState::Cancelled, Some("enough")),
        (RunOutcome::QuotaExceeded, TaskState::Cancelled, Some("enough")),
        (RunOutcome::WorkerLost, TaskState::Cancelled, Some("enough")),
        (RunOutcome::CheckoutFailed, TaskState::Failed, Some("checkout_failed")),
    ];
    for (outcome, expected, reason) in cases {
        world.open_gates().await;
        let task = world.plain().await;
        let run = world.run_with_new_agent().await;
        let asked = world.store.cancel_task(task, "enough").await.unwrap();
        assert_eq!(asked, CancelResult::Requested);
        assert_eq!(world.store.cancel_task(task, "twice").await.unwrap(), CancelResult::Requested);
        let renewed = world.store.renew_leases(&[run.key], crate::world::LEASE).await.unwrap();
        assert!(renewed[0].valid && renewed[0].cancel_requested);
        let finished = world.finish(run.key, outcome).await;
        assert_eq!(finished.task_state, expected, "{outcome}");
        let task = world.read(task).await;
        assert_eq!((task.state, task.reason.as_deref()), (expected, reason), "{outcome}");
    }
    world.assert_rules().await;
}

#[tokio::test]
async fn a_cancel_and_a_finish_at_once_leave_one_truth() {
    let world = World::new().await;
    for n in 0..30 {
        let task = world.task(task_in("a")).await;
        let child = world.task(task_after(&[task])).await;
        let run = world.run_with_new_agent().await;
        let other = world.another_store().await;
        let outcome = if n % 2 == 0 { RunOutcome::Succeeded } else { RunOutcome::Interrupted };
        let (finished, cancelled) =
            tokio::join!(world.finish(run.key, outcome), other.cancel_task(task, "stop"));
        let state = world.read(task).await.state;
        match (outcome, cancelled.unwrap()) {
            (RunOutcome::Succeeded, CancelResult::Requested | CancelResult::AlreadyFinal(_)) => {
                assert_eq!((state, finished.task_state), (TaskState::Done, TaskState::Done));
            }
            (RunOutcome::Interrupted, CancelResult::Requested | CancelResult::Cancelled) => {
                assert_eq!(state, TaskState::Cancelled);
            }
            other => panic!("{other:?}"),
        }
        world.assert_rules().await;
        world.store.cancel_task(child, "over").await.unwrap();
    }
}
