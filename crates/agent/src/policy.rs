//! What a run may use and how long it may take, read from the settings in force when the run starts.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use checkout::{access::RemoteAccess, url::UrlRules};
use core_config::{
    load::Loaded,
    settings::{Settings, UnknownSshHosts},
};
use core_types::{
    credential::parse_host_tokens,
    task::{ExecutorKind, Role},
    usage::SpendLimits,
};
use executor::invocation::ExecutorSettings;

/// How long a run's lease lasts without renewal, by the database's clock (design §4).
pub const LEASE: Duration = Duration::from_secs(30);
/// How often a lease is renewed.
pub const RENEW_EVERY: Duration = Duration::from_secs(10);
/// How long a launch lives without renewal: with its grace it is over before the run's lease is.
pub const LAUNCH_LEASE: Duration = Duration::from_secs(20);
/// Longest grace of a launch whose lease ended, so that `LAUNCH_LEASE` and it stay below [`LEASE`].
pub const LEASE_GRACE: Duration = Duration::from_secs(8);
/// How long a CLI that gave its final word may take to exit.
pub const LINGER: Duration = Duration::from_secs(30);

/// The limits and choices of one run, taken from the settings once.
#[derive(Debug, Clone)]
pub struct RunPolicy {
    /// Settings of the agents' command lines.
    pub executors: ExecutorSettings,
    /// The HOME given to the agent's CLI; `None` is the home of whoever runs the worker.
    pub agent_home: Option<PathBuf>,
    /// What each role is told and verified with; the worker's, the tester's and the docser's.
    pub roles: [RolePolicy; 3],
    /// Longest silence of an agent of `claude_code`.
    pub idle_timeout: Duration,
    /// Longest silence of an agent of `opencode`.
    pub opencode_idle_timeout: Duration,
    /// How long the sessions of a task are kept after its last run.
    pub session_retention: Duration,
    /// Longest time of an agent where its task says nothing.
    pub timebox: Duration,
    /// Longest time of one verification command.
    pub verification_timeout: Duration,
    /// Time between asking an agent to end and ending it.
    pub grace: Duration,
    /// Memory an agent may use, in bytes.
    pub memory_limit: Option<u64>,
    /// Processes an agent may have at once.
    pub process_limit: Option<u32>,
    /// What may be spent.
    pub spend: SpendLimits,
    /// Base branch where the task names none.
    pub base_branch: Option<String>,
    /// Directories below which repositories lie, empty for anywhere; or why nobody knows.
    pub repository_roots: Result<Vec<PathBuf>, String>,
    /// How repositories of other hosts are reached; without an environment.
    pub remotes: RemoteAccess,
}

/// What holds for the tasks of one role.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RolePolicy {
    /// Instructions in the place of the built-in ones.
    pub instructions: Option<String>,
    /// The commands that verify a task which names none, each as program and arguments.
    pub verification: Vec<Vec<String>>,
}

impl RolePolicy {
    fn new(instructions: Option<&String>, commands: &[String]) -> Self {
        let words = |command: &String| command.split_whitespace().map(str::to_owned).collect();
        Self {
            instructions: instructions.cloned(),
            verification: commands
                .iter()
                .map(words)
                .filter(|words: &Vec<String>| !words.is_empty())
                .collect(),
        }
    }
}

impl RunPolicy {
    /// Takes what a run needs from the settings.
    #[must_use]
    pub fn from_settings(loaded: &Loaded) -> Self {
        let settings = &loaded.settings;
        Self {
            executors: (&**settings).into(),
            agent_home: settings.opentiger_claude_home.clone(),
            roles: [
                RolePolicy::new(
                    settings.worker_instructions.as_ref(),
                    &settings.worker_verification,
                ),
                RolePolicy::new(
                    settings.tester_instructions.as_ref(),
                    &settings.tester_verification,
                ),
                RolePolicy::new(
                    settings.docser_instructions.as_ref(),
                    &settings.docser_verification,
                ),
            ],
            idle_timeout: settings.agent_idle_timeout,
            opencode_idle_timeout: settings.opencode_idle_timeout,
            session_retention: settings.session_retention,
            timebox: settings.task_timebox,
            verification_timeout: settings.verification_timeout,
            grace: settings.cancel_grace,
            memory_limit: settings.agent_memory_limit,
            process_limit: settings.agent_process_limit,
            spend: settings.spend_limits(),
            base_branch: settings.base_branch.clone(),
            repository_roots: loaded
                .local_repo_roots()
                .map(<[PathBuf]>::to_vec)
                .map_err(ToString::to_string),
            remotes: remote_access(settings),
        }
    }

    /// What a role is told in the place of its built-in instructions.
    #[must_use]
    pub fn instructions_of(&self, role: Role) -> Option<&str> {
        self.of(role).instructions.as_deref()
    }

    /// The commands that verify a role's task which names none.
    #[must_use]
    pub fn verification_of(&self, role: Role) -> &[Vec<String>] {
        &self.of(role).verification
    }

    const fn of(&self, role: Role) -> &RolePolicy {
        let [worker, tester, docser] = &self.roles;
        match role {
            Role::Worker => worker,
            Role::Tester => tester,
            Role::Docser => docser,
        }
    }

    /// Longest silence of an agent of this kind.
    #[must_use]
    pub const fn idle_of(&self, executor: ExecutorKind) -> Duration {
        match executor {
            ExecutorKind::ClaudeCode => self.idle_timeout,
            ExecutorKind::Opencode => self.opencode_idle_timeout,
        }
    }
}

/// How repositories of other hosts are reached under these settings; the environment that git's logins need is not in it.
#[must_use]
pub fn remote_access(settings: &Settings) -> RemoteAccess {
    let tokens = settings.git_tokens.as_ref().map(|tokens| parse_host_tokens(tokens.expose()));
    RemoteAccess {
        rules: UrlRules { http_loopback: settings.git_allow_http_loopback },
        // The settings table took them, so they can be read.
        tokens: tokens.and_then(Result::ok).unwrap_or_default(),
        accept_unknown_ssh_hosts: settings.git_ssh_unknown_hosts == UnknownSshHosts::Accept,
        ssh_config: settings.git_ssh_config.clone(),
        ca_file: settings.git_ca_file.clone(),
        timeout: settings.git_timeout,
        max_bytes: settings.git_max_bytes,
        environment: BTreeMap::new(),
    }
}

/// The environment variables of the worker's own process, of which an agent sees only an allow-listed few.
pub type ParentEnvironment = BTreeMap<String, String>;
