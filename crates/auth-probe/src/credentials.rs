//! The first look: is there a login, can it be read, is it over. Reads files and changes nothing.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use core_config::settings::Settings;
use core_types::{
    auth::{AuthReason, CheckedBy},
    secret::Secret,
    task::ExecutorKind,
};
use executor::{
    invocation::ExecutorSettings,
    opencode::{LOGIN_IN_HOME, OpencodeSettings},
};
use jiff::Timestamp;
use sandbox::{
    premises::Premises,
    view::{CLAUDE_FILE, LoginState, OPENCODE_FILE, ViewError},
};
use serde_json::Value;
use telemetry::chain::error_chain;

use crate::{
    finding::Finding,
    place::{Ask, Login},
};

/// Where Claude Code keeps its login, below the home.
const CLAUDE_LOGIN: &str = ".claude/.credentials.json";
/// What the user set for Claude Code, below the home.
pub(crate) const CLAUDE_SETTINGS: &str = ".claude/settings.json";
/// Other ways in that Claude Code looks for by itself, below the home.
const CLAUDE_PROFILES: &[&str] =
    &[".config/anthropic/active_config", ".config/anthropic/configs/default.json"];
/// Where opencode is told of providers, below the home.
const OPENCODE_SETTINGS: &[&str] =
    &[".config/opencode/opencode.json", ".config/opencode/opencode.jsonc"];
/// No file with a login is longer.
const MOST_BYTES: u64 = 1 << 20;

/// What there is to get in with.
pub(crate) struct Found {
    pub(crate) login: Login,
    /// The stored login of Claude Code without what it could be renewed with.
    pub(crate) copy: Option<Vec<u8>>,
    pub(crate) secrets: Vec<Secret>,
}

impl Found {
    pub(crate) const fn other() -> Self {
        Self { login: Login::Other, copy: None, secrets: Vec::new() }
    }
}

/// Looks for what Claude Code gets in with, in the order in which it looks itself.
pub(crate) fn claude(settings: &ExecutorSettings, home: &Path) -> Result<Found, Finding> {
    if settings.claude_code.api_key.is_some() || has_another_way(home) {
        return Ok(Found::other());
    }
    let path = home.join(CLAUDE_LOGIN);
    match read_json(&path)? {
        Some(login) => stored(login, &path, Timestamp::now()),
        // There it is in the system's keychain, where only the CLI looks.
        None if cfg!(target_os = "macos") => Ok(Found::other()),
        None => Err(none_at(&path)),
    }
}

/// What the CLI takes for a login when the user's settings set it.
const LOGIN_VARIABLES: [&str; 3] =
    ["ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN"];

/// A key helper, a variable or a profile of the user's own, which come before a stored login or stand in for it.
fn has_another_way(home: &Path) -> bool {
    let settings = read_json(&home.join(CLAUDE_SETTINGS)).ok().flatten().unwrap_or_default();
    let names = |key: &str| settings.get(key).is_some_and(|value| !value.is_null());
    let sets_key = settings.get("env").and_then(Value::as_object).is_some_and(|env| {
        env.keys().any(|name| {
            LOGIN_VARIABLES.contains(&name.as_str()) || name.starts_with("CLAUDE_CODE_USE_")
        })
    });
    names("apiKeyHelper")
        || sets_key
        || CLAUDE_PROFILES.iter().any(|file| home.join(file).is_file())
}

fn stored(mut login: Value, path: &Path, now: Timestamp) -> Result<Found, Finding> {
    let oauth = login.get_mut("claudeAiOauth").and_then(Value::as_object_mut);
    let Some(oauth) = oauth else {
        return Err(none_at(path));
    };
    // The CLI itself leaves an empty one where the provider refused to renew the login.
    let token = oauth.get("accessToken").and_then(Value::as_str).filter(|token| !token.is_empty());
    let Some(token) = token.map(Secret::new) else {
        return Err(none_at(path));
    };
    let renewal = oauth.remove("refreshToken");
    let renewal = renewal.as_ref().and_then(Value::as_str).filter(|token| !token.is_empty());
    let expires = oauth.get("expiresAt").and_then(Value::as_i64);
    let expires = expires.and_then(|at| Timestamp::from_millisecond(at).ok());
    if let Some(at) = expires.filter(|at| *at <= now) {
        let next = if renewal.is_some() {
            "a run on this host renews it by itself, unless the provider refuses"
        } else {
            "it cannot be renewed"
        };
        let detail = format!("its token ended at {at}; {next}");
        return Err(found(AuthReason::LoginExpired).with_detail(detail));
    }
    let secrets = std::iter::once(token).chain(renewal.map(Secret::new)).collect();
    let only = serde_json::json!({ "claudeAiOauth": login.get("claudeAiOauth") });
    Ok(Found { login: Login::Stored, copy: Some(only.to_string().into_bytes()), secrets })
}

/// Looks for what opencode gets in with.
pub(crate) fn opencode(settings: &OpencodeSettings, home: &Path) -> Result<Found, Finding> {
    let keys = [&settings.anthropic_api_key, &settings.openai_api_key, &settings.gemini_api_key];
    // Its own free models, and providers of the user's own settings, need no login of ours to know of.
    let free = settings.model.as_deref().is_some_and(|model| model.starts_with("opencode/"));
    let told = OPENCODE_SETTINGS.iter().any(|file| home.join(file).is_file());
    if keys.iter().any(|key| key.is_some()) || free || told {
        return Ok(Found::other());
    }
    let path = home.join(LOGIN_IN_HOME);
    match read_json(&path)? {
        Some(Value::Object(logins)) if !logins.is_empty() => Ok(Found::other()),
        Some(_) | None => Err(none_at(&path)),
    }
}

/// Looks for what a container of a run gets in with: a key, or what is in the view of the host's logins, which this brings
/// up to date.
pub(crate) fn in_sandbox(
    ask: &Ask,
    premises: &Premises,
    settings: &Settings,
) -> Result<Found, Finding> {
    let keys = match ask.executor {
        ExecutorKind::ClaudeCode => vec![&ask.settings.claude_code.api_key],
        ExecutorKind::Opencode => {
            let of = &ask.settings.opencode;
            vec![&of.anthropic_api_key, &of.openai_api_key, &of.gemini_api_key]
        }
    };
    let model = ask.settings.opencode.model.as_deref();
    let free = ask.executor == ExecutorKind::Opencode
        && model.is_some_and(|model| model.starts_with("opencode/"));
    if keys.iter().any(|key| key.is_some()) || free {
        return Ok(Found::other());
    }
    let no_view = |error: ViewError| {
        let detail = format!("{}; {}", error_chain(&error), error.hint());
        found(AuthReason::CredentialsUnreadable).with_detail(detail)
    };
    let sources = premises.sources(settings).map_err(no_view)?;
    let logins = premises.view.refresh(&sources).map_err(no_view)?;
    let (state, from, copy, login) = match ask.executor {
        ExecutorKind::ClaudeCode => (
            logins.claude,
            sources.claude.join(CLAUDE_FILE),
            premises.view.claude().join(CLAUDE_FILE),
            Login::Stored,
        ),
        ExecutorKind::Opencode => (
            logins.opencode,
            sources.opencode,
            premises.view.opencode().join(OPENCODE_FILE),
            Login::Other,
        ),
    };
    let expires = match state {
        LoginState::Present { expires_at_ms } => expires_at_ms,
        LoginState::LoggedOut => return Err(none_at(&from)),
        LoginState::HalfWritten => return Err(unreadable(&from, "it is not JSON")),
        LoginState::Unreadable { why } => return Err(unreadable(&from, &why)),
    };
    let ends = expires.and_then(|at| Timestamp::from_millisecond(i64::try_from(at).ok()?).ok());
    if let Some(at) = ends.filter(|at| login == Login::Stored && *at <= Timestamp::now()) {
        let detail = format!("its token ended at {at}; a container cannot renew it");
        return Err(found(AuthReason::LoginExpired).with_detail(detail));
    }
    let mut secrets = Vec::new();
    if let Some(copy) = read_json(&copy)? {
        texts(&copy, &mut secrets);
    }
    Ok(Found { login, copy: None, secrets })
}

/// Every text of a login that is long enough for a secret.
fn texts(value: &Value, into: &mut Vec<Secret>) {
    match value {
        Value::String(text) if text.len() >= 12 => into.push(Secret::new(text.as_str())),
        Value::Array(all) => all.iter().for_each(|value| texts(value, into)),
        Value::Object(all) => all.values().for_each(|value| texts(value, into)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// A JSON file; `None` where there is none.
fn read_json(path: &Path) -> Result<Option<Value>, Finding> {
    let text = match read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(path, &error.to_string())),
    };
    // The error names no part of the text.
    serde_json::from_slice(&text).map(Some).map_err(|_| unreadable(path, "it is not JSON"))
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    let mut text = Vec::new();
    File::open(path)?.take(MOST_BYTES).read_to_end(&mut text)?;
    Ok(text)
}

fn unreadable(path: &Path, why: &str) -> Finding {
    let detail = format!("`{}`: {why}", path.display());
    found(AuthReason::CredentialsUnreadable).with_detail(detail)
}

fn none_at(path: &Path) -> Finding {
    let detail = format!("no login in `{}`, and no key is set", path.display());
    found(AuthReason::LoginRequired).with_detail(detail)
}

/// Whether the program is there: an absolute path, or a name in one of the directories of `PATH`.
pub(crate) fn program(command: &str, search_path: &str) -> Result<PathBuf, Finding> {
    let found_at = if command.starts_with('/') {
        Some(PathBuf::from(command)).filter(|path| path.is_file())
    } else {
        let mut places = search_path.split(':').map(|directory| Path::new(directory).join(command));
        places.find(|path| path.is_file())
    };
    found_at.ok_or_else(|| {
        found(AuthReason::CliMissing).with_detail(format!("program `{command}` not found"))
    })
}

const fn found(reason: AuthReason) -> Finding {
    Finding::new(reason, CheckedBy::Credentials)
}
