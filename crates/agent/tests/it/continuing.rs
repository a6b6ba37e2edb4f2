//! A task done once more: with feedback, with the agent's own session, on its last result.

use core_types::{
    event::RunEvent,
    outcome::RunOutcome,
    task::{ExecutorKind, TaskStatus},
};
use model_stub::{script::Scripts, server::ModelStub};
use store::tasks::{
    NewTask,
    retry::{Retry, RetryResult},
};

use crate::bench::{Bench, Told};

async fn bench() -> (ModelStub, Bench) {
    bench_with(&testing::programs::opencode_path()).await
}

async fn bench_with(opencode: &std::path::Path) -> (ModelStub, Bench) {
    let stub = ModelStub::start(Scripts::builtin()).await.expect("the stub can listen on loopback");
    let base_url = stub.base_url();
    let settings = [
        ("ANTHROPIC_BASE_URL", base_url.as_str()),
        ("ANTHROPIC_API_KEY", "sk-ant-test-0000000000"),
        ("OPENCODE_COMMAND", &opencode.to_string_lossy()),
        ("OPENCODE_MODEL", "anthropic/claude-sonnet-4-5"),
    ];
    let bench = Bench::new(&testing::programs::claude_path(), &settings).await;
    (stub, bench)
}

async fn again(bench: &Bench, first: &Told, feedback: &str, continue_session: bool) -> Told {
    let retry = Retry { feedback: Some(feedback.to_owned()), continue_session };
    let asked = bench.database.store.retry_task(first.task.new.id, &retry).await;
    assert_eq!(asked.expect("the database answers"), RetryResult::Queued);
    bench.work_again().await
}

fn last_request(stub: &ModelStub) -> String {
    let last = stub.requests().pop().expect("the agent asked the model");
    last.body.expect("it is JSON").to_string()
}

/// The agent goes on with its session, in a checkout of its result.
async fn goes_on(executor: ExecutorKind) {
    let (stub, bench) = bench().await;
    let task = NewTask { executor, ..bench.task("[script: demo] write it") };
    let id = task.id;
    let first = bench.work(task).await;
    first.assert_outcome(RunOutcome::Succeeded);
    let told = again(&bench, &first, "[script: demo] now write SECOND.md", true).await;
    told.assert_outcome(RunOutcome::Succeeded);
    assert_eq!(told.report().session, first.report().session, "the same session");
    let asked = last_request(&stub);
    assert!(asked.contains("This continues your earlier session"), "{asked}");
    assert_eq!(asked.matches("# Task: a task of a test").count(), 2, "the earlier turns are there");
    assert_eq!(told.report().branch.as_deref(), Some(&*format!("opentiger/{id}-2")));
    let files =
        bench.repository.git(&["ls-tree", "--name-only", "-r", &format!("opentiger/{id}-2")]);
    assert!(
        files.contains("HELLO.md") && files.contains("SECOND.md"),
        "it starts from the last result: {files}"
    );
    assert_eq!(told.task.state.status(), TaskStatus::Done);
    bench.assert_clean().await;
}

#[tokio::test]
async fn claude_goes_on_with_its_session_on_its_last_result() {
    goes_on(ExecutorKind::ClaudeCode).await;
}

#[tokio::test]
async fn opencode_goes_on_with_its_session_on_its_last_result() {
    goes_on(ExecutorKind::Opencode).await;
}

#[tokio::test]
async fn feedback_alone_begins_a_new_session_from_the_base() {
    let (stub, bench) = bench().await;
    let first = bench.work(bench.task("[script: demo] write it")).await;
    first.assert_outcome(RunOutcome::Succeeded);
    let told = again(&bench, &first, "Say hello to the lion too. [script: demo]", false).await;
    told.assert_outcome(RunOutcome::Succeeded);
    assert_ne!(told.report().session, first.report().session);
    let asked = last_request(&stub);
    assert!(asked.contains("Say hello to the lion too.") && !asked.contains("You go on"));
    assert_eq!(asked.matches("# Task: a task of a test").count(), 1);
}

/// The session is gone: a new one begins, with the feedback, and a reader is told.
async fn begins_anew(executor: ExecutorKind) {
    let (stub, bench) = bench().await;
    let task = NewTask { executor, ..bench.task("[script: demo] write it") };
    let first = bench.work(task).await;
    first.assert_outcome(RunOutcome::Succeeded);
    let home = std::path::Path::new(&bench.shop.parent_env["HOME"]).join(".claude");
    drop(std::fs::remove_dir_all(home));
    bench.shop.sessions.sweep(std::time::Duration::ZERO);
    let told = again(&bench, &first, "[script: demo] now write SECOND.md", true).await;
    told.assert_outcome(RunOutcome::Succeeded);
    assert_ne!(told.report().session, first.report().session);
    let notice = |event: &RunEvent| matches!(event, RunEvent::Notice { text } if text.contains("begins a new one"));
    assert!(told.events.iter().any(notice), "{:?}", told.events);
    assert!(last_request(&stub).contains("now write SECOND.md"));
    bench.assert_clean().await;
}

#[tokio::test]
async fn claude_whose_session_is_gone_begins_anew() {
    begins_anew(ExecutorKind::ClaudeCode).await;
}

#[tokio::test]
async fn opencode_whose_session_is_gone_begins_anew() {
    begins_anew(ExecutorKind::Opencode).await;
}

#[tokio::test]
async fn opencode_whose_session_cannot_be_moved_begins_anew_at_once() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir().expect("a directory can be made");
    let program = directory.path().join("opencode");
    let real = testing::programs::opencode_path();
    let script =
        format!("#!/bin/sh\ncase \"$1\" in db) exit 1;; esac\nexec {} \"$@\"\n", real.display());
    std::fs::write(&program, script).expect("it can be written");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("it is ours");
    let (stub, bench) = bench_with(&program).await;
    let task =
        NewTask { executor: ExecutorKind::Opencode, ..bench.task("[script: demo] write it") };
    let first = bench.work(task).await;
    first.assert_outcome(RunOutcome::Succeeded);
    let told = again(&bench, &first, "[script: demo] now write SECOND.md", true).await;
    told.assert_outcome(RunOutcome::Succeeded);
    assert_ne!(told.report().session, first.report().session);
    let notice = |event: &RunEvent| matches!(event, RunEvent::Notice { text } if text.contains("begins a new one"));
    assert!(told.events.iter().any(notice), "{:?}", told.events);
    assert!(last_request(&stub).contains("now write SECOND.md"));
    bench.assert_clean().await;
}
