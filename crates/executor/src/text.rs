//! Making what an agent wrote fit to be stored and shown: cut, without NUL, without the run's secrets.

use core_types::{
    event::{EVENT_TEXT_LIMIT, cut_text},
    secret::Secret,
};
use serde_json::Value;

/// What one text inside a tool's input is cut to, if the input as a whole is too long.
const NESTED_LIMIT: usize = 2 * 1024;
/// Shorter secrets are no keys but words, and masking them would garble the output.
const SHORTEST_SECRET: usize = 8;

/// A text cut for an event. NUL becomes U+FFFD, since Postgres stores no NUL in text or JSON.
pub(crate) fn event_text(text: &str) -> String {
    cut_text(&text.replace('\0', "\u{fffd}"), EVENT_TEXT_LIMIT)
}

/// One line for people, from the first line of a text that may be long.
pub(crate) fn one_line(text: &str) -> String {
    let line = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    cut_text(&line.replace('\0', "\u{fffd}"), 300)
}

/// A JSON value cut for an event.
pub(crate) fn event_value(value: &Value) -> Value {
    let clean = map_texts(value, &|text| text.replace('\0', "\u{fffd}"));
    if fits(&clean) {
        return clean;
    }
    let shorter = map_texts(&clean, &|text| cut_text(text, NESTED_LIMIT));
    if fits(&shorter) { shorter } else { Value::String(event_text(&clean.to_string())) }
}

fn fits(value: &Value) -> bool {
    value.to_string().len() <= EVENT_TEXT_LIMIT
}

fn map_texts(value: &Value, change: &dyn Fn(&str) -> String) -> Value {
    match value {
        Value::String(text) => Value::String(change(text)),
        Value::Array(items) => items.iter().map(|item| map_texts(item, change)).collect(),
        Value::Object(fields) => Value::Object(
            fields.iter().map(|(name, field)| (change(name), map_texts(field, change))).collect(),
        ),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

/// Replaces every occurrence of the secrets in a line.
pub(crate) fn mask(line: String, secrets: &[Secret]) -> String {
    secrets.iter().map(Secret::expose).fold(line, |line, secret| {
        if secret.len() >= SHORTEST_SECRET && line.contains(secret) {
            line.replace(secret, "***")
        } else {
            line
        }
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nul_never_reaches_an_event() {
        assert_eq!(event_text("a\0b"), "a\u{fffd}b");
        assert_eq!(event_value(&json!({"k\0": ["\0"]})), json!({"k\u{fffd}": ["\u{fffd}"]}));
    }

    #[test]
    fn a_long_input_keeps_its_shape_and_loses_its_length() {
        let value = json!({"file_path": "a.txt", "content": "x".repeat(1 << 20)});
        let cut = event_value(&value);
        assert_eq!(cut["file_path"], "a.txt");
        assert!(cut.to_string().len() <= EVENT_TEXT_LIMIT);
        let many: Value = (0..100_000).map(|n| json!(n)).collect();
        assert!(event_value(&many).to_string().len() <= EVENT_TEXT_LIMIT + 64);
    }

    #[test]
    fn a_secret_is_masked_and_a_short_word_is_not() {
        let secrets = [Secret::new("sk-12345678"), Secret::new("a")];
        assert_eq!(mask("key=sk-12345678 a".to_owned(), &secrets), "key=*** a");
    }
}
