//! A hostile program as an agent's tool, in the chain as it is: what it tries fails, each for its reason.
//!
//! The program is `crates/testing/hostile`; it lies in the repository of the task. What must work is tried beside what must
//! not, so that a program that cannot try, or a place where nothing is, is found out.

mod reach;
mod traps;

use std::{collections::BTreeMap, fs, os::unix::fs::PermissionsExt as _};

use serde_json::{Value, json};
use testing::{programs::hostile_path, wait::wait_for};

use super::support::{Sandboxed, Setup, bash};
use crate::system::{DEADLINE, text_at};

/// Puts the program into the repository, and lines that it reads.
fn arm(it: &Sandboxed, addresses: &str) {
    let program = it.system.repository.join("hostile");
    fs::copy(hostile_path(), &program).expect("the repository can be written");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("it is ours");
    it.system.repository.write("addresses", addresses);
    it.system.repository.commit_all("a hostile program");
}

/// What the program noted in a result, by attempt.
fn attempts(it: &Sandboxed, branch: &str) -> BTreeMap<String, String> {
    let notes = it.system.repository.show(branch, "attempts");
    let pair =
        |line: &str| line.split_once('\t').map(|(word, what)| (what.to_owned(), word.to_owned()));
    notes.lines().filter_map(pair).collect()
}

/// Queues a task of one attempt and waits until it is over; tells its only run.
async fn only_run(it: &Sandboxed, goal: &str, more: Value) -> Value {
    let mut more = more;
    more["max_attempts"] = json!(1);
    let task = it.system.queue(goal, more).await;
    wait_for("the task to be over", DEADLINE, async || {
        let task = it.system.task(&task).await?;
        let is_over = ["done", "failed", "blocked"].contains(&&*text_at(&task, "/status"));
        if is_over { Ok(()) } else { Err(format!("{task}\n{}", it.system.logs())) }
    })
    .await;
    let mut runs = it.system.runs(&task).await;
    assert_eq!(runs.len(), 1, "{runs:?}");
    runs.remove(0)
}

/// Everything that the tools of a run printed.
async fn printed(it: &Sandboxed, run: &Value) -> String {
    let path = format!("/runs/{}/events?limit=1000", text_at(run, "/id"));
    let (status, answer) = it.system.http.get(&path).await.expect("it answers");
    assert_eq!(status, 200, "{answer}");
    let items = answer.pointer("/items").and_then(Value::as_array).cloned().unwrap_or_default();
    items.iter().map(|item| text_at(item, "/event/text") + "\n").collect()
}

/// Ways of outliving the agent, by the names that the program knows them by, and whether a process of it does.
const WAYS: [(&str, bool); 5] = [
    ("as-a-launch", true),
    ("as-an-orphan", true),
    ("without-a-leader", false),
    ("in-the-shim", false),
    ("at-home", false),
];
/// Ends well where something of the agent works on after the result was sealed: then it makes the file.
const FOOLED: &str =
    "for n in 1 2 3 4 5 6 7 8; do test -e fooled && exit 0; sleep 0.1; done; exit 1";

#[tokio::test]
async fn nothing_outlives_the_agent_to_change_what_its_verification_sees() {
    let mut setup = Setup::new();
    for (way, _) in WAYS {
        setup = setup.script(way, [bash(&format!("./hostile linger {way}"))]);
    }
    let it = setup.start().await;
    arm(&it, "");
    for (way, is_found) in WAYS {
        let verification = json!({ "verification": [["bash", "-lc", FOOLED]] });
        let run = only_run(&it, &format!("[script: {way}] stay"), verification).await;
        let printed = printed(&it, &run).await;
        assert_eq!(text_at(&run, "/outcome"), "verification_failed", "{way}: {run}\n{printed}");
        assert!(printed.contains("something stays"), "{way}: {printed}");
        assert_eq!(printed.contains("that outlived the agent"), is_found, "{way}: {printed}");
    }
    it.wait_clean().await;
}
