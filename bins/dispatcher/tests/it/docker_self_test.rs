//! Self-tests of sandboxes: the real command lines in real containers, whole and broken ones, and what a dispatcher makes
//! of it.

use std::{collections::BTreeSet, path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use checkout::{checkouts::Checkouts, git::GitCommand};
use core_config::load::load;
use core_types::{
    ids::TaskId,
    sandbox::paths,
    self_test::{SelfTestReport, TestStep},
    task::ExecutorKind,
};
use dispatch::sandboxed::{
    containers::Containers,
    demand::Demand,
    outfit::{NotReady, Order, Outfit, Outfitter, Unfit},
    self_test,
};
use launcher::{
    handle::{LaunchState, StopRequest},
    id::LaunchId,
    launcher::Launcher,
    process::ProcessLauncher,
    spec::UserId,
};
use model_stub::server::ModelStub;
use sandbox::premises::{Opening, Premises};
use serde_json::{Value, json};
use tempfile::TempDir;
use testing::{
    database::TestDatabase,
    engine::{base_image, shared_host, static_worker, worker_image},
    programs::search_path,
    wait::wait_for,
};
use tokio::sync::watch;

use crate::system::{DEADLINE, Part, System, program, text_at};

/// Another user than the one of sandboxes.
const STRANGER: UserId = UserId { uid: 4321, gid: 4321 };

/// A network of the shared engine; it and what is on it goes with the test.
struct Network(String);

impl Network {
    fn new() -> Self {
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(1);
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let name = format!("opentiger-test-self-{}-{number}", std::process::id());
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

/// Containers in which something may be bent on their way to the engine.
#[derive(Debug)]
struct Bent {
    containers: Containers,
    bend: fn(&mut Outfit),
}

#[async_trait]
impl Outfitter for Bent {
    async fn ready(&self) -> Result<(), NotReady> {
        self.containers.ready().await
    }

    fn user(&self) -> UserId {
        self.containers.user()
    }

    fn checkouts(&self) -> Result<Checkouts, NotReady> {
        self.containers.checkouts()
    }

    async fn outfit(&self, order: Order<'_>) -> Result<Outfit, Unfit> {
        let mut outfit = self.containers.outfit(order).await?;
        (self.bend)(&mut outfit);
        Ok(outfit)
    }

    async fn admit(&self, launch: &LaunchId, network: Option<&str>) -> Result<(), NotReady> {
        self.containers.admit(launch, network).await
    }

    async fn dismiss(&self, launch: &LaunchId) {
        self.containers.dismiss(launch).await;
    }

    async fn keep(&self, gone: BTreeSet<LaunchId>) {
        self.containers.keep(gone).await;
    }

    fn state_of(&self, task: TaskId) -> Option<PathBuf> {
        self.containers.state_of(task)
    }

    async fn forget(&self, task: TaskId) {
        self.containers.forget(task).await;
    }
}

/// A host on which self-tests are made without a dispatcher.
struct World {
    database: TestDatabase,
    network: Network,
    state: TempDir,
}

impl World {
    async fn new() -> Self {
        Self {
            database: TestDatabase::new().await,
            network: Network::new(),
            state: TempDir::new().expect("a directory can be made"),
        }
    }

    /// A self-test under these settings.
    async fn test(
        &self,
        executor: ExecutorKind,
        settings: &[(&str, &str)],
        bend: fn(&mut Outfit),
    ) -> SelfTestReport {
        let (host, image) = (shared_host(), worker_image());
        let usual = [
            ("DOCKER_HOST", host.as_str()),
            ("SANDBOX_DOCKER_IMAGE", image.as_str()),
            ("SANDBOX_DOCKER_NETWORK", self.network.0.as_str()),
            ("SANDBOX_IMAGE_PULL", "never"),
            ("ANTHROPIC_API_KEY", "sk-ant-test-in-no-self-test"),
            // A model that the scripted provider does not have.
            ("OPENCODE_MODEL", "openai/gpt-5"),
            ("TASK_TOKEN_LIMIT", "1"),
        ];
        let all = usual.iter().chain(settings);
        let all = all.map(|(key, value)| ((*key).into(), (*value).into()));
        let loaded = Arc::new(load(all, None).expect("the settings are right"));
        let (_, settings) = watch::channel(Arc::clone(&loaded));
        let state = self.state.path();
        let here = ProcessLauncher::new(state.to_path_buf()).expect("usable directory");
        let here: Arc<dyn Launcher> = Arc::new(here);
        let programs = program("worker");
        let opening = Opening {
            docker_host: Some(host.clone()),
            state_dir: state,
            programs: programs.parent().expect("it is in a directory"),
            host: Arc::clone(&here),
            environment: [("HOME".to_owned(), state.to_string_lossy().into_owned())].into(),
        };
        let mut premises = Premises::open(opening).expect("the engine is named");
        premises.static_worker = static_worker();
        let git = GitCommand::find(&search_path()).expect("git is installed");
        let launcher: Arc<dyn Launcher> = Arc::clone(&premises.launcher) as Arc<dyn Launcher>;
        let containers = Containers {
            premises,
            host: Arc::clone(&here),
            store: self.database.store.clone(),
            database_url: self.database.url.clone(),
            settings,
            checkouts: Checkouts::new(state.join("checkouts"), git),
            remotes: agent::policy::remote_access,
            demand: Demand::lasting(Duration::ZERO),
            warned: std::sync::Mutex::default(),
        };
        containers.ready().await.ok();
        let relays = async || {
            let found = here.discover().await.expect("launches can be listed");
            let live = found.into_iter().filter(|it| !matches!(it.state, LaunchState::Ended(_)));
            live.collect::<Vec<_>>()
        };
        assert!(relays().await.is_empty(), "a relay for nobody");
        let tested = self_test::test(&Bent { containers, bend }, &launcher, executor).await;
        let report = tested.report;
        self.nothing_is_left(&launcher).await;
        let relays = relays().await;
        assert!(!report.passed() || !relays.is_empty(), "the database is on loopback");
        // The relay would live on for a minute.
        for found in relays {
            if let Ok(handle) = here.attach(&found.record).await {
                handle.stop(StopRequest::new("the test is over", Duration::ZERO)).await;
            }
        }
        report
    }

    async fn nothing_is_left(&self, launcher: &Arc<dyn Launcher>) {
        assert_eq!(self.network.containers(), [""; 0]);
        assert!(launcher.discover().await.expect("launches can be listed").is_empty());
        for (name, kept) in [("self-tests", 1), ("sandbox/sessions", 0), ("checkouts", 0)] {
            let entries = std::fs::read_dir(self.state.path().join(name)).into_iter().flatten();
            assert!(entries.count() <= kept, "something is left in {name}");
        }
    }
}

const fn as_it_is(_: &mut Outfit) {}

fn state_read_only(outfit: &mut Outfit) {
    let container = outfit.spec.container.as_mut().expect("it is a container");
    for mount in &mut container.mounts {
        mount.read_only |= mount.target.to_str() == Some(paths::STATE);
    }
}

const fn another_user(outfit: &mut Outfit) {
    outfit.spec.user = Some(STRANGER);
}

#[tokio::test]
async fn the_real_command_lines_pass_in_the_real_image_without_a_login() {
    let world = World::new().await;
    for executor in ExecutorKind::ALL {
        let report = world.test(*executor, &[], as_it_is).await;
        assert!(report.passed(), "{executor}: {report:#?}");
        assert!(report.took_ms > 0);
    }
}

/// An executor, its settings, what is bent, and the step and words that tell of it.
type Case<'a> = (ExecutorKind, &'a [(&'a str, &'a str)], fn(&mut Outfit), TestStep, &'a str);

#[tokio::test]
async fn each_fault_is_told_with_its_step() {
    let world = World::new().await;
    let base = base_image();
    let claude = ExecutorKind::ClaudeCode;
    let missing = [("SANDBOX_DOCKER_IMAGE", "opentiger-no-such-image:1")];
    let bare = [("SANDBOX_DOCKER_IMAGE", base.as_str())];
    let no_cli = [("CLAUDE_CODE_COMMAND", "claude-is-not-here")];
    let no_opencode = [("OPENCODE_COMMAND", "opencode-is-not-here")];
    // It prints its arguments and ends well.
    let garbage = [("CLAUDE_CODE_COMMAND", "echo")];
    let fails = [("CLAUDE_CODE_COMMAND", "false")];
    let cases: [Case<'_>; 8] = [
        (claude, &missing, as_it_is, TestStep::Container, "opentiger-no-such-image:1"),
        (claude, &[], another_user, TestStep::User, "runs as 4321:4321"),
        (claude, &[], state_read_only, TestStep::State, "Read-only file system"),
        (claude, &bare, as_it_is, TestStep::Git, "git"),
        (claude, &no_cli, as_it_is, TestStep::Cli, "claude-is-not-here"),
        (ExecutorKind::Opencode, &no_opencode, as_it_is, TestStep::Cli, "opencode-is-not-here"),
        (claude, &garbage, as_it_is, TestStep::Cli, "it printed: "),
        (claude, &fails, as_it_is, TestStep::Cli, "exit"),
    ];
    for (executor, settings, bend, step, words) in cases {
        let report = world.test(executor, settings, bend).await;
        let fault = report.fault().unwrap_or_else(|| panic!("{settings:?} {report:#?}"));
        let cause = fault.cause.clone().unwrap_or_default();
        assert_eq!(fault.step, step, "{settings:?} {report:#?}");
        assert!(cause.contains(words), "{settings:?} {cause}");
        assert!(!report.passed());
    }
}

/// An image of a test under a name of its own, which can be made another one.
struct Image {
    name: String,
    /// What it was first.
    broken: String,
}

impl Image {
    /// The image of the agents, but that its Claude Code is a program that only prints.
    fn broken() -> Self {
        let name = format!("opentiger-test-self:{}", std::process::id());
        let container = docker(&["create", "--network", "none", &worker_image(), "true"]);
        let container = container.expect("a container can be made").trim().to_owned();
        let directory = TempDir::new().expect("a directory can be made");
        let program = directory.path().join("claude");
        std::fs::write(&program, "#!/bin/sh\necho 'Segmentation fault'\n").expect("it is ours");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&program, mode).expect("it is ours");
        let to = format!("{container}:/usr/local/bin/claude");
        let path = program.to_string_lossy().into_owned();
        docker(&["cp", &path, &to]).expect("a file can be copied");
        let broken = docker(&["commit", &container, &name]).expect("an image can be made");
        drop(docker(&["rm", "--force", &container]));
        Self { name, broken: broken.trim().to_owned() }
    }

    fn mend(&self) {
        docker(&["tag", &worker_image(), &self.name]).expect("an image can be named");
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        for image in [&self.name, &self.broken] {
            drop(docker(&["rmi", "--force", image]));
        }
    }
}

fn at_waiting(task: &Value, field: &str) -> String {
    text_at(task, &format!("/waiting/{field}"))
}

#[tokio::test]
async fn a_broken_image_takes_no_task_and_a_mended_one_goes_on_by_itself() {
    assert_eq!(static_worker(), program("worker-static"), "a dispatcher uses its neighbour");
    let (network, image) = (Network::new(), Image::broken());
    let model = ModelStub::start(model_stub::script::Scripts::builtin()).await;
    let model = model.expect("the stub can listen on loopback");
    let settings = [
        ("EXECUTION_ENVIRONMENT", "sandbox".to_owned()),
        ("DOCKER_HOST", shared_host()),
        ("SANDBOX_DOCKER_IMAGE", image.name.clone()),
        ("SANDBOX_DOCKER_NETWORK", network.0.clone()),
        ("SANDBOX_IMAGE_PULL", "never".to_owned()),
        ("ANTHROPIC_BASE_URL", model.base_url()),
        ("ANTHROPIC_API_KEY", "sk-ant-test-0000000000".to_owned()),
    ];
    let settings = settings.map(|(key, value)| (key.to_owned(), value));
    let mut system = System::start(settings).await;
    let task = system.queue("[script: demo] [file: HELLO.md] write it", json!({})).await;
    let waits = async |system: &System| {
        wait_for("the task to wait for the self-test", DEADLINE, async || {
            let shown = system.task(&task).await?;
            if at_waiting(&shown, "kind") == "self_test" {
                Ok(shown)
            } else {
                Err(format!("{shown}\n{}", system.logs()))
            }
        })
        .await
    };
    // What is left of a self-test whose dispatcher is killed goes with the next one.
    let cut_off = wait_for("a self-test", DEADLINE, async || {
        network.containers().pop().ok_or_else(|| system.logs())
    })
    .await;
    system.kill(Part::Dispatcher);
    system.spawn(Part::Dispatcher);
    wait_for("the cut-off self-test to be removed", DEADLINE, async || {
        let gone = !network.containers().contains(&cut_off);
        gone.then_some(()).ok_or_else(|| system.logs())
    })
    .await;
    let shown = waits(&system).await;
    for name in ["self-tests", "sandbox/sessions", "containers"] {
        wait_for("nothing else to be left of it", DEADLINE, async || {
            let entries = std::fs::read_dir(system.state.path().join(name)).into_iter().flatten();
            let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
            let of_tests =
                names.filter(|name| name.starts_with("run-") || name.starts_with("task-"));
            let left: Vec<String> = of_tests.collect();
            if left.is_empty() { Ok(()) } else { Err(format!("{name}: {left:?}")) }
        })
        .await;
    }
    let message = at_waiting(&shown, "message");
    assert!(message.contains("cli: ") && message.contains("Segmentation fault"), "{message}");
    assert!(!at_waiting(&shown, "until").is_empty(), "{shown}");
    // It knows that after a new start.
    system.kill(Part::Dispatcher);
    system.spawn(Part::Dispatcher);
    system.wait_ready(200).await;
    waits(&system).await;
    assert_eq!(system.runs(&task).await.len(), 0, "no run was made for it");

    image.mend();
    system.wait_status(&task, "done").await;
    let runs = system.runs(&task).await;
    let outcomes: Vec<String> = runs.iter().map(|run| text_at(run, "/outcome")).collect();
    assert_eq!(outcomes, ["succeeded"], "{}", system.logs());
    assert_eq!(model.requests().iter().filter(|asked| asked.path == "/v1/messages").count(), 3);
}
