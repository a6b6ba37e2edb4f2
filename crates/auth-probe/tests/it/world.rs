//! A home, a launcher and a checker of one test.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use auth_probe::{
    checker::Checker,
    finding::{Finding, Report},
    host::Host,
    place::Ask,
};
use core_types::{
    auth::{AuthReason, CheckedBy},
    secret::Secret,
    task::{ExecutionEnvironment, ExecutorKind},
};
use executor::{
    claude_code::ClaudeSettings, invocation::ExecutorSettings, opencode::OpencodeSettings,
};
use launcher::{launcher::Launcher as _, process::ProcessLauncher};
use model_stub::{script::Scripts, server::ModelStub};
use tempfile::TempDir;
use testing::programs::{claude_path, opencode_path, search_path};

pub(crate) const KEY: &str = "sk-ant-test-0123456789";

/// Everything one test checks with.
pub(crate) struct World {
    pub(crate) dir: TempDir,
    pub(crate) launcher: Arc<ProcessLauncher>,
    pub(crate) variables: BTreeMap<String, String>,
    pub(crate) settings: ExecutorSettings,
}

impl World {
    /// With the real command lines, a home without a login, and no way to any provider.
    pub(crate) fn new() -> Self {
        let dir = TempDir::new().expect("a directory can be made");
        for name in ["home", "state"] {
            fs::create_dir(dir.path().join(name)).expect("a directory can be made");
        }
        let launcher = Arc::new(
            ProcessLauncher::new(dir.path().join("state")).expect("the directory can be used"),
        );
        let home = dir.path().join("home").to_string_lossy().into_owned();
        // A test that forgets to script the account's hosts reaches nobody.
        let variables = [
            ("PATH", search_path()),
            ("HOME", home),
            ("HTTPS_PROXY", nowhere()),
            ("NO_PROXY", "127.0.0.1".to_owned()),
        ];
        let command = |path: PathBuf| path.to_string_lossy().into_owned();
        let settings = ExecutorSettings {
            claude_code: ClaudeSettings {
                command: command(claude_path()),
                base_url: Some(nowhere()),
                ..ClaudeSettings::default()
            },
            opencode: OpencodeSettings {
                command: command(opencode_path()),
                model: Some("anthropic/claude-sonnet-4-5".to_owned()),
                anthropic_base_url: Some(nowhere()),
                ..OpencodeSettings::default()
            },
        };
        let variables = variables.map(|(name, value)| (name.to_owned(), value)).into();
        Self { dir, launcher, variables, settings }
    }

    /// The same with a key, and a model that follows a script.
    pub(crate) async fn with_key(script: &str) -> (Self, ModelStub) {
        let mut world = Self::new();
        let key = Some(Secret::new(KEY));
        world.settings.claude_code.api_key.clone_from(&key);
        world.settings.opencode.anthropic_api_key = key;
        let stub = world.model(script).await;
        (world, stub)
    }

    /// A model that follows a script.
    pub(crate) async fn model(&mut self, script: &str) -> ModelStub {
        let scripts = Scripts::builtin().with_default(script).expect("it is a script");
        let stub = ModelStub::start(scripts).await.expect("a port is free");
        self.settings.claude_code.base_url = Some(stub.base_url());
        self.settings.opencode.anthropic_base_url = Some(stub.base_url());
        stub
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    /// A program that this shell script is, for Claude Code's.
    pub(crate) fn stand_in(&mut self, script: &str) {
        let path = self.dir.path().join("claude");
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("a file can be written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it is ours");
        self.settings.claude_code.command = path.to_string_lossy().into_owned();
    }

    pub(crate) fn checker(&self) -> Checker {
        let scratch = self.dir.path().join("state/checks");
        let launcher = Arc::<ProcessLauncher>::clone(&self.launcher);
        let host = Host::new(launcher, scratch, self.variables.clone());
        Checker::new(Arc::new(host), None)
    }

    pub(crate) fn ask(&self, executor: ExecutorKind) -> Ask {
        Ask { executor, settings: self.settings.clone(), home: None }
    }

    pub(crate) async fn report(&self, executor: ExecutorKind) -> Report {
        let checker = self.checker();
        let report = checker.check(ExecutionEnvironment::Host, self.ask(executor), false).await;
        self.nothing_is_left().await;
        report
    }

    pub(crate) async fn claude(&self) -> Finding {
        self.report(ExecutorKind::ClaudeCode).await.finding
    }

    pub(crate) async fn opencode(&self) -> Finding {
        self.report(ExecutorKind::Opencode).await.finding
    }

    /// No launch, no process that knows this world, no directory of a check.
    pub(crate) async fn nothing_is_left(&self) {
        let launches = self.launcher.discover().await.expect("launches can be listed");
        assert!(launches.is_empty(), "{launches:?}");
        let scratch = self.dir.path().join("state/checks");
        let left: Vec<_> = fs::read_dir(scratch).into_iter().flatten().flatten().collect();
        assert!(left.is_empty(), "{left:?}");
        let mine = self.dir.path().to_string_lossy().into_owned();
        let alive: Vec<_> = fs::read_dir("/proc")
            .expect("there are processes")
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| knows(path, &mine))
            .collect();
        assert!(alive.is_empty(), "{alive:?}");
    }
}

/// Whether a process has a path in its arguments or its environment.
pub(crate) fn knows(process: &Path, path: &str) -> bool {
    ["cmdline", "environ"].iter().any(|file| {
        let text = fs::read(process.join(file)).unwrap_or_default();
        String::from_utf8_lossy(&text).contains(path)
    })
}

/// Where nobody listens.
pub(crate) fn nowhere() -> String {
    "http://127.0.0.1:1".to_owned()
}

#[track_caller]
pub(crate) fn found(finding: &Finding, reason: AuthReason, by: CheckedBy) {
    assert_eq!((finding.reason, finding.checked_by), (reason, by), "{finding:?}");
    let detail = finding.detail.as_deref().unwrap_or_default();
    assert!(!detail.contains(KEY) && !detail.contains("sk-ant-o"), "{detail}");
}
