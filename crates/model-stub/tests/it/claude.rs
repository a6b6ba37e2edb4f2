//! The real CLI behind the scripted model: what the executor makes of it.

use std::time::Duration;

use core_types::{event::RunEvent, outcome::RunOutcome};
use jiff::{SignedDuration, Timestamp};
use model_stub::{script::Scripts, server::ModelStub};

use crate::run::{Bench, KEY, Told};

pub(crate) async fn stub() -> ModelStub {
    ModelStub::start(Scripts::builtin()).await.unwrap()
}

async fn told(prompt: &str, change: impl FnOnce(&mut Bench)) -> Told {
    let stub = stub().await;
    let mut bench = Bench::new(&stub, prompt);
    change(&mut bench);
    bench.run().await
}

fn unchanged(_: &mut Bench) {}

pub(crate) fn outcome(told: &Told) -> Result<(), RunOutcome> {
    told.verdict.outcome
}

#[tokio::test]
async fn scripted_work_is_really_done() {
    let stub = stub().await;
    let bench = Bench::new(&stub, "# Task\nWrite GREETING.md. [script: demo]\n");
    bench.git_init().await;
    let told = bench.run().await;
    assert_eq!(outcome(&told), Ok(()), "{:?}", told.events);
    let written = std::fs::read_to_string(bench.work("GREETING.md")).unwrap();
    assert!(written.contains("tiger"), "{written}");
    assert_eq!(told.verdict.message, None);
    assert!(told.verdict.final_text.unwrap().contains("GREETING.md"));
    assert!(told.verdict.session.is_some());
    assert_eq!(told.verdict.usage.input_tokens, 3_000);
    assert_eq!(told.verdict.usage.output_tokens, 150);
    assert!(told.verdict.usage.cost_microusd > 0);
    let fine =
        told.events.iter().filter(|e| matches!(e, RunEvent::ToolResult { is_error: false, .. }));
    assert_eq!(fine.count(), 2, "{:?}", told.events);
}

#[tokio::test]
async fn asks_for_nothing_but_messages_and_sends_no_key_to_the_record() {
    let stub = stub().await;
    let told = Bench::new(&stub, "[script: bash]").run().await;
    assert_eq!(outcome(&told), Ok(()));
    for request in stub.requests() {
        assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/v1/messages"));
        assert_eq!(request.headers["x-api-key"], "***6789");
        assert!(!request.body.unwrap().to_string().contains(KEY));
    }
}

#[tokio::test]
async fn session_continues_where_it_ended() {
    let stub = stub().await;
    let mut bench = Bench::new(&stub, "[script: bash]");
    let first = bench.run().await;
    bench.task.resume = first.verdict.session;
    "[script: demo]".clone_into(&mut bench.task.prompt);
    let told = bench.run().await;
    assert_eq!(outcome(&told), Ok(()), "{:?}", told.events);
    assert!(bench.work("HELLO.md").try_exists().unwrap());
    let last = stub.requests().pop().unwrap().body.unwrap().to_string();
    assert!(last.contains("[script: bash]"), "the first prompt is still there");
    assert_eq!(told.verdict.usage.input_tokens, 3_000, "only what this run used counts");
}

#[tokio::test]
async fn nothing_done_is_a_finished_agent_without_a_tool_call() {
    let told = told("[script: nothing]", unchanged).await;
    assert_eq!(outcome(&told), Ok(()));
    assert!(!told.events.iter().any(|event| matches!(event, RunEvent::ToolCall { .. })));
}

#[tokio::test]
async fn denied_tools_are_no_success() {
    let told = told("[script: bash]", |bench| {
        bench.settings.allowed_tools = vec!["Read".to_owned(), "Write".to_owned()];
    })
    .await;
    assert_eq!(outcome(&told), Err(RunOutcome::ToolsDenied), "{:?}", told.events);
    assert!(told.verdict.message.unwrap().contains("`Bash`"));
    assert!(told.verdict.hint.unwrap().contains("CLAUDE_CODE_ALLOWED_TOOLS"));
    assert!(
        told.events
            .iter()
            .any(|e| matches!(e, RunEvent::ToolDenied { tool, .. } if tool == "Bash"))
    );
}

#[tokio::test]
async fn some_denied_tools_are_a_success_with_a_notice() {
    let told = told("[script: demo]", |bench| {
        bench.settings.allowed_tools = vec!["Write".to_owned()];
    })
    .await;
    assert_eq!(outcome(&told), Ok(()));
    assert!(told.verdict.message.unwrap().contains("`Bash`"));
    assert!(told.events.iter().any(|event| matches!(event, RunEvent::Notice { .. })));
}

#[tokio::test]
async fn missing_login_is_told_at_once() {
    let told = told("[script: demo]", |bench| bench.settings.api_key = None).await;
    assert_eq!(outcome(&told), Err(RunOutcome::LoginRequired), "{:?}", told.events);
    assert!(told.verdict.hint.unwrap().contains("/login"));
    assert!(told.took < Duration::from_secs(20), "{:?}", told.took);
}

#[tokio::test]
async fn refused_key_is_told_in_seconds() {
    let told = told("[script: refused-key]", unchanged).await;
    assert_eq!(outcome(&told), Err(RunOutcome::KeyRejected), "{:?}", told.events);
    assert!(told.verdict.hint.unwrap().contains("ANTHROPIC_API_KEY"));
    // The CLI's own default takes 180 s.
    assert!(told.took < Duration::from_secs(20), "{:?}", told.took);
}

#[tokio::test]
async fn refused_login_has_to_be_renewed() {
    for script in ["[script: refused-key]", "[script: revoked]"] {
        let told = told(script, Bench::log_in).await;
        assert_eq!(outcome(&told), Err(RunOutcome::LoginRequired), "{script} {:?}", told.events);
    }
}

#[tokio::test]
async fn account_without_credit_is_no_account() {
    let told = told("[script: no-credit]", unchanged).await;
    assert_eq!(outcome(&told), Err(RunOutcome::KeyRejected), "{:?}", told.events);
    assert!(told.verdict.hint.unwrap().contains("billing"));
}

#[tokio::test]
async fn unknown_model_names_the_setting() {
    let told = told("[script: no-model]", unchanged).await;
    assert_eq!(outcome(&told), Err(RunOutcome::AgentFailed), "{:?}", told.events);
    assert!(told.verdict.hint.unwrap().contains("CLAUDE_CODE_MODEL"));
}

fn assert_waits(told: &Told, expected: SignedDuration) {
    assert_eq!(outcome(told), Err(RunOutcome::QuotaExceeded), "{:?}", told.events);
    let wait = Timestamp::now().duration_until(told.verdict.retry_at.expect("a time to wait for"));
    assert!(wait <= expected && wait > expected - SignedDuration::from_secs(60), "{wait}");
}

#[tokio::test]
async fn reached_limit_of_a_login_tells_when_it_is_lifted() {
    let told = told("[script: limit-reached]", Bench::log_in).await;
    assert_waits(&told, SignedDuration::from_hours(1));
    let rejected =
        |e: &RunEvent| matches!(e, RunEvent::RateLimit { status, .. } if status == "rejected");
    assert!(told.events.iter().any(rejected), "{:?}", told.events);
}

#[tokio::test]
async fn reached_weekly_limit_tells_when_it_is_lifted() {
    let told = told("[script: weekly-limit-reached]", Bench::log_in).await;
    assert_waits(&told, SignedDuration::from_hours(4 * 24));
}

#[tokio::test]
async fn busy_api_of_a_key_is_no_limit_of_an_account() {
    // The CLI reads limit headers for logins only; a key's limits are lifted within a minute.
    let told = told("[script: limit-reached]", unchanged).await;
    assert_eq!(outcome(&told), Err(RunOutcome::ProviderOverloaded), "{:?}", told.events);
}

#[tokio::test]
async fn failing_provider_is_told_apart_from_the_account() {
    for script in ["busy", "broken", "overloaded"] {
        let told = told(&format!("[script: {script}]"), unchanged).await;
        assert_eq!(
            outcome(&told),
            Err(RunOutcome::ProviderOverloaded),
            "{script} {:?}",
            told.events
        );
        assert!(told.events.iter().any(|e| matches!(e, RunEvent::ModelRetry { .. })), "{script}");
        assert_eq!(told.verdict.retry_at, None);
    }
}

#[tokio::test]
async fn provider_that_recovers_costs_nothing() {
    let told = told("[script: overloaded-once]", unchanged).await;
    assert_eq!(outcome(&told), Ok(()), "{:?}", told.events);
    assert!(told.events.iter().any(|event| matches!(event, RunEvent::ModelRetry { .. })));
}

#[tokio::test]
async fn endless_loop_ends_at_its_turns() {
    let told = told("[script: endless]", |bench| bench.settings.max_turns = Some(3)).await;
    assert_eq!(outcome(&told), Err(RunOutcome::LimitReached), "{:?}", told.events);
    assert!(told.verdict.usage.input_tokens >= 3_000, "{:?}", told.verdict.usage);
}

#[tokio::test]
async fn run_ends_at_its_money() {
    let told =
        told("[script: costly]", |bench| bench.task.cost_limit_microusd = Some(10_000)).await;
    assert_eq!(outcome(&told), Err(RunOutcome::LimitReached), "{:?}", told.events);
    assert!(told.verdict.usage.cost_microusd > 10_000);
}

#[tokio::test]
async fn silent_model_leaves_the_agent_idle_and_what_it_used_is_known() {
    let told =
        told("[script: hang-later]", |bench| bench.idle = Some(Duration::from_secs(4))).await;
    assert_eq!(outcome(&told), Err(RunOutcome::IdleTimeout), "{:?}", told.events);
    assert_eq!(told.verdict.usage.input_tokens, 1_000);
}

#[tokio::test]
async fn bypassing_permissions_as_root_is_refused_before_it_is_tried() {
    use core_config::settings::PermissionMode;
    use executor::{
        claude_code::ClaudeCode,
        invocation::{AgentTask, ExecutorError, Place},
    };
    let settings = executor::claude_code::ClaudeSettings {
        permission_mode: PermissionMode::BypassPermissions,
        ..Default::default()
    };
    let place = Place { as_root: true, ..Place::default() };
    let refused = ClaudeCode::new(settings).invocation(&AgentTask::default(), &place);
    assert_eq!(refused, Err(ExecutorError::BypassAsRoot));
}
