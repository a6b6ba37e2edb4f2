//! Whether the engine mounts directories of this machine: asked before anything is launched in it.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use launcher::{
    docker::EngineInfo,
    error::{LaunchError, ProbeError},
    launcher::Launcher as _,
};
use tokio::time::Instant;

use super::{Obstacle, Premises};

/// How long an engine that shares nothing is not tried again: each trial is a container.
const AGAIN: Duration = Duration::from_secs(60);

/// When an engine last showed that it shares nothing.
#[derive(Debug, Default)]
pub(super) struct Sharing(Mutex<Option<Instant>>);

impl Premises {
    /// Checks that the engine mounts directories of this machine. One that is reached through a socket here and has the
    /// same kernel is believed, for a trial takes a moment at each start; what it cannot share its first launch tells. Any
    /// other is tried.
    ///
    /// # Errors
    /// [`Obstacle::Image`] with [`LaunchError::DirectoryNotShared`]; [`Obstacle::Engine`], where it gives no usable answer.
    pub async fn check_sharing(&self, engine: &EngineInfo) -> Result<(), Obstacle> {
        let kernel = rustix::system::uname();
        let is_here = self.launcher.host().starts_with("unix:")
            && engine.kernel.as_bytes() == kernel.release().to_bytes();
        if is_here {
            return Ok(());
        }
        if self.sharing.get().is_some_and(|at| at.elapsed() < AGAIN) {
            return Err(self.not_shared());
        }
        let shares = match self.launcher.probe().await {
            Ok(capabilities) => capabilities.shared_directory,
            Err(ProbeError::Engine(error)) => return Err(error.into()),
            Err(ProbeError::ShimUnusable { path, source }) => {
                return Err(LaunchError::ShimUnusable { path, source }.into());
            }
        };
        self.sharing.set((!shares).then(Instant::now));
        if shares { Ok(()) } else { Err(self.not_shared()) }
    }

    fn not_shared(&self) -> Obstacle {
        let path = self.launcher.state_dir().join("containers");
        let why = "what a trial container wrote is not seen here".to_owned();
        LaunchError::DirectoryNotShared { path, why }.into()
    }
}

impl Sharing {
    fn get(&self) -> Option<Instant> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, at: Option<Instant>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = at;
    }
}
