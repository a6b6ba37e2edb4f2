//! What is asked of an executor and the call that comes of it. Starting it is somebody else's work.

use std::{collections::BTreeMap, ffi::OsStr, path::PathBuf};

use core_config::settings::Settings;
use core_types::{secret::Secret, task::ExecutorKind};

use crate::{
    claude_code::{ClaudeCode, ClaudeSettings, reader::ClaudeReader},
    environment,
    opencode::{Opencode, OpencodeSettings, reader::OpencodeReader},
    stream::StreamReader,
};

/// An agent's command line program, with its settings.
#[derive(Debug, Clone)]
pub enum Executor {
    /// Claude Code.
    ClaudeCode(ClaudeCode),
    /// opencode.
    Opencode(Opencode),
}

/// The settings of all executors.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExecutorSettings {
    /// Claude Code's settings.
    pub claude_code: ClaudeSettings,
    /// opencode's settings.
    pub opencode: OpencodeSettings,
}

impl From<&Settings> for ExecutorSettings {
    fn from(settings: &Settings) -> Self {
        Self {
            claude_code: ClaudeSettings {
                command: settings.claude_code_command.clone(),
                model: settings.claude_code_model.clone(),
                permission_mode: settings.claude_code_permission_mode,
                allowed_tools: settings.claude_code_allowed_tools.clone(),
                disallowed_tools: settings.claude_code_disallowed_tools.clone(),
                max_turns: settings.claude_code_max_turns,
                append_system_prompt: settings.claude_code_append_system_prompt.clone(),
                max_retries: settings.claude_code_max_retries,
                api_key: settings.anthropic_api_key.clone(),
                base_url: settings.anthropic_base_url.clone(),
            },
            opencode: OpencodeSettings {
                command: settings.opencode_command.clone(),
                model: settings.opencode_model.clone(),
                allowed_tools: settings.opencode_allowed_tools.clone(),
                anthropic_api_key: settings.anthropic_api_key.clone(),
                anthropic_base_url: settings.anthropic_base_url.clone(),
                openai_api_key: settings.openai_api_key.clone(),
                gemini_api_key: settings.gemini_api_key.clone(),
            },
        }
    }
}

impl ExecutorSettings {
    /// Every secret in them.
    #[must_use]
    pub fn secrets(&self) -> Vec<Secret> {
        let opencode = &self.opencode;
        [
            &self.claude_code.api_key,
            &opencode.anthropic_api_key,
            &opencode.openai_api_key,
            &opencode.gemini_api_key,
        ]
        .into_iter()
        .flatten()
        .cloned()
        .collect()
    }
}

/// What the agent shall do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AgentTask {
    /// The prompt, given on standard input; see [`crate::prompt::build`].
    pub prompt: String,
    /// The model of this task; `None` leaves the choice to the settings.
    pub model: Option<String>,
    /// The agent's own session to continue.
    pub resume: Option<String>,
    /// The most the run may cost, in millionths of a US dollar, by the CLI's own estimate.
    pub cost_limit_microusd: Option<u64>,
}

/// Where the agent works and what it sees of the machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// The checkout: the agent's working directory.
    pub cwd: PathBuf,
    /// The agent's home, where its login is.
    pub home: PathBuf,
    /// The agent's directory for temporary files, which no other run uses.
    pub tmp: PathBuf,
    /// The environment the agent starts from: what [`environment::allow_list`] left of ours.
    pub parent_env: BTreeMap<String, String>,
    /// Where the CLI keeps its own state, if not in its home.
    pub config_dir: Option<PathBuf>,
    /// Where the CLI finds its login, if not in its home. It does not write there.
    pub login_dir: Option<PathBuf>,
    /// Whether the agent runs as root, where the CLI refuses some permission modes.
    pub as_root: bool,
    /// Whether it is in a sandbox that holds it whatever it does: then every tool is allowed.
    pub sandboxed: bool,
}

impl Place {
    /// The place of a run on the host: our own environment cut to the allow-list, and the user's home, so that
    /// the user's own login works, unless `home` names another.
    ///
    /// # Errors
    /// [`ExecutorError::NoHome`] where neither `home` nor the environment names one.
    pub fn on_host<N: AsRef<OsStr>, V: AsRef<OsStr>>(
        parent: impl IntoIterator<Item = (N, V)>,
        home: Option<PathBuf>,
        cwd: PathBuf,
        tmp: PathBuf,
        as_root: bool,
    ) -> Result<Self, ExecutorError> {
        let parent_env = environment::allow_list(parent);
        let home = home.or_else(|| parent_env.get("HOME").map(PathBuf::from));
        let home = home.ok_or(ExecutorError::NoHome)?;
        Ok(Self { cwd, home, tmp, parent_env, as_root, ..Self::default() })
    }
}

/// The language in which an agent's program reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Claude Code's `--output-format stream-json`.
    ClaudeStreamJson,
    /// opencode's `run --format json`.
    OpencodeJson,
}

/// A call of the agent's program, complete: nothing else is inherited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invocation {
    /// How its output is read.
    pub protocol: Protocol,
    /// An absolute path, or a bare name to be looked up in `env`'s `PATH`.
    pub program: PathBuf,
    /// The arguments of a call of the same program that has to be made before, with the same environment and without
    /// input.
    pub prepare: Option<Vec<String>>,
    /// The arguments, without the program. No secrets.
    pub args: Vec<String>,
    /// The whole environment besides `secret_env`. No secrets.
    pub env: BTreeMap<String, String>,
    /// Variables that must be in no file, argument or log.
    pub secret_env: BTreeMap<String, Secret>,
    /// What the program reads on standard input.
    pub stdin: Vec<u8>,
    /// What must not lie at the top of the work tree while the program runs, because it would execute it.
    pub set_aside: &'static [&'static str],
}

impl Invocation {
    /// A reader of this call's output. It masks the call's secrets wherever they occur.
    #[must_use]
    pub fn reader(&self) -> StreamReader {
        let secrets = self.secret_env.values().cloned().collect();
        match self.protocol {
            Protocol::ClaudeStreamJson => {
                StreamReader::ClaudeCode(Box::new(ClaudeReader::new(secrets)))
            }
            Protocol::OpencodeJson => {
                StreamReader::Opencode(Box::new(OpencodeReader::new(secrets)))
            }
        }
    }
}

/// Why there can be no call. Each is mended by a setting or by the task, never by trying again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExecutorError {
    /// A setting or a field of the task cannot be passed to the program.
    #[error("`{value}` cannot be used as {what}; allowed: {allowed}")]
    InvalidValue {
        /// Which setting or field.
        what: &'static str,
        /// Its value.
        value: String,
        /// What it may be.
        allowed: &'static str,
    },
    /// The CLI refuses this permission mode to root.
    #[error("permission mode `bypassPermissions` is refused to root by the agent's CLI")]
    BypassAsRoot,
    /// There is no home for the agent.
    #[error("there is no home directory for the agent: `HOME` is not set")]
    NoHome,
}

impl ExecutorError {
    /// What to do about it.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::InvalidValue { .. } => "correct the setting or the field of the task",
            Self::BypassAsRoot => {
                "set CLAUDE_CODE_PERMISSION_MODE to `dontAsk` and list the tools in \
                 CLAUDE_CODE_ALLOWED_TOOLS, or run openTiger as another user than root"
            }
            Self::NoHome => "set HOME, or set OPENTIGER_CLAUDE_HOME to a directory with a login",
        }
    }
}

impl Executor {
    /// Makes the executor of a kind.
    #[must_use]
    pub fn new(kind: ExecutorKind, settings: &ExecutorSettings) -> Self {
        match kind {
            ExecutorKind::ClaudeCode => {
                Self::ClaudeCode(ClaudeCode::new(settings.claude_code.clone()))
            }
            ExecutorKind::Opencode => Self::Opencode(Opencode::new(settings.opencode.clone())),
        }
    }

    /// The call that does a task in a place.
    ///
    /// # Errors
    /// See [`ExecutorError`].
    pub fn invocation(&self, task: &AgentTask, place: &Place) -> Result<Invocation, ExecutorError> {
        match self {
            Self::ClaudeCode(claude) => claude.invocation(task, place),
            Self::Opencode(opencode) => opencode.invocation(task, place),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn home_on_the_host_is_the_users_unless_another_is_named() {
        let parent = || [("HOME", "/home/ann")];
        let place = |home: Option<PathBuf>| {
            Place::on_host(parent(), home, "/w".into(), "/t".into(), false).unwrap()
        };
        assert_eq!(place(None).home, PathBuf::from("/home/ann"));
        assert_eq!(place(Some("/srv/claude".into())).home, PathBuf::from("/srv/claude"));
        let none = Place::on_host([("PATH", "/bin")], None, "/w".into(), "/t".into(), false);
        assert_eq!(none, Err(ExecutorError::NoHome));
    }
}
