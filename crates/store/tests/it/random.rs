//! Random operations by several processes at once, with connections killed in between; the rules hold at every moment.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use core_types::{
    event::{NumberedEvent, RunEvent},
    ids::TaskId,
    outcome::{RunOutcome, RunReport},
    task::{ExecutorKind, Role},
    usage::SpendLimits,
};
use jiff::Timestamp;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};
use store::{
    dispatch::claim::{ClaimRequest, Claimed},
    error::{FencedError, StoreError},
    pool::Store,
    recovery::Revocation,
    tasks::{NewTask, create::CreateTasksError},
};
use tokio::{task::JoinSet, time::Instant};

use crate::world::{LEASE, World, assert_rules, connect, new_agent, plain_task};

const FOR: Duration = Duration::from_secs(4);
/// Fewer show nothing: on a machine that has much else to do it goes on until they have happened.
const STEPS: u32 = 100;
const LOOKS: u32 = 3;
const ACTORS: u64 = 5;
const MODELS: [Option<&str>; 3] = [None, Some("openai/gpt-5"), Some("anthropic/claude-sonnet-4-5")];
const ROLES: [Role; 2] = [Role::Worker, Role::Tester];

/// What the actors know of each other.
#[derive(Debug, Default)]
struct Shared {
    tasks: Mutex<Vec<TaskId>>,
    runs: Mutex<Vec<Claimed>>,
    steps: AtomicU32,
    looks: AtomicU32,
}

impl Shared {
    fn is_enough(&self, since: Instant) -> bool {
        let (steps, looks) =
            (self.steps.load(Ordering::Relaxed), self.looks.load(Ordering::Relaxed));
        since.elapsed() >= FOR && steps > STEPS && looks > LOOKS
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_hold_under_random_operations_and_all_work_ends() {
    let world = World::new().await;
    let seed: u64 = rand::rng().random();
    eprintln!("seed {seed}");
    let shared = Shared::default();
    for role in ROLES.into_iter().cycle().take(10) {
        world.agent(role).await;
    }
    let began = Instant::now();
    let actors = (0..ACTORS).map(async |n| {
        let store = world.another_store().await;
        let mut rng = StdRng::seed_from_u64(seed.wrapping_add(n));
        while !shared.is_enough(began) {
            step(&store, &shared, &mut rng).await;
            shared.steps.fetch_add(1, Ordering::Relaxed);
        }
    });
    let watcher = async {
        while !shared.is_enough(began) {
            assert_rules(&world.sql).await;
            shared.looks.fetch_add(1, Ordering::Relaxed);
        }
    };
    let killer = kill_connections(&world, || shared.is_enough(began));
    tokio::join!(futures_util::future::join_all(actors), watcher, killer);
    eprintln!("{:?} steps, {:?} looks", shared.steps, shared.looks);
    world.assert_rules().await;
    assert_eq!(world.store.reconcile_areas().await.unwrap(), 0);
    drain(&world).await;
    let deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
    assert_eq!(world.count(deadlocks).await, 0, "the order of locks is not kept");
}

/// Kills a random connection of the actors now and then.
async fn kill_connections(world: &World, is_enough: impl Fn() -> bool) {
    let mut driver = JoinSet::new();
    let killer = connect(world.url.expose(), &mut driver).await;
    while !is_enough() {
        killer
            .batch_execute(
                "SELECT pg_sleep(0.15);
                 SELECT pg_terminate_backend(pid) FROM (
                     SELECT pid FROM pg_stat_activity
                     WHERE datname = current_database() AND application_name = 'store tests, another'
                     ORDER BY random() LIMIT 1) AS one",
            )
            .await
            .unwrap();
    }
}

async fn step(store: &Store, shared: &Shared, rng: &mut StdRng) {
    match rng.random_range(0..100) {
        0..15 => create(store, shared, rng).await,
        15..45 => claim(store, shared, rng).await,
        45..80 => work(store, shared, rng).await,
        80..88 => cancel(store, shared, rng).await,
        88..94 => drop(fine(store.release_cooled(20).await)),
        94..96 => drop(fine(store.register_agent(&new_agent(ROLES[0])).await)),
        96..97 => try_gates(store).await,
        _ => assert_eq!(fine(store.reconcile_areas().await).unwrap_or(0), 0),
    }
}

async fn try_gates(store: &Store) {
    for stored in fine(store.gates().await).unwrap_or_default() {
        fine(store.try_gate(&stored.key).await);
    }
}

/// Only a lost connection is an excuse.
fn fine<T>(result: Result<T, StoreError>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(error) => {
            assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
            None
        }
    }
}

async fn create(store: &Store, shared: &Shared, rng: &mut StdRng) {
    let known: Vec<TaskId> = shared.tasks.lock().unwrap().clone();
    let mut batch: Vec<NewTask> = Vec::new();
    for _ in 0..rng.random_range(1..=4) {
        let near: Vec<TaskId> = known.iter().rev().take(30).copied().collect();
        let mut dependencies: Vec<TaskId> = Vec::new();
        if rng.random_bool(0.5) {
            dependencies.extend(near.choose(rng));
        }
        if rng.random_bool(0.4) {
            dependencies.extend(batch.choose(rng).map(|task| task.id));
        }
        let area = rng.random_bool(0.6).then(|| format!("area {}", rng.random_range(0..4)));
        batch.push(NewTask {
            dependencies,
            target_area: area,
            role: *ROLES.choose(rng).unwrap(),
            executor: *ExecutorKind::ALL.choose(rng).unwrap(),
            model: MODELS.choose(rng).unwrap().map(ToOwned::to_owned),
            priority: rng.random_range(-100..=100),
            ..plain_task()
        });
    }
    if rng.random_bool(0.5) {
        batch.reverse();
    }
    let ids: Vec<TaskId> = batch.iter().map(|task| task.id).collect();
    match store.create_tasks(batch).await {
        Ok(_) => shared.tasks.lock().unwrap().extend(ids),
        Err(CreateTasksError::DependencyFailed { .. }) => {}
        Err(CreateTasksError::Store(error)) => assert_eq!(fine::<()>(Err(error)), None),
        Err(other) => panic!("{other:?}"),
    }
}

async fn claim(store: &Store, shared: &Shared, rng: &mut StdRng) {
    let limit = rng.random_range(1..=4);
    let request = ClaimRequest {
        limit,
        lease: LEASE,
        max_running: 8,
        spend: SpendLimits::default(),
        default_provider: core_types::provider::Provider::default(),
    };
    if let Some(claimed) = fine(store.claim_host_runs(request).await) {
        shared.runs.lock().unwrap().extend(claimed);
    }
}

/// Does something with a run that may be over or somebody else's by now.
async fn work(store: &Store, shared: &Shared, rng: &mut StdRng) {
    let run = shared.runs.lock().unwrap().choose(rng).copied();
    let Some(run) = run else { return };
    let result = match rng.random_range(0..10) {
        0..3 => store.start_run(run.key, run.agent).await.map(drop),
        3..5 => {
            let event = RunEvent::Notice { text: "x".to_owned() };
            let seq = rng.random_range(1..20);
            let at = Timestamp::now();
            store.append_events(run.key, &[NumberedEvent { seq, at, event }]).await
        }
        5 => store.renew_leases(&[run.key], LEASE).await.map(drop).map_err(FencedError::Store),
        6 => revoke(store, run).await,
        _ => {
            let outcome = if rng.random_bool(0.5) {
                RunOutcome::Succeeded
            } else {
                *RunOutcome::ALL.choose(rng).unwrap()
            };
            let result = store.finish_run(run.key, &RunReport::new(outcome)).await.map(drop);
            if !matches!(result, Err(FencedError::Store(_))) && rng.random_bool(0.9) {
                shared.runs.lock().unwrap().retain(|one| one.key != run.key);
            }
            result
        }
    };
    if let Err(FencedError::Store(error)) = result {
        assert_eq!(fine::<()>(Err(error)), None);
    }
}

/// Takes a run from its worker; the end of it may be left to a later look.
async fn revoke(store: &Store, run: Claimed) -> Result<(), FencedError> {
    let lost = RunReport::new(RunOutcome::WorkerLost);
    if store.revoke(run.key, Revocation::WorkerDead).await? {
        store.finish_revoked(run.key, &lost).await?;
    }
    for orphan in store.revoked_runs(10).await? {
        store.finish_revoked(orphan.key, &lost).await?;
    }
    Ok(())
}

async fn cancel(store: &Store, shared: &Shared, rng: &mut StdRng) {
    let task = shared.tasks.lock().unwrap().choose(rng).copied();
    if let Some(task) = task {
        fine(store.cancel_task(task, "a dice").await);
    }
}

/// Ends everything well: no task may be left that nobody would ever take. What waits for a task that waits for a person
/// is not among them.
async fn drain(world: &World) {
    let deadline = Instant::now() + Duration::from_secs(30);
    let open = "SELECT count(*) FROM tasks WHERE status = 'running' OR block_reason = 'quota_wait'
        OR (status = 'queued' AND pending_dependencies = 0)";
    for role in ROLES {
        world.agent(role).await;
    }
    while world.count(open).await > 0 {
        assert!(Instant::now() < deadline, "{} tasks are left", world.count(open).await);
        world
            .sql
            .batch_execute(
                "UPDATE tasks SET not_before = now() WHERE not_before IS NOT NULL;
                 UPDATE agents SET last_beat = now();
                 UPDATE leases SET expires_at = now() - interval '1 s'",
            )
            .await
            .unwrap();
        world.open_gates().await;
        world.store.release_cooled(1000).await.unwrap();
        world.claim(64).await;
        world
            .sql
            .batch_execute("UPDATE leases SET expires_at = now() - interval '1 s'")
            .await
            .unwrap();
        for orphan in world.store.revoked_runs(100).await.unwrap() {
            let lost = RunReport::new(RunOutcome::WorkerLost);
            world.store.finish_revoked(orphan.key, &lost).await.unwrap();
        }
        for orphan in world.store.expired_leases(100).await.unwrap() {
            world.finish(orphan.key, RunOutcome::Succeeded).await;
        }
    }
    world.assert_rules().await;
}
