use core_types::{
    ids::RunKey,
    outcome::{FollowUp, RunOutcome, RunReport},
    provider::Provider,
    task::{ExecutionEnvironment, ExecutorKind, Role, TaskState},
    usage::{SpendLimits, Usage},
};
use jiff::{Timestamp, ToSpan as _};
use store::{
    dispatch::claim::{ClaimRequest, Claimed},
    error::FencedError,
    recovery::Revocation,
    tasks::{NewTask, waiting::Waiting},
};

use crate::world::{LEASE, World, plain_task};

fn tokens(output: u64) -> Usage {
    Usage { output_tokens: output, turns: 1, ..Usage::default() }
}

fn money(microusd: u64) -> Usage {
    Usage { cost_microusd: microusd, ..Usage::default() }
}

async fn claim_under(world: &World, spend: SpendLimits) -> Vec<Claimed> {
    let request = ClaimRequest {
        limit: 20,
        lease: LEASE,
        max_running: 100,
        spend,
        default_provider: core_types::provider::Provider::default(),
    };
    world.store.claim_host_runs(request).await.unwrap()
}

async fn finish_with(world: &World, key: RunKey, usage: Usage) {
    let report = RunReport { usage, ..RunReport::new(RunOutcome::AgentFailed) };
    world.store.finish_run(key, &report).await.unwrap();
}

#[tokio::test]
async fn what_a_run_used_is_counted_once_however_often_it_tells() {
    let world = World::new().await;
    let task = world.plain().await;
    let run = world.run_with_new_agent().await;
    for so_far in [0, 10, 10, 25] {
        world.store.record_usage(run.key, &tokens(so_far)).await.unwrap();
    }
    assert_eq!(world.store.day_spend().await.unwrap().tokens, 25);
    finish_with(&world, run.key, Usage { input_tokens: 5, ..tokens(40) }).await;
    assert_eq!(world.store.day_spend().await.unwrap().tokens, 45);
    let told = world.store.record_usage(run.key, &tokens(1000)).await;
    assert!(matches!(told, Err(FencedError::Fenced { .. })), "{told:?}");
    assert_eq!(world.store.day_spend().await.unwrap().tokens, 45);
    let days = world.store.spend_of_days(30).await.unwrap();
    let [day] = days.as_slice() else { panic!("{days:?}") };
    assert_eq!(
        (day.executor, day.usage),
        (ExecutorKind::ClaudeCode, Usage { input_tokens: 5, ..tokens(40) })
    );

    world.sql.batch_execute("UPDATE tasks SET not_before = now()").await.unwrap();
    world.store.release_cooled(10).await.unwrap();
    let again = world.run_with_new_agent().await;
    assert_eq!(again.task, task);
    let standing = world.store.record_usage(again.key, &tokens(1)).await.unwrap();
    assert_eq!((standing.task_before.total_tokens(), standing.day.tokens), (45, 46));
}

#[tokio::test]
async fn what_a_dead_worker_told_last_is_not_forgotten() {
    let world = World::new().await;
    world.plain().await;
    let run = world.run_with_new_agent().await;
    world.store.record_usage(run.key, &tokens(70)).await.unwrap();
    assert!(world.store.revoke(run.key, Revocation::WorkerDead).await.unwrap());
    world.store.finish_revoked(run.key, &RunReport::new(RunOutcome::WorkerLost)).await.unwrap();
    let stored = world.store.run(run.key.run).await.unwrap().unwrap();
    assert_eq!(stored.report.unwrap().usage, tokens(70));
    assert_eq!(world.store.day_spend().await.unwrap().tokens, 70);
}

#[tokio::test]
async fn a_spent_day_hands_nothing_out_until_the_next_and_says_so() {
    let world = World::new().await;
    let waits = world.plain().await;
    world.plain().await;
    world.agent(Role::Worker).await;
    let limits = SpendLimits { day_tokens: Some(100), ..SpendLimits::default() };
    let runs = claim_under(&world, limits).await;
    let [run] = runs.as_slice() else { panic!("{runs:?}") };
    assert_eq!(run.task, waits);
    finish_with(&world, run.key, tokens(100)).await;
    assert!(claim_under(&world, limits).await.is_empty());
    let other = world.plain().await;
    let why = world
        .store
        .why_waiting(other, &limits, ExecutionEnvironment::Host, &Provider::default())
        .await
        .unwrap();
    let Some(Waiting::SpendCap(spent)) = why else { panic!("{why:?}") };
    assert!(spent.message.contains("100 tokens"), "{}", spent.message);
    let until = spent.until.duration_since(Timestamp::now()).as_secs();
    assert!((0..=24 * 3600).contains(&until), "{until}");
    world.sql.batch_execute("UPDATE spend SET day = day - 1").await.unwrap();
    assert_eq!(claim_under(&world, limits).await.len(), 1);
}

#[tokio::test]
async fn parallel_runs_never_have_more_money_between_them_than_the_day() {
    let world = World::new().await;
    let limits = SpendLimits { day_cost_microusd: Some(1_000_000), ..SpendLimits::default() };
    for _ in 0..10 {
        world.plain().await;
        world.agent(Role::Worker).await;
    }
    let runs = claim_under(&world, limits).await;
    let mut reserved = Vec::new();
    for run in &runs {
        world.store.start_run(run.key, run.agent).await.unwrap();
        let standing = world.store.record_usage(run.key, &Usage::default()).await.unwrap();
        reserved.push(standing.reserved_microusd);
    }
    assert_eq!(reserved, [250_000; 4]);
    let spent = world.store.day_spend().await.unwrap().exhausted(&limits);
    assert!(spent.expect("all is set aside").message.contains("set aside"));
    // Each uses all it may: the day's limit is met and not exceeded.
    for run in &runs {
        finish_with(&world, run.key, money(250_000)).await;
        assert!(claim_under(&world, limits).await.is_empty());
    }
    assert_eq!(world.store.day_spend().await.unwrap().cost_microusd, 1_000_000);
    // What is not used goes to the next.
    world.sql.batch_execute("UPDATE spend SET cost_microusd = 600000").await.unwrap();
    let runs = claim_under(&world, limits).await;
    assert_eq!(runs.len(), 2);
    finish_with(&world, runs[0].key, money(10_000)).await;
    assert_eq!(claim_under(&world, limits).await.len(), 1);
}

#[tokio::test]
async fn a_run_of_a_task_with_its_own_limit_sets_aside_what_that_leaves() {
    let world = World::new().await;
    let limits = SpendLimits {
        day_cost_microusd: Some(1_000_000),
        task_cost_microusd: Some(50_000),
        ..SpendLimits::default()
    };
    let own = NewTask { cost_limit_microusd: Some(80_000), ..plain_task() };
    let own = world.task(own).await;
    world.agent(Role::Worker).await;
    for (used, expected) in [(30_000, 80_000), (0, 50_000)] {
        let run = claim_under(&world, limits).await[0];
        assert_eq!(run.task, own);
        let standing = world.store.record_usage(run.key, &money(used)).await.unwrap();
        assert_eq!(standing.reserved_microusd, expected);
        world.finish(run.key, RunOutcome::WorkerLost).await;
    }
    world.plain().await;
    let run = claim_under(&world, limits).await[0];
    let standing = world.store.record_usage(run.key, &Usage::default()).await.unwrap();
    assert_eq!(standing.reserved_microusd, 50_000);
}

#[tokio::test]
async fn a_run_that_met_the_days_limit_waits_for_the_next_day_and_costs_no_attempt() {
    let world = World::new().await;
    let task = world.plain().await;
    let run = world.run_with_new_agent().await;
    let until = Timestamp::now() + 3.hours();
    let report = RunReport { retry_at: Some(until), ..RunReport::new(RunOutcome::LimitReached) };
    let finished = world.store.finish_run(run.key, &report).await.unwrap();
    assert!(matches!(finished.follow_up, FollowUp::Retry { counts: false, .. }), "{finished:?}");
    let task = world.read(task).await;
    assert_eq!((task.state, task.attempts), (TaskState::Queued, 0));
    let off = task.not_before.unwrap().duration_since(until).as_secs().abs();
    assert!(off <= 5, "{off}");
}
