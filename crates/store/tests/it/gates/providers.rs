//! Gates of opencode: one for each provider.

use std::time::Duration;

use core_types::{
    gate::GateWord,
    ids::TaskId,
    outcome::{RunOutcome, RunReport},
    provider::Provider,
    task::ExecutorKind,
    usage::SpendLimits,
};
use store::{
    dispatch::claim::{ClaimRequest, Claimed},
    tasks::{NewTask, waiting::Waiting},
};
use tokio::task::JoinSet;

use super::{agents, end, gate_of, let_cool, let_due, opencode};
use crate::world::{LEASE, World, claim, plain_task};

/// A task of opencode with this model.
fn task_of(model: Option<&str>) -> NewTask {
    let model = model.map(ToOwned::to_owned);
    NewTask { executor: ExecutorKind::Opencode, model, ..plain_task() }
}

/// Claims where a task of opencode that names no model asks this provider's.
async fn claim_with_default(world: &World, provider: &str) -> Vec<Claimed> {
    let request = ClaimRequest {
        limit: 5,
        lease: LEASE,
        max_running: 100,
        spend: SpendLimits::default(),
        default_provider: Provider::named(provider),
    };
    world.store.claim_host_runs(request).await.unwrap()
}

#[tokio::test]
async fn a_provider_without_a_login_holds_up_its_own_tasks_alone() {
    let world = World::new().await;
    agents(&world, 6).await;
    let broken = world.task(task_of(Some("openai/gpt-5"))).await;
    let run = world.run_one().await;
    world.finish(run.key, RunOutcome::LoginRequired).await;
    let stored = gate_of(&world, &opencode("openai")).await.expect("it was made when it closed");
    assert_eq!(stored.gate.state.word(), GateWord::Closed);
    assert_eq!(gate_of(&world, &opencode("")).await.unwrap().gate.state.word(), GateWord::Open);
    let told =
        "SELECT count(*) FROM notices WHERE event = 'paused' AND subject = 'host/opencode/openai'";
    assert_eq!(world.count(told).await, 1);

    // It is the best of all and stays behind, trial after trial.
    let others = [Some("anthropic/claude-sonnet-4-5"), Some("a/b"), None];
    for round in 0..3 {
        let mut expected = Vec::new();
        for model in others {
            expected.push(world.task(task_of(model)).await);
        }
        let runs = world.claim(5).await;
        let mut taken: Vec<TaskId> = runs.iter().map(|run| run.task).collect();
        taken.sort_unstable();
        expected.sort_unstable();
        assert_eq!(taken, expected, "round {round}");
        let_due(&world).await;
        let trial = world.run_one().await;
        assert_eq!(trial.task, broken);
        end(&world, &runs, RunOutcome::Succeeded).await;
        world.finish(trial.key, RunOutcome::LoginRequired).await;
        world.assert_rules().await;
    }
    let closed = gate_of(&world, &opencode("openai")).await.unwrap();
    assert_eq!(closed.gate.shut().map(|shut| shut.closures), Some(4));
    let why = world.why(broken).await;
    let Some(Waiting::Gate { provider, .. }) = why else { panic!("it waits") };
    assert_eq!(provider, Provider::named("openai"));
}

#[tokio::test]
async fn a_task_that_names_no_model_waits_at_the_gate_of_the_one_from_the_settings() {
    let world = World::new().await;
    agents(&world, 6).await;
    world.task(task_of(None)).await;
    let runs = claim_with_default(&world, "openai").await;
    end(&world, &runs, RunOutcome::KeyRejected).await;
    let closed = gate_of(&world, &opencode("openai")).await.expect("its end was told there");
    assert_eq!(closed.gate.state.word(), GateWord::Closed);
    world.task(task_of(Some("openai/gpt-5"))).await;
    assert!(claim_with_default(&world, "openai").await.is_empty());
    let_due(&world).await;
    assert_eq!(claim_with_default(&world, "openai").await.len(), 1, "two lines, one trial");
    // Under another default it is not this provider's matter.
    world.task(task_of(None)).await;
    let other = claim_with_default(&world, "anthropic").await;
    assert_eq!(other.len(), 1);
    let waits = world.task(task_of(None)).await;
    let why = async |provider| world.why_with_default(waits, &Provider::named(provider)).await;
    assert!(matches!(why("openai").await, Some(Waiting::Gate { .. })));
    assert!(!matches!(why("anthropic").await, Some(Waiting::Gate { .. })));
}

#[tokio::test]
async fn an_area_goes_on_with_the_provider_that_works() {
    let world = World::new().await;
    agents(&world, 3).await;
    let in_area = |model| NewTask { target_area: Some("a".to_owned()), ..task_of(Some(model)) };
    let broken = world.task(in_area("openai/gpt-5")).await;
    let run = world.run_one().await;
    world.finish(run.key, RunOutcome::LoginRequired).await;
    let works = world.task(in_area("anthropic/claude-sonnet-4-5")).await;
    world.assert_rules().await;
    assert_eq!(world.count("SELECT count(*) FROM ready WHERE area = 'a'").await, 2);
    let run = world.run_one().await;
    assert_eq!(run.task, works);
    world.assert_rules().await;
    world.finish(run.key, RunOutcome::Succeeded).await;
    let_due(&world).await;
    assert_eq!(world.run_one().await.task, broken);
    world.assert_rules().await;
}

#[tokio::test]
async fn runs_that_end_at_once_make_one_gate_and_lose_none() {
    let world = World::new().await;
    agents(&world, 3).await;
    for _ in 0..3 {
        world.task(task_of(Some("openai/gpt-5"))).await;
    }
    let runs = world.claim(3).await;
    let mut ends = JoinSet::new();
    for run in runs {
        let store = world.another_store().await;
        let report = RunReport::new(RunOutcome::LaunchFailed);
        ends.spawn(async move { store.finish_run(run.key, &report).await.unwrap() });
    }
    assert_eq!(ends.join_all().await.len(), 3);
    let closed = gate_of(&world, &opencode("openai")).await.expect("it was made");
    assert_eq!(closed.gate.state.word(), GateWord::Closed, "the third closes it");
}

#[tokio::test]
async fn gates_of_providers_that_nobody_names_any_more_are_forgotten() {
    let world = World::new().await;
    agents(&world, 2).await;
    let tasks = ["a/m", "b/m"].map(|model| task_of(Some(model)));
    world.store.create_tasks(tasks.into()).await.unwrap();
    let runs = claim(&world.store, 2).await;
    let unused = Duration::ZERO;
    let named = async || {
        let gates = world.store.gates().await.unwrap();
        let named = gates.into_iter().filter(|stored| stored.key.provider != Provider::default());
        named.map(|stored| stored.key.provider.as_str().to_owned()).collect::<Vec<_>>()
    };
    end(&world, &runs[..1], RunOutcome::LoginRequired).await;
    end(&world, &runs[1..], RunOutcome::ProviderOverloaded).await;
    let both = named().await;
    assert_eq!(both.len(), 2, "{both:?}");
    // One is closed and not due; the other's task waits for its next attempt.
    let_due(&world).await;
    let_cool(&world).await;
    assert_eq!(world.store.forget_unused_gates(unused).await.unwrap(), 0);
    for task in runs.iter().map(|run| run.task) {
        world.store.cancel_task(task, "enough").await.unwrap();
    }
    let long = Duration::from_secs(3600);
    assert_eq!(world.store.forget_unused_gates(long).await.unwrap(), 0);
    assert_eq!(world.store.forget_unused_gates(unused).await.unwrap(), 2);
    assert_eq!(named().await, Vec::<String>::new());
    // Those that every database has stay.
    assert!(!world.store.gates().await.unwrap().is_empty());
}
