//! Launches that fail, hang, or are left alone.

use std::{sync::Arc, time::Duration};

use core_config::load::load;
use core_types::{
    ids::TaskId,
    outcome::RunOutcome,
    repository::Repository,
    task::{RunStatus, TaskState},
};
use dispatch::sandboxed::readiness::Readiness;
use launcher::handle::LaunchState;
use testing::wait::wait_for;

use super::hall::{Hall, LONG, WORKS};

#[tokio::test]
async fn a_launch_that_fails_for_one_task_holds_up_no_other() {
    let mut hall = Hall::new(WORKS, &[]).await;
    let (unfit, fine) = (hall.queue().await, hall.queue().await);
    *hall.shells.unfit.lock().unwrap() = Some(unfit);
    let pauses = hall.readiness.changes();
    hall.dispatcher(true).await;
    let report = hall.ended(hall.run_of(unfit).await.run).await;
    assert_eq!(report.outcome, RunOutcome::HostFailed, "{report:?}");
    assert_eq!(report.message.as_deref(), Some("its state is a file"));
    let key = hall.run_of(fine).await;
    hall.succeeds(key).await;
    assert_eq!(*pauses.borrow(), None);
    assert_eq!(hall.database.store.task(unfit).await.unwrap().unwrap().attempts, 1);
}

#[tokio::test]
async fn launches_that_fail_one_after_the_other_are_no_coincidence() {
    let readiness = Readiness::new();
    let [one, two, three] = [(); 3].map(|()| TaskId::generate());
    assert!(!readiness.suspects(one) && !readiness.suspects(one) && !readiness.suspects(two));
    assert!(readiness.suspects(three));
    readiness.worked();
    assert!(!readiness.suspects(three));
}

#[tokio::test]
async fn a_git_host_that_hangs_holds_up_its_own_tasks_alone() {
    let mut hall = Hall::new(WORKS, &[]).await;
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap();
    let mut hanging = Vec::new();
    for name in ["a", "b", "c", "d", "e"] {
        let url = format!("http://{address}/{name}");
        hanging.push(hall.queue_of(Repository::Git { url }).await);
    }
    hall.dispatcher(true).await;
    // As many as it takes at once have asked, and get no answer.
    let mut asked = Vec::new();
    for _ in 0..4 {
        let connection = tokio::time::timeout(LONG, silent.accept()).await.unwrap();
        asked.push(connection.unwrap());
    }
    let task = hall.queue().await;
    let key = hall.run_of(task).await;
    hall.succeeds(key).await;
    for task in hanging {
        let run = hall.database.store.run(hall.run_of(task).await.run).await.unwrap().unwrap();
        assert_eq!(run.status, RunStatus::Launching);
        hall.database.store.cancel_task(task, "enough").await.unwrap();
        assert_eq!(hall.ended(run.id).await.outcome, RunOutcome::Cancelled);
    }
    drop((asked, silent));
    wait_for("nothing to run", LONG, async || {
        let launches = hall.launcher.discover().await.unwrap();
        let live = launches.iter().filter(|one| !matches!(one.state, LaunchState::Ended(_)));
        if live.count() == 0 { Ok(()) } else { Err("something runs") }
    })
    .await;
}

#[tokio::test]
async fn a_sandbox_that_nobody_tends_ends_by_itself_and_costs_no_attempt() {
    let mut hall = Hall::new("exec sleep 600", &[]).await;
    hall.untended = Duration::from_secs(3);
    let task = hall.queue().await;
    hall.dispatcher(false).await;
    let key = hall.run_of(task).await;
    wait_for("the sandbox", LONG, async || {
        let launches = hall.launcher.discover().await.unwrap();
        let runs = launches.iter().any(|one| matches!(one.state, LaunchState::Running { .. }));
        runs.then_some(()).ok_or("it does not run")
    })
    .await;
    hall.kill_dispatchers().await;
    wait_for("its end", LONG, async || {
        let launches = hall.launcher.discover().await.unwrap();
        let ended = launches.iter().all(|one| matches!(one.state, LaunchState::Ended(_)));
        ended.then_some(()).ok_or("it runs")
    })
    .await;
    hall.settings.send_replace(Arc::new(load([], None).unwrap()));
    hall.dispatcher(true).await;
    let report = hall.ended(key.run).await;
    assert_eq!(report.outcome, RunOutcome::Interrupted, "{report:?}");
    assert_eq!(hall.state_of(task).await, TaskState::Queued);
    assert_eq!(hall.database.store.task(task).await.unwrap().unwrap().attempts, 0);
}
