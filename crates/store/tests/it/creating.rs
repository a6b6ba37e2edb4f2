use core_types::{
    ids::TaskId,
    outcome::RunOutcome,
    task::{TaskState, TaskStatus},
};
use serde_json::json;
use store::tasks::{NewTask, create::CreateTasksError};

use crate::world::{World, plain_task, task_after};

#[tokio::test]
async fn a_task_comes_back_as_it_was_asked_for() {
    let world = World::new().await;
    let parent = world.plain().await;
    let asked = NewTask {
        context: Some(json!({"nul": "\u{0}", "fraction": 0.1, "deep": [1, {"a": null}]})),
        target_area: Some("crates/store".to_owned()),
        base_branch: Some("main".to_owned()),
        verification: vec![vec!["cargo".to_owned(), "test".to_owned()]],
        timebox: Some(std::time::Duration::from_millis(1500)),
        model: Some("opus".to_owned()),
        token_limit: Some(i64::MAX.unsigned_abs()),
        cost_limit_microusd: Some(5),
        ..task_after(&[parent])
    };
    let made = world.store.create_tasks(vec![asked.clone()]).await.unwrap();
    assert_eq!(made[0].new, asked);
    assert_eq!((made[0].state, made[0].pending_dependencies), (TaskState::Queued, 1));
    assert_eq!(world.read(asked.id).await, made[0]);
}

#[tokio::test]
async fn asking_twice_makes_one_task_and_another_content_is_refused() {
    let world = World::new().await;
    let task = NewTask { context: Some(json!({"x": 0.1})), ..plain_task() };
    let first = world.store.create_tasks(vec![task.clone()]).await.unwrap();
    let again = NewTask { created_by: "somebody else".to_owned(), ..task.clone() };
    assert_eq!(world.store.create_tasks(vec![again]).await.unwrap(), first);
    let other = NewTask { goal: "another goal".to_owned(), ..task };
    let error = world.store.create_tasks(vec![plain_task(), other]).await.unwrap_err();
    assert!(matches!(error, CreateTasksError::IdTaken { index: 1 }), "{error:?}");
    assert_eq!(world.count("SELECT count(*) FROM tasks").await, 1);
}

#[tokio::test]
async fn the_same_task_asked_for_at_the_same_time_is_made_once() {
    let world = World::new().await;
    let task = plain_task();
    let calls = (0..8).map(|_| world.store.create_tasks(vec![task.clone()]));
    let made = futures_util::future::try_join_all(calls).await.unwrap();
    assert!(made.iter().all(|tasks| tasks[0].new.id == task.id));
    assert_eq!(world.count("SELECT count(*) FROM ready").await, 1);
}

#[tokio::test]
async fn tasks_of_one_call_may_depend_on_each_other_in_any_order() {
    let world = World::new().await;
    let first = plain_task();
    let second = task_after(&[first.id, first.id]);
    let third = task_after(&[second.id, first.id]);
    let made = world.store.create_tasks(vec![third.clone(), first, second]).await.unwrap();
    let pending: Vec<u32> = made.iter().map(|task| task.pending_dependencies).collect();
    assert_eq!(pending, [2, 0, 1]);
    assert_eq!(made[0].new.id, third.id);
    world.assert_rules().await;
}

#[tokio::test]
async fn a_dependency_that_is_missing_itself_or_in_a_circle_is_refused_and_nothing_is_made() {
    let world = World::new().await;
    let missing = TaskId::generate();
    let error =
        world.store.create_tasks(vec![plain_task(), task_after(&[missing])]).await.unwrap_err();
    assert!(
        matches!(error, CreateTasksError::DependencyMissing { index: 1, missing: m } if m == missing),
        "{error:?}"
    );

    let mut own = plain_task();
    own.dependencies = vec![own.id];
    let error = world.store.create_tasks(vec![own]).await.unwrap_err();
    assert!(matches!(error, CreateTasksError::DependencyOnItself { index: 0 }), "{error:?}");

    let (mut a, mut b, mut c) = (plain_task(), plain_task(), plain_task());
    (a.dependencies, b.dependencies, c.dependencies) = (vec![b.id], vec![c.id], vec![b.id]);
    let circle = [b.id, c.id];
    let error = world.store.create_tasks(vec![a, b, c]).await.unwrap_err();
    match error {
        CreateTasksError::DependencyCycle { index: 1, path } => assert_eq!(path, circle),
        other => panic!("{other:?}"),
    }
    assert_eq!(world.count("SELECT count(*) FROM tasks").await, 0);
}

#[tokio::test]
async fn a_dependency_that_will_never_be_done_is_refused() {
    let world = World::new().await;
    let parent = world.plain().await;
    let child = world.task(task_after(&[parent])).await;
    world.store.cancel_task(parent, "no need").await.unwrap();
    for dependency in [parent, child] {
        let error = world.store.create_tasks(vec![task_after(&[dependency])]).await.unwrap_err();
        assert!(
            matches!(error, CreateTasksError::DependencyFailed { index: 0, dependency: d, .. } if d == dependency),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn a_dependency_that_is_done_is_not_waited_for() {
    let world = World::new().await;
    let parent = world.plain().await;
    let run = world.run_with_new_agent().await;
    world.finish(run.key, RunOutcome::Succeeded).await;
    assert_eq!(world.read(parent).await.state.status(), TaskStatus::Done);
    let child = world.task(task_after(&[parent])).await;
    assert_eq!(world.read(child).await.pending_dependencies, 0);
    assert_eq!(world.run_one().await.task, child);
}

#[tokio::test]
async fn what_cannot_be_stored_is_refused_by_the_name_of_its_field() {
    let world = World::new().await;
    let bad = [
        ("title", NewTask { title: "a\0b".to_owned(), ..plain_task() }),
        ("priority", NewTask { priority: 101, ..plain_task() }),
        ("target_area", NewTask { target_area: Some(String::new()), ..plain_task() }),
        ("target_area", NewTask { target_area: Some("x".repeat(2000)), ..plain_task() }),
        ("timebox", NewTask { timebox: Some(std::time::Duration::ZERO), ..plain_task() }),
        ("max_attempts", NewTask { max_attempts: 0, ..plain_task() }),
        ("token_limit", NewTask { token_limit: Some(u64::MAX), ..plain_task() }),
    ];
    for (name, task) in bad {
        let error = world.store.create_tasks(vec![plain_task(), task]).await.unwrap_err();
        assert!(
            matches!(error, CreateTasksError::Invalid { index: 1, field, .. } if field == name),
            "{error:?}"
        );
    }
}
