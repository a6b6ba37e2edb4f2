//! Handing ready tasks to idle agents, as far as settings allow.

use std::time::Duration;

use core_types::{provider::Provider, task::ExecutionEnvironment, usage::SpendLimits};
use store::{dispatch::claim::ClaimRequest, error::StoreError, pool::Store};

/// Most runs handed out by one transaction.
const BATCH: u32 = 32;

/// Whether claims are made, and why not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claims {
    /// At most this many runs at once, as far as money and tokens reach.
    Open {
        /// Where runs are handed out to.
        environment: ExecutionEnvironment,
        /// Runs alive at once, over all roles.
        max_running: u32,
        /// What may be spent.
        spend: SpendLimits,
    },
    /// None at all.
    Paused {
        /// Why, for people.
        reason: String,
    },
}

/// Decides whether claims are made under these settings.
#[must_use]
pub fn claims_under(loaded: &core_config::load::Loaded) -> Claims {
    if let Some(faults) = &loaded.database_faults {
        return Claims::Paused {
            reason: format!("settings in the database are not usable: {faults}"),
        };
    }
    let settings = &loaded.settings;
    Claims::Open {
        environment: settings.execution_environment,
        max_running: settings.max_concurrent_workers,
        spend: settings.spend_limits(),
    }
}

/// Hands out runs until nothing fits any more; tells how many. A task of `opencode` that names no model asks the
/// default provider's.
///
/// # Errors
/// [`StoreError`] where the database does not answer; what was handed out before stays so.
pub async fn claim_all(
    store: &Store,
    lease: Duration,
    max_running: u32,
    spend: SpendLimits,
    default_provider: &Provider,
) -> Result<usize, StoreError> {
    let mut total = 0;
    loop {
        let default_provider = default_provider.clone();
        let request = ClaimRequest { limit: BATCH, lease, max_running, spend, default_provider };
        let claimed = store.claim_host_runs(request).await?;
        for claim in &claimed {
            tracing::info!(
                task.id = %claim.task,
                run.id = %claim.key.run,
                agent.id = %claim.agent,
                "run handed out"
            );
        }
        total += claimed.len();
        if claimed.len() < BATCH as usize {
            return Ok(total);
        }
    }
}
