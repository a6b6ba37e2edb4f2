//! What a sandbox leaves for the host to fall over: git directories, links, fifos, trees without an end.

use serde_json::json;
use testing::repository::ScratchRepository;

use super::{arm, attempts, only_run, printed};
use crate::{
    docker::support::{Setup, bash},
    system::text_at,
};

/// What of all that is a file of the result.
const KEPT: [&str; 15] = [
    "\"\\377\\376\"",
    "\"a\\tb\"",
    "\"line\\nend\"",
    "-n",
    "...",
    ".gitattributes",
    ".gitignore",
    ".gitmodules",
    "attempts",
    "elsewhere/file",
    "nested/file",
    "new.txt",
    "to-a-file",
    "to-all",
    "to-git",
];

#[tokio::test]
async fn nothing_that_a_sandbox_leaves_is_executed_followed_or_waited_for() {
    // Of two repositories with one content, made within a second, the commits are the same.
    let other = ScratchRepository::empty();
    other.write("secret.txt", "what the other repository alone has\n");
    let secret = other.commit_all("secret");
    let place = tempfile::tempdir().expect("there is a temporary directory");
    let canary = place.path().join("canary");
    let plant = format!("./hostile plant {} {}", canary.display(), other.join(".git").display());
    let it = Setup::new()
        .script("plant", [bash(&plant)])
        .script("move", [bash("./hostile move-results")])
        .start()
        .await;
    arm(&it, "");

    let run = only_run(&it, "[script: plant] set traps", json!({})).await;
    assert_eq!(text_at(&run, "/outcome"), "succeeded", "{run}\n{}", printed(&it, &run).await);
    let branch = text_at(&run, "/branch");
    let found = attempts(&it, &branch);
    assert_eq!(found["traps, for a git that is careless"], "sprung");
    let sprung = canary.try_exists().expect("its directory is ours");
    assert!(!sprung, "something of the sandbox was executed on the host");
    let changed = it.system.repository.git(&["diff", "--name-only", "main", &branch]);
    let mut changed: Vec<&str> = changed.lines().collect();
    changed.sort_unstable();
    assert_eq!(changed, KEPT);
    let objects = it.system.repository.git(&["rev-list", "--objects", "--all"]);
    assert!(!objects.contains(&secret), "another repository of the host was read");

    let run = only_run(&it, "[script: move] elsewhere", json!({})).await;
    assert_eq!(text_at(&run, "/outcome"), "collect_failed", "{run}");
    let expected = "below something that is no directory";
    assert!(text_at(&run, "/message").contains(expected), "{run}");

    // What is verified cannot become another result: the commit was named before.
    let swap = json!({ "verification": [["bash", "-c", "./hostile swap-results"]] });
    let run = only_run(&it, "[script: demo] [file: HELLO.md] write the greeting", swap).await;
    assert_eq!(text_at(&run, "/outcome"), "collect_failed", "{run}\n{}", printed(&it, &run).await);
    let objects = it.system.repository.git(&["log", "--all", "--format=%s"]);
    assert!(!objects.contains("swapped"), "{objects}");
}
