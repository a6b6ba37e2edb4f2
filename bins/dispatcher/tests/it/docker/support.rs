//! A system whose tasks run in containers on a network of their own, and what a person does with the engine by hand.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use core_types::label;
use model_stub::{
    script::{Script, Scripts, Turn},
    server::ModelStub,
};
use serde_json::{Value, json};
use store::config_rows::ConfigUpdate;
use testing::{
    engine::{shared_host, static_worker, worker_image},
    wait::wait_for,
};

use crate::{
    account::Account,
    system::{DEADLINE, Part, System, program, text_at},
};

pub(super) const KEY: &str = "sk-ant-test-in-no-container";
pub(super) const GOAL: &str = "[script: gate] [file: HELLO.md] write the greeting";

/// Waits in the work tree until the test puts a file there.
const WAIT: &str = "touch started && until [ -e go ]; do sleep 0.1; done && rm started go";

/// What a system is started with.
pub(super) struct Setup {
    settings: BTreeMap<String, String>,
    scripts: Scripts,
    network: Network,
    account: Option<Account>,
}

impl Setup {
    /// With sandboxes on the shared engine, a key, and the script `gate`.
    pub(super) fn new() -> Self {
        Self::on(Network::new(&shared_host(), &[]))
    }

    /// The same on another network.
    pub(super) fn on(network: Network) -> Self {
        assert_eq!(static_worker(), program("worker-static"), "a dispatcher uses its neighbour");
        let claude = testing::programs::claude_path().to_string_lossy().into_owned();
        let settings = [
            ("DOCKER_HOST", network.engine.clone()),
            ("EXECUTION_ENVIRONMENT", "sandbox".to_owned()),
            ("SANDBOX_DOCKER_IMAGE", worker_image()),
            ("SANDBOX_DOCKER_NETWORK", network.name.clone()),
            ("SANDBOX_IMAGE_PULL", "never".to_owned()),
            ("ANTHROPIC_API_KEY", KEY.to_owned()),
            ("CLAUDE_CODE_COMMAND", claude),
        ];
        let settings = settings.map(|(key, value)| (key.to_owned(), value)).into();
        let scripts = Scripts::builtin().with("gate", gated(Script::demo()));
        Self { settings, scripts, network, account: None }
    }

    pub(super) fn with(mut self, key: &str, value: impl Into<String>) -> Self {
        self.settings.insert(key.to_owned(), value.into());
        self
    }

    pub(super) fn without(mut self, key: &str) -> Self {
        self.settings.remove(key);
        self
    }

    pub(super) fn script(mut self, name: &str, turns: impl IntoIterator<Item = Turn>) -> Self {
        self.scripts = self.scripts.with(name, Script::of(turns));
        self
    }

    pub(super) fn by(mut self, account: Account) -> Self {
        self.account = Some(account);
        self
    }

    pub(super) async fn start(mut self) -> Sandboxed {
        let model = ModelStub::start(self.scripts).await.expect("the stub can listen on loopback");
        self.settings.insert("ANTHROPIC_BASE_URL".to_owned(), model.base_url());
        let system = System::start_as(self.account, self.settings).await;
        Sandboxed { system, network: self.network, model }
    }
}

/// A turn in which the agent runs a command.
pub(super) fn bash(command: &str) -> Turn {
    Turn::call("Bash", json!({ "command": command, "description": "Work" }))
}

/// A turn in which the agent waits for the test.
pub(super) fn gate() -> Turn {
    bash(WAIT)
}

/// A script that begins with that.
pub(super) fn gated(script: Script) -> Script {
    Script::of(std::iter::once(gate()).chain(script.turns))
}

/// A system whose tasks run in containers. A relay's address can be had once, so each has a network of its own.
pub(super) struct Sandboxed {
    pub(super) system: System,
    pub(super) network: Network,
    pub(super) model: ModelStub,
}

impl Sandboxed {
    pub(super) async fn queue(&self) -> String {
        self.queue_goal(GOAL).await
    }

    pub(super) async fn queue_goal(&self, goal: &str) -> String {
        let verification = json!({ "verification": [["test", "-f", "HELLO.md"]] });
        self.system.queue(goal, verification).await
    }

    /// Changes settings as a person does who uses the API with a key, while everything runs.
    pub(super) async fn set(&self, settings: &[(&str, Value)]) {
        let update = |value: &Value| ConfigUpdate { value: Some(value.clone()), secret: false };
        let updates = settings.iter().map(|(key, value)| ((*key).to_owned(), update(value)));
        let updates: BTreeMap<String, ConfigUpdate> = updates.collect();
        let store = &self.system.database.as_ref().expect("it runs on a test database").store;
        store.set_config_rows(&updates, "a test", None).await.expect("the rows are written");
    }

    /// The work tree of a run, wherever it runs.
    pub(super) fn work(&self, run: &str) -> PathBuf {
        let checkout = self.system.state.path().join("checkouts").join(run);
        let boxed = checkout.join("box/work");
        if boxed.is_dir() { boxed } else { checkout.join("work") }
    }

    /// Waits until the agent of this run of the task stands at the gate; tells the run.
    pub(super) async fn at_gate(&self, task: &str, number: usize) -> String {
        wait_for("the agent to be at work", DEADLINE, async || {
            let runs = self.system.runs(task).await;
            let run = runs.get(number - 1).map(|run| text_at(run, "/id"));
            let at_gate =
                run.filter(|run| self.work(run).join("started").try_exists().unwrap_or(false));
            at_gate.ok_or_else(|| format!("{runs:?}\n{}", self.system.logs()))
        })
        .await
    }

    /// The same where there is but one container; tells run and container.
    pub(super) async fn alone_at_gate(&self, task: &str, number: usize) -> (String, String) {
        let run = self.at_gate(task, number).await;
        let containers = self.network.containers();
        assert_eq!(containers, self.network.containers_of(&run), "{}", self.system.logs());
        let container = containers.into_iter().next().expect("it runs in a container");
        (run, container)
    }

    pub(super) fn open_gate(&self, run: &str) {
        fs::write(self.work(run).join("go"), "").expect("the checkout is there");
    }

    /// Waits until so many runs of a task have ended; tells what came of them.
    pub(super) async fn outcomes(&self, task: &str, count: usize) -> Vec<String> {
        wait_for("runs to end", DEADLINE, async || {
            let runs = self.system.runs(task).await;
            let ended = runs.iter().filter(|run| text_at(run, "/status") == "ended");
            let ended: Vec<String> = ended.map(|run| text_at(run, "/outcome")).collect();
            if ended.len() >= count {
                Ok(ended)
            } else {
                Err(format!("{runs:?}\n{}", self.system.logs()))
            }
        })
        .await
    }

    /// Waits until the worker of a task's last run has said what came of it.
    pub(super) async fn wait_reported(&self, task: &str) {
        wait_for("the worker to report", DEADLINE, async || {
            let runs = self.system.runs(task).await;
            let status = runs.last().map(|run| text_at(run, "/status")).unwrap_or_default();
            let reported = ["collecting", "ended"].contains(&&*status);
            if reported { Ok(()) } else { Err(format!("{runs:?}\n{}", self.system.logs())) }
        })
        .await;
    }

    /// Waits until a task waits for a reason of this kind of which the message has these words.
    pub(super) async fn waits(&self, task: &str, kind: &str, words: &str) -> Value {
        wait_for(&format!("the task to wait for: {words}"), DEADLINE, async || {
            let shown = self.system.task(task).await?;
            let message = text_at(&shown, "/waiting/message");
            if text_at(&shown, "/waiting/kind") == kind && message.contains(words) {
                Ok(shown)
            } else {
                Err(format!("{shown}\n{}", self.system.logs()))
            }
        })
        .await
    }

    pub(super) async fn wait_done(&self, task: &str, outcomes: &[&str]) {
        let done = self.system.wait_status(task, "done").await;
        let runs = self.system.runs(task).await;
        let seen: Vec<String> = runs.iter().map(|run| text_at(run, "/outcome")).collect();
        assert_eq!(seen, outcomes, "{runs:?}\n{}", self.system.logs());
        let branch = text_at(&done, "/branch");
        assert_eq!(branch, format!("opentiger/{task}-{}", outcomes.len()));
        let commit = self.system.repository.git(&["rev-parse", &branch]);
        assert_eq!(commit.trim(), text_at(&done, "/commit"));
        let changed = self.system.repository.git(&["diff", "--name-only", "main", &branch]);
        assert_eq!(changed, "HELLO.md\n");
    }

    /// What `opentiger doctor` ends with and prints.
    pub(super) async fn doctor(&self, args: &'static [&str]) -> (Option<i32>, String) {
        let (base, home) = (self.system.http.base.clone(), self.system.state.path().to_owned());
        let done = tokio::task::spawn_blocking(move || {
            #[expect(clippy::disallowed_methods, reason = "what a person does by hand")]
            let mut command = std::process::Command::new(program("opentiger"));
            command.env_clear().env("HOME", &home).env("OPENTIGER_STATE_DIR", &home);
            command.args(["--api", &base, "doctor"]).args(args).output()
        });
        let done = done.await.expect("no panic").expect("the program is built");
        (done.status.code(), String::from_utf8_lossy(&done.stdout).into_owned())
    }

    /// Waits until no container, checkout, launch or client of a relay is left.
    pub(super) async fn wait_clean(&self) {
        self.clean_within(DEADLINE).await;
    }

    /// The same where a dispatcher was killed: what it had begun to remove goes with a look that is made each minute.
    pub(super) async fn wait_clean_after_a_death(&self) {
        self.clean_within(DEADLINE * 3).await;
    }

    async fn clean_within(&self, patience: Duration) {
        wait_for("everything to be cleaned up", patience, async || {
            let containers = self.network.containers();
            let below = |name: &str| files_below(&self.system.state.path().join(name));
            let clients = format!("sandbox/relay/{}", self.network.name);
            let all = ["checkouts", "containers", "sandbox/sessions", &clients];
            let left: Vec<PathBuf> = all.into_iter().flat_map(below).collect();
            if containers.is_empty() && left.is_empty() {
                Ok(())
            } else {
                Err(format!("{containers:?} {left:?}\n{}", self.system.logs()))
            }
        })
        .await;
    }

    /// `kill -9` of the dispatcher, and a new one.
    pub(super) fn replace_dispatcher(&mut self) {
        self.system.kill(Part::Dispatcher);
        self.system.spawn(Part::Dispatcher);
    }
}

/// A network of an engine; it and what is on it goes with the test.
pub(super) struct Network {
    pub(super) name: String,
    engine: String,
}

impl Network {
    /// Makes one, with further arguments of `docker network create`.
    pub(super) fn new(engine: &str, more: &[&str]) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("opentiger-test-chain-{}-{number}", std::process::id());
        let args: Vec<&str> =
            ["network", "create"].iter().chain(more).copied().chain([&*name]).collect();
        docker_at(engine, &args).expect("a network can be made");
        Self { name, engine: engine.to_owned() }
    }

    /// The ids of all containers on it.
    pub(super) fn containers(&self) -> Vec<String> {
        self.list(&format!("network={}", self.name))
    }

    /// The ids of the containers of a run.
    pub(super) fn containers_of(&self, run: &str) -> Vec<String> {
        self.list(&format!("label={}={run}", label::RUN))
    }

    fn list(&self, filter: &str) -> Vec<String> {
        let list = self.docker(&["ps", "--all", "--quiet", "--no-trunc", "--filter", filter]);
        list.expect("containers can be listed").lines().map(str::to_owned).collect()
    }

    pub(super) fn docker(&self, args: &[&str]) -> Result<String, String> {
        docker_at(&self.engine, args)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let on_it = format!("network={}", self.name);
        let list = self.docker(&["ps", "--all", "--quiet", "--filter", &on_it]);
        for container in list.unwrap_or_default().lines() {
            drop(self.docker(&["rm", "--force", "--volumes", container]));
        }
        drop(self.docker(&["network", "rm", &self.name]));
    }
}

pub(super) fn docker(args: &[&str]) -> Result<String, String> {
    docker_at(&shared_host(), args)
}

#[expect(clippy::disallowed_methods, reason = "what a person does by hand")]
fn docker_at(engine: &str, args: &[&str]) -> Result<String, String> {
    let mut command = std::process::Command::new("docker");
    let done = command.arg("-H").arg(engine).args(args).output().expect("docker is there");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if done.status.success() { Ok(text(&done.stdout)) } else { Err(text(&done.stderr)) }
}

/// The files below a directory, but for those that are hidden in itself: they are its own.
pub(super) fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files_below(&path));
        }
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            found.push(path);
        }
    }
    found
}
