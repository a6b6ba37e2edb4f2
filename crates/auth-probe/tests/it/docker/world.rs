//! Everything that one test checks sandboxes with; gone with it.

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Output,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use auth_probe::{
    checker::Checker,
    finding::Report,
    host::Host,
    place::Ask,
    sandboxed::{Database, Sandboxed},
};
use core_config::load::{Loaded, load};
use core_types::{
    auth::{AuthReason, CheckedBy},
    task::{ExecutionEnvironment, ExecutorKind},
};
use launcher::{
    docker::{DockerConfig, DockerLauncher},
    handle::{Destroy, StopRequest},
    launcher::Launcher as _,
    process::ProcessLauncher,
};
use model_stub::{script::Scripts, server::ModelStub};
use sandbox::premises::{Opening, Premises};
use tempfile::TempDir;
use testing::{
    database::TestDatabase,
    engine::{shared_host, static_worker, worker_image},
    programs::{built_program, search_path},
};
use tokio::sync::watch;

use crate::world::{KEY, knows, nowhere};

/// Prints the line of the table.
#[expect(clippy::print_stderr, reason = "a table for whoever runs these tests by hand")]
pub(crate) fn tell(how: &str, report: &Report) {
    let Report { executor, finding, took, .. } = report;
    let (reason, by, tokens) = (finding.reason, finding.checked_by, finding.tokens);
    eprintln!("| {reason} | {executor}: {how} | {by} | {} ms | {tokens} |", took.as_millis());
}

static NEXT: AtomicU32 = AtomicU32::new(1);

/// Numbers names of what is the engine's.
fn name(what: &str) -> String {
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("opentiger-test-{what}-{}-{number}", std::process::id())
}

/// A state directory, a network of the shared engine, and the settings of a system on them.
pub(crate) struct Boxes {
    pub(crate) state: TempDir,
    pub(crate) network: String,
    pub(crate) variables: BTreeMap<String, String>,
    pub(crate) environment: BTreeMap<String, String>,
    pub(crate) database: Option<Database>,
    pub(crate) host: Arc<ProcessLauncher>,
    _database: Option<TestDatabase>,
}

impl Boxes {
    /// The image with the real command lines, nobody logged in, no way to any provider, no database.
    pub(crate) fn new() -> Self {
        let state = TempDir::new().expect("a directory can be made");
        fs::create_dir(state.path().join("home")).expect("a directory can be made");
        let network = name("probe");
        docker(&["network", "create", &network]);
        let host = ProcessLauncher::new(state.path()).expect("the directory can be used");
        let variables = [
            ("DOCKER_HOST", shared_host()),
            ("SANDBOX_DOCKER_IMAGE", worker_image()),
            ("SANDBOX_DOCKER_NETWORK", network.clone()),
            ("SANDBOX_IMAGE_PULL", "never".to_owned()),
            ("SANDBOX_DISK_RESERVE_BYTES", "0".to_owned()),
            ("ANTHROPIC_BASE_URL", nowhere()),
            ("OPENCODE_MODEL", "anthropic/claude-sonnet-4-5".to_owned()),
        ];
        let home = state.path().join("home").to_string_lossy().into_owned();
        let environment = [
            ("PATH", search_path()),
            ("HOME", home),
            ("HTTPS_PROXY", "http://host.docker.internal:1".to_owned()),
        ];
        let owned = |(name, value): (&str, String)| (name.to_owned(), value);
        Self {
            state,
            network,
            variables: variables.map(owned).into(),
            environment: environment.map(owned).into(),
            database: None,
            host: Arc::new(host),
            _database: None,
        }
    }

    /// The same with a key, and a model that follows a script.
    pub(crate) async fn with_key(script: &str) -> (Self, ModelStub) {
        let mut boxes = Self::new();
        boxes.set("ANTHROPIC_API_KEY", KEY);
        let stub = boxes.model(script).await;
        (boxes, stub)
    }

    /// A model that follows a script.
    pub(crate) async fn model(&mut self, script: &str) -> ModelStub {
        let scripts = Scripts::builtin().with_default(script).expect("it is a script");
        let stub = ModelStub::start(scripts).await.expect("a port is free");
        self.set("ANTHROPIC_BASE_URL", &stub.base_url());
        stub
    }

    /// The same with a database.
    pub(crate) async fn with_database(mut self) -> Self {
        let database = TestDatabase::new().await;
        self.database = Some(Database { store: database.store.clone(), url: database.url.clone() });
        self._database = Some(database);
        self
    }

    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.variables.insert(name.to_owned(), value.to_owned());
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.state.path().join("home")
    }

    pub(crate) fn loaded(&self) -> Loaded {
        let variables = self.variables.iter().map(|(name, value)| (name.into(), value.into()));
        load(variables, None).expect("the settings are right")
    }

    pub(crate) fn sandboxed(&self) -> Sandboxed {
        let programs = built_program("worker", "worker");
        assert_eq!(static_worker(), programs.with_file_name("worker-static"));
        let loaded = self.loaded();
        let premises = Premises::open(Opening {
            docker_host: loaded.settings.docker_host.clone(),
            state_dir: self.state.path(),
            programs: programs.parent().expect("a program lies in a directory"),
            host: Arc::<ProcessLauncher>::clone(&self.host),
            environment: self.environment.clone(),
        });
        let (_, settings) = watch::channel(Arc::new(loaded));
        Sandboxed::new(
            premises.expect("the directory can be used"),
            settings,
            self.database.clone(),
        )
    }

    pub(crate) fn checker(&self) -> Checker {
        let scratch = self.state.path().join("checks");
        let launcher = Arc::<ProcessLauncher>::clone(&self.host);
        let host = Host::new(launcher, scratch, self.environment.clone());
        Checker::new(Arc::new(host), Some(Arc::new(self.sandboxed())))
    }

    pub(crate) fn ask(&self, executor: ExecutorKind) -> Ask {
        Ask { executor, settings: (&*self.loaded().settings).into(), home: None }
    }

    /// Checks, prints the line of the table, and looks that nothing is left.
    pub(crate) async fn check(&self, executor: ExecutorKind, how: &str) -> Report {
        let ask = self.ask(executor);
        let report = self.checker().check(ExecutionEnvironment::Sandbox, ask, true).await;
        tell(how, &report);
        assert!(report.took < Duration::from_secs(30), "{report:?}");
        self.nothing_is_left().await;
        report
    }

    /// The same, for an answer that is known.
    pub(crate) async fn finds(
        &self,
        executor: ExecutorKind,
        how: &str,
        reason: AuthReason,
        by: CheckedBy,
    ) -> Report {
        let report = self.check(executor, how).await;
        crate::world::found(&report.finding, reason, by);
        report
    }

    pub(crate) fn containers(&self) -> String {
        let filter = format!("network={}", self.network);
        docker(&["ps", "--all", "--quiet", "--filter", &filter])
    }

    /// No container, launch, client of a relay or directory of a check, and no process of one but relays.
    pub(crate) async fn nothing_is_left(&self) {
        assert_eq!(self.containers(), "");
        let config = DockerConfig { host: None, store: self.state.path().to_owned() };
        let launcher = DockerLauncher::open(config).expect("the directory can be used");
        let launches = launcher.discover().await.expect("launches can be listed");
        assert!(launches.is_empty(), "{launches:?}");
        for place in ["checks", &format!("sandbox/relay/{}", self.network)] {
            let left: Vec<_> =
                fs::read_dir(self.state.path().join(place)).into_iter().flatten().collect();
            assert!(left.is_empty(), "{left:?}");
        }
        let checks = self.state.path().join("checks").to_string_lossy().into_owned();
        let processes = fs::read_dir("/proc").expect("there are processes").flatten();
        let alive: Vec<_> =
            processes.map(|entry| entry.path()).filter(|path| knows(path, &checks)).collect();
        assert!(alive.is_empty(), "{alive:?}");
    }
}

impl Drop for Boxes {
    fn drop(&mut self) {
        for container in self.containers().split_whitespace() {
            docker(&["rm", "--force", "--volumes", container]);
        }
        docker(&["network", "rm", &self.network]);
        let host = Arc::clone(&self.host);
        // Relays would go on for the rest of their lease.
        let ended = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime can be made").block_on(end_relays(&host));
        });
        drop(ended.join());
    }
}

async fn end_relays(host: &ProcessLauncher) {
    for found in host.discover().await.unwrap_or_default() {
        if let Ok(handle) = host.attach(&found.record).await {
            handle.stop(StopRequest::new("the test is over", Duration::ZERO)).await;
            handle.destroy(Destroy::Everything).await.ok();
        }
    }
}

/// An image of the shared engine that goes with the test.
pub(crate) struct Image(pub(crate) String);

impl Image {
    /// The worker image with files of its own in it, and variables.
    pub(crate) fn with(files: &[(&str, &Path)], variables: &[&str]) -> Self {
        let (container, image) = (name("making"), name("image"));
        docker(&["create", "--name", &container, &worker_image(), "true"]);
        for (target, source) in files {
            docker(&["cp", &source.to_string_lossy(), &format!("{container}:{target}")]);
        }
        let changes: Vec<String> =
            variables.iter().map(|text| format!("--change=ENV {text}")).collect();
        let mut args = vec!["commit"];
        args.extend(changes.iter().map(String::as_str));
        args.extend([container.as_str(), image.as_str()]);
        docker(&args);
        docker(&["rm", &container]);
        Self(image)
    }

    /// The worker image with a shell script in the place of Claude Code.
    pub(crate) fn with_claude(script: &str) -> Self {
        let dir = TempDir::new().expect("a directory can be made");
        let path = dir.path().join("claude");
        fs::write(&path, script).expect("a file can be written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it is ours");
        Self::with(&[("/usr/local/bin/claude", &path)], &[])
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        docker(&["image", "rm", "--force", &self.0]);
    }
}

#[expect(clippy::disallowed_methods, reason = "what a person does by hand")]
fn run(program: &str, args: &[&str]) -> Output {
    std::process::Command::new(program).args(args).output().expect("the program is there")
}

/// The engine's command line, with what it prints.
pub(crate) fn docker(args: &[&str]) -> String {
    let host = shared_host();
    let all: Vec<&str> = ["-H", &host].into_iter().chain(args.iter().copied()).collect();
    let done = run("docker", &all);
    String::from_utf8_lossy(&done.stdout).trim().to_owned()
}

/// An image with nothing in it that says to be made for another architecture.
pub(crate) fn foreign_image() -> Image {
    let image = name("foreign");
    let dir = TempDir::new().expect("a directory can be made");
    let at = dir.path().display();
    let script = format!(
        "set -e; cd {at}; mkdir in; head -c 1024 /dev/zero > empty.tar
         docker -H {host} import empty.tar {image} >/dev/null; docker -H {host} save {image} -o out.tar
         docker -H {host} image rm {image} >/dev/null; tar -xf out.tar -C in
         sed -i 's/\"architecture\":\"[a-z0-9]*\"/\"architecture\":\"s390x\"/' in/*.json
         tar -cf in.tar -C in .; docker -H {host} load -i in.tar",
        host = shared_host(),
    );
    let done = run("sh", &["-c", &script]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    Image(image)
}

/// A port of loopback that is free now.
pub(crate) fn free_port() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    listener.local_addr().expect("it is bound")
}
