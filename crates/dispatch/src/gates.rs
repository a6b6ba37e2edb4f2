//! Tending the gates of executors: a trial that has lived opens its gate, a changed login is tried at once, and whoever
//! reads the log learns once what closed and what opened.
//!
//! Nothing here decides about a claim: that is done by the claim itself, in its transaction.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use core_config::{load::Loaded, settings::Settings};
use core_types::{
    gate::{GateCause, GateState, Shut},
    task::{ExecutionEnvironment, ExecutorKind},
};
use sandbox::view::{LoginState, Logins};
use store::{
    error::StoreError,
    gates::{GateKey, StoredGate},
    pool::Store,
};
use telemetry::chain::error_chain;
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use crate::complaints::Complaints;

/// How often the gates are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long after a change of a login the gate is tried: by then the agents have read it, too.
const SPREAD: Duration = Duration::from_secs(2);

/// Looks after the gates until it is told to stop.
pub(crate) async fn tend_gates(
    store: Store,
    mut settings: watch::Receiver<Arc<Loaded>>,
    stop: CancellationToken,
) {
    let mut complaints = Complaints::default();
    let mut log = GateLog::default();
    let mut before = Arc::clone(&settings.borrow_and_update());
    let mut changed: BTreeMap<ExecutorKind, Instant> = BTreeMap::new();
    while !stop.is_cancelled() {
        let now = Arc::clone(&settings.borrow_and_update());
        for executor in ExecutorKind::ALL {
            if login_differs(*executor, &before.settings, &now.settings) {
                changed.insert(*executor, Instant::now() + SPREAD);
            }
        }
        before = now;
        let looked = look(&store, &mut log, &mut changed).await;
        complaints.note("gates", looked);
        // Every arm is cancel-safe: each only says that it is time to look.
        tokio::select! {
            () = stop.cancelled() => return,
            Ok(()) = settings.changed() => {}
            () = sleep(LOOK_EVERY) => {}
        }
    }
}

/// Has a run in a sandbox tried at once where a gate closed for a login that the host has anew, until it is told to stop.
pub async fn try_new_logins(
    store: Store,
    mut logins: watch::Receiver<Option<Logins>>,
    stop: CancellationToken,
) {
    let mut before = logins.borrow_and_update().clone();
    // Cut off is only the wait for a change.
    while let Some(Ok(())) = stop.run_until_cancelled(logins.changed()).await {
        let now = logins.borrow_and_update().clone();
        for executor in ExecutorKind::ALL {
            if is_new(*executor, before.as_ref(), now.as_ref())
                && let Err(error) = try_login(&store, *executor).await
            {
                tracing::warn!(%executor, error = %error_chain(&error), "new login not tried at once");
            }
        }
        before = now;
    }
}

/// Whether there is a login that was not there at the last look. The first look says nothing: others may have tried it.
fn is_new(executor: ExecutorKind, before: Option<&Logins>, now: Option<&Logins>) -> bool {
    let of = |logins: &Logins| match executor {
        ExecutorKind::ClaudeCode => logins.claude.clone(),
        ExecutorKind::Opencode => logins.opencode.clone(),
    };
    let (Some(before), Some(now)) = (before.map(of), now.map(of)) else { return false };
    matches!(now, LoginState::Present { .. }) && now != before
}

async fn try_login(store: &Store, executor: ExecutorKind) -> Result<(), StoreError> {
    for stored in store.gates().await? {
        let key = &stored.key;
        let about = key.environment == ExecutionEnvironment::Sandbox && key.executor == executor;
        if about && stored.gate.shut().is_some_and(|shut| shut.cause == GateCause::Login) {
            tracing::info!(%executor, "the host has a new login, it is tried at once");
            store.try_gate(key).await?;
        }
    }
    Ok(())
}

async fn look(
    store: &Store,
    log: &mut GateLog,
    changed: &mut BTreeMap<ExecutorKind, Instant>,
) -> Result<(), StoreError> {
    let now = Instant::now();
    for stored in store.gates().await? {
        log.note(&stored);
        let key = &stored.key;
        if stored.gate.outlived(stored.now).is_some()
            && let Some(stored) = store.settle_trial(key).await?
        {
            log.note(&stored);
        }
        let due = changed.get(&key.executor).is_some_and(|at| *at <= now);
        if due && stored.gate.shut().is_some() {
            tracing::info!(executor = %key.executor, "its settings changed, it is tried at once");
            store.try_gate(key).await?;
        }
    }
    changed.retain(|_, at| *at > now);
    Ok(())
}

/// Whether a setting changed that decides if an executor can be started and is let in.
fn login_differs(executor: ExecutorKind, a: &Settings, b: &Settings) -> bool {
    let shared =
        a.anthropic_api_key != b.anthropic_api_key || a.anthropic_base_url != b.anthropic_base_url;
    match executor {
        ExecutorKind::ClaudeCode => {
            shared
                || a.opentiger_claude_home != b.opentiger_claude_home
                || a.claude_code_command != b.claude_code_command
                || a.claude_code_permission_mode != b.claude_code_permission_mode
        }
        ExecutorKind::Opencode => {
            shared
                || a.openai_api_key != b.openai_api_key
                || a.gemini_api_key != b.gemini_api_key
                || a.opencode_command != b.opencode_command
        }
    }
}

/// What was said about each gate.
#[derive(Debug, Default)]
struct GateLog {
    said: BTreeMap<GateKey, Option<Shut>>,
}

/// What is new about a gate.
#[derive(Debug, PartialEq, Eq)]
enum News {
    /// It closed, or for another reason than the last time.
    Closed,
    /// It is open again.
    Opened,
    /// Nothing, or only that another trial failed.
    Nothing,
}

impl GateLog {
    fn note(&mut self, stored: &StoredGate) {
        let GateKey { environment, executor, provider } = &stored.key;
        let provider = provider.name();
        let shut = stored.gate.shut();
        match (self.news(stored), shut) {
            (News::Opened, _) => {
                tracing::info!(%executor, provider, %environment, "runs of this executor are handed out again");
            }
            (News::Closed, Some(shut)) => {
                let until = match &stored.gate.state {
                    GateState::Closed { retry_at, .. } => Some(retry_at.to_string()),
                    GateState::Open { .. } | GateState::Trial { .. } => None,
                };
                let Shut { cause, message, hint, .. } = shut;
                let (message, hint) = (message.as_deref(), hint.as_deref());
                if cause.needs_a_person() {
                    tracing::error!(%executor, provider, %environment, %cause, message, hint, until, "no runs of this executor are handed out: {}", cause.text());
                } else {
                    tracing::warn!(%executor, provider, %environment, %cause, message, hint, until, "no runs of this executor are handed out: {}", cause.text());
                }
            }
            (News::Nothing | News::Closed, _) => {}
        }
    }

    fn news(&mut self, stored: &StoredGate) -> News {
        let shut = stored.gate.shut().cloned();
        let before = self.said.insert(stored.key.clone(), shut.clone()).flatten();
        match (before, shut) {
            (None, None) => News::Nothing,
            (Some(_), None) => News::Opened,
            (Some(before), Some(shut)) if before.cause == shut.cause => News::Nothing,
            (_, Some(_)) => News::Closed,
        }
    }
}

#[cfg(test)]
mod tests {
    use core_types::{
        gate::{Gate, RunEnd},
        ids::RunId,
        outcome::RunOutcome,
        provider::Provider,
    };
    use jiff::Timestamp;

    use super::*;

    fn stored(gate: Gate) -> StoredGate {
        let key = GateKey {
            environment: ExecutionEnvironment::Host,
            executor: ExecutorKind::ClaudeCode,
            provider: Provider::default(),
        };
        StoredGate { key, gate, changed_at: Timestamp::UNIX_EPOCH, now: Timestamp::UNIX_EPOCH }
    }

    fn failed(gate: &Gate, outcome: RunOutcome, second: i64) -> Gate {
        let now = Timestamp::new(second, 0).expect("a small number of seconds");
        let end = RunEnd {
            run: RunId::generate(),
            claimed_at: now,
            outcome,
            answered: false,
            retry_at: None,
            message: None,
            hint: None,
        };
        gate.after(&end, now).unwrap_or_else(|| gate.clone())
    }

    #[test]
    fn a_gate_is_said_to_close_and_to_open_once() {
        let mut log = GateLog::default();
        let open = Gate::open(Timestamp::UNIX_EPOCH);
        assert_eq!(log.news(&stored(open.clone())), News::Nothing);
        let closed = failed(&open, RunOutcome::LoginRequired, 10);
        assert_eq!(log.news(&stored(closed.clone())), News::Closed);
        assert_eq!(log.news(&stored(closed.clone())), News::Nothing);
        let trial = closed.passed(RunId::generate(), Timestamp::MAX).expect("it is due by then");
        assert_eq!(log.news(&stored(trial)), News::Nothing);
        assert_eq!(log.news(&stored(failed(&open, RunOutcome::QuotaExceeded, 10))), News::Closed);
        assert_eq!(log.news(&stored(open)), News::Opened);
    }

    #[test]
    fn a_login_is_new_where_it_came_or_changed_since_the_last_look() {
        let at = |expires_at_ms| LoginState::Present { expires_at_ms };
        let logins = |claude: LoginState| Logins { claude, opencode: LoginState::LoggedOut };
        let (out, old, new) =
            (logins(LoginState::LoggedOut), logins(at(Some(1))), logins(at(Some(2))));
        let claude = |before, now: &Logins| is_new(ExecutorKind::ClaudeCode, before, Some(now));
        assert!(claude(Some(&out), &old));
        assert!(claude(Some(&old), &new));
        assert!(!claude(Some(&old), &old));
        assert!(!claude(Some(&old), &out));
        assert!(!claude(None, &old));
        assert!(!is_new(ExecutorKind::Opencode, Some(&out), Some(&new)));
    }

    #[test]
    fn a_changed_login_is_noticed_and_other_settings_are_not() {
        let settings = |set: &[(&str, &str)]| {
            let environment = set.iter().map(|(key, value)| ((*key).into(), (*value).into()));
            core_config::load::load(environment, None).expect("the settings are right")
        };
        let plain = settings(&[]);
        let claude = |other: &Loaded| {
            login_differs(ExecutorKind::ClaudeCode, &plain.settings, &other.settings)
        };
        assert!(!claude(&settings(&[("CANCEL_GRACE_S", "3")])));
        assert!(claude(&settings(&[("ANTHROPIC_API_KEY", "sk-ant-1")])));
        assert!(claude(&settings(&[("CLAUDE_CODE_COMMAND", "/opt/claude")])));
    }
}
