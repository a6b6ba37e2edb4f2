//! The process manager of this server, and the handle by which its API asks for processes.
//!
//! Processes go on when this server stops or dies: they are adopted by the next one. Who wants them ended says so with
//! `POST /system/processes/stop-all` before.

use std::{path::PathBuf, sync::Arc};

use anyhow::Context as _;
use api::logins::Checks;
use auth_probe::{checker::Checker, host::Host};
use bootstrap::{environment::environment, start::Started};
use core_config::{load::Loaded, settings::ProcessManager};
use executor::environment::allow_list;
use launcher::launcher::Launcher;
use processes::{control::Control, manager::Manager, programs::Programs};
use tokio::sync::watch;

/// Variables besides the agents' own list that programs of ours may see.
const MACHINE: &[&str] = &["XDG_DATA_HOME", "RUST_BACKTRACE"];

/// What the API asks with.
pub(crate) fn control(started: &Started) -> Control {
    Control {
        store: started.store.clone(),
        launcher: launcher(started),
        host: started.host.clone(),
        may_manage: may_manage(started),
    }
}

/// What the API checks logins and this machine with.
pub(crate) fn checks(started: &Started) -> Checks {
    let environment = environment();
    let scratch = started.state_dir.join("checks");
    let host = Host::new(launcher(started), scratch, environment.clone());
    Checks { checker: Checker::new(Arc::new(host), None), environment: allow_list(&environment) }
}

/// The manager, where this server may be one.
pub(crate) fn manager(
    started: &Started,
    settings: watch::Receiver<Arc<Loaded>>,
) -> anyhow::Result<Option<Manager>> {
    if !may_manage(started) {
        return Ok(None);
    }
    Ok(Some(Manager {
        store: started.store.clone(),
        launcher: launcher(started),
        host: started.host.clone(),
        programs: programs(started)?,
        settings,
    }))
}

fn may_manage(started: &Started) -> bool {
    started.settings.settings.process_manager == ProcessManager::On
}

fn launcher(started: &Started) -> Arc<dyn Launcher> {
    let launcher: Arc<dyn Launcher> =
        Arc::<launcher::process::ProcessLauncher>::clone(&started.launcher);
    launcher
}

/// The programs beside this one, with its settings. Where the database is the private one, they find it as this program
/// did, so that each of them keeps it alive.
fn programs(started: &Started) -> anyhow::Result<Programs> {
    let variables = environment();
    let mut machine = allow_list(&variables);
    let own = variables.iter().filter(|(name, _)| MACHINE.contains(&name.as_str()));
    machine.extend(own.map(|(name, value)| (name.clone(), value.clone())));
    Ok(Programs::new(own_directory()?, started.state_dir.clone(), machine, &variables))
}

fn own_directory() -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe().context("find the own program")?;
    program.parent().map(PathBuf::from).context("find the directory of the own program")
}
