//! The place where a shim runs, as it is seen from outside.

use std::{fmt, io, sync::Arc};

use async_trait::async_trait;
use jiff::Timestamp;
use rustix::process::Pid;

use super::{Launch, store::Store};
use crate::{
    error::HandleError,
    handle::{HandleRecord, LaunchState, LaunchStats, RECORD_VERSION},
    outcome::ExitReport,
};

/// What is known of a launch now.
#[derive(Debug, Clone)]
pub(crate) enum Finding {
    /// Nothing was started. The shim, if one is there, waits for its input.
    Created { shim: Option<Pid> },
    /// A shim has the launch and has accepted its input.
    Running { shim: Pid, since: Option<Timestamp> },
    /// It is over.
    Ended(ExitReport),
}

/// Where the shims of one launcher run. A shim without a number here is [`Pid::INIT`].
#[async_trait]
pub(crate) trait Site: Send + Sync + fmt::Debug + 'static {
    /// The name of the launcher in records.
    fn kind(&self) -> &'static str;
    /// Where its launches lie.
    fn store(&self) -> &Arc<Store>;
    /// Looks at a launch. What a dead shim has left of it is ended, which may take a while. An
    /// error is no evidence of anything.
    async fn look(&self, launch: &Launch) -> io::Result<Finding>;
    /// Ends a launch that has no shim and was never started. `None`: a shim has it after all.
    async fn abandon(&self, launch: &Launch) -> io::Result<Option<ExitReport>>;
    /// Wakes a shim that stands still: it would miss deadlines and requests. `true`: it did.
    async fn wake(&self, launch: &Launch, shim: Pid) -> bool;
    /// Asks a shim that takes no requests to end. `false`: it is gone, or cannot be asked.
    async fn terminate(&self, launch: &Launch, shim: Pid) -> bool;
    /// Kills everything of a launch whose shim does not answer.
    async fn kill(&self, launch: &Launch, shim: Pid);
    /// What a running launch uses; `None`: it has ended.
    async fn usage(&self, launch: &Launch) -> Result<Option<LaunchStats>, HandleError>;
    /// Removes what an ended launch has outside of its directory.
    async fn clear(&self, launch: &Launch) -> io::Result<()>;
}

impl Finding {
    /// As the public state.
    pub(crate) fn as_state(&self) -> LaunchState {
        match self {
            Self::Created { .. } => LaunchState::Created,
            Self::Running { since, .. } => LaunchState::Running { since: *since },
            Self::Ended(report) => LaunchState::Ended(report.clone()),
        }
    }
}

/// What a database keeps of a launch.
pub(crate) fn record(site: &dyn Site, launch: &Launch) -> HandleRecord {
    let intent = &launch.intent;
    HandleRecord {
        version: RECORD_VERSION,
        kind: site.kind().to_owned(),
        id: intent.id.clone(),
        store: site.store().id.clone(),
        spec_hash: intent.spec_hash.clone(),
        boot_id: intent.boot_id.clone(),
    }
}
