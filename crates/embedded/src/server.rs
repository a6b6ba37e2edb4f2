//! One life of the server process: started through the launcher, waited for, recognised again.

use std::{
    net::{Ipv4Addr, TcpListener},
    path::Path,
    time::Duration,
};

use launcher::{
    handle::{Handle, LaunchState, StopRequest},
    id::LaunchId,
    launcher::Launcher as _,
    process::ProcessLauncher,
    spec::{Input, LaunchSpec, OutputLimits, StopPolicy, StopSignal},
};
use tokio::time::Instant;

use crate::{
    account::Account,
    binaries::Binaries,
    cluster::Cluster,
    error::{EmbeddedError, io_error, launch_error},
    launch::{self, last_lines},
    postgres::Durability,
};

/// The one launch id: whoever starts the server starts it under this name.
const LAUNCH_ID: &str = "embedded-postgres";
/// How long a server may take until it is ready; recovery after a crash is part of it.
pub(crate) const READY_TIMEOUT: Duration = Duration::from_secs(300);
/// A first look at readiness after 5 ms finds a warm start at its earliest; it takes 20 ms or more.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);
/// How long a fast shutdown may take before the server is killed: it writes a checkpoint.
const STOP_GRACE: Duration = Duration::from_secs(30);
/// How often a lost port is replaced by another one.
const PORT_ATTEMPTS: u32 = 5;

// Each agent process holds up to six connections; dozens of them shall fit.
const FULL: &[&str] = &["max_connections=500"];
const TEST: &[&str] = &[
    "max_connections=400",
    "fsync=off",
    "synchronous_commit=off",
    "full_page_writes=off",
    "autovacuum_naptime=1h",
    // A test that ends while a connection is being made leaves it half open until its process ends, and the removal of
    // its database waits for that.
    "authentication_timeout=1s",
];
const ALWAYS: &[&str] = &[
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",
    "logging_collector=off",
    "log_min_messages=warning",
    "log_checkpoints=off",
    "jit=off",
];

/// What a server is started from.
#[derive(Debug)]
pub(crate) struct Server<'a> {
    pub(crate) launcher: &'a ProcessLauncher,
    pub(crate) cluster: &'a Cluster,
    pub(crate) account: &'a Account,
    pub(crate) durability: Durability,
    pub(crate) lease: Duration,
}

/// A server that is ready.
#[derive(Debug, Clone)]
pub(crate) struct Running {
    pub(crate) handle: Handle,
    pub(crate) port: u16,
}

/// How the wait for a server ended.
enum Awaited {
    /// It is ready on this port.
    Ready(u16),
    /// Its launch is over.
    Ended,
}

impl Server<'_> {
    /// Finds the server that somebody started, renews its lease, and waits until it is ready. What an ended launch
    /// left is removed, so that the id is free again. A server that lives has other users: it is never ended here,
    /// however slow it is.
    pub(crate) async fn find(&self) -> Result<Option<Running>, EmbeddedError> {
        let Some(handle) = launch::find(self.launcher, &launch_id()).await? else {
            return Ok(None);
        };
        let state = handle.state().borrow().clone();
        match state {
            LaunchState::Running { .. } | LaunchState::Stopping { .. } => {
                // A failure says nothing yet: the wait tells a slow server from one that has ended.
                handle.renew().await.ok();
                match self.wait(&handle).await? {
                    Awaited::Ready(port) => return Ok(Some(Running { handle, port })),
                    Awaited::Ended => {}
                }
            }
            // Only a holder of the lock launches, and now that is us: whoever made it is gone, and nobody uses it.
            LaunchState::Created => {
                handle
                    .stop(StopRequest::new("whoever began to start it is gone", STOP_GRACE))
                    .await;
            }
            LaunchState::Ended(_) => {}
        }
        launch::forget(&handle).await?;
        Ok(None)
    }

    /// Starts the server, on the given port if it is free, else on another one unless it `must` be that.
    pub(crate) async fn start(
        &self,
        binaries: &Binaries,
        wish: Option<u16>,
        must: bool,
    ) -> Result<Running, EmbeddedError> {
        let mut wish = wish;
        for _ in 0..PORT_ATTEMPTS {
            let port = match wish.take().map(|port| (port, is_free(port))) {
                Some((port, true)) => port,
                Some((port, false)) if must => return Err(EmbeddedError::PortTaken { port }),
                Some(_) | None => free_port()?,
            };
            let spec = self.spec(binaries, port);
            let launched = self.launcher.launch(&launch_id(), &spec, Input::default()).await;
            let handle =
                launched.map_err(launch_error("start the private PostgreSQL"))?.into_handle();
            match self.wait(&handle).await? {
                Awaited::Ready(port) => return Ok(Running { handle, port }),
                Awaited::Ended => {}
            }
            let words = launch::words(&handle).await;
            if !words.contains("Address already in use") {
                return Err(EmbeddedError::StartFailed { detail: last_lines(&words) });
            }
            if must {
                return Err(EmbeddedError::PortTaken { port });
            }
            launch::forget(&handle).await?;
        }
        Err(EmbeddedError::StartFailed { detail: "every port it tried was taken".to_owned() })
    }

    fn spec(&self, binaries: &Binaries, port: u16) -> LaunchSpec {
        let data_dir = &self.cluster.data_dir;
        let mut spec = LaunchSpec::new(&binaries.postgres, "/");
        spec.args = vec![
            "-D".to_owned(),
            data_dir.display().to_string(),
            "-p".to_owned(),
            port.to_string(),
        ];
        let chosen = match self.durability {
            Durability::Full => FULL,
            Durability::Test => TEST,
        };
        for setting in ALWAYS.iter().chain(chosen) {
            spec.args.extend(["-c".to_owned(), (*setting).to_owned()]);
        }
        spec.env.insert("LC_ALL".to_owned(), "C".to_owned());
        spec.user = self.account.user;
        spec.output = OutputLimits { head_bytes: 1 << 20, tail_bytes: 4 << 20 };
        // The default signal would wait for every client to leave; this one ends them and shuts down cleanly.
        spec.stop = StopPolicy { grace: STOP_GRACE, signal: StopSignal::Interrupt };
        spec.lease = Some(self.lease);
        spec.labels.insert("opentiger.part".to_owned(), "embedded".to_owned());
        spec
    }

    /// Waits until the server that *this* launch started says that it is ready: a file that a killed server left says
    /// so too, but names another process.
    async fn wait(&self, handle: &Handle) -> Result<Awaited, EmbeddedError> {
        let deadline = Instant::now() + READY_TIMEOUT;
        let mut renewed = Instant::now();
        while Instant::now() < deadline {
            if let Some(postmaster) = self.cluster.postmaster()
                && postmaster.ready
                && let Some(port) = postmaster.port
                && leader(handle).await == Some(postmaster.pid)
            {
                return Ok(Awaited::Ready(port));
            }
            if matches!(*handle.state().borrow(), LaunchState::Ended(_)) {
                return Ok(Awaited::Ended);
            }
            if renewed.elapsed() > self.lease / 4 {
                handle.renew().await.ok();
                renewed = Instant::now();
            }
            // Cancel safe: `exited` only watches.
            tokio::time::timeout(LOOK_INTERVAL, handle.exited()).await.ok();
        }
        Err(EmbeddedError::NotReady { waited: READY_TIMEOUT })
    }
}

fn launch_id() -> LaunchId {
    LAUNCH_ID.parse().expect("the fixed text is a launch id")
}

async fn leader(handle: &Handle) -> Option<i32> {
    handle.stats().await.ok()?.leader_pid
}

/// A port that nobody listens on now. Somebody else may take it before the server does.
fn free_port() -> Result<u16, EmbeddedError> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    listener
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(io_error("find a free port on", Path::new("127.0.0.1")))
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}
