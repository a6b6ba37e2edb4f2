//! The database as one run has it: on the host the whole store, in a sandbox the few functions that its login may call.

use core_types::{event::NumberedEvent, ids::RunKey, usage::Usage};
use store::{
    dispatch::spending::Standing,
    error::{FencedError, StoreError},
    pool::Store,
    sandbox::worker::WorkerStore,
};

use crate::policy::LEASE;

/// Where a run renews its lease and writes what happens in it. Cheap to clone.
#[derive(Debug, Clone)]
pub enum Ledger {
    /// An agent of this host.
    Host(Store),
    /// A worker in a sandbox; it knows its own run alone.
    Sandbox(WorkerStore),
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
        }
    }
}
