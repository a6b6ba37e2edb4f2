//! Checks of logins, each of which tells the gates of its executor ([`crate::breaker`]).

use std::collections::BTreeMap;

use auth_probe::{checker::Checker, finding::Report, place::Ask, sandboxed::Sandboxed};
use core_types::{
    provider::Provider,
    task::{ExecutionEnvironment, ExecutorKind},
};
use executor::invocation::ExecutorSettings;
use telemetry::chain::error_chain;

use crate::{error::ApiError, state::ApiState};

/// What checks of this machine are made with.
#[derive(Debug, Clone)]
pub struct Checks {
    /// Checks logins.
    pub checker: Checker,
    /// Looks at what sandboxes need, where this server can.
    pub sandboxes: Option<Sandboxed>,
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
        let (ask, provider) = self.ask(executor);
        self.to_the_end(async move {
            let report = checks.checker.check(environment, ask, refresh).await;
            if let Err(error) = state.learn(&report, &provider).await {
                tracing::warn!(error = %error_chain(&error), "gate not told of a check");
            }
            Ok(report)
        })
        .await
    }

    /// What is asked about an executor under the settings in force, and whose model it would ask.
    pub(crate) fn ask(&self, executor: ExecutorKind) -> (Ask, Provider) {
        let loaded = self.settings();
        let settings: ExecutorSettings = (&*loaded.settings).into();
        let model = match executor {
            ExecutorKind::ClaudeCode => settings.claude_code.model.as_deref(),
            ExecutorKind::Opencode => settings.opencode.model.as_deref(),
        };
        let provider = Provider::of(executor, model);
        let home = loaded.settings.opentiger_claude_home.clone();
        (Ask { executor, settings, home }, provider)
    }
}
