use core_types::{
    ids::TaskId,
    outcome::RunOutcome,
    task::{Role, RunStatus, TaskStatus},
};
use store::{
    page::Cursor,
    runs::list::RunFilter,
    tasks::{NewTask, list::TaskFilter},
};

use crate::world::{World, plain_task};

async fn pages(world: &World, filter: TaskFilter, between: impl AsyncFn()) -> Vec<TaskId> {
    let mut filter = filter;
    let mut seen = Vec::new();
    loop {
        let page = world.store.list_tasks(&filter).await.unwrap();
        seen.extend(page.items.iter().map(|task| task.new.id));
        between().await;
        filter.before = page.next_cursor;
        if filter.before.is_none() {
            return seen;
        }
    }
}

#[tokio::test]
async fn pages_show_each_task_once_newest_first_while_others_are_made() {
    let world = World::new().await;
    let tasks: Vec<NewTask> = (0..25).map(|_| plain_task()).collect();
    let mut expected: Vec<TaskId> = tasks.iter().map(|task| task.id).collect();
    expected.reverse();
    world.store.create_tasks(tasks).await.unwrap();
    let filter = TaskFilter { limit: 4, ..TaskFilter::default() };
    let seen = pages(&world, filter, async || {
        world.plain().await;
    })
    .await;
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn a_list_keeps_to_its_filter() {
    let world = World::new().await;
    let tester = world.task(NewTask { role: Role::Tester, ..plain_task() }).await;
    let worker = world.plain().await;
    let cancelled = world.plain().await;
    world.store.cancel_task(cancelled, "x").await.unwrap();
    let list = async |status, role| {
        let statuses = Option::into_iter(status).collect();
        let filter = TaskFilter { statuses, role, limit: 1, ..TaskFilter::default() };
        pages(&world, filter, async || {}).await
    };
    assert_eq!(list(Some(TaskStatus::Queued), None).await, [worker, tester]);
    assert_eq!(list(None, Some(Role::Worker)).await, [cancelled, worker]);
    assert_eq!(list(Some(TaskStatus::Queued), Some(Role::Tester)).await, [tester]);
    assert!(list(Some(TaskStatus::Done), None).await.is_empty());
}

#[tokio::test]
async fn a_full_last_page_has_no_next() {
    let world = World::new().await;
    world.plain().await;
    world.plain().await;
    let filter = TaskFilter { limit: 2, ..TaskFilter::default() };
    let page = world.store.list_tasks(&filter).await.unwrap();
    assert_eq!((page.items.len(), page.next_cursor), (2, None));
}

#[tokio::test]
async fn runs_are_listed_by_status_and_by_task() {
    let world = World::new().await;
    let task = world.plain().await;
    let first = world.run_with_new_agent().await;
    world.finish(first.key, RunOutcome::Interrupted).await;
    let second = world.run_one().await;
    let of_task = world.store.runs_of_task(task).await.unwrap();
    let ids: Vec<_> = of_task.iter().map(|run| (run.id, run.number)).collect();
    assert_eq!(ids, [(second.key.run, 2), (first.key.run, 1)]);
    let filter = RunFilter { statuses: vec![RunStatus::Ended], limit: 10, ..RunFilter::default() };
    let ended = world.store.list_runs(&filter).await.unwrap();
    assert_eq!(ended.items.iter().map(|run| run.key()).collect::<Vec<_>>(), [first.key]);
    let all = world.store.list_runs(&RunFilter { limit: 1, ..RunFilter::default() }).await.unwrap();
    assert_eq!(all.items[0].key(), second.key);
    let rest = RunFilter { limit: 1, before: all.next_cursor, ..RunFilter::default() };
    assert_eq!(world.store.list_runs(&rest).await.unwrap().items[0].key(), first.key);
}

#[test]
fn a_cursor_is_read_back_from_its_text() {
    let cursor: Cursor = "42".parse().unwrap();
    assert_eq!(cursor.to_string().parse::<Cursor>().unwrap(), cursor);
    assert!("x".parse::<Cursor>().is_err());
}
