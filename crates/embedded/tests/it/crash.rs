//! The server dies; the next user has it back, on the same data.

use std::{fs, time::Duration};

use embedded::{error::EmbeddedError, options::Durability};
use rustix::process::{Signal, kill_process};
use testing::wait::wait_for;

use crate::bench::{Bench, Connected, LIMIT, server_pid};

#[tokio::test]
async fn a_killed_server_comes_back_with_its_data() {
    let mut bench = Bench::new();
    bench.options.durability = Durability::Full;
    let first = bench.ensure().await;
    let connected = Connected::to(&first.url).await;
    connected.client.batch_execute("CREATE TABLE kept AS SELECT 'here' AS word").await.unwrap();
    kill_process(server_pid(&first.data_dir), Signal::KILL).unwrap();
    bench.ended().await;
    assert!(first.data_dir.join("postmaster.pid").is_file(), "nothing stale to clear away");
    let again = bench.ensure().await;
    assert!(again.started_here);
    assert_eq!(again.url, first.url);
    assert_eq!(Connected::to(&again.url).await.text("SELECT word FROM kept").await, "here");
    again.stop("end of the test").await;
}

#[tokio::test]
async fn whoever_keeps_it_alive_brings_it_back_on_the_same_port() {
    let bench = Bench::new();
    let postgres = bench.ensure().await;
    let old = server_pid(&postgres.data_dir);
    let back = async {
        kill_process(old, Signal::KILL).unwrap();
        wait_for("a new server on the old url", LIMIT, async || {
            match Connected::try_to(&postgres.url).await {
                Ok(_) if server_pid(&postgres.data_dir) != old => Ok(()),
                Ok(_) => Err("still the old one".to_owned()),
                Err(error) => Err(format!("{error:?}")),
            }
        })
        .await;
    };
    tokio::select! {
        () = back => {}
        result = postgres.keep_alive() => panic!("keeping it alive came to an end: {result:?}"),
    }
    bench.ensure().await.stop("end of the test").await;
}

#[tokio::test]
async fn a_stale_file_that_names_another_live_process_is_cleared_away() {
    let bench = Bench::new();
    let first = bench.ensure().await;
    first.stop("a test").await;
    let mine = std::process::id();
    let stale =
        format!("{mine}\n{}\n1\n1\n\n127.0.0.1\n 1 1\nready   \n", first.data_dir.display());
    fs::write(first.data_dir.join("postmaster.pid"), stale).unwrap();
    let again = bench.ensure().await;
    Connected::to(&again.url).await;
    again.stop("end of the test").await;
}

#[tokio::test]
async fn a_file_that_a_power_cut_emptied_is_cleared_away() {
    let bench = Bench::new();
    let first = bench.ensure().await;
    first.stop("a test").await;
    fs::write(first.data_dir.join("postmaster.pid"), "").unwrap();
    let again = bench.ensure().await;
    Connected::to(&again.url).await;
    again.stop("end of the test").await;
}

#[tokio::test]
async fn a_server_that_somebody_else_runs_on_the_data_is_left_alone() {
    let bench = Bench::new();
    let first = bench.ensure().await;
    first.stop("a test").await;
    #[expect(clippy::disallowed_methods, reason = "the test stands in for the user's own shell")]
    let mut command = std::process::Command::new("/bin/sleep");
    let mut foreign = command.arg("60").current_dir(&first.data_dir).spawn().unwrap();
    fs::write(first.data_dir.join("postmaster.pid"), format!("{}\n", foreign.id())).unwrap();
    let error = bench.try_ensure().await.unwrap_err();
    let pid = i32::try_from(foreign.id()).unwrap();
    assert!(
        matches!(error, EmbeddedError::DataInUse { pid: found, .. } if found == pid),
        "{error:?}"
    );
    foreign.kill().unwrap();
    foreign.wait().unwrap();
    bench.ensure().await.stop("end of the test").await;
}

#[tokio::test]
async fn a_lost_port_is_replaced_and_told_to_those_who_knew_it() {
    let mut bench = Bench::new();
    bench.options.lease = Duration::from_secs(10);
    let first = bench.ensure().await;
    let end = async {
        first.stop("a test").await;
        // Taken before anybody can start the server again: the lock of a start is ours.
        std::net::TcpListener::bind(("127.0.0.1", first.port)).unwrap()
    };
    let _thief = end.await;
    let error = first.keep_alive().await.unwrap_err();
    assert!(matches!(error, EmbeddedError::Moved { from, .. } if from == first.port), "{error:?}");
    let moved = bench.ensure().await;
    assert_ne!(moved.port, first.port);
    Connected::to(&moved.url).await;
    moved.stop("end of the test").await;
}
