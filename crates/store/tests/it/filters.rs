//! Every filter, alone and with others, with cursors, against a plain filter over everything; and what they cost where
//! there are many tasks.

use core_types::{
    ids::TaskId,
    outcome::RunOutcome,
    repository::Repository,
    task::{ExecutorKind, Role, RunStatus, TaskStatus},
};
use jiff::Timestamp;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};
use store::{
    page::{Order, PAGE_LIMIT},
    runs::list::RunFilter,
    tasks::{NewTask, Task, list::TaskFilter},
};

use crate::world::{World, plain_task};

const AREAS: &[Option<&str>] = &[None, None, Some("a"), Some("b")];
const TITLES: &[&str] = &["Fix 100% of it", "fix_it", "Größe", "other"];
const PLACES: &[&str] = &["/srv/one", "/srv/two"];

fn random_task(random: &mut StdRng) -> NewTask {
    NewTask {
        title: (*TITLES.choose(random).unwrap()).to_owned(),
        role: *Role::ALL.choose(random).unwrap(),
        executor: *ExecutorKind::ALL.choose(random).unwrap(),
        target_area: AREAS.choose(random).unwrap().map(ToOwned::to_owned),
        repository: match PLACES.choose(random) {
            Some(path) if random.random() => Repository::Local { path: (*path).to_owned() },
            _ => Repository::Git { url: "https://example.org/x.git".to_owned() },
        },
        ..plain_task()
    }
}

/// A world with tasks of all kinds, and all of them, the oldest first.
async fn many(random: &mut StdRng) -> (World, Vec<Task>) {
    let world = World::new().await;
    let mut ids = Vec::new();
    for _ in 0..120 {
        let id = world.task(random_task(random)).await;
        if random.random_bool(0.3) {
            world.store.cancel_task(id, "x").await.unwrap();
        }
        ids.push(id);
    }
    let mut tasks = Vec::new();
    for id in ids {
        tasks.push(world.read(id).await);
    }
    (world, tasks)
}

fn random_filter(random: &mut StdRng, tasks: &[Task]) -> TaskFilter {
    let mut maybe = |p| random.random_bool(p);
    let (status, role, executor, area) = (maybe(0.4), maybe(0.3), maybe(0.3), maybe(0.2));
    let (repository, title, since, until) = (maybe(0.3), maybe(0.3), maybe(0.2), maybe(0.2));
    let oldest = maybe(0.5);
    let mut moment = || tasks.choose(random).unwrap().created_at;
    let (from, to) = (moment(), moment());
    let count = random.random_range(1..4);
    TaskFilter {
        statuses: if status {
            (0..count).map(|_| *TaskStatus::ALL.choose(random).unwrap()).collect()
        } else {
            Vec::new()
        },
        role: role.then(|| *Role::ALL.choose(random).unwrap()),
        executor: executor.then(|| *ExecutorKind::ALL.choose(random).unwrap()),
        target_area: area.then(|| "a".to_owned()),
        repository: repository.then(|| {
            (*[PLACES, &["https://example.org/x.git"]].concat().choose(random).unwrap()).to_owned()
        }),
        title: title
            .then(|| (*["FIX", "%", "_", "größe", "none"].choose(random).unwrap()).to_owned()),
        since: since.then_some(from),
        until: until.then_some(to),
        order: if oldest { Order::Oldest } else { Order::Newest },
        before: None,
        limit: *[1, 3, 7, 200].choose(random).unwrap(),
    }
}

fn fits(filter: &TaskFilter, task: &Task) -> bool {
    let place = match &task.new.repository {
        Repository::Local { path } => path,
        Repository::Git { url } => url,
    };
    let title = task.new.title.to_lowercase();
    (filter.statuses.is_empty() || filter.statuses.contains(&task.state.status()))
        && filter.role.is_none_or(|role| role == task.new.role)
        && filter.executor.is_none_or(|executor| executor == task.new.executor)
        && filter
            .target_area
            .as_ref()
            .is_none_or(|area| task.new.target_area.as_ref() == Some(area))
        && filter.repository.as_ref().is_none_or(|wanted| wanted == place)
        && filter.title.as_ref().is_none_or(|text| title.contains(&text.to_lowercase()))
        && filter.since.is_none_or(|since| task.created_at >= since)
        && filter.until.is_none_or(|until| task.created_at < until)
}

/// Everything that a filter finds, page by page.
async fn walk(world: &World, mut filter: TaskFilter) -> Vec<TaskId> {
    let mut seen = Vec::new();
    loop {
        let page = world.store.list_tasks(&filter).await.unwrap();
        assert!(page.items.len() <= filter.limit as usize);
        seen.extend(page.items.iter().map(|task| task.new.id));
        match page.next_cursor {
            Some(cursor) => filter.before = Some(cursor),
            None => return seen,
        }
    }
}

#[tokio::test]
async fn any_filters_together_find_what_a_plain_look_at_everything_finds() {
    let seed = rand::random();
    let mut random = StdRng::seed_from_u64(seed);
    let (world, tasks) = many(&mut random).await;
    for _ in 0..150 {
        let filter = random_filter(&mut random, &tasks);
        let mut expected: Vec<TaskId> =
            tasks.iter().filter(|task| fits(&filter, task)).map(|task| task.new.id).collect();
        if filter.order == Order::Newest {
            expected.reverse();
        }
        assert_eq!(walk(&world, filter.clone()).await, expected, "seed {seed}: {filter:?}");
    }
}

/// Fills the table as 100,000 tasks would, most of them over; `needle` is in one title.
async fn fill(world: &World) {
    world
        .sql
        .batch_execute(
            "INSERT INTO tasks (id, title, goal, role, priority, risk, target_area, repository, verification, executor,
                 max_attempts, created_by, rank, status, block_reason, created_at, updated_at, finished_at)
             SELECT gen_random_uuid(), CASE n WHEN 30000 THEN 'a Needle' ELSE 'task ' || n END, 'goal',
                 (ARRAY['worker', 'tester', 'docser'])[1 + n % 3], 0, 'low',
                 CASE WHEN n % 1000 = 0 THEN 'area ' || n % 5000 END,
                 json_build_object('mode', 'local', 'path', '/srv/' || n % 500), '[]',
                 CASE WHEN n % 97 = 0 THEN 'opencode' ELSE 'claude_code' END, 1, 'test', n, s.status,
                 CASE WHEN s.status = 'blocked' THEN 'attempts_exhausted' END, at, at,
                 CASE WHEN s.status IN ('done', 'failed', 'cancelled') THEN at END
             FROM generate_series(1, 100000) AS n,
                 LATERAL (SELECT (ARRAY['done', 'done', 'done', 'done', 'failed', 'cancelled', 'queued', 'blocked', 'done',
                     'done'])[1 + n % 10] AS status, timestamptz '2026-01-01' + n * interval '1 minute' AS at) AS s",
        )
        .await
        .unwrap();
    world.sql.batch_execute("VACUUM ANALYZE tasks").await.unwrap();
}

/// How many rows a plan looked at, and whether it did so by way of an index.
fn rows_looked_at(plan: &[String]) -> u64 {
    let number = |line: &str, before: &str| -> Option<u64> {
        let (_, rest) = line.split_once(before)?;
        rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
    };
    let mut rows = 0;
    for line in plan {
        assert!(!line.contains("Seq Scan"), "{plan:#?}");
        assert!(!line.contains("Sort Method: external"), "{plan:#?}");
        if line.contains("Index")
            && line.contains("Scan")
            && line.contains("tasks")
            && !line.contains("task_dependencies")
        {
            rows += number(line, "actual rows=").unwrap_or_default();
        }
        rows += number(line, "Rows Removed by Filter: ").unwrap_or_default();
    }
    rows
}

#[tokio::test]
async fn no_filter_looks_at_more_than_a_bounded_part_of_many_tasks() {
    let world = World::new().await;
    fill(&world).await;
    let at = |text: &str| Some(text.parse::<Timestamp>().unwrap());
    let base = || TaskFilter { limit: 50, ..TaskFilter::default() };
    let indexed = [
        base(),
        TaskFilter { statuses: vec![TaskStatus::Failed], ..base() },
        TaskFilter { statuses: TaskStatus::ALL.to_vec(), order: Order::Oldest, ..base() },
        TaskFilter { role: Some(Role::Docser), ..base() },
        TaskFilter {
            role: Some(Role::Tester),
            statuses: vec![TaskStatus::Queued, TaskStatus::Blocked],
            ..base()
        },
        TaskFilter { target_area: Some("area 1000".to_owned()), ..base() },
        TaskFilter { repository: Some("/srv/77".to_owned()), ..base() },
        TaskFilter { repository: Some("/nowhere".to_owned()), ..base() },
    ];
    for filter in indexed {
        let plan = world.store.explain_list_tasks(&filter).await.unwrap();
        let page = plan.iter().take_while(|line| !line.starts_with("Aggregate"));
        let rows = rows_looked_at(&page.cloned().collect::<Vec<_>>());
        assert!(rows <= 6 * 51 + 51, "{rows} rows for {filter:?}: {plan:#?}");
    }
    let mixed = [
        TaskFilter { executor: Some(ExecutorKind::Opencode), ..base() },
        TaskFilter { title: Some("needle".to_owned()), ..base() },
        TaskFilter {
            title: Some("needle".to_owned()),
            statuses: vec![TaskStatus::Done, TaskStatus::Failed],
            ..base()
        },
        TaskFilter {
            since: at("2026-01-20T00:00:00Z"),
            until: at("2026-01-20T01:00:00Z"),
            ..base()
        },
        TaskFilter { repository: Some("/srv/77".to_owned()), role: Some(Role::Worker), ..base() },
        TaskFilter { since: at("2036-01-20T00:00:00Z"), ..base() },
    ];
    for filter in mixed {
        let mut place = filter.clone();
        loop {
            let page = world.store.list_tasks(&place).await.unwrap();
            let Some(cursor) = page.next_cursor else { break };
            place.before = Some(cursor);
        }
        let plan = world.store.explain_list_tasks(&filter).await.unwrap();
        assert!(rows_looked_at(&plan) <= 40_100, "{filter:?}: {plan:#?}");
    }
    let needle = TaskFilter { title: Some("NEEDLE".to_owned()), ..base() };
    assert_eq!(walk(&world, needle.clone()).await.len(), 1);
    assert_eq!(walk(&world, TaskFilter { order: Order::Oldest, ..needle }).await.len(), 1);
    let hour = TaskFilter {
        since: at("2026-01-20T00:00:00Z"),
        until: at("2026-01-20T01:00:00Z"),
        limit: 7,
        ..base()
    };
    assert_eq!(walk(&world, hour).await.len(), 60);
    let rare = TaskFilter { executor: Some(ExecutorKind::Opencode), limit: PAGE_LIMIT, ..base() };
    assert_eq!(walk(&world, rare).await.len(), 100_000 / 97);
}

#[tokio::test]
async fn tasks_are_counted_by_role_and_status_from_the_index_alone() {
    let world = World::new().await;
    let empty = world.store.count_tasks().await.unwrap();
    assert_eq!((empty.counts.len(), empty.oldest_queued), (0, None));
    fill(&world).await;
    let counted = world.store.count_tasks().await.unwrap();
    let sum: u64 = counted.counts.iter().map(|(_, _, count)| count).sum();
    assert_eq!((sum, counted.counts.len()), (100_000, 15));
    let queued = |role| {
        counted.counts.iter().find(|(r, s, _)| (*r, *s) == (role, TaskStatus::Queued)).unwrap().2
    };
    assert_eq!(Role::ALL.iter().map(|role| queued(*role)).sum::<u64>(), 10_000);
    assert!(counted.oldest_queued.unwrap().1 > 0.0);
}

#[tokio::test]
async fn runs_are_found_by_everything_that_is_known_of_them() {
    let world = World::new().await;
    let first = world.plain().await;
    let one = world.run_with_new_agent().await;
    world.finish(one.key, RunOutcome::Interrupted).await;
    let again = world.run_one().await;
    world.finish(again.key, RunOutcome::VerificationFailed).await;
    let second = world.task(NewTask { executor: ExecutorKind::Opencode, ..plain_task() }).await;
    let other = world.run_with_new_agent().await;
    let find = async |filter: RunFilter| {
        let filter = RunFilter { limit: 1, ..filter };
        let mut found = Vec::new();
        let mut place = filter;
        loop {
            let page = world.store.list_runs(&place).await.unwrap();
            found.extend(page.items.iter().map(|run| run.id));
            match page.next_cursor {
                Some(cursor) => place.before = Some(cursor),
                None => return found,
            }
        }
    };
    let base = RunFilter::default;
    let [one, again, other] = [one, again, other].map(|claimed| (claimed.key.run, claimed.agent));
    assert_eq!(find(base()).await, [other.0, again.0, one.0]);
    assert_eq!(find(RunFilter { order: Order::Oldest, ..base() }).await, [one.0, again.0, other.0]);
    assert_eq!(find(RunFilter { task: Some(first), ..base() }).await, [again.0, one.0]);
    assert_eq!(find(RunFilter { task: Some(second), ..base() }).await, [other.0]);
    assert_eq!(
        find(RunFilter { agent: Some(other.1), ..base() }).await,
        if other.1 == one.1 { vec![other.0, again.0, one.0] } else { vec![other.0] }
    );
    let failed = vec![RunOutcome::VerificationFailed, RunOutcome::AgentFailed];
    assert_eq!(find(RunFilter { outcomes: failed.clone(), ..base() }).await, [again.0]);
    assert_eq!(find(RunFilter { outcomes: failed, task: Some(first), ..base() }).await, [again.0]);
    assert_eq!(
        find(RunFilter { statuses: vec![RunStatus::Running, RunStatus::Ended], ..base() })
            .await
            .len(),
        3
    );
    assert_eq!(find(RunFilter { statuses: vec![RunStatus::Running], ..base() }).await, [other.0]);
    assert_eq!(
        find(RunFilter { executor: Some(ExecutorKind::Opencode), ..base() }).await,
        [other.0]
    );
    let start = world.store.run(again.0).await.unwrap().unwrap().created_at;
    assert_eq!(find(RunFilter { since: Some(start), ..base() }).await, [other.0, again.0]);
    assert_eq!(find(RunFilter { until: Some(start), ..base() }).await, [one.0]);
}
