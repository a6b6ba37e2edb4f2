//! The way of a check's containers: each is let through the relays before its command starts, and not any more when the
//! check is over.

use std::{
    collections::BTreeSet,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use core_types::label;
use jiff::Timestamp;
use launcher::{
    error::{AttachError, LaunchError, LauncherError, ProbeError},
    handle::{Destroy, Handle, HandleRecord, LaunchState, StopRequest},
    id::LaunchId,
    launcher::{Capabilities, Created, Discovered, Launched, Launcher, ReapPolicy, ReapReport},
    spec::{Input, LaunchSpec},
};
use sandbox::premises::{AdmitError, Premises};
use telemetry::chain::error_chain;

use super::Shared;
use crate::owner;

/// The engine's launcher for the containers of one check.
pub(super) struct Passage {
    shared: Arc<Shared>,
    network: String,
    admitted: Mutex<BTreeSet<LaunchId>>,
}

impl Passage {
    pub(super) fn new(shared: Arc<Shared>, network: String) -> Arc<Self> {
        Arc::new(Self { shared, network, admitted: Mutex::default() })
    }

    fn engine(&self) -> &dyn Launcher {
        &*self.shared.premises.launcher
    }
}

impl Drop for Passage {
    fn drop(&mut self) {
        for id in self.admitted.get_mut().unwrap_or_else(PoisonError::into_inner).iter() {
            self.shared.premises.dismiss(id);
        }
    }
}

impl fmt::Debug for Passage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Passage").field("network", &self.network).finish_non_exhaustive()
    }
}

#[async_trait]
impl Launcher for Passage {
    async fn probe(&self) -> Result<Capabilities, ProbeError> {
        self.engine().probe().await
    }

    async fn create(&self, id: &LaunchId, spec: &LaunchSpec) -> Result<Created, LaunchError> {
        let created = self.engine().create(id, spec).await?;
        self.admitted.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone());
        match self.shared.premises.admit(&self.network, id).await {
            Ok(()) => Ok(created),
            Err(AdmitError::Engine(source)) => Err(LaunchError::EngineRefused {
                what: "tell the container's addresses",
                source: Box::new(source),
            }),
            Err(AdmitError::List(source)) => {
                let path = self.shared.premises.state_dir.join("sandbox/relay");
                Err(LaunchError::Io { what: "write the clients in", path, source })
            }
        }
    }

    async fn assign(&self, created: Created, input: Input) -> Result<Launched, LaunchError> {
        self.engine().assign(created, input).await
    }

    async fn attach(&self, record: &HandleRecord) -> Result<Handle, AttachError> {
        self.engine().attach(record).await
    }

    async fn discover(&self) -> Result<Vec<Discovered>, LauncherError> {
        self.engine().discover().await
    }

    async fn reap(&self, policy: &ReapPolicy) -> Result<ReapReport, LauncherError> {
        self.engine().reap(policy).await
    }
}

/// Ends and removes what checks of a process that died have left of containers: at once where it is known to be dead, and
/// else when they are older than any check.
pub(super) async fn sweep(premises: &Premises, older_than: Duration) {
    let found = match premises.launcher.discover().await {
        Ok(found) => found,
        Err(error) => {
            tracing::warn!(error = %error_chain(&error), "leftovers of checks not looked for");
            return;
        }
    };
    let is_left = |left: &&Discovered| {
        let mark = left.labels.get(label::CHECK);
        mark.is_some_and(|mark| owner::is_gone(mark) || age(left) > older_than)
    };
    for left in found.iter().filter(is_left) {
        premises.dismiss(&left.id);
        let Ok(handle) = premises.launcher.attach(&left.record).await else { continue };
        if !matches!(left.state, LaunchState::Ended(_)) {
            handle.stop(StopRequest::new("whoever checked is gone", Duration::ZERO)).await;
        }
        match handle.destroy(Destroy::Everything).await {
            Ok(()) => tracing::info!(launch.id = %left.id, "container of a dead check removed"),
            Err(error) => {
                tracing::warn!(launch.id = %left.id, error = %error_chain(&error), "container of a dead check not removed");
            }
        }
    }
}

fn age(left: &Discovered) -> Duration {
    Duration::try_from(Timestamp::now().duration_since(left.created_at)).unwrap_or_default()
}
