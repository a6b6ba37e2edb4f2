//! The database as one run has it.
//!
//! On the host it is the whole store, in a sandbox the few functions that its login may call, and in a self-test there is
//! none.

use std::sync::{Arc, Mutex, PoisonError};

use core_types::{
    event::{NumberedEvent, RunEvent},
    ids::RunKey,
    usage::Usage,
};
use jiff::Timestamp;
use store::{
    dispatch::spending::Standing,
    error::{FencedError, StoreError},
    pool::Store,
    sandbox::worker::WorkerStore,
    spend::DaySpend,
};

use crate::policy::LEASE;

/// Where a run renews its lease and writes what happens in it. Cheap to clone.
#[derive(Debug, Clone)]
pub enum Ledger {
    /// An agent of this host.
    Host(Store),
    /// A worker in a sandbox; it knows its own run alone.
    Sandbox(WorkerStore),
    /// A self-test: the lease holds for ever, nothing is limited, and what happens is kept here.
    Nobody(Arc<Mutex<Vec<RunEvent>>>),
}

/// What became of a lease that was to be renewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Renewal {
    /// It holds.
    Held {
        /// Whether somebody asked for the task to be cancelled.
        cancel_requested: bool,
    },
    /// It belongs to somebody else, or the run is over.
    Lost,
}

impl Ledger {
    pub(crate) async fn renew(&self, key: RunKey) -> Result<Renewal, StoreError> {
        match self {
            Self::Host(store) => {
                let answers = store.renew_leases(&[key], LEASE).await?;
                let answer = answers.into_iter().find(|answer| answer.key == key && answer.valid);
                Ok(answer.map_or(Renewal::Lost, |answer| Renewal::Held {
                    cancel_requested: answer.cancel_requested,
                }))
            }
            Self::Sandbox(store) => match store.renew().await {
                Ok(beat) => Ok(Renewal::Held { cancel_requested: beat.cancel_requested }),
                Err(FencedError::Fenced { .. }) => Ok(Renewal::Lost),
                Err(FencedError::Store(error)) => Err(error),
            },
            Self::Nobody(_) => Ok(Renewal::Held { cancel_requested: false }),
        }
    }

    pub(crate) async fn append_events(
        &self,
        key: RunKey,
        events: &[NumberedEvent],
    ) -> Result<(), FencedError> {
        match self {
            Self::Host(store) => store.append_events(key, events).await,
            Self::Sandbox(store) => store.append_events(events).await,
            Self::Nobody(kept) => {
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                kept.extend(events.iter().map(|event| event.event.clone()));
                Ok(())
            }
        }
    }

    pub(crate) async fn record_usage(
        &self,
        key: RunKey,
        usage: &Usage,
    ) -> Result<Standing, FencedError> {
        match self {
            Self::Host(store) => store.record_usage(key, usage).await,
            Self::Sandbox(store) => store.beat(usage).await.map(|beat| beat.standing),
            Self::Nobody(_) => Ok(nothing_used()),
        }
    }
}

fn nothing_used() -> Standing {
    let day =
        DaySpend { tokens: 0, cost_microusd: 0, reserved_microusd: 0, ends_at: Timestamp::MAX };
    Standing { task_before: Usage::default(), day, reserved_microusd: 0 }
}
