//! Whole numbers and booleans, in their own words only: nothing is guessed.

use figment::value::Value;

use super::{Complaint, Given, wrong_type};

pub(super) fn integer(given: Given<'_>, min: u64, max: u64) -> Result<Value, Complaint> {
    let number = match given {
        Given::Text(text) => digits(text)?,
        Given::Json(serde_json::Value::String(text)) => digits(text)?,
        Given::Json(json @ serde_json::Value::Number(number)) => number
            .as_u64()
            .ok_or_else(|| Complaint(format!("`{json}` is not an integer in range")))?,
        Given::Json(other) => return Err(wrong_type(other, "an integer")),
    };
    if (min..=max).contains(&number) {
        Ok(Value::from(number))
    } else {
        Err(Complaint(format!("`{number}` is out of range")))
    }
}

fn digits(text: &str) -> Result<u64, Complaint> {
    let only_digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = only_digits.then(|| text.parse().ok()).flatten();
    number.ok_or_else(|| Complaint(format!("{} is not an integer in range", quoted(text))))
}

pub(super) fn boolean(text: &str) -> Result<Value, Complaint> {
    match text {
        "true" => Ok(Value::from(true)),
        "false" => Ok(Value::from(false)),
        _ => Err(Complaint(format!("{} is neither `true` nor `false`", quoted(text)))),
    }
}

/// A given text in backticks, cut to 80 characters and on one line.
pub(super) fn quoted(text: &str) -> String {
    let shown: String = text.chars().take(80).collect();
    let cut = if shown.len() < text.len() { "…" } else { "" };
    format!("`{}{cut}`", shown.escape_debug())
}
