//! The verdict on a run of opencode (X0): a table from what it told and how it ended to an outcome.
//!
//! Its program ends with 0 after denied tools and says nothing while it repeats a failed call of the model, so the
//! lines of its output and of its log decide: an `error`, the reason of the last answer, the repeats.

use core_types::outcome::RunOutcome;
use jiff::{SignedDuration, Timestamp};

use crate::{
    judgement::{HINT_ACCOUNT, HINT_LIMITS, Judgement, ended_by_itself, lower, stopped_or},
    limits,
    opencode::{message::Failure, reader::Facts},
    text::one_line,
    verdict::{AgentEnd, EndedHow, StopKind},
};

const HINT_LOGIN: &str = "log in with `opencode auth login` as the user that runs openTiger, or set the provider's key (such as ANTHROPIC_API_KEY)";
const HINT_KEY: &str = "set a valid key of the provider (such as ANTHROPIC_API_KEY), or unset it to use the login of the user that runs openTiger";
const HINT_MODEL: &str =
    "set OPENCODE_MODEL or the task's model to one that `opencode models` lists";
const HINT_TOOLS: &str = "add the tools to OPENCODE_ALLOWED_TOOLS";
const HINT_TOOLS_FAIL: &str =
    "look at the tool results in the run's events; is the agent's home writable";
const HINT_INSTALL: &str =
    "install opencode (`npm install -g opencode-ai`), or set OPENCODE_COMMAND to its absolute path";
const HINT_SESSION: &str = "run the task again without continuing a session";
/// A wait that the provider asks for and that is longer than this is the account's limit: 2 min.
const LIMIT_WAIT_S: u32 = 120;

/// Judges a run.
pub(super) fn judge(facts: &Facts, end: &AgentEnd) -> Judgement {
    if let Some(failure) = &facts.error {
        let judge = || failed(facts, failure, end.at);
        return match failure.is_abort() {
            true => stopped_or(end, judge),
            false => stopped_by_person(end).unwrap_or_else(judge),
        };
    }
    let by_itself = end.stopped.is_none() && matches!(end.how, EndedHow::Exited(_));
    if facts.is_final() || (facts.is_over() && by_itself) {
        return finished(facts, end);
    }
    if let (EndedHow::NeverStarted { text, hint }, None) = (&end.how, end.stopped) {
        let message = format!("agent could not be started: {}", one_line(text));
        let hint = hint.clone().unwrap_or_else(|| HINT_INSTALL.to_owned());
        return Judgement::bad(RunOutcome::LaunchFailed, message).hint(hint);
    }
    match (end.stopped, &facts.repeats) {
        (Some(StopKind::Idle | StopKind::Total), Some((count, reason))) => {
            repeated(*count, reason, end.at)
        }
        _ => stopped_or(end, || ended_by_itself(end, |code| exited(facts, code, end.at))),
    }
}

/// A stop that has nothing to do with how the agent fared.
fn stopped_by_person(end: &AgentEnd) -> Option<Judgement> {
    matches!(end.stopped, Some(StopKind::Cancelled | StopKind::Interrupted))
        .then(|| stopped_or(end, Judgement::fine))
}

fn finished(facts: &Facts, end: &AgentEnd) -> Judgement {
    match facts.finished.as_deref() {
        Some("length") => {
            let message = "the model's answer was cut at its greatest length";
            return Judgement::bad(RunOutcome::LimitReached, message).hint(HINT_LIMITS);
        }
        Some(why @ ("content-filter" | "error")) => {
            let message = format!("the model ended its answer early (`{why}`)");
            return Judgement::bad(RunOutcome::AgentFailed, message);
        }
        _ => {}
    }
    let calls = &facts.calls;
    if calls.count() > 0 && !calls.any_fine() {
        return nothing_worked(facts);
    }
    let denied =
        (calls.denials() > 0).then(|| format!("calls of {} were denied", calls.denied_tools()));
    let exit = match end.how {
        EndedHow::Exited(code @ 1..128) if end.stopped.is_none() => {
            Some(format!("agent ended with exit code {code} after its last word"))
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
        let message = format!("no tool call went through; denied: {}", calls.denied_tools());
        return Judgement::bad(RunOutcome::ToolsDenied, message).hint(HINT_TOOLS);
    }
    let message = format!("every tool call failed ({})", calls.count());
    Judgement::bad(RunOutcome::ToolsDenied, message).hint(HINT_TOOLS_FAIL)
}

/// An `error` line, told by its name, else by HTTP status, else by text.
fn failed(facts: &Facts, failure: &Failure, now: Timestamp) -> Judgement {
    let told = one_line(&failure.message);
    match failure.name.as_str() {
        "ProviderAuthError" => {
            let message = format!("the agent's login cannot be used: {}", lower(&told));
            return Judgement::bad(RunOutcome::LoginRequired, message).hint(HINT_LOGIN);
        }
        "MessageOutputLengthError" | "ContextOverflowError" => {
            let message = format!("the conversation is too long for the model: {}", lower(&told));
            return Judgement::bad(RunOutcome::LimitReached, message).hint(HINT_LIMITS);
        }
        "MessageAbortedError" => {
            let message = "agent was interrupted by a signal that openTiger did not send";
            return Judgement::bad(RunOutcome::AgentFailed, message);
        }
        _ => {}
    }
    by_status(failure, &told, now)
        .or_else(|| by_text(&told, now))
        .unwrap_or_else(|| other_failure(facts, failure, &told))
}

fn by_status(failure: &Failure, told: &str, now: Timestamp) -> Option<Judgement> {
    let status = failure.status?;
    match status {
        401 | 403 => {
            let message =
                format!("the provider refuses the key with status {status}: {}", lower(told));
            Some(Judgement::bad(RunOutcome::KeyRejected, message).hint(HINT_KEY))
        }
        402 => Some(no_account(told)),
        404 => {
            let message = format!("the model cannot be used: {}", lower(told));
            Some(Judgement::bad(RunOutcome::AgentFailed, message).hint(HINT_MODEL))
        }
        429 => Some(limited(told, failure.retry_after_s, now)),
        500..=599 => Some(overloaded(told)),
        _ => None,
    }
}

fn by_text(told: &str, now: Timestamp) -> Option<Judgement> {
    let text = told.to_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if has(&["credit balance", "billing", "insufficient_quota", "payment required"]) {
        return Some(no_account(told));
    }
    if says_limit(&text) {
        return Some(quota(told, None, now));
    }
    if has(&["api key", "unauthorized", "authentication", "oauth token", "token refresh failed"]) {
        let message = format!("the provider refuses the key: {}", lower(told));
        return Some(Judgement::bad(RunOutcome::KeyRejected, message).hint(HINT_KEY));
    }
    has(&[
        "overloaded",
        "rate limit",
        "too many requests",
        "internal server error",
        "service unavailable",
        "bad gateway",
        "unable to connect",
        "connection",
        "timed out",
        "timeout",
    ])
    .then(|| overloaded(told))
}

/// Whether a text says that the account's limit is reached, in the words of any provider.
fn says_limit(text: &str) -> bool {
    limits::says_limit_reached(text)
        || [
            "exceed your account's rate limit",
            "exceeded your current quota",
            "quota exceeded",
            "resource_exhausted",
            "resource has been exhausted",
            "usage limit",
        ]
        .iter()
        .any(|words| text.contains(words))
}

/// A 429 is the account's limit where its text or a long wait says so; else the provider is only busy.
fn limited(told: &str, wait_s: Option<u32>, now: Timestamp) -> Judgement {
    let long = wait_s.is_some_and(|seconds| seconds > LIMIT_WAIT_S);
    if long || says_limit(&told.to_lowercase()) {
        quota(told, wait_s, now)
    } else {
        overloaded(told)
    }
}

fn quota(told: &str, wait_s: Option<u32>, now: Timestamp) -> Judgement {
    let waited = wait_s.and_then(|s| now.checked_add(SignedDuration::from_secs(s.into())).ok());
    let retry_at = waited.or_else(|| limits::reset_time(told, now)).filter(|at| *at > now);
    let message = format!("the provider's limit is reached: {}", lower(told));
    Judgement { retry_at, ..Judgement::bad(RunOutcome::QuotaExceeded, message) }
}

fn overloaded(told: &str) -> Judgement {
    let message = format!("the provider is overloaded or fails: {}", lower(told));
    Judgement::bad(RunOutcome::ProviderOverloaded, message)
}

fn no_account(told: &str) -> Judgement {
    let message = format!("the provider's account may not be used: {}", lower(told));
    Judgement::bad(RunOutcome::KeyRejected, message).hint(HINT_ACCOUNT)
}

fn other_failure(facts: &Facts, failure: &Failure, told: &str) -> Judgement {
    // Told as an error of opencode's own, with the reason in its log only.
    let unknown = facts.noise.iter().find_map(|line| line.split_once("ModelNotFoundError: "));
    if let Some((_, reason)) = unknown {
        let reason = reason.split(['"', ')']).next().unwrap_or_default();
        let message = format!("the model cannot be used: {}", lower(reason));
        return Judgement::bad(RunOutcome::AgentFailed, message).hint(HINT_MODEL);
    }
    let told = if told.is_empty() { one_line(&failure.name) } else { lower(told) };
    Judgement::bad(RunOutcome::AgentFailed, format!("agent failed: {told}"))
}

/// opencode repeats a failed call for ever, so it was stopped for want of any other sign.
fn repeated(count: u32, reason: &str, now: Timestamp) -> Judgement {
    let told = format!("{reason} ({count} calls in a row)");
    by_text(&told, now).unwrap_or_else(|| overloaded(&told))
}

/// An exit without a last word.
fn exited(facts: &Facts, code: i32, now: Timestamp) -> Judgement {
    let has = |text: &str| facts.noise.iter().any(|line| line.contains(text));
    let last = facts.noise.back().map(String::as_str).unwrap_or_default();
    let what = if facts.answered { "before its work was done" } else { "without any answer" };
    let message = if last.is_empty() {
        format!("agent ended with exit code {code} {what}")
    } else {
        format!("agent ended with exit code {code} {what}: {last}")
    };
    if has("Session not found") {
        let judgement = Judgement::bad(RunOutcome::AgentFailed, message).hint(HINT_SESSION);
        return Judgement { session_lost: true, ..judgement };
    }
    if matches!(code, 126 | 127) {
        return Judgement::bad(RunOutcome::LaunchFailed, message).hint(HINT_INSTALL);
    }
    if let Some((count, reason)) = &facts.repeats {
        return repeated(*count, reason, now);
    }
    Judgement::bad(RunOutcome::AgentFailed, message)
}
