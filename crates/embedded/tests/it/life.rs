//! One server from its first start to its end.

use std::{
    fs,
    net::TcpStream,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
};

use core_types::secret::Secret;
use embedded::{options::Durability, postgres::endpoint_file};

use crate::bench::{Bench, Connected};

#[tokio::test]
async fn the_first_call_starts_it_and_the_next_one_finds_it() {
    let bench = Bench::new();
    let first = bench.ensure().await;
    assert!(first.started_here);
    let connected = Connected::to(&first.url).await;
    let version: i32 = connected.text("SHOW server_version_num").await.parse().unwrap();
    assert!(version >= 150_000, "{version}");
    assert_eq!(connected.text("SHOW server_encoding").await, "UTF8");
    let second = bench.ensure().await;
    assert!(!second.started_here);
    assert_eq!(second.url, first.url);
    first.stop("end of the test").await;
}

#[tokio::test]
async fn data_survives_a_stop_and_the_port_is_the_same() {
    let mut bench = Bench::new();
    bench.options.durability = Durability::Full;
    let first = bench.ensure().await;
    let connected = Connected::to(&first.url).await;
    assert_eq!(connected.text("SHOW fsync").await, "on");
    connected.client.batch_execute("CREATE TABLE kept AS SELECT 'here' AS word").await.unwrap();
    first.stop("a test").await;
    let again = bench.ensure().await;
    assert!(again.started_here);
    assert_eq!(again.url, first.url);
    assert_eq!(Connected::to(&again.url).await.text("SELECT word FROM kept").await, "here");
    again.stop("end of the test").await;
}

#[tokio::test]
async fn only_loopback_and_only_the_password_lead_in() {
    let bench = Bench::new();
    let postgres = bench.ensure().await;
    let wrong = postgres.url.expose().replacen(':', "://", 1).replace("://://", "://");
    let (before, after) = wrong.split_once('@').unwrap();
    let wrong = Secret::new(format!("{}@{after}", before.rsplit_once(':').unwrap().0));
    assert!(Connected::try_to(&wrong).await.is_err(), "it let somebody in without password");
    let other = Secret::new(format!("{}:wrong@{after}", before.rsplit_once(':').unwrap().0));
    assert!(Connected::try_to(&other).await.is_err(), "it let somebody in with a wrong password");
    assert!(TcpStream::connect(("127.0.0.1", postgres.port)).is_ok());
    assert!(TcpStream::connect(("127.0.0.2", postgres.port)).is_err());
    let endpoint = fs::metadata(endpoint_file(&bench.options.state_dir)).unwrap();
    assert_eq!(endpoint.permissions().mode() & 0o777, 0o600);
    let text = fs::read_to_string(endpoint_file(&bench.options.state_dir)).unwrap();
    assert!(text.contains(postgres.url.expose()));
    let password = fs::metadata(postgres.data_dir.join("opentiger.password")).unwrap();
    assert_eq!(password.permissions().mode() & 0o777, 0o600);
    let place = fs::metadata(bench.postgres_dir()).unwrap();
    assert_eq!(place.permissions().mode() & 0o066, 0);
    let data = fs::metadata(&postgres.data_dir).unwrap();
    assert_eq!(data.permissions().mode() & 0o777, 0o700);
    assert_eq!((password.uid(), password.gid()), (data.uid(), data.gid()));
    let me = rustix::process::geteuid().as_raw();
    assert!(data.uid() != 0 && (me == 0 || data.uid() == me), "it runs as user {}", data.uid());
    postgres.stop("end of the test").await;
}

#[tokio::test]
async fn an_interrupted_first_start_does_not_count() {
    let bench = Bench::new();
    for unfinished in ["data.init", "data.init-x7"] {
        let unfinished = bench.postgres_dir().join(unfinished);
        fs::create_dir_all(&unfinished).unwrap();
        fs::write(unfinished.join("PG_VERSION"), "15\n").unwrap();
    }
    for password in ["data.password", "data.new"] {
        fs::write(bench.postgres_dir().join(password), "junk").unwrap();
    }
    let postgres = bench.ensure().await;
    Connected::to(&postgres.url).await;
    assert!(!bench.has_leftovers());
    postgres.stop("end of the test").await;
}

#[tokio::test]
async fn a_starter_that_is_killed_at_any_time_is_followed_by_one_that_works() {
    let bench = Bench::new();
    let mut interrupted = 0;
    for step in 0..8 {
        let mut user = bench.user(bench.options.lease);
        let jitter = rand::random_range(0..80);
        let life = std::time::Duration::from_millis(step * 80 + jitter);
        // Killed when this time has passed, or when it is ready before.
        tokio::time::timeout(life, user.url()).await.ok();
        drop(user);
        interrupted += u32::from(bench.has_leftovers());
    }
    assert!(interrupted > 0, "no kill met the first start");
    let postgres = bench.ensure().await;
    Connected::to(&postgres.url).await;
    assert!(!bench.has_leftovers());
    postgres.stop("end of the test").await;
}
