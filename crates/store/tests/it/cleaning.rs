//! What a cleanup removes, and all that it leaves.

use std::time::Duration;

use core_types::{
    event::{NumberedEvent, RunEvent},
    ids::{RunKey, TaskId},
    outcome::RunOutcome,
    task::Role,
};
use jiff::Timestamp;
use store::cleanup::{CleanupCounts, CleanupPlan, CleanupScope};

use crate::world::{World, plain_task, task_after};

const ALL: CleanupScope = CleanupScope { tasks: true, events: true, agents: true, notices: true };
const TASKS: CleanupScope =
    CleanupScope { tasks: true, events: false, agents: false, notices: false };
const TIME: Duration = Duration::from_secs(60);

async fn say(world: &World, key: RunKey, count: i64) {
    let text = |seq| NumberedEvent {
        seq,
        at: Timestamp::now(),
        event: RunEvent::Text { text: "x".to_owned() },
    };
    world.store.append_events(key, &(1..=count).map(text).collect::<Vec<_>>()).await.unwrap();
}

/// Makes a task, and a run of it that ends with this outcome after `events` events.
async fn over(world: &World, outcome: RunOutcome, events: i64) -> TaskId {
    let task = world.plain().await;
    let run = world.run_with_new_agent().await;
    say(world, run.key, events).await;
    world.finish(run.key, outcome).await;
    task
}

/// Lets everything that has ended so far have ended ten days ago.
async fn age(world: &World) {
    world
        .sql
        .batch_execute(
            "UPDATE tasks SET finished_at = finished_at - interval '10 days' WHERE finished_at IS NOT NULL;
             UPDATE notices SET ended_at = now() - interval '10 days', next_at = NULL, state = 'sent';
             UPDATE agents SET retired_at = retired_at - interval '10 days'",
        )
        .await
        .unwrap();
}

async fn plan(world: &World, scope: CleanupScope, days: u32) -> CleanupPlan {
    let before = world.store.days_ago(days).await.unwrap();
    world.store.plan_cleanup(scope, before).await.unwrap()
}

async fn clean(world: &World, scope: CleanupScope, days: u32) -> CleanupCounts {
    let before = world.store.days_ago(days).await.unwrap();
    let cleaned = world.store.clean_up(scope, before, TIME).await.unwrap();
    assert!(cleaned.finished);
    world.assert_rules().await;
    cleaned.counts
}

#[tokio::test]
async fn what_is_old_and_over_goes_as_the_plan_said_and_all_else_stays() {
    let world = World::new().await;
    let old = over(&world, RunOutcome::Succeeded, 2100).await;
    let failed = over(&world, RunOutcome::CheckoutFailed, 3).await;
    let blocked = over(&world, RunOutcome::Succeeded, 0).await;
    age(&world).await;
    world.sql.batch_execute("UPDATE tasks SET status = 'blocked', block_reason = 'attempts_exhausted', finished_at = NULL
        WHERE seq = (SELECT max(seq) FROM tasks)").await.unwrap();
    let young = over(&world, RunOutcome::Succeeded, 2).await;
    let waiting = world.plain().await;
    let running = world.plain().await;
    world.agent(Role::Worker).await;
    let live = world.run_one().await;
    say(&world, live.key, 4).await;
    let rows = async || {
        world.count("SELECT (SELECT count(*) FROM system_config) + (SELECT count(*) FROM config_audit) + (SELECT count(*) FROM lanes)").await
    };
    let before = rows().await;

    assert_eq!(plan(&world, ALL, 20).await.counts, CleanupCounts::default());
    let planned = plan(&world, TASKS, 5).await;
    // Each run has one last event of its own.
    let expected = CleanupCounts { tasks: 2, runs: 2, events: 2105, ..CleanupCounts::default() };
    assert_eq!((planned.counts, planned.kept_for_dependants), (expected, 0));
    assert_eq!(clean(&world, TASKS, 5).await, expected);
    assert_eq!(clean(&world, TASKS, 5).await, CleanupCounts::default());
    for gone in [old, failed] {
        assert_eq!(world.store.task(gone).await.unwrap(), None);
    }
    for kept in [blocked, young, waiting, running] {
        assert!(world.store.task(kept).await.unwrap().is_some());
    }
    assert_eq!(world.store.events(live.key.run, 0, 10).await.unwrap().len(), 4);
    assert_eq!(rows().await, before);
    world.finish(live.key, RunOutcome::Succeeded).await;
}

#[tokio::test]
async fn a_task_that_a_kept_one_depends_on_stays_with_all_above_it() {
    let world = World::new().await;
    let make = async |dependencies: &[TaskId]| {
        let task = world.task(task_after(dependencies)).await;
        let run = world.run_with_new_agent().await;
        world.finish(run.key, RunOutcome::Succeeded).await;
        task
    };
    let grandparent = make(&[]).await;
    let parent = make(&[grandparent]).await;
    let chain = [make(&[]).await];
    let chain = [chain[0], make(&chain).await];
    let chain = [chain[0], chain[1], make(&chain).await];
    age(&world).await;
    let kept = world.task(task_after(&[parent])).await;
    let planned = plan(&world, TASKS, 5).await;
    assert_eq!((planned.counts.tasks, planned.kept_for_dependants), (3, 2));
    assert_eq!(clean(&world, TASKS, 5).await, planned.counts);
    for task in [grandparent, parent, kept] {
        assert!(world.store.task(task).await.unwrap().is_some());
    }
    for task in chain {
        assert_eq!(world.store.task(task).await.unwrap(), None);
    }
}

#[tokio::test]
async fn events_agents_and_notices_go_alone_too() {
    let world = World::new().await;
    let task = over(&world, RunOutcome::Succeeded, 5).await;
    let agent = world.agent(Role::Tester).await;
    world.store.retire_agent(agent).await.unwrap();
    world.sql.batch_execute("UPDATE agents SET retired_at = now()").await.unwrap();
    age(&world).await;
    let events = CleanupScope { events: true, ..CleanupScope::default() };
    assert_eq!(plan(&world, events, 5).await.counts.events, 6);
    assert_eq!(clean(&world, events, 5).await.events, 6);
    assert_eq!(world.store.runs_of_task(task).await.unwrap().len(), 1);
    // The agent of a run that is kept is kept.
    let agents = CleanupScope { agents: true, ..CleanupScope::default() };
    assert_eq!(plan(&world, agents, 5).await.counts.agents, 1);
    assert_eq!(clean(&world, agents, 5).await.agents, 1);
    let notices = CleanupScope { notices: true, ..CleanupScope::default() };
    assert_eq!(plan(&world, notices, 5).await.counts.notices, 1);
    assert_eq!(clean(&world, notices, 5).await.notices, 1);
    let rest = clean(&world, ALL, 5).await;
    assert_eq!((rest.tasks, rest.runs, rest.agents), (1, 1, 1));
}

#[tokio::test]
async fn a_cleanup_without_time_stops_and_says_so() {
    let world = World::new().await;
    over(&world, RunOutcome::Succeeded, 1).await;
    age(&world).await;
    let before = world.store.days_ago(5).await.unwrap();
    let cleaned = world.store.clean_up(ALL, before, Duration::ZERO).await.unwrap();
    assert!(!cleaned.finished);
    assert_eq!(clean(&world, TASKS, 5).await.tasks, 1);
}

#[tokio::test]
async fn cleanups_at_once_and_new_dependants_do_not_hurt_each_other() {
    let world = World::new().await;
    let mut tasks = Vec::new();
    for _ in 0..30 {
        let task = world.plain().await;
        tasks.push(task);
        let run = world.run_with_new_agent().await;
        world.finish(run.key, RunOutcome::Succeeded).await;
    }
    age(&world).await;
    let before = world.store.days_ago(5).await.unwrap();
    let cleaning = async || world.store.clean_up(TASKS, before, TIME).await.unwrap().counts.tasks;
    let making = async {
        let mut made = 0;
        for task in &tasks {
            let dependant = task_after(&[*task]);
            made += u64::from(world.store.create_tasks(vec![dependant]).await.is_ok());
        }
        made
    };
    let (one, two, made) = tokio::join!(cleaning(), cleaning(), making);
    assert_eq!(one + two + made, 30);
    world.assert_rules().await;
    assert_eq!(world.store.create_tasks(vec![plain_task()]).await.unwrap().len(), 1);
}
