//! Gates of executors: what closes them, who tries, and what waits meanwhile.

mod providers;

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
    usage::Usage,
};
use jiff::Timestamp;
use store::{
    dispatch::claim::Claimed,
    gates::{GateKey, StoredGate},
    tasks::{NewTask, waiting::Waiting},
};
use tokio::task::JoinSet;

use crate::world::{World, claim, plain_task, task_in};

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

async fn gate(world: &World) -> StoredGate {
    gate_of(world, &claude()).await.expect("every executor has a gate")
}

async fn gate_of(world: &World, key: &GateKey) -> Option<StoredGate> {
    world.store.gates().await.unwrap().into_iter().find(|stored| stored.key == *key)
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
    let why = world.why(*tasks.first().unwrap()).await;
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
    let why = world.why(waits).await;
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
    let why = world.why(broken).await;
    assert_eq!(why, Some(Waiting::Area { area: "a".to_owned(), held_by: other }));
    world.finish(run.key, RunOutcome::Succeeded).await;
    world.assert_rules().await;
    let why = world.why(next).await;
    assert!(!matches!(why, Some(Waiting::Gate { .. } | Waiting::Area { .. })), "{why:?}");
    let why = world.why(broken).await;
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
