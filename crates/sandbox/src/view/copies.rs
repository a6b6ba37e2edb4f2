//! What of a login a sandbox gets, as functions from the host's file to the copy.

use serde_json::{Map, Value};

/// The fields of Claude Code's login that its command line needs in order to use it. The refresh token is none of them.
const CLAUDE_FIELDS: &[&str] =
    &["accessToken", "expiresAt", "scopes", "subscriptionType", "rateLimitTier"];

/// What comes of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Copied {
    /// A login to give away.
    Login { content: Vec<u8>, expires_at_ms: Option<u64> },
    /// The file says that nobody is logged in.
    LoggedOut,
    /// It is no JSON object, as long as it is being written.
    HalfWritten,
}

/// `.credentials.json`: the access token and what belongs to it. The file also holds logins of tools, which stay at home.
pub(super) fn claude_code(content: &[u8]) -> Copied {
    let Some(file) = object(content) else { return Copied::HalfWritten };
    let Some(Value::Object(login)) = file.get("claudeAiOauth") else { return Copied::LoggedOut };
    let token = login.get("accessToken").and_then(Value::as_str).unwrap_or_default();
    if token.is_empty() {
        return Copied::LoggedOut;
    }
    let field = |name: &&str| Some(((*name).to_owned(), login.get(*name)?.clone()));
    let kept: Map<String, Value> = CLAUDE_FIELDS.iter().filter_map(field).collect();
    let expires_at_ms = login.get("expiresAt").and_then(Value::as_u64);
    let copy = Map::from_iter([("claudeAiOauth".to_owned(), Value::Object(kept))]);
    Copied::Login { content: Value::Object(copy).to_string().into_bytes(), expires_at_ms }
}

/// `auth.json`: an entry for each provider. Keys stay as they are; of a login with tokens the one that renews it becomes
/// empty, for the command line leaves out an entry without the field.
pub(super) fn opencode(content: &[u8]) -> Copied {
    let Some(file) = object(content) else { return Copied::HalfWritten };
    let entry = |(provider, entry): (String, Value)| {
        let Value::Object(mut entry) = entry else { return None };
        match entry.get("type").and_then(Value::as_str) {
            Some("api" | "wellknown") => {}
            Some("oauth") => drop(entry.insert("refresh".to_owned(), Value::from(""))),
            Some(_) | None => return None,
        }
        Some((provider, Value::Object(entry)))
    };
    let copy: Map<String, Value> = file.into_iter().filter_map(entry).collect();
    if copy.is_empty() {
        return Copied::LoggedOut;
    }
    let expiry = |entry: &Value| entry.get("expires").and_then(Value::as_u64).filter(|at| *at > 0);
    let expires_at_ms = copy.values().filter_map(expiry).min();
    Copied::Login { content: Value::Object(copy).to_string().into_bytes(), expires_at_ms }
}

fn object(content: &[u8]) -> Option<Map<String, Value>> {
    serde_json::from_slice(content).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn copy(of: fn(&[u8]) -> Copied, file: &Value) -> (Value, Option<u64>) {
        match of(file.to_string().as_bytes()) {
            Copied::Login { content, expires_at_ms } => {
                (serde_json::from_slice(&content).unwrap(), expires_at_ms)
            }
            other => panic!("no login: {other:?}"),
        }
    }

    #[test]
    fn claude_codes_copy_has_what_uses_a_login_and_not_what_renews_it() {
        let file = json!({
            "claudeAiOauth": {
                "accessToken": "at", "refreshToken": "rt", "expiresAt": 5, "scopes": ["user:inference"],
                "subscriptionType": "max", "somethingNew": "rt2",
            },
            "mcpOAuth": {"server": {"accessToken": "x"}},
        });
        let (copy, expires) = copy(claude_code, &file);
        let expected = json!({"claudeAiOauth": {
            "accessToken": "at", "expiresAt": 5, "scopes": ["user:inference"], "subscriptionType": "max",
        }});
        assert_eq!((copy, expires), (expected, Some(5)));
    }

    #[test]
    fn opencodes_copy_keeps_keys_and_empties_what_renews() {
        let file = json!({
            "anthropic": {"type": "api", "key": "sk"},
            "openai": {"type": "oauth", "access": "at", "refresh": "rt", "expires": 7},
            "odd": {"type": "later", "secret": "s"},
            "broken": "x",
        });
        let (copy, expires) = copy(opencode, &file);
        let expected = json!({
            "anthropic": {"type": "api", "key": "sk"},
            "openai": {"type": "oauth", "access": "at", "refresh": "", "expires": 7},
        });
        assert_eq!((copy, expires), (expected, Some(7)));
    }

    #[test]
    fn half_a_file_is_no_logout_and_a_logout_no_login() {
        for half in ["", "{", "{\"claudeAiOauth\": {\"accessTok", "null", "[]"] {
            assert_eq!(claude_code(half.as_bytes()), Copied::HalfWritten, "{half}");
            assert_eq!(opencode(half.as_bytes()), Copied::HalfWritten, "{half}");
        }
        for out in
            ["{}", "{\"claudeAiOauth\": null}", "{\"claudeAiOauth\": {\"accessToken\": \"\"}}"]
        {
            assert_eq!(claude_code(out.as_bytes()), Copied::LoggedOut, "{out}");
        }
        assert_eq!(opencode(b"{}"), Copied::LoggedOut);
    }
}
