//! The verdict on each way a run of Claude Code ends.

use core_types::{event::RunEvent, outcome::RunOutcome, usage::Usage};
use executor::verdict::{EndedHow, StopKind};
use serde_json::{Value, json};

use crate::lines::{
    bytes, call, denied, ended, exited, failed, init, read, reader, result, result_error, retry,
    stopped, text, tool_result, verdict,
};

const KEY: &str = "ANTHROPIC_API_KEY";

fn worked() -> Vec<Value> {
    vec![init(KEY), call("1", "Bash"), tool_result("1", false, "ok"), text("done"), result("done")]
}

#[test]
fn work_that_was_done_is_a_success_whatever_came_before() {
    let got = verdict(&worked(), &exited(0));
    assert_eq!((got.outcome, got.message.as_deref()), (Ok(()), None));
    assert_eq!(got.final_text.as_deref(), Some("done"));
    let mut lines = vec![init(KEY), retry(Some(529), "overloaded")];
    lines.extend(failed("overloaded", Some(529), "Overloaded").into_iter().take(1));
    lines.extend(worked());
    assert_eq!(verdict(&lines, &exited(0)).outcome, Ok(()));
}

#[test]
fn no_tool_call_at_all_is_a_finished_agent() {
    let got = verdict(&[init(KEY), text("nothing to do"), result("nothing to do")], &exited(0));
    assert_eq!(got.outcome, Ok(()));
}

#[test]
fn denied_tools_fail_a_run_only_where_nothing_else_went_through() {
    let refusal = "Permission to use Bash has been denied";
    let all = [
        init(KEY),
        call("1", "Bash"),
        denied("1", "Bash"),
        tool_result("1", true, refusal),
        result("sorry"),
    ];
    let got = verdict(&all, &exited(0));
    assert_eq!(got.outcome, Err(RunOutcome::ToolsDenied));
    assert!(got.hint.unwrap().contains("CLAUDE_CODE_ALLOWED_TOOLS"));
    let mut word = result("sorry");
    word["permission_denials"] =
        json!([{"tool_name": "Bash", "tool_use_id": "1", "tool_input": {}}]);
    let told_at_the_end = [init(KEY), call("1", "Bash"), tool_result("1", true, refusal), word];
    let (events, got) = read(&bytes(&told_at_the_end), b"", &exited(0));
    assert_eq!(got.outcome, Err(RunOutcome::ToolsDenied));
    assert!(
        events.contains(&RunEvent::ToolDenied { tool: "Bash".to_owned(), detail: None }),
        "{events:?}"
    );
    let some =
        [&all[..4], &[call("2", "Write"), tool_result("2", false, "ok"), result("done")]].concat();
    let (events, got) = read(&bytes(&some), b"", &exited(0));
    assert_eq!(got.outcome, Ok(()));
    assert!(got.message.unwrap().contains("`Bash`"));
    assert!(events.iter().any(|event| matches!(event, RunEvent::Notice { .. })), "{events:?}");
}

#[test]
fn broken_tools_are_no_success_and_a_failing_command_is_no_broken_tool() {
    let broken = "EROFS: read-only file system, mkdir '/home/worker/.claude/session-env'";
    let with = |answer: &str| {
        verdict(
            &[init(KEY), call("1", "Bash"), tool_result("1", true, answer), result("done")],
            &exited(0),
        )
    };
    assert_eq!(with(broken).outcome, Err(RunOutcome::ToolsDenied));
    assert_eq!(with("Exit code 1\n2 tests failed").outcome, Ok(()));
}

#[test]
fn limits_of_a_run_are_named() {
    let turns = result_error("error_max_turns", "max_turns", "Reached maximum number of turns (3)");
    let budget =
        result_error("error_max_budget_usd", "budget_exhausted", "Reached maximum budget ($0.002)");
    for word in [turns, budget] {
        let got =
            verdict(&[init(KEY), call("1", "Bash"), tool_result("1", false, ""), word], &exited(1));
        assert_eq!(got.outcome, Err(RunOutcome::LimitReached));
        assert!(got.message.unwrap().starts_with("reached maximum"));
    }
}

#[test]
fn session_that_is_gone_says_how_to_go_on() {
    let told = "No conversation found with session ID: aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa";
    let word = json!({"type": "result", "subtype": "error_during_execution", "is_error": true, "errors": [told]});
    let got = verdict(&[word], &exited(1));
    assert_eq!(got.outcome, Err(RunOutcome::AgentFailed));
    assert!(got.hint.unwrap().contains("session"));
}

#[test]
fn stop_by_us_is_what_it_was_for() {
    use RunOutcome as O;
    let aborted = result_error("error_during_execution", "aborted_tools", "aborted");
    for (kind, expected) in [
        (StopKind::Idle, O::IdleTimeout),
        (StopKind::Total, O::TimedOut),
        (StopKind::Cancelled, O::Cancelled),
        (StopKind::SpendLimit, O::LimitReached),
        (StopKind::Interrupted, O::Interrupted),
    ] {
        let without = verdict(&[init(KEY), call("1", "Bash")], &stopped(kind));
        assert_eq!(without.outcome, Err(expected));
        let with = verdict(&[init(KEY), call("1", "Bash"), aborted.clone()], &stopped(kind));
        assert_eq!(with.outcome, Err(expected));
    }
}

#[test]
fn result_stands_when_its_process_lingers_and_is_stopped() {
    for end in
        [ended(EndedHow::Signaled(15)), ended(EndedHow::Exited(143)), stopped(StopKind::Total)]
    {
        let got = verdict(&worked(), &end);
        assert_eq!((got.outcome, got.message), (Ok(()), None), "{end:?}");
    }
}

#[test]
fn signal_that_nobody_here_sent_is_a_failure_of_the_agent() {
    let running = [init(KEY), call("1", "Bash")];
    for how in [
        EndedHow::Exited(143),
        EndedHow::Signaled(15),
        EndedHow::Signaled(1),
        EndedHow::Exited(130),
    ] {
        assert_eq!(verdict(&running, &ended(how)).outcome, Err(RunOutcome::AgentFailed));
    }
    // SIGINT: exit code 0, and a result that says so.
    let aborted = result_error("error_during_execution", "aborted_tools", "Request was aborted");
    let got = verdict(&[init(KEY), call("1", "Bash"), aborted], &exited(0));
    assert_eq!(got.outcome, Err(RunOutcome::AgentFailed));
}

#[test]
fn no_result_is_a_failure_whatever_the_exit_code() {
    let running = [init(KEY), call("1", "Bash"), tool_result("1", false, "ok"), text("all done!")];
    for code in [0, 1, 3] {
        assert_eq!(verdict(&running, &exited(code)).outcome, Err(RunOutcome::AgentFailed));
        assert_eq!(verdict(&[], &exited(code)).outcome, Err(RunOutcome::AgentFailed));
    }
    let killed = verdict(&running, &ended(EndedHow::Signaled(9)));
    assert_eq!(killed.outcome, Err(RunOutcome::AgentFailed));
    assert!(killed.message.unwrap().contains("signal 9"));
}

#[test]
fn turn_after_a_result_needs_a_result_of_its_own() {
    let mut lines = worked();
    lines.push(call("2", "Bash"));
    assert_eq!(verdict(&lines, &exited(0)).outcome, Err(RunOutcome::AgentFailed));
    let mut reader = reader();
    reader.push(&bytes(&lines[..5]));
    assert!(reader.final_seen());
    reader.push(&bytes(&lines[5..]));
    assert!(!reader.final_seen());
    reader.push(&bytes(&[result("done again")]));
    assert!(reader.final_seen());
}

#[test]
fn memory_is_named_where_it_ended_the_agent() {
    let mut end = ended(EndedHow::Signaled(9));
    end.out_of_memory = true;
    assert_eq!(verdict(&[init(KEY)], &end).outcome, Err(RunOutcome::OutOfMemory));
    // A command of the agent's was ended for its memory; the agent coped.
    end.how = EndedHow::Exited(0);
    assert_eq!(verdict(&worked(), &end).outcome, Ok(()));
}

#[test]
fn agent_that_never_ran_says_what_to_install() {
    let never =
        EndedHow::NeverStarted { text: "program `claude` not found".to_owned(), hint: None };
    let got = verdict(&[], &ended(never));
    assert_eq!(got.outcome, Err(RunOutcome::LaunchFailed));
    assert!(got.message.unwrap().contains("`claude`"));
    assert!(got.hint.unwrap().contains("npm install"));
    let hint = Some("make room".to_owned());
    let full = EndedHow::NeverStarted { text: "disk full".to_owned(), hint: hint.clone() };
    assert_eq!(verdict(&[], &ended(full)).hint, hint);
    let room = EndedHow::HostFailed { text: "fork".to_owned(), hint: "make room".to_owned() };
    let got = verdict(&[], &ended(room));
    assert_eq!((got.outcome, got.hint), (Err(RunOutcome::HostFailed), hint));
    let lost = EndedHow::Lost { text: "host restarted".to_owned() };
    assert_eq!(verdict(&[], &ended(lost)).outcome, Err(RunOutcome::WorkerLost));
}

#[test]
fn start_failures_that_are_only_on_standard_error_are_told() {
    use RunOutcome as O;
    for (stderr, code, expected, hint) in [
        (
            "--dangerously-skip-permissions cannot be used with root/sudo privileges for security reasons\n",
            1,
            O::LaunchFailed,
            "dontAsk",
        ),
        ("error: unknown option '--strict-mcp-config'\n", 1, O::LaunchFailed, "update"),
        (
            "error: option '--permission-mode <mode>' argument 'delegate' is invalid\n",
            1,
            O::LaunchFailed,
            "update",
        ),
        ("sh: 1: claude: not found\n", 127, O::LaunchFailed, "npm install"),
        ("TypeError: x is not a function\n", 1, O::AgentFailed, ""),
    ] {
        let (events, got) = read(b"", stderr.as_bytes(), &exited(code));
        assert_eq!(got.outcome, Err(expected), "{stderr}");
        assert!(got.hint.clone().unwrap_or_default().contains(hint), "{got:?}");
        assert!(got.message.unwrap().contains(stderr.trim()), "the reason is in the message");
        assert_eq!(
            events,
            [RunEvent::Output { stream: "stderr".to_owned(), text: stderr.trim().to_owned() }]
        );
    }
}

#[test]
fn tokens_and_money_are_known_on_failure_too() {
    let told = Usage {
        input_tokens: 100,
        output_tokens: 20,
        cache_read_tokens: 7,
        cache_write_tokens: 4,
        cost_microusd: 12_500,
        turns: 3,
    };
    assert_eq!(crate::model_failures::api(KEY, "overloaded", Some(529), "Overloaded").usage, told);
    let running = [init(KEY), call("1", "Bash"), call("1", "Bash"), text("more")];
    let summed = verdict(&running, &stopped(StopKind::Idle)).usage;
    assert_eq!((summed.input_tokens, summed.cache_read_tokens, summed.turns), (20, 10, 2));
    let mut reader = reader();
    reader.push(&bytes(&running));
    assert_eq!(reader.usage(), summed);
}

#[test]
fn session_is_known_as_soon_as_it_is_told() {
    let got = verdict(&[init(KEY)], &stopped(StopKind::Cancelled));
    assert_eq!(got.session.as_deref(), Some(crate::lines::SESSION));
}

#[test]
fn exit_code_after_a_result_is_mentioned() {
    let got = verdict(&worked(), &exited(3));
    assert_eq!(got.outcome, Ok(()));
    assert!(got.message.unwrap().contains("exit code 3"));
}
