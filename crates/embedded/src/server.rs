//! One life of the server process: started through the launcher, waited for, recognised again.

use std::{
    net::{Ipv4Addr, TcpListener},
    path::Path,
    time::Duration,
};

use futures_util::StreamExt as _;
use launcher::{
    handle::{Destroy, Handle, LaunchState, StopRequest},
    id::LaunchId,
    launcher::Launcher,
    output::{LogContent, LogCursor},
    process::ProcessLauncher,
    spec::{Input, LaunchSpec, OutputLimits, StopPolicy, StopSignal},
};
use tokio::time::Instant;

use crate::{
    account::Account,
    binaries::Binaries,
    cluster::{Cluster, last_lines},
    error::{EmbeddedError, launch_error},
    postgres::Durability,
};

/// The one launch id: whoever starts the server starts it under this name.
const LAUNCH_ID: &str = "embedded-postgres";
/// How long a server may take until it is ready; recovery after a crash is part of it.
const READY_TIMEOUT: Duration = Duration::from_secs(300);
/// A first look at readiness after 5 ms finds a warm start at its earliest; it takes 20 ms or more.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);
/// How long a fast shutdown may take before the server is killed: it writes a checkpoint.
const STOP_GRACE: Duration = Duration::from_secs(30);
/// How often a lost port is replaced by another one.
const PORT_ATTEMPTS: u32 = 5;

const FULL: &[&str] = &["max_connections=200"];
const TEST: &[&str] = &[
    "max_connections=400",
    "fsync=off",
    "synchronous_commit=off",
    "full_page_writes=off",
    "autovacuum_naptime=1h",
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

/// How the wait for a server that was just started ended.
enum Start {
    Ready,
    PortLost,
}

impl Server<'_> {
    /// Finds the server that somebody started, renews its lease, and waits until it is ready. What an ended launch
    /// left is removed, so that the id is free again.
    pub(crate) async fn find(&self) -> Result<Option<Running>, EmbeddedError> {
        let id = launch_id();
        let launches = self.launcher.discover().await.map_err(launch_error("list the launches"))?;
        let Some(found) = launches.into_iter().find(|launch| launch.id == id) else {
            return Ok(None);
        };
        let attached = self.launcher.attach(&found.record).await;
        let handle = attached.map_err(launch_error("attach to the server's launch"))?;
        let is_alive = matches!(found.state, LaunchState::Running { .. });
        if is_alive
            && handle.renew().await.is_ok()
            && matches!(self.wait(&handle).await, Ok(Start::Ready))
        {
            let port = self.cluster.postmaster().and_then(|postmaster| postmaster.port);
            if let Some(port) = port {
                return Ok(Some(Running { handle, port }));
            }
        }
        clear_away(&handle).await?;
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
                Start::Ready => return Ok(Running { handle, port }),
                Start::PortLost if must => return Err(EmbeddedError::PortTaken { port }),
                Start::PortLost => clear_away(&handle).await?,
            }
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
    async fn wait(&self, handle: &Handle) -> Result<Start, EmbeddedError> {
        let deadline = Instant::now() + READY_TIMEOUT;
        let mut renewed = Instant::now();
        while Instant::now() < deadline {
            if let Some(postmaster) = self.cluster.postmaster()
                && postmaster.ready
                && leader(handle).await == Some(postmaster.pid)
            {
                return Ok(Start::Ready);
            }
            if matches!(*handle.state().borrow(), LaunchState::Ended(_)) {
                return self.judge_early_end(handle).await;
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

    async fn judge_early_end(&self, handle: &Handle) -> Result<Start, EmbeddedError> {
        let words = last_words(handle).await;
        if words.contains("Address already in use") {
            return Ok(Start::PortLost);
        }
        Err(EmbeddedError::StartFailed { detail: last_lines(&words) })
    }
}

fn launch_id() -> LaunchId {
    LAUNCH_ID.parse().expect("the fixed text is a launch id")
}

async fn leader(handle: &Handle) -> Option<i32> {
    handle.stats().await.ok()?.leader_pid
}

/// Ends what may be left of a launch and frees its id.
async fn clear_away(handle: &Handle) -> Result<(), EmbeddedError> {
    handle.stop(StopRequest::new("a new start of the private PostgreSQL", STOP_GRACE)).await;
    handle
        .destroy(Destroy::Everything)
        .await
        .map_err(launch_error("remove the server's last launch"))
}

async fn last_words(handle: &Handle) -> String {
    let mut words = Vec::new();
    let mut chunks = handle.logs(LogCursor::START);
    while let Some(Ok(chunk)) = chunks.next().await {
        match chunk.content {
            LogContent::Output { data, .. } => words.extend(&data),
            LogContent::Gap { .. } => {}
        }
    }
    String::from_utf8_lossy(&words).into_owned()
}

/// A port that nobody listens on now. Somebody else may take it before the server does.
fn free_port() -> Result<u16, EmbeddedError> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    listener
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(crate::error::io_error("find a free port on", Path::new("127.0.0.1")))
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}
