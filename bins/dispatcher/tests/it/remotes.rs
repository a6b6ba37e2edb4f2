//! `kill -9` of the worker in the middle of a fetch from, and of a push to, a repository of another host.

use std::{fs, path::Path};

use serde_json::json;
use testing::{
    git_server::{Behaviour, GitServer},
    repository::{ScratchRepository, set_mode},
    wait::wait_for,
};

use crate::system::{DEADLINE, Part, System, text_at};

const TOKEN: &str = "t0ken-that-nobody-may-see";

/// A system that may use a repository of another host, and that host.
async fn with_server() -> (System, GitServer) {
    let server = GitServer::start().await;
    server.add("project", &ScratchRepository::with_one_commit());
    server.require_login("me", TOKEN);
    let command = testing::programs::fake_agent_path();
    let settings = [
        ("CLAUDE_CODE_COMMAND", command.to_string_lossy().into_owned()),
        ("GIT_CA_FILE", server.ca_file().to_string_lossy().into_owned()),
        ("GIT_TOKENS", format!("{}=me:{TOKEN}", server.authority())),
    ];
    let system = System::start(settings.map(|(key, value)| (key.to_owned(), value))).await;
    system.wait_ready(200).await;
    (system, server)
}

async fn queue(system: &System, server: &GitServer) -> String {
    let repository = json!({ "mode": "git", "url": server.url("project") });
    system.queue("[fake: ok] [file: made.txt]", json!({ "repository": repository })).await
}

/// Kills the worker, has its run taken back, and lets another one finish the task.
async fn kill_and_finish(system: &mut System, task: &str) {
    system.kill(Part::Worker);
    system.wait_status(task, "queued").await;
    assert_eq!(system.live_launches().await, Vec::<String>::new(), "git outlived its run");
    system.spawn(Part::Worker);
    system.wait_status(task, "done").await;
    let runs = system.runs(task).await;
    let outcomes: Vec<String> = runs.iter().map(|run| text_at(run, "/outcome")).collect();
    assert_eq!(outcomes, ["worker_lost", "succeeded"], "{}", system.logs());
    system.wait_clean().await;
}

#[tokio::test]
async fn worker_killed_in_a_fetch_leaves_a_mirror_that_works_and_no_token() {
    let (mut system, server) = with_server().await;
    server.behave(Behaviour::StallFetch(200));
    let task = queue(&system, &server).await;
    wait_for("the fetch to begin", DEADLINE, async || {
        let mirrors = system.state.path().join("mirrors");
        let begun = names_below(&mirrors).iter().any(|name| name.starts_with("incoming-"));
        if begun { Ok(()) } else { Err(system.logs()) }
    })
    .await;
    assert_eq!(files_with_token(system.state.path()), Vec::<String>::new());
    server.behave(Behaviour::Serve);
    kill_and_finish(&mut system, &task).await;
    let branches = server.git("project", &["branch", "--list", "--format=%(refname:short)"]);
    assert_eq!(branches, format!("main\nopentiger/{task}-2\n"));
    let left = names_below(&system.state.path().join("mirrors"));
    assert!(!left.iter().any(|n| n.starts_with("incoming-") || n.starts_with("ask-")), "{left:?}");
    assert_eq!(files_with_token(system.state.path()), Vec::<String>::new());
}

#[tokio::test]
async fn worker_killed_in_a_push_has_its_task_done_under_the_next_number() {
    let (mut system, server) = with_server().await;
    let (hook, seen) = (server.path("project").join("hooks/pre-receive"), server.path("seen"));
    fs::create_dir_all(hook.parent().unwrap()).unwrap();
    // The first push takes a while; every later one does not.
    let script =
        format!("#!/bin/sh\n[ -e '{0}' ] || {{ touch '{0}'; sleep 4; }}\n", seen.display());
    fs::write(&hook, script).unwrap();
    set_mode(&hook, 0o755);
    let task = queue(&system, &server).await;
    wait_for("the push to begin", DEADLINE, async || {
        if seen.is_file() { Ok(()) } else { Err(system.logs()) }
    })
    .await;
    kill_and_finish(&mut system, &task).await;
    let shown = system.task(&task).await.unwrap();
    assert_eq!(text_at(&shown, "/branch"), format!("opentiger/{task}-2"));
    server.git("project", &["rev-parse", "--verify", &format!("opentiger/{task}-2")]);
    assert_eq!(files_with_token(system.state.path()), Vec::<String>::new());
}

fn names_below(directory: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        names.push(entry.file_name().to_string_lossy().into_owned());
        names.extend(names_below(&entry.path()));
    }
    names
}

/// Logs, launch directories, mirrors: whatever is a file.
fn files_with_token(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => found.extend(files_with_token(&path)),
            Ok(kind) if kind.is_file() => {
                let bytes = fs::read(&path).unwrap_or_default();
                if bytes.windows(TOKEN.len()).any(|window| window == TOKEN.as_bytes()) {
                    found.push(path.display().to_string());
                }
            }
            Ok(_) | Err(_) => {}
        }
    }
    found
}
