//! The verdict on a run of Claude Code (X0): a table from what it told and how it ended to an outcome.
//!
//! Machine-readable fields decide first (the result's subtype, the model's error word, HTTP status, the
//! provider's limit event), texts last. An exit code decides only where there is no result at all.

use core_types::outcome::RunOutcome;
use jiff::Timestamp;

use crate::{
    claude_code::{message::FinalWord, reader::Facts},
    judgement::{HINT_ACCOUNT, HINT_LIMITS, Judgement, ended_by_itself, lower, stopped_or},
    limits,
    text::one_line,
    verdict::{AgentEnd, EndedHow},
};

const HINT_LOGIN: &str = "log in with `claude` (then `/login`) as the user that runs openTiger, or set ANTHROPIC_API_KEY";
const HINT_KEY: &str =
    "set a valid ANTHROPIC_API_KEY, or unset it to use the login of the user that runs openTiger";
const HINT_INSTALL: &str = "install Claude Code (`npm install -g @anthropic-ai/claude-code`), or set CLAUDE_CODE_COMMAND to its absolute path";
const HINT_TOOLS: &str = "add the tools to CLAUDE_CODE_ALLOWED_TOOLS";
const HINT_TOOLS_FAIL: &str =
    "look at the tool results in the run's events; is the agent's home writable";
const HINT_MODEL: &str =
    "set CLAUDE_CODE_MODEL or the task's model to one that the account may use";
const HINT_ARGUMENTS: &str = "update Claude Code, and look at the CLAUDE_CODE_ settings";
const HINT_ROOT: &str =
    "set CLAUDE_CODE_PERMISSION_MODE to `dontAsk`, or run openTiger as another user than root";
const HINT_SESSION: &str = "run the task again without continuing a session";

/// Judges a run.
pub(super) fn judge(facts: &Facts, end: &AgentEnd) -> Judgement {
    match facts.result() {
        Some(word) if aborted(word) => stopped_or(end, || {
            Judgement::bad(
                RunOutcome::AgentFailed,
                "agent was interrupted by a signal that openTiger did not send",
            )
        }),
        Some(word) if failed(word) || facts.error.is_some() => failure(facts, word, end.at),
        Some(_) => success(facts, end),
        None => no_result(facts, end),
    }
}

fn aborted(word: &FinalWord) -> bool {
    word.reason.as_deref().is_some_and(|reason| reason.starts_with("aborted"))
}

/// API failures come as subtype `success` with `is_error`, so neither alone tells.
fn failed(word: &FinalWord) -> bool {
    word.is_error || word.subtype != "success"
}

fn success(facts: &Facts, end: &AgentEnd) -> Judgement {
    let calls = &facts.calls;
    if calls.count() > 0 && !calls.any_fine() {
        return nothing_worked(facts);
    }
    let denied =
        (calls.denials() > 0).then(|| format!("calls of {} were denied", calls.denied_tools()));
    let exit = match end.how {
        // The CLI makes an exit code of the signal that ends it; a lingering one is ended so.
        EndedHow::Exited(code @ 1..128) if end.stopped.is_none() => {
            Some(format!("agent ended with exit code {code} after its result"))
        }
        EndedHow::Exited(_)
        | EndedHow::Signaled(_)
        | EndedHow::NeverStarted { .. }
        | EndedHow::HostFailed { .. }
        | EndedHow::Lost { .. } => None,
    };
    Judgement { message: denied.or(exit), ..Judgement::fine() }
}

fn nothing_worked(facts: &Facts) -> Judgement {
    let calls = &facts.calls;
    if calls.denials() > 0 {
        let tools = calls.denied_tools();
        let message = format!("no tool call went through; denied: {tools}");
        return Judgement::bad(RunOutcome::ToolsDenied, message).hint(HINT_TOOLS);
    }
    let message = format!("every tool call failed ({})", calls.count());
    Judgement::bad(RunOutcome::ToolsDenied, message).hint(HINT_TOOLS_FAIL)
}

fn failure(facts: &Facts, word: &FinalWord, now: Timestamp) -> Judgement {
    let told = told(word);
    match word.subtype.as_str() {
        "error_max_turns" | "error_max_budget_usd" => {
            return Judgement::bad(RunOutcome::LimitReached, lower(&told)).hint(HINT_LIMITS);
        }
        _ => {}
    }
    api_failure(facts, word.status, &told, now).unwrap_or_else(|| own_failure(&told))
}

/// The failure of a model call, told by the model's error word, else by HTTP status, else by text.
fn api_failure(
    facts: &Facts,
    status: Option<u16>,
    told: &str,
    now: Timestamp,
) -> Option<Judgement> {
    by_word(facts, status, told, now)
        .or_else(|| by_status(facts, status, told, now))
        .or_else(|| by_text(facts, told, now))
}

fn by_word(facts: &Facts, status: Option<u16>, told: &str, now: Timestamp) -> Option<Judgement> {
    let says = |what: &str| format!("{what}: {}", lower(told));
    Some(match facts.error.as_deref()? {
        "authentication_failed" => refused_login(facts, status, told),
        "cloud_credential_error" => {
            Judgement::bad(RunOutcome::LoginRequired, says("the cloud provider's login failed"))
                .hint(HINT_LOGIN)
        }
        "oauth_org_not_allowed" | "account_on_hold" | "verification_required" | "billing_error" => {
            let message = says("the provider's account may not be used");
            Judgement::bad(RunOutcome::KeyRejected, message).hint(HINT_ACCOUNT)
        }
        "rate_limit" => limited(facts, told, now),
        "overloaded" | "server_error" => overloaded(told),
        "model_not_found" => {
            Judgement::bad(RunOutcome::AgentFailed, says("the model cannot be used"))
                .hint(HINT_MODEL)
        }
        _ => return None,
    })
}

fn by_status(facts: &Facts, status: Option<u16>, told: &str, now: Timestamp) -> Option<Judgement> {
    match status? {
        401 | 403 => Some(refused_login(facts, status, told)),
        402 => {
            let message = format!("the provider's account may not be used: {}", lower(told));
            Some(Judgement::bad(RunOutcome::KeyRejected, message).hint(HINT_ACCOUNT))
        }
        429 => Some(limited(facts, told, now)),
        500..=599 => Some(overloaded(told)),
        _ => None,
    }
}

/// For versions of the CLI that tell nothing but a text.
fn by_text(facts: &Facts, told: &str, now: Timestamp) -> Option<Judgement> {
    let text = told.to_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if limits::says_limit_reached(&text) {
        return Some(limited(facts, told, now));
    }
    if has(&["/login", "not logged in", "invalid api key", "failed to authenticate", "oauth token"])
    {
        return Some(refused_login(facts, None, told));
    }
    if has(&["credit balance is too low"]) {
        let message = format!("the provider's account may not be used: {}", lower(told));
        return Some(Judgement::bad(RunOutcome::KeyRejected, message).hint(HINT_ACCOUNT));
    }
    has(&[
        "api error: 5",
        "overloaded",
        "temporarily limiting",
        "request timed out",
        "connection error",
    ])
    .then(|| overloaded(told))
}

/// A key is refused, a login has to be renewed; the same error word covers both.
fn refused_login(facts: &Facts, status: Option<u16>, told: &str) -> Judgement {
    let by_key = facts.key_source.as_deref().is_some_and(|source| source != "none");
    let no_login = told.contains("/login") || told.contains("OAuth");
    let key_text = told.to_lowercase().contains("invalid api key");
    if (by_key || key_text) && !no_login {
        let status = status.map(|status| format!(" with status {status}")).unwrap_or_default();
        let message = format!("the provider refuses the key{status}: {}", lower(told));
        return Judgement::bad(RunOutcome::KeyRejected, message).hint(HINT_KEY);
    }
    let message = format!("the agent's login cannot be used: {}", lower(told));
    Judgement::bad(RunOutcome::LoginRequired, message).hint(HINT_LOGIN)
}

/// The account's limit where the provider said `rejected` or the text says so; else it is only busy.
fn limited(facts: &Facts, told: &str, now: Timestamp) -> Judgement {
    let rejected = facts.rate_limit.as_ref().filter(|limit| limit.status == "rejected");
    if rejected.is_none() && !limits::says_limit_reached(told) {
        return overloaded(told);
    }
    let from_event = rejected.and_then(|limit| limit.resets_at);
    let retry_at = from_event.or_else(|| limits::reset_time(told, now)).filter(|at| *at > now);
    let kind = rejected.and_then(|limit| limit.limit.as_deref());
    let kind = kind.map(|kind| format!(" ({kind})")).unwrap_or_default();
    let message = format!("the provider's limit is reached{kind}: {}", lower(told));
    Judgement { retry_at, ..Judgement::bad(RunOutcome::QuotaExceeded, message) }
}

fn overloaded(told: &str) -> Judgement {
    let message = format!("the provider is overloaded or fails: {}", lower(told));
    Judgement::bad(RunOutcome::ProviderOverloaded, message)
}

fn own_failure(told: &str) -> Judgement {
    let judgement =
        Judgement::bad(RunOutcome::AgentFailed, format!("agent failed: {}", lower(told)));
    if told.contains("No conversation found") {
        Judgement { session_lost: true, ..judgement.hint(HINT_SESSION) }
    } else {
        judgement
    }
}

/// What the final word says in words.
fn told(word: &FinalWord) -> String {
    let text = word.text.as_deref().filter(|text| !text.trim().is_empty());
    text.or_else(|| word.errors.first().map(String::as_str))
        .map_or_else(|| format!("no reason given (`{}`)", one_line(&word.subtype)), one_line)
}

fn no_result(facts: &Facts, end: &AgentEnd) -> Judgement {
    if let (EndedHow::NeverStarted { text, hint }, None) = (&end.how, end.stopped) {
        let message = format!("agent could not be started: {}", one_line(text));
        let hint = hint.clone().unwrap_or_else(|| HINT_INSTALL.to_owned());
        return Judgement::bad(RunOutcome::LaunchFailed, message).hint(hint);
    }
    stopped_or(end, || ended_by_itself(end, |code| exited(facts, code, end.at)))
}

/// An exit without a result. Start-up failures tell their reason on standard error only.
fn exited(facts: &Facts, code: i32, now: Timestamp) -> Judgement {
    let noise = facts.noise.iter().map(String::as_str).collect::<Vec<_>>();
    let has = |text: &str| noise.iter().any(|line| line.contains(text));
    let last = noise.last().copied().unwrap_or_default();
    let message = if last.is_empty() {
        format!("agent ended with exit code {code} without a result")
    } else {
        format!("agent ended with exit code {code} without a result: {last}")
    };
    if has("cannot be used with root") {
        return Judgement::bad(RunOutcome::LaunchFailed, message).hint(HINT_ROOT);
    }
    if has("error: unknown option") || has("error: option") {
        return Judgement::bad(RunOutcome::LaunchFailed, message).hint(HINT_ARGUMENTS);
    }
    if matches!(code, 126 | 127) {
        return Judgement::bad(RunOutcome::LaunchFailed, message).hint(HINT_INSTALL);
    }
    let status = facts.retry.as_ref().and_then(|(status, _)| *status);
    let told = facts
        .last_text
        .as_deref()
        .filter(|_| facts.error.is_some())
        .map_or(last.to_owned(), one_line);
    api_failure(facts, status, &told, now)
        .unwrap_or_else(|| Judgement::bad(RunOutcome::AgentFailed, message))
}
