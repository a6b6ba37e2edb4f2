use core_types::{
    auth::QuotaWindow,
    gate::{
        GateCause, GateState, GateWord,
        checked::{CheckEnd, CheckSign},
    },
    ids::TaskId,
    outcome::{RunOutcome, RunReport},
    provider::Provider,
    task::{BlockReason, ExecutionEnvironment, ExecutorKind, Role, TaskState},
    usage::{SpendLimits, Usage},
};
use jiff::Timestamp;
use store::{
    dispatch::claim::{ClaimRequest, Claimed},
    gates::{GateKey, StoredGate},
    tasks::{NewTask, waiting::Waiting},
};
use tokio::task::JoinSet;

use crate::world::{LEASE, World, claim, plain_task, task_in};

fn claude() -> GateKey {
    GateKey {
        environment: ExecutionEnvironment::Host,
        executor: ExecutorKind::ClaudeCode,
        provider: Provider::default(),
    }
}

fn opencode(provider: &str) -> GateKey {
    GateKey { executor: ExecutorKind::Opencode, provider: Provider::named(provider), ..claude() }
}

/// A task of opencode with this model.
fn task_of(model: Option<&str>) -> NewTask {
    let model = model.map(ToOwned::to_owned);
    NewTask { executor: ExecutorKind::Opencode, model, ..plain_task() }
}

async fn gate(world: &World) -> StoredGate {
    gate_of(world, &claude()).await.expect("every executor has a gate")
}

async fn gate_of(world: &World, key: &GateKey) -> Option<StoredGate> {
    world.store.gates().await.unwrap().into_iter().find(|stored| stored.key == *key)
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

async fn word(world: &World) -> GateWord {
    gate(world).await.gate.state.word()
}

/// Lets the time of the gate's next trial come.
async fn let_due(world: &World) {
    let sql = "UPDATE executor_gates SET retry_at = now() WHERE state = 'closed'";
    world.sql.batch_execute(sql).await.unwrap();
}

/// Lets every cooldown and quota wait be over.
async fn let_cool(world: &World) {
    let sql = "UPDATE tasks SET not_before = now() WHERE not_before IS NOT NULL";
    world.sql.batch_execute(sql).await.unwrap();
    world.store.release_cooled(500).await.unwrap();
}

async fn agents(world: &World, count: usize) {
    for _ in 0..count {
        world.agent(Role::Worker).await;
    }
}

async fn plain(world: &World, count: usize) -> Vec<TaskId> {
    let tasks: Vec<NewTask> = (0..count).map(|_| plain_task()).collect();
    let ids = tasks.iter().map(|task| task.id).collect();
    world.store.create_tasks(tasks).await.unwrap();
    ids
}

async fn end(world: &World, runs: &[Claimed], outcome: RunOutcome) {
    for run in runs {
        world.finish(run.key, outcome).await;
    }
}

fn check(sign: CheckSign) -> CheckEnd<'static> {
    CheckEnd {
        sign,
        began_at: Timestamp::now(),
        retry_at: None,
        message: Some("log in, please"),
        hint: Some("run `claude /login`"),
    }
}

#[tokio::test]
async fn a_check_closes_a_gate_before_any_run_does_and_another_one_opens_it() {
    let world = World::new().await;
    let tasks = plain(&world, 3).await;
    agents(&world, 2).await;
    world.store.tell_check(&claude(), &check(CheckSign::Refuses)).await.unwrap();
    assert!(world.claim(5).await.is_empty());
    let why = world
        .store
        .why_waiting(
            *tasks.first().unwrap(),
            &SpendLimits::default(),
            ExecutionEnvironment::Host,
            &Provider::default(),
        )
        .await
        .unwrap();
    let Some(Waiting::Gate { shut, until: Some(_), .. }) = why else { panic!("{why:?}") };
    assert_eq!((shut.cause, shut.message.as_deref()), (GateCause::Login, Some("log in, please")));
    // As a server that starts anew reads it.
    assert_eq!(word(&world).await, GateWord::Closed);
    let lets_in = CheckSign::LetsIn { within_limits: false };
    world.store.tell_check(&claude(), &check(lets_in)).await.unwrap();
    assert_eq!(word(&world).await, GateWord::Open);
    assert_eq!(world.claim(5).await.len(), 2);
    // One of which nothing was said has no row until something closes it.
    let openai = opencode("openai");
    world.store.tell_check(&openai, &check(lets_in)).await.unwrap();
    assert!(gate_of(&world, &openai).await.is_none());
    world.store.tell_check(&openai, &check(CheckSign::AtLimit)).await.unwrap();
    let closed = gate_of(&world, &openai).await.expect("it was made").gate;
    assert_eq!(closed.shut().map(|shut| shut.cause), Some(GateCause::Quota));
}

#[tokio::test]
async fn the_last_quota_that_was_told_is_kept() {
    let world = World::new().await;
    assert!(world.store.quotas().await.unwrap().is_empty());
    for used_percent in [12.5, 80.0] {
        let window = QuotaWindow { name: "five_hour".to_owned(), used_percent, resets_at: None };
        world.store.note_quota(&claude(), &[window]).await.unwrap();
    }
    let told = world.store.quotas().await.unwrap();
    let [one] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!(one.key, claude());
    assert!((one.windows[0].used_percent - 80.0).abs() < 0.01);
}

#[tokio::test]
async fn a_broken_login_burns_no_task_and_one_run_at_a_time_tries() {
    let world = World::new().await;
    let tasks = plain(&world, 20).await;
    agents(&world, 5).await;
    let first = world.claim(5).await;
    assert_eq!(first.len(), 5);
    end(&world, &first, RunOutcome::KeyRejected).await;
    let closed = gate(&world).await.gate;
    assert_eq!(closed.shut().map(|shut| (shut.cause, shut.closures)), Some((GateCause::Login, 1)));
    for _ in 0..6 {
        assert!(world.claim(5).await.is_empty());
        let_due(&world).await;
        let trial = world.claim(5).await;
        assert_eq!((trial.len(), word(&world).await), (1, GateWord::Trial));
        assert!(world.claim(5).await.is_empty(), "one tries at a time");
        end(&world, &trial, RunOutcome::LoginRequired).await;
        assert_eq!(word(&world).await, GateWord::Closed);
        world.assert_rules().await;
    }
    assert_eq!(gate(&world).await.gate.shut().map(|shut| shut.closures), Some(7));
    for task in &tasks {
        let task = world.read(*task).await;
        assert_eq!((task.state, task.attempts, task.not_before), (TaskState::Queued, 0, None));
    }

    let anew = world.store.try_gate(&claude()).await.unwrap().expect("it is there");
    assert_eq!(anew.gate.shut().map(|shut| shut.closures), Some(0));
    let trial = world.claim(5).await;
    assert_eq!(trial.len(), 1);
    end(&world, &trial, RunOutcome::Succeeded).await;
    assert_eq!(word(&world).await, GateWord::Open);
    let mut done = 1;
    while done < tasks.len() {
        let runs = world.claim(5).await;
        assert!(!runs.is_empty());
        end(&world, &runs, RunOutcome::Succeeded).await;
        done += runs.len();
    }
    for task in tasks {
        assert_eq!(world.read(task).await.attempts, 1);
    }
}

#[tokio::test]
async fn of_many_dispatchers_that_look_at_once_one_gets_the_trial() {
    let world = World::new().await;
    plain(&world, 20).await;
    agents(&world, 20).await;
    let first = world.claim(1).await;
    end(&world, &first, RunOutcome::LoginRequired).await;
    for round in 0..5 {
        let_due(&world).await;
        let mut claims = JoinSet::new();
        for _ in 0..4 {
            let store = world.another_store().await;
            claims.spawn(async move { claim(&store, 5).await });
        }
        let runs = claims.join_all().await.concat();
        assert_eq!(runs.len(), 1, "round {round}");
        end(&world, &runs, RunOutcome::LoginRequired).await;
        world.assert_rules().await;
    }
}

#[tokio::test]
async fn of_runs_that_end_at_once_the_gate_loses_none() {
    let world = World::new().await;
    plain(&world, 12).await;
    agents(&world, 12).await;
    for _ in 0..4 {
        // Two leave it open, the third closes it, in whatever order they come.
        for expected in [GateWord::Open, GateWord::Closed] {
            let count = if expected == GateWord::Open { 2 } else { 4 };
            let runs = world.claim(count).await;
            let reports =
                runs.iter().map(|run| (run.key, RunReport::new(RunOutcome::LaunchFailed)));
            let mut ends = JoinSet::new();
            for (key, report) in reports {
                let store = world.another_store().await;
                ends.spawn(async move { store.finish_run(key, &report).await.unwrap() });
            }
            ends.join_all().await;
            assert_eq!(word(&world).await, expected);
        }
        let counted = world.count("SELECT sum(attempts) FROM tasks").await;
        assert_eq!(counted, 3, "what failed after the gate had closed costs no attempt");
        let sql = "UPDATE executor_gates SET state = 'open', cause = NULL, retry_at = NULL, failures = 0, closures = 0;
            UPDATE tasks SET attempts = 0";
        world.sql.batch_execute(sql).await.unwrap();
        let_cool(&world).await;
        world.assert_rules().await;
    }
}

#[tokio::test]
async fn a_reached_limit_holds_its_executor_alone_and_ends_by_time() {
    let world = World::new().await;
    let mine = world.plain().await;
    agents(&world, 3).await;
    let run = world.run_one().await;
    let retry_at = Timestamp::from_second(Timestamp::now().as_second() + 7200).unwrap();
    let report =
        RunReport { retry_at: Some(retry_at), ..RunReport::new(RunOutcome::QuotaExceeded) };
    world.store.finish_run(run.key, &report).await.unwrap();
    let quota = TaskState::Blocked { reason: BlockReason::QuotaWait };
    assert_eq!(world.read(mine).await.state, quota);
    assert_eq!(gate(&world).await.gate.next_trial(), Some(retry_at));

    let waits = world.plain().await;
    let other = world.task(NewTask { executor: ExecutorKind::Opencode, ..plain_task() }).await;
    assert_eq!(world.run_one().await.task, other);
    assert!(world.claim(5).await.is_empty());
    let why = world
        .store
        .why_waiting(
            waits,
            &SpendLimits::default(),
            ExecutionEnvironment::Host,
            &Provider::default(),
        )
        .await
        .unwrap();
    let Some(Waiting::Gate { executor, shut, until, .. }) = why else { panic!("{why:?}") };
    assert_eq!(
        (executor, shut.cause, until),
        (ExecutorKind::ClaudeCode, GateCause::Quota, Some(retry_at))
    );

    let_due(&world).await;
    let_cool(&world).await;
    let trial = world.run_one().await;
    assert!(world.claim(5).await.is_empty());
    world.finish(trial.key, RunOutcome::VerificationFailed).await;
    assert_eq!(world.claim(5).await.len(), 1);
    world.assert_rules().await;
}

#[tokio::test]
async fn a_gate_is_as_it_was_for_a_dispatcher_that_starts_anew() {
    let world = World::new().await;
    world.plain().await;
    world.agent(Role::Worker).await;
    let run = world.run_one().await;
    let report = RunReport {
        hint: Some("log in".to_owned()),
        ..RunReport::new(RunOutcome::LoginRequired).with_message("no login\0")
    };
    world.store.finish_run(run.key, &report).await.unwrap();
    let before = gate(&world).await.gate;
    let again = world.another_store().await;
    let gates = again.gates().await.unwrap();
    let after = gates.into_iter().find(|stored| stored.key == claude()).unwrap();
    assert_eq!(after.gate, before);
    let shut = before.shut().unwrap();
    assert_eq!(shut.message.as_deref(), Some("no login\u{fffd}"));
    assert_eq!(shut.hint.as_deref(), Some("log in"));
    assert!(claim(&again, 5).await.is_empty());
}

#[tokio::test]
async fn a_trial_opens_the_gate_by_living_and_a_dead_one_does_not() {
    let world = World::new().await;
    plain(&world, 3).await;
    agents(&world, 3).await;
    let run = world.run_one().await;
    world.finish(run.key, RunOutcome::LoginRequired).await;
    let_due(&world).await;
    let dead = world.run_one().await;
    world.finish(dead.key, RunOutcome::WorkerLost).await;
    assert!(matches!(gate(&world).await.gate.state, GateState::Closed { .. }));
    let_due(&world).await;
    let lives = world.run_one().await;
    world.store.settle_trial(&claude()).await.unwrap();
    assert_eq!(word(&world).await, GateWord::Trial);
    let sql =
        "UPDATE executor_gates SET trial_since = now() - interval '61 s' WHERE state = 'trial'";
    world.sql.batch_execute(sql).await.unwrap();
    world.store.settle_trial(&claude()).await.unwrap();
    assert_eq!(word(&world).await, GateWord::Trial, "the model has not answered yet");
    let answered = "UPDATE runs SET output_tokens = 1 WHERE status <> 'ended'";
    world.sql.batch_execute(answered).await.unwrap();
    world.store.settle_trial(&claude()).await.unwrap();
    assert_eq!(word(&world).await, GateWord::Open);
    assert_eq!(world.claim(5).await.len(), 2);
    world.finish(lives.key, RunOutcome::Succeeded).await;
}

#[tokio::test]
async fn a_run_that_answered_proves_that_the_provider_works_however_it_ended() {
    let world = World::new().await;
    plain(&world, 2).await;
    agents(&world, 2).await;
    let run = world.run_one().await;
    world.finish(run.key, RunOutcome::LoginRequired).await;
    let_due(&world).await;
    let trial = world.run_one().await;
    let usage = Usage { output_tokens: 7, ..Usage::default() };
    let report = RunReport { usage, ..RunReport::new(RunOutcome::AgentFailed) };
    world.store.finish_run(trial.key, &report).await.unwrap();
    assert_eq!(word(&world).await, GateWord::Open);
}

#[tokio::test]
async fn a_task_that_cannot_be_started_steps_back_behind_the_next_trial() {
    let world = World::new().await;
    plain(&world, 4).await;
    agents(&world, 4).await;
    let runs = world.claim(3).await;
    end(&world, &runs, RunOutcome::LaunchFailed).await;
    let_due(&world).await;
    let trial = world.run_one().await;
    world.finish(trial.key, RunOutcome::LaunchFailed).await;
    let task = world.read(trial.task).await;
    assert_eq!(task.attempts, 0);
    let next = gate(&world).await.gate.next_trial().expect("it closed again");
    assert!(task.not_before.expect("it steps back") > next, "{task:?}");
}

#[tokio::test]
async fn an_area_goes_on_with_the_executor_that_works() {
    let world = World::new().await;
    let broken = world.task(task_in("a")).await;
    agents(&world, 3).await;
    let run = world.run_one().await;
    world.finish(run.key, RunOutcome::LoginRequired).await;
    let opencode = |area| NewTask { executor: ExecutorKind::Opencode, ..task_in(area) };
    let other = world.task(opencode("a")).await;
    let next = world.task(opencode("a")).await;
    world.assert_rules().await;
    let run = world.run_one().await;
    assert_eq!(run.task, other);
    assert_eq!(world.count("SELECT count(*) FROM ready").await, 0);
    let why = world
        .store
        .why_waiting(
            broken,
            &SpendLimits::default(),
            ExecutionEnvironment::Host,
            &Provider::default(),
        )
        .await
        .unwrap();
    assert_eq!(why, Some(Waiting::Area { area: "a".to_owned(), held_by: other }));
    world.finish(run.key, RunOutcome::Succeeded).await;
    world.assert_rules().await;
    let why = world
        .store
        .why_waiting(
            next,
            &SpendLimits::default(),
            ExecutionEnvironment::Host,
            &Provider::default(),
        )
        .await
        .unwrap();
    assert!(!matches!(why, Some(Waiting::Gate { .. } | Waiting::Area { .. })), "{why:?}");
    let why = world
        .store
        .why_waiting(
            broken,
            &SpendLimits::default(),
            ExecutionEnvironment::Host,
            &Provider::default(),
        )
        .await
        .unwrap();
    assert!(matches!(why, Some(Waiting::Gate { .. })), "{why:?}");
    // Both may be taken now, and still one of an area at a time, the best one first.
    world.store.try_gate(&claude()).await.unwrap();
    let runs = world.claim(5).await;
    assert_eq!(runs.iter().map(|run| run.task).collect::<Vec<_>>(), [broken]);
    world.assert_rules().await;
}

#[tokio::test]
async fn tasks_that_were_blocked_for_their_login_go_back_to_the_queue() {
    let world = World::new().await;
    let task = world.plain().await;
    let sql =
        "UPDATE tasks SET status = 'blocked', block_reason = 'login_required', not_before = now();
        DELETE FROM ready";
    world.sql.batch_execute(sql).await.unwrap();
    assert_eq!(world.store.release_cooled(10).await.unwrap(), 1);
    assert_eq!(world.run_with_new_agent().await.task, task);
    world.assert_rules().await;
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
    let why = world
        .store
        .why_waiting(
            broken,
            &SpendLimits::default(),
            ExecutionEnvironment::Host,
            &Provider::default(),
        )
        .await;
    let Some(Waiting::Gate { provider, .. }) = why.unwrap() else { panic!("it waits") };
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
    let why = |provider: &'static str| {
        let provider = Provider::named(provider);
        let store = world.store.clone();
        async move {
            store
                .why_waiting(waits, &SpendLimits::default(), ExecutionEnvironment::Host, &provider)
                .await
                .unwrap()
        }
    };
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
    let unused = std::time::Duration::ZERO;
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
    let long = std::time::Duration::from_secs(3600);
    assert_eq!(world.store.forget_unused_gates(long).await.unwrap(), 0);
    assert_eq!(world.store.forget_unused_gates(unused).await.unwrap(), 2);
    assert_eq!(named().await, Vec::<String>::new());
    // Those that every database has stay.
    assert!(!world.store.gates().await.unwrap().is_empty());
}
