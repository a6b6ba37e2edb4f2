//! The output as bytes: cut anywhere, broken anywhere.

use core_types::{
    event::{EVENT_TEXT_LIMIT, RunEvent},
    outcome::RunOutcome,
};
use executor::verdict::Verdict;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::lines::{
    bytes, call, denied, exited, failed, init, limit, read, reader, result, retry, text,
    tool_result,
};

/// Events and verdict of an output that comes in pieces.
fn read_pieces(stdout: &[u8], cuts: &[usize]) -> (Vec<RunEvent>, Verdict) {
    let mut reader = reader();
    let mut events = Vec::new();
    let mut rest = stdout;
    for cut in cuts {
        let (piece, after) = rest.split_at((*cut).min(rest.len()));
        events.extend(reader.push(piece));
        rest = after;
    }
    events.extend(reader.push(rest));
    events.extend(reader.end_of_output());
    (events, reader.finish(&exited(0)))
}

fn piece() -> impl Strategy<Value = Vec<u8>> {
    let line = |line: Value| Just(bytes(&[line]));
    prop_oneof![
        line(init("none")),
        line(text("héllo wörld 🐯")),
        line(call("1", "Bash")),
        line(denied("1", "Bash")),
        line(tool_result("1", false, "zwölf")),
        line(tool_result("1", true, "EROFS")),
        line(retry(Some(529), "overloaded")),
        line(limit("rejected", 1_795_428_600)),
        line(result("done 🐯")),
        Just(bytes(&failed("overloaded", Some(529), "Überlastet"))),
        line(json!({"type": "of the future", "field": ["é"]})),
        line(json!({"type": "assistant", "message": 7, "error": []})),
        line(
            json!({"type": "result", "usage": "much", "modelUsage": [], "permission_denials": {}})
        ),
        line(
            json!({"type": "user", "message": {"content": [{"type": "tool_result", "tool_use_id": 3}]}})
        ),
        proptest::collection::vec(any::<u8>(), 0..40),
        Just(b"\r\n\n".to_vec()),
        Just(vec![0xc3]),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn cuts_change_nothing(
        pieces in proptest::collection::vec(piece(), 0..12),
        cuts in proptest::collection::vec(0_usize..200, 0..30),
    ) {
        let stdout = pieces.concat();
        let whole = read(&stdout, b"", &exited(0));
        prop_assert_eq!(&read_pieces(&stdout, &cuts), &whole);
        let single = vec![1; stdout.len()];
        prop_assert_eq!(&read_pieces(&stdout, &single), &whole);
    }

    #[test]
    fn any_bytes_are_read_and_prove_nothing(
        stdout in proptest::collection::vec(any::<u8>(), 0..2000),
        stderr in proptest::collection::vec(any::<u8>(), 0..500),
    ) {
        let (_, verdict) = read(&stdout, &stderr, &exited(0));
        prop_assert!(verdict.outcome.is_err());
    }
}

#[test]
fn what_is_no_message_is_output_and_hurts_nothing() {
    let mut stdout =
        b"npm warn something\n\xff\xfe\n{\"type\":\n[1]\n\"text\"\n{\"no\":\"type\"}\n".to_vec();
    stdout.extend(bytes(&[init("none"), result("done")]));
    let (events, verdict) = read(&stdout, b"", &exited(0));
    let noise = events
        .iter()
        .filter(|event| matches!(event, RunEvent::Output { stream, .. } if stream == "stdout"));
    assert_eq!(noise.count(), 6, "{events:?}");
    assert_eq!(verdict.outcome, Ok(()));
}

#[test]
fn messages_of_unknown_types_are_data() {
    let lines = [
        init("none"),
        json!({"type": "tool_progress", "elapsed": 3}),
        json!({"type": "stream_event", "event": {}}),
        json!({"type": "system", "subtype": "of the future"}),
        json!({"type": "control_request", "request": {}}),
        result("done"),
    ];
    let (events, verdict) = read(&bytes(&lines), b"", &exited(0));
    assert_eq!(events.len(), 2, "{events:?}");
    assert_eq!(verdict.outcome, Ok(()));
}

#[test]
fn giant_line_is_cut_and_what_follows_is_read() {
    let mut stdout = bytes(&[init("none")]);
    stdout.extend(vec![b'x'; 20 * 1024 * 1024]);
    stdout.push(b'\n');
    stdout.extend(bytes(&[result("done")]));
    let (events, verdict) = read_pieces(&stdout, &vec![100_000; 100]);
    assert_eq!(verdict.outcome, Ok(()));
    let Some(RunEvent::Output { text, .. }) = events.get(1) else { panic!("{events:?}") };
    assert!(text.len() < EVENT_TEXT_LIMIT && text.ends_with(" bytes more]"), "{}", text.len());
}

#[test]
fn result_that_never_ends_is_no_result() {
    let mut stdout = bytes(&[init("none"), result("done")]);
    stdout.truncate(stdout.len() - 20);
    let (_, verdict) = read(&stdout, b"", &exited(0));
    assert_eq!(verdict.outcome, Err(RunOutcome::AgentFailed));
}

#[test]
fn result_without_a_line_end_counts() {
    let mut stdout = bytes(&[init("none"), result("done")]);
    stdout.pop();
    let (events, verdict) = read(&stdout, b"", &exited(0));
    assert_eq!(verdict.outcome, Ok(()));
    assert!(matches!(events.last(), Some(RunEvent::AgentResult { is_error: false, .. })));
}

#[test]
fn repeated_news_about_the_limit_is_told_once() {
    let lines =
        [init("none"), limit("allowed", 1), limit("allowed", 1), limit("allowed_warning", 1)];
    let (events, _) = read(&bytes(&lines), b"", &exited(0));
    let told = events.iter().filter(|event| matches!(event, RunEvent::RateLimit { .. }));
    assert_eq!(told.count(), 2);
}

#[test]
fn long_texts_are_cut_in_events() {
    let long = "é".repeat(EVENT_TEXT_LIMIT);
    let (events, _) = read(&bytes(&[text(&long), tool_result("1", false, &long)]), b"", &exited(0));
    for event in events {
        match event {
            RunEvent::Text { text } | RunEvent::ToolResult { text, .. } => {
                assert!(text.len() <= EVENT_TEXT_LIMIT + 64, "{}", text.len());
            }
            other => panic!("{other:?}"),
        }
    }
}
