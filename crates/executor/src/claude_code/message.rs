//! The lines of `stream-json`, picked leniently: a field that is missing or of another type is absent, a line
//! of an unknown type is [`Message::Other`], and only what is no message at all is refused.

use core_types::usage::Usage;
use jiff::Timestamp;
use serde_json::Value;

use crate::tally::plus;

/// What one line says.
#[derive(Debug)]
pub(super) enum Message {
    /// The CLI said hello.
    Init {
        session: Option<String>,
        model: Option<String>,
        version: Option<String>,
        key_source: Option<String>,
    },
    /// A model call failed and is tried again.
    ApiRetry { attempt: u32, max_attempts: u32, status: Option<u16>, reason: String },
    /// A tool call was denied.
    PermissionDenied { call: Option<String>, tool: String, detail: Option<String> },
    /// The provider told how much of the limit is used.
    RateLimit(RateLimit),
    /// The model answered, or failed to.
    Assistant(Assistant),
    /// Tools answered.
    Tools(Vec<ToolAnswer>),
    /// The final word.
    Final(Box<FinalWord>),
    /// Anything else; it says nothing we need.
    Other,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct RateLimit {
    pub(super) status: String,
    pub(super) limit: Option<String>,
    pub(super) utilization: Option<f64>,
    pub(super) resets_at: Option<Timestamp>,
}

#[derive(Debug)]
pub(super) struct Assistant {
    pub(super) id: Option<String>,
    pub(super) blocks: Vec<Block>,
    pub(super) usage: Usage,
    pub(super) error: Option<String>,
}

#[derive(Debug)]
pub(super) enum Block {
    Text(String),
    Call { id: String, tool: String, input: Value },
}

#[derive(Debug)]
pub(super) struct ToolAnswer {
    pub(super) call: String,
    pub(super) is_error: bool,
    pub(super) text: String,
}

#[derive(Debug)]
pub(super) struct FinalWord {
    pub(super) subtype: String,
    pub(super) is_error: bool,
    pub(super) status: Option<u16>,
    pub(super) reason: Option<String>,
    pub(super) text: Option<String>,
    pub(super) errors: Vec<String>,
    pub(super) usage: Usage,
    pub(super) share: Share,
    /// Call id and tool of each denial.
    pub(super) denials: Vec<(String, String)>,
    pub(super) session: Option<String>,
}

/// What a final word's usage covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Share {
    /// All since the final word before it.
    SinceLast,
    /// The whole session.
    Total,
}

/// Reads one line; `None` if it is no message of the protocol.
pub(super) fn parse(line: &str) -> Option<Message> {
    let value: Value = serde_json::from_str(line).ok()?;
    let kind = value.get("type")?.as_str()?;
    Some(match kind {
        "system" => system(&value),
        "rate_limit_event" => rate_limit(&value),
        "assistant" => Message::Assistant(assistant(&value)),
        "user" => Message::Tools(tool_answers(&value)),
        "result" => Message::Final(Box::new(final_word(&value))),
        _ => Message::Other,
    })
}

/// The session a line belongs to, whatever its type.
fn session(value: &Value) -> Option<String> {
    text(value, "session_id")
}

fn system(value: &Value) -> Message {
    match value.get("subtype").and_then(Value::as_str) {
        Some("init") => Message::Init {
            session: session(value),
            model: text(value, "model"),
            version: text(value, "claude_code_version"),
            key_source: text(value, "apiKeySource"),
        },
        Some("api_retry") => Message::ApiRetry {
            attempt: small(value, "attempt").unwrap_or_default(),
            max_attempts: small(value, "max_retries").unwrap_or_default(),
            status: status(value, "error_status"),
            reason: text(value, "error").unwrap_or_else(|| "unknown".to_owned()),
        },
        Some("permission_denied") => Message::PermissionDenied {
            call: text(value, "tool_use_id"),
            tool: text(value, "tool_name").unwrap_or_else(|| "unknown".to_owned()),
            detail: text(value, "message"),
        },
        _ => Message::Other,
    }
}

fn rate_limit(value: &Value) -> Message {
    let Some(info) = value.get("rate_limit_info") else {
        return Message::Other;
    };
    let Some(status) = text(info, "status") else {
        return Message::Other;
    };
    Message::RateLimit(RateLimit {
        status,
        limit: text(info, "rateLimitType"),
        utilization: info.get("utilization").and_then(Value::as_f64),
        resets_at: info.get("resetsAt").and_then(Value::as_i64).and_then(epoch),
    })
}

fn assistant(value: &Value) -> Assistant {
    let message = value.get("message").unwrap_or(&Value::Null);
    let blocks = message.get("content").and_then(Value::as_array).map(Vec::as_slice);
    Assistant {
        id: text(message, "id"),
        blocks: blocks.unwrap_or_default().iter().filter_map(block).collect(),
        usage: message.get("usage").map(message_usage).unwrap_or_default(),
        error: text(value, "error"),
    }
}

fn block(value: &Value) -> Option<Block> {
    match value.get("type")?.as_str()? {
        "text" => text(value, "text").map(Block::Text),
        "tool_use" => Some(Block::Call {
            id: text(value, "id")?,
            tool: text(value, "name")?,
            input: value.get("input").cloned().unwrap_or_default(),
        }),
        _ => None,
    }
}

fn tool_answers(value: &Value) -> Vec<ToolAnswer> {
    let blocks = value.pointer("/message/content").and_then(Value::as_array);
    blocks.map(Vec::as_slice).unwrap_or_default().iter().filter_map(tool_answer).collect()
}

fn tool_answer(value: &Value) -> Option<ToolAnswer> {
    Some(ToolAnswer {
        call: text(value, "tool_use_id")?,
        is_error: value.get("is_error").and_then(Value::as_bool).unwrap_or_default(),
        text: value.get("content").map(content_text).unwrap_or_default(),
    })
}

/// A tool's answer is a text or a list of blocks, of which only the texts are kept.
fn content_text(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(blocks) => {
            let texts: Vec<String> =
                blocks.iter().filter_map(|block| text(block, "text")).collect();
            texts.join("\n")
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => String::new(),
    }
}

fn final_word(value: &Value) -> FinalWord {
    let (usage, share) = final_usage(value);
    let errors = value.get("errors").and_then(Value::as_array).map(Vec::as_slice);
    let denials = value.get("permission_denials").and_then(Value::as_array).map(Vec::as_slice);
    FinalWord {
        subtype: text(value, "subtype").unwrap_or_default(),
        is_error: value.get("is_error").and_then(Value::as_bool).unwrap_or_default(),
        status: status(value, "api_error_status"),
        reason: text(value, "terminal_reason"),
        text: text(value, "result"),
        errors: errors
            .unwrap_or_default()
            .iter()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect(),
        usage,
        share,
        denials: denials
            .unwrap_or_default()
            .iter()
            .map(|denial| {
                let tool = text(denial, "tool_name").unwrap_or_else(|| "unknown".to_owned());
                (text(denial, "tool_use_id").unwrap_or_default(), tool)
            })
            .collect(),
        session: session(value),
    }
}

/// What one answer of the model used.
fn message_usage(usage: &Value) -> Usage {
    Usage {
        input_tokens: count(usage, "input_tokens"),
        output_tokens: count(usage, "output_tokens"),
        cache_read_tokens: count(usage, "cache_read_input_tokens"),
        cache_write_tokens: count(usage, "cache_creation_input_tokens"),
        cost_microusd: 0,
        turns: 0,
    }
}

/// What the run used: over all models where told (`usage` counts the main loop only).
///
/// `modelUsage` and `total_cost_usd` go on counting over a continued session, so the share since the last final
/// word is taken where the CLI tells it.
fn final_usage(value: &Value) -> (Usage, Share) {
    let turns = small(value, "num_turns").unwrap_or_default();
    if let Some(usage) = models_usage(value, "model_usage_since_last_result") {
        return (Usage { turns, ..usage }, Share::SinceLast);
    }
    let usage = models_usage(value, "modelUsage")
        .unwrap_or_else(|| value.get("usage").map(message_usage).unwrap_or_default());
    let cost = value.get("total_cost_usd").and_then(Value::as_f64).unwrap_or_default();
    (Usage { cost_microusd: microusd(cost), turns, ..usage }, Share::Total)
}

fn models_usage(value: &Value, name: &str) -> Option<Usage> {
    let models = value.get(name)?.as_object().filter(|models| !models.is_empty())?;
    Some(models.values().map(model_usage).fold(Usage::default(), plus))
}

fn model_usage(model: &Value) -> Usage {
    Usage {
        input_tokens: count(model, "inputTokens"),
        output_tokens: count(model, "outputTokens"),
        cache_read_tokens: count(model, "cacheReadInputTokens"),
        cache_write_tokens: count(model, "cacheCreationInputTokens"),
        cost_microusd: microusd(model.get("costUSD").and_then(Value::as_f64).unwrap_or_default()),
        turns: 0,
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float cast saturates, and a price below zero is none"
)]
fn microusd(dollars: f64) -> u64 {
    (dollars * 1e6).round() as u64
}

fn text(value: &Value, name: &str) -> Option<String> {
    value.get(name)?.as_str().map(str::to_owned)
}

fn count(value: &Value, name: &str) -> u64 {
    value.get(name).and_then(Value::as_u64).unwrap_or_default()
}

fn small(value: &Value, name: &str) -> Option<u32> {
    u32::try_from(value.get(name)?.as_u64()?).ok()
}

fn status(value: &Value, name: &str) -> Option<u16> {
    u16::try_from(value.get(name)?.as_u64()?).ok()
}

fn epoch(seconds: i64) -> Option<Timestamp> {
    Timestamp::from_second(seconds).ok()
}
