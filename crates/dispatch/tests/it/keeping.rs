//! Runs of which something may be alive: they stay as they are until that is known, and hold up no other.

use core_types::{outcome::RunOutcome, task::RunStatus};

use crate::{
    bench::{Bench, LEASE, Worker, end, fresh, is_running, look},
    doubles::Fault,
};

/// A run with a fault is kept, with a reason, and taken back once the fault is over.
async fn is_kept_while(fault: impl FnOnce(launcher::id::LaunchId) -> Fault, reason: &str) {
    let bench = Bench::new().await;
    let key = bench.started(Worker::Dead, LEASE).await;
    let agent = bench.launched(&key.run.to_string()).await;
    let mut recovery = bench.recovery();
    bench.faulty.breaks(fault(agent.id().clone()));
    for _ in 0..2 {
        look(&mut recovery, fresh()).await;
        assert_eq!(bench.run(key).await.status, RunStatus::Running, "{reason}");
        let trouble = recovery.trouble_with(key).unwrap_or_default();
        assert!(trouble.contains(reason), "{trouble}");
    }
    bench.faulty.works_again();
    look(&mut recovery, fresh()).await;
    assert_eq!(bench.run(key).await.outcome(), Some(RunOutcome::WorkerLost));
    assert_eq!(recovery.trouble_with(key), None);
}

#[tokio::test]
async fn run_is_kept_while_its_launches_cannot_be_listed() {
    is_kept_while(|_| Fault::NoList, "launches not listed").await;
}

#[tokio::test]
async fn run_is_kept_while_its_launch_cannot_be_attached_to() {
    is_kept_while(Fault::NoAttach, "not attached").await;
}

#[tokio::test]
async fn run_is_kept_while_a_process_of_it_cannot_be_killed() {
    is_kept_while(Fault::Survivor, "could not be killed").await;
}

#[tokio::test]
async fn run_is_kept_while_the_record_of_its_launch_is_unreadable() {
    let bench = Bench::new().await;
    let key = bench.started(Worker::Dead, LEASE).await;
    let agent = bench.launched(&key.run.to_string()).await;
    let intent = bench.launcher.launch_dir(agent.id()).join("intent.json");
    let good = std::fs::read(&intent).unwrap();
    std::fs::write(&intent, "damaged").unwrap();
    let mut recovery = bench.recovery();
    look(&mut recovery, fresh()).await;
    let trouble = recovery.trouble_with(key).unwrap_or_default();
    assert!(trouble.contains("is not readable"), "{trouble}");
    assert_eq!(bench.run(key).await.status, RunStatus::Running);
    std::fs::write(&intent, good).unwrap();
    look(&mut recovery, fresh()).await;
    assert_eq!(bench.run(key).await.outcome(), Some(RunOutcome::WorkerLost));
    assert!(!is_running(&agent));
}

#[tokio::test]
async fn run_that_cannot_be_dealt_with_does_not_stop_the_others() {
    let bench = Bench::new().await;
    let bad = bench.started(Worker::Dead, LEASE).await;
    let agent = bench.launched(&bad.run.to_string()).await;
    bench.faulty.breaks(Fault::NoAttach(agent.id().clone()));
    let good = bench.started(Worker::Dead, LEASE).await;
    look(&mut bench.recovery(), fresh()).await;
    assert_eq!(bench.run(bad).await.status, RunStatus::Running);
    assert_eq!(bench.run(good).await.outcome(), Some(RunOutcome::WorkerLost));
    end(&agent).await;
}

#[tokio::test]
async fn more_runs_than_are_taken_back_at_once_are_all_taken_back_by_one_look() {
    let bench = Bench::new().await;
    let mut keys = Vec::new();
    for _ in 0..10 {
        keys.push(bench.started(Worker::Dead, LEASE).await);
    }
    look(&mut bench.recovery(), fresh()).await;
    for key in keys {
        assert_eq!(bench.run(key).await.outcome(), Some(RunOutcome::WorkerLost));
    }
}
