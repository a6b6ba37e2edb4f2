//! What checks of logins do to the gates of executors.
//!
//! Each check tells the gates what it found. While one is closed because of the login, the login is looked at again and
//! again in ways that cost nothing, so that a renewed one is used by itself. What follows for a gate is decided by [`core_types::gate::checked`].

use std::{collections::BTreeMap, time::Duration};

use auth_probe::finding::{Finding, Report};
use core_types::{
    auth::{AuthReason, Language},
    gate::{
        GateCause,
        checked::{CheckEnd, CheckSign},
    },
    provider::Provider,
    task::{ExecutionEnvironment, ExecutorKind},
};
use jiff::Timestamp;
use store::{error::StoreError, gates::GateKey};
use telemetry::chain::error_chain;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::state::ApiState;

/// How often it is looked whether a gate is closed.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How often a login is looked at while its gate is closed.
pub const LOOK_AT_LOGIN_EVERY: Duration = Duration::from_secs(60);

/// An executor in an environment.
type Where = (ExecutionEnvironment, ExecutorKind);

/// What was seen of a login whose gate is closed.
#[derive(Debug, Clone, Copy)]
struct Seen {
    next: Instant,
    /// Whether there was none the last time.
    refused: bool,
}

/// The looks of one server.
#[derive(Debug)]
struct Watch {
    began: Timestamp,
    every: Duration,
    seen: BTreeMap<Where, Seen>,
}

/// Looks at logins whose gates are closed, until it is told to stop.
pub async fn watch_logins(state: ApiState, every: Duration, stop: CancellationToken) {
    let mut watch = Watch { began: Timestamp::now(), every, seen: BTreeMap::new() };
    while !stop.is_cancelled() {
        let looking = look(&state, &mut watch);
        if let Some(Err(error)) = stop.run_until_cancelled(looking).await {
            tracing::debug!(error = %error_chain(&error), "closed gates not looked at");
        }
        stop.run_until_cancelled(sleep(LOOK_EVERY.min(every))).await;
    }
}

async fn look(state: &ApiState, watch: &mut Watch) -> Result<(), StoreError> {
    let Watch { began, every, seen } = watch;
    let closed = state.closed_for_login().await?;
    seen.retain(|key, _| closed.contains_key(key));
    for ((environment, executor), since) in closed {
        let before = seen.get(&(environment, executor)).copied();
        if before.is_some_and(|before| Instant::now() < before.next) {
            continue;
        }
        let found = state.look_at_login(environment, executor).await?;
        // Nobody knows what came of a login while no server looked.
        let is_news = before.map_or(since < *began, |before| before.refused);
        if found.is_none() && is_news {
            // There is one now, and only a run can tell whether it is taken.
            state.try_gates(environment, executor).await?;
        }
        let refused = found.is_some_and(|finding| finding.reason != AuthReason::Ready);
        let next = Instant::now() + *every;
        seen.insert((environment, executor), Seen { next, refused });
    }
    Ok(())
}

impl ApiState {
    /// Tells the gates of the executor what a check found, unless they were told before.
    pub(crate) async fn learn(
        &self,
        report: &Report,
        provider: &Provider,
    ) -> Result<(), StoreError> {
        if report.cached {
            return Ok(());
        }
        let Report { executor, environment, finding, checked_at, took, .. } = report;
        let sign = CheckSign::of(
            finding.reason,
            finding.checked_by,
            !finding.quota.is_empty(),
            *environment,
        );
        let message = said(finding, *executor);
        let end = CheckEnd {
            sign,
            began_at: checked_at.checked_sub(*took).unwrap_or(*checked_at),
            retry_at: finding.retry_at,
            message: Some(&message),
            hint: finding.reason.hint(*executor, *environment, Language::English),
        };
        let asked =
            GateKey { environment: *environment, executor: *executor, provider: provider.clone() };
        if !finding.quota.is_empty() {
            self.store.note_quota(&asked, &finding.quota).await?;
        }
        match sign {
            CheckSign::Nothing => {}
            CheckSign::Refuses | CheckSign::AtLimit => {
                self.store.tell_check(&asked, &end).await?;
            }
            // Without a name it is whichever the executor's own settings choose, as the check did.
            CheckSign::LetsIn { .. } => {
                for key in self.gates_of(*environment, *executor).await? {
                    if key.provider.name().is_none() || key.provider == *provider {
                        self.store.tell_check(&key, &end).await?;
                    }
                }
            }
        }
        Ok(())
    }

    async fn gates_of(
        &self,
        environment: ExecutionEnvironment,
        executor: ExecutorKind,
    ) -> Result<Vec<GateKey>, StoreError> {
        let keys = self.store.gates().await?.into_iter().map(|stored| stored.key);
        Ok(keys.filter(|key| key.environment == environment && key.executor == executor).collect())
    }

    /// Where runs are not handed out because of the login, and since when.
    async fn closed_for_login(&self) -> Result<BTreeMap<Where, Timestamp>, StoreError> {
        let gates = self.store.gates().await?;
        let closed = gates.iter().filter_map(|stored| {
            let shut = stored.gate.shut().filter(|shut| shut.cause == GateCause::Login)?;
            Some(((stored.key.environment, stored.key.executor), shut.since))
        });
        Ok(closed.collect())
    }

    /// Looks at a login without asking a model; nothing where only a model could tell.
    async fn look_at_login(
        &self,
        environment: ExecutionEnvironment,
        executor: ExecutorKind,
    ) -> Result<Option<Finding>, StoreError> {
        let Some(checks) = self.checks.clone() else { return Ok(None) };
        let (ask, provider) = self.ask(executor);
        let Some(report) = checks.checker.check_free(environment, ask).await else {
            return Ok(None);
        };
        self.learn(&report, &provider).await?;
        Ok(Some(report.finding))
    }

    async fn try_gates(
        &self,
        environment: ExecutionEnvironment,
        executor: ExecutorKind,
    ) -> Result<(), StoreError> {
        for stored in self.store.gates().await? {
            let GateKey { environment: its, executor: kind, .. } = stored.key;
            let for_login = stored.gate.shut().is_some_and(|shut| shut.cause == GateCause::Login);
            if its == environment && kind == executor && for_login {
                self.store.try_gate(&stored.key).await?;
            }
        }
        Ok(())
    }
}

/// What was found, in one line.
fn said(finding: &Finding, executor: ExecutorKind) -> String {
    let message = finding.reason.message(executor, Language::English);
    match &finding.detail {
        Some(detail) => format!("{message} ({detail})"),
        None => message.to_owned(),
    }
}
