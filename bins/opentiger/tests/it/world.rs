//! A state directory, a database and a repository of one test, and the command line used on them.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use launcher::{
    handle::{LaunchState, StopRequest},
    launcher::Launcher as _,
    process::ProcessLauncher,
};
use serde_json::Value;
use tempfile::TempDir;
use testing::{database::TestDatabase, repository::ScratchRepository};
use tokio::{io::AsyncWriteExt as _, process::Command};

/// Longest wait for anything in these tests.
pub(crate) const DEADLINE: Duration = Duration::from_secs(90);

/// Everything one test runs; gone with it.
pub(crate) struct World {
    pub(crate) state: TempDir,
    pub(crate) repository: ScratchRepository,
    pub(crate) variables: BTreeMap<String, String>,
    _database: Option<TestDatabase>,
}

/// What a call of the command line left behind.
#[derive(Debug, Clone)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl World {
    /// With a database of the test's own, and the scripted agent.
    pub(crate) async fn new() -> Self {
        let database = TestDatabase::new().await;
        let mut world = Self::without_database();
        world.set("DATABASE_URL", database.url.expose());
        world.set("OPENTIGER_EMBEDDED", "never");
        world._database = Some(database);
        world
    }

    /// With none configured.
    pub(crate) fn without_database() -> Self {
        let state = TempDir::new().expect("a temporary directory can be made");
        // The private Postgres may run as another user, beneath it.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(state.path(), open).expect("it is ours");
        let mut world = Self {
            repository: ScratchRepository::with_one_commit(),
            variables: BTreeMap::new(),
            _database: None,
            state,
        };
        let agent = testing::programs::fake_agent_path();
        world.set("CLAUDE_CODE_COMMAND", &agent.to_string_lossy());
        world.set("PATH", &testing::programs::search_path());
        let home = world.state.path().to_string_lossy().into_owned();
        world.set("HOME", &home);
        let place = world.state_dir().to_string_lossy().into_owned();
        world.set("OPENTIGER_STATE_DIR", &place);
        world.set("OPENTIGER_API_LISTEN", "127.0.0.1:0");
        // Few processes: these tests share a machine with others.
        for (name, count) in [("WORKER_COUNT", "1"), ("TESTER_COUNT", "0"), ("DOCSER_COUNT", "0")] {
            world.set(name, count);
        }
        world
    }

    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.variables.insert(name.to_owned(), value.to_owned());
    }

    pub(crate) fn state_dir(&self) -> PathBuf {
        self.state.path().join("state")
    }

    /// Calls the command line in the repository.
    pub(crate) async fn call(&self, args: &[&str]) -> Said {
        self.call_in(self.repository.path(), args, "").await
    }

    /// The same with something on standard input.
    pub(crate) async fn call_with(&self, args: &[&str], input: &str) -> Said {
        self.call_in(self.repository.path(), args, input).await
    }

    /// Calls it in a directory.
    pub(crate) async fn call_in(&self, directory: &Path, args: &[&str], input: &str) -> Said {
        let mut command = self.command(env!("CARGO_BIN_EXE_opentiger"), directory);
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program is built");
        let mut stdin = child.stdin.take().expect("it is a pipe");
        // A command that reads nothing may have ended by now.
        stdin.write_all(input.as_bytes()).await.ok();
        drop(stdin);
        let output = tokio::time::timeout(2 * DEADLINE, child.wait_with_output()).await;
        let output = output.expect("it ends in time").expect("it can be waited for");
        Said {
            code: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// A program with this world's variables.
    pub(crate) fn command(&self, program: &str, directory: &Path) -> Command {
        #[expect(clippy::disallowed_methods, reason = "the test stands in for a person's shell")]
        let mut command = Command::new(program);
        command.env_clear().envs(&self.variables).current_dir(directory).kill_on_drop(true);
        command
    }

    /// Starts openTiger and expects it to be ready.
    pub(crate) async fn up(&self) -> Said {
        self.call(&["up", "--timeout", "90s"]).await.done()
    }

    /// The launches that are alive, by id.
    pub(crate) async fn alive(&self) -> Vec<String> {
        let Ok(launcher) = ProcessLauncher::new(self.state_dir()) else {
            return Vec::new();
        };
        let found = launcher.discover().await.expect("launches can be listed");
        let alive = found.into_iter().filter(|one| !matches!(one.state, LaunchState::Ended(_)));
        alive.map(|one| one.id.to_string()).collect()
    }
}

impl Said {
    /// Expects it to have ended well.
    #[track_caller]
    pub(crate) fn done(self) -> Self {
        self.with_code(0)
    }

    /// Expects an exit code.
    #[track_caller]
    pub(crate) fn with_code(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "out: {}\nerr: {}", self.out, self.err);
        self
    }

    /// Standard output as one JSON value, which is all there may be.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        let value = serde_json::from_str(&self.out);
        assert!(
            value.is_ok(),
            "no JSON: {}
err: {}",
            self.out,
            self.err
        );
        value.unwrap_or_default()
    }

    /// The only line of standard output.
    #[track_caller]
    pub(crate) fn line(&self) -> &str {
        let mut lines = self.out.lines();
        let line = lines.next().unwrap_or_default();
        assert_eq!(lines.next(), None, "{}", self.out);
        line
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let state = self.state_dir();
        let swept = std::thread::spawn(move || end_launches(&state));
        drop(swept.join());
    }
}

/// Ends whatever a test left running.
fn end_launches(state: &Path) {
    if !state.is_dir() {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime can be made");
    runtime.block_on(async {
        let Ok(launcher) = ProcessLauncher::new(state.to_path_buf()) else {
            return;
        };
        for found in launcher.discover().await.unwrap_or_default() {
            if let Ok(handle) = launcher.attach(&found.record).await {
                handle.stop(StopRequest::new("the test is over", Duration::ZERO)).await;
            }
        }
    });
}
