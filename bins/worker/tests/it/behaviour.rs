//! How one run of a sandbox ends, and what the worker says of it.

use std::time::Duration;

use core_types::{
    event::RunEvent,
    outcome::RunOutcome,
    sandbox::WorkerExit,
    secret::Secret,
    task::{Role, RunStatus},
};
use launcher::handle::StopRequest;
use model_stub::{script::Scripts, server::ModelStub};
use store::recovery::Revocation;
use testing::proxy::FaultProxy;

use crate::bench::{Bench, KEY};

fn hello(event: &RunEvent) -> bool {
    matches!(event, RunEvent::AgentStarted { .. })
}

#[tokio::test]
async fn good_run_ends_in_a_claim_that_the_host_can_collect() {
    let bench = Bench::new().await;
    let mut task = bench.task("[fake: ok] [file: made.txt]");
    task.verification = vec![vec!["test".into(), "-f".into(), "made.txt".into()]];
    let (prepared, exit) = bench.work(task).await;
    let run = bench.run(prepared.key).await;
    assert_eq!(exit, WorkerExit::Reported, "{run:?}");
    assert_eq!(run.status, RunStatus::Collecting);
    let report = run.report.unwrap();
    assert_eq!(report.outcome, RunOutcome::Succeeded, "{report:?}");
    assert!(report.usage.total_tokens() > 0);
    assert_eq!((report.commit, report.branch), (None, None), "those are the host's to make");
    assert_eq!(bench.claim(prepared.key).await.unwrap().files_changed, 1);
    assert_eq!(bench.collect(&prepared).await, "made.txt");
    let phases: Vec<String> = bench
        .events(prepared.key)
        .await
        .into_iter()
        .filter_map(|event| match event {
            RunEvent::Phase { name } => Some(name),
            _ => None,
        })
        .collect();
    assert_eq!(phases, ["preparing", "agent", "sealing", "verifying", "committing"]);
    assert!(bench.database.store.day_spend().await.unwrap().tokens > 0);
}

#[tokio::test]
async fn run_without_a_change_claims_nothing() {
    let bench = Bench::new().await;
    let (prepared, exit) = bench.work(bench.task("[fake: nothing]")).await;
    assert_eq!(exit, WorkerExit::Reported);
    assert_eq!(bench.run(prepared.key).await.outcome(), Some(RunOutcome::NothingDone));
    let mut task = bench.task("[fake: nothing]");
    task.role = Role::Tester;
    let bench = Bench::new().await;
    let (prepared, _) = bench.work(task).await;
    assert_eq!(bench.run(prepared.key).await.outcome(), Some(RunOutcome::NoChange));
    assert_eq!(bench.claim(prepared.key).await, None);
}

#[tokio::test]
async fn failed_verification_claims_nothing_and_sees_neither_secrets_nor_the_worker() {
    let bench = Bench::new().await;
    let mut task = bench.task("[fake: ok] [file: made.txt]");
    // The worker is this command's grandparent: its shim lies between.
    let look = "env; up=$$; while [ $up -gt 1 ]; do echo $up; tr '\\0' '\\n' < /proc/$up/environ; \
        up=$(sed -n 's/^PPid:[^0-9]*//p' /proc/$up/status); done; exit 1";
    task.verification = vec![vec!["sh".into(), "-c".into(), look.into()]];
    let (prepared, exit) = bench.work(task).await;
    assert_eq!(exit, WorkerExit::Reported);
    assert_eq!(bench.run(prepared.key).await.outcome(), Some(RunOutcome::VerificationFailed));
    assert_eq!(bench.claim(prepared.key).await, None);
    let events = bench.events(prepared.key).await;
    let output = events.iter().find_map(|event| match event {
        RunEvent::Verification { output, .. } => Some(output.clone()),
        _ => None,
    });
    let output = output.expect("verification ran");
    assert!(output.contains("HOME="), "{output}");
    for canary in [KEY, "canary-of-the-worker", "postgres://"] {
        assert!(!output.contains(canary), "{output}");
    }
}

#[tokio::test]
async fn cancelled_task_ends_its_agent_and_says_so() {
    let bench = Bench::new().await;
    let prepared = bench.prepared(bench.task("[fake: ignore-term]")).await;
    let handle = bench.start(&prepared).await;
    bench.wait_event(prepared.key, "the agent", hello).await;
    bench.database.store.cancel_task(prepared.assignment.task.id, "a test").await.unwrap();
    assert_eq!(bench.exit(&handle).await, WorkerExit::Reported);
    assert_eq!(bench.run(prepared.key).await.outcome(), Some(RunOutcome::Cancelled));
}

#[tokio::test]
async fn worker_that_is_told_to_stop_reports_its_run_as_interrupted() {
    let bench = Bench::new().await;
    let prepared = bench.prepared(bench.task("[fake: hang]")).await;
    let handle = bench.start(&prepared).await;
    bench.wait_event(prepared.key, "the agent", hello).await;
    handle.stop(StopRequest::new("a test", Duration::from_secs(30))).await;
    assert_eq!(bench.exit(&handle).await, WorkerExit::Reported);
    assert_eq!(bench.run(prepared.key).await.outcome(), Some(RunOutcome::Interrupted));
}

#[tokio::test]
async fn killed_worker_leaves_its_run_to_the_host() {
    let bench = Bench::new().await;
    let prepared = bench.prepared(bench.task("[fake: hang]")).await;
    let handle = bench.start(&prepared).await;
    bench.wait_event(prepared.key, "the agent", hello).await;
    handle.stop(StopRequest::new("a test", Duration::ZERO)).await;
    let report = handle.exited().await;
    assert!(!report.is_success(), "{report:?}");
    let run = bench.run(prepared.key).await;
    assert_eq!((run.status, run.report), (RunStatus::Running, None));
}

#[tokio::test]
async fn database_that_is_away_for_a_while_costs_nothing() {
    let bench = Bench::new().await;
    let proxy = FaultProxy::start(bench.database.server_address()).await;
    let url = bench.database.url_through(proxy.address());
    let task = bench.task("[fake: slow] [seconds: 6] [file: made.txt]");
    let prepared = bench.prepare(task, &url).await;
    let handle = bench.start(&prepared).await;
    bench.wait_event(prepared.key, "the agent", hello).await;
    proxy.refuse();
    tokio::time::sleep(Duration::from_secs(5)).await;
    proxy.resume();
    assert_eq!(bench.exit(&handle).await, WorkerExit::Reported);
    assert_eq!(bench.run(prepared.key).await.outcome(), Some(RunOutcome::Succeeded));
    assert_eq!(bench.collect(&prepared).await, "made.txt");
}

#[tokio::test]
async fn run_that_was_taken_back_is_left_alone() {
    let bench = Bench::new().await;
    let prepared = bench.prepared(bench.task("[fake: hang]")).await;
    let handle = bench.start(&prepared).await;
    bench.wait_event(prepared.key, "the agent", hello).await;
    let store = &bench.database.store;
    assert!(store.revoke(prepared.key, Revocation::WorkerDead).await.unwrap());
    assert_eq!(bench.exit(&handle).await, WorkerExit::Fenced);
    let run = bench.run(prepared.key).await;
    assert_eq!((run.status, run.report), (RunStatus::Running, None));
}

#[tokio::test]
async fn wrong_token_or_number_starts_nothing() {
    let bench = Bench::new().await;
    let mut prepared = bench.prepared(bench.task("[fake: ok] [file: made.txt]")).await;
    let right = prepared.assignment.clone();
    prepared.assignment.token = Secret::new("0".repeat(32));
    let handle = bench.start(&prepared).await;
    assert_eq!(bench.exit(&handle).await, WorkerExit::Fenced);
    prepared.assignment = right;
    prepared.assignment.key.lease.0 += 1;
    let handle = bench.start(&prepared).await;
    assert_eq!(bench.exit(&handle).await, WorkerExit::Fenced);
    assert_eq!(bench.run(prepared.key).await.status, RunStatus::Launching);
    assert!(bench.events(prepared.key).await.is_empty());
}

#[tokio::test]
async fn assignment_that_is_none_is_refused_without_showing_it() {
    let bench = Bench::new().await;
    for text in ["", "{\"token\":\"sk-canary-0123456789\"}", "sk-canary-0123456789"] {
        let handle = bench.launch(text.as_bytes().to_vec()).await;
        assert_eq!(bench.exit(&handle).await, WorkerExit::BadAssignment);
    }
}

#[tokio::test]
async fn real_claude_works_with_every_permission_and_its_state_where_it_belongs() {
    let stub = ModelStub::start(Scripts::builtin()).await.unwrap();
    let url = ("ANTHROPIC_BASE_URL", stub.base_url());
    let bench = Bench::with_agent(&testing::programs::claude_path(), &[url]).await;
    let (prepared, exit) = bench.work(bench.task("Write GREETING.md. [script: demo]")).await;
    let run = bench.run(prepared.key).await;
    assert_eq!(exit, WorkerExit::Reported, "{run:?}");
    assert_eq!(run.outcome(), Some(RunOutcome::Succeeded), "{run:?}");
    assert_eq!(bench.collect(&prepared).await, "GREETING.md");
    let kept = prepared.assignment.state.join("claude_code/projects");
    assert!(kept.try_exists().unwrap(), "the session can go on later");
    assert!(run.report.unwrap().session.is_some());
}
