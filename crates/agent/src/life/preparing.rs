//! The first step of a run on this host: its own copy of the repository.

use std::{collections::BTreeMap, sync::Arc};

use checkout::{
    checkouts::{Checkout, Checkouts, PrepareRequest, Remotes},
    roots::AllowedRoots,
};
use core_types::{
    outcome::{RunOutcome, RunReport},
    sandbox::AttemptsBefore,
};
use executor::prompt::FAILURES_TOLD;
use telemetry::chain::error_chain;

use super::{Begun, EndedEarly, Hosted, Life};
use crate::{
    past::LastAttempt,
    run::Workshop,
    trouble::{Step, report_of},
};

impl Life<'_> {
    pub(super) async fn begin_on_host(&self, hosted: Hosted<'_>) -> Result<Begun, EndedEarly> {
        let mut last = hosted.last_attempt().await;
        let checkout = self.prepare(hosted, &mut last).await?;
        let before = AttemptsBefore {
            failures: hosted.failures_before(FAILURES_TOLD).await,
            session: last.session,
            with_result: last.branch.is_some(),
        };
        Ok(Begun { checkouts: Checkouts::clone(&hosted.shop.checkouts), checkout, before })
    }

    async fn prepare(
        &self,
        hosted: Hosted<'_>,
        last: &mut LastAttempt,
    ) -> Result<Checkout, EndedEarly> {
        let Hosted { shop, started } = hosted;
        let task = &started.task.new;
        let base = task.base_branch.as_deref().or(self.policy.base_branch.as_deref());
        let request = PrepareRequest {
            run: started.key.run,
            task: task.id,
            number: started.run.number,
            repository: &task.repository,
            base_branch: base,
        };
        let roots = match &self.policy.repository_roots {
            Ok(roots) => AllowedRoots::new(roots.clone()),
            Err(fault) => {
                let report = RunReport::new(RunOutcome::HostFailed).with_message(fault.clone());
                return Err(Box::new(report));
            }
        };
        let checkouts = Checkouts::clone(&shop.checkouts)
            .with_allowed_roots(roots)
            .with_remotes(self.remotes(shop));
        let prepare = async {
            if let Some(branch) = &last.branch {
                let on_result = PrepareRequest { base_branch: Some(branch), ..request };
                match checkouts.prepare(on_result).await {
                    Err(error)
                        if report_of(Step::Checkout, &error).outcome
                            == RunOutcome::BaseBranchMissing =>
                    {
                        tracing::info!(error = %error_chain(&error), "last result not found");
                        last.branch = None;
                    }
                    prepared => {
                        return prepared.map_err(|error| report_of(Step::Checkout, &error));
                    }
                }
            }
            let prepared = checkouts.prepare(request).await;
            prepared.map_err(|error| report_of(Step::Checkout, &error))
        };
        let checkout = self.unless_stopped(RunOutcome::CheckoutTimedOut, prepare).await?;
        let base = checkout.base_commit.to_string();
        if let Err(error) = shop.store.record_base_commit(started.key, &base).await {
            tracing::warn!(error = %error_chain(&error), "base commit not recorded");
        }
        Ok(checkout)
    }

    /// The way to repositories of other hosts: with this host's logins, which no agent ever gets.
    fn remotes(&self, shop: &Workshop) -> Remotes {
        let mut access = self.policy.remotes.clone();
        access.environment = BTreeMap::clone(&shop.parent_env);
        Remotes { access: Arc::new(access), launcher: Arc::clone(&shop.launcher) }
    }
}
