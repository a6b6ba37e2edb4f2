//! The verdict on each way a call of the model fails.

use core_types::outcome::RunOutcome;
use executor::verdict::Verdict;
use jiff::Timestamp;
use serde_json::json;

use crate::lines::{exited, failed, init, limit, verdict};

const KEY: &str = "ANTHROPIC_API_KEY";
const LOGIN: &str = "none";

/// A run whose model call fails.
pub(crate) fn api(key_source: &str, error: &str, status: Option<u16>, told: &str) -> Verdict {
    let mut lines = vec![init(key_source)];
    lines.extend(failed(error, status, told));
    verdict(&lines, &exited(1))
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table")]
fn failed_model_calls_are_told_apart() {
    use RunOutcome as O;
    let revoked = "Failed to authenticate: OAuth token revoked. Please log in again or contact your administrator.";
    let expired = "Failed to authenticate. API Error: 401 OAuth token has expired. Please obtain a new token.";
    let no_refresh = "Failed to authenticate: OAuth session expired and could not be refreshed";
    let no_org = "Your organization has disabled Claude subscription access for Claude Code · Use an Anthropic API key instead";
    let busy =
        "API Error: Server is temporarily limiting requests (not your usage limit) · Rate limited";
    for (source, error, status, told, expected, hint) in [
        (
            LOGIN,
            "authentication_failed",
            None,
            "Not logged in · Please run /login",
            O::LoginRequired,
            "/login",
        ),
        (
            KEY,
            "authentication_failed",
            None,
            "Not logged in · Please run /login",
            O::LoginRequired,
            "/login",
        ),
        (
            KEY,
            "authentication_failed",
            Some(401),
            "Invalid API key · Fix external API key",
            O::KeyRejected,
            "ANTHROPIC_API_KEY",
        ),
        (LOGIN, "authentication_failed", Some(401), expired, O::LoginRequired, "/login"),
        (LOGIN, "authentication_failed", None, no_refresh, O::LoginRequired, "/login"),
        (LOGIN, "authentication_failed", Some(403), revoked, O::LoginRequired, "/login"),
        (LOGIN, "oauth_org_not_allowed", Some(403), no_org, O::KeyRejected, "account"),
        (LOGIN, "account_on_hold", Some(403), "Your account is on hold", O::KeyRejected, "account"),
        (KEY, "billing_error", Some(400), "Credit balance is too low", O::KeyRejected, "billing"),
        (LOGIN, "cloud_credential_error", None, "no credentials", O::LoginRequired, "log in"),
        (LOGIN, "rate_limit", Some(429), busy, O::ProviderOverloaded, ""),
        (
            KEY,
            "rate_limit",
            Some(429),
            "API Error: Request rejected (429) · Rate limited",
            O::ProviderOverloaded,
            "",
        ),
        (
            KEY,
            "overloaded",
            Some(529),
            "API Error: Repeated 529 Overloaded errors.",
            O::ProviderOverloaded,
            "",
        ),
        (
            KEY,
            "server_error",
            Some(500),
            "API Error: 500 Internal server error.",
            O::ProviderOverloaded,
            "",
        ),
        (
            KEY,
            "server_error",
            None,
            "Request timed out. Check your internet connection",
            O::ProviderOverloaded,
            "",
        ),
        (
            KEY,
            "model_not_found",
            Some(404),
            "There's an issue with the selected model",
            O::AgentFailed,
            "CLAUDE_CODE_MODEL",
        ),
        (
            KEY,
            "invalid_request",
            Some(400),
            "API Error: 400 messages: too long",
            O::AgentFailed,
            "",
        ),
        (
            KEY,
            "max_output_tokens",
            None,
            "Response exceeded the output token maximum",
            O::AgentFailed,
            "",
        ),
        (KEY, "a word of the future", Some(529), "API Error: 529", O::ProviderOverloaded, ""),
        (KEY, "a word of the future", None, "API Error: something", O::AgentFailed, ""),
    ] {
        let got = api(source, error, status, told);
        assert_eq!(got.outcome, Err(expected), "{error} {status:?} {told}: {got:?}");
        assert!(got.hint.clone().unwrap_or_default().contains(hint), "{told}: {got:?}");
        assert!(!got.message.clone().unwrap().ends_with('.'), "{got:?}");
        assert_eq!(got.retry_at, None);
    }
}

#[test]
fn old_versions_that_tell_only_texts_are_understood() {
    use RunOutcome as O;
    for (told, expected) in [
        ("Invalid API key · Please run /login", O::LoginRequired),
        ("Invalid API key · Fix external API key", O::KeyRejected),
        ("Credit balance is too low", O::KeyRejected),
        ("Claude AI usage limit reached|1795452000", O::QuotaExceeded),
        ("API Error: 529 {\"type\":\"error\"}", O::ProviderOverloaded),
        ("I could not do it", O::AgentFailed),
    ] {
        let word = json!({"type": "result", "subtype": "success", "is_error": true, "result": told, "session_id": "s"});
        let got = verdict(&[init(LOGIN), word], &exited(1));
        assert_eq!(got.outcome, Err(expected), "{told}: {got:?}");
    }
}

#[test]
fn reached_limit_waits_for_the_time_the_provider_tells() {
    let at = |text: &str| Some(text.parse::<Timestamp>().unwrap());
    let words =
        failed("rate_limit", Some(429), "You've hit your 5-hour limit · resets 9:05am (UTC)");
    let with_event = |status: &str| {
        let mut lines = vec![init(LOGIN), limit(status, 1_795_428_600)];
        lines.extend(words.clone());
        verdict(&lines, &exited(1))
    };
    let rejected = with_event("rejected");
    assert_eq!(rejected.outcome, Err(RunOutcome::QuotaExceeded), "{rejected:?}");
    assert_eq!(
        rejected.retry_at,
        at("2026-11-23T10:10:00Z"),
        "the number is more exact than the text"
    );
    let from_text = with_event("allowed_warning");
    assert_eq!(from_text.outcome, Err(RunOutcome::QuotaExceeded));
    assert_eq!(from_text.retry_at, at("2026-11-23T09:05:00Z"));
    let weekly = "You've hit your weekly limit · resets Nov 27, 12:05pm (UTC)";
    assert_eq!(api(LOGIN, "rate_limit", Some(429), weekly).retry_at, at("2026-11-27T12:05:00Z"));
}

#[test]
fn reset_time_that_has_passed_is_no_time_to_wait_for() {
    let mut lines = vec![init(LOGIN), limit("rejected", 1_000_000_000)];
    lines.extend(failed("rate_limit", Some(429), "limit"));
    let got = verdict(&lines, &exited(1));
    assert_eq!((got.outcome, got.retry_at), (Err(RunOutcome::QuotaExceeded), None));
}
