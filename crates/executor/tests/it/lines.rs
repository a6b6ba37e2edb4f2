//! Lines as Claude Code 2.1.330 writes them, with what nobody reads left out.

use core_types::event::RunEvent;
use executor::{
    claude_code::{ClaudeCode, ClaudeSettings},
    invocation::{AgentTask, Place},
    stream::StreamReader,
    verdict::{AgentEnd, EndedHow, StopKind, Verdict},
};
use serde_json::{Value, json};

pub(crate) const SESSION: &str = "14913580-793b-4538-bfb9-5cefffcfadd1";
pub(crate) const NOW: &str = "2026-11-23T08:00:00Z";

pub(crate) fn init(key_source: &str) -> Value {
    json!({
        "type": "system", "subtype": "init", "cwd": "/w", "session_id": SESSION, "tools": ["Bash", "Write"],
        "mcp_servers": [], "model": "claude-opus-5-5", "permissionMode": "dontAsk",
        "apiKeySource": key_source, "claude_code_version": "2.1.330",
    })
}

pub(crate) fn text(text: &str) -> Value {
    answer("msg_text", &json!({"type": "text", "text": text}))
}

pub(crate) fn call(id: &str, tool: &str) -> Value {
    answer(
        &format!("msg_{id}"),
        &json!({"type": "tool_use", "id": id, "name": tool, "input": {"command": "true"}}),
    )
}

fn answer(message: &str, block: &Value) -> Value {
    json!({
        "type": "assistant", "session_id": SESSION, "parent_tool_use_id": null,
        "message": {
            "id": message, "type": "message", "role": "assistant", "model": "claude-opus-5-5",
            "content": [block], "stop_reason": null,
            "usage": {"input_tokens": 10, "cache_read_input_tokens": 5, "cache_creation_input_tokens": 3, "output_tokens": 1},
        },
    })
}

pub(crate) fn tool_result(id: &str, is_error: bool, text: &str) -> Value {
    json!({
        "type": "user", "session_id": SESSION, "parent_tool_use_id": null,
        "message": {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": id, "content": text, "is_error": is_error},
        ]},
    })
}

pub(crate) fn denied(id: &str, tool: &str) -> Value {
    json!({
        "type": "system", "subtype": "permission_denied", "tool_name": tool, "tool_use_id": id,
        "decision_reason_type": "mode", "session_id": SESSION,
        "message": format!("Permission to use {tool} has been denied because Claude Code is running in don't ask mode."),
    })
}

pub(crate) fn retry(status: Option<u16>, error: &str) -> Value {
    json!({
        "type": "system", "subtype": "api_retry", "attempt": 1, "max_retries": 2, "retry_delay_ms": 500,
        "error_status": status, "error": error, "session_id": SESSION,
    })
}

pub(crate) fn limit(status: &str, resets_at: i64) -> Value {
    json!({
        "type": "rate_limit_event", "session_id": SESSION,
        "rate_limit_info": {"status": status, "resetsAt": resets_at, "rateLimitType": "five_hour", "utilization": 0.5},
    })
}

/// A failed model call: the text that the CLI makes of it, and the final word.
pub(crate) fn failed(error: &str, status: Option<u16>, text: &str) -> Vec<Value> {
    let told = json!({
        "type": "assistant", "session_id": SESSION, "parent_tool_use_id": null, "error": error, "is_api_error_message": true,
        "message": {
            "id": "621e9a61", "role": "assistant", "model": "<synthetic>", "type": "message",
            "content": [{"type": "text", "text": text}],
            "usage": {"input_tokens": 0, "output_tokens": 0},
        },
    });
    let mut word = result(text);
    for (name, value) in [
        ("is_error", json!(true)),
        ("api_error_status", json!(status)),
        ("terminal_reason", json!("api_error")),
    ] {
        word[name] = value;
    }
    vec![told, word]
}

pub(crate) fn result(text: &str) -> Value {
    let models = json!({"claude-opus-5-5": {
        "inputTokens": 100, "outputTokens": 20, "cacheReadInputTokens": 7, "cacheCreationInputTokens": 4, "costUSD": 0.0125,
    }});
    json!({
        "type": "result", "subtype": "success", "is_error": false, "result": text, "session_id": SESSION,
        "num_turns": 3, "duration_ms": 415, "total_cost_usd": 0.0125, "permission_denials": [],
        "usage": {"input_tokens": 10, "output_tokens": 2}, "modelUsage": models,
        "model_usage_since_last_result": models, "terminal_reason": "completed", "api_error_status": null,
    })
}

/// A final word of the kind that carries `errors` instead of a text.
pub(crate) fn result_error(subtype: &str, reason: &str, error: &str) -> Value {
    let mut word = result("");
    for (name, value) in [
        ("subtype", json!(subtype)),
        ("is_error", json!(true)),
        ("result", Value::Null),
        ("errors", json!([error])),
        ("terminal_reason", json!(reason)),
    ] {
        word[name] = value;
    }
    word
}

pub(crate) fn bytes(lines: &[Value]) -> Vec<u8> {
    lines.iter().flat_map(|line| format!("{line}\n").into_bytes()).collect()
}

pub(crate) fn reader() -> StreamReader {
    let place = Place::default();
    let call = ClaudeCode::new(ClaudeSettings::default()).invocation(&AgentTask::default(), &place);
    call.expect("default settings can be used").reader()
}

pub(crate) fn exited(code: i32) -> AgentEnd {
    ended(EndedHow::Exited(code))
}

pub(crate) fn ended(how: EndedHow) -> AgentEnd {
    AgentEnd { how, stopped: None, out_of_memory: false, at: NOW.parse().expect("it is a time") }
}

pub(crate) fn stopped(kind: StopKind) -> AgentEnd {
    AgentEnd { stopped: Some(kind), ..ended(EndedHow::Signaled(15)) }
}

/// Events and verdict of a whole output.
pub(crate) fn read(stdout: &[u8], stderr: &[u8], end: &AgentEnd) -> (Vec<RunEvent>, Verdict) {
    let mut reader = reader();
    let mut events = reader.push(stdout);
    events.extend(reader.push_stderr(stderr));
    events.extend(reader.end_of_output());
    (events, reader.finish(end))
}

pub(crate) fn verdict(lines: &[Value], end: &AgentEnd) -> Verdict {
    read(&bytes(lines), b"", end).1
}
