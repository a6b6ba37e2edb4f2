//! The effective settings as the types that callers need.
//!
//! A number that means "none" when it is 0 and a text that means "none" when it is empty are `Option`s here.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use core_types::{
    notice::NoticeEvent,
    provider::Provider,
    secret::Secret,
    task::{ExecutionEnvironment, ExecutorKind},
    usage::{SpendLimits, parse_usd},
    words,
};
use serde::{Deserialize, Deserializer};

words! {
    /// How log lines look.
    LogFormat, "log format" {
        /// For people.
        Text = "text",
        /// One JSON object per line.
        Json = "json",
    }
}

words! {
    /// Whether private servers are started.
    EmbeddedServers, "embedded servers" {
        /// Where none is configured.
        Auto = "auto",
        /// Never.
        Never = "never",
    }
}

words! {
    /// Whether programs of private servers are fetched.
    DownloadPolicy, "download policy" {
        /// Where none are installed.
        Allow = "allow",
        /// Never.
        Never = "never",
    }
}

words! {
    /// What the executor `claude_code` may do without asking, in its own words.
    PermissionMode, "permission mode" {
        DontAsk = "dontAsk",
        AcceptEdits = "acceptEdits",
        Plan = "plan",
        BypassPermissions = "bypassPermissions",
    }
}

words! {
    /// Whether a process may manage others.
    ProcessManager, "process manager" {
        On = "on",
        Off = "off",
    }
}

words! {
    /// What becomes of a host whose key `ssh` does not know yet.
    UnknownSshHosts, "way with unknown hosts" {
        Refuse = "refuse",
        Accept = "accept",
    }
}

words! {
    /// Whether the image of sandboxes is fetched.
    ImagePull, "way with images" {
        /// What is not there is an error.
        Never = "never",
        /// What is not there is fetched.
        IfMissing = "if_missing",
        /// Before each sandbox; where that fails and one is there, it is used.
        Always = "always",
    }
}

/// Every setting with its effective value; [`crate::table::SETTINGS`] says what each one means.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE", deny_unknown_fields)]
pub struct Settings {
    #[serde(deserialize_with = "secret")]
    pub database_url: Option<Secret>,
    #[serde(deserialize_with = "secret")]
    pub redis_url: Option<Secret>,
    #[serde(rename = "OPENTIGER_STATE_DIR")]
    pub state_dir: PathBuf,
    #[serde(rename = "OPENTIGER_API_LISTEN")]
    pub api_listen: SocketAddr,
    #[serde(rename = "OPENTIGER_API_HOSTS")]
    pub api_hosts: Vec<String>,
    pub api_keys: Vec<Secret>,
    #[serde(deserialize_with = "secret")]
    pub api_secret: Option<Secret>,
    #[serde(rename = "OPENTIGER_ALLOW_INSECURE_SYSTEM_CONTROL")]
    pub allow_insecure_system_control: bool,
    #[serde(rename = "API_RATE_LIMIT_PER_MINUTE", deserialize_with = "count")]
    pub api_rate_limit: Option<u32>,
    #[serde(rename = "OPENTIGER_LOG")]
    pub log: String,
    #[serde(rename = "OPENTIGER_LOG_FORMAT")]
    pub log_format: LogFormat,
    #[serde(deserialize_with = "path")]
    pub postgres_bin_dir: Option<PathBuf>,
    #[serde(deserialize_with = "path")]
    pub redis_bin: Option<PathBuf>,
    #[serde(rename = "OPENTIGER_EMBEDDED")]
    pub embedded: EmbeddedServers,
    #[serde(rename = "OPENTIGER_DOWNLOADS")]
    pub downloads: DownloadPolicy,
    #[serde(rename = "OPENTIGER_PROCESS_MANAGER")]
    pub process_manager: ProcessManager,
    pub execution_environment: ExecutionEnvironment,
    pub max_concurrent_workers: u32,
    pub dispatcher_enabled: bool,
    pub worker_count: u32,
    pub tester_count: u32,
    pub docser_count: u32,
    #[serde(rename = "PROCESS_RESTART_DELAY_MS", deserialize_with = "milliseconds")]
    pub process_restart_delay: Duration,
    pub process_restart_max_attempts: u32,
    #[serde(rename = "PROCESS_RESTART_WINDOW_S", deserialize_with = "seconds")]
    pub process_restart_window: Duration,
    #[serde(rename = "PROCESS_STOP_GRACE_S", deserialize_with = "seconds")]
    pub process_stop_grace: Duration,
    pub llm_executor: ExecutorKind,
    pub claude_code_command: String,
    #[serde(deserialize_with = "text")]
    pub claude_code_model: Option<String>,
    pub claude_code_permission_mode: PermissionMode,
    pub claude_code_allowed_tools: Vec<String>,
    pub claude_code_disallowed_tools: Vec<String>,
    #[serde(deserialize_with = "count")]
    pub claude_code_max_turns: Option<u32>,
    #[serde(deserialize_with = "text")]
    pub claude_code_append_system_prompt: Option<String>,
    pub claude_code_max_retries: u32,
    #[serde(deserialize_with = "secret")]
    pub anthropic_api_key: Option<Secret>,
    #[serde(deserialize_with = "text")]
    pub anthropic_base_url: Option<String>,
    #[serde(deserialize_with = "secret")]
    pub openai_api_key: Option<Secret>,
    #[serde(deserialize_with = "secret")]
    pub gemini_api_key: Option<Secret>,
    pub opencode_command: String,
    #[serde(deserialize_with = "text")]
    pub opencode_model: Option<String>,
    pub opencode_allowed_tools: Vec<String>,
    #[serde(rename = "OPENCODE_IDLE_TIMEOUT_S", deserialize_with = "seconds")]
    pub opencode_idle_timeout: Duration,
    #[serde(rename = "AGENT_IDLE_TIMEOUT_S", deserialize_with = "seconds")]
    pub agent_idle_timeout: Duration,
    #[serde(deserialize_with = "text")]
    pub worker_instructions: Option<String>,
    #[serde(deserialize_with = "text")]
    pub tester_instructions: Option<String>,
    #[serde(deserialize_with = "text")]
    pub docser_instructions: Option<String>,
    pub worker_verification: Vec<String>,
    pub tester_verification: Vec<String>,
    pub docser_verification: Vec<String>,
    #[serde(rename = "SESSION_RETENTION_DAYS", deserialize_with = "days")]
    pub session_retention: Duration,
    #[serde(rename = "TASK_TIMEBOX_S", deserialize_with = "seconds")]
    pub task_timebox: Duration,
    #[serde(rename = "VERIFICATION_TIMEOUT_S", deserialize_with = "seconds")]
    pub verification_timeout: Duration,
    #[serde(rename = "CANCEL_GRACE_S", deserialize_with = "seconds")]
    pub cancel_grace: Duration,
    pub task_max_attempts: u32,
    #[serde(deserialize_with = "bytes")]
    pub task_token_limit: Option<u64>,
    #[serde(rename = "TASK_COST_LIMIT_USD", deserialize_with = "microusd")]
    pub task_cost_limit_microusd: Option<u64>,
    #[serde(deserialize_with = "bytes")]
    pub daily_token_limit: Option<u64>,
    #[serde(rename = "DAILY_COST_LIMIT_USD", deserialize_with = "microusd")]
    pub daily_cost_limit_microusd: Option<u64>,
    #[serde(rename = "AGENT_MEMORY_LIMIT_BYTES", deserialize_with = "bytes")]
    pub agent_memory_limit: Option<u64>,
    #[serde(deserialize_with = "count")]
    pub agent_process_limit: Option<u32>,
    #[serde(deserialize_with = "text")]
    pub base_branch: Option<String>,
    pub notify_on: Vec<NoticeEvent>,
    #[serde(deserialize_with = "secret")]
    pub notify_webhook_url: Option<Secret>,
    #[serde(deserialize_with = "secret")]
    pub notify_webhook_secret: Option<Secret>,
    pub notify_command: Vec<String>,
    #[serde(rename = "OTEL_EXPORTER_OTLP_ENDPOINT", deserialize_with = "text")]
    pub otlp_endpoint: Option<String>,
    #[serde(rename = "OTEL_EXPORTER_OTLP_HEADERS", deserialize_with = "secret")]
    pub otlp_headers: Option<Secret>,
    #[serde(deserialize_with = "count")]
    pub task_retention_days: Option<u32>,
    pub local_repo_roots: Vec<PathBuf>,
    pub git_allow_http_loopback: bool,
    #[serde(deserialize_with = "secret")]
    pub git_tokens: Option<Secret>,
    pub git_ssh_unknown_hosts: UnknownSshHosts,
    #[serde(deserialize_with = "path")]
    pub git_ssh_config: Option<PathBuf>,
    #[serde(deserialize_with = "path")]
    pub git_ca_file: Option<PathBuf>,
    #[serde(rename = "GIT_TIMEOUT_S", deserialize_with = "seconds")]
    pub git_timeout: Duration,
    #[serde(deserialize_with = "bytes")]
    pub git_max_bytes: Option<u64>,
    #[serde(deserialize_with = "count")]
    pub mirror_keep_days: Option<u32>,
    pub sandbox_docker_image: String,
    pub sandbox_docker_network: String,
    pub sandbox_image_pull: ImagePull,
    #[serde(rename = "SANDBOX_MEMORY_LIMIT_BYTES", deserialize_with = "bytes")]
    pub sandbox_memory_limit: Option<u64>,
    #[serde(deserialize_with = "count")]
    pub sandbox_cpu_limit: Option<u32>,
    #[serde(deserialize_with = "count")]
    pub sandbox_process_limit: Option<u32>,
    #[serde(rename = "SANDBOX_SCRATCH_LIMIT_BYTES")]
    pub sandbox_scratch_limit: u64,
    #[serde(rename = "SANDBOX_DISK_LIMIT_BYTES", deserialize_with = "bytes")]
    pub sandbox_disk_limit: Option<u64>,
    #[serde(deserialize_with = "bytes")]
    pub sandbox_file_limit: Option<u64>,
    #[serde(rename = "SANDBOX_DISK_RESERVE_BYTES")]
    pub sandbox_disk_reserve: u64,
    #[serde(deserialize_with = "text")]
    pub docker_host: Option<String>,
    #[serde(deserialize_with = "path")]
    pub claude_auth_dir: Option<PathBuf>,
    #[serde(deserialize_with = "path")]
    pub claude_config_dir: Option<PathBuf>,
    #[serde(deserialize_with = "path")]
    pub opentiger_claude_home: Option<PathBuf>,
}

impl Settings {
    /// What may be spent.
    #[must_use]
    pub const fn spend_limits(&self) -> SpendLimits {
        SpendLimits {
            task_tokens: self.task_token_limit,
            task_cost_microusd: self.task_cost_limit_microusd,
            day_tokens: self.daily_token_limit,
            day_cost_microusd: self.daily_cost_limit_microusd,
        }
    }

    /// Whose model a task of `opencode` asks that names none; without a name where that is left to its own settings.
    #[must_use]
    pub fn default_provider(&self) -> Provider {
        Provider::of(ExecutorKind::Opencode, self.opencode_model.as_deref())
    }

    /// Whether nobody can prove to the API who they are, for no key and no token is set.
    #[must_use]
    pub const fn knows_no_caller(&self) -> bool {
        self.api_keys.is_empty() && self.api_secret.is_none()
    }
}

fn seconds<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    u64::deserialize(from).map(Duration::from_secs)
}

fn milliseconds<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    u64::deserialize(from).map(Duration::from_millis)
}

fn days<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    u64::deserialize(from).map(|days| Duration::from_secs(days.saturating_mul(24 * 3_600)))
}

fn text<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    String::deserialize(from).map(|text| (!text.is_empty()).then_some(text))
}

fn path<'de, D: Deserializer<'de>>(from: D) -> Result<Option<PathBuf>, D::Error> {
    text(from).map(|text| text.map(PathBuf::from))
}

fn secret<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Secret>, D::Error> {
    text(from).map(|text| text.map(Secret::new))
}

fn count<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u32>, D::Error> {
    u32::deserialize(from).map(|count| (count > 0).then_some(count))
}

fn bytes<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    u64::deserialize(from).map(|count| (count > 0).then_some(count))
}

/// Dollars as millionths of one; the table has checked the form.
fn microusd<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    let text = String::deserialize(from)?;
    let amount = parse_usd(&text);
    let amount = amount.ok_or_else(|| serde::de::Error::custom("not an amount of dollars"))?;
    Ok((amount > 0).then_some(amount))
}
