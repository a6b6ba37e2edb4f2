//! From a queued task to a commit, and what ends it on the way.

use std::{collections::BTreeSet, fs};

use serde_json::json;
use testing::{database::TestDatabase, wait::wait_for};

use super::support::{KEY, Setup, docker};
use crate::system::{DEADLINE, Part, text_at};

fn password(url: &str) -> String {
    let (_, rest) = url.split_once("://").expect("it is an address");
    let (login, _) = rest.rsplit_once('@').expect("it has a login");
    login.split_once(':').expect("the login has a password").1.to_owned()
}

/// How long a run's token is, in hexadecimal digits.
const TOKEN: usize = 32;

/// No secret of a run is in what anybody may read. Of its token the database knows the hash alone, so whatever could be it
/// is asked for there.
async fn holds_no_secret(text: &str, secrets: &[String], database: &TestDatabase) {
    for secret in secrets {
        assert!(!text.contains(secret), "`{secret}` is in {text}");
    }
    let words = text.split(|letter: char| !letter.is_ascii_hexdigit());
    let words = words.filter_map(|word| word.len().checked_sub(TOKEN).map(|last| (word, last)));
    let tokens: BTreeSet<&str> = words
        .flat_map(|(word, last)| (0..=last).filter_map(|at| word.get(at..at + TOKEN)))
        .collect();
    assert!(!tokens.is_empty(), "ids are such words too: {text}");
    let tokens: Vec<String> = tokens.iter().map(|token| format!("'{token}'")).collect();
    let found = format!(
        "DO $$ BEGIN
             ASSERT (SELECT count(token_hash) FROM runs) = 1, 'the run has a token';
             ASSERT NOT EXISTS (SELECT FROM runs r, unnest(ARRAY[{}]) t WHERE r.token_hash = sha256(convert_to(t, 'UTF8'))),
                 'the token of a run was found';
         END $$",
        tokens.join(", ")
    );
    database.run(&found).await;
}

#[tokio::test]
async fn a_task_in_a_container_becomes_a_commit_and_leaves_nothing() {
    let it = Setup::new().with("OPENTIGER_LOG", "debug").start().await;
    let before = it.system.repository.fingerprint();
    let task = it.queue().await;
    let (run, container) = it.alone_at_gate(&task, 1).await;

    let inspected = docker(&["inspect", &container]).expect("it is there");
    let database = it.system.database.as_ref().expect("it runs on a test database");
    let login = database.store.ensure_sandbox_login().await.expect("there is one");
    let own = login.password.expose().to_owned();
    let owners = password(database.url.expose());
    let secrets = [KEY.to_owned(), own, format!(":{owners}@")];
    assert!(!inspected.contains(&owners), "it is in {inspected}");
    holds_no_secret(&inspected, &secrets, database).await;
    let environment = |of: &str| docker(&["inspect", "--format", "{{json .Config.Env}}", of]);
    let image = testing::engine::worker_image();
    assert_eq!(environment(&container), environment(&image), "all else is in its input");

    it.open_gate(&run);
    it.wait_done(&task, &["succeeded"]).await;
    it.wait_clean().await;
    assert_eq!(it.system.repository.fingerprint(), before, "work tree and branches are untouched");
    for program in ["dispatcher", "api-server"] {
        let log = it.system.state.path().join(format!("{program}.log"));
        let log = fs::read_to_string(log).expect("it has a log");
        assert!(program != "dispatcher" || log.contains(&run), "it tells of the run: {log}");
        holds_no_secret(&format!("{container} {log}"), &secrets, database).await;
    }
}

#[tokio::test]
async fn a_dispatcher_that_takes_over_has_the_same_container_finish() {
    let mut it = Setup::new().start().await;
    let task = it.queue().await;
    let (run, container) = it.alone_at_gate(&task, 1).await;
    // What says that it may use the relay is lost with the dispatcher.
    it.system.kill(Part::Dispatcher);
    let entry = it.system.state.path().join("sandbox/relay").join(&it.network.name);
    let entry = entry.join(format!("{run}.sandbox"));
    let before = fs::read_to_string(&entry).expect("the container was let in");
    fs::remove_file(&entry).expect("it is there");
    it.system.spawn(Part::Dispatcher);
    it.system.wait_log(Part::Dispatcher, "sandbox found again").await;
    assert_eq!(it.alone_at_gate(&task, 1).await, (run.clone(), container));
    wait_for("the container to be let in again", DEADLINE, async || {
        let now = fs::read_to_string(&entry);
        if now.as_ref().is_ok_and(|now| *now == before) { Ok(()) } else { Err(format!("{now:?}")) }
    })
    .await;
    // A database that starts again ends every session; the worker comes back through the relay.
    let database = it.system.database.as_ref().expect("it runs on a test database");
    database
        .run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND usename LIKE 'opentiger_sandbox_%'")
        .await;
    it.open_gate(&run);
    it.wait_done(&task, &["succeeded"]).await;
    it.wait_clean_after_a_death().await;
}

#[tokio::test]
async fn a_killed_container_has_its_task_run_again() {
    let it = Setup::new().start().await;
    let task = it.queue().await;
    let (_, container) = it.alone_at_gate(&task, 1).await;
    docker(&["kill", &container]).expect("it runs");
    let second = it.at_gate(&task, 2).await;
    it.open_gate(&second);
    it.wait_done(&task, &["interrupted", "succeeded"]).await;
    it.wait_clean().await;
}

#[tokio::test]
async fn a_cancelled_task_has_its_container_ended_and_leaves_no_branch() {
    let it = Setup::new().start().await;
    let task = it.queue().await;
    it.at_gate(&task, 1).await;
    let path = format!("/tasks/{task}/cancel");
    let (status, answer) = it.system.http.post(&path, &json!({})).await.expect("it answers");
    assert!(status == 200 || status == 202, "{status} {answer}");
    it.system.wait_status(&task, "cancelled").await;
    it.wait_clean().await;
    let runs = it.system.runs(&task).await;
    let seen: Vec<String> = runs.iter().map(|run| text_at(run, "/outcome")).collect();
    assert_eq!(seen, ["cancelled"], "{}", it.system.logs());
    assert_eq!(it.system.repository.git(&["branch", "--list", "opentiger/*"]), "");
}
