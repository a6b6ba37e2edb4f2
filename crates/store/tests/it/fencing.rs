use core_types::{
    event::{NumberedEvent, RunEvent},
    ids::{AgentId, LeaseNumber, RunKey},
    outcome::{RunOutcome, RunReport},
    task::{Role, RunStatus, TaskState},
    usage::Usage,
};
use jiff::Timestamp;
use store::error::FencedError;

use crate::world::{LEASE, World};

fn note(seq: i64) -> NumberedEvent {
    let event = RunEvent::Notice { text: format!("event {seq} with a nul \0") };
    // The database keeps microseconds.
    let at = Timestamp::from_microsecond(Timestamp::now().as_microsecond()).unwrap();
    NumberedEvent { seq, at, event }
}

pub(crate) fn assert_fenced<T: std::fmt::Debug>(
    result: Result<T, FencedError>,
    by: Option<LeaseNumber>,
) {
    match result {
        Err(FencedError::Fenced { held_by }) => assert_eq!(held_by, by),
        other => panic!("fenced expected: {other:?}"),
    }
}

/// Every write there is, with a key under which the task is not held.
pub(crate) async fn assert_all_refused(
    world: &World,
    key: RunKey,
    agent: AgentId,
    by: Option<LeaseNumber>,
) {
    let report = RunReport::new(RunOutcome::Succeeded);
    assert_fenced(world.store.start_run(key, agent).await, by);
    assert_fenced(world.store.append_events(key, &[note(900)]).await, by);
    assert_fenced(world.store.record_base_commit(key, "c0ffee").await, by);
    assert_fenced(world.store.report_run(key, &report).await, by);
    assert_fenced(world.store.finish_run(key, &report).await, by);
    let renewed = world.store.renew_leases(&[key], LEASE).await.unwrap();
    assert!(renewed.iter().all(|one| one.key == key && !one.valid));
}

#[tokio::test]
async fn a_stale_worker_changes_nothing_and_learns_who_holds_the_task() {
    let world = World::new().await;
    let task = world.plain().await;
    let stale = world.run_with_new_agent().await;
    world.finish(stale.key, RunOutcome::WorkerLost).await;
    let held = world.run_with_new_agent().await;
    assert_eq!(held.task, task);
    let before = (world.read(task).await, world.store.run(held.key.run).await.unwrap());

    assert_all_refused(&world, stale.key, stale.agent, Some(held.key.lease)).await;
    let wrong_number = RunKey { run: held.key.run, lease: stale.key.lease };
    assert_all_refused(&world, wrong_number, held.agent, Some(held.key.lease)).await;
    let from_the_future = RunKey { run: held.key.run, lease: LeaseNumber(99) };
    assert_all_refused(&world, from_the_future, held.agent, Some(held.key.lease)).await;

    assert_eq!((world.read(task).await, world.store.run(held.key.run).await.unwrap()), before);
    assert!(world.store.events(held.key.run, 0, 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_run_that_never_was_is_refused() {
    let world = World::new().await;
    let key = RunKey { run: core_types::ids::RunId::generate(), lease: LeaseNumber(1) };
    assert_all_refused(&world, key, AgentId::generate(), None).await;
}

#[tokio::test]
async fn only_the_agent_it_was_handed_to_starts_a_run_and_may_ask_twice() {
    let world = World::new().await;
    world.plain().await;
    world.agent(Role::Worker).await;
    let [claimed] = world.claim(1).await.try_into().unwrap();
    let other = world.agent(Role::Worker).await;
    assert_fenced(world.store.start_run(claimed.key, other).await, Some(claimed.key.lease));
    let started = world.store.start_run(claimed.key, claimed.agent).await.unwrap();
    assert_eq!(started.run.status, RunStatus::Running);
    assert_eq!(started.task.state, TaskState::Running);
    let again = world.store.start_run(claimed.key, claimed.agent).await.unwrap();
    assert_eq!(again, started);
}

#[tokio::test]
async fn events_are_kept_once_in_order_and_read_in_pages() {
    let world = World::new().await;
    world.plain().await;
    let run = world.run_with_new_agent().await;
    let events: Vec<NumberedEvent> = (1..=25).map(note).collect();
    world.store.append_events(run.key, &events[..20]).await.unwrap();
    let changed =
        NumberedEvent { event: RunEvent::Notice { text: "other".to_owned() }, ..note(15) };
    world.store.append_events(run.key, &[changed]).await.unwrap();
    world.store.append_events(run.key, &events[10..]).await.unwrap();
    world.store.append_events(run.key, &[]).await.unwrap();
    let mut read = Vec::new();
    loop {
        let after = read.last().map_or(0, |event: &NumberedEvent| event.seq);
        let page = world.store.events(run.key.run, after, 10).await.unwrap();
        if page.is_empty() {
            break;
        }
        read.extend(page);
    }
    assert_eq!(read, events);
}

#[tokio::test]
async fn a_report_makes_a_run_collecting_and_not_over() {
    let world = World::new().await;
    let task = world.plain().await;
    let run = world.run_with_new_agent().await;
    world.store.record_base_commit(run.key, "c0ffee").await.unwrap();
    let report = RunReport {
        message: Some("all \0 well".to_owned()),
        hint: Some("none".to_owned()),
        usage: Usage {
            input_tokens: 1,
            output_tokens: 2,
            cost_microusd: 3,
            turns: 4,
            ..Usage::default()
        },
        session: Some("s".to_owned()),
        commit: Some("abc".to_owned()),
        branch: Some("opentiger/x".to_owned()),
        ..RunReport::new(RunOutcome::Succeeded)
    };
    world.store.report_run(run.key, &report).await.unwrap();
    world.store.report_run(run.key, &report).await.unwrap();
    let stored = world.store.run(run.key.run).await.unwrap().unwrap();
    assert_eq!((stored.status, stored.ended_at), (RunStatus::Collecting, None));
    let cleaned = RunReport { message: Some("all \u{fffd} well".to_owned()), ..report.clone() };
    assert_eq!(stored.report, Some(cleaned));
    assert_eq!(stored.base_commit.as_deref(), Some("c0ffee"));
    assert_eq!(world.read(task).await.state, TaskState::Running);
    assert!(world.store.renew_leases(&[run.key], LEASE).await.unwrap()[0].valid);

    world.store.finish_run(run.key, &report).await.unwrap();
    let task = world.read(task).await;
    assert_eq!((task.state, task.commit.as_deref()), (TaskState::Done, Some("abc")));
    assert_eq!(task.branch.as_deref(), Some("opentiger/x"));
}

#[tokio::test]
async fn one_call_renews_what_is_held_and_names_what_is_not() {
    let world = World::new().await;
    world.plain().await;
    world.plain().await;
    let gone = world.run_with_new_agent().await;
    let held = world.run_with_new_agent().await;
    world.finish(gone.key, RunOutcome::Succeeded).await;
    world.sql.batch_execute("UPDATE leases SET expires_at = now() - interval '5 s'").await.unwrap();
    let renewed = world.store.renew_leases(&[gone.key, held.key], LEASE).await.unwrap();
    let valid: Vec<_> = renewed.iter().map(|one| (one.key, one.valid)).collect();
    assert_eq!(valid, [(gone.key, false), (held.key, true)]);
    assert!(world.store.expired_leases(10).await.unwrap().is_empty());
}
