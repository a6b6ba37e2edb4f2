//! Where a check runs: the contract that this host and a sandbox keep.

use std::{any::Any, collections::BTreeMap, fmt, path::PathBuf, sync::Arc};

use async_trait::async_trait;
use core_types::{secret::Secret, task::ExecutorKind};
use executor::invocation::{ExecutorSettings, Place};
use launcher::{launcher::Launcher, spec::LaunchSpec};

use crate::finding::Finding;

/// What is to be checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// Whose login.
    pub executor: ExecutorKind,
    /// How it is called.
    pub settings: ExecutorSettings,
    /// The agent's home on this host, if not the user's.
    pub home: Option<PathBuf>,
}

/// Makes places for checks.
///
/// # Contract
/// What is checked in a place must be what a run in this environment would meet: the same program, user, mounts, network,
/// variables and login. A place is dropped after its check, and nothing of it may be left then. What cannot be made is
/// answered by a finding with the reason, and by [`AuthReason::Unknown`](core_types::auth::AuthReason::Unknown) where
/// the reason is not known for sure.
#[async_trait]
pub trait Site: Send + Sync + fmt::Debug + 'static {
    /// Looks at credentials, then makes a place for one check.
    async fn open(&self, ask: &Ask) -> Result<Spot, Finding>;

    /// Which settings its places are made with: an answer from other ones is none. The number of the settings' state.
    fn revision(&self) -> Option<i64> {
        None
    }

    /// The settings that the command line is called with in such a place.
    fn settings(&self, ask: &Ask) -> ExecutorSettings {
        ask.settings.clone()
    }
}

/// A place for one check.
pub struct Spot {
    /// What the command line sees.
    pub place: Place,
    /// How it gets in.
    pub login: Login,
    /// Starts it.
    pub launcher: Arc<dyn Launcher>,
    /// Makes the launch of a call what a run's would be: the container, the user, the mounts.
    pub dress: Dress,
    /// Variables that are in no file, argument or log.
    pub secret_env: BTreeMap<String, Secret>,
    /// Texts that no finding may show, besides the call's own secrets.
    pub secrets: Vec<Secret>,
    /// Whatever has to live as long.
    pub keep: Box<dyn Any + Send + Sync>,
}

/// Makes the launch of a call what a run's would be.
pub type Dress = Box<dyn Fn(LaunchSpec) -> LaunchSpec + Send + Sync>;

/// How a command line gets in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Login {
    /// With a login that is stored, which can be asked about without a model.
    Stored,
    /// With a key, or in a way that only the command line itself knows.
    Other,
}

impl fmt::Debug for Spot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spot")
            .field("place", &self.place)
            .field("login", &self.login)
            .finish_non_exhaustive()
    }
}
