//! `kill -9` of the dispatcher at every step between a claim and a worker at work.

use std::fs;

use serde_json::json;
use testing::{
    engine::shared_host,
    git_server::{Behaviour, GitServer},
    repository::ScratchRepository,
    wait::wait_for,
};

use super::{
    door::{Door, Hold},
    support::{Sandboxed, Setup, files_below},
};
use crate::system::{DEADLINE, text_at};

const TOKEN: &str = "t0ken-that-nobody-may-see";

async fn with_server() -> (Sandboxed, GitServer, Door) {
    let (server, door) = (GitServer::start().await, Door::before(&shared_host()));
    server.add("project", &ScratchRepository::with_one_commit());
    server.require_login("me", TOKEN);
    let it = Setup::new()
        .with("DOCKER_HOST", door.host())
        .with("GIT_CA_FILE", server.ca_file().to_string_lossy())
        .with("GIT_TOKENS", format!("{}=me:{TOKEN}", server.authority()))
        .start()
        .await;
    (it, server, door)
}

async fn queue(it: &Sandboxed, server: &GitServer) -> String {
    let repository = json!({ "mode": "git", "url": server.url("project") });
    let goal = "[script: demo] [file: HELLO.md] write the greeting";
    it.system.queue(goal, json!({ "repository": repository })).await
}

/// The task was done once, by one run, and one branch was pushed.
async fn done_once(it: &Sandboxed, server: &GitServer, task: &str) {
    let done = it.system.wait_status(task, "done").await;
    let runs = it.system.runs(task).await;
    let seen: Vec<String> = runs.iter().map(|run| text_at(run, "/outcome")).collect();
    assert_eq!(seen, ["succeeded"], "{runs:?}\n{}", it.system.logs());
    let pattern = format!("opentiger/{task}-*");
    let branches = ["branch", "--list", "--format=%(refname:short)", &pattern];
    assert_eq!(server.git("project", &branches), format!("{}\n", text_at(&done, "/branch")));
    it.wait_clean_after_a_death().await;
}

#[tokio::test]
async fn a_dispatcher_killed_at_any_step_has_its_task_done_once() {
    let (mut it, server, door) = with_server().await;
    // While the checkout is being prepared.
    server.behave(Behaviour::StallFetch(200));
    let task = queue(&it, &server).await;
    let mirrors = it.system.state.path().join("mirrors");
    wait_for("the fetch to begin", DEADLINE, async || {
        let begun = files_below(&mirrors);
        let begun = begun.iter().any(|path| path.to_string_lossy().contains("/incoming-"));
        if begun { Ok(()) } else { Err(it.system.logs()) }
    })
    .await;
    server.behave(Behaviour::Serve);
    it.replace_dispatcher();
    done_once(&it, &server, &task).await;

    for hold in [
        // The container is there, and nobody was told.
        Hold::After("/containers/create"),
        // It was never started.
        Hold::Before("/start"),
        // It was started, and has no assignment.
        Hold::After("/start"),
    ] {
        door.hold(hold);
        let task = queue(&it, &server).await;
        door.wait_held(|| it.system.logs()).await;
        assert_eq!(it.network.containers().len(), 1, "{hold:?}");
        it.replace_dispatcher();
        door.hold(Hold::Nowhere);
        done_once(&it, &server, &task).await;
    }
    let left = files_below(&mirrors);
    let left: Vec<_> =
        left.iter().filter(|path| path.to_string_lossy().contains("/incoming-")).collect();
    assert!(left.is_empty(), "{left:?}");
    let logs = fs::read_to_string(it.system.state.path().join("dispatcher.log")).unwrap();
    assert!(!logs.contains(TOKEN), "{logs}");
}
