//! The state directory: which launches of it run, and what they are.

use std::{
    fs::DirBuilder,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use core_types::label;
use futures_util::{StreamExt as _, future::join_all};
use launcher::{
    docker::{DockerConfig, DockerLauncher},
    handle::{Handle, LaunchState, StopRequest},
    launcher::{Discovered, Launcher as _},
    output::{LogContent, LogCursor},
    process::ProcessLauncher,
};

use crate::failure::Failure;

/// The part that private servers are.
const EMBEDDED: &str = "embedded";
/// How long to read the output of a launch before taking it for read.
const READ_LIMIT: Duration = Duration::from_millis(500);

/// The state directory of this machine's openTiger.
#[derive(Debug, Clone)]
pub(crate) struct StateDir {
    pub(crate) launcher: ProcessLauncher,
    /// Knows the containers, where there ever were some.
    sandboxes: Option<DockerLauncher>,
    pub(crate) path: PathBuf,
}

/// What a launch is to the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// The dispatcher, or an agent.
    Process,
    /// Something of a run.
    Run,
    /// The container of a run.
    Sandbox,
    /// Anything else that was launched here.
    Unknown,
    /// The API server.
    ApiServer,
    /// A private database or queue.
    PrivateServer,
}

/// A launch that runs.
#[derive(Debug, Clone)]
pub(crate) struct Alive {
    pub(crate) kind: Kind,
    /// What people call it.
    pub(crate) name: String,
    pub(crate) handle: Handle,
}

impl StateDir {
    /// Opens a directory that is there; nothing where it is not, so that looking makes none.
    pub(crate) fn existing(path: &Path) -> Result<Option<Self>, Failure> {
        if path.join("launches").is_dir() { Self::open(path).map(Some) } else { Ok(None) }
    }

    /// Opens a directory, and makes it where it is missing.
    pub(crate) fn made(path: &Path) -> Result<Self, Failure> {
        // 0711 and not 0700: agents and the private servers may run as another user, beneath it.
        let made = DirBuilder::new().recursive(true).mode(0o711).create(path);
        made.map_err(|error| {
            Failure::of(format_args!("make the state directory `{}`", path.display()), &error)
                .with_hint("make it writable, or set `OPENTIGER_STATE_DIR`")
        })?;
        Self::open(path)
    }

    fn open(path: &Path) -> Result<Self, Failure> {
        let launcher = ProcessLauncher::new(path.to_owned()).map_err(|error| {
            Failure::of(format_args!("open the state directory `{}`", path.display()), &error)
        })?;
        Ok(Self { launcher, sandboxes: None, path: path.to_owned() })
    }

    /// The same with its containers, on the engine at this address as in `DOCKER_HOST`.
    pub(crate) fn with_sandboxes(mut self, docker_host: Option<String>) -> Result<Self, Failure> {
        if self.path.join("containers").is_dir() {
            let config = DockerConfig { host: docker_host, store: self.path.clone() };
            let opened = DockerLauncher::open(config);
            self.sandboxes = Some(
                opened.map_err(|error| Failure::of("open the directory of containers", &error))?,
            );
        }
        Ok(self)
    }

    /// Every launch.
    pub(crate) async fn launches(&self) -> Result<Vec<Discovered>, Failure> {
        self.launcher
            .discover()
            .await
            .map_err(|error| Failure::of("list what was launched", &error))
    }

    /// Every launch that has not ended, those first that are to be ended first.
    pub(crate) async fn alive(&self) -> Result<Vec<Alive>, Failure> {
        let mut alive = Vec::new();
        for launch in self.launches().await?.iter().filter(|launch| is_alive(launch)) {
            // One that is gone by now ended meanwhile.
            if let Ok(handle) = self.launcher.attach(&launch.record).await {
                alive.push(Alive { kind: kind(launch), name: name(launch), handle });
            }
        }
        alive.extend(self.sandboxes().await?);
        alive.sort_by(|a, b| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
        Ok(alive)
    }

    async fn sandboxes(&self) -> Result<Vec<Alive>, Failure> {
        let Some(launcher) = &self.sandboxes else { return Ok(Vec::new()) };
        let found = launcher.discover().await;
        let found = found.map_err(|error| Failure::of("list the containers", &error))?;
        let mut alive = Vec::new();
        for launch in found.iter().filter(|launch| is_alive(launch)) {
            if let Ok(handle) = launcher.attach(&launch.record).await {
                let name = format!("sandbox of {}", name(launch));
                alive.push(Alive { kind: Kind::Sandbox, name, handle });
            }
        }
        Ok(alive)
    }
}

fn is_alive(launch: &Discovered) -> bool {
    !matches!(launch.state, LaunchState::Ended(_))
}

impl Alive {
    /// The process id of the command itself.
    pub(crate) async fn pid(&self) -> Option<i32> {
        self.handle.stats().await.ok()?.leader_pid
    }
}

/// Ends launches side by side.
pub(crate) async fn stop(launches: &[Alive], reason: &str, grace: Duration) {
    let stops = launches.iter().map(|one| one.handle.stop(StopRequest::new(reason, grace)));
    join_all(stops).await;
}

fn kind(launch: &Discovered) -> Kind {
    let labelled = |name: &str| launch.labels.get(name).map(String::as_str);
    match labelled(label::PART) {
        Some(EMBEDDED) => return Kind::PrivateServer,
        Some(super::api_server::PART) => return Kind::ApiServer,
        Some(_) | None => {}
    }
    if labelled(label::PROCESS).is_some() {
        Kind::Process
    } else if labelled(label::RUN).is_some() {
        Kind::Run
    } else {
        Kind::Unknown
    }
}

fn name(launch: &Discovered) -> String {
    let labelled = |name: &str| launch.labels.get(name).cloned();
    labelled(label::PROCESS)
        .or_else(|| labelled(label::RUN))
        .unwrap_or_else(|| launch.id.to_string())
}

/// What a launch has written so far. A live one is read for a moment only.
pub(crate) async fn output(handle: &Handle) -> String {
    let mut chunks = handle.logs(LogCursor::START);
    let mut bytes = Vec::new();
    while let Ok(Some(Ok(chunk))) = tokio::time::timeout(READ_LIMIT, chunks.next()).await {
        if let LogContent::Output { stream: _, data } = chunk.content {
            bytes.extend_from_slice(&data);
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
