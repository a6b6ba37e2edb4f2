//! Tasks for a repository behind a URL, as a user meets them: the result is looked at and applied here, also where the
//! server did not want it.

use std::fs;

use testing::{git_server::GitServer, repository::set_mode};

use crate::world::World;

async fn with_server() -> (World, GitServer) {
    let server = GitServer::start().await;
    let mut world = World::new().await;
    server.add("project", &world.repository);
    world.set("GIT_CA_FILE", &server.ca_file().to_string_lossy());
    world.up().await;
    (world, server)
}

#[tokio::test]
async fn a_pushed_result_is_shown_and_applied_in_a_clone() {
    let (world, server) = with_server().await;
    let url = server.url("project");
    let goal = "[fake: ok] [file: made.txt]";
    let args = ["task", "add", "Make it", "--repo", &url, "--goal", goal, "--follow"];
    world.call(&args).await.done();
    let branch = server.git("project", &["branch", "--list", "opentiger/*"]);
    assert!(!branch.is_empty());
    let diff = world.call(&["task", "diff", "@last"]).await.done();
    assert!(diff.out.contains("+++ b/made.txt"), "{}", diff.out);
    let stat = world.call(&["task", "diff", "@last", "--stat", "--json"]).await.done().json();
    assert!(stat["stat"].as_str().is_some_and(|stat| stat.contains("made.txt |")), "{stat}");
    let head = world.repository.head();
    world.call(&["task", "apply", "@last"]).await.done();
    assert_eq!(world.repository.head(), head, "nothing is committed");
    assert_eq!(world.repository.git(&["diff", "--cached", "--name-only"]).trim(), "made.txt");
    world.call(&["down"]).await.done();
}

#[tokio::test]
async fn a_refused_result_is_not_lost_and_the_task_can_be_tried_again() {
    let (world, server) = with_server().await;
    let hook = server.path("project").join("hooks/pre-receive");
    fs::create_dir_all(hook.parent().unwrap()).unwrap();
    fs::write(&hook, "#!/bin/sh\necho 'no branches on fridays' >&2\nexit 1\n").unwrap();
    set_mode(&hook, 0o755);
    let url = server.url("project");
    let goal = "[fake: ok] [file: made.txt]";
    let args = ["task", "add", "Make it", "--repo", &url, "--goal", goal, "--follow"];
    let said = world.call(&args).await.with_code(10);
    assert!(said.out.contains("is kept on this host"), "{}", said.out);
    let shown = world.call(&["task", "show", "@last"]).await.done();
    for part in ["push_refused", "no branches on fridays", "task apply", "task retry"] {
        assert!(shown.out.contains(part), "{part} in: {}", shown.out);
    }
    let diff = world.call(&["task", "diff", "@last"]).await.done();
    assert!(diff.out.contains("+++ b/made.txt"), "{}", diff.out);
    world.call(&["task", "apply", "@last", "--check"]).await.done();

    fs::remove_file(hook).unwrap();
    let retried = world.call(&["task", "retry", "@last", "--feedback", "once more", "-f"]).await;
    retried.done();
    let shown = world.call(&["task", "show", "@last", "--json"]).await.done().json();
    assert_eq!(
        (&shown["status"], shown["runs"].as_array().map(Vec::len)),
        (&"done".into(), Some(2))
    );
    let branch = shown["branch"].as_str().unwrap();
    let there = server.git("project", &["rev-parse", branch]);
    assert_eq!(Some(there.trim()), shown["commit"].as_str());
    let again = world.call(&["task", "retry", "@last", "--json"]).await;
    assert!(again.code == Some(0) || again.code == Some(6), "{again:?}");
    world.call(&["down"]).await.done();
}
