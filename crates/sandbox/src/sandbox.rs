//! From settings, engine and run to the command and the container around it.
//!
//! It is a plain function: what it says is looked at by its tests, and again by whoever inspects a container. Nothing in it
//! is secret; secrets travel in the input.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use core_config::settings::{ImagePull, Settings};
use core_types::{
    sandbox::{Logins, paths},
    task::ExecutorKind,
};
use executor::environment::allow_list;
use launcher::{
    container::{ContainerSpec, ImagePolicy, Mount, Scratch},
    spec::{LaunchSpec, Limits, StopPolicy, UserId},
};

use crate::{
    image,
    relay::Network,
    rewrite::HOST_NAME,
    view::{OPENCODE_FILE, View},
};

/// Where a sandbox finds opencode's login.
pub const OPENCODE_LOGIN: &str = "/home/worker/.local/share/opencode";
/// Variables that a sandbox has of its own, or that the image's user made sense of.
const NOT_OF_THE_IMAGE: &[&str] = &["SHELL", "TERM", "TMPDIR"];
/// The time between asking a worker and killing it, beside what its agent gets: it writes its report.
const REPORTING: Duration = Duration::from_secs(10);

/// What all sandboxes of a moment have in common.
#[derive(Debug, Clone, Copy)]
pub struct Sandbox<'a> {
    /// The settings in force.
    pub settings: &'a Settings,
    /// The network of the settings, as the engine tells it.
    pub network: Network<'a>,
    /// The static program `worker` on this host.
    pub worker: &'a Path,
    /// Who sandboxes run as: see [`crate::view::user`].
    pub user: UserId,
    /// The view of the host's logins.
    pub view: &'a View,
    /// The variables that the image sets, of which an agent sees what it may see on a host.
    pub image_env: &'a BTreeMap<String, String>,
}

/// What one sandbox is for.
#[derive(Debug, Clone)]
pub struct Purpose<'a> {
    /// The arguments of the worker.
    pub args: &'a [&'a str],
    /// The agent's command line, whose login it gets.
    pub executor: ExecutorKind,
    /// The checkout on this host, if there is one.
    pub checkout: Option<&'a Path>,
    /// The objects of its base on this host, which cannot be written.
    pub objects: Option<&'a Path>,
    /// The directory on this host in which the command line keeps its state for the task; `None` is memory.
    pub state: Option<&'a Path>,
    /// When it is ended at the latest.
    pub wall: Option<Duration>,
    /// When it ends after nobody renewed it.
    pub lease: Option<Duration>,
    /// How it is found again.
    pub labels: BTreeMap<String, String>,
}

impl Purpose<'_> {
    /// An agent's worker without a checkout, limits or labels.
    #[must_use]
    pub const fn of(executor: ExecutorKind) -> Self {
        Self {
            args: &["once"],
            executor,
            checkout: None,
            objects: None,
            state: None,
            wall: None,
            lease: None,
            labels: BTreeMap::new(),
        }
    }
}

/// Why there can be no sandbox.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SandboxError {
    /// The network leads nowhere.
    #[error(
        "network `{network}` leads nowhere: a sandbox on it reaches neither the database nor a provider"
    )]
    NetworkCutOff {
        /// Its name.
        network: String,
    },
    /// The worker's program is not there.
    #[error("program `{}` not found", path.display())]
    WorkerMissing {
        /// Where it was looked for.
        path: PathBuf,
    },
}

impl SandboxError {
    /// What a person can do about it.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::NetworkCutOff { .. } => {
                "set SANDBOX_DOCKER_NETWORK to a network with a way out, such as `bridge`"
            }
            Self::WorkerMissing { .. } => {
                "build it with `cargo rustc -p worker --bin worker -- -C target-feature=+crt-static` and put it beside the other programs as `worker-static`"
            }
        }
    }
}

impl Sandbox<'_> {
    /// Checks what has to be there before a sandbox is launched.
    ///
    /// # Errors
    /// See [`SandboxError`].
    pub fn check(&self) -> Result<(), SandboxError> {
        check_network(self.network.name)?;
        if !self.worker.is_file() {
            return Err(SandboxError::WorkerMissing { path: self.worker.to_owned() });
        }
        Ok(())
    }

    /// The command of a sandbox, with the container around it.
    #[must_use]
    pub fn launch(&self, purpose: &Purpose<'_>) -> LaunchSpec {
        let home = match purpose.checkout {
            Some(_) => format!("{}/home", paths::CHECKOUT),
            None => paths::STATE.to_owned(),
        };
        let mut spec = LaunchSpec::new(paths::WORKER, "/");
        spec.args = purpose.args.iter().map(|&arg| arg.to_owned()).collect();
        spec.env = self.image_variables();
        let own = [
            ("HOME", home.as_str()),
            ("LANG", "C.UTF-8"),
            ("USER", "worker"),
            ("LOGNAME", "worker"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
        spec.env.extend(own);
        spec.user = Some(self.user);
        spec.limits = self.limits(purpose.wall);
        spec.stop = StopPolicy {
            grace: self.settings.cancel_grace.saturating_add(REPORTING),
            ..StopPolicy::default()
        };
        spec.lease = purpose.lease;
        spec.labels.clone_from(&purpose.labels);
        spec.container = Some(self.container(purpose));
        spec
    }

    /// Where its programs are and whom it trusts: an image brings its tools in a `PATH` of its own, and authorities that
    /// the agents' command lines know of by a variable only.
    fn image_variables(&self) -> BTreeMap<String, String> {
        let mut env = allow_list(self.image_env);
        env.retain(|name, _| !NOT_OF_THE_IMAGE.contains(&name.as_str()));
        env
    }

    const fn limits(&self, wall: Option<Duration>) -> Limits {
        Limits {
            memory_bytes: self.settings.sandbox_memory_limit,
            cpu_millis: self.settings.sandbox_cpu_limit,
            processes: self.settings.sandbox_process_limit,
            wall,
        }
    }

    fn container(&self, purpose: &Purpose<'_>) -> ContainerSpec {
        let image = image::resolved(&self.settings.sandbox_docker_image);
        let mut container = ContainerSpec::new(image, self.network.name);
        container.pull = match self.settings.sandbox_image_pull {
            ImagePull::Never => ImagePolicy::Never,
            ImagePull::IfMissing => ImagePolicy::IfMissing,
            ImagePull::Always => ImagePolicy::Always,
        };
        container.hosts =
            self.network.host().map(|host| (HOST_NAME.to_owned(), host)).into_iter().collect();
        container.mounts = self.mounts(purpose);
        container.scratch = self.scratch(purpose);
        container.read_only_root = true;
        container
    }

    /// What is within another one comes after it.
    fn mounts(&self, purpose: &Purpose<'_>) -> Vec<Mount> {
        let read_only = |source: PathBuf, target: &str| mount(source, target, true);
        let mut mounts = vec![read_only(self.worker.to_owned(), paths::WORKER)];
        match purpose.executor {
            ExecutorKind::ClaudeCode => {
                mounts.push(read_only(self.view.claude(), paths::CLAUDE_LOGIN));
                mounts.push(read_only(self.view.config(), paths::CLAUDE_CONFIG));
            }
            ExecutorKind::Opencode => mounts.push(read_only(self.view.opencode(), OPENCODE_LOGIN)),
        }
        if let Some(checkout) = purpose.checkout {
            mounts.push(mount(checkout.to_owned(), paths::CHECKOUT, false));
        }
        if let Some(objects) = purpose.objects {
            mounts.push(read_only(objects.to_owned(), &format!("{}/objects", paths::CHECKOUT)));
        }
        mounts.extend(purpose.state.map(|state| mount(state.to_owned(), paths::STATE, false)));
        mounts
    }

    fn scratch(&self, purpose: &Purpose<'_>) -> Vec<Scratch> {
        let own = |target: &str| Scratch {
            target: target.into(),
            size_bytes: self.settings.sandbox_scratch_limit,
            mode: 0o700,
            owner: Some(self.user),
            exec: true,
        };
        let mut scratch = vec![own("/tmp"), own(paths::LAUNCHES)];
        if purpose.state.is_none() {
            scratch.push(own(paths::STATE));
        }
        scratch
    }
}

/// Where a sandbox for an agent's command line finds its login, for the worker's assignment.
#[must_use]
pub fn logins(executor: ExecutorKind) -> Logins {
    match executor {
        ExecutorKind::ClaudeCode => {
            Logins { claude_code: Some(paths::CLAUDE_LOGIN.into()), opencode: None }
        }
        ExecutorKind::Opencode => Logins {
            claude_code: None,
            opencode: Some(Path::new(OPENCODE_LOGIN).join(OPENCODE_FILE)),
        },
    }
}

/// Whether a network leads anywhere. To be asked before relays are planned, which would only say that there is no gateway.
///
/// # Errors
/// [`SandboxError::NetworkCutOff`].
pub(crate) fn check_network(name: &str) -> Result<(), SandboxError> {
    match name {
        "none" => Err(SandboxError::NetworkCutOff { network: name.to_owned() }),
        _ => Ok(()),
    }
}

fn mount(source: PathBuf, target: &str, read_only: bool) -> Mount {
    Mount { source, target: target.into(), read_only }
}

#[cfg(test)]
mod tests {
    use core_config::load::load;

    use super::*;

    const USER: UserId = UserId { uid: 1001, gid: 1001 };

    fn settings(pairs: &[(&str, &str)]) -> Settings {
        let pairs = pairs.iter().map(|(key, value)| ((*key).into(), (*value).into()));
        (*load(pairs, None).unwrap().settings).clone()
    }

    fn purpose(executor: ExecutorKind) -> Purpose<'static> {
        Purpose {
            args: &["once"],
            executor,
            checkout: Some(Path::new("/state/checkouts/r")),
            objects: Some(Path::new("/state/objects/r")),
            state: None,
            wall: Some(Duration::from_secs(60)),
            lease: Some(Duration::from_secs(30)),
            labels: BTreeMap::from([(core_types::label::RUN.to_owned(), "r".to_owned())]),
        }
    }

    fn launch(settings: &Settings, purpose: &Purpose<'_>) -> LaunchSpec {
        let state = tempfile::tempdir().unwrap();
        let own = UserId {
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
        };
        let view = View::open(state.path(), own).unwrap();
        let gateways = ["172.18.0.1".parse().unwrap()];
        let network = Network { name: "net", gateways: &gateways, engine_is_here: true };
        let worker = Path::new("/opt/worker-static");
        let image_env = &BTreeMap::from(
            [
                ("PATH", "/usr/local/cargo/bin:/usr/bin"),
                ("NODE_EXTRA_CA_CERTS", "/etc/ssl/certs/ca-certificates.crt"),
                ("HOME", "/root"),
                ("TMPDIR", "/nowhere"),
                ("LD_PRELOAD", "/evil.so"),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned())),
        );
        let mut spec = Sandbox { settings, network, worker, user: USER, view: &view, image_env }
            .launch(purpose);
        spec.validate().unwrap();
        let container = spec.container.as_mut().unwrap();
        for mount in &mut container.mounts {
            if let Ok(below) = mount.source.strip_prefix(state.path()) {
                mount.source = Path::new("/state").join(below);
            }
        }
        spec
    }

    fn mounts(spec: &LaunchSpec) -> Vec<String> {
        let shown = |mount: &Mount| {
            let mode = if mount.read_only { "ro" } else { "rw" };
            format!("{} {} {mode}", mount.source.display(), mount.target.display())
        };
        spec.container.as_ref().unwrap().mounts.iter().map(shown).collect()
    }

    #[test]
    fn a_sandbox_sees_its_checkout_its_login_and_the_worker() {
        let spec = launch(&settings(&[]), &purpose(ExecutorKind::ClaudeCode));
        let expected = [
            "/opt/worker-static /opentiger/worker ro",
            "/state/sandbox/login/claude /home/worker/.claude ro",
            "/state/sandbox/login/config /home/worker/.config/claude ro",
            "/state/checkouts/r /opentiger/checkout rw",
            "/state/objects/r /opentiger/checkout/objects ro",
        ];
        assert_eq!(mounts(&spec), expected);
        let container = spec.container.unwrap();
        assert_eq!(container.image, "opentiger/worker:latest");
        assert_eq!(container.network, "net");
        assert_eq!(container.hosts[HOST_NAME].to_string(), "172.18.0.1");
        assert!(container.read_only_root);
        let scratch: Vec<_> =
            container.scratch.iter().map(|scratch| scratch.target.to_str().unwrap()).collect();
        assert_eq!(scratch, ["/tmp", "/opentiger/launches", "/opentiger/state"]);
        assert!(container.scratch.iter().all(|scratch| scratch.owner == Some(USER)));
        assert_eq!(
            (spec.user, spec.program.as_path()),
            (Some(USER), Path::new("/opentiger/worker"))
        );
        assert_eq!(spec.args, ["once"]);
        let names: Vec<_> = spec.env.keys().map(String::as_str).collect();
        assert_eq!(names, ["HOME", "LANG", "LOGNAME", "NODE_EXTRA_CA_CERTS", "PATH", "USER"]);
        assert_eq!(spec.env["PATH"], "/usr/local/cargo/bin:/usr/bin");
        assert_eq!(spec.env["HOME"], "/opentiger/checkout/home");
        let limits = Limits {
            memory_bytes: Some(4 << 30),
            cpu_millis: Some(2000),
            processes: Some(1024),
            wall: Some(Duration::from_secs(60)),
        };
        assert_eq!(spec.limits, limits);
    }

    #[test]
    fn opencode_gets_its_own_login_and_not_claudes() {
        let state = Path::new("/state/sessions/t");
        let purpose = Purpose { state: Some(state), ..purpose(ExecutorKind::Opencode) };
        let spec = launch(&settings(&[]), &purpose);
        let mounts = mounts(&spec);
        assert!(mounts.contains(
            &"/state/sandbox/login/opencode /home/worker/.local/share/opencode ro".to_owned()
        ));
        assert!(mounts.contains(&"/state/sessions/t /opentiger/state rw".to_owned()));
        assert!(!mounts.iter().any(|mount| mount.contains("claude")), "{mounts:?}");
        assert_eq!(spec.container.unwrap().scratch.len(), 2);
        let login = logins(ExecutorKind::Opencode).opencode.unwrap();
        assert_eq!(login, Path::new("/home/worker/.local/share/opencode/auth.json"));
    }

    #[test]
    fn every_setting_is_in_it_and_no_secret() {
        let settings = settings(&[
            ("SANDBOX_DOCKER_IMAGE", "localhost:5000/w:1"),
            ("SANDBOX_IMAGE_PULL", "never"),
            ("SANDBOX_MEMORY_LIMIT_BYTES", "0"),
            ("SANDBOX_CPU_LIMIT", "500"),
            ("SANDBOX_PROCESS_LIMIT", "7"),
            ("SANDBOX_SCRATCH_LIMIT_BYTES", "1048576"),
            ("CLAUDE_AUTH_DIR", "/somewhere"),
            ("CLAUDE_CONFIG_DIR", "/elsewhere"),
            ("ANTHROPIC_API_KEY", "sk-hunter2"),
            ("DATABASE_URL", "postgres://u:hunter2@h/d"),
        ]);
        let spec = launch(&settings, &purpose(ExecutorKind::ClaudeCode));
        let text = serde_json::to_string(&spec).unwrap();
        assert!(!text.contains("hunter2") && !text.contains("/elsewhere"), "{text}");
        assert!(!spec.env.contains_key("CLAUDE_CONFIG_DIR"));
        let limits = (spec.limits.memory_bytes, spec.limits.cpu_millis, spec.limits.processes);
        assert_eq!(limits, (None, Some(500), Some(7)));
        let container = spec.container.unwrap();
        assert_eq!(container.image, "localhost:5000/w:1");
        assert_eq!(container.pull, ImagePolicy::Never);
        assert!(container.scratch.iter().all(|scratch| scratch.size_bytes == 1 << 20));
    }

    #[test]
    fn what_leads_nowhere_or_is_not_there_is_told() {
        let settings = settings(&[]);
        let state = tempfile::tempdir().unwrap();
        let own = UserId {
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
        };
        let view = View::open(state.path(), own).unwrap();
        let sandbox = |name: &'static str, worker: &'static str| {
            let network = Network { name, gateways: &[], engine_is_here: true };
            let worker = Path::new(worker);
            let image_env = &BTreeMap::new();
            Sandbox { settings: &settings, network, worker, user: USER, view: &view, image_env }
                .check()
        };
        assert!(matches!(sandbox("none", "/bin/sh"), Err(SandboxError::NetworkCutOff { .. })));
        assert!(matches!(sandbox("net", "/nowhere"), Err(SandboxError::WorkerMissing { .. })));
        assert_eq!(sandbox("net", "/bin/sh"), Ok(()));
    }
}
