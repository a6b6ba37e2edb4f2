//! Tasks in containers: the real dispatcher, engine, image and command line, through the relay to a scripted model.
//!
//! An agent at work is one that waits at a gate: a command that ends as soon as the test puts a file into its checkout.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use model_stub::{
    script::{Script, Scripts, Turn},
    server::ModelStub,
};
use serde_json::json;
use store::config_rows::ConfigUpdate;
use testing::{
    engine::{shared_host, static_worker, worker_image},
    wait::wait_for,
};

use crate::system::{DEADLINE, Part, System, program, text_at};

const KEY: &str = "sk-ant-test-in-no-container";
const GOAL: &str = "[script: gate] [file: HELLO.md] write the greeting";

/// A system whose tasks run on a network of their own, since a relay's address can be had once.
struct Sandboxed {
    system: System,
    network: Network,
    _model: ModelStub,
}

impl Sandboxed {
    async fn start() -> Self {
        Self::start_with(&[("EXECUTION_ENVIRONMENT", "sandbox")]).await
    }

    async fn start_with(more: &[(&str, &str)]) -> Self {
        assert_eq!(static_worker(), program("worker-static"), "a dispatcher uses its neighbour");
        let wait = "touch started && until [ -e go ]; do sleep 0.1; done && rm started go";
        let gate = Turn::call("Bash", json!({ "command": wait, "description": "Wait" }));
        let turns = std::iter::once(gate).chain(Script::demo().turns);
        let scripts = Scripts::builtin().with("gate", Script::of(turns));
        let model = ModelStub::start(scripts).await.expect("the stub can listen on loopback");
        let network = Network::new();
        let claude = testing::programs::claude_path().to_string_lossy().into_owned();
        let settings = [
            ("DOCKER_HOST", shared_host()),
            ("SANDBOX_DOCKER_IMAGE", worker_image()),
            ("SANDBOX_DOCKER_NETWORK", network.0.clone()),
            ("SANDBOX_IMAGE_PULL", "never".to_owned()),
            ("ANTHROPIC_BASE_URL", model.base_url()),
            ("ANTHROPIC_API_KEY", KEY.to_owned()),
            ("CLAUDE_CODE_COMMAND", claude),
        ];
        let more = more.iter().map(|(key, value)| (*key, (*value).to_owned()));
        let all = settings.into_iter().chain(more).map(|(key, value)| (key.to_owned(), value));
        let system = System::start(all).await;
        Self { system, network, _model: model }
    }

    async fn queue(&self) -> String {
        let verification = json!({ "verification": [["test", "-f", "HELLO.md"]] });
        self.system.queue(GOAL, verification).await
    }

    /// Changes the setting as a person does who uses the API, while everything runs.
    async fn choose(&self, environment: &str) {
        let update = ConfigUpdate { value: Some(json!(environment)), secret: false };
        let updates = BTreeMap::from([("EXECUTION_ENVIRONMENT".to_owned(), update)]);
        let store = &self.system.database.as_ref().expect("it runs on a test database").store;
        store.set_config_rows(&updates, "a test", None).await.expect("the row is written");
    }

    fn work(&self, run: &str) -> PathBuf {
        self.system.state.path().join("checkouts").join(run).join("box/work")
    }

    /// Waits until the agent of this run of the task stands at the gate; tells run and container.
    async fn wait_at_gate(&self, task: &str, number: usize) -> (String, String) {
        wait_for("the agent to be at work", DEADLINE, async || {
            let runs = self.system.runs(task).await;
            let run = runs.get(number - 1).map(|run| text_at(run, "/id"));
            let at_gate =
                run.filter(|run| self.work(run).join("started").try_exists().unwrap_or(false));
            match (at_gate, self.network.containers().as_slice()) {
                (Some(run), [container]) => Ok((run, container.clone())),
                (_, containers) => Err(format!("{runs:?} {containers:?}\n{}", self.system.logs())),
            }
        })
        .await
    }

    fn open_gate(&self, run: &str) {
        fs::write(self.work(run).join("go"), "").expect("the checkout is there");
    }

    async fn wait_done(&self, task: &str, outcomes: &[&str]) {
        let done = self.system.wait_status(task, "done").await;
        let runs = self.system.runs(task).await;
        let seen: Vec<String> = runs.iter().map(|run| text_at(run, "/outcome")).collect();
        assert_eq!(seen, outcomes, "{}", self.system.logs());
        let branch = text_at(&done, "/branch");
        assert_eq!(branch, format!("opentiger/{task}-{}", outcomes.len()));
        let commit = self.system.repository.git(&["rev-parse", &branch]);
        assert_eq!(commit.trim(), text_at(&done, "/commit"));
        let changed = self.system.repository.git(&["diff", "--name-only", "main", &branch]);
        assert_eq!(changed, "HELLO.md\n");
    }

    /// Waits until no container, checkout, launch or client of a relay is left.
    async fn wait_clean(&self) {
        wait_for("everything to be cleaned up", DEADLINE, async || {
            let containers = self.network.containers();
            let below = |name: &str| files_below(&self.system.state.path().join(name));
            let clients = format!("sandbox/relay/{}", self.network.0);
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
}

/// A network of the shared engine; it and what is on it goes with the test.
struct Network(String);

impl Network {
    fn new() -> Self {
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(1);
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let name = format!("opentiger-test-chain-{}-{number}", std::process::id());
        docker(&["network", "create", &name]).expect("a network can be made");
        Self(name)
    }

    /// The ids of all containers on it.
    fn containers(&self) -> Vec<String> {
        let filter = format!("network={}", self.0);
        let list = docker(&["ps", "--all", "--quiet", "--no-trunc", "--filter", &filter]);
        list.expect("containers can be listed").lines().map(str::to_owned).collect()
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for container in self.containers() {
            drop(docker(&["rm", "--force", "--volumes", &container]));
        }
        drop(docker(&["network", "rm", &self.0]));
    }
}

#[expect(clippy::disallowed_methods, reason = "what a person does by hand")]
fn docker(args: &[&str]) -> Result<String, String> {
    let mut command = std::process::Command::new("docker");
    let done = command.arg("-H").arg(shared_host()).args(args).output().expect("docker is there");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if done.status.success() { Ok(text(&done.stdout)) } else { Err(text(&done.stderr)) }
}

/// The files below a directory, but for those that are hidden in itself: they are its own.
fn files_below(directory: &Path) -> Vec<PathBuf> {
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

fn password(url: &str) -> String {
    let (_, rest) = url.split_once("://").expect("it is an address");
    let (login, _) = rest.rsplit_once('@').expect("it has a login");
    login.split_once(':').expect("the login has a password").1.to_owned()
}

#[tokio::test]
async fn a_task_in_a_container_becomes_a_commit_and_leaves_nothing() {
    let it = Sandboxed::start().await;
    let before = it.system.repository.fingerprint();
    let task = it.queue().await;
    let (run, container) = it.wait_at_gate(&task, 1).await;

    let inspected = docker(&["inspect", &container]).expect("it is there");
    let database = it.system.database.as_ref().expect("it runs on a test database");
    let login = database.store.ensure_sandbox_login().await.expect("there is one");
    let own = login.url(&database.url).expect("the address has a usual form");
    for secret in [KEY.to_owned(), password(own.expose()), password(database.url.expose())] {
        assert!(!inspected.contains(&secret), "`{secret}` is in {inspected}");
    }
    let environment = |of: &str| docker(&["inspect", "--format", "{{json .Config.Env}}", of]);
    assert_eq!(environment(&container), environment(&worker_image()), "all else is in its input");

    it.open_gate(&run);
    it.wait_done(&task, &["succeeded"]).await;
    it.wait_clean().await;
    assert_eq!(it.system.repository.fingerprint(), before, "work tree and branches are untouched");
}

#[tokio::test]
async fn a_dispatcher_that_takes_over_has_the_same_container_finish() {
    let mut it = Sandboxed::start().await;
    let task = it.queue().await;
    let (run, container) = it.wait_at_gate(&task, 1).await;
    it.system.kill(Part::Dispatcher);
    it.system.spawn(Part::Dispatcher);
    it.system.wait_log(Part::Dispatcher, "sandbox found again").await;
    assert_eq!(it.wait_at_gate(&task, 1).await, (run.clone(), container));
    it.open_gate(&run);
    it.wait_done(&task, &["succeeded"]).await;
    it.wait_clean().await;
}

#[tokio::test]
async fn a_killed_container_has_its_task_run_again() {
    let it = Sandboxed::start().await;
    let task = it.queue().await;
    let (_, container) = it.wait_at_gate(&task, 1).await;
    docker(&["kill", &container]).expect("it runs");
    let (second, _) = it.wait_at_gate(&task, 2).await;
    it.open_gate(&second);
    it.wait_done(&task, &["interrupted", "succeeded"]).await;
    it.wait_clean().await;
}

#[tokio::test]
async fn a_cancelled_task_has_its_container_ended_and_leaves_no_branch() {
    let it = Sandboxed::start().await;
    let task = it.queue().await;
    it.wait_at_gate(&task, 1).await;
    let path = format!("/tasks/{task}/cancel");
    let (status, answer) = it.system.http.post(&path, &json!({})).await.expect("it answers");
    assert!(status == 200 || status == 202, "{status} {answer}");
    it.system.wait_status(&task, "cancelled").await;
    it.wait_clean().await;
    let runs = it.system.runs(&task).await;
    let seen: Vec<String> = runs.iter().map(|run| text_at(run, "/outcome")).collect();
    assert_eq!(seen, ["cancelled"], "{}", it.system.logs());
    assert_eq!(it.system.repository.git(&["branch", "--list", "opentiger/*"]), "");
}

#[tokio::test]
async fn a_task_finishes_in_its_container_when_the_setting_changes_to_the_host() {
    let mut it = Sandboxed::start_with(&[]).await;
    it.choose("sandbox").await;
    // It begins with that setting, so that it takes nothing for the host before.
    it.system.kill(Part::Dispatcher);
    it.system.spawn(Part::Dispatcher);
    let task = it.queue().await;
    let (run, container) = it.wait_at_gate(&task, 1).await;
    it.choose("host").await;
    let other = it.system.queue("[script: demo] [file: OTHER.md] write it", json!({})).await;
    it.system.wait_status(&other, "done").await;
    assert_eq!(
        it.network.containers(),
        [container],
        "the first one works on, the other is on the host"
    );
    it.open_gate(&run);
    it.wait_done(&task, &["succeeded"]).await;
    it.wait_clean().await;
}
