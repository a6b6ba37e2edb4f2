//! A run that must stop while it verifies, loses its database, or is taken back behind its worker's back.

use std::time::{Duration, Instant};

use core_types::{
    outcome::{RunOutcome, RunReport},
    task::TaskStatus,
};

use crate::bench::Bench;

/// Longer than a launch lives without renewal.
const OUTAGE: Duration = Duration::from_secs(24);

fn verifying_for_ever(bench: &Bench) -> store::tasks::NewTask {
    let mut task = bench.task("[fake: ok] [file: made.txt]");
    task.verification = vec![vec!["sleep".into(), "600".into()]];
    task
}

fn branches(bench: &Bench) -> String {
    bench.repository.git(&["branch", "--list", "opentiger/*"])
}

#[tokio::test]
async fn cancel_during_verification_ends_the_command() {
    let bench = Bench::with_fake_agent().await;
    let started = bench.start(verifying_for_ever(&bench)).await;
    let (key, task) = (started.key, started.task.new.id);
    let cancel = async {
        bench.wait_phase(key.run, "verifying").await;
        bench.shop.store.cancel_task(task, "a test").await.unwrap();
        Instant::now()
    };
    let work = agent::run::work_on(&bench.shop, started, &bench.policy, &bench.stop);
    let (asked, ()) = tokio::join!(cancel, work);
    assert!(asked.elapsed() < Duration::from_secs(9), "{:?}", asked.elapsed());
    let told = bench.told(key.run).await;
    told.assert_outcome(RunOutcome::Cancelled);
    assert_eq!(branches(&bench), "");
    bench.assert_clean().await;
}

#[tokio::test]
async fn worker_that_stops_during_verification_gives_its_run_back() {
    let bench = Bench::with_fake_agent().await;
    let started = bench.start(verifying_for_ever(&bench)).await;
    let key = started.key;
    let stop = async {
        bench.wait_phase(key.run, "verifying").await;
        bench.stop.cancel();
        Instant::now()
    };
    let work = agent::run::work_on(&bench.shop, started, &bench.policy, &bench.stop);
    let (asked, ()) = tokio::join!(stop, work);
    assert!(asked.elapsed() < Duration::from_secs(9), "{:?}", asked.elapsed());
    let told = bench.told(key.run).await;
    told.assert_outcome(RunOutcome::Interrupted);
    assert_eq!((told.task.state.status(), told.task.attempts), (TaskStatus::Queued, 0));
    bench.assert_clean().await;
}

#[tokio::test]
async fn run_that_was_taken_back_makes_no_branch() {
    let bench = Bench::with_fake_agent().await;
    let mut task = bench.task("[fake: ok] [file: made.txt]");
    task.verification = vec![vec!["sleep".into(), "2".into()]];
    let started = bench.start(task).await;
    let key = started.key;
    let take_back = async {
        bench.wait_phase(key.run, "verifying").await;
        let report = RunReport::new(RunOutcome::WorkerLost);
        bench.database.store.finish_run(key, &report).await.unwrap();
    };
    let work = agent::run::work_on(&bench.shop, started, &bench.policy, &bench.stop);
    tokio::join!(take_back, work);
    bench.told(key.run).await.assert_outcome(RunOutcome::WorkerLost);
    assert_eq!(branches(&bench), "", "a run that is nobody's any more moved a branch");
    bench.assert_clean().await;
}

#[tokio::test]
async fn long_outage_of_the_database_gives_the_agents_run_back() {
    outage(false, "[fake: hang]", "agent").await;
}

#[tokio::test]
async fn long_silence_of_the_database_during_verification_is_no_failed_verification() {
    outage(true, "[fake: ok] [file: made.txt]", "verifying").await;
}

/// Takes the database away for longer than a launch lives without it: the run is given back, and costs no attempt.
async fn outage(silent: bool, goal: &str, phase: &str) {
    let (bench, proxy) = Bench::with_fault_proxy().await;
    let mut task = bench.task(goal);
    task.verification = vec![vec!["sleep".into(), "600".into()]];
    let started = bench.start(task).await;
    let key = started.key;
    let cut = async {
        bench.wait_phase(key.run, phase).await;
        if silent {
            proxy.pause()
        } else {
            proxy.refuse()
        }
        tokio::time::sleep(OUTAGE).await;
        proxy.resume();
    };
    let work = agent::run::work_on(&bench.shop, started, &bench.policy, &bench.stop);
    tokio::join!(cut, work);
    let told = bench.told(key.run).await;
    told.assert_outcome(RunOutcome::Interrupted);
    assert_eq!((told.task.state.status(), told.task.attempts), (TaskStatus::Queued, 0));
    assert_eq!(branches(&bench), "");
    bench.assert_clean().await;
}
