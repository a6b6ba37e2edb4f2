use std::time::Duration;

use core_types::{
    event::{NumberedEvent, RunEvent},
    ids::{LeaseNumber, RunKey},
    outcome::{FollowUp, RunOutcome, RunReport},
    task::{BlockReason, Role, RunStatus, TaskState},
};
use jiff::Timestamp;
use store::{
    dispatch::claim::Claimed,
    recovery::Revocation::{self, LeaseExpired, NotAccepted, WorkerDead},
    tasks::NewTask,
};
use testing::wait::wait_for;
use tokio::task::JoinSet;

use crate::{
    fencing::{assert_all_refused, assert_fenced},
    world::{LEASE, World, connect, plain_task},
};

const NOT_ACCEPTED: Revocation = NotAccepted { within: Duration::from_secs(10) };
const EXPIRE: &str = "UPDATE leases SET expires_at = now() - interval '1 s'";
const AGE: &str = "UPDATE runs SET created_at = now() - interval '11 s'";

fn report(outcome: RunOutcome) -> RunReport {
    RunReport::new(outcome)
}

/// A run that was handed out and not accepted.
async fn handed_out(world: &World) -> Claimed {
    world.plain().await;
    world.agent(Role::Worker).await;
    let claimed = world.claim(1).await;
    let [one] = claimed.as_slice() else { panic!("one claim expected: {claimed:?}") };
    *one
}

/// An accepted run.
async fn accepted(world: &World) -> Claimed {
    let run = handed_out(world).await;
    world.store.start_run(run.key, run.agent).await.unwrap();
    run
}

/// Runs two things that both have to wait for the run's lease, and lets them go together.
async fn together<A, B>(
    world: &World,
    run: Claimed,
    one: impl Future<Output = A>,
    other: impl Future<Output = B>,
) -> (A, B) {
    let mut driver = JoinSet::new();
    let blocker = connect(world.url.expose(), &mut driver).await;
    let lock =
        format!("BEGIN; SELECT FROM leases WHERE run = '{}' FOR UPDATE", run.key.run.as_uuid());
    blocker.batch_execute(&lock).await.unwrap();
    let waits = "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let release = async {
        wait_for("both to wait", Duration::from_secs(10), async || {
            let count = world.count(waits).await;
            if count == 2 { Ok(()) } else { Err(count) }
        })
        .await;
        blocker.batch_execute("COMMIT").await.unwrap();
    };
    let (one, other, ()) = tokio::join!(one, other, release);
    (one, other)
}

#[tokio::test]
async fn a_revoked_run_is_the_recoverers_alone() {
    let world = World::new().await;
    let run = accepted(&world).await;
    assert_fenced(
        world.store.finish_revoked(run.key, &report(RunOutcome::WorkerLost)).await,
        Some(run.key.lease),
    );
    assert!(world.store.revoke(run.key, WorkerDead).await.unwrap());
    assert!(world.store.revoke(run.key, LeaseExpired).await.unwrap(), "it is revoked already");
    assert_all_refused(&world, run.key, run.agent, None).await;
    world.agent(Role::Worker).await;
    assert!(world.claim(5).await.is_empty(), "its task is not free before the run has ended");

    let [found] = world.store.revoked_runs(10).await.unwrap().try_into().unwrap();
    assert!(found.key == run.key && found.revoked && found.status == RunStatus::Running);
    world.sql.batch_execute(EXPIRE).await.unwrap();
    assert!(world.store.expired_leases(10).await.unwrap().is_empty());

    let lost = report(RunOutcome::WorkerLost);
    let finished = world.store.finish_revoked(run.key, &lost).await.unwrap();
    assert_eq!(finished.task_state, TaskState::Queued);
    assert_eq!(world.store.finish_revoked(run.key, &lost).await.unwrap(), finished);
    assert_fenced(world.store.finish_run(run.key, &lost).await, None);
    assert!(!world.store.revoke(run.key, WorkerDead).await.unwrap());
    assert!(world.store.revoked_runs(10).await.unwrap().is_empty());
    world.assert_rules().await;
    assert_eq!(world.run_one().await.task, run.task);
}

#[tokio::test]
async fn a_reason_that_holds_no_longer_revokes_nothing() {
    let world = World::new().await;
    let run = handed_out(&world).await;
    world.sql.batch_execute(EXPIRE).await.unwrap();
    assert_eq!(world.store.expired_leases(10).await.unwrap().len(), 1);
    world.store.renew_leases(&[run.key], LEASE).await.unwrap();
    assert!(!world.store.revoke(run.key, LeaseExpired).await.unwrap());

    assert!(!world.store.revoke(run.key, NOT_ACCEPTED).await.unwrap(), "it is not that old");
    world.sql.batch_execute(AGE).await.unwrap();
    assert_eq!(world.store.unaccepted(Duration::from_secs(10)).await.unwrap().len(), 1);
    world.store.start_run(run.key, run.agent).await.unwrap();
    assert!(!world.store.revoke(run.key, NOT_ACCEPTED).await.unwrap());

    let stale = RunKey { lease: LeaseNumber(99), ..run.key };
    assert!(!world.store.revoke(stale, WorkerDead).await.unwrap());
    world.finish(run.key, RunOutcome::Succeeded).await;
    assert!(!world.store.revoke(run.key, WorkerDead).await.unwrap());
}

#[tokio::test]
async fn a_revoked_run_is_no_longer_an_assignment() {
    let world = World::new().await;
    let run = handed_out(&world).await;
    world.sql.batch_execute(AGE).await.unwrap();
    assert!(world.store.revoke(run.key, NOT_ACCEPTED).await.unwrap());
    assert_eq!(world.store.assignment(run.agent).await.unwrap(), None);
    assert!(world.store.unaccepted(Duration::ZERO).await.unwrap().is_empty());
    assert_fenced(world.store.start_run(run.key, run.agent).await, None);
}

#[tokio::test]
async fn of_a_finish_and_a_revocation_exactly_one_wins() {
    let world = World::new().await;
    let done = report(RunOutcome::Succeeded);
    let mut finishes = 0;
    for round in 0..20 {
        let run = accepted(&world).await;
        let finish = world.store.finish_run(run.key, &done);
        let revoke = world.store.revoke(run.key, WorkerDead);
        let (finished, revoked) = if round % 2 == 0 {
            tokio::join!(finish, revoke)
        } else {
            let (revoked, finished) = tokio::join!(revoke, finish);
            (finished, revoked)
        };
        let revoked = revoked.unwrap();
        assert!(finished.is_ok() != revoked, "{finished:?} {revoked}");
        finishes += u32::from(finished.is_ok());
        if revoked {
            world.store.finish_revoked(run.key, &report(RunOutcome::WorkerLost)).await.unwrap();
            world.store.cancel_task(run.task, "over").await.unwrap();
        }
        world.assert_rules().await;
    }
    eprintln!("{finishes} of 20 finishes won");
}

#[tokio::test]
async fn a_finish_and_a_revocation_that_wait_for_the_same_lease_do_not_both_win() {
    let world = World::new().await;
    for _ in 0..5 {
        let run = accepted(&world).await;
        let done = report(RunOutcome::Succeeded);
        let (finished, revoked) = together(
            &world,
            run,
            world.store.finish_run(run.key, &done),
            world.store.revoke(run.key, WorkerDead),
        )
        .await;
        let revoked = revoked.unwrap();
        assert!(finished.is_ok() != revoked, "{finished:?} {revoked}");
        if revoked {
            world.store.finish_revoked(run.key, &report(RunOutcome::Cancelled)).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_run_is_accepted_or_revoked_for_not_being_so() {
    let world = World::new().await;
    for round in 0..20 {
        let run = handed_out(&world).await;
        world.sql.batch_execute(AGE).await.unwrap();
        let start = world.store.start_run(run.key, run.agent);
        let revoke = world.store.revoke(run.key, NOT_ACCEPTED);
        let (started, revoked) = if round % 2 == 0 {
            together(&world, run, start, revoke).await
        } else {
            tokio::join!(start, revoke)
        };
        let revoked = revoked.unwrap();
        assert!(started.is_ok() != revoked, "{started:?} {revoked}");
        let cancelled = report(RunOutcome::Cancelled);
        let end = if revoked {
            world.store.finish_revoked(run.key, &cancelled).await
        } else {
            world.store.finish_run(run.key, &cancelled).await
        };
        end.unwrap();
    }
}

#[tokio::test]
async fn a_lease_is_renewed_or_revoked_for_having_run_out() {
    let world = World::new().await;
    let run = accepted(&world).await;
    for round in 0..20 {
        world.sql.batch_execute(EXPIRE).await.unwrap();
        let renew = [run.key];
        let renew = world.store.renew_leases(&renew, LEASE);
        let revoke = world.store.revoke(run.key, LeaseExpired);
        let (renewed, revoked) = if round % 2 == 0 {
            together(&world, run, renew, revoke).await
        } else {
            tokio::join!(renew, revoke)
        };
        assert!(renewed.unwrap()[0].valid != revoked.unwrap());
        world.sql.batch_execute("UPDATE leases SET revoked_at = NULL").await.unwrap();
    }
}

#[tokio::test]
async fn a_write_under_way_is_done_before_a_revocation_is() {
    let world = World::new().await;
    let run = accepted(&world).await;
    let mut driver = JoinSet::new();
    let writer = connect(world.url.expose(), &mut driver).await;
    let hold =
        format!("BEGIN; SELECT FROM leases WHERE run = '{}' FOR KEY SHARE", run.key.run.as_uuid());
    writer.batch_execute(&hold).await.unwrap();
    let revoke = world.store.revoke(run.key, WorkerDead);
    let mut revoke = Box::pin(revoke);
    let early = tokio::time::timeout(Duration::from_millis(200), &mut revoke).await;
    assert!(early.is_err(), "revoked in the middle of a write");
    writer.batch_execute("COMMIT").await.unwrap();
    assert!(revoke.await.unwrap());
    let event = RunEvent::Notice { text: "late".to_owned() };
    let late = NumberedEvent { seq: 1, at: Timestamp::now(), event };
    assert_fenced(world.store.append_events(run.key, &[late]).await, None);
}

#[tokio::test]
async fn a_worker_that_went_before_it_accepted_costs_no_attempt_but_not_for_ever() {
    let world = World::new().await;
    let task = world.task(NewTask { max_attempts: 1, ..plain_task() }).await;
    let free = FollowUp::Retry { delay: Duration::ZERO, counts: false };
    let lost = report(RunOutcome::WorkerLost);
    for round in 0..10 {
        world.agent(Role::Worker).await;
        let [run] = world.claim(1).await.try_into().unwrap();
        let finished = if round % 2 == 0 {
            assert!(world.store.revoke(run.key, WorkerDead).await.unwrap());
            world.store.finish_revoked(run.key, &lost).await.unwrap()
        } else {
            world.finish(run.key, RunOutcome::Interrupted).await
        };
        assert_eq!((finished.task_state, finished.follow_up), (TaskState::Queued, free));
        let read = world.read(task).await;
        assert_eq!((read.attempts, read.not_before), (0, None));
    }
    world.agent(Role::Worker).await;
    let [run] = world.claim(1).await.try_into().unwrap();
    let last = world.store.finish_run(run.key, &lost).await;
    let exhausted = TaskState::Blocked { reason: BlockReason::AttemptsExhausted };
    assert_eq!(last.unwrap().task_state, exhausted);
}
