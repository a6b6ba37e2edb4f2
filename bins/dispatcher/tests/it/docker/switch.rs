//! The setting changes between host and sandbox while tasks run and wait.

use serde_json::json;
use testing::wait::wait_for;

use super::support::{Sandboxed, Setup};
use crate::system::text_at;

/// Long enough for a relay that nobody renews any more to end, on a machine that has much else to do.
const RELAYS_GONE: std::time::Duration = std::time::Duration::from_secs(90);

async fn switch(it: &Sandboxed, environment: &str) {
    let body = json!({ "updates": { "EXECUTION_ENVIRONMENT": environment } });
    let (status, answer) = it.system.http.patch("/config", &body).await.expect("it answers");
    assert_eq!(status, 200, "{answer}");
}

/// Where the only run of a task was or is.
async fn place(it: &Sandboxed, task: &str) -> &'static str {
    let runs = it.system.runs(task).await;
    assert_eq!(runs.len(), 1, "{runs:?}");
    if runs.first().is_some_and(|run| text_at(run, "/agent").is_empty()) {
        "sandbox"
    } else {
        "host"
    }
}

#[tokio::test]
async fn the_setting_changes_both_ways_and_no_task_is_lost_or_done_twice() {
    let it = Setup::new()
        .without("EXECUTION_ENVIRONMENT")
        .with("WORKER_COUNT", "3")
        .with("MAX_CONCURRENT_WORKERS", "4")
        .start()
        .await;
    it.system.wait_ready(200).await;
    let mut tasks = Vec::new();
    for _ in 0..7 {
        tasks.push(it.queue().await);
    }
    let [first, second, third, fourth, fifth, sixth, seventh] = tasks.as_slice() else {
        panic!("seven are queued")
    };

    let on_host = it.at_gate(first, 1).await;
    switch(&it, "sandbox").await;
    // With the one on the host they are as many as there may be.
    let inside = [it.at_gate(second, 1).await, it.at_gate(third, 1).await];
    switch(&it, "host").await;
    it.open_gate(&on_host);
    it.wait_done(first, &["succeeded"]).await;
    let on_host = it.at_gate(fourth, 1).await;
    let containers = it.network.containers();
    assert_eq!(containers.len(), 2, "those at work stay where they are: {}", it.system.logs());
    for run in &inside {
        it.open_gate(run);
    }
    it.wait_done(second, &["succeeded"]).await;
    it.wait_done(third, &["succeeded"]).await;

    switch(&it, "sandbox").await;
    let inside = [it.at_gate(fifth, 1).await, it.at_gate(sixth, 1).await];
    // The host's agent goes on with what it has and gets nothing more.
    it.open_gate(&on_host);
    it.wait_done(fourth, &["succeeded"]).await;
    let last = it.at_gate(seventh, 1).await;
    switch(&it, "host").await;
    for run in inside.iter().chain([&last]) {
        it.open_gate(run);
    }
    for task in [fifth, sixth, seventh] {
        it.wait_done(task, &["succeeded"]).await;
    }
    let mut places = Vec::new();
    for task in &tasks {
        places.push(place(&it, task).await);
    }
    let expected = ["host", "sandbox", "sandbox", "host", "sandbox", "sandbox", "sandbox"];
    assert_eq!(places, expected);
    it.wait_clean().await;

    // Nobody needs a relay any more.
    wait_for("the relays to end", RELAYS_GONE, async || {
        let relays = relays_of(it.system.state.path());
        if relays.is_empty() { Ok(()) } else { Err(format!("{relays:?}\n{}", it.system.logs())) }
    })
    .await;
}

/// The processes that relay for a system.
fn relays_of(state: &std::path::Path) -> Vec<String> {
    let state = state.display().to_string();
    let entries = std::fs::read_dir("/proc").expect("there is a /proc").flatten();
    let command = |entry: std::fs::DirEntry| std::fs::read(entry.path().join("cmdline")).ok();
    let commands = entries.filter_map(command);
    let commands = commands.map(|bytes| String::from_utf8_lossy(&bytes).replace('\0', " "));
    commands.filter(|line| line.contains(" relay --listen") && line.contains(&state)).collect()
}
