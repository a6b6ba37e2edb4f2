//! Agents that take all they can get: processes, disk, memory, time after they were asked to end.

use serde_json::json;

use super::support::{Sandboxed, Setup, bash, docker};
use crate::system::text_at;

async fn next_task_works(it: &Sandboxed) {
    let task = it.queue_goal("[script: demo] [file: HELLO.md] write the greeting").await;
    it.wait_done(&task, &["succeeded"]).await;
    it.wait_clean().await;
}

#[tokio::test]
async fn an_agent_that_forks_without_end_is_ended_and_the_next_task_works() {
    // Each one waits for its children, so that all of them stay.
    let bomb = "bomb() { bomb & bomb & wait; }; touch started; bomb";
    let it = Setup::new()
        .with("SANDBOX_PROCESS_LIMIT", "128")
        .with("CANCEL_GRACE_S", "1")
        .script("bomb", [bash(bomb)])
        .start()
        .await;
    let more = json!({ "timebox_s": 15, "max_attempts": 1 });
    let task = it.system.queue("[script: bomb] fork", more).await;
    let run = it.at_gate(&task, 1).await;
    let [container] = &*it.network.containers_of(&run) else { panic!("it has a container") };
    let processes = docker(&["top", container]).expect("it runs").lines().count();
    assert!(processes <= 130, "{processes}");
    let outcomes = it.outcomes(&task, 1).await;
    // The command line ends by itself where it can make no thread any more.
    assert!(["timed_out", "agent_failed"].contains(&&*outcomes[0]), "{outcomes:?}");
    next_task_works(&it).await;
}

#[tokio::test]
async fn an_agent_that_fills_scratch_and_work_tree_is_ended_and_the_next_task_works() {
    let scratch = "dd if=/dev/zero of=/tmp/big bs=1M; true";
    let work = "dd if=/dev/zero of=big bs=1M count=200; sleep 600";
    let it = Setup::new()
        .with("SANDBOX_SCRATCH_LIMIT_BYTES", "67108864")
        .with("SANDBOX_DISK_LIMIT_BYTES", "100000000")
        .with("SANDBOX_FILE_LIMIT", "2000")
        .script("fill", [bash(scratch), bash(work)])
        .script("many", [bash("mkdir many; cd many; seq 1 3000 | xargs touch; sleep 600")])
        .start()
        .await;
    let task = it.system.queue("[script: fill] fill", json!({ "max_attempts": 1 })).await;
    let outcomes = it.outcomes(&task, 1).await;
    assert_eq!(outcomes, ["disk_limit"]);
    let task = it.system.queue("[script: many] fill", json!({ "max_attempts": 1 })).await;
    let outcomes = it.outcomes(&task, 1).await;
    assert_eq!(outcomes, ["disk_limit"], "files are counted, too");
    next_task_works(&it).await;
}

#[tokio::test]
async fn an_agent_out_of_memory_is_told_as_such_and_the_next_task_works() {
    let it = Setup::new().start().await;
    // With so little memory no self-test would pass.
    next_task_works(&it).await;
    it.set(&[("SANDBOX_MEMORY_LIMIT_BYTES", json!(100_000_000))]).await;
    let task = it.system.queue("[script: demo] eat", json!({ "max_attempts": 1 })).await;
    let outcomes = it.outcomes(&task, 1).await;
    assert_eq!(outcomes, ["out_of_memory"]);
    it.set(&[("SANDBOX_MEMORY_LIMIT_BYTES", json!(4_000_000_000_u64))]).await;
    next_task_works(&it).await;
}

#[tokio::test]
async fn an_agent_that_takes_no_notice_is_killed_after_its_grace() {
    // Stopped, the command line can neither end nor end its children.
    let deaf = "touch started; kill -STOP $PPID; trap '' TERM INT HUP; while :; do sleep 1; done";
    let it = Setup::new().with("CANCEL_GRACE_S", "1").script("deaf", [bash(deaf)]).start().await;
    let task = it.system.queue("[script: deaf] be deaf", json!({})).await;
    it.at_gate(&task, 1).await;
    let path = format!("/tasks/{task}/cancel");
    let (status, answer) = it.system.http.post(&path, &json!({})).await.expect("it answers");
    assert!(status == 200 || status == 202, "{status} {answer}");
    it.system.wait_status(&task, "cancelled").await;
    let runs = it.system.runs(&task).await;
    let seen: Vec<String> = runs.iter().map(|run| text_at(run, "/outcome")).collect();
    assert_eq!(seen, ["cancelled"], "{}", it.system.logs());
    it.wait_clean().await;
}
