//! Log lines for programs: each one JSON, and those about a run with its ids.

use client::address::AddressFile;
use serde_json::Value;
use testing::wait::wait_for;

use crate::world::{DEADLINE, World};

/// The lines that a process wrote to standard error.
async fn lines(world: &World, process: &str) -> Vec<Value> {
    let file = AddressFile::read(&world.state_dir()).expect("it can be read");
    let address = file.expect("the server runs").address;
    let url = format!("http://{address}/system/processes/{process}/log?lines=2000");
    let mut curl = world.command("curl", world.repository.path());
    let output = curl.args(["--silent", "--fail", &url]).output().await.expect("curl is there");
    let log: Value = serde_json::from_slice(&output.stdout).expect("the answer is JSON");
    let lines = log["lines"].as_array().cloned().unwrap_or_default();
    let text = |line: &Value| line.as_str().map(ToOwned::to_owned);
    let parse = |line: String| serde_json::from_str(&line);
    let parsed: Result<Vec<Value>, _> = lines.iter().filter_map(text).map(parse).collect();
    assert!(parsed.is_ok(), "a line is no JSON: {log}");
    parsed.unwrap_or_default()
}

#[tokio::test]
async fn logs_as_json_carry_the_ids_of_run_and_task() {
    let mut world = World::new().await;
    world.set("OPENTIGER_LOG_FORMAT", "json");
    world.up().await;
    let args = ["task", "add", "t", "--goal", "[fake: ok] secret-goal", "-f"];
    let added = world.call(&args).await.done();
    let task = added.err.lines().next().unwrap_or_default().to_owned();
    let about_run = |line: &Value| {
        let span = &line["span"];
        span["task.id"] == task.as_str() && span["run.id"].is_string()
    };
    wait_for("a line about the run", DEADLINE, async || {
        let lines = lines(&world, "worker-1").await;
        if lines.iter().any(about_run) { Ok(()) } else { Err(format!("{lines:?}")) }
    })
    .await;
    for process in ["worker-1", "dispatcher"] {
        let lines = lines(&world, process).await;
        assert!(!lines.is_empty(), "{process} wrote nothing");
        for line in lines {
            assert!(line["level"].is_string() && line["timestamp"].is_string(), "{line}");
            assert!(!line.to_string().contains("secret-goal"), "{line}");
        }
    }
    world.call(&["down"]).await.done();
}
