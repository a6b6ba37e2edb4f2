//! What every handler works with.

use std::{future::Future, sync::Arc};

use agent_queue::queue::Queue;
use checkout::{git::GitCommand, mirror::Mirrors};
use core_config::load::Loaded;
use processes::control::Control;
use store::pool::Store;
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument as _;

use crate::{
    charted::LastCharts, error::ApiError, hub::EventHub, logins::Checks,
    repositories::Repositories, routes::metrics::LastMeasures,
};

/// What the API works with; clones share everything.
#[derive(Debug, Clone)]
pub struct ApiState {
    pub(crate) store: Store,
    pub(crate) settings: watch::Receiver<Arc<Loaded>>,
    pub(crate) repositories: Repositories,
    /// The mirrors of this host, where there are some.
    pub(crate) mirrors: Option<Mirrors>,
    pub(crate) hub: EventHub,
    /// The managed processes, where this server can ask for them.
    pub(crate) processes: Option<Control>,
    /// Checks of this machine, where this server can start programs.
    pub(crate) checks: Option<Checks>,
    /// Redis, where there is one.
    pub(crate) queue: Option<Queue>,
    /// Cancelled when the server shall stop: streams end then.
    pub(crate) stop: CancellationToken,
    /// Changes that run to their end although their client may have left.
    pub(crate) changes: TaskTracker,
    /// The numbers that were read last.
    pub(crate) measures: LastMeasures,
    /// What charts showed last.
    pub(crate) charts: LastCharts,
}

impl ApiState {
    /// Puts together what the API works with. The token ends streams and the server; without git no task can be made.
    #[must_use]
    pub fn new(
        store: Store,
        settings: watch::Receiver<Arc<Loaded>>,
        git: Option<GitCommand>,
        stop: CancellationToken,
    ) -> Self {
        Self {
            store,
            settings,
            repositories: Repositories::new(git),
            mirrors: None,
            hub: EventHub::new(),
            processes: None,
            checks: None,
            queue: None,
            stop,
            changes: TaskTracker::new(),
            measures: LastMeasures::default(),
            charts: LastCharts::default(),
        }
    }

    /// The same with managed processes; without them nothing can be asked of them.
    #[must_use]
    pub fn with_processes(mut self, processes: Control) -> Self {
        self.processes = Some(processes);
        self
    }

    /// The same with checks of this machine; without them logins are not known.
    #[must_use]
    pub fn with_checks(mut self, checks: Checks) -> Self {
        self.checks = Some(checks);
        self
    }

    /// The same with this host's mirrors, which keep the results of repositories behind URLs.
    #[must_use]
    pub fn with_mirrors(self, mirrors: Mirrors) -> Self {
        Self { mirrors: Some(mirrors), ..self }
    }

    /// The same with Redis: streams hear of events through it as well, and readiness tells how it stands.
    #[must_use]
    pub fn with_queue(self, queue: Option<Queue>) -> Self {
        Self { queue, ..self }
    }

    /// The settings in force now.
    pub(crate) fn settings(&self) -> Arc<Loaded> {
        Arc::clone(&self.settings.borrow())
    }

    /// Runs a change to its end, whether or not the client waits for it.
    pub(crate) async fn to_the_end<T, F>(&self, change: F) -> Result<T, ApiError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, ApiError>> + Send + 'static,
    {
        match self.changes.spawn(change.in_current_span()).await {
            Ok(result) => result,
            Err(panicked) => {
                tracing::error!(error = %panicked, "change did not run to its end");
                Err(ApiError::internal())
            }
        }
    }
}
