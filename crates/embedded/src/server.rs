//! One life of a server's process: started through the launcher, waited for, recognised again.

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
    spec::{Input, LaunchSpec, OutputLimits},
};
use tokio::time::Instant;

use crate::{
    account::Account,
    error::{EmbeddedError, ServerKind, io_error, launch_error},
    launch::{self, last_lines},
};

/// How long a server may take until it is ready; recovery after a crash is part of it.
pub(crate) const READY_TIMEOUT: Duration = Duration::from_secs(300);
/// A first look at readiness after 5 ms finds a warm start at its earliest; it takes 20 ms or more.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);
/// How long an orderly end may take before the server is killed: it brings its data to the disk.
pub(crate) const STOP_GRACE: Duration = Duration::from_secs(30);
/// How often a lost port is replaced by another one.
const PORT_ATTEMPTS: u32 = 5;

/// What tells one kind of server from another here.
pub(crate) trait Program {
    /// Which server it is.
    const KIND: ServerKind;
    /// The one launch id: whoever starts the server starts it under this name.
    const LAUNCH_ID: &'static str;

    /// The port of the server, once the one that *this* launch started says that it is ready.
    async fn ready(&self, handle: &Handle) -> Option<u16>;
}

/// What a server is started with.
#[derive(Debug)]
pub(crate) struct Server<'a, P> {
    pub(crate) launcher: &'a ProcessLauncher,
    pub(crate) program: &'a P,
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

impl<P: Program> Server<'_, P> {
    /// Finds the server that somebody started, renews its lease, and waits until it is ready. What an ended launch
    /// left is removed, so that the id is free again. A server that lives has other users: it is never ended here,
    /// however slow it is.
    pub(crate) async fn find(&self) -> Result<Option<Running>, EmbeddedError> {
        let Some(handle) = launch::find(self.launcher, &launch_id::<P>()).await? else {
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

    /// Starts the server, on the given port if it is free, else on another one unless it `must` be that. `spec` says how
    /// it is started on a port.
    pub(crate) async fn start(
        &self,
        wish: Option<u16>,
        must: bool,
        spec: impl Fn(u16) -> Result<LaunchSpec, EmbeddedError>,
    ) -> Result<Running, EmbeddedError> {
        let mut wish = wish;
        for _ in 0..PORT_ATTEMPTS {
            let port = match wish.take().map(|port| (port, is_free(port))) {
                Some((port, true)) => port,
                Some((port, false)) if must => return Err(EmbeddedError::PortTaken { port }),
                Some(_) | None => free_port()?,
            };
            let handle = self.launch(spec(port)?).await?;
            match self.wait(&handle).await? {
                Awaited::Ready(port) => return Ok(Running { handle, port }),
                Awaited::Ended => {}
            }
            let words = launch::words(&handle).await;
            if !words.contains("Address already in use") {
                return Err(self.start_failed(last_lines(&words)));
            }
            if must {
                return Err(EmbeddedError::PortTaken { port });
            }
            launch::forget(&handle).await?;
        }
        Err(self.start_failed("every port it tried was taken".to_owned()))
    }

    async fn launch(&self, mut spec: LaunchSpec) -> Result<Handle, EmbeddedError> {
        spec.lease = Some(self.lease);
        let launched = self.launcher.launch(&launch_id::<P>(), &spec, Input::default()).await;
        Ok(launched.map_err(launch_error("start a private server"))?.into_handle())
    }

    fn start_failed(&self, detail: String) -> EmbeddedError {
        EmbeddedError::StartFailed { server: P::KIND, detail }
    }

    /// Waits until the server that *this* launch started says that it is ready: what a killed server left may say so
    /// too.
    async fn wait(&self, handle: &Handle) -> Result<Awaited, EmbeddedError> {
        let deadline = Instant::now() + READY_TIMEOUT;
        let mut renewed = Instant::now();
        while Instant::now() < deadline {
            if let Some(port) = self.program.ready(handle).await {
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
        Err(EmbeddedError::NotReady { server: P::KIND, waited: READY_TIMEOUT })
    }
}

/// How every server of ours is launched.
pub(crate) fn spec(program: &Path, args: Vec<String>, account: &Account) -> LaunchSpec {
    let mut spec = LaunchSpec::new(program, "/");
    spec.args = args;
    spec.env.insert("LC_ALL".to_owned(), "C".to_owned());
    spec.user = account.user;
    spec.output = OutputLimits { head_bytes: 1 << 20, tail_bytes: 4 << 20 };
    spec.labels.insert(core_types::label::PART.to_owned(), "embedded".to_owned());
    spec
}

fn launch_id<P: Program>() -> LaunchId {
    P::LAUNCH_ID.parse().expect("the fixed text is a launch id")
}

/// The process of a launch's command.
pub(crate) async fn leader(handle: &Handle) -> Option<i32> {
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
