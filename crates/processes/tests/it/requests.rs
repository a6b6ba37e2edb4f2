//! What people ask for, and when.

use core_types::process::ProcessState::{Idle, Running, Stopped, Stopping};
use testing::wait::wait_for;

use crate::stage::{DEADLINE, Stage, is_alive, of};

/// A program that takes a while to end when it is asked.
const SLOW_TO_END: &str =
    "trap 'sleep 1; echo bye; exit 0' TERM\necho ready\nwhile :; do sleep 0.1; done";

#[tokio::test]
async fn what_is_stopped_stays_so_and_what_is_started_runs_whatever_the_settings_say() {
    let stage = Stage::managed(&[]).await;
    let settings = stage.settings();
    let first = stage.wait("dispatcher", Running).await;
    assert!(first.pid.is_some() && first.uptime.is_some() && first.usage.is_some(), "{first:?}");
    let asked = stage.control.stop(of("dispatcher"), &settings).await.unwrap();
    assert_eq!(asked.process.state, Stopping);
    let stopped = stage.wait("dispatcher", Stopped).await;
    let exit = stopped.last_exit.unwrap();
    assert!(!exit.unasked && exit.outcome.contains("as asked"), "{exit:?}");
    assert_eq!((stopped.pid, stopped.restarts), (None, 0));

    assert_eq!(stage.show("worker-7").await.state, Idle);
    stage.control.start(of("worker-7"), &settings).await.unwrap();
    stage.wait("worker-7", Running).await;
    let log = wait_for("its words", DEADLINE, async || {
        let log = stage.control.log(of("worker-7"), 10).await.unwrap();
        if log.lines.is_empty() { Err("nothing") } else { Ok(log) }
    });
    assert_eq!(log.await.lines, ["i am resident --name worker-7 --role worker"]);
    stage.wait_alive(&["worker-7"]).await;
}

#[tokio::test]
async fn a_stop_during_a_start_leaves_nothing_alive() {
    let stage = Stage::managed(&[("DISPATCHER_ENABLED", "false")]).await;
    let settings = stage.settings();
    for _ in 0..3 {
        stage.control.start(of("worker-1"), &settings).await.unwrap();
        // Begun and not over, wherever it is.
        wait_for("the start to begin", DEADLINE, async || {
            let rows = stage.database.store.processes().await.unwrap();
            if rows.iter().any(|row| row.state.is_live()) { Ok(()) } else { Err("not yet") }
        })
        .await;
        stage.control.stop(of("worker-1"), &settings).await.unwrap();
        stage.wait("worker-1", Stopped).await;
        stage.wait_alive(&[]).await;
    }
}

#[tokio::test]
async fn a_start_while_it_ends_takes_place_when_the_old_one_is_gone() {
    let stage = Stage::managed(&[("DISPATCHER_ENABLED", "false")]).await;
    let settings = stage.settings();
    stage.program("worker", SLOW_TO_END);
    stage.control.start(of("worker-1"), &settings).await.unwrap();
    let old = stage.wait_generation("worker-1", 1).await;
    ready(&stage).await;
    stage.control.stop(of("worker-1"), &settings).await.unwrap();
    stage.wait("worker-1", Stopping).await;
    stage.control.start(of("worker-1"), &settings).await.unwrap();
    assert_eq!(stage.show("worker-1").await.state, Stopping);
    let new = stage.wait_generation("worker-1", 2).await;
    assert!(!is_alive(old) && is_alive(new));
    let row = stage.row("worker-1").await;
    assert!(!row.last_exit.unwrap().unasked);
    assert_eq!((row.state, row.restarts), (Running, 0));
    stage.wait_alive(&["worker-1"]).await;
}

#[tokio::test]
async fn a_restart_while_it_drains_gives_one_new_process() {
    let stage = Stage::managed(&[("DISPATCHER_ENABLED", "false"), ("WORKER_COUNT", "1")]).await;
    let settings = stage.settings();
    let first = stage.wait_generation("worker-1", 1).await;
    stage.control.restart(of("worker-1"), &settings).await.unwrap();
    let second = stage.wait_generation("worker-1", 2).await;
    assert!(!is_alive(first) && is_alive(second));

    stage.program("worker", SLOW_TO_END);
    stage.control.restart(of("worker-1"), &settings).await.unwrap();
    let third = stage.wait_generation("worker-1", 3).await;
    ready(&stage).await;
    stage.control.stop(of("worker-1"), &settings).await.unwrap();
    stage.wait("worker-1", Stopping).await;
    for _ in 0..3 {
        stage.control.restart(of("worker-1"), &settings).await.unwrap();
    }
    let fourth = stage.wait_generation("worker-1", 4).await;
    assert!(!is_alive(third) && is_alive(fourth));
    assert_eq!(stage.wait("worker-1", Running).await.generation, Some(4));
    stage.wait_alive(&["worker-1"]).await;
}

#[tokio::test]
async fn what_does_not_end_is_killed_after_the_grace() {
    let stage =
        Stage::managed(&[("DISPATCHER_ENABLED", "false"), ("PROCESS_STOP_GRACE_S", "1")]).await;
    stage.program("worker", "trap '' TERM\necho ready\nwhile :; do sleep 0.1; done");
    stage.control.start(of("worker-1"), &stage.settings()).await.unwrap();
    stage.wait("worker-1", Running).await;
    ready(&stage).await;
    stage.control.stop(of("worker-1"), &stage.settings()).await.unwrap();
    let stopped = stage.wait("worker-1", Stopped).await;
    assert_eq!(stopped.last_exit.unwrap().outcome, "ended by signal 9, as asked");
    stage.wait_alive(&[]).await;
}

#[tokio::test]
async fn everything_is_stopped_and_started_again_as_the_settings_say() {
    let counts = [("WORKER_COUNT", "2"), ("TESTER_COUNT", "1")];
    let stage = Stage::managed(&counts).await;
    let settings = stage.settings();
    let all = ["dispatcher", "tester-1", "worker-1", "worker-2"];
    stage.wait_alive(&all).await;
    stage.control.start(of("docser-9"), &settings).await.unwrap();
    stage.wait("docser-9", Running).await;
    let stopped = stage.control.stop_all(&settings).await.unwrap();
    assert_eq!(stopped.len(), 5);
    stage.wait_alive(&[]).await;
    // Nor does a greater count start one.
    stage.set(&[("WORKER_COUNT", "3"), ("TESTER_COUNT", "1")]);
    stage.control.start(of("docser-1"), &settings).await.unwrap();
    stage.wait("docser-1", Running).await;
    stage.wait_alive(&["docser-1"]).await;
    stage.control.start_all(&stage.settings()).await.unwrap();
    stage.wait_alive(&["dispatcher", "tester-1", "worker-1", "worker-2", "worker-3"]).await;
}

#[tokio::test]
async fn without_a_manager_nothing_is_promised() {
    let mut stage = Stage::new(&[]).await;
    stage.control.may_manage = false;
    let refused = stage.control.start(of("dispatcher"), &stage.settings()).await;
    assert!(refused.is_err());
    assert_eq!(stage.show("dispatcher").await.state, Idle);
    stage.manage();
    wait_for("a manager", DEADLINE, async || {
        stage.control.start(of("worker-1"), &stage.settings()).await
    })
    .await;
    stage.wait("worker-1", Running).await;
}

async fn ready(stage: &Stage) {
    wait_for("the program to be ready", DEADLINE, async || {
        let log = stage.control.log(of("worker-1"), 10).await.unwrap();
        if log.lines == ["ready"] { Ok(()) } else { Err(format!("{log:?}")) }
    })
    .await;
}
