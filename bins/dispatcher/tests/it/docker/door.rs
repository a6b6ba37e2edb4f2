//! A door before the engine's socket, which can be held at one kind of request.

use std::{path::PathBuf, sync::Arc};

use tempfile::TempDir;
use testing::wait::wait_for;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{UnixListener, UnixStream},
    sync::watch,
    task::JoinSet,
};

use crate::system::DEADLINE;

/// Where a request is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hold {
    /// Not at all.
    Nowhere,
    /// Before the engine gets it; what is named is part of its first line.
    Before(&'static str),
    /// The same, and it gets it afterwards.
    Until(&'static str),
    /// After the engine did it and before its answer is passed on.
    After(&'static str),
}

/// The door; who is held is let go when that changes, without an answer unless the hold says otherwise.
pub(super) struct Door {
    directory: TempDir,
    shared: Arc<Shared>,
    _serving: JoinSet<()>,
}

struct Shared {
    engine: PathBuf,
    hold: watch::Sender<Hold>,
    held: watch::Sender<bool>,
}

impl Door {
    /// A door before the engine at an address in the form of `DOCKER_HOST`.
    pub(super) fn before(engine: &str) -> Self {
        let directory = TempDir::new().expect("a temporary directory can be made");
        let listener = UnixListener::bind(directory.path().join("docker.sock"));
        let listener = listener.expect("a socket can be made");
        let engine = engine.strip_prefix("unix://").expect("the engine is at a socket").into();
        let shared = Arc::new(Shared {
            engine,
            hold: watch::Sender::new(Hold::Nowhere),
            held: watch::Sender::new(false),
        });
        let mut serving = JoinSet::new();
        let for_connections = Arc::clone(&shared);
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let shared = Arc::clone(&for_connections);
                connections.spawn(async move { shared.pass(stream).await });
            }
        });
        Self { directory, shared, _serving: serving }
    }

    pub(super) fn host(&self) -> String {
        format!("unix://{}", self.directory.path().join("docker.sock").display())
    }

    pub(super) fn hold(&self, hold: Hold) {
        self.shared.held.send_replace(false);
        self.shared.hold.send_replace(hold);
    }

    /// Waits until a request is held.
    pub(super) async fn wait_held(&self, logs: impl Fn() -> String) {
        wait_for("a request to be held", DEADLINE, async || {
            if *self.shared.held.borrow() { Ok(()) } else { Err(logs()) }
        })
        .await;
    }
}

impl Shared {
    async fn pass(&self, mut client: UnixStream) {
        let mut head = Vec::new();
        while !head.contains(&b'\n') {
            if client.read_buf(&mut head).await.unwrap_or(0) == 0 {
                return;
            }
        }
        let line = String::from_utf8_lossy(&head).lines().next().unwrap_or_default().to_owned();
        let hold = *self.hold.borrow();
        if matches!(hold, Hold::Before(part) if line.contains(part)) {
            return self.stand(hold).await;
        }
        if matches!(hold, Hold::Until(part) if line.contains(part)) {
            self.stand(hold).await;
        }
        let Ok(mut engine) = UnixStream::connect(&self.engine).await else { return };
        if engine.write_all(&head).await.is_err() {
            return;
        }
        if matches!(hold, Hold::After(part) if line.contains(part)) {
            let (mut from_client, _to_client) = client.split();
            let (mut from_engine, mut to_engine) = engine.split();
            // Dropping the copy in the middle is fine: the engine answers only what it has got as a whole.
            tokio::select! {
                _ = tokio::io::copy(&mut from_client, &mut to_engine) => {}
                _ = from_engine.read_u8() => {}
            }
            return self.stand(hold).await;
        }
        copy_bidirectional(&mut client, &mut engine).await.ok();
    }

    async fn stand(&self, hold: Hold) {
        self.held.send_replace(true);
        self.hold.subscribe().wait_for(|now| *now != hold).await.ok();
    }
}
