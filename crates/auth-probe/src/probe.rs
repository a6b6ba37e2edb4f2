//! The check: credentials, then the exchange without a model, then a prompt of one word where that cannot tell.

use std::time::Duration;

use core_types::{
    auth::{AuthReason, CheckedBy, QuotaWindow},
    outcome::RunOutcome,
    task::ExecutorKind,
};
use executor::{
    claude_code::{
        ClaudeCode,
        usage::{self, UsageAnswer},
    },
    invocation::{ExecutorError, Invocation},
    opencode::Opencode,
    verdict::{EndedHow, Verdict},
};

use crate::{
    finding::Finding,
    place::{Ask, Login, Site, Spot},
    run::{self, Ran},
};

/// Longest exchange without a model: the CLI itself waits five seconds for the provider.
const USAGE_WITHIN: Duration = Duration::from_secs(9);
/// Longest prompt. Both together stay below what a request of the API may take.
const PROMPT_WITHIN: Duration = Duration::from_secs(18);

/// Finds out whether an agent could run in this environment now. Takes less than half a minute, and nothing it started
/// is alive when it answers.
///
/// # Cancel safety
/// Dropped, what it started ends by its limit of time.
pub async fn probe(site: &dyn Site, ask: &Ask) -> Finding {
    match site.open(ask).await {
        Ok(spot) => ask_provider(&spot, ask).await.unwrap_or_else(|finding| finding),
        Err(finding) => finding,
    }
}

/// Finds out what can be found out without a model; nothing where only a model could tell.
///
/// # Cancel safety
/// As [`probe`].
pub async fn probe_free(site: &dyn Site, ask: &Ask) -> Option<Finding> {
    let spot = match site.open(ask).await {
        Ok(spot) => spot,
        Err(finding) => return Some(finding),
    };
    match (ask.executor, spot.login) {
        (ExecutorKind::ClaudeCode, Login::Stored) => {
            let claude = ClaudeCode::new(ask.settings.claude_code.clone());
            by_usage(&spot, &claude).await.unwrap_or_else(Some)
        }
        (ExecutorKind::ClaudeCode, Login::Other) | (ExecutorKind::Opencode, _) => None,
    }
}

async fn ask_provider(spot: &Spot, ask: &Ask) -> Result<Finding, Finding> {
    match ask.executor {
        ExecutorKind::ClaudeCode => {
            let claude = ClaudeCode::new(ask.settings.claude_code.clone());
            if spot.login == Login::Stored
                && let Some(finding) = by_usage(spot, &claude).await?
            {
                return Ok(finding);
            }
            by_prompt(spot, claude.prompt_check(&spot.place)).await
        }
        ExecutorKind::Opencode => {
            let opencode = Opencode::new(ask.settings.opencode.clone());
            by_prompt(spot, opencode.prompt_check(&spot.place)).await
        }
    }
}

/// Asks how much of the limits is used; `None` where the answer says nothing about the login.
async fn by_usage(spot: &Spot, claude: &ClaudeCode) -> Result<Option<Finding>, Finding> {
    let call = claude.usage_check(&spot.place).map_err(|error| not_callable(&error))?;
    let ran = run::run(spot, &call, CheckedBy::Usage, USAGE_WITHIN).await?;
    match usage::read(&ran.stdout) {
        // An answer in which no limit can be read says nothing about the login.
        Some(UsageAnswer::Told { windows, extra }) if !windows.is_empty() => {
            Ok(told(windows, extra))
        }
        Some(UsageAnswer::Told { .. } | UsageAnswer::NotTold | UsageAnswer::NoLogin) => Ok(None),
        None => Err(no_answer(&ran, CheckedBy::Usage)),
    }
}

/// Used up is not ready, unless what is beyond is paid for: then only a prompt can tell.
fn told(windows: Vec<QuotaWindow>, extra: bool) -> Option<Finding> {
    let full = windows.iter().filter(|window| window.used_percent >= 100.0);
    // All of them must have begun anew.
    let full = full.max_by_key(|window| window.resets_at);
    let (reason, retry_at) = match full {
        Some(_) if extra => return None,
        Some(window) => (AuthReason::RateLimited, window.resets_at),
        None => (AuthReason::Ready, None),
    };
    let detail = full.map(|window| format!("the limit `{}` is used up", window.name));
    Some(Finding { reason, checked_by: CheckedBy::Usage, detail, retry_at, quota: windows })
}

async fn by_prompt(
    spot: &Spot,
    call: Result<Invocation, ExecutorError>,
) -> Result<Finding, Finding> {
    let call = call.map_err(|error| not_callable(&error))?;
    let ran = run::run(spot, &call, CheckedBy::Prompt, PROMPT_WITHIN).await?;
    let Verdict { message, retry_at, .. } = &ran.verdict;
    let reason = judged(&ran, spot.login);
    let detail = message.clone().filter(|_| reason != AuthReason::Ready);
    let finding = Finding::new(reason, CheckedBy::Prompt);
    Ok(Finding { detail, retry_at: *retry_at, ..finding })
}

/// What a prompt's outcome says about the provider.
fn judged(ran: &Ran, login: Login) -> AuthReason {
    let Err(outcome) = ran.verdict.outcome else {
        return AuthReason::Ready;
    };
    match outcome {
        RunOutcome::LoginRequired => match login {
            Login::Stored => AuthReason::LoginExpired,
            Login::Other => AuthReason::LoginRequired,
        },
        RunOutcome::KeyRejected if ran.verdict.account_refused() => AuthReason::AccountBlocked,
        RunOutcome::KeyRejected => AuthReason::KeyInvalid,
        RunOutcome::QuotaExceeded => AuthReason::RateLimited,
        RunOutcome::ProviderOverloaded => AuthReason::ProviderUnreachable,
        RunOutcome::IdleTimeout | RunOutcome::TimedOut => AuthReason::Timeout,
        // It answered, so the provider let it in: one turn was all it was given.
        RunOutcome::LimitReached => AuthReason::Ready,
        RunOutcome::LaunchFailed => AuthReason::CliIncompatible,
        RunOutcome::AgentFailed => without_word(ran),
        _ => AuthReason::Unknown,
    }
}

/// A program that exits without a word of its protocol is none that can be used; anything else is not known.
fn without_word(ran: &Ran) -> AuthReason {
    let spoke = ran.stdout.split(|byte| *byte == b'\n').any(|line| line.starts_with(b"{"));
    match ran.end.how {
        EndedHow::Exited(_) if !spoke => AuthReason::CliIncompatible,
        _ => AuthReason::Unknown,
    }
}

fn no_answer(ran: &Ran, by: CheckedBy) -> Finding {
    if ran.end.stopped.is_some() {
        return Finding::new(AuthReason::Timeout, by).with_detail("the CLI gave no answer in time");
    }
    let end = match &ran.end.how {
        EndedHow::Exited(code) => format!("the CLI exited with {code} and no answer"),
        EndedHow::Signaled(signal) => format!("the CLI was ended by signal {signal}"),
        EndedHow::NeverStarted { text, .. }
        | EndedHow::HostFailed { text, .. }
        | EndedHow::Lost { text } => text.clone(),
    };
    let said = ran.last_error.as_deref().map(|line| format!(": {line}")).unwrap_or_default();
    Finding::new(without_word(ran), by).with_detail(format!("{end}{said}"))
}

fn not_callable(error: &ExecutorError) -> Finding {
    let detail = format!("{error}; {}", error.hint());
    Finding::new(AuthReason::Unknown, CheckedBy::Credentials).with_detail(detail)
}
