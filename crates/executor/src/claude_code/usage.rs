//! How much of a login's limits is used, as the CLI tells on request.
//!
//! The exchange calls no model. It is part of the protocol between the CLI and its SDK, and documented nowhere; what is
//! not understood is [`UsageAnswer::NotTold`].

use core_types::auth::QuotaWindow;
use serde_json::Value;

/// What the CLI is asked on standard input.
pub(crate) const REQUESTS: &str = concat!(
    r#"{"type":"control_request","request_id":"initialize","request":{"subtype":"initialize"}}"#,
    "\n",
    r#"{"type":"control_request","request_id":"usage","request":{"subtype":"get_usage"}}"#,
    "\n",
);

/// What the CLI answered.
#[derive(Debug, Clone, PartialEq)]
pub enum UsageAnswer {
    /// The provider told, so it takes the login.
    Told {
        /// The limits.
        windows: Vec<QuotaWindow>,
        /// Whether work beyond them goes on and is paid for.
        extra: bool,
    },
    /// The provider did not tell: it refuses the login, is away, or does not answer this question now.
    NotTold,
    /// There is nothing to ask about: no login, a key, a login without that right, or a CLI that does not know the
    /// question.
    NoLogin,
}

/// Reads the answer from the CLI's standard output; `None` where there is none.
#[must_use]
pub fn read(stdout: &[u8]) -> Option<UsageAnswer> {
    let lines = stdout.split(|byte| *byte == b'\n');
    lines
        .filter_map(|line| serde_json::from_slice::<Value>(line).ok())
        .find_map(|line| answer(&line))
}

fn answer(line: &Value) -> Option<UsageAnswer> {
    let response = line.get("response").filter(|_| line["type"] == "control_response")?;
    if response.get("request_id")? != "usage" {
        return None;
    }
    let body = response.get("response").filter(|_| response["subtype"] == "success");
    let Some(body) = body.filter(|body| body["rate_limits_available"] == true) else {
        return Some(UsageAnswer::NoLogin);
    };
    let Some(limits) = body.get("rate_limits").and_then(Value::as_object) else {
        return Some(UsageAnswer::NotTold);
    };
    let windows = limits.iter().filter_map(|(name, limit)| window(name, limit)).collect();
    let extra = limits.get("extra_usage").is_some_and(|extra| extra["is_enabled"] == true);
    Some(UsageAnswer::Told { windows, extra })
}

fn window(name: &str, limit: &Value) -> Option<QuotaWindow> {
    // Paid work is no limit of the plan.
    let limit = limit.as_object().filter(|_| name != "extra_usage")?;
    Some(QuotaWindow {
        name: name.to_owned(),
        used_percent: limit.get("utilization")?.as_f64()?,
        resets_at: limit.get("resets_at").and_then(Value::as_str).and_then(|at| at.parse().ok()),
    })
}

/// Whether a limit holds for a model as the CLI's option names it; `None` where that cannot be told: the CLI chooses the
/// model, or the limit is of a kind that is not known.
#[must_use]
pub fn holds_for(limit: &str, model: Option<&str>) -> Option<bool> {
    /// Families of models, of which each may have a limit of its own.
    const FAMILIES: [&str; 3] = ["opus", "sonnet", "haiku"];
    let Some(of) = limit.strip_prefix("seven_day_") else {
        return matches!(limit, "five_hour" | "seven_day").then_some(true);
    };
    let of = FAMILIES.iter().find(|family| **family == of)?;
    // `opusplan` is one model for plans and another one for work.
    let model = model.map(str::to_ascii_lowercase).filter(|model| !model.contains("opusplan"))?;
    let family = FAMILIES.iter().find(|family| model.contains(**family))?;
    Some(family == of)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(body: &Value) -> Option<UsageAnswer> {
        let noise = json!({"type": "control_response", "response": {"request_id": "initialize"}});
        let line = json!({"type": "control_response", "response":
            {"subtype": "success", "request_id": "usage", "response": body}});
        read(format!("warning\n{noise}\n{line}\n").as_bytes())
    }

    #[test]
    fn limit_of_other_models_does_not_hold() {
        for (limit, model, expected) in [
            ("five_hour", None, Some(true)),
            ("seven_day", Some("opus"), Some(true)),
            ("seven_day_opus", Some("claude-opus-4-5"), Some(true)),
            ("seven_day_opus", Some("sonnet[1m]"), Some(false)),
            ("seven_day_sonnet", Some("claude-haiku-4-5"), Some(false)),
            ("seven_day_sonnet", Some("Sonnet"), Some(true)),
            // The CLI's own choice, and what is named after nothing that is known.
            ("seven_day_opus", None, None),
            ("seven_day_opus", Some("opusplan"), None),
            ("seven_day_opus", Some("default"), None),
            ("seven_day_oauth_apps", Some("opus"), None),
            ("something_new", Some("opus"), None),
        ] {
            assert_eq!(holds_for(limit, model), expected, "{limit} {model:?}");
        }
    }

    #[test]
    fn answers_are_told_apart() {
        assert_eq!(read(b"{}\nnothing"), None);
        let none = json!({"rate_limits_available": false, "rate_limits": null});
        assert_eq!(told(&none), Some(UsageAnswer::NoLogin));
        let silent = json!({"rate_limits_available": true, "rate_limits": null});
        assert_eq!(told(&silent), Some(UsageAnswer::NotTold));
        let limits = json!({
            "five_hour": {"utilization": 12.5, "resets_at": "2026-11-25T00:00:00+00:00"},
            "seven_day_opus": null,
            "extra_usage": {"is_enabled": true, "utilization": 3},
        });
        let limits = json!({"rate_limits_available": true, "rate_limits": limits});
        let window = QuotaWindow {
            name: "five_hour".to_owned(),
            used_percent: 12.5,
            resets_at: Some("2026-11-25T00:00:00Z".parse().unwrap()),
        };
        let expected = UsageAnswer::Told { windows: vec![window], extra: true };
        assert_eq!(told(&limits), Some(expected));
        let old = json!({"type": "control_response", "response":
            {"subtype": "error", "request_id": "usage", "error": "unknown subtype"}});
        assert_eq!(read(old.to_string().as_bytes()), Some(UsageAnswer::NoLogin));
    }
}
