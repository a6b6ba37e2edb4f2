//! The process manager of this server, and the handle by which its API asks for processes.
//!
//! Processes go on when this server stops or dies: they are adopted by the next one. Who wants them ended says so with
//! `POST /system/processes/stop-all` before.

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context as _;
use api::logins::Checks;
use auth_probe::{
    checker::Checker,
    host::Host,
    place::Site,
    sandboxed::{Database, LEFT_BEHIND, Sandboxed},
};
use bootstrap::{environment::environment, start::Started};
use core_config::{load::Loaded, settings::ProcessManager};
use executor::environment::allow_list;
use launcher::launcher::Launcher;
use processes::{control::Control, manager::Manager, programs::Programs};
use sandbox::premises::{Opening, Premises};
use tokio::{sync::watch, time::sleep};
use tokio_util::sync::CancellationToken;

/// How often leftovers of checks are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(300);
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
pub(crate) fn checks(started: &Started, settings: watch::Receiver<Arc<Loaded>>) -> Checks {
    let environment = environment();
    let scratch = started.state_dir.join("checks");
    let host = Host::new(launcher(started), scratch, environment.clone());
    let sandboxes = sandboxes(started, settings)
        .inspect_err(|error| tracing::warn!(%error, "sandboxes are not checked"))
        .ok();
    let site = sandboxes.clone().map(|sandboxes| -> Arc<dyn Site> { Arc::new(sandboxes) });
    let checker = Checker::new(Arc::new(host), site);
    Checks { checker, sandboxes, environment: allow_list(&environment) }
}

/// Sandboxes as the dispatcher beside this program makes them.
fn sandboxes(
    started: &Started,
    settings: watch::Receiver<Arc<Loaded>>,
) -> anyhow::Result<Sandboxed> {
    let first = &started.settings.settings;
    let premises = Premises::open(Opening {
        docker_host: first.docker_host.clone(),
        state_dir: &started.state_dir,
        programs: &own_directory()?,
        host: launcher(started),
        environment: environment(),
    })?;
    let url = started.embedded.as_ref().map(|embedded| &embedded.url);
    let url = url.or(first.database_url.as_ref()).cloned();
    let database = url.map(|url| Database { store: started.store.clone(), url });
    Ok(Sandboxed::new(premises, settings, database))
}

/// Removes what checks of servers that died have left, now and again, until it is told to stop.
pub(crate) async fn sweep(sandboxes: Sandboxed, stop: CancellationToken) {
    while !stop.is_cancelled() {
        // What is swept stays swept, and what is not is found the next time.
        stop.run_until_cancelled(sandboxes.sweep(LEFT_BEHIND)).await;
        stop.run_until_cancelled(sleep(SWEEP_EVERY)).await;
    }
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
