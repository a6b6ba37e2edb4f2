//! The lines of `opencode run --format json`, picked leniently: a field that is missing or of another type is absent,
//! a line of an unknown type is [`Message::Other`], and only what is no message at all is refused.

use core_types::usage::Usage;
use serde_json::Value;

/// What one line says, and the session it belongs to.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) session: Option<String>,
    pub(super) message: Message,
}

#[derive(Debug)]
pub(super) enum Message {
    /// A call of the model was answered.
    StepStart,
    /// What the answer used, and why it ended.
    StepFinish { reason: Option<String>, usage: Usage },
    /// The model wrote a text.
    Text(String),
    /// A tool was called and has answered.
    Tool(ToolUse),
    /// Something went wrong for good.
    Error(Failure),
    /// Anything else; it says nothing we need.
    Other,
}

#[derive(Debug)]
pub(super) struct ToolUse {
    pub(super) id: String,
    pub(super) tool: String,
    pub(super) input: Value,
    pub(super) is_error: bool,
    /// Whether the call was refused and not tried.
    pub(super) denied: bool,
    pub(super) text: String,
}

/// An `error` line. The headers and the body of the provider's answer, which it repeats, are left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) name: String,
    pub(super) message: String,
    pub(super) status: Option<u16>,
    /// How long the provider asks to wait, in seconds.
    pub(super) retry_after_s: Option<u32>,
}

impl Failure {
    /// Whether it is no failure of its own but what it says when it is told to end.
    pub(super) fn is_abort(&self) -> bool {
        self.name == "MessageAbortedError"
    }
}

/// Reads one line; `None` if it is no message of the protocol.
pub(super) fn parse(line: &str) -> Option<Told> {
    let value: Value = serde_json::from_str(line).ok()?;
    let kind = value.get("type")?.as_str()?;
    let part = value.get("part").unwrap_or(&Value::Null);
    let message = match kind {
        "step_start" => Message::StepStart,
        "step_finish" => {
            Message::StepFinish { reason: text(part, "reason"), usage: step_usage(part) }
        }
        "text" => text(part, "text").map_or(Message::Other, Message::Text),
        "tool_use" => tool_use(part).map_or(Message::Other, Message::Tool),
        "error" => Message::Error(failure(value.get("error").unwrap_or(&Value::Null))),
        _ => Message::Other,
    };
    Some(Told { session: text(&value, "sessionID"), message })
}

fn tool_use(part: &Value) -> Option<ToolUse> {
    let state = part.get("state")?;
    let is_error = text(state, "status").as_deref() == Some("error");
    let answer = if is_error { text(state, "error") } else { text(state, "output") };
    let answer = answer.unwrap_or_default();
    Some(ToolUse {
        id: text(part, "callID").or_else(|| text(part, "id"))?,
        tool: text(part, "tool")?,
        input: state.get("input").cloned().unwrap_or_default(),
        is_error,
        denied: is_error && says_denied(&answer),
        text: answer,
    })
}

/// A refused call has no field of its own: by a rule, by an answer that nobody could give, or since the tool is not
/// even offered.
fn says_denied(answer: &str) -> bool {
    ["a rule which prevents you", "rejected permission", "tried to call unavailable tool"]
        .iter()
        .any(|words| answer.contains(words))
}

fn failure(error: &Value) -> Failure {
    let data = error.get("data").unwrap_or(&Value::Null);
    let status = data.get("statusCode").and_then(Value::as_u64);
    Failure {
        name: text(error, "name").unwrap_or_else(|| "unknown".to_owned()),
        message: text(data, "message").or_else(|| text(error, "message")).unwrap_or_default(),
        status: status.and_then(|status| u16::try_from(status).ok()),
        retry_after_s: data.get("responseHeaders").and_then(retry_after),
    }
}

fn retry_after(headers: &Value) -> Option<u32> {
    let named = |name: &str| headers.get(name)?.as_str()?.trim().parse::<u32>().ok();
    named("retry-after").or_else(|| named("retry-after-ms").map(|ms| ms.div_ceil(1_000)))
}

fn step_usage(part: &Value) -> Usage {
    let tokens = part.get("tokens").unwrap_or(&Value::Null);
    let cache = tokens.get("cache").unwrap_or(&Value::Null);
    Usage {
        input_tokens: count(tokens, "input"),
        // What a model thinks is paid like what it says, and told apart from it.
        output_tokens: count(tokens, "output").saturating_add(count(tokens, "reasoning")),
        cache_read_tokens: count(cache, "read"),
        cache_write_tokens: count(cache, "write"),
        cost_microusd: microusd(part.get("cost").and_then(Value::as_f64).unwrap_or_default()),
        turns: 1,
    }
}

fn text(value: &Value, name: &str) -> Option<String> {
    value.get(name)?.as_str().map(str::to_owned)
}

fn count(value: &Value, name: &str) -> u64 {
    value.get(name).and_then(Value::as_u64).unwrap_or_default()
}

/// A price in millionths of a dollar.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float cast saturates, and a price below zero is none"
)]
fn microusd(dollars: f64) -> u64 {
    (dollars * 1e6).round() as u64
}
