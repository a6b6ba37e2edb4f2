//! Starting, stopping, and everything that gets in the way of it.

use client::address::AddressFile;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use testing::wait::wait_for;

use crate::world::{DEADLINE, World};

/// The managed processes with their pids.
async fn processes(world: &World) -> Vec<(String, i64)> {
    let status = world.call(&["status", "--json"]).await.json();
    let items = status["processes"]["items"].as_array().cloned().unwrap_or_default();
    let pid = |item: &Value| Some((item["name"].as_str()?.to_owned(), item["pid"].as_i64()?));
    items.iter().filter_map(pid).collect()
}

async fn kill_server(world: &World) {
    let file = AddressFile::read(&world.state_dir()).expect("it can be read");
    let file = file.expect("the server runs");
    let pid = Pid::from_raw(file.pid).expect("it has a pid");
    kill_process(pid, Signal::KILL).expect("it is ours");
    wait_for("the launch to be over", DEADLINE, async || {
        let alive = world.alive().await;
        if alive.iter().any(|id| id.starts_with("api-server")) {
            Err(format!("{alive:?}"))
        } else {
            Ok(())
        }
    })
    .await;
}

/// Makes a task with this goal, and waits until its agent has started.
async fn started(world: &World, goal: &str) -> String {
    let added = world.call(&["task", "add", "long", "--goal", goal]).await.done();
    let id = added.line().to_owned();
    wait_for("the agent to start", DEADLINE, async || {
        let log = world.call(&["task", "logs", &id]).await;
        if log.out.contains("started") { Ok(()) } else { Err(log.out) }
    })
    .await;
    id
}

#[tokio::test]
async fn with_nothing_configured_it_starts_a_private_database_and_ends_with_nothing_left() {
    let world = World::without_database();
    let up = world.up().await;
    assert!(up.out.contains("private"), "{}", up.out);
    let again = world.call(&["up"]).await.done();
    assert!(again.out.contains("runs already"), "{}", again.out);
    let down = world.call(&["down"]).await.done();
    assert!(down.out.contains("ends by itself"), "{}", down.out);
    let left = world.alive().await;
    assert!(left.iter().all(|id| id.starts_with("embedded-")) && !left.is_empty(), "{left:?}");
    world.call(&["down", "--now"]).await.done();
    assert_eq!(world.alive().await, Vec::<String>::new());
    let said = world.call(&["status"]).await.with_code(3);
    assert!(said.err.contains("does not run"), "{}", said.err);
    world.call(&["down"]).await.done();
    // What it was told to end is started again, from the same data.
    world.up().await;
    world.call(&["down", "--now"]).await.done();
}

#[tokio::test]
async fn a_killed_server_is_started_again_and_takes_up_what_ran_on() {
    let world = World::new().await;
    world.up().await;
    let before = processes(&world).await;
    assert!(before.len() >= 2, "{before:?}");
    kill_server(&world).await;
    let said = world.call(&["status"]).await.with_code(3);
    assert!(said.err.contains("runs on") && said.err.contains("worker-1"), "{}", said.err);
    let status = world.call(&["status", "--json"]).await.with_code(3).json();
    assert_eq!((&status["running"], &status["ready"]), (&false.into(), &false.into()));
    world.up().await;
    assert_eq!(processes(&world).await, before, "the same processes, not started anew");
    world.call(&["down"]).await.done();
    assert_eq!(world.alive().await, Vec::<String>::new());
}

#[tokio::test]
async fn down_without_a_server_ends_what_runs_on() {
    let world = World::new().await;
    world.up().await;
    kill_server(&world).await;
    let down = world.call(&["down"]).await.done();
    assert!(down.out.contains("worker-1") && down.out.contains("dispatcher"), "{}", down.out);
    assert_eq!(world.alive().await, Vec::<String>::new());
}

#[tokio::test]
async fn two_who_start_it_at_once_start_one() {
    let world = World::new().await;
    let (one, other) = tokio::join!(world.up(), world.up());
    let servers = world.alive().await.into_iter().filter(|id| id.starts_with("api-server")).count();
    assert_eq!(servers, 1, "{one:?} {other:?}");
}

#[tokio::test]
async fn a_run_that_is_under_way_is_interrupted_by_down_and_not_lost() {
    let world = World::new().await;
    world.up().await;
    let id = started(&world, "[fake: ignore-term]").await;
    world.call(&["down"]).await.done();
    assert_eq!(world.alive().await, Vec::<String>::new());
    world.up().await;
    let task = world.call(&["task", "show", &id, "--json"]).await.done().json();
    let runs = task["runs"].as_array().cloned().unwrap_or_default();
    let first = runs.iter().find(|run| run["number"] == 1).expect("it had a run");
    assert_eq!(first["outcome"], "interrupted", "{task}");
    assert_eq!(task["attempts"], 0, "{task}");
}

#[tokio::test]
async fn what_does_not_end_in_time_is_ended_by_force_and_told() {
    let mut world = World::new().await;
    // The agent hears nothing, so its worker waits for it, longer than anybody waits for the worker.
    world.set("CANCEL_GRACE_S", "120");
    world.up().await;
    let id = started(&world, "[fake: ignore-term]").await;
    let down = world.call(&["down", "--grace", "2s"]).await.done();
    assert!(down.err.contains("late after 2") && down.err.contains("worker-1"), "{}", down.err);
    assert!(down.out.contains("ended by force: worker-1"), "{}", down.out);
    let stopped = down.out.lines().find(|line| line.starts_with("stopped")).unwrap_or_default();
    assert!(stopped.contains("dispatcher") && !stopped.contains("worker-1"), "{}", down.out);
    assert_eq!(world.alive().await, Vec::<String>::new());
    // The next start is none the worse for it, and takes back the run.
    world.up().await;
    wait_for("the run to be taken back", DEADLINE, async || {
        let task = world.call(&["task", "show", &id, "--json"]).await.done().json();
        let runs = task["runs"].as_array().cloned().unwrap_or_default();
        let first = runs.iter().find(|run| run["number"] == 1).cloned().unwrap_or_default();
        if first["status"] == "ended" { Ok(()) } else { Err(first.to_string()) }
    })
    .await;
    world.call(&["task", "cancel", &id]).await.done();
}

#[tokio::test]
async fn gc_removes_what_ended_and_nothing_that_runs() {
    let world = World::new().await;
    world.up().await;
    let done = world
        .call(&["task", "add", "t", "--goal", "[fake: nothing]", "--max-attempts", "1", "-f"])
        .await;
    assert_eq!(done.code, Some(10), "{done:?}");
    kill_server(&world).await;
    world.up().await;
    let running = world.alive().await;
    let server = Value::from("api-server-1");
    let dry = ["gc", "--older-than", "1s", "--dry-run", "--json"];
    let planned = wait_for("the killed server to be old enough", DEADLINE, async || {
        let planned = world.call(&dry).await.done().json();
        let launches = planned["launches"].as_array().cloned().unwrap_or_default();
        if launches.contains(&server) { Ok(planned) } else { Err(planned.to_string()) }
    })
    .await;
    let gone = world.call(&["gc", "--older-than", "1s", "--json"]).await.done().json();
    assert!(planned["freed_bytes"].as_u64() > Some(0), "{planned}");
    let launches = gone["launches"].as_array().cloned().unwrap_or_default();
    assert!(launches.contains(&server), "{gone}");
    assert!(gone["freed_bytes"].as_u64() > Some(0), "{gone}");
    assert_eq!(world.alive().await, running);
    world.call(&["status"]).await.done();

    let planned = world.call(&["gc", "--records", "0", "--dry-run", "--json"]).await.done().json();
    assert_eq!(planned["records"]["tasks"], 1, "{planned}");
    let gone = world.call(&["gc", "--records", "0"]).await.done();
    assert!(gone.out.contains("removed 1 tasks of the database"), "{}", gone.out);
    assert_eq!(world.call(&["task", "list"]).await.done().line(), "no tasks");
}

#[tokio::test]
async fn a_database_that_is_down_is_the_error_and_nothing_runs_after_it() {
    let mut world = World::without_database();
    world.set("DATABASE_URL", "postgres://me:hunter2@127.0.0.1:1/none");
    let said = world.call(&["up"]).await.with_code(1);
    assert!(
        said.err.contains("connect to the database") && said.err.contains("hint: "),
        "{}",
        said.err
    );
    assert!(!said.err.contains("hunter2") && !said.out.contains("ready"), "{said:?}");
    assert_eq!(world.alive().await, Vec::<String>::new());
    world.call(&["status"]).await.with_code(3);
}

#[tokio::test]
async fn a_server_that_something_else_started_is_left_to_it() {
    let world = World::new().await;
    let program = testing::programs::built_program("api-server", "api-server");
    let mut command = world.command(&program.to_string_lossy(), world.state.path());
    command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    let mut child = command.spawn().expect("the program is built");
    wait_for("the server to listen", DEADLINE, async || {
        match AddressFile::read(&world.state_dir()) {
            Ok(Some(_)) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    let said = world.call(&["down"]).await.with_code(6);
    assert!(said.err.contains("not started by `opentiger up`"), "{}", said.err);
    assert_eq!(child.try_wait().unwrap(), None, "it runs on");
    child.kill().await.unwrap();
}
