//! The workbench of these tests: a state directory of its own and connections to its server.

use std::{
    path::{Path, PathBuf},
    process::{Child, Stdio},
    time::Duration,
};

use core_types::secret::Secret;
use embedded::{
    error::EmbeddedError,
    options::{Durability, EmbeddedOptions},
    postgres::{EmbeddedPostgres, ensure_postgres},
};
use futures_util::StreamExt as _;
use launcher::{
    handle::LaunchState, launcher::Launcher as _, outcome::ExitReport, process::ProcessLauncher,
};
use tempfile::TempDir;
use testing::{
    programs::{built_program, search_path},
    repository::set_mode,
    wait::wait_for,
};
use tokio::task::JoinSet;
use tokio_postgres::{Client, NoTls};

/// Long enough for every wait in these tests.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

pub(crate) struct Bench {
    pub(crate) directory: TempDir,
    pub(crate) options: EmbeddedOptions,
}

/// A connection that ends with this value.
pub(crate) struct Connected {
    pub(crate) client: Client,
    _connection: JoinSet<Result<(), tokio_postgres::Error>>,
}

impl Bench {
    /// A server that a failed test leaves ends by itself after some seconds.
    pub(crate) fn new() -> Self {
        let directory = TempDir::new().unwrap();
        set_mode(directory.path(), 0o711);
        let state_dir = directory.path().join("state");
        std::fs::create_dir(&state_dir).unwrap();
        let launcher = ProcessLauncher::new(state_dir.clone()).unwrap();
        let mut options = EmbeddedOptions::new(state_dir, search_path(), launcher);
        options.durability = Durability::Test;
        options.lease = Duration::from_secs(20);
        Self { directory, options }
    }

    pub(crate) async fn ensure(&self) -> EmbeddedPostgres {
        self.try_ensure().await.unwrap()
    }

    pub(crate) async fn try_ensure(&self) -> Result<EmbeddedPostgres, EmbeddedError> {
        ensure_postgres(self.options.clone()).await
    }

    pub(crate) fn postgres_dir(&self) -> PathBuf {
        self.options.state_dir.join("postgres")
    }

    /// Waits until the database's server has ended, and tells how.
    pub(crate) async fn ended(&self) -> ExitReport {
        self.ended_launch("embedded-postgres").await
    }

    /// Waits until a launch has ended, and tells how.
    pub(crate) async fn ended_launch(&self, id: &str) -> ExitReport {
        wait_for("the server to end", LIMIT, async || match self.launch_state(id).await {
            Some(LaunchState::Ended(report)) => Ok(report),
            other => Err(format!("{other:?}")),
        })
        .await
    }

    /// What is known about a launch, ended or not.
    async fn launch_state(&self, id: &str) -> Option<LaunchState> {
        let launches = self.options.launcher.discover().await.unwrap();
        let server = launches.into_iter().find(|launch| launch.id.as_str() == id);
        server.map(|launch| launch.state)
    }

    /// Whether there are files of a first start that did not end.
    pub(crate) fn has_leftovers(&self) -> bool {
        let names = std::fs::read_dir(self.postgres_dir()).into_iter().flatten().flatten();
        let mut names = names.map(|entry| entry.file_name().into_string().unwrap());
        names.any(|name| name != "data" && name.starts_with("data"))
    }

    /// Another process that uses the server.
    pub(crate) fn user(&self, lease: Duration) -> User {
        #[expect(
            clippy::disallowed_methods,
            reason = "the test stands in for the user's own shell"
        )]
        let mut command = std::process::Command::new(built_program("hold_postgres", "embedded"));
        command.arg(&self.options.state_dir).arg(lease.as_millis().to_string());
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        User(command.spawn().unwrap())
    }
}

/// Another process that uses the server; killed with this value.
pub(crate) struct User(Child);

impl User {
    /// Waits for the URL that it prints.
    pub(crate) async fn url(&mut self) -> Secret {
        let output = self.0.stdout.take().unwrap();
        let line = tokio::task::spawn_blocking(move || {
            let mut line = String::new();
            std::io::BufRead::read_line(&mut std::io::BufReader::new(output), &mut line).unwrap();
            line
        });
        let line = line.await.unwrap();
        assert!(!line.is_empty(), "the other process said nothing");
        Secret::new(line.trim())
    }
}

impl Drop for User {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

impl Connected {
    pub(crate) async fn to(url: &Secret) -> Self {
        Self::try_to(url).await.unwrap()
    }

    pub(crate) async fn try_to(url: &Secret) -> Result<Self, tokio_postgres::Error> {
        let (client, driver) = tokio_postgres::connect(url.expose(), NoTls).await?;
        let mut connection = JoinSet::new();
        connection.spawn(driver);
        Ok(Self { client, _connection: connection })
    }

    pub(crate) async fn text(&self, query: &str) -> String {
        self.client.query_one(query, &[]).await.unwrap().get(0)
    }
}

/// A connection that hears the notifications of the channel `news`.
pub(crate) struct Listener {
    _client: Client,
    heard: tokio::sync::mpsc::UnboundedReceiver<()>,
    _connection: JoinSet<()>,
}

impl Listener {
    pub(crate) async fn to(url: &Secret) -> Self {
        let (client, mut connection) = tokio_postgres::connect(url.expose(), NoTls).await.unwrap();
        let (tell, heard) = tokio::sync::mpsc::unbounded_channel();
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut messages =
                std::pin::pin!(futures_util::stream::poll_fn(|cx| connection.poll_message(cx)));
            while let Some(Ok(message)) = messages.next().await {
                if matches!(message, tokio_postgres::AsyncMessage::Notification(_)) {
                    tell.send(()).ok();
                }
            }
        });
        client.batch_execute("LISTEN news").await.unwrap();
        Self { _client: client, heard, _connection: task }
    }

    pub(crate) async fn next(&mut self) {
        tokio::time::timeout(LIMIT, self.heard.recv()).await.unwrap().unwrap();
    }
}

/// The process of the server, from its own file.
pub(crate) fn server_pid(data_dir: &Path) -> rustix::process::Pid {
    let text = std::fs::read_to_string(data_dir.join("postmaster.pid")).unwrap();
    let pid = text.lines().next().unwrap().trim().parse().unwrap();
    rustix::process::Pid::from_raw(pid).unwrap()
}
