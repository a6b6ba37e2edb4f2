//! Several processes, one server.

use std::{fs, time::Duration};

use embedded::error::EmbeddedError;
use launcher::outcome::{Outcome, StopCause};
use testing::wait::wait_for;

use crate::bench::{Bench, Connected, LIMIT};

const STARTED: &str = "SELECT pg_postmaster_start_time()::text";

#[tokio::test]
async fn processes_that_start_at_once_share_one_server() {
    let bench = Bench::new();
    let lease = bench.options.lease;
    let mut users = [bench.user(lease), bench.user(lease), bench.user(lease)];
    let [one, two, three] = &mut users;
    let (mine, one, two, three) = tokio::join!(bench.ensure(), one.url(), two.url(), three.url());
    assert!([&one, &two, &three].into_iter().all(|url| *url == mine.url));
    mine.stop("end of the test").await;
}

#[tokio::test]
async fn a_killed_starter_leaves_it_to_the_others() {
    let mut bench = Bench::new();
    bench.options.lease = Duration::from_secs(3);
    let mut starter = bench.user(bench.options.lease);
    let url = starter.url().await;
    let started = Connected::to(&url).await.text(STARTED).await;
    let mine = bench.ensure().await;
    assert!(!mine.started_here);
    drop(starter);
    // Twice the lease: only our renewals keep it.
    let keep = tokio::time::timeout(2 * bench.options.lease, mine.keep_alive());
    assert!(keep.await.is_err(), "keeping it alive came to an end");
    assert_eq!(Connected::to(&url).await.text(STARTED).await, started);
    mine.stop("end of the test").await;
}

#[tokio::test]
async fn without_users_it_ends_by_itself_and_cleanly_even_with_open_connections() {
    let mut bench = Bench::new();
    bench.options.lease = Duration::from_secs(2);
    let mut user = bench.user(bench.options.lease);
    let url = user.url().await;
    let connected = Connected::to(&url).await;
    connected.client.batch_execute("CREATE TABLE kept AS SELECT 'here' AS word").await.unwrap();
    drop(user);
    let report = bench.ended().await;
    assert_eq!(report.cause, Some(StopCause::LeaseExpired));
    assert_eq!(report.outcome, Outcome::Exited(0));
    assert_eq!(report.leftovers_killed, 0);
    wait_for("the connection to end", LIMIT, async || {
        if connected.client.is_closed() { Ok(()) } else { Err("open") }
    })
    .await;
    let again = bench.ensure().await;
    assert!(again.started_here);
    assert_eq!(again.url, url);
    assert_eq!(Connected::to(&again.url).await.text("SELECT word FROM kept").await, "here");
    again.stop("end of the test").await;
}

#[tokio::test]
async fn a_server_that_is_only_slow_is_left_to_its_users() {
    let bench = Bench::new();
    let postgres = bench.ensure().await;
    let connected = Connected::to(&postgres.url).await;
    let started = connected.text(STARTED).await;
    let said = postgres.data_dir.join("postmaster.pid");
    let ready = fs::read_to_string(&said).unwrap();
    fs::write(&said, ready.replace("ready   ", "starting")).unwrap();
    // The whole patience passes at once; the server's own clock goes on.
    tokio::time::pause();
    let error = bench.try_ensure().await.unwrap_err();
    tokio::time::resume();
    assert!(matches!(error, EmbeddedError::NotReady { .. }), "{error:?}");
    assert!(error.hint().is_some());
    assert_eq!(connected.text(STARTED).await, started);
    fs::write(&said, ready).unwrap();
    let again = bench.ensure().await;
    assert!(!again.started_here);
    assert_eq!(again.url, postgres.url);
    again.stop("end of the test").await;
}
