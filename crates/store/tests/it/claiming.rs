use std::collections::HashSet;

use core_types::{
    ids::{LeaseNumber, TaskId},
    task::{RiskLevel, Role, RunStatus, TaskState},
    usage::SpendLimits,
};
use store::{dispatch::claim::ClaimRequest, tasks::NewTask};

use crate::world::{LEASE, World, claim, plain_task};

#[tokio::test]
async fn a_claim_makes_lease_run_and_state_together() {
    let world = World::new().await;
    let task = world.plain().await;
    let agent = world.agent(Role::Worker).await;
    let [claimed] = world.claim(5).await.try_into().unwrap();
    assert_eq!((claimed.task, claimed.agent, claimed.role), (task, agent, Role::Worker));
    assert_eq!(claimed.key.lease, LeaseNumber(1));
    let run = world.store.run(claimed.key.run).await.unwrap().unwrap();
    assert_eq!((run.status, run.number, run.agent), (RunStatus::Launching, 1, Some(agent)));
    let task = world.read(task).await;
    assert_eq!((task.state, task.current_run), (TaskState::Running, Some(run.id)));
    world.assert_rules().await;
}

#[tokio::test]
async fn concurrent_claimers_hand_out_each_task_once() {
    let world = World::new().await;
    let tasks: Vec<NewTask> = (0..120).map(|_| plain_task()).collect();
    let ids: HashSet<TaskId> = tasks.iter().map(|task| task.id).collect();
    world.store.create_tasks(tasks).await.unwrap();
    for _ in 0..150 {
        world.agent(Role::Worker).await;
    }
    let claimers = (0..8).map(async |_| {
        let mut mine = Vec::new();
        loop {
            let batch = claim(&world.store, 7).await;
            if batch.is_empty() {
                return mine;
            }
            mine.extend(batch);
        }
    });
    let claimed: Vec<_> = futures_util::future::join_all(claimers).await.concat();
    let claimed_tasks: HashSet<TaskId> = claimed.iter().map(|one| one.task).collect();
    let agents: HashSet<_> = claimed.iter().map(|one| one.agent).collect();
    assert_eq!((claimed.len(), agents.len()), (120, 120));
    assert_eq!(claimed_tasks, ids);
    world.assert_rules().await;
}

#[tokio::test]
async fn better_tasks_are_taken_first() {
    let world = World::new().await;
    let short = std::time::Duration::from_secs(600);
    let in_order = [
        NewTask { priority: 50, ..plain_task() },
        NewTask { priority: 10, risk: RiskLevel::Low, ..plain_task() },
        NewTask { priority: 10, ..plain_task() },
        NewTask { timebox: Some(short), ..plain_task() },
        plain_task(),
        plain_task(),
        NewTask { risk: RiskLevel::High, ..plain_task() },
        NewTask { priority: -20, risk: RiskLevel::Low, ..plain_task() },
        NewTask { priority: -20, risk: RiskLevel::High, ..plain_task() },
    ];
    let expected: Vec<TaskId> = in_order.iter().map(|task| task.id).collect();
    // The two that are alike keep their order; everything else is made the other way round.
    let mut made: Vec<NewTask> = in_order.into_iter().rev().collect();
    made.swap(3, 4);
    world.store.create_tasks(made).await.unwrap();
    let mut taken = Vec::new();
    for _ in &expected {
        taken.push(world.run_with_new_agent().await.task);
    }
    assert_eq!(taken, expected);
}

#[tokio::test]
async fn five_hours_of_waiting_outweigh_ten_points() {
    let world = World::new().await;
    let old = world.plain().await;
    let aged = "UPDATE %s SET rank = rank - 5 * 3600 * 1000000::bigint - 60 * 1000000";
    for table in ["tasks", "ready"] {
        world.sql.batch_execute(&aged.replace("%s", table)).await.unwrap();
    }
    let ten = world.task(NewTask { priority: 10, ..plain_task() }).await;
    let twenty = world.task(NewTask { priority: 20, ..plain_task() }).await;
    let mut taken = Vec::new();
    for _ in 0..3 {
        taken.push(world.run_with_new_agent().await.task);
    }
    assert_eq!(taken, [twenty, old, ten]);
}

#[tokio::test]
async fn a_queue_without_agents_blocks_no_other_role() {
    let world = World::new().await;
    let testers: Vec<NewTask> =
        (0..200).map(|_| NewTask { role: Role::Tester, priority: 100, ..plain_task() }).collect();
    world.store.create_tasks(testers).await.unwrap();
    let worker_task = world.plain().await;
    let docs_task = world.task(NewTask { role: Role::Docser, ..plain_task() }).await;
    let worker = world.agent(Role::Worker).await;
    let docser = world.agent(Role::Docser).await;
    let claimed = world.claim(1).await;
    assert_eq!(claimed.len(), 1);
    let claimed: HashSet<_> =
        [claimed, world.claim(1).await].concat().iter().map(|one| (one.task, one.agent)).collect();
    assert_eq!(claimed, HashSet::from([(worker_task, worker), (docs_task, docser)]));
    assert!(world.claim(10).await.is_empty());
}

#[tokio::test]
async fn silent_retired_and_busy_agents_get_no_work() {
    let world = World::new().await;
    for _ in 0..5 {
        world.plain().await;
    }
    let busy = world.agent(Role::Worker).await;
    assert_eq!(world.claim(5).await.len(), 1);
    let silent = world.agent(Role::Worker).await;
    let retired = world.agent(Role::Worker).await;
    world.store.retire_agent(retired).await.unwrap();
    world
        .sql
        .execute(
            "UPDATE agents SET last_beat = now() - interval '16 s' WHERE id = $1",
            &[&silent.as_uuid()],
        )
        .await
        .unwrap();
    assert!(world.claim(5).await.is_empty());
    world.store.agent_beat(silent).await.unwrap();
    let claimed = world.claim(5).await;
    assert!(claimed.iter().all(|one| one.agent == silent && one.agent != busy));
    assert_eq!(claimed.len(), 1);
}

#[tokio::test]
async fn the_limit_on_running_tasks_holds_across_claimers() {
    let world = World::new().await;
    for _ in 0..20 {
        world.plain().await;
        world.agent(Role::Worker).await;
    }
    let request = ClaimRequest {
        limit: 3,
        lease: LEASE,
        max_running: 7,
        spend: SpendLimits::default(),
        default_provider: core_types::provider::Provider::default(),
    };
    let claims = (0..8).map(|_| world.store.claim_host_runs(request.clone()));
    let claimed = futures_util::future::try_join_all(claims).await.unwrap().concat();
    assert_eq!(claimed.len(), 7);
    assert_eq!(world.count("SELECT count(*) FROM leases").await, 7);
    let none = ClaimRequest { max_running: 0, ..request };
    assert!(world.store.claim_host_runs(none).await.unwrap().is_empty());
}

#[tokio::test]
async fn the_fencing_number_rises_with_each_claim() {
    let world = World::new().await;
    let task = world.plain().await;
    for number in 1..=3 {
        let run = world.run_with_new_agent().await;
        assert_eq!((run.task, run.key.lease), (task, LeaseNumber(number)));
        world.finish(run.key, core_types::outcome::RunOutcome::Interrupted).await;
    }
}

#[tokio::test]
async fn a_claim_reads_ready_by_index_and_sorts_nothing() {
    let world = World::new().await;
    fill_ready(&world, 20_000).await;
    let plan = world.store.explain_claim().await.unwrap().join("\n");
    assert!(plan.contains("ready_by_rank"), "{plan}");
    assert!(plan.contains("agents_idle"), "{plan}");
    assert!(!plan.contains("Sort"), "{plan}");
    assert!(!plan.contains("Seq Scan"), "{plan}");
}

#[tokio::test]
async fn a_claim_costs_the_same_behind_a_long_line_whose_gate_is_closed() {
    let world = World::new().await;
    fill_ready(&world, 20_000).await;
    let providers = "UPDATE tasks SET executor = 'opencode',
            model = CASE WHEN rank % 100 = 0 THEN 'p' || rank % 7 ELSE 'openai' END || '/m';
        UPDATE ready r SET executor = t.executor, provider = t.provider FROM tasks t WHERE t.id = r.task;
        INSERT INTO executor_gates (environment, executor, provider, state, cause, closed_at, retry_at, renewed_at,
            changed_at)
        VALUES ('host', 'opencode', 'openai', 'closed', 'login', now(), now() + interval '1 h', now(), now())";
    world.sql.batch_execute(providers).await.unwrap();
    world.sql.batch_execute("VACUUM ANALYZE ready").await.unwrap();
    world.agent(Role::Worker).await;
    let before = rows_read(&world).await;
    assert_eq!(world.claim(1).await.len(), 1);
    let read = rows_read(&world).await - before;
    assert!(read < 200, "{read} rows of `ready` were read");
}

/// Gives each of the tasks by hand a provider of its own, and so a line.
async fn one_line_each(world: &World) {
    let providers = "UPDATE tasks SET executor = 'opencode', model = 'p' || lpad((rank % 100000)::text, 6, '0') || '/m';
        UPDATE ready r SET executor = t.executor, provider = t.provider FROM tasks t WHERE t.id = r.task";
    world.sql.batch_execute(providers).await.unwrap();
    world.sql.batch_execute("VACUUM ANALYZE ready").await.unwrap();
}

#[tokio::test]
async fn a_claim_costs_the_same_however_many_providers_callers_name() {
    let world = World::new().await;
    fill_ready(&world, 20_000).await;
    one_line_each(&world).await;
    world.agent(Role::Worker).await;
    let before = rows_read(&world).await;
    assert_eq!(world.claim(1).await.len(), 1);
    let read = rows_read(&world).await - before;
    assert!(read < 500, "{read} rows of `ready` were read");
    let plan = world.store.explain_claim().await.unwrap().join("\n");
    assert!(plan.contains("ready_by_rank") && !plan.contains("Seq Scan"), "{plan}");
}

#[tokio::test]
async fn every_line_has_its_turn_however_many_there_are() {
    let world = World::new().await;
    fill_ready(&world, 140).await;
    one_line_each(&world).await;
    let mut claimed = Vec::new();
    let mut claim = async || {
        let run = world.run_with_new_agent().await;
        world.finish(run.key, core_types::outcome::RunOutcome::LimitReached).await;
        claimed.push(run.task);
        run.task
    };
    for _ in 0..3 {
        claim().await;
    }
    // Whoever names no provider is seen each time, wherever the last claim left off.
    let plain = world.plain().await;
    world.sql.batch_execute("UPDATE ready SET rank = 1 WHERE provider = ''").await.unwrap();
    assert_eq!(claim().await, plain);
    for _ in 4..141 {
        claim().await;
    }
    claimed.sort_unstable();
    claimed.dedup();
    assert_eq!(claimed.len(), 141);
}

/// Rows of `ready` that were read so far, by whatever way.
async fn rows_read(world: &World) -> i64 {
    // What a transaction did shows when its connection tells it, which it does within a second or so.
    let mut last = -1;
    loop {
        world
            .sql
            .batch_execute("SELECT pg_stat_force_next_flush(); SELECT pg_sleep(1.2)")
            .await
            .unwrap();
        let read = world
            .count(
                "SELECT (seq_tup_read + coalesce(idx_tup_fetch, 0))::bigint FROM pg_stat_user_tables
                 WHERE relname = 'ready'",
            )
            .await;
        if read == last {
            return read;
        }
        last = read;
    }
}

/// Puts many eligible tasks there by hand.
pub(crate) async fn fill_ready(world: &World, count: i32) {
    world
        .sql
        .execute(
            "INSERT INTO tasks (id, title, goal, role, priority, risk, repository, verification, executor,
                 max_attempts, created_by, rank, created_at, updated_at)
             SELECT gen_random_uuid(), 't', 'g', 'worker', 0, 'medium', '{\"mode\":\"local\",\"path\":\"/r\"}', '[]',
                 'claude_code', 3, 'test', (extract(epoch FROM now()) * 1000000)::bigint + n, now(), now()
             FROM generate_series(1, $1) AS n",
            &[&count],
        )
        .await
        .unwrap();
    world
        .sql
        .batch_execute(
            "INSERT INTO ready (task, role, executor, provider, rank)
             SELECT id, role, executor, provider, rank FROM tasks; ANALYZE",
        )
        .await
        .unwrap();
}
