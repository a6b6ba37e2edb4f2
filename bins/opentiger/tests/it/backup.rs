//! From one database to another: what was done is done, what was waiting goes on, and nothing is there twice.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;
use testing::{database::TestDatabase, wait::wait_for};

use crate::world::{DEADLINE, World};

async fn add(world: &World, title: &str, goal: &str) -> String {
    world.call(&["task", "add", title, "--goal", goal]).await.done().line().to_owned()
}

async fn task(world: &World, id: &str) -> Value {
    world.call(&["task", "show", id, "--json"]).await.done().json()
}

/// Waits until the task has this many runs and stands like this.
async fn until(world: &World, id: &str, status: &str, runs: usize) -> Value {
    wait_for("the task to come so far", DEADLINE, async || {
        let task = task(world, id).await;
        let found = task["runs"].as_array().map_or(0, Vec::len);
        if task["status"] == status && found == runs { Ok(task) } else { Err(task.to_string()) }
    })
    .await
}

#[tokio::test]
async fn a_queue_goes_on_in_another_database_from_the_moment_of_its_backup() {
    let mut world = World::new().await;
    world.up().await;
    let done = add(&world, "done", "[fake: ok] [file: one]").await;
    until(&world, &done, "done", 1).await;
    let alive = add(&world, "alive", "[fake: slow] [seconds: 3000]").await;
    until(&world, &alive, "running", 1).await;
    let waiting = add(&world, "waiting", "[fake: ok] [file: two]").await;
    let file = world.state.path().join("a.backup");
    let file = file.to_string_lossy().into_owned();
    let saved = world.call(&["backup", &file, "--json"]).await.done().json();
    assert!(saved["bytes"]["tasks"].as_u64().is_some_and(|bytes| bytes > 0), "{saved}");
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // Nobody fills a database that may be in use.
    let refused = world.call(&["restore", &file]).await.with_code(6);
    assert!(refused.err.contains("runs"), "{}", refused.err);
    world.call(&["down"]).await.done();
    let refused = world.call(&["restore", &file]).await.with_code(6);
    assert!(refused.err.contains("in use"), "{}", refused.err);

    let other = TestDatabase::unmigrated().await;
    world.set("DATABASE_URL", other.url.expose());
    world.set("WORKER_COUNT", "2");
    let restored = world.call(&["restore", &file, "--json"]).await.done().json();
    assert_eq!(restored["bytes"], saved["bytes"]);
    world.up().await;
    until(&world, &waiting, "done", 1).await;
    let again = until(&world, &alive, "running", 2).await;
    let outcomes: Vec<&Value> =
        again["runs"].as_array().unwrap().iter().map(|run| &run["outcome"]).collect();
    assert!(outcomes.contains(&&Value::from("worker_lost")), "{again}");
    assert_eq!(task(&world, &done).await["runs"].as_array().map(Vec::len), Some(1));
    let listed = world.call(&["task", "list", "--all", "--json"]).await.done().json();
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(3), "{listed}");
    world.call(&["down"]).await.done();
}

#[tokio::test]
async fn a_backup_that_cannot_be_made_leaves_the_last_one() {
    let mut world = World::new().await;
    let file = world.state.path().join("a.backup");
    std::fs::write(&file, "the last one").unwrap();
    world.set("DATABASE_URL", "postgres://nobody:wrong@127.0.0.1:1/nothing");
    let said = world.call(&["backup", &file.to_string_lossy()]).await.with_code(1);
    assert!(said.err.contains("connect to the database"), "{}", said.err);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "the last one");
    let said = world.call(&["restore", "/no/such/file"]).await.with_code(1);
    assert!(said.err.contains("/no/such/file"), "{}", said.err);
}
