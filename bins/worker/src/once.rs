//! `worker once`: the one run of a sandbox, from the assignment on standard input to the report.
//!
//! It reads no settings, no environment but to hand a part on, and no file but what its assignment names.

use std::{io::Read as _, path::Path, process::ExitCode, sync::Arc};

use agent::sandboxed::Once;
use anyhow::Context as _;
use checkout::git::GitCommand;
use core_types::sandbox::{SandboxAssignment, WorkerExit};
use executor::environment::DEFAULT_PATH;
use launcher::{descendants, process::ProcessLauncher};
use serde::de::DeserializeOwned;

/// Most bytes of an assignment. A task's goal and what its last attempts printed are the largest parts.
const LONGEST: u64 = 16 << 20;

/// Works on the run that is given on standard input.
pub(crate) async fn work() -> ExitCode {
    match try_work().await {
        Ok(exit) => ExitCode::from(exit.code()),
        Err(error) => {
            // What is wrong with an assignment says nothing of what is in it.
            let _printed = bootstrap::exit::report("worker", Err(error));
            ExitCode::from(WorkerExit::BadAssignment.code())
        }
    }
}

async fn try_work() -> anyhow::Result<WorkerExit> {
    bootstrap::once::hide_memory().context("close this process's memory to others")?;
    descendants::adopt().context("become the parent of orphans")?;
    bootstrap::once::start_logging().context("start logging")?;
    let stop = bootstrap::once::stop_token().context("listen for signals")?;
    let assignment: SandboxAssignment = read()?;
    let own_env = bootstrap::environment::environment();
    let given = assignment.environment.get("PATH").map(|path| path.expose().to_owned());
    let path = given.or_else(|| own_env.get("PATH").cloned());
    let git = match GitCommand::find(path.as_deref().unwrap_or(DEFAULT_PATH)) {
        Ok(git) => git,
        Err(error) => {
            let _printed = bootstrap::exit::report("worker", Err(anyhow::Error::from(error)));
            return Ok(WorkerExit::ImageUnfit);
        }
    };
    let launcher = ProcessLauncher::new(&assignment.launches as &Path);
    let launcher = Arc::new(launcher.context("make a place for launches")?);
    let once = Once { assignment, launcher, git, own_env };
    Ok(once.work(&stop).await?)
}

/// Reads all of standard input. Faults are told by their place, without what is there.
pub(crate) fn read<T: DeserializeOwned>() -> anyhow::Result<T> {
    let mut text = Vec::new();
    let input = std::io::stdin().lock();
    let read = input.take(LONGEST + 1).read_to_end(&mut text).context("read the assignment")?;
    anyhow::ensure!(
        u64::try_from(read).is_ok_and(|read| read <= LONGEST),
        "the assignment is too long"
    );
    let assignment = serde_json::from_slice(&text);
    text.fill(0);
    assignment.map_err(|error| {
        anyhow::anyhow!(
            "the assignment is not understood: {:?} in line {}, column {}",
            error.classify(),
            error.line(),
            error.column()
        )
    })
}
