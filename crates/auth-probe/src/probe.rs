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
    invocation::{ExecutorError, ExecutorSettings, Invocation},
    opencode::Opencode,
    verdict::{EndedHow, Verdict},
};
use tokio::time::{Instant, timeout_at};

use crate::{
    finding::Finding,
    place::{Ask, Login, Site, Spot},
    run::{self, Ran},
};

/// Longest exchange without a model: the CLI itself waits five seconds for the provider.
const USAGE_WITHIN: Duration = Duration::from_secs(9);
/// Longest prompt.
const PROMPT_WITHIN: Duration = Duration::from_secs(18);
/// Longest check, but for what has to be ended then. It stays below what a request of the API may take.
const ALL_WITHIN: Duration = Duration::from_secs(26);

/// Finds out whether an agent could run in this environment now. Takes less than half a minute, and nothing it started
/// is alive when it answers.
///
/// # Cancel safety
/// Dropped, what it started ends by its limit of time.
pub async fn probe(site: &dyn Site, ask: &Ask) -> Finding {
    let deadline = Instant::now() + ALL_WITHIN;
    match open(site, ask, deadline).await {
        Ok(spot) => {
            let inquiry = Inquiry { spot: &spot, settings: site.settings(ask), deadline };
            inquiry.ask(ask.executor).await.unwrap_or_else(|finding| finding)
        }
        Err(finding) => finding,
    }
}

/// Finds out what can be found out without a model; nothing where only a model could tell.
///
/// # Cancel safety
/// As [`probe`].
pub async fn probe_free(site: &dyn Site, ask: &Ask) -> Option<Finding> {
    let deadline = Instant::now() + ALL_WITHIN;
    let spot = match open(site, ask, deadline).await {
        Ok(spot) => spot,
        Err(finding) => return Some(finding),
    };
    match (ask.executor, spot.login) {
        (ExecutorKind::ClaudeCode, Login::Stored) => {
            let settings = site.settings(ask);
            let claude = ClaudeCode::new(settings.claude_code.clone());
            let inquiry = Inquiry { spot: &spot, settings, deadline };
            inquiry.by_usage(&claude).await.unwrap_or_else(Some)
        }
        (ExecutorKind::ClaudeCode, Login::Other) | (ExecutorKind::Opencode, _) => None,
    }
}

async fn open(site: &dyn Site, ask: &Ask, deadline: Instant) -> Result<Spot, Finding> {
    timeout_at(deadline, site.open(ask)).await.unwrap_or_else(|_| {
        Err(Finding::new(AuthReason::Timeout, CheckedBy::Credentials)
            .with_detail("no place for a check was made in time"))
    })
}

/// A check under way.
struct Inquiry<'a> {
    spot: &'a Spot,
    settings: ExecutorSettings,
    deadline: Instant,
}

impl Inquiry<'_> {
    async fn ask(self, executor: ExecutorKind) -> Result<Finding, Finding> {
        let (spot, settings) = (self.spot, &self.settings);
        match executor {
            ExecutorKind::ClaudeCode => {
                let claude = ClaudeCode::new(settings.claude_code.clone());
                if spot.login == Login::Stored
                    && let Some(finding) = self.by_usage(&claude).await?
                {
                    return Ok(finding);
                }
                let until = self.until(PROMPT_WITHIN);
                self.by_prompt(claude.prompt_check(&spot.place), until).await
            }
            ExecutorKind::Opencode => {
                let opencode = Opencode::new(settings.opencode.clone());
                // It has no cheaper question, and is slow to start: it gets all the time.
                self.by_prompt(opencode.prompt_check(&spot.place), self.deadline).await
            }
        }
    }

    fn until(&self, within: Duration) -> Instant {
        self.deadline.min(Instant::now() + within)
    }

    /// Asks how much of the limits is used; `None` where the answer says nothing about the login.
    async fn by_usage(&self, claude: &ClaudeCode) -> Result<Option<Finding>, Finding> {
        let call = claude.usage_check(&self.spot.place).map_err(|error| not_callable(&error))?;
        let ran = run::run(self.spot, &call, CheckedBy::Usage, self.until(USAGE_WITHIN)).await?;
        match usage::read(&ran.stdout) {
            // An answer in which no limit can be read says nothing about the login.
            Some(UsageAnswer::Told { windows, extra }) if !windows.is_empty() => {
                let model = self.settings.claude_code.model.as_deref();
                Ok(told(windows, extra, model))
            }
            Some(UsageAnswer::Told { .. } | UsageAnswer::NotTold | UsageAnswer::NoLogin) => {
                Ok(None)
            }
            None => Err(no_answer(&ran, CheckedBy::Usage)),
        }
    }

    async fn by_prompt(
        &self,
        call: Result<Invocation, ExecutorError>,
        until: Instant,
    ) -> Result<Finding, Finding> {
        let call = call.map_err(|error| not_callable(&error))?;
        let ran = run::run(self.spot, &call, CheckedBy::Prompt, until).await?;
        let Verdict { message, retry_at, usage, .. } = &ran.verdict;
        let reason = judged(&ran, self.spot.login);
        let detail = message.clone().filter(|_| reason != AuthReason::Ready);
        let finding = Finding::new(reason, CheckedBy::Prompt);
        Ok(Finding { detail, retry_at: *retry_at, tokens: usage.total_tokens(), ..finding })
    }
}

/// Used up is not ready, unless what is beyond is paid for, or it is not known whether a limit holds for the model: then
/// only a prompt can tell.
fn told(windows: Vec<QuotaWindow>, extra: bool, model: Option<&str>) -> Option<Finding> {
    let full = || windows.iter().filter(|window| window.used_percent >= 100.0);
    let ours = full().filter(|window| usage::holds_for(&window.name, model) == Some(true));
    // All of them must have begun anew.
    let ours = ours.max_by_key(|window| window.resets_at);
    let is_unclear = || full().any(|window| usage::holds_for(&window.name, model).is_none());
    let (reason, retry_at) = match ours {
        Some(_) if extra => return None,
        Some(window) => (AuthReason::RateLimited, window.resets_at),
        None if is_unclear() => return None,
        None => (AuthReason::Ready, None),
    };
    let detail = ours.map(|window| format!("the limit `{}` is used up", window.name));
    let finding = Finding::new(reason, CheckedBy::Usage);
    Some(Finding { detail, retry_at, quota: windows, ..finding })
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
