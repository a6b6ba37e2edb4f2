use core_types::{
    outcome::{RunOutcome, RunReport},
    task::{BlockReason, Role},
};
use store::{
    agents::{HostId, ProcessIdentity},
    dispatchers::DispatcherBeat,
    tasks::waiting::Waiting,
};
use uuid::Uuid;

use crate::world::{World, task_after, task_in};

fn dispatcher(paused: Option<&str>) -> DispatcherBeat {
    DispatcherBeat {
        id: Uuid::now_v7(),
        host: HostId::new("test-host"),
        process: ProcessIdentity { pid: 1, start_ticks: 1, boot_id: "b".to_owned() },
        version: "0".to_owned(),
        paused: paused.map(ToOwned::to_owned),
    }
}

#[tokio::test]
async fn a_task_says_which_dispatcher_agent_or_capacity_it_lacks() {
    let world = World::new().await;
    let task = world.plain().await;
    assert_eq!(world.why(task).await, Some(Waiting::NoDispatcher));
    let paused = dispatcher(Some("not ready"));
    world.store.dispatcher_beat(&paused).await.unwrap();
    assert_eq!(world.why(task).await, Some(Waiting::Paused { reason: "not ready".to_owned() }));
    world.store.dispatcher_beat(&dispatcher(None)).await.unwrap();
    assert_eq!(world.why(task).await, Some(Waiting::NoAgent { role: Role::Worker }));
    assert_eq!(world.store.dispatchers().await.unwrap().len(), 2);
    world.store.retire_dispatcher(paused.id).await.unwrap();
    assert_eq!(world.store.dispatchers().await.unwrap().len(), 1);

    world.agent(Role::Worker).await;
    assert_eq!(world.why(task).await, Some(Waiting::Turn));
    let run = world.run_one().await;
    assert_eq!((run.task, world.why(task).await), (task, None));
    let second = world.plain().await;
    let capacity = Waiting::Capacity { role: Role::Worker, agents: 1 };
    assert_eq!(world.why(second).await, Some(capacity));
    assert_eq!(world.why(core_types::ids::TaskId::generate()).await, None);
}

#[tokio::test]
async fn a_task_whose_sandbox_has_ended_says_that_nobody_collects_what_it_left() {
    let world = World::new().await;
    let task = world.plain().await;
    let run = world.run_with_new_agent().await;
    world.store.report_run(run.key, &RunReport::new(RunOutcome::Interrupted)).await.unwrap();
    assert_eq!(world.why(task).await, None, "an agent of the host collects by itself");
    world.sql.batch_execute("UPDATE runs SET environment = 'sandbox'").await.unwrap();
    assert_eq!(world.why(task).await, Some(Waiting::NobodyCollects));
    world.store.dispatcher_beat(&dispatcher(Some("not ready"))).await.unwrap();
    assert_eq!(world.why(task).await, None);
}

#[tokio::test]
async fn a_task_says_which_task_or_area_or_time_it_waits_for() {
    let world = World::new().await;
    let first = world.task(task_in("a")).await;
    let second = world.task(task_in("a")).await;
    let child = world.task(task_after(&[first, second])).await;
    let held = Waiting::Area { area: "a".to_owned(), held_by: first };
    assert_eq!(world.why(second).await, Some(held.clone()));
    let run = world.run_with_new_agent().await;
    assert_eq!(world.why(second).await, Some(held));
    let both = Waiting::Dependency { tasks: vec![first.min(second), first.max(second)] };
    assert_eq!(world.why(child).await, Some(both));

    world.finish(run.key, RunOutcome::AgentFailed).await;
    let until = world.read(first).await.not_before.unwrap();
    assert_eq!(world.why(first).await, Some(Waiting::Cooldown { until }));
    let run = world.run_one().await;
    world.finish(run.key, RunOutcome::QuotaExceeded).await;
    let until = world.read(second).await.not_before.unwrap();
    assert_eq!(world.why(second).await, Some(Waiting::Quota { until }));

    world.store.cancel_task(first, "x").await.unwrap();
    let blocked = Waiting::Blocked { reason: BlockReason::DependencyCancelled };
    assert_eq!(world.why(child).await, Some(blocked));
}
