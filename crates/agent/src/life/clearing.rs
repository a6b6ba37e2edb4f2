//! Between an agent in a sandbox and what comes after it: nothing of the agent runs, and nothing that it could touch
//! starts anything any more.
//!
//! Worker and agent are one user there, so the agent could reach the directory of launches, the shim in it, and the
//! shim's process. On the host an agent can do whatever its user can, and nothing here would change that.

use std::{fs, io, path::Path};

use core_types::outcome::{RunOutcome, RunReport};
use launcher::{error::LauncherError, process::ProcessLauncher, removal::remove_tree};
use telemetry::chain::error_chain;

use super::{EndedEarly, Life, Scene};

impl Life<'_> {
    /// Ends what outlived the agent's launch.
    pub(crate) async fn end_rest_of_agent(&self) -> Result<(), EndedEarly> {
        match self.around.end_rest("the agent").await {
            0 => Ok(()),
            left => {
                let message = format!("{left} processes of the agent could not be ended");
                Err(Box::new(RunReport::new(RunOutcome::AgentFailed).with_message(message)))
            }
        }
    }

    /// What starts processes once the agent is dead, where it is not what started the agent.
    pub(super) fn launcher_after_agent(&self) -> Result<Option<ProcessLauncher>, EndedEarly> {
        let Scene::Sandbox(boxed) = &self.scene else { return Ok(None) };
        let launches = &boxed.assignment.launches;
        let failed = |error: &dyn std::error::Error| {
            let message =
                format!("the agent's launches cannot be cleared away: {}", error_chain(error));
            Box::new(RunReport::new(RunOutcome::HostFailed).with_message(message))
        };
        clear(launches).map_err(|error| failed(&error))?;
        let launcher = ProcessLauncher::new(launches.join("after"));
        launcher.map(Some).map_err(|error: LauncherError| failed(&error))
    }
}

/// Removes whatever is in a directory, which may have been filled up.
fn clear(directory: &Path) -> io::Result<()> {
    fs::read_dir(directory)?.try_for_each(|entry| remove_tree(&entry?.path()))
}
