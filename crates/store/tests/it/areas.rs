use core_types::{outcome::RunOutcome, task::Role};
use futures_util::StreamExt as _;
use store::tasks::NewTask;

use crate::world::{World, claim, plain_task, task_in};

#[tokio::test]
async fn one_task_of_an_area_runs_at_a_time_and_the_next_follows() {
    let world = World::new().await;
    let first = world.task(task_in("a")).await;
    let second = world.task(task_in("a")).await;
    let elsewhere = world.task(task_in("b")).await;
    for _ in 0..5 {
        world.agent(Role::Worker).await;
    }
    let claimed = world.claim(5).await;
    let tasks: Vec<_> = claimed.iter().map(|one| one.task).collect();
    assert_eq!(tasks, [first, elsewhere]);
    assert!(world.claim(5).await.is_empty());
    world.finish(claimed[0].key, RunOutcome::Succeeded).await;
    let next: Vec<_> = world.claim(5).await.iter().map(|one| one.task).collect();
    assert_eq!(next, [second]);
    world.assert_rules().await;
}

#[tokio::test]
async fn a_better_newcomer_goes_ahead_in_its_area() {
    let world = World::new().await;
    let plain = world.task(task_in("a")).await;
    let urgent = world.task(NewTask { priority: 50, ..task_in("a") }).await;
    world.assert_rules().await;
    let run = world.run_with_new_agent().await;
    assert_eq!(run.task, urgent);
    world.finish(run.key, RunOutcome::Succeeded).await;
    assert_eq!(world.run_one().await.task, plain);
}

#[tokio::test]
async fn a_busy_area_with_a_long_line_holds_up_nobody() {
    let world = World::new().await;
    let line: Vec<NewTask> =
        (0..300).map(|_| NewTask { priority: 100, ..task_in("busy") }).collect();
    world.store.create_tasks(line).await.unwrap();
    let free = world.plain().await;
    world.run_with_new_agent().await;
    world.agent(Role::Worker).await;
    let claimed = world.claim(1).await;
    assert_eq!(claimed.iter().map(|one| one.task).collect::<Vec<_>>(), [free]);
}

#[tokio::test]
async fn a_failed_attempt_lets_the_next_of_its_area_go() {
    let world = World::new().await;
    let first = world.task(task_in("a")).await;
    let second = world.task(task_in("a")).await;
    let run = world.run_with_new_agent().await;
    assert_eq!(run.task, first);
    world.finish(run.key, RunOutcome::AgentFailed).await;
    assert_eq!(world.run_one().await.task, second);
    world.assert_rules().await;
}

#[tokio::test]
async fn cancelling_the_next_of_an_area_lets_the_one_behind_it_go() {
    let world = World::new().await;
    let first = world.task(task_in("a")).await;
    let second = world.task(task_in("a")).await;
    world.store.cancel_task(first, "no need").await.unwrap();
    world.assert_rules().await;
    assert_eq!(world.run_with_new_agent().await.task, second);
}

/// In each area a run ends in the very moment in which another task of it is queued: whoever of the two decides with
/// an old picture leaves a task that nobody will ever pick.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_wake_up_is_lost_when_an_area_is_freed_and_filled_at_once() {
    const AREAS: usize = 300;
    let world = World::new().await;
    let first: Vec<NewTask> = (0..AREAS).map(|n| task_in(&format!("area {n}"))).collect();
    world.store.create_tasks(first).await.unwrap();
    for _ in 0..AREAS {
        world.agent(Role::Worker).await;
    }
    let mut running = Vec::new();
    while running.len() < AREAS {
        running.extend(world.claim(64).await);
    }
    let pairs = running.iter().map(async |claimed| {
        let area = world.read(claimed.task).await.new.target_area;
        let second = NewTask { target_area: area, ..plain_task() };
        let (_, made) = tokio::join!(
            world.finish(claimed.key, RunOutcome::Succeeded),
            world.store.create_tasks(vec![second]),
        );
        made.unwrap();
    });
    futures_util::stream::iter(pairs).buffer_unordered(5).collect::<Vec<()>>().await;
    world.assert_rules().await;
    assert_eq!(world.store.reconcile_areas().await.unwrap(), 0);
    assert_eq!(world.count("SELECT count(*) FROM ready").await, i64::try_from(AREAS).unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_area_never_runs_two_under_concurrent_claims_and_finishes() {
    let world = World::new().await;
    let tasks: Vec<NewTask> = (0..120).map(|n| task_in(&format!("area {}", n % 5))).collect();
    world.store.create_tasks(tasks).await.unwrap();
    for _ in 0..10 {
        world.agent(Role::Worker).await;
    }
    let claimers = (0..6).map(async |_| {
        loop {
            for one in claim(&world.store, 2).await {
                world.finish(one.key, RunOutcome::Succeeded).await;
            }
            if world.count("SELECT count(*) FROM tasks WHERE status <> 'done'").await == 0 {
                return;
            }
        }
    });
    let watcher = async {
        while world.count("SELECT count(*) FROM tasks WHERE status <> 'done'").await > 0 {
            world.assert_rules().await;
        }
    };
    let all = async { tokio::join!(futures_util::future::join_all(claimers), watcher) };
    tokio::time::timeout(std::time::Duration::from_secs(60), all)
        .await
        .expect("all are done in time");
    assert_eq!(world.count("SELECT count(*) FROM runs").await, 120);
}

#[tokio::test]
async fn a_ready_row_that_went_missing_is_found_and_put_back() {
    let world = World::new().await;
    let in_area = world.task(task_in("a")).await;
    let plain = world.plain().await;
    assert_eq!(world.store.reconcile_areas().await.unwrap(), 0);
    world.sql.batch_execute("DELETE FROM ready").await.unwrap();
    assert_eq!(world.store.reconcile_areas().await.unwrap(), 2);
    world.assert_rules().await;
    world.agent(Role::Worker).await;
    world.agent(Role::Worker).await;
    let tasks: Vec<_> = world.claim(5).await.iter().map(|one| one.task).collect();
    assert_eq!(tasks, [in_area, plain]);
}
