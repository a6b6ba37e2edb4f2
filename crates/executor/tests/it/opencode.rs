//! opencode's lines as version 1.18.33 writes them, and the verdict on each way a run ends.

use core_types::{event::RunEvent, outcome::RunOutcome, usage::Usage};
use executor::{
    invocation::{AgentTask, Place},
    opencode::{Opencode, OpencodeSettings},
    stream::StreamReader,
    verdict::{AgentEnd, EndedHow, StopKind, Verdict},
};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::lines::{bytes, ended, exited, stopped};

const SESSION: &str = "ses_df19ca7e5ffelEzJ9FO9hhOPBT";
const REPEAT: &str = "timestamp=2026-11-24T17:04:54.132Z level=ERROR run=d38853ee message=\"stream error\" providerID=anthropic modelID=claude-sonnet-4-5 small=false agent=build error.error=\"AI_APICallError: Overloaded\"\n";

fn line(kind: &str, part: &Value) -> Value {
    json!({"type": kind, "timestamp": 1_795_537_724_789_u64, "sessionID": SESSION, "part": part})
}

fn step() -> Value {
    line("step_start", &json!({"type": "step-start"}))
}

fn text(text: &str) -> Value {
    line("text", &json!({"type": "text", "text": text}))
}

fn finish(reason: &str) -> Value {
    let tokens = json!({"total": 1060, "input": 1000, "output": 50, "reasoning": 10, "cache": {"write": 3, "read": 7}});
    line(
        "step_finish",
        &json!({"type": "step-finish", "reason": reason, "tokens": tokens, "cost": 0.003_75}),
    )
}

fn tool(id: &str, tool: &str, error: Option<&str>) -> Value {
    let state = match error {
        None => json!({"status": "completed", "input": {"command": "true"}, "output": "fine"}),
        Some(error) => {
            json!({"status": "error", "input": {"command": "true"}, "error": error})
        }
    };
    line("tool_use", &json!({"type": "tool", "tool": tool, "callID": id, "state": state}))
}

fn error(name: &str, data: &Value) -> Value {
    json!({"type": "error", "sessionID": SESSION, "error": {"name": name, "data": data}})
}

fn api(status: u16, message: &str, headers: &Value) -> Value {
    let data = json!({
        "message": message, "statusCode": status, "isRetryable": false, "responseHeaders": headers,
        "responseBody": "{\"error\":\"a body\"}", "metadata": {"url": "http://127.0.0.1/v1/messages"},
    });
    error("APIError", &data)
}

fn reader() -> StreamReader {
    let call = Opencode::new(OpencodeSettings::default());
    let call = call.invocation(&AgentTask::default(), &Place::default());
    call.expect("default settings can be used").reader()
}

fn read(stdout: &[u8], stderr: &[u8], end: &AgentEnd) -> (Vec<RunEvent>, Verdict) {
    let mut reader = reader();
    let mut events = reader.push(stdout);
    events.extend(reader.push_stderr(stderr));
    events.extend(reader.end_of_output());
    (events, reader.finish(end))
}

fn verdict(lines: &[Value], end: &AgentEnd) -> Verdict {
    read(&bytes(lines), b"", end).1
}

fn worked() -> Vec<Value> {
    vec![
        step(),
        tool("1", "bash", None),
        finish("tool-calls"),
        step(),
        text("done"),
        finish("stop"),
    ]
}

#[test]
fn work_that_was_done_is_a_success_with_the_sum_of_its_steps() {
    let (events, got) = read(&bytes(&worked()), b"", &exited(0));
    assert_eq!((got.outcome, got.message.as_deref()), (Ok(()), None));
    assert_eq!(got.final_text.as_deref(), Some("done"));
    assert_eq!(got.session.as_deref(), Some(SESSION));
    let expected = Usage {
        input_tokens: 2000,
        output_tokens: 120,
        cache_read_tokens: 14,
        cache_write_tokens: 6,
        cost_microusd: 7_500,
        turns: 2,
    };
    assert_eq!(got.usage, expected);
    assert!(matches!(events.first(), Some(RunEvent::AgentStarted { session: Some(_), .. })));
    assert!(matches!(events.last(), Some(RunEvent::AgentResult { is_error: false, .. })));
}

#[test]
fn exit_code_0_proves_nothing() {
    use RunOutcome as O;
    assert_eq!(verdict(&[], &exited(0)).outcome, Err(O::AgentFailed));
    assert_eq!(verdict(&[step(), text("hi")], &exited(0)).outcome, Err(O::AgentFailed));
    let in_the_middle = [step(), tool("1", "bash", None), finish("tool-calls")];
    assert_eq!(verdict(&in_the_middle, &exited(0)).outcome, Err(O::AgentFailed));
    let cut = [step(), text("…"), finish("length")];
    assert_eq!(verdict(&cut, &exited(0)).outcome, Err(O::LimitReached));
    let filtered = [step(), finish("content-filter")];
    assert_eq!(verdict(&filtered, &exited(0)).outcome, Err(O::AgentFailed));
}

#[test]
fn refused_calls_fail_a_run_only_where_nothing_else_went_through() {
    for refusal in [
        "The user has specified a rule which prevents you from using this specific tool call. Here are …",
        "The user rejected permission to use this specific tool call.",
        "Model tried to call unavailable tool 'invalid'. Available tools: edit, read, write.",
    ] {
        let mut lines = vec![step(), tool("1", "bash", Some(refusal)), finish("tool-calls")];
        let last = [step(), text("sorry"), finish("stop")];
        let got = verdict(&[lines.clone(), last.to_vec()].concat(), &exited(0));
        assert_eq!(got.outcome, Err(RunOutcome::ToolsDenied), "{refusal}");
        assert!(got.hint.unwrap().contains("OPENCODE_ALLOWED_TOOLS"));
        lines.extend(worked().into_iter().map(|mut line| {
            if line["part"]["callID"] == "1" {
                line["part"]["callID"] = json!("2");
            }
            line
        }));
        let (events, got) = read(&bytes(&lines), b"", &exited(0));
        assert_eq!(got.outcome, Ok(()), "{refusal}");
        assert!(got.message.unwrap().contains("`bash`"));
        assert!(events.iter().any(|event| matches!(event, RunEvent::Notice { .. })));
    }
    let broken = [step(), tool("1", "bash", Some("EROFS: read-only file system")), finish("stop")];
    assert_eq!(verdict(&broken, &exited(0)).outcome, Err(RunOutcome::ToolsDenied));
}

#[test]
fn errors_are_told_apart_and_repeat_nothing_of_the_provider() {
    use RunOutcome as O;
    let none = json!({});
    let auth = json!({"providerID": "anthropic", "message": "Anthropic API key is missing."});
    let server = json!({"message": "Unexpected server error. Check server logs for details."});
    for (line, expected, hint) in [
        (error("ProviderAuthError", &auth), O::LoginRequired, "opencode auth login"),
        (api(401, "invalid x-api-key", &none), O::KeyRejected, "valid key"),
        (api(403, "token revoked", &none), O::KeyRejected, "valid key"),
        (api(402, "Payment Required", &none), O::KeyRejected, "billing"),
        (api(400, "Your credit balance is too low", &none), O::KeyRejected, "billing"),
        (api(404, "model: x", &none), O::AgentFailed, "OPENCODE_MODEL"),
        (api(429, "Rate limited", &json!({"retry-after": "1"})), O::ProviderOverloaded, ""),
        (api(429, "Rate limited", &json!({"retry-after": "3600"})), O::QuotaExceeded, ""),
        (api(429, "You exceeded your current quota", &none), O::QuotaExceeded, ""),
        (api(429, "RESOURCE_EXHAUSTED: daily", &none), O::QuotaExceeded, ""),
        (api(500, "Internal", &none), O::ProviderOverloaded, ""),
        (api(529, "Overloaded", &none), O::ProviderOverloaded, ""),
        (api(400, "messages: too strange", &none), O::AgentFailed, ""),
        (error("UnknownError", &server), O::AgentFailed, ""),
        (error("ContextOverflowError", &json!({"message": "too long"})), O::LimitReached, ""),
        (error("OfTheFuture", &Value::Null), O::AgentFailed, ""),
    ] {
        let (events, got) = read(&bytes(std::slice::from_ref(&line)), b"", &exited(1));
        assert_eq!(got.outcome, Err(expected), "{line} {got:?}");
        assert!(got.hint.clone().unwrap_or_default().contains(hint), "{line} {got:?}");
        let all = format!("{events:?} {got:?}");
        assert!(!all.contains("a body") && !all.contains("retry-after"), "{all}");
    }
}

#[test]
fn wait_that_the_provider_asks_for_is_the_retry_time() {
    let got = verdict(&[api(429, "Rate limited", &json!({"retry-after": "3600"}))], &exited(1));
    assert_eq!(got.retry_at.unwrap().to_string(), "2026-11-23T09:00:00Z");
    let ms = json!({"retry-after-ms": "7200000"});
    let got = verdict(&[api(429, "Rate limited", &ms)], &exited(1));
    assert_eq!(got.retry_at.unwrap().to_string(), "2026-11-23T10:00:00Z");
}

#[test]
fn error_that_the_model_recovered_from_is_forgotten() {
    let mut lines = vec![api(500, "Internal", &json!({}))];
    lines.extend(worked());
    assert_eq!(verdict(&lines, &exited(0)).outcome, Ok(()));
}

#[test]
fn repeated_calls_are_events_and_the_reason_of_an_idle_stop() {
    let lines = [step(), tool("1", "bash", None), finish("tool-calls")];
    let (events, got) = read(&bytes(&lines), REPEAT.repeat(3).as_bytes(), &stopped(StopKind::Idle));
    assert_eq!(got.outcome, Err(RunOutcome::ProviderOverloaded));
    assert!(got.message.unwrap().contains("(3 calls in a row)"));
    assert_eq!(got.usage.cost_microusd, 3_750, "what was used is known");
    let attempts: Vec<u32> = events
        .iter()
        .filter_map(|event| match event {
            RunEvent::ModelRetry { attempt, .. } => Some(*attempt),
            _ => None,
        })
        .collect();
    assert_eq!(attempts, [1, 2, 3]);
    let quota = REPEAT.replace("Overloaded", "This request would exceed your account's rate limit");
    let got = read(b"", quota.as_bytes(), &stopped(StopKind::Idle)).1;
    assert_eq!(got.outcome, Err(RunOutcome::QuotaExceeded));
}

#[test]
fn only_an_answer_of_the_model_ends_the_repeats() {
    let mut reader = reader();
    assert!(!reader.only_repeats());
    reader.push_stderr(REPEAT.as_bytes());
    assert!(reader.only_repeats());
    reader.push_stderr(b"a line of noise\n");
    reader.push(b"{\"type\":\"of the future\"}\n");
    assert!(reader.only_repeats());
    reader.push(&bytes(&[step()]));
    assert!(!reader.only_repeats());
}

#[test]
fn stop_by_us_is_what_it_was_for() {
    use RunOutcome as O;
    for (kind, expected) in [
        (StopKind::Idle, O::IdleTimeout),
        (StopKind::Total, O::TimedOut),
        (StopKind::Cancelled, O::Cancelled),
        (StopKind::SpendLimit, O::LimitReached),
        (StopKind::Interrupted, O::Interrupted),
    ] {
        assert_eq!(verdict(&[step(), text("…")], &stopped(kind)).outcome, Err(expected));
    }
    let aborted = error("MessageAbortedError", &json!({"message": "aborted"}));
    for (kind, expected) in [
        (StopKind::Cancelled, O::Cancelled),
        (StopKind::SpendLimit, O::LimitReached),
        (StopKind::Total, O::TimedOut),
        (StopKind::Idle, O::IdleTimeout),
    ] {
        let got = verdict(std::slice::from_ref(&aborted), &stopped(kind));
        assert_eq!(got.outcome, Err(expected));
    }
    // What the provider said before it was stopped is what the stop was about.
    let refused = error("ProviderAuthError", &json!({"message": "no key"}));
    assert_eq!(verdict(&[refused], &stopped(StopKind::Total)).outcome, Err(O::LoginRequired));
    assert_eq!(verdict(&[aborted], &exited(1)).outcome, Err(O::AgentFailed));
}

#[test]
fn ends_without_a_word_say_what_is_known() {
    use RunOutcome as O;
    let gone = read(b"", b"\x1b[91mError: \x1b[0mSession not found\n", &exited(1)).1;
    assert!(gone.session_lost && gone.outcome == Err(O::AgentFailed), "{gone:?}");
    let missing = EndedHow::NeverStarted { text: "no such file".to_owned(), hint: None };
    let got = verdict(&[], &ended(missing));
    assert_eq!(got.outcome, Err(O::LaunchFailed));
    assert!(got.hint.unwrap().contains("OPENCODE_COMMAND"));
    assert_eq!(verdict(&[], &exited(127)).outcome, Err(O::LaunchFailed));
    assert_eq!(verdict(&[step()], &ended(EndedHow::Signaled(9))).outcome, Err(O::AgentFailed));
    let memory = AgentEnd { out_of_memory: true, ..ended(EndedHow::Signaled(9)) };
    assert_eq!(verdict(&[step()], &memory).outcome, Err(O::OutOfMemory));
}

fn piece() -> impl Strategy<Value = Vec<u8>> {
    let line = |line: Value| Just(bytes(&[line]));
    prop_oneof![
        line(step()),
        line(text("héllo wörld 🐯")),
        line(tool("1", "bash", None)),
        line(tool("1", "bash", Some("EROFS"))),
        line(finish("tool-calls")),
        line(finish("stop")),
        line(api(429, "Überlastet", &json!({"retry-after": "3600"}))),
        line(json!({"type": "of the future", "field": ["é"]})),
        line(json!({"type": "step_finish", "part": {"tokens": 7, "cost": "much"}})),
        line(json!({"type": "tool_use", "part": {"state": []}})),
        line(json!({"type": "error", "error": 3})),
        proptest::collection::vec(any::<u8>(), 0..40),
        Just(b"\r\n\n".to_vec()),
        Just(vec![0xc3]),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn cuts_change_nothing(pieces in proptest::collection::vec(piece(), 0..12)) {
        let stdout = pieces.concat();
        let whole = read(&stdout, b"", &exited(0));
        let mut reader = reader();
        let mut events: Vec<RunEvent> =
            stdout.iter().flat_map(|byte| reader.push(&[*byte])).collect();
        events.extend(reader.end_of_output());
        prop_assert_eq!((events, reader.finish(&exited(0))), whole);
    }

    #[test]
    fn any_bytes_are_read_and_prove_nothing(
        stdout in proptest::collection::vec(any::<u8>(), 0..2000),
        stderr in proptest::collection::vec(any::<u8>(), 0..500),
    ) {
        prop_assert!(read(&stdout, &stderr, &exited(0)).1.outcome.is_err());
    }
}
