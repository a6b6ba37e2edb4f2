//! Managers that die, and what the next one finds.

use std::process::{Command, Stdio};

use core_types::process::ProcessState::{Failed, Running, Stopped, Stopping};
use launcher::{handle::StopRequest, launcher::Launcher as _};
use serde_json::Value;
use testing::wait::wait_for;

use crate::stage::{DEADLINE, OBEDIENT, Stage, is_alive, kill, of};

#[tokio::test]
async fn what_runs_is_adopted_and_an_end_that_nobody_saw_is_reported() {
    let mut stage = Stage::new(&[("WORKER_COUNT", "2")]).await;
    let first = stage.manage();
    let dispatcher = stage.wait_generation("dispatcher", 1).await;
    let stays = stage.wait_generation("worker-1", 1).await;
    let ends = stage.wait_generation("worker-2", 1).await;
    stage.kill_manager(first).await;
    kill(ends);
    stage.manage();
    let new = stage.wait_generation("worker-2", 2).await;
    assert_ne!(new, ends);
    let exit = stage.row("worker-2").await.last_exit.unwrap();
    assert_eq!((exit.outcome.as_str(), exit.unasked), ("ended by signal 9", true));
    for (name, pid) in [("dispatcher", dispatcher), ("worker-1", stays)] {
        let row = stage.row(name).await;
        assert_eq!((row.pid, row.generation, row.last_exit), (Some(pid), 1, None));
        assert!(is_alive(pid));
    }
    // The new one is in charge: it hears what is asked, and sees what happens.
    stage.control.stop(of("worker-1"), &stage.settings()).await.unwrap();
    stage.wait("worker-1", Stopped).await;
    kill(dispatcher);
    stage.wait_generation("dispatcher", 2).await;
}

#[tokio::test]
async fn a_stop_that_was_asked_for_is_one_although_its_manager_died() {
    let mut stage = Stage::new(&[("DISPATCHER_ENABLED", "false"), ("WORKER_COUNT", "1")]).await;
    stage.program("worker", "trap 'sleep 2; exit 0' TERM\nwhile :; do sleep 0.1; done");
    let first = stage.manage();
    let pid = stage.wait_generation("worker-1", 1).await;
    stage.control.stop(of("worker-1"), &stage.settings()).await.unwrap();
    wait_for("the stop to be under way", DEADLINE, async || {
        let row = stage.row("worker-1").await;
        if row.state == Stopping { Ok(()) } else { Err(format!("{row:?}")) }
    })
    .await;
    stage.kill_manager(first).await;
    stage.manage();
    let stopped = stage.wait("worker-1", Stopped).await;
    assert!(!stopped.last_exit.unwrap().unasked && !is_alive(pid));
}

#[tokio::test]
async fn two_managers_start_everything_once_and_the_second_goes_on_when_the_first_dies() {
    let mut stage = Stage::new(&[("WORKER_COUNT", "2")]).await;
    let (one, other) = (stage.manage(), stage.manage());
    let mut pids = Vec::new();
    for name in ["dispatcher", "worker-1", "worker-2"] {
        pids.push(stage.wait_generation(name, 1).await);
    }
    stage.wait_alive(&["dispatcher", "worker-1", "worker-2"]).await;
    // Whichever it is that manages.
    for dead in [one, other] {
        stage.kill_manager(dead).await;
        if dead == one {
            stage.control.restart(of("dispatcher"), &stage.settings()).await.unwrap();
            stage.wait_generation("dispatcher", 2).await;
        }
    }
    stage.wait_alive(&["dispatcher", "worker-1", "worker-2"]).await;
    assert!(pids.iter().skip(1).all(|pid| is_alive(*pid)));
    assert_eq!(stage.launches().await.len(), 4, "one restart and no more starts");
}

#[tokio::test]
async fn a_launch_without_a_row_is_ended_and_a_row_without_a_launch_is_started() {
    let mut stage = Stage::new(&[]).await;
    let first = stage.manage();
    let orphan = stage.wait_generation("dispatcher", 1).await;
    stage.control.start(of("worker-5"), &stage.settings()).await.unwrap();
    let other = stage.wait_generation("worker-5", 1).await;
    stage.kill_manager(first).await;
    // As if it had died between the two.
    stage.database.run("DELETE FROM processes WHERE name = 'dispatcher'").await;
    let never = "UPDATE processes SET generation = 9, launch = 'never', record = NULL, pid = NULL,
        state = 'starting' WHERE name = 'worker-5'";
    stage.database.run(never).await;
    stage.manage();
    stage.wait_generation("dispatcher", 2).await;
    stage.wait_generation("worker-5", 10).await;
    stage.wait_alive(&["dispatcher", "worker-5"]).await;
    assert!(!is_alive(orphan) && !is_alive(other));
}

#[tokio::test]
async fn what_lives_although_its_row_says_that_it_is_over_is_ended() {
    let mut stage = Stage::new(&[]).await;
    let first = stage.manage();
    let lost = stage.wait_generation("dispatcher", 1).await;
    stage.control.start(of("worker-5"), &stage.settings()).await.unwrap();
    let given_up = stage.wait_generation("worker-5", 1).await;
    stage.kill_manager(first).await;
    // As if a launch that was taken for refused was there all the same.
    let over = "UPDATE processes SET record = NULL, pid = NULL, started_at = NULL,
        state = CASE name WHEN 'dispatcher' THEN 'stopped' ELSE 'failed' END";
    stage.database.run(over).await;
    stage.manage();
    let new = stage.wait_generation("dispatcher", 2).await;
    wait_for("the forgotten ones to be gone", DEADLINE, async || {
        let left: Vec<i32> = [lost, given_up].into_iter().filter(|pid| is_alive(*pid)).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;
    stage.wait_alive(&["dispatcher"]).await;
    assert!(is_alive(new));
    assert_eq!(stage.row("worker-5").await.state, Failed, "nobody asked for it again");
}

#[tokio::test]
async fn a_launch_that_was_accepted_and_not_noted_is_adopted() {
    let mut stage = Stage::new(&[]).await;
    let first = stage.manage();
    let pid = stage.wait_generation("dispatcher", 1).await;
    stage.kill_manager(first).await;
    let before =
        "UPDATE processes SET record = NULL, pid = NULL, started_at = NULL, state = 'starting'";
    stage.database.run(before).await;
    stage.manage();
    assert_eq!(stage.wait_generation("dispatcher", 1).await, pid);
    stage.wait("dispatcher", Running).await;
}

#[tokio::test]
async fn a_launch_of_another_version_is_left_alone_told_and_taken_up_once_it_can_be() {
    let mut stage = Stage::new(&[]).await;
    let first = stage.manage();
    let pid = stage.wait_generation("dispatcher", 1).await;
    stage.kill_manager(first).await;
    let directory = stage.launch_directory(&stage.row("dispatcher").await.launch);
    let good = record(&directory, "intent.json");
    let mut newer = good.clone();
    newer["version"] = (good["version"].as_u64().unwrap() + 1).into();
    std::fs::write(directory.join("intent.json"), newer.to_string()).unwrap();
    stage.manage();
    let told = wait_for("the manager to tell why it cannot be followed", DEADLINE, async || {
        let row = stage.row("dispatcher").await;
        if row.hint.is_some() { Ok(row) } else { Err(format!("{row:?}")) }
    })
    .await;
    assert_eq!((told.state, told.generation, told.pid), (Running, 1, Some(pid)));
    assert!(told.message.unwrap().contains("this version reads"));
    assert!(told.hint.unwrap().contains("another version of openTiger"));
    std::fs::write(directory.join("intent.json"), good.to_string()).unwrap();
    wait_for("the manager to follow it again", DEADLINE, async || {
        let row = stage.row("dispatcher").await;
        if row.hint.is_none() && row.message.is_none() { Ok(()) } else { Err(format!("{row:?}")) }
    })
    .await;
    assert!(is_alive(pid));
    stage.control.stop(of("dispatcher"), &stage.settings()).await.unwrap();
    stage.wait("dispatcher", Stopped).await;
}

#[tokio::test]
async fn a_process_of_somebody_else_with_a_pid_of_ours_is_never_signalled() {
    let mut stage = Stage::new(&[("PROCESS_STOP_GRACE_S", "0")]).await;
    let first = stage.manage();
    let pid = stage.wait_generation("dispatcher", 1).await;
    stage.kill_manager(first).await;
    let directory = stage.launch_directory(&stage.row("dispatcher").await.launch);
    // Its shim and the process die, and the pids of both go to somebody else.
    let shim = record(&directory, "shim.json")["pid"].as_i64().unwrap();
    kill(i32::try_from(shim).unwrap());
    kill(pid);
    wait_for("both to be gone", DEADLINE, async || {
        let gone = !is_alive(pid) && !is_alive(i32::try_from(shim).unwrap());
        if gone { Ok(()) } else { Err("alive") }
    })
    .await;
    let mut stranger = stranger();
    let foreign = i32::try_from(stranger.id()).unwrap();
    for file in ["shim.json", "started.json"] {
        let mut changed = record(&directory, file);
        changed["pid"] = foreign.into();
        std::fs::write(directory.join(file), changed.to_string()).unwrap();
    }
    stage.database.run(&format!("UPDATE processes SET pid = {foreign}")).await;

    stage.manage();
    stage.wait_generation("dispatcher", 2).await;
    let exit = stage.row("dispatcher").await.last_exit.unwrap();
    assert!(exit.outcome.starts_with("lost") && exit.unasked, "{exit:?}");
    stage.control.stop(of("dispatcher"), &stage.settings()).await.unwrap();
    stage.wait("dispatcher", Stopped).await;
    assert!(stranger.try_wait().unwrap().is_none(), "the stranger lives");
    stranger.kill().unwrap();
    stranger.wait().unwrap();
}

#[tokio::test]
async fn of_launches_of_another_host_nothing_is_concluded() {
    let mut stage = Stage::new(&[]).await;
    let first = stage.manage();
    let pid = stage.wait_generation("dispatcher", 1).await;
    stage.kill_manager(first).await;
    let there = "UPDATE processes SET host = 'there', launch = 'process.other.dispatcher.7',
        generation = 7, record = jsonb_set(record::jsonb, '{store}', '\"another\"')::json";
    stage.database.run(there).await;
    let handle = stage.launcher.attach(&stage.launches().await[0].record).await.unwrap();
    handle.stop(StopRequest::new("only its row is of interest", std::time::Duration::ZERO)).await;
    let before = stage.row("dispatcher").await;
    stage.program("dispatcher", OBEDIENT);
    stage.manage();
    stage.wait_generation_on_this_host("dispatcher").await;
    let rows = stage.database.store.processes().await.unwrap();
    assert!(rows.contains(&before), "{rows:?}");
    assert_eq!(rows.len(), 2);
    assert!(!is_alive(pid));
}

fn record(directory: &std::path::Path, file: &str) -> Value {
    serde_json::from_slice(&std::fs::read(directory.join(file)).unwrap()).unwrap()
}

#[expect(clippy::disallowed_methods, reason = "a process that is none of ours")]
fn stranger() -> std::process::Child {
    Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn().unwrap()
}
