//! The program as its users start and stop it.

mod browser;
mod fuzzing;
mod processes;
mod program;
mod settings;

use std::time::Duration;

use client::address::AddressFile;
use embedded::{options::EmbeddedOptions, postgres::ensure_postgres, redis::ensure_redis};
use launcher::process::ProcessLauncher;
use rustix::process::Signal;
use testing::{database::TestDatabase, programs::search_path};

use crate::program::{Program, reachable_directory};

#[test]
fn faults_of_the_environment_are_one_report_and_exit_code_2() {
    for arguments in [vec![], vec!["--check-config"]] {
        let variables = [("CANCEL_GRACE_S", "soon"), ("OPENTIGER_API_LISTEN", "0.0.0.0:1")];
        let mut program = Program::start(&arguments, &variables);
        assert_eq!(program.exit_code(), Some(2));
        let said = program.errors();
        assert!(said.contains("2 settings cannot be used"), "{said}");
        assert!(said.contains("`soon` is not an integer"), "{said}");
    }
    let mut program = Program::start(&["--check-config"], &[("OPENTIGER_LOG", "a=b=c")]);
    assert_eq!(program.exit_code(), Some(2));
}

#[test]
fn without_a_database_and_without_a_private_one_it_ends_with_exit_code_2_and_what_to_set() {
    let mut program = Program::start(&[], &[("OPENTIGER_EMBEDDED", "never")]);
    assert_eq!(program.exit_code(), Some(2));
    let said = program.errors();
    assert!(said.contains("no database is configured"), "{said}");
    assert!(said.contains("set `DATABASE_URL`, or `OPENTIGER_EMBEDDED` to `auto`"), "{said}");
}

#[test]
fn an_address_that_others_reach_needs_a_key_and_is_refused_with_the_report() {
    let open = ("OPENTIGER_API_LISTEN", "0.0.0.0:0");
    let both = [open, ("API_KEYS", " , "), ("CANCEL_GRACE_S", "soon")];
    for arguments in [vec![], vec!["--check-config"]] {
        let mut program = Program::start(&arguments, &both);
        assert_eq!(program.exit_code(), Some(2));
        let said = program.errors();
        assert!(said.contains("2 settings cannot be used"), "{said}");
        assert!(said.contains("neither `API_KEYS` nor `API_SECRET` is set"), "{said}");
    }
    let short = [open, ("API_SECRET", "hunter2")];
    let mut program = Program::start(&[], &short);
    assert_eq!(program.exit_code(), Some(2));
    let said = program.errors();
    assert!(said.contains("API_SECRET") && !said.contains("hunter2"), "{said}");
}

#[tokio::test]
async fn with_a_key_it_listens_on_any_address_and_refuses_whoever_has_none() {
    let database = TestDatabase::new().await;
    // Not taken for the loopback by its number, and still reached from this machine alone.
    let variables = [
        ("DATABASE_URL", database.url.expose()),
        ("OPENTIGER_API_LISTEN", "[::ffff:127.0.0.1]:0"),
        ("API_KEYS", "hunter2-hunter2-0001,,hunter2-hunter2-0002"),
    ];
    let mut program = Program::start(&[], &variables);
    let address = program.address();
    let get = |headers: &str| program::get_with(&address, "/config", headers);
    let refused = get("");
    assert!(refused.starts_with("HTTP/1.1 401"), "{refused}");
    assert!(refused.contains("www-authenticate: Bearer"), "{refused}");
    assert!(get("x-api-key: hunter2-hunter2-0003\r\n").starts_with("HTTP/1.1 401"));
    for key in ["0001", "0002"] {
        let answer = get(&format!("x-api-key: hunter2-hunter2-{key}\r\n"));
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(!answer.contains("hunter2"), "{answer}");
    }
    assert!(program::get(&address, "/health").starts_with("HTTP/1.1 200"));
    program.signal(Signal::TERM);
    assert_eq!(program.exit_code(), Some(0));
    let said = program.errors();
    assert!(said.contains("request refused") && !said.contains("hunter2"), "{said}");
}

#[test]
fn a_fit_environment_passes_the_check_and_starts_nothing() {
    let mut program = Program::start(&["--check-config"], &[]);
    assert_eq!(program.exit_code(), Some(0));
    assert!(program.output().contains("can be used"));
}

#[test]
fn a_database_that_is_down_is_an_error_and_is_not_replaced() {
    let variables = [("DATABASE_URL", "postgres://me:hunter2@127.0.0.1:1/none")];
    let mut program = Program::start(&[], &variables);
    assert_eq!(program.exit_code(), Some(1));
    let said = program.errors();
    assert!(said.contains("connect to the database") && said.contains("hint: "), "{said}");
    assert!(!said.contains("hunter2"), "{said}");
}

#[test]
fn a_database_that_says_nothing_is_given_up_with_a_clear_text() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("the loopback takes a listener");
    let port = silent.local_addr().expect("it is bound").port();
    let url = format!("postgres://me:hunter2@127.0.0.1:{port}/none");
    let mut program = Program::start(&[], &[("DATABASE_URL", &url)]);
    assert_eq!(program.exit_code(), Some(1));
    let said = program.errors();
    assert!(said.contains("did not answer within") && said.contains("hint: "), "{said}");
    assert!(!said.contains("hunter2"), "{said}");
}

#[tokio::test]
async fn others_of_its_user_cannot_read_its_environment() {
    let database = TestDatabase::new().await;
    let variables = [("DATABASE_URL", database.url.expose())];
    let mut program = Program::start_unprivileged(&variables);
    program.address();
    let (code, text) = program.environment_as_its_user();
    assert_ne!(code, Some(0));
    assert!(text.contains("Permission denied"), "{text}");
}

#[tokio::test]
async fn it_says_where_it_listens_serves_and_stops_at_a_signal() {
    let database = TestDatabase::new().await;
    let mut program = Program::start(&[], &[("DATABASE_URL", database.url.expose())]);
    let address = program.address();
    let answer = program::get(&address, "/health");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    program.signal(Signal::TERM);
    assert_eq!(program.exit_code(), Some(0));
    assert_eq!(program.output(), "", "one line and no more goes to standard output");
    assert!(program.errors().contains("stopped gracefully"));
}

#[tokio::test]
async fn the_state_directory_says_where_it_listens_while_it_does() {
    let database = TestDatabase::new().await;
    let state = reachable_directory();
    let place = state.path().to_str().expect("the path is text");
    let variables = [("DATABASE_URL", database.url.expose()), ("OPENTIGER_STATE_DIR", place)];
    let mut program = Program::start(&[], &variables);
    let address = program.address();
    let file = AddressFile::read(state.path()).unwrap().expect("it is there");
    assert_eq!(file.address.to_string(), address);
    program.signal(Signal::TERM);
    assert_eq!(program.exit_code(), Some(0));
    assert_eq!(AddressFile::read(state.path()).unwrap(), None);
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let database = TestDatabase::new().await;
    let mut program = Program::start(&[], &[("DATABASE_URL", database.url.expose())]);
    // A request whose body never comes holds up the graceful stop.
    let held = program::half_a_request(&program.address());
    program.signal(Signal::INT);
    program.wait_for_error("asked to stop");
    program.signal(Signal::INT);
    assert_eq!(program.exit_code(), Some(3));
    drop(held);
}

#[tokio::test]
async fn what_was_posted_is_there_after_a_kill() {
    let database = TestDatabase::new().await;
    let repository = testing::repository::ScratchRepository::with_one_commit();
    let variables = [("DATABASE_URL", database.url.expose())];
    let mut program = Program::start(&[], &variables);
    let path = repository.path().to_str().expect("the path is text");
    let task = serde_json::json!({
        "title": "t", "goal": "g", "repository": { "mode": "local", "path": path },
    });
    let made = program::post(&program.address(), "/tasks", &task.to_string());
    assert!(made.starts_with("HTTP/1.1 201"), "{made}");
    let location = made.lines().find_map(|line| line.strip_prefix("location: ")).unwrap();
    program.signal(Signal::KILL);
    assert_eq!(program.exit_code(), None);

    let mut again = Program::start(&[], &variables);
    let shown = program::get(&again.address(), location);
    assert!(shown.starts_with("HTTP/1.1 200"), "{shown}");
}

#[tokio::test]
async fn with_nothing_configured_it_starts_a_private_database_and_leaves_it_to_others() {
    let state = reachable_directory();
    let path = state.path().join("state");
    let place = [("OPENTIGER_STATE_DIR", path.to_str().expect("the path is text"))];
    let mut program = Program::start(&[], &place);
    let answer = program::get(&program.address(), "/tasks");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    program.signal(Signal::TERM);
    assert_eq!(program.exit_code(), Some(0));

    let launcher = ProcessLauncher::new(path.clone()).unwrap();
    let options = EmbeddedOptions::new(path, search_path(), launcher);
    let found = tokio::time::timeout(Duration::from_secs(30), ensure_postgres(options.clone()));
    let postgres = found.await.expect("it answers in time").unwrap();
    assert!(!postgres.started_here, "the one that the program started runs on");
    let redis = ensure_redis(options).await.unwrap();
    assert!(!redis.started_here, "the one that the program started runs on");
    redis.stop("the test is over").await;
    postgres.stop("the test is over").await;
}
