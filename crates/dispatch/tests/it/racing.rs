//! Recovery beside workers that come back and beside other dispatchers.

use core_types::{
    outcome::RunOutcome,
    task::{RunStatus, TaskStatus},
};
use store::recovery::Revocation;

use crate::bench::{
    Bench, LEASE, SPENT, Worker, end, fresh, is_running, look, looks_again, steady,
};

#[tokio::test]
async fn run_whose_lease_was_renewed_after_the_list_is_left_alone() {
    let bench = Bench::new().await;
    let key = bench.started(Worker::Alive, SPENT).await;
    let agent = bench.launched(&key.run.to_string()).await;
    let mut recovery = bench.recovery();
    let found = recovery.find().await;
    assert_eq!(found.silent.len(), 1, "{found:?}");
    bench.database.store.renew_leases(&[key], LEASE).await.unwrap();
    recovery.take_up(found, &looks_again(steady()));
    recovery.all_done().await;
    assert_eq!(bench.run(key).await.status, RunStatus::Running);
    assert!(is_running(&agent));
    end(&agent).await;
}

#[tokio::test]
async fn run_that_was_accepted_after_the_list_is_left_alone() {
    let bench = Bench::new().await;
    let (key, agent) = bench.handed_out(Worker::Alive, LEASE).await;
    let mut recovery = bench.recovery_of("here", std::time::Duration::ZERO);
    let found = recovery.find().await;
    assert_eq!(found.late.len(), 1, "{found:?}");
    bench.database.store.start_run(key, agent).await.unwrap();
    recovery.take_up(found, &looks_again(steady()));
    recovery.all_done().await;
    assert_eq!(bench.run(key).await.status, RunStatus::Running);
}

#[tokio::test]
async fn two_recoveries_side_by_side_take_a_run_back_once() {
    let bench = Bench::new().await;
    let key = bench.started(Worker::Dead, LEASE).await;
    bench.launched(&key.run.to_string()).await;
    let (mut one, mut other) = (bench.recovery(), bench.recovery());
    let (found_by_one, found_by_other) = (one.find().await, other.find().await);
    one.take_up(found_by_one, &fresh());
    other.take_up(found_by_other, &fresh());
    tokio::join!(one.all_done(), other.all_done());
    let run = bench.run(key).await;
    assert_eq!(run.outcome(), Some(RunOutcome::WorkerLost));
    let task = bench.task(run.task).await;
    assert_eq!((task.state.status(), task.attempts), (TaskStatus::Queued, 1));
    assert_eq!((one.trouble_with(key), other.trouble_with(key)), (None, None));
}

#[tokio::test]
async fn run_under_way_is_not_taken_up_by_the_next_look() {
    let bench = Bench::new().await;
    let key = bench.started(Worker::Dead, LEASE).await;
    let mut recovery = bench.recovery();
    for _ in 0..3 {
        let found = recovery.find().await;
        recovery.take_up(found, &fresh());
        assert_eq!(recovery.under_way(), 1);
    }
    recovery.all_done().await;
    assert_eq!(bench.run(key).await.outcome(), Some(RunOutcome::WorkerLost));
}

#[tokio::test]
async fn run_revoked_by_a_dispatcher_that_died_is_taken_up_on_its_host() {
    let bench = Bench::new().await;
    let key = bench.started(Worker::Alive, LEASE).await;
    let agent = bench.launched(&key.run.to_string()).await;
    assert!(bench.database.store.revoke(key, Revocation::WorkerDead).await.unwrap());
    // On another host the lease has to be over for some time.
    look(&mut bench.recovery_of("there", LEASE), steady()).await;
    assert_eq!(bench.run(key).await.status, RunStatus::Running);
    look(&mut bench.recovery(), fresh()).await;
    assert_eq!(bench.run(key).await.outcome(), Some(RunOutcome::WorkerLost));
    assert!(!is_running(&agent));
}
