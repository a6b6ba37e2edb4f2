//! Claude Code: its settings and its call. Its output is read by [`reader`].
//!
//! A repository cannot change the call: of the CLI's settings files only the user's own are loaded, no MCP
//! server of a repository is started, and the CLI reads no `.env`. The price is that the CLI does not load
//! the repository's `CLAUDE.md` by itself; the prompt tells the agent to read it.

mod message;
pub mod reader;
mod tokens;
pub mod usage;
mod verdict;

use std::{collections::BTreeMap, path::PathBuf};

use core_config::settings::PermissionMode;
use core_types::secret::Secret;

use crate::{
    checks,
    invocation::{AgentTask, ExecutorError, Invocation, Place, Protocol},
};

/// The tools allowed where the settings say nothing.
pub const DEFAULT_ALLOWED_TOOLS: &[&str] = &["Bash", "Edit", "Write", "Read", "Glob", "Grep"];

/// The prompt of a check.
pub(crate) const ONE_WORD: &str = "Respond with exactly OK.";
/// How long one call of the model may take in a check: with one repetition it is over before the check's own limit.
const CHECK_API_TIMEOUT_MS: u32 = 7_000;

/// How Claude Code is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaudeSettings {
    /// The program: an absolute path or a bare name.
    pub command: String,
    /// The model; `None` leaves it to the CLI.
    pub model: Option<String>,
    /// What happens to tools on no list.
    pub permission_mode: PermissionMode,
    /// Tools allowed without asking, as the CLI spells them, e.g. `Bash(git *)`.
    pub allowed_tools: Vec<String>,
    /// Tools denied in any case.
    pub disallowed_tools: Vec<String>,
    /// Most turns of one run; `None` is unlimited.
    pub max_turns: Option<u32>,
    /// Appended to the CLI's own system prompt.
    pub append_system_prompt: Option<String>,
    /// How often the CLI repeats a failed model call. Its own default of 10 takes three minutes on a refused key.
    pub max_retries: u32,
    /// The provider's key; `None` uses the login in the home.
    pub api_key: Option<Secret>,
    /// The provider's address; `None` is the CLI's own.
    pub base_url: Option<String>,
}

impl Default for ClaudeSettings {
    fn default() -> Self {
        Self {
            command: "claude".to_owned(),
            model: None,
            permission_mode: PermissionMode::DontAsk,
            allowed_tools: DEFAULT_ALLOWED_TOOLS.iter().map(|&tool| tool.to_owned()).collect(),
            disallowed_tools: Vec::new(),
            max_turns: None,
            append_system_prompt: None,
            max_retries: 2,
            api_key: None,
            base_url: None,
        }
    }
}

/// Claude Code, ready to be called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaudeCode {
    settings: ClaudeSettings,
}

impl ClaudeCode {
    /// Takes the settings; whether they can be passed to the CLI is said by [`Self::invocation`].
    #[must_use]
    pub const fn new(settings: ClaudeSettings) -> Self {
        Self { settings }
    }

    /// The call that does a task in a place.
    ///
    /// # Errors
    /// [`ExecutorError::BypassAsRoot`] where the CLI would refuse the permission mode, and
    /// [`ExecutorError::InvalidValue`] for a command that is neither a bare name nor an absolute path, or a model,
    /// tool or session that the CLI would read as something else.
    pub fn invocation(&self, task: &AgentTask, place: &Place) -> Result<Invocation, ExecutorError> {
        let mode = self.permission_mode(place);
        if place.as_root && mode == PermissionMode::BypassPermissions {
            return Err(ExecutorError::BypassAsRoot);
        }
        self.check(task)?;
        Ok(Invocation {
            protocol: Protocol::ClaudeStreamJson,
            program: PathBuf::from(&self.settings.command),
            prepare: None,
            args: self.args(task, mode),
            env: self.env(place),
            secret_env: self.secret_env(),
            stdin: task.prompt.clone().into_bytes(),
            set_aside: &[],
        })
    }

    /// The call that asks the provider, without a model, how much of a login's limits is used; [`usage::read`] reads
    /// the answer. It proves a login and nothing else: of a key the CLI does not ask.
    ///
    /// # Errors
    /// As for [`Self::invocation`].
    pub fn usage_check(&self, place: &Place) -> Result<Invocation, ExecutorError> {
        self.check(&AgentTask::default())?;
        let args = [
            "-p",
            "--input-format=stream-json",
            "--output-format=stream-json",
            "--verbose",
            "--setting-sources=user",
            "--strict-mcp-config",
        ];
        let mut env = self.env(place);
        // With it the CLI does not ask.
        env.remove("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC");
        Ok(Invocation {
            protocol: Protocol::ClaudeStreamJson,
            program: PathBuf::from(&self.settings.command),
            prepare: None,
            args: args.map(str::to_owned).into(),
            env,
            secret_env: self.secret_env(),
            stdin: usage::REQUESTS.as_bytes().to_vec(),
            set_aside: &[],
        })
    }

    /// The call that has the model say one word: with the same login, model and address as a run, without tools, and
    /// giving up soon, since the CLI otherwise tries a refused key for three minutes.
    ///
    /// # Errors
    /// As for [`Self::invocation`].
    pub fn prompt_check(&self, place: &Place) -> Result<Invocation, ExecutorError> {
        let settings = ClaudeSettings {
            permission_mode: PermissionMode::DontAsk,
            allowed_tools: Vec::new(),
            disallowed_tools: Vec::new(),
            max_turns: Some(1),
            append_system_prompt: None,
            max_retries: 1,
            ..self.settings.clone()
        };
        let task = AgentTask { prompt: ONE_WORD.to_owned(), ..AgentTask::default() };
        let mut call = Self { settings }.invocation(&task, place)?;
        call.env.insert("API_TIMEOUT_MS".to_owned(), CHECK_API_TIMEOUT_MS.to_string());
        Ok(call)
    }

    const fn permission_mode(&self, place: &Place) -> PermissionMode {
        if place.sandboxed {
            PermissionMode::BypassPermissions
        } else {
            self.settings.permission_mode
        }
    }

    fn check(&self, task: &AgentTask) -> Result<(), ExecutorError> {
        let settings = &self.settings;
        checks::command("command of Claude Code", &settings.command)?;
        let models = settings.model.iter().chain(&task.model);
        models.map(String::as_str).try_for_each(checks::model)?;
        let tools = settings.allowed_tools.iter().chain(&settings.disallowed_tools);
        tools.map(String::as_str).try_for_each(checks::tool)?;
        task.resume.as_deref().map_or(Ok(()), checks::session)
    }

    /// Values are joined to their option with `=`, so that none can be taken for an option of its own.
    fn args(&self, task: &AgentTask, mode: PermissionMode) -> Vec<String> {
        let settings = &self.settings;
        let mut args: Vec<String> = [
            "-p",
            "--output-format=stream-json",
            "--verbose",
            "--setting-sources=user",
            "--strict-mcp-config",
        ]
        .map(str::to_owned)
        .into();
        args.push(format!("--permission-mode={mode}"));
        let mut option = |name: &str, value: Option<String>| {
            args.extend(value.map(|value| format!("--{name}={value}")));
        };
        option("allowedTools", joined(&settings.allowed_tools));
        option("disallowedTools", joined(&settings.disallowed_tools));
        option("max-turns", settings.max_turns.map(|turns| turns.to_string()));
        option("max-budget-usd", task.cost_limit_microusd.map(dollars));
        option("model", task.model.clone().or_else(|| settings.model.clone()));
        option("append-system-prompt", settings.append_system_prompt.clone());
        option("resume", task.resume.clone());
        args
    }

    fn env(&self, place: &Place) -> BTreeMap<String, String> {
        let mut env = place.parent_env.clone();
        let mut set = |name: &str, value: String| env.insert(name.to_owned(), value);
        let path = |path: &PathBuf| path.to_string_lossy().into_owned();
        set("HOME", path(&place.home));
        set("TMPDIR", path(&place.tmp));
        // Its sockets and task files otherwise lie in /tmp, where all runs meet.
        set("CLAUDE_CODE_TMPDIR", path(&place.tmp));
        set("PWD", path(&place.cwd));
        set("DISABLE_AUTOUPDATER", "1".to_owned());
        set("DISABLE_TELEMETRY", "1".to_owned());
        set("DISABLE_ERROR_REPORTING", "1".to_owned());
        set("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1".to_owned());
        set("CLAUDE_CODE_MAX_RETRIES", self.settings.max_retries.to_string());
        if let Some(dir) = &place.config_dir {
            set("CLAUDE_CONFIG_DIR", path(dir));
        }
        if let Some(dir) = &place.login_dir {
            set("CLAUDE_SECURESTORAGE_CONFIG_DIR", path(dir));
        }
        if let Some(url) = &self.settings.base_url {
            set("ANTHROPIC_BASE_URL", url.clone());
        }
        env
    }

    fn secret_env(&self) -> BTreeMap<String, Secret> {
        let key = self.settings.api_key.clone();
        key.map(|key| ("ANTHROPIC_API_KEY".to_owned(), key)).into_iter().collect()
    }
}

fn joined(tools: &[String]) -> Option<String> {
    Some(tools.join(",")).filter(|tools| !tools.is_empty())
}

fn dollars(microusd: u64) -> String {
    format!("{}.{:06}", microusd / 1_000_000, microusd % 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> Place {
        Place {
            cwd: "/w".into(),
            home: "/home/ann".into(),
            tmp: "/t".into(),
            parent_env: crate::environment::allow_list(Vec::<(&str, &str)>::new()),
            config_dir: None,
            login_dir: None,
            as_root: true,
            sandboxed: false,
        }
    }

    fn call(settings: ClaudeSettings, task: &AgentTask) -> Result<Invocation, ExecutorError> {
        ClaudeCode::new(settings).invocation(task, &place())
    }

    #[test]
    fn prompt_is_on_standard_input_and_in_no_argument() {
        let task = AgentTask { prompt: "do it".to_owned(), ..AgentTask::default() };
        let call = call(ClaudeSettings::default(), &task).unwrap();
        assert_eq!(call.stdin, b"do it");
        assert_eq!(
            call.args,
            [
                "-p",
                "--output-format=stream-json",
                "--verbose",
                "--setting-sources=user",
                "--strict-mcp-config",
                "--permission-mode=dontAsk",
                "--allowedTools=Bash,Edit,Write,Read,Glob,Grep",
            ]
        );
    }

    #[test]
    fn every_setting_reaches_the_call() {
        let settings = ClaudeSettings {
            command: "/opt/claude".to_owned(),
            model: Some("sonnet".to_owned()),
            permission_mode: PermissionMode::Plan,
            allowed_tools: vec!["Bash(git *)".to_owned(), "Read".to_owned()],
            disallowed_tools: vec!["WebFetch".to_owned()],
            max_turns: Some(7),
            append_system_prompt: Some("--be brief".to_owned()),
            max_retries: 5,
            api_key: Some(Secret::new("sk-123456789012")),
            base_url: Some("http://127.0.0.1:9".to_owned()),
        };
        let task = AgentTask {
            prompt: String::new(),
            model: Some("opus".to_owned()),
            resume: Some("8f846e54-ad51-4942-9fe6-207f6968cb84".to_owned()),
            cost_limit_microusd: Some(1_250_000),
        };
        let call = call(settings, &task).unwrap();
        assert_eq!(call.program, PathBuf::from("/opt/claude"));
        assert_eq!(
            call.args[5..],
            [
                "--permission-mode=plan",
                "--allowedTools=Bash(git *),Read",
                "--disallowedTools=WebFetch",
                "--max-turns=7",
                "--max-budget-usd=1.250000",
                "--model=opus",
                "--append-system-prompt=--be brief",
                "--resume=8f846e54-ad51-4942-9fe6-207f6968cb84",
            ]
        );
        assert_eq!(call.env["CLAUDE_CODE_MAX_RETRIES"], "5");
        assert_eq!(call.env["ANTHROPIC_BASE_URL"], "http://127.0.0.1:9");
        assert_eq!(call.secret_env["ANTHROPIC_API_KEY"].expose(), "sk-123456789012");
    }

    #[test]
    fn key_is_in_neither_arguments_nor_open_environment_and_sandbox_is_never_claimed() {
        let settings = ClaudeSettings {
            api_key: Some(Secret::new("sk-123456789012")),
            ..ClaudeSettings::default()
        };
        let call = call(settings, &AgentTask::default()).unwrap();
        assert!(!format!("{call:?}").contains("sk-123456789012"));
        assert!(!call.env.contains_key("IS_SANDBOX"));
        assert_eq!(call.env["DISABLE_AUTOUPDATER"], "1");
        assert_eq!(call.env["HOME"], "/home/ann");
        assert_eq!(call.env["CLAUDE_CODE_TMPDIR"], "/t");
    }

    #[test]
    fn bypassing_permissions_as_root_is_refused_with_what_to_do() {
        let settings = ClaudeSettings {
            permission_mode: PermissionMode::BypassPermissions,
            ..ClaudeSettings::default()
        };
        let error = call(settings.clone(), &AgentTask::default()).unwrap_err();
        assert_eq!(error, ExecutorError::BypassAsRoot);
        assert!(error.hint().contains("dontAsk"));
        let boxed = Place { sandboxed: true, ..place() };
        let careful = ClaudeCode::new(ClaudeSettings::default());
        let refused = careful.invocation(&AgentTask::default(), &boxed);
        assert_eq!(refused, Err(ExecutorError::BypassAsRoot));
        let boxed = Place { as_root: false, ..boxed };
        let allowed = careful.invocation(&AgentTask::default(), &boxed).unwrap();
        assert!(allowed.args.contains(&"--permission-mode=bypassPermissions".to_owned()));
        assert!(!allowed.env.contains_key("IS_SANDBOX"));
        let user = Place { as_root: false, ..place() };
        let claude = ClaudeCode::new(settings);
        assert!(claude.invocation(&AgentTask::default(), &user).is_ok());
    }

    #[test]
    fn values_that_would_be_read_as_something_else_are_refused() {
        for command in ["", "./claude", "bin/claude", "-x", "/a\0b"] {
            let settings =
                ClaudeSettings { command: command.to_owned(), ..ClaudeSettings::default() };
            assert!(call(settings, &AgentTask::default()).is_err(), "{command:?}");
        }
        for model in ["", "-m", "a b", "a\nb"] {
            let task = AgentTask { model: Some(model.to_owned()), ..AgentTask::default() };
            assert!(call(ClaudeSettings::default(), &task).is_err(), "{model:?}");
        }
        for session in ["", "--help", "latest", "x".repeat(36).as_str()] {
            let task = AgentTask { resume: Some(session.to_owned()), ..AgentTask::default() };
            assert!(call(ClaudeSettings::default(), &task).is_err(), "{session:?}");
        }
        let tools = vec!["--dangerously-skip-permissions".to_owned()];
        let settings = ClaudeSettings { allowed_tools: tools, ..ClaudeSettings::default() };
        assert!(call(settings, &AgentTask::default()).is_err());
    }
}
