//! An openTiger of its own for one test: database, state directory, processes, a scratch repository.

use std::{
    collections::BTreeMap,
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    time::Duration,
};

use core_types::label;
use launcher::{
    handle::{LaunchState, StopRequest},
    launcher::Launcher as _,
    process::ProcessLauncher,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use testing::{database::TestDatabase, repository::ScratchRepository, wait::wait_for};

use crate::{
    account::{Account, give},
    http::Http,
};

/// Longest wait for anything in these tests.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// The parts that run as processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    ApiServer,
    Dispatcher,
    Worker,
}

impl Part {
    const ALL: [Self; 3] = [Self::ApiServer, Self::Dispatcher, Self::Worker];

    const fn program(self) -> &'static str {
        match self {
            Self::ApiServer => "api-server",
            Self::Dispatcher => "dispatcher",
            Self::Worker => "worker",
        }
    }
}

/// Everything one test runs; gone with it.
pub(crate) struct System {
    pub(crate) state: TempDir,
    pub(crate) repository: ScratchRepository,
    pub(crate) database: Option<TestDatabase>,
    pub(crate) http: Http,
    /// Who runs the programs, if not whoever runs the test.
    pub(crate) account: Option<Account>,
    listen: String,
    extra: BTreeMap<String, String>,
    children: BTreeMap<Part, Child>,
}

impl System {
    /// Starts every part with the scripted agent in place of the real CLI.
    pub(crate) async fn with_fake_agent() -> Self {
        let command = testing::programs::fake_agent_path();
        let command = command.to_string_lossy().into_owned();
        let system = Self::start([("CLAUDE_CODE_COMMAND".to_owned(), command)]).await;
        system.wait_ready(200).await;
        system
    }

    /// Starts every part with these variables on top of the usual ones and a test database.
    pub(crate) async fn start(extra: impl IntoIterator<Item = (String, String)>) -> Self {
        Self::start_as(None, extra).await
    }

    /// Starts every part so that it runs as this user, who owns state and repository.
    pub(crate) async fn start_as(
        account: Option<Account>,
        extra: impl IntoIterator<Item = (String, String)>,
    ) -> Self {
        Self::start_on(Some(TestDatabase::new().await), account, extra).await
    }

    /// Starts every part with the scripted agent and a private Postgres of the system's own.
    pub(crate) async fn with_private_postgres() -> Self {
        let command = testing::programs::fake_agent_path();
        let command = command.to_string_lossy().into_owned();
        let command = [("CLAUDE_CODE_COMMAND".to_owned(), command)];
        let system = Self::start_on(None, None, command).await;
        system.wait_ready(200).await;
        system
    }

    async fn start_on(
        database: Option<TestDatabase>,
        account: Option<Account>,
        extra: impl IntoIterator<Item = (String, String)>,
    ) -> Self {
        let state = TempDir::new().expect("a temporary directory can be made");
        let mut system = Self {
            repository: ScratchRepository::with_one_commit(),
            database,
            http: Http::new(String::new()),
            listen: "127.0.0.1:0".to_owned(),
            account,
            extra: extra.into_iter().collect(),
            children: BTreeMap::new(),
            state,
        };
        if let Some(Account { uid, .. }) = account {
            give(system.state.path(), uid);
            give(system.repository.path(), uid);
        }
        for part in Part::ALL {
            system.spawn(part);
        }
        system.learn_address().await;
        system
    }

    /// Reads where api-server listens; a restarted one listens there again.
    async fn learn_address(&mut self) {
        let log = self.state.path().join("api-server.log");
        let address = wait_for("api-server to listen", DEADLINE, async || {
            let text = std::fs::read_to_string(&log).map_err(|error| error.to_string())?;
            let line = text.lines().find_map(|line| line.split_once("listens on http://"));
            line.map(|(_, address)| address.trim().to_owned()).ok_or(text)
        })
        .await;
        self.http = Http::new(format!("http://{address}"));
        self.listen = address;
    }

    /// Starts a part (again).
    pub(crate) fn spawn(&mut self, part: Part) {
        let log = self.state.path().join(format!("{}.log", part.program()));
        let log = File::options().create(true).append(true).open(log).expect("log can be opened");
        let mut command = Account::command(self.account, program(part.program()));
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.state.path())
            .env("OPENTIGER_STATE_DIR", self.state.path())
            .env("OPENTIGER_API_LISTEN", &self.listen)
            // This test starts the programs itself.
            .env("OPENTIGER_PROCESS_MANAGER", "off")
            .env("OPENTIGER_LOG", "info,api::middleware=warn")
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log can be cloned"))
            .stderr(log);
        if let Some(database) = &self.database {
            command.env("DATABASE_URL", database.url.expose()).env("OPENTIGER_EMBEDDED", "never");
        }
        command.envs(&self.extra);
        if part == Part::Worker {
            command.args(["resident", "--name", "worker-1"]);
        }
        let child = command.spawn().expect("the program is built");
        self.children.insert(part, child);
    }

    /// Sets a variable of the programs that are started from now on.
    pub(crate) fn set_variable(&mut self, name: &str, value: impl Into<String>) {
        self.extra.insert(name.to_owned(), value.into());
    }

    /// `kill -9` of a part, and its burial.
    pub(crate) fn kill(&mut self, part: Part) {
        let mut child = self.children.remove(&part).expect("the part runs");
        child.kill().expect("our own child can be killed");
        child.wait().expect("our own child can be waited for");
    }

    /// Asks a part to end, waits for it, and tells its exit code.
    pub(crate) fn terminate(&mut self, part: Part) -> Option<i32> {
        let mut child = self.children.remove(&part).expect("the part runs");
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it is ours");
        child.wait().expect("our own child can be waited for").code()
    }

    /// Lets a part stand still, as a suspended machine does, or go on.
    pub(crate) fn signal(&self, part: Part, signal: rustix::process::Signal) {
        let child = self.children.get(&part).expect("the part runs");
        let pid = rustix::process::Pid::from_child(child);
        rustix::process::kill_process(pid, signal).expect("our own child can be signalled");
    }

    /// Sends SIGKILL to the private Postgres; its own children follow it.
    pub(crate) fn kill_postgres(&self) {
        let file = self.state.path().join("postgres/data/postmaster.pid");
        let text = std::fs::read_to_string(file).expect("the private Postgres runs");
        let pid = text.lines().next().and_then(|line| line.trim().parse().ok());
        let pid = pid.and_then(rustix::process::Pid::from_raw).expect("the first line is a pid");
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("it is ours");
    }

    /// Sends SIGKILL to the private Redis.
    pub(crate) async fn kill_redis(&self) {
        let launcher =
            ProcessLauncher::new(self.state.path().to_path_buf()).expect("usable directory");
        let found = launcher.discover().await.expect("launches can be listed");
        let redis = found.into_iter().find(|launch| launch.id.as_str() == "embedded-redis");
        let redis = launcher.attach(&redis.expect("it runs").record).await.expect("it runs");
        let pid = redis.stats().await.expect("it runs").leader_pid;
        let pid = pid.and_then(rustix::process::Pid::from_raw).expect("it has a process");
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("it is ours");
    }

    /// Waits until the readiness check answers with this status; tells what it says.
    pub(crate) async fn wait_ready(&self, status: u16) -> Value {
        wait_for("readiness", DEADLINE, async || match self.http.get("/health/ready").await {
            Ok((got, answer)) if got == status => Ok(answer),
            other => Err(format!("{other:?}\n{}", self.logs())),
        })
        .await
    }

    /// The last lines of every part's log.
    pub(crate) fn logs(&self) -> String {
        let tail = |part: Part| {
            let path = self.state.path().join(format!("{}.log", part.program()));
            let text = std::fs::read_to_string(path).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            let start = lines.len().saturating_sub(25);
            format!(
                "--- {}\n{}\n",
                part.program(),
                lines.get(start..).unwrap_or_default().join("\n")
            )
        };
        Part::ALL.into_iter().map(tail).collect()
    }

    /// Waits until a part has written this.
    pub(crate) async fn wait_log(&self, part: Part, words: &str) {
        let path = self.state.path().join(format!("{}.log", part.program()));
        wait_for(words, DEADLINE, async || {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            if text.contains(words) { Ok(()) } else { Err(self.logs()) }
        })
        .await;
    }

    /// Queues a task for the scratch repository; fields of `more` come on top.
    pub(crate) async fn queue(&self, goal: &str, more: Value) -> String {
        let mut body = json!({
            "title": "a task of a test",
            "goal": goal,
            "repository": { "mode": "local", "path": self.repository.path() },
        });
        let fields = body.as_object_mut().expect("the body is an object");
        fields.extend(more.as_object().cloned().unwrap_or_default());
        let (status, answer) = self.http.post("/tasks", &body).await.expect("api-server answers");
        assert_eq!(status, 201, "{answer}");
        text_at(&answer, "/id")
    }

    /// The task and its runs as the API shows them.
    pub(crate) async fn task(&self, id: &str) -> Result<Value, String> {
        let (status, answer) = self.http.get(&format!("/tasks/{id}")).await?;
        if status == 200 { Ok(answer) } else { Err(answer.to_string()) }
    }

    /// The runs of a task, oldest first.
    pub(crate) async fn runs(&self, id: &str) -> Vec<Value> {
        let (status, answer) =
            self.http.get(&format!("/tasks/{id}/runs")).await.expect("api-server answers");
        assert_eq!(status, 200, "{answer}");
        let mut runs =
            answer.pointer("/items").and_then(Value::as_array).cloned().unwrap_or_default();
        runs.sort_by_key(|run| run.pointer("/number").and_then(Value::as_i64));
        runs
    }

    /// Waits until a task has a status.
    pub(crate) async fn wait_status(&self, id: &str, status: &str) -> Value {
        wait_for(&format!("task to be {status}"), DEADLINE, async || {
            let task = self.task(id).await?;
            if text_at(&task, "/status") == status {
                Ok(task)
            } else {
                Err(format!("{task}\n{}", self.logs()))
            }
        })
        .await
    }

    /// Waits until the run at work has an event of this kind; tells the run's id.
    pub(crate) async fn wait_event(&self, task: &str, kind: &str) -> String {
        wait_for(&format!("an event {kind}"), DEADLINE, async || {
            for run in self.runs(task).await.iter().rev() {
                let id = text_at(run, "/id");
                let (_, events) = self.http.get(&format!("/runs/{id}/events?limit=200")).await?;
                let items = events.pointer("/items").and_then(Value::as_array).cloned();
                let kind_of = |event: &Value| text_at(event, "/event/kind");
                if items.unwrap_or_default().iter().any(|event| kind_of(event) == kind) {
                    return Ok(id);
                }
            }
            Err(self.logs())
        })
        .await
    }

    /// Launches of runs that are alive in this system's state directory.
    pub(crate) async fn live_launches(&self) -> Vec<String> {
        let launcher =
            ProcessLauncher::new(self.state.path().to_path_buf()).expect("usable directory");
        let found = launcher.discover().await.expect("launches can be listed");
        found
            .into_iter()
            .filter(|l| {
                l.labels.contains_key(label::RUN) && !matches!(l.state, LaunchState::Ended(_))
            })
            .map(|l| l.id.to_string())
            .collect()
    }

    /// Waits until nothing of any run is left below the state directory.
    pub(crate) async fn wait_clean(&self) {
        wait_for("everything to be cleaned up", DEADLINE, async || {
            let left: Vec<PathBuf> =
                ["checkouts", "launches"].iter().flat_map(|name| self.left_in(name)).collect();
            if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
        })
        .await;
    }

    /// Everything below a directory of the state directory that is not hidden.
    fn left_in(&self, directory: &str) -> Vec<PathBuf> {
        let Ok(entries) = std::fs::read_dir(self.state.path().join(directory)) else {
            return Vec::new();
        };
        let entries = entries.map(|entry| entry.expect("the directory can be read"));
        let of_runs = |name: &str| !name.starts_with('.') && !name.starts_with("embedded-");
        let shown = entries.filter(|entry| of_runs(&entry.file_name().to_string_lossy()));
        shown.map(|entry| entry.path()).collect()
    }
}

impl Drop for System {
    fn drop(&mut self) {
        for child in self.children.values_mut() {
            // Already dead is as good.
            drop(child.kill());
            drop(child.wait());
        }
        let state = self.state.path().to_path_buf();
        let swept = std::thread::spawn(move || end_launches(&state));
        drop(swept.join());
    }
}

/// Ends whatever a failed test left running.
fn end_launches(state: &Path) {
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

/// A text in a JSON answer; empty where there is none.
#[track_caller]
pub(crate) fn text_at(value: &Value, pointer: &str) -> String {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// A program of this workspace, built beside this test.
pub(crate) fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own path");
    let directory = test.parent().and_then(Path::parent).expect("tests lie in target/…/deps");
    let path = directory.join(name);
    let built = path.try_exists().unwrap_or(false);
    assert!(built, "`{}` is not built; run `cargo build --workspace --bins`", path.display());
    path
}
