//! One run of the real CLI, called the way the executor calls it.

use std::{
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use core_types::{event::RunEvent, secret::Secret, task::ExecutorKind};
use executor::{
    claude_code::ClaudeSettings,
    invocation::{AgentTask, Executor, ExecutorSettings, Invocation, Place},
    opencode::OpencodeSettings,
    stream::StreamReader,
    verdict::{AgentEnd, EndedHow, StopKind, Verdict},
};
use jiff::Timestamp;
use model_stub::server::ModelStub;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    process::{Child, Command},
};

pub(crate) const KEY: &str = "sk-ant-test-0123456789";
/// Far above what a run takes, so that a loaded machine does not fail the test.
const DEADLINE: Duration = Duration::from_secs(60);

/// A place of its own for a run, gone with this value.
pub(crate) struct Bench {
    dir: TempDir,
    /// The name of the directory the agent works in.
    work: String,
    executor: ExecutorKind,
    pub(crate) settings: ClaudeSettings,
    pub(crate) opencode: OpencodeSettings,
    pub(crate) task: AgentTask,
    /// Stop the agent when it says nothing for so long after it has said something. How long its start takes is the
    /// machine's business.
    pub(crate) idle: Option<Duration>,
}

/// What came of a run.
pub(crate) struct Told {
    pub(crate) verdict: Verdict,
    pub(crate) events: Vec<RunEvent>,
    pub(crate) took: Duration,
}

impl Bench {
    pub(crate) fn new(stub: &ModelStub, prompt: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["work", "home", "tmp"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        let settings = ClaudeSettings {
            command: program("OPENTIGER_TEST_CLAUDE").to_string_lossy().into_owned(),
            api_key: Some(Secret::new(KEY)),
            base_url: Some(stub.base_url()),
            ..ClaudeSettings::default()
        };
        let opencode = OpencodeSettings {
            command: program("OPENTIGER_TEST_OPENCODE").to_string_lossy().into_owned(),
            model: Some("anthropic/claude-sonnet-4-5".to_owned()),
            anthropic_api_key: Some(Secret::new(KEY)),
            anthropic_base_url: Some(stub.base_url()),
            ..OpencodeSettings::default()
        };
        let task = AgentTask { prompt: prompt.to_owned(), ..AgentTask::default() };
        Self {
            dir,
            work: "work".to_owned(),
            executor: ExecutorKind::ClaudeCode,
            settings,
            opencode,
            task,
            idle: None,
        }
    }

    pub(crate) fn with_opencode(stub: &ModelStub, prompt: &str) -> Self {
        Self { executor: ExecutorKind::Opencode, ..Self::new(stub, prompt) }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn work(&self, name: &str) -> PathBuf {
        self.path(&self.work).join(name)
    }

    /// Has later runs work in another directory, which is empty.
    pub(crate) fn move_work(&mut self, name: &str) {
        name.clone_into(&mut self.work);
        std::fs::create_dir(self.path(name)).unwrap();
    }

    /// A login as the CLI stores it, made up.
    pub(crate) fn log_in(&mut self) {
        self.settings.api_key = None;
        model_stub::login::write(&self.path("home")).unwrap();
    }

    pub(crate) async fn git_init(&self) {
        for args in [&["init", "--quiet"][..], &["add", "."]] {
            let status =
                command(Path::new("git")).args(args).current_dir(self.path(&self.work)).status();
            assert!(status.await.unwrap().success());
        }
    }

    fn config_dir(&self) -> Option<PathBuf> {
        match self.executor {
            ExecutorKind::ClaudeCode => None,
            ExecutorKind::Opencode => Some(self.path("state")),
        }
    }

    pub(crate) async fn run(&self) -> Told {
        let place = Place::on_host(
            std::env::vars_os(),
            Some(self.path("home")),
            self.path(&self.work),
            self.path("tmp"),
            std::fs::metadata("/proc/self").unwrap().uid() == 0,
        );
        let place = Place { config_dir: self.config_dir(), ..place.unwrap() };
        let settings = ExecutorSettings {
            claude_code: self.settings.clone(),
            opencode: self.opencode.clone(),
        };
        let call = Executor::new(self.executor, &settings).invocation(&self.task, &place);
        let begun = Instant::now();
        let (call, work) = (call.unwrap(), self.path(&self.work));
        for name in call.set_aside {
            drop(std::fs::rename(work.join(name), self.path(&format!("aside-{name}"))));
        }
        if let Some(args) = &call.prepare {
            let mut prepare = command(&call.program);
            let status = prepare.args(args).env_clear().envs(&call.env).stdout(Stdio::null());
            assert!(status.status().await.unwrap().success());
        }
        let told = tokio::time::timeout(DEADLINE, follow(&call, &work, self.idle));
        let (verdict, events) = told.await.expect("the run ends");
        Told { verdict, events, took: begun.elapsed() }
    }
}

async fn follow(call: &Invocation, cwd: &Path, idle: Option<Duration>) -> (Verdict, Vec<RunEvent>) {
    let mut child = start(call, cwd);
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&call.stdin).await.unwrap();
    drop(stdin);
    let mut reader = call.reader();
    let mut events = Vec::new();
    let silence = idle.unwrap_or(DEADLINE);
    let stopped = read_all(&mut child, &mut reader, &mut events, silence).await;
    if stopped.is_some() {
        child.start_kill().unwrap();
    }
    let status = child.wait().await.unwrap();
    events.extend(reader.end_of_output());
    let how = match (status.code(), std::os::unix::process::ExitStatusExt::signal(&status)) {
        (Some(code), _) => EndedHow::Exited(code),
        (None, signal) => EndedHow::Signaled(signal.unwrap_or_default()),
    };
    let end = AgentEnd { how, stopped, out_of_memory: false, at: Timestamp::now() };
    (reader.finish(&end), events)
}

fn start(call: &Invocation, cwd: &Path) -> Child {
    let secrets = call.secret_env.iter().map(|(name, value)| (name, value.expose()));
    command(&call.program)
        .args(&call.args)
        .current_dir(cwd)
        .env_clear()
        .envs(&call.env)
        .envs(secrets)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("the CLI can be started")
}

async fn read_all(
    child: &mut Child,
    reader: &mut StreamReader,
    events: &mut Vec<RunEvent>,
    silence: Duration,
) -> Option<StopKind> {
    let (mut out, mut err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let (mut out_bytes, mut err_bytes) = (vec![0; 8192], vec![0; 8192]);
    let (mut out_open, mut err_open) = (true, true);
    let mut sign = tokio::time::Instant::now();
    while out_open || err_open {
        let began = !events.is_empty();
        // Reads are cancel-safe: bytes stay in the pipe.
        tokio::select! {
            read = out.read(&mut out_bytes), if out_open => match read.unwrap() {
                0 => out_open = false,
                count => events.extend(reader.push(&out_bytes[..count])),
            },
            read = err.read(&mut err_bytes), if err_open => match read.unwrap() {
                0 => err_open = false,
                count => events.extend(reader.push_stderr(&err_bytes[..count])),
            },
            () = tokio::time::sleep_until(sign + silence), if began => return Some(StopKind::Idle),
        }
        if !began || !reader.only_repeats() {
            sign = tokio::time::Instant::now();
        }
    }
    None
}

/// The real CLI that a variable names.
fn program(variable: &str) -> PathBuf {
    let path = std::env::var_os(variable).expect(
        "the variable of the CLI is not set: run `cargo xtask test`, which installs the CLIs and sets \
         OPENTIGER_TEST_CLAUDE and OPENTIGER_TEST_OPENCODE, or set both to the paths of the CLIs",
    );
    PathBuf::from(path)
}

#[expect(
    clippy::disallowed_methods,
    reason = "this test is the launcher, so that nothing else is tested with it"
)]
pub(crate) fn command(program: &Path) -> Command {
    Command::new(program)
}
