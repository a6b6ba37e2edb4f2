//! The system in numbers: true, of one moment, and never less than before because something old was removed.

use std::time::Duration;

use core_types::{
    outcome::RunOutcome,
    provider::Provider,
    task::{ExecutionEnvironment, ExecutorKind, Role},
};
use store::{
    cleanup::CleanupScope,
    measures::{Measure, Measures, Settled, Stretch},
};

use crate::world::{World, task_after, task_in};

async fn measures(world: &World) -> Measures {
    measures_after(world, &mut Settled::default()).await
}

async fn measures_after(world: &World, settled: &mut Settled) -> Measures {
    let provider = Provider::of(ExecutorKind::Opencode, None);
    world.store.measures(ExecutionEnvironment::Host, &provider, settled).await.unwrap()
}

fn value(measures: &Measures, measure: Measure, labels: &[&str]) -> f64 {
    let found: Vec<f64> = measures
        .counts
        .iter()
        .filter(|counted| counted.measure == measure && counted.labels == labels)
        .map(|counted| counted.value)
        .collect();
    assert!(found.len() <= 1, "{measure} {labels:?} is there twice: {found:?}");
    found.first().copied().unwrap_or(0.0)
}

#[tokio::test]
async fn tasks_are_counted_by_what_they_wait_for() {
    let world = World::new().await;
    let running = world.task(task_in("billing")).await;
    world.run_with_new_agent().await;
    world.task(task_in("billing")).await;
    world.task(task_after(&[running])).await;
    world.plain().await;
    let cooling = world.plain().await;
    let sql = "UPDATE tasks SET not_before = now() + interval '1 hour' WHERE id = $1";
    world.sql.execute(sql, &[&cooling.as_uuid()]).await.unwrap();
    world.sql.execute("DELETE FROM ready WHERE task = $1", &[&cooling.as_uuid()]).await.unwrap();

    let seen = measures(&world).await;
    for (reason, count) in
        [("area", 1.0), ("dependency", 1.0), ("cooldown", 1.0), ("turn", 1.0), ("gate", 0.0)]
    {
        assert_eq!(value(&seen, Measure::Queued, &[reason]), count, "{reason}");
    }
    assert_eq!(value(&seen, Measure::Tasks, &["worker", "queued"]), 4.0);
    assert_eq!(value(&seen, Measure::Tasks, &["worker", "running"]), 1.0);
    assert_eq!(value(&seen, Measure::LiveRuns, &["host", "running"]), 1.0);
    assert_eq!(value(&seen, Measure::Agents, &["worker", "busy"]), 1.0);
    assert!(value(&seen, Measure::OldestQueued, &[]) >= 0.0);
    assert!(value(&seen, Measure::DatabaseBytes, &[]) > 1e6);

    world
        .sql
        .batch_execute(
            "UPDATE executor_gates SET state = 'closed', cause = 'login', closed_at = now(),
             retry_at = now() + interval '1 hour' WHERE environment = 'host' AND executor = 'claude_code'",
        )
        .await
        .unwrap();
    let seen = measures(&world).await;
    assert_eq!(value(&seen, Measure::Queued, &["gate"]), 1.0);
    assert_eq!(value(&seen, Measure::Queued, &["turn"]), 0.0);
    assert_eq!(value(&seen, Measure::GateOpen, &["host", "claude_code", ""]), 0.0);
}

#[tokio::test]
async fn numbers_of_runs_stay_when_the_runs_are_removed() {
    let world = World::new().await;
    world.agent(Role::Worker).await;
    for outcome in [RunOutcome::Succeeded, RunOutcome::Succeeded, RunOutcome::CheckoutFailed] {
        world.plain().await;
        let run = world.run_one().await;
        world.finish(run.key, outcome).await;
    }
    let before = measures(&world).await;
    let ended = |seen: &Measures, outcome| {
        value(seen, Measure::EndedRuns, &["host", "claude_code", "worker", outcome])
    };
    assert_eq!(ended(&before, "succeeded"), 2.0);
    assert_eq!(ended(&before, "checkout_failed"), 1.0);
    for stretch in Stretch::ALL {
        let timing = before.timings.iter().find(|timing| timing.stretch == *stretch).unwrap();
        assert_eq!(timing.buckets.iter().map(|(_, runs)| runs).sum::<u64>(), 3, "{stretch}");
        assert_eq!(timing.buckets.len(), 16);
        assert!(timing.seconds >= 0.0);
    }

    let scope = CleanupScope { tasks: true, ..CleanupScope::default() };
    let now = world.store.days_ago(0).await.unwrap();
    let cleaned = world.store.clean_up(scope, now, Duration::from_secs(60)).await.unwrap();
    assert!(cleaned.counts.runs >= 2, "{cleaned:?}");
    let after = measures(&world).await;
    for outcome in ["succeeded", "checkout_failed"] {
        assert_eq!(ended(&after, outcome), ended(&before, outcome), "{outcome}");
    }
    let shape = |seen: &Measures| {
        let of = |t: &store::measures::Timing| (t.stretch, t.executor.clone(), t.buckets.clone());
        seen.timings.iter().map(of).collect::<Vec<_>>()
    };
    assert_eq!(shape(&after), shape(&before));
}

#[tokio::test]
async fn what_is_settled_is_not_read_again_and_nothing_is_counted_twice() {
    let world = World::new().await;
    let mut settled = Settled::default();
    world.agent(Role::Worker).await;
    let end = async || {
        world.plain().await;
        let run = world.run_one().await;
        world.finish(run.key, RunOutcome::Succeeded).await;
    };
    let older = async |minutes: i32| {
        let sql = "UPDATE runs SET ended_at = ended_at - make_interval(mins => $1)";
        world.sql.execute(sql, &[&minutes]).await.unwrap();
    };
    let labels = ["host", "claude_code", "worker", "succeeded"];
    end().await;
    older(10).await;
    assert_eq!(
        value(&measures_after(&world, &mut settled).await, Measure::EndedRuns, &labels),
        1.0
    );
    // What is settled is not looked at any more.
    let other = "UPDATE runs SET outcome = 'agent_failed'";
    world.sql.batch_execute(other).await.unwrap();
    for count in [2.0, 3.0] {
        end().await;
        let told = measures_after(&world, &mut settled).await;
        assert_eq!(value(&told, Measure::EndedRuns, &labels), count);
    }
    assert_eq!(value(&measures(&world).await, Measure::EndedRuns, &labels), 2.0);
    world.sql.batch_execute("UPDATE runs SET outcome = 'succeeded'").await.unwrap();
    let scope = CleanupScope { tasks: true, ..CleanupScope::default() };
    let now = world.store.days_ago(0).await.unwrap();
    world.store.clean_up(scope, now, Duration::from_secs(60)).await.unwrap();
    let told = measures_after(&world, &mut settled).await;
    assert_eq!(value(&told, Measure::EndedRuns, &labels), 3.0);
}
