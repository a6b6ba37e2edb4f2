//! The bodies of answers: one JSON message, or the same as server-sent events.

use http::{HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    conversation::Conversation,
    script::{Answer, Failure, Limit, Tokens},
};

/// An answer with its placeholders filled, ready to be written in either form.
#[derive(Debug)]
pub(crate) struct Message {
    id: String,
    model: String,
    blocks: Vec<Value>,
    stop_reason: &'static str,
    usage: Tokens,
}

impl Message {
    /// `number` makes its ids unlike those of any other answer.
    pub(crate) fn new(answer: &Answer, conversation: &Conversation, number: u64) -> Self {
        let text =
            answer.text.iter().map(|text| json!({"type": "text", "text": conversation.fill(text)}));
        let calls = answer.calls.iter().enumerate().map(|(index, call)| {
            json!({
                "type": "tool_use",
                "id": format!("toolu_stub_{number}_{index}"),
                "name": conversation.tool(&call.tool),
                "input": conversation.input(&call.input),
            })
        });
        Self {
            id: format!("msg_stub_{number}"),
            model: conversation.model.clone(),
            blocks: text.chain(calls).collect(),
            stop_reason: if answer.calls.is_empty() { "end_turn" } else { "tool_use" },
            usage: answer.usage,
        }
    }

    /// As one JSON value.
    pub(crate) fn whole(&self) -> Value {
        self.shell(&self.blocks, Some(self.stop_reason), self.usage.output)
    }

    /// As server-sent events, each the text of one.
    pub(crate) fn events(&self) -> Vec<String> {
        let start = json!({"type": "message_start", "message": self.shell(&[], None, 1)});
        let delta = json!({
            "type": "message_delta",
            "delta": {"stop_reason": self.stop_reason, "stop_sequence": null},
            "usage": {"output_tokens": self.usage.output},
        });
        let blocks =
            self.blocks.iter().enumerate().flat_map(|(index, block)| block_events(index, block));
        let end = [delta, json!({"type": "message_stop"})];
        std::iter::once(start).chain(blocks).chain(end).map(|event| event_text(&event)).collect()
    }

    fn shell(&self, blocks: &[Value], stop_reason: Option<&str>, output: u64) -> Value {
        json!({
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": blocks,
            "stop_reason": stop_reason,
            "stop_sequence": null,
            "usage": {
                "input_tokens": self.usage.input,
                "cache_read_input_tokens": self.usage.cache_read,
                "cache_creation_input_tokens": self.usage.cache_write,
                "output_tokens": output,
            },
        })
    }
}

fn event_text(event: &Value) -> String {
    let name = event.get("type").and_then(Value::as_str).unwrap_or("message");
    format!("event: {name}\ndata: {event}\n\n")
}

fn block_events(index: usize, block: &Value) -> Vec<Value> {
    let (empty, deltas) = match block.get("text").and_then(Value::as_str) {
        Some(text) => (json!({"type": "text", "text": ""}), text_deltas(text)),
        None => {
            let mut empty = block.clone();
            let input = empty.get_mut("input").map(Value::take).unwrap_or_default();
            if let Some(field) = empty.get_mut("input") {
                *field = json!({});
            }
            (empty, vec![json!({"type": "input_json_delta", "partial_json": input.to_string()})])
        }
    };
    let start = json!({"type": "content_block_start", "index": index, "content_block": empty});
    let stop = json!({"type": "content_block_stop", "index": index});
    let deltas = deltas
        .into_iter()
        .map(|delta| json!({"type": "content_block_delta", "index": index, "delta": delta}));
    std::iter::once(start).chain(deltas).chain([stop]).collect()
}

/// Word by word, as a model writes.
fn text_deltas(text: &str) -> Vec<Value> {
    text.split_inclusive(' ').map(|word| json!({"type": "text_delta", "text": word})).collect()
}

/// The body of a failed request.
pub(crate) fn failure_body(failure: &Failure) -> Value {
    error_body(&failure.kind, &failure.message)
}

/// The body of any failed request.
pub(crate) fn error_body(kind: &str, message: &str) -> Value {
    json!({
        "type": "error",
        "error": {"type": kind, "message": message},
        "request_id": "req_stub",
    })
}

/// The headers of a failed request. Whether to try again is left to the client, as the provider does.
pub(crate) fn failure_headers(failure: &Failure, now: Timestamp) -> HeaderMap {
    let mut headers = limit_headers(failure.limit.as_ref(), now);
    let retry_after =
        failure.retry_after_s.map(|seconds| ("retry-after".to_owned(), seconds.to_string()));
    let own = failure.headers.iter().map(|(name, value)| (name.clone(), value.clone()));
    for (name, value) in own.chain(retry_after) {
        put(&mut headers, &name, &value);
    }
    headers
}

/// What the provider tells about the account's limit.
pub(crate) fn limit_headers(limit: Option<&Limit>, now: Timestamp) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let Some(limit) = limit else { return headers };
    let resets =
        i64::try_from(limit.resets_in_s).unwrap_or(i64::MAX).saturating_add(now.as_second());
    let short = match limit.claim.as_str() {
        "seven_day" => "7d",
        _ => "5h",
    };
    let mut tell = |name: &str, value: &str| {
        put(&mut headers, &format!("anthropic-ratelimit-unified-{name}"), value);
    };
    tell("status", &limit.status);
    tell("reset", &resets.to_string());
    tell("representative-claim", &limit.claim);
    tell(&format!("{short}-status"), &limit.status);
    tell(&format!("{short}-reset"), &resets.to_string());
    if let Some(used) = limit.utilization {
        tell(&format!("{short}-utilization"), &used.to_string());
    }
    headers
}

/// Headers that cannot be written are left out; scripts are the only source of such.
fn put(headers: &mut HeaderMap, name: &str, value: &str) {
    if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), value.parse::<HeaderValue>()) {
        headers.insert(name, value);
    }
}
