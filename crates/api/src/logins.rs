//! Checks of logins, and what one that came out well does to a closed gate.

use std::collections::BTreeMap;

use auth_probe::{checker::Checker, finding::Report, place::Ask};
use core_types::{
    auth::AuthReason,
    gate::GateCause,
    provider::Provider,
    task::{ExecutionEnvironment, ExecutorKind},
};
use executor::invocation::ExecutorSettings;
use store::error::StoreError;
use telemetry::chain::error_chain;

use crate::{error::ApiError, state::ApiState};

/// What checks of this machine are made with.
#[derive(Debug, Clone)]
pub struct Checks {
    /// Checks logins.
    pub checker: Checker,
    /// The variables that an agent's program may see.
    pub environment: BTreeMap<String, String>,
}

impl ApiState {
    /// Finds out whether an agent could run. The check goes on to its end although its caller may leave.
    pub(crate) async fn login(
        &self,
        environment: ExecutionEnvironment,
        executor: ExecutorKind,
        refresh: bool,
    ) -> Result<Report, ApiError> {
        let Some(checks) = self.checks.clone() else {
            return Err(ApiError::unavailable(
                "this server cannot start programs, so it checks no logins",
            ));
        };
        let state = self.clone();
        let loaded = self.settings();
        let settings: ExecutorSettings = (&*loaded.settings).into();
        let model = match executor {
            ExecutorKind::ClaudeCode => settings.claude_code.model.as_deref(),
            ExecutorKind::Opencode => settings.opencode.model.as_deref(),
        };
        let provider = Provider::of(executor, model);
        let home = loaded.settings.opentiger_claude_home.clone();
        let ask = Ask { executor, settings, home };
        self.to_the_end(async move {
            let report = checks.checker.check(environment, ask, refresh).await;
            if let Err(error) = state.learn(&report, &provider).await {
                tracing::warn!(error = %error_chain(&error), "closed gate not tried after a check");
            }
            Ok(report)
        })
        .await
    }

    /// A gate of the provider that closed because of the login has its next run tried at once.
    async fn learn(&self, report: &Report, provider: &Provider) -> Result<(), StoreError> {
        if report.finding.reason != AuthReason::Ready || report.cached {
            return Ok(());
        }
        for stored in self.store.gates().await? {
            let key = &stored.key;
            let about = key.environment == report.environment && key.executor == report.executor;
            // Without a name it is whichever the executor's own settings choose, as the check did.
            let of_provider = key.provider.name().is_none() || key.provider == *provider;
            let shut = stored.gate.shut().is_some_and(|shut| shut.cause == GateCause::Login);
            if about && of_provider && shut {
                self.store.try_gate(key).await?;
            }
        }
        Ok(())
    }
}
