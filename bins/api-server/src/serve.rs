//! Settings and database made into a server, from the first request to the last.

use std::{io::Write as _, path::Path, time::Duration};

use anyhow::Context as _;
use api::{
    breaker::{LOOK_AT_LOGIN_EVERY, watch_logins},
    server::{Served, Server},
    state::ApiState,
};
use checkout::{git::GitCommand, mirror::Mirrors};
use client::address::{AddressFile, Announced};
use telemetry::chain::error_chain;
use tokio::task::JoinSet;

/// How long requests and changes may take to end after the server is asked to stop.
const GRACE: Duration = Duration::from_secs(10);
/// How long git may take to look at a repository; shorter than a request may take.
const GIT_TIMEOUT: Duration = Duration::from_secs(20);

/// Serves until a signal asks it to stop.
pub(crate) async fn run() -> anyhow::Result<()> {
    let started = bootstrap::start::start_serving("api-server").await?;
    let stop = started.stop_token().context("listen for signals")?;
    let settings = started.watch_settings();
    let manager = crate::processes::manager(&started, settings.clone())?;
    let checks = crate::processes::checks(&started, settings.clone());
    let sandboxes = checks.sandboxes.clone();
    let state = ApiState::new(started.store.clone(), settings, git(), stop.clone())
        .with_processes(crate::processes::control(&started))
        .with_checks(checks)
        .with_mirrors(Mirrors::new(started.state_dir.join("mirrors")))
        .with_queue(started.queue.clone());
    let watching = watch_logins(state.clone(), LOOK_AT_LOGIN_EVERY, stop.clone());
    let address = started.settings.settings.api_listen;
    let server = Server::bind(address, state)
        .await
        .map_err(|error| anyhow::anyhow!("{}; {}", error_chain(&error), error.hint()))?;
    let _announced = announce_in_state_dir(&server, &started.state_dir);
    announce(&server)?;
    let mut managing = JoinSet::new();
    managing.spawn(watching);
    if let Some(manager) = manager {
        managing.spawn(manager.run(stop.clone()));
    }
    if let Some(sandboxes) = sandboxes {
        managing.spawn(crate::processes::sweep(sandboxes, stop));
    }
    let served = server.serve(GRACE).await;
    // It lets go of its lock, so that another one may go on at once.
    while managing.join_next().await.is_some() {}
    match served {
        Served::Gracefully => tracing::info!("stopped gracefully"),
        Served::TimeUp { changes_left } => {
            tracing::warn!(changes_left, "stopped before every request was answered");
        }
    }
    Ok(started.outcome()?)
}

/// Looks for git once; without it tasks are refused with that reason.
fn git() -> Option<GitCommand> {
    let search_path = bootstrap::environment::environment().remove("PATH").unwrap_or_default();
    match GitCommand::find(&search_path) {
        Ok(git) => Some(git.with_timeout(GIT_TIMEOUT)),
        Err(error) => {
            tracing::error!(error = %error_chain(&error), "git not found, no task can be made");
            None
        }
    }
}

/// Says where the server listens, on standard output for whoever started it and in the log.
fn announce(server: &Server) -> anyhow::Result<()> {
    let address = server.address();
    tracing::info!(http.address = %address, "listening");
    let mut out = std::io::stdout().lock();
    writeln!(out, "api-server listens on http://{address}").context("write to standard output")?;
    out.flush().context("write to standard output")
}

/// Says it in the state directory too, where the command line looks. Without it the default address is tried.
fn announce_in_state_dir(server: &Server, state_dir: &Path) -> Option<Announced> {
    let process = bootstrap::start::own_process().ok()?;
    let file = AddressFile {
        address: server.address(),
        pid: process.pid,
        start_ticks: process.start_ticks,
        boot_id: process.boot_id,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let announced = file.announce(state_dir);
    announced
        .inspect_err(|error| {
            tracing::warn!(error = %error_chain(error), "command line not told the address");
        })
        .ok()
}
