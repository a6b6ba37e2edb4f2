//! What `gc` takes from the disk, and what it leaves.

use std::{
    fs,
    os::unix::net::UnixListener,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use core_types::ids::RunId;
use serde_json::{Value, json};
use testing::wait::wait_for;

use crate::world::{DEADLINE, World};

/// The mirror of a repository, used so many days ago, with one result as old as `result` days.
fn mirror(world: &World, key: char, used: u32, result: u32) -> PathBuf {
    let directory = world.state_dir().join("mirrors").join(String::from(key).repeat(32));
    let results = directory.join("repo.git/refs/opentiger/results");
    fs::create_dir_all(&results).expect("a directory can be made");
    fs::write(directory.join("url"), format!("https://example.org/{key}\n"))
        .expect("a file can be written");
    aged(&directory.join("url"), used);
    let result_file = results.join(RunId::generate().to_string());
    fs::write(&result_file, "x").expect("a file can be written");
    aged(&result_file, result);
    result_file
}

/// The runs whose results lie in these files, in order.
fn runs_of(files: &[&PathBuf]) -> Vec<String> {
    let name =
        |file: &&PathBuf| file.file_name().expect("it has a name").to_string_lossy().into_owned();
    let mut runs: Vec<String> = files.iter().map(name).collect();
    runs.sort();
    runs
}

/// The texts of a list, in order.
fn names(list: &Value) -> Vec<String> {
    let texts = list.as_array().into_iter().flatten().filter_map(Value::as_str);
    let mut names: Vec<String> = texts.map(ToOwned::to_owned).collect();
    names.sort();
    names
}

fn aged(path: &Path, days: u32) {
    let then = SystemTime::now() - Duration::from_secs(24 * 3600) * days;
    fs::File::options()
        .write(true)
        .open(path)
        .expect("it is there")
        .set_modified(then)
        .expect("a file can be written");
}

/// Starts the server without a dispatcher, which would sweep by itself.
async fn up_without_janitor(world: &mut World) {
    world.set("DISPATCHER_ENABLED", "false");
    // It is never ready without one, and answers all the same.
    world.call(&["up", "--timeout", "1s"]).await.with_code(1);
    wait_for("the server to answer", DEADLINE, async || {
        let said = world.call(&["config", "get", "--json"]).await;
        if said.code == Some(0) { Ok(()) } else { Err(format!("{said:?}")) }
    })
    .await;
}

#[tokio::test]
async fn what_nobody_uses_is_taken_and_the_rest_is_left() {
    let mut world = World::new().await;
    let state = world.state_dir();
    fs::create_dir_all(&state).unwrap();
    let (old, kept, forgotten) =
        (mirror(&world, 'a', 31, 31), mirror(&world, 'b', 29, 29), mirror(&world, 'c', 1, 31));
    let foreign = state.join("checkouts").join(RunId::generate().to_string());
    fs::create_dir_all(&foreign).unwrap();
    fs::create_dir_all(state.join("mirrors/ask-1")).unwrap();
    let (dead, alive) = (state.join("mirrors/ask-1/socket"), state.join("alive.socket"));
    drop(UnixListener::bind(&dead).unwrap());
    let _listening = UnixListener::bind(&alive).unwrap();

    up_without_janitor(&mut world).await;
    let gc = ["gc", "--older-than", "1s", "--json"];
    let planned = wait_for("the socket to be old enough", DEADLINE, async || {
        let planned = world.call(&[&gc[..], &["--dry-run"]].concat()).await.done().json();
        let found = planned["sockets"] != json!([]);
        if found { Ok(planned) } else { Err(planned.to_string()) }
    })
    .await;
    let done = world.call(&gc).await.done().json();
    for said in [&planned, &done] {
        assert_eq!(said["mirrors"], json!(["https://example.org/a"]), "{said}");
        assert_eq!(names(&said["results"]), runs_of(&[&old, &forgotten]), "{said}");
        assert_eq!(said["sockets"], json!([dead.to_string_lossy()]), "{said}");
        assert_eq!(said["checkouts"], json!([]), "{said}");
        assert!(said["freed_bytes"].as_u64() > Some(0), "{said}");
    }
    let there = |path: &PathBuf| path.try_exists().unwrap();
    assert!(!there(&old) && !there(&dead) && !there(&forgotten));
    assert!(there(&kept) && there(&alive) && there(&foreign), "it is nobody's to judge");
    world.call(&["config", "set", "MIRROR_KEEP_DAYS=0"]).await.done();
    aged(&state.join("mirrors").join("b".repeat(32)).join("url"), 3000);
    assert_eq!(world.call(&gc).await.done().json()["mirrors"], json!([]), "0 is for ever");
    world.call(&["down"]).await.done();
    let asleep = world.call(&["gc", "--older-than", "1s", "--dry-run"]).await.done();
    assert!(asleep.err.contains("mirrors are kept"), "{}", asleep.err);
    assert!(!asleep.out.contains("mirror"), "{}", asleep.out);
}

#[tokio::test]
async fn a_checkout_goes_when_the_server_knows_that_its_run_is_over() {
    let world = World::new().await;
    world.up().await;
    let goal = "[fake: nothing]";
    let args = ["task", "add", "t", "--goal", goal, "--max-attempts", "1", "--follow"];
    world.call(&args).await.with_code(10);
    let shown = world.call(&["task", "show", "@last", "--json"]).await.done().json();
    let run = shown["runs"][0]["id"].as_str().unwrap().to_owned();
    world.call(&["down"]).await.done();
    // As if its worker had been killed before it could tidy up.
    let left = world.state_dir().join("checkouts").join(&run);
    fs::create_dir_all(&left).unwrap();
    fs::write(left.join("file"), "x".repeat(10_000)).unwrap();
    let mut world = world;
    up_without_janitor(&mut world).await;
    let young = world.call(&["gc", "--older-than", "1h", "--json"]).await.done().json();
    assert_eq!(young["checkouts"], json!([]));
    let gone = world.call(&["gc", "--older-than", "1s", "--json"]).await.done().json();
    assert_eq!(gone["checkouts"], Value::from(vec![run]), "{gone}");
    assert!(!left.try_exists().unwrap());
    world.call(&["down"]).await.done();
}
