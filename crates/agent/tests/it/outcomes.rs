//! The real CLI behind the scripted model: refused, limited, overloaded, denied.

use std::time::{Duration, Instant};

use core_types::{
    outcome::RunOutcome,
    task::{BlockReason, TaskState},
};
use model_stub::{script::Scripts, server::ModelStub};

use crate::bench::{Bench, Told};

/// Works on a task with the real CLI, the named script behind it, and these settings.
async fn work(script: &str, settings: &[(&str, &str)]) -> (Told, Duration) {
    work_as(script, settings, |_| {}).await
}

/// The same, with something done to the bench first.
async fn work_as(
    script: &str,
    settings: &[(&str, &str)],
    prepare: impl FnOnce(&Bench),
) -> (Told, Duration) {
    let stub = ModelStub::start(Scripts::builtin()).await.expect("the stub can listen on loopback");
    let base_url = stub.base_url();
    let mut all = vec![("ANTHROPIC_BASE_URL", base_url.as_str())];
    all.extend_from_slice(settings);
    let bench = Bench::new(&testing::programs::claude_path(), &all).await;
    prepare(&bench);
    let begun = Instant::now();
    let told = bench.work(bench.task(&format!("[script: {script}] do the work"))).await;
    bench.assert_clean().await;
    (told, begun.elapsed())
}

const KEY: (&str, &str) = ("ANTHROPIC_API_KEY", "sk-ant-test-0000000000");

#[tokio::test]
async fn scripted_work_is_committed() {
    let (told, _) = work("demo", &[KEY]).await;
    told.assert_outcome(RunOutcome::Succeeded);
    assert!(told.report().session.is_some());
}

#[tokio::test]
async fn refused_key_shows_in_seconds_and_costs_the_task_nothing() {
    let (told, took) = work("refused-key", &[KEY]).await;
    told.assert_outcome(RunOutcome::KeyRejected);
    assert_eq!((told.task.state, told.task.attempts), (TaskState::Queued, 0));
    assert!(took < Duration::from_secs(30), "{took:?}");
}

#[tokio::test]
async fn missing_login_costs_the_task_nothing() {
    let (told, _) = work("demo", &[]).await;
    told.assert_outcome(RunOutcome::LoginRequired);
    assert_eq!((told.task.state, told.task.attempts), (TaskState::Queued, 0));
    assert!(told.report().hint.is_some());
}

#[tokio::test]
async fn reached_limit_waits_until_the_provider_lifts_it() {
    let (told, _) = work_as("limit-reached", &[], Bench::log_in).await;
    told.assert_outcome(RunOutcome::QuotaExceeded);
    assert_eq!(told.task.state, TaskState::Blocked { reason: BlockReason::QuotaWait });
    let resets = told.report().retry_at.expect("the provider told when");
    assert_eq!(told.task.not_before, Some(resets));
}

#[tokio::test]
async fn overloaded_provider_is_named() {
    let (told, _) = work("overloaded", &[KEY]).await;
    told.assert_outcome(RunOutcome::ProviderOverloaded);
}

#[tokio::test]
async fn denied_tools_are_no_success() {
    let (told, _) = work("demo", &[KEY, ("CLAUDE_CODE_ALLOWED_TOOLS", "Read")]).await;
    told.assert_outcome(RunOutcome::ToolsDenied);
}
