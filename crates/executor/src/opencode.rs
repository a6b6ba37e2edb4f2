//! opencode: its settings and its call. Its output is read by [`reader`].
//!
//! A repository cannot change the call. `OPENCODE_DISABLE_PROJECT_CONFIG` keeps its settings out, but not its plugins:
//! version 1.18.33 runs `.opencode/plugin/*.js` of the directory it works in, and the packages that an `opencode.json`
//! there names, whatever `OPENCODE_PURE` says. So those files are not there while it runs; see
//! [`crate::invocation::Invocation::set_aside`]. Formatters and language servers, which a repository's own packages
//! can be, are turned off. opencode reads no `.env`.
//!
//! Its database, with its sessions, lies in a directory of the task's own and not in the user's.

mod message;
pub mod reader;
mod verdict;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use core_types::secret::Secret;
use serde_json::{Value, json};

use crate::{
    checks,
    claude_code::ONE_WORD,
    invocation::{AgentTask, ExecutorError, Invocation, Place, Protocol},
};

/// The permissions that are allowed where the settings say nothing.
pub const DEFAULT_ALLOWED_TOOLS: &[&str] =
    &["bash", "edit", "read", "glob", "grep", "list", "todowrite", "external_directory"];
/// Where opencode keeps its login, below the user's home and below its own directory for data.
pub const LOGIN_IN_HOME: &str = ".local/share/opencode/auth.json";
/// The same below [`Place::config_dir`].
pub const LOGIN_IN_STATE: &str = "data/opencode/auth.json";
/// What a repository could make opencode execute, at the top of its work tree.
const SET_ASIDE: &[&str] = &[".opencode", "opencode.json", "opencode.jsonc"];
/// Given so that no model is asked for one.
const TITLE: &str = "openTiger";

/// How opencode is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpencodeSettings {
    /// The program: an absolute path or a bare name.
    pub command: String,
    /// The model as `provider/model`; `None` leaves it to the user's own settings of opencode.
    pub model: Option<String>,
    /// What is allowed without asking, as opencode names its permissions, e.g. `bash(git *)`. All else is denied.
    pub allowed_tools: Vec<String>,
    /// Anthropic's key; `None` uses the login in the home.
    pub anthropic_api_key: Option<Secret>,
    /// The address of Anthropic's API; `None` is opencode's own.
    pub anthropic_base_url: Option<String>,
    /// OpenAI's key.
    pub openai_api_key: Option<Secret>,
    /// Google's key.
    pub gemini_api_key: Option<Secret>,
}

impl Default for OpencodeSettings {
    fn default() -> Self {
        Self {
            command: "opencode".to_owned(),
            model: None,
            allowed_tools: DEFAULT_ALLOWED_TOOLS.iter().map(|&tool| tool.to_owned()).collect(),
            anthropic_api_key: None,
            anthropic_base_url: None,
            openai_api_key: None,
            gemini_api_key: None,
        }
    }
}

/// opencode, ready to be called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opencode {
    settings: OpencodeSettings,
}

impl Opencode {
    /// Takes the settings; whether they can be passed to the CLI is said by [`Self::invocation`].
    #[must_use]
    pub const fn new(settings: OpencodeSettings) -> Self {
        Self { settings }
    }

    /// The call that does a task in a place.
    ///
    /// # Errors
    /// [`ExecutorError::InvalidValue`] for a command that is neither a bare name nor an absolute path, or a model,
    /// permission or session that the CLI would read as something else.
    pub fn invocation(&self, task: &AgentTask, place: &Place) -> Result<Invocation, ExecutorError> {
        self.check(task)?;
        Ok(Invocation {
            protocol: Protocol::OpencodeJson,
            program: PathBuf::from(&self.settings.command),
            prepare: task.resume.as_deref().map(|session| adopt(session, &place.cwd)),
            args: self.args(task, place),
            env: self.env(place),
            secret_env: self.secret_env(),
            stdin: task.prompt.clone().into_bytes(),
            set_aside: SET_ASIDE,
        })
    }

    /// The call that has the model say one word: with the same login, model and address as a run, without tools.
    /// opencode has no other way to find out whether a provider lets it in.
    ///
    /// # Errors
    /// As for [`Self::invocation`].
    pub fn prompt_check(&self, place: &Place) -> Result<Invocation, ExecutorError> {
        let settings = OpencodeSettings { allowed_tools: Vec::new(), ..self.settings.clone() };
        let task = AgentTask { prompt: ONE_WORD.to_owned(), ..AgentTask::default() };
        Self { settings }.invocation(&task, place)
    }

    fn check(&self, task: &AgentTask) -> Result<(), ExecutorError> {
        let settings = &self.settings;
        checks::command("command of opencode", &settings.command)?;
        let models = settings.model.iter().chain(&task.model);
        models.map(String::as_str).try_for_each(checks::provider_model)?;
        settings.allowed_tools.iter().map(String::as_str).try_for_each(checks::tool)?;
        task.resume.as_deref().map_or(Ok(()), checks::opencode_session)
    }

    /// Values are joined to their option with `=`, so that none can be taken for an option of its own.
    fn args(&self, task: &AgentTask, place: &Place) -> Vec<String> {
        // Only the log tells of calls of the model that fail and are repeated.
        let mut args: Vec<String> =
            ["run", "--format=json", "--print-logs", "--log-level=ERROR"].map(str::to_owned).into();
        args.push(format!("--title={TITLE}"));
        args.push(format!("--dir={}", place.cwd.display()));
        let model = task.model.as_ref().or(self.settings.model.as_ref());
        args.extend(model.map(|model| format!("--model={model}")));
        args.extend(task.resume.as_ref().map(|session| format!("--session={session}")));
        args
    }

    fn env(&self, place: &Place) -> BTreeMap<String, String> {
        let mut env = place.parent_env.clone();
        let mut set = |name: &str, value: String| env.insert(name.to_owned(), value);
        let path = |path: &Path| path.to_string_lossy().into_owned();
        set("HOME", path(&place.home));
        set("TMPDIR", path(&place.tmp));
        set("PWD", path(&place.cwd));
        if let Some(own) = &place.config_dir {
            set("XDG_DATA_HOME", path(&own.join("data")));
            set("XDG_STATE_HOME", path(&own.join("state")));
        }
        for switch in [
            "OPENCODE_DISABLE_AUTOUPDATE",
            "OPENCODE_DISABLE_CLAUDE_CODE",
            "OPENCODE_DISABLE_EXTERNAL_SKILLS",
            "OPENCODE_DISABLE_LSP_DOWNLOAD",
            "OPENCODE_DISABLE_MODELS_FETCH",
            "OPENCODE_DISABLE_PROJECT_CONFIG",
            "OPENCODE_DISABLE_SHARE",
            "OPENCODE_PURE",
        ] {
            set(switch, "1".to_owned());
        }
        set("OPENCODE_CONFIG_CONTENT", self.config().to_string());
        let everything = || json!({ "*": "allow" });
        let allowed = &self.settings.allowed_tools;
        let permissions = if place.sandboxed { everything() } else { permissions(allowed) };
        set("OPENCODE_PERMISSION", permissions.to_string());
        env
    }

    fn config(&self) -> Value {
        let mut config = json!({
            "autoupdate": false, "share": "disabled", "formatter": false, "lsp": false, "snapshot": false,
        });
        if let Some(url) = &self.settings.anthropic_base_url {
            // Unlike Claude Code, opencode takes the address with the version in it.
            let url = url.trim_end_matches('/').trim_end_matches("/v1");
            config["provider"] =
                json!({"anthropic": {"options": {"baseURL": format!("{url}/v1")}}});
        }
        config
    }

    fn secret_env(&self) -> BTreeMap<String, Secret> {
        let settings = &self.settings;
        [
            ("ANTHROPIC_API_KEY", &settings.anthropic_api_key),
            ("OPENAI_API_KEY", &settings.openai_api_key),
            ("GEMINI_API_KEY", &settings.gemini_api_key),
        ]
        .into_iter()
        .filter_map(|(name, key)| Some((name.to_owned(), key.clone()?)))
        .collect()
    }
}

/// A session works in the directory it began in, and the new checkout is another one: the session is told so first.
/// Neither value holds a quote: a session is checked, and of the directory they are doubled.
fn adopt(session: &str, cwd: &Path) -> Vec<String> {
    let cwd = cwd.to_string_lossy().replace('\'', "''");
    let statement = format!("UPDATE session SET directory = '{cwd}' WHERE id = '{session}'");
    vec!["db".to_owned(), statement]
}

/// The rules of an allow-list. The last rule that matches counts, and `*` sorts before every name.
fn permissions(allowed: &[String]) -> Value {
    let mut rules = BTreeMap::from([("*", json!("deny"))]);
    for tool in allowed {
        let (name, pattern) = tool
            .split_once('(')
            .map_or((tool.as_str(), None), |(name, rest)| (name, rest.strip_suffix(')')));
        match (pattern, rules.get_mut(name)) {
            (None, _) => {
                rules.insert(name, json!("allow"));
            }
            (Some(pattern), Some(Value::Object(patterns))) => {
                patterns.insert(pattern.to_owned(), json!("allow"));
            }
            // Allowed as a whole already.
            (Some(_), Some(_)) => {}
            (Some(pattern), None) => {
                rules.insert(name, json!({"*": "deny", pattern: "allow"}));
            }
        }
    }
    json!(rules)
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
            config_dir: Some("/state/s".into()),
            ..Place::default()
        }
    }

    fn call(settings: OpencodeSettings, task: &AgentTask) -> Result<Invocation, ExecutorError> {
        Opencode::new(settings).invocation(task, &place())
    }

    #[test]
    fn prompt_is_on_standard_input_and_in_no_argument() {
        let task = AgentTask { prompt: "do it".to_owned(), ..AgentTask::default() };
        let call = call(OpencodeSettings::default(), &task).unwrap();
        assert_eq!(call.stdin, b"do it");
        let args = [
            "run",
            "--format=json",
            "--print-logs",
            "--log-level=ERROR",
            "--title=openTiger",
            "--dir=/w",
        ];
        assert_eq!(call.args, args);
        assert_eq!(call.prepare, None);
        assert_eq!(call.env["OPENCODE_DISABLE_PROJECT_CONFIG"], "1");
        assert_eq!(call.env["XDG_DATA_HOME"], "/state/s/data");
        assert!(call.set_aside.contains(&".opencode"));
    }

    #[test]
    fn every_setting_reaches_the_call_and_no_key_an_open_place() {
        let key = |text: &str| Some(Secret::new(text));
        let settings = OpencodeSettings {
            command: "/opt/opencode".to_owned(),
            model: Some("anthropic/claude-sonnet-4-5".to_owned()),
            allowed_tools: ["read", "bash(git *)", "bash(ls)"].map(str::to_owned).into(),
            anthropic_api_key: key("sk-anthropic-1"),
            anthropic_base_url: Some("http://127.0.0.1:9".to_owned()),
            openai_api_key: key("sk-openai-1"),
            gemini_api_key: key("sk-gemini-1"),
        };
        let task = AgentTask {
            model: Some("openai/gpt-5".to_owned()),
            resume: Some("ses_df19ca7e5ffelEzJ9FO9hhOPBT".to_owned()),
            ..AgentTask::default()
        };
        let call = call(settings, &task).unwrap();
        assert_eq!(
            call.args[6..],
            ["--model=openai/gpt-5", "--session=ses_df19ca7e5ffelEzJ9FO9hhOPBT"]
        );
        let statement = &call.prepare.as_ref().unwrap()[1];
        assert!(statement.contains("'/w' WHERE id = 'ses_df19"), "{statement}");
        let config: Value = serde_json::from_str(&call.env["OPENCODE_CONFIG_CONTENT"]).unwrap();
        let url = config.pointer("/provider/anthropic/options/baseURL");
        assert_eq!(url, Some(&json!("http://127.0.0.1:9/v1")));
        assert_eq!(
            call.env["OPENCODE_PERMISSION"],
            r#"{"*":"deny","bash":{"*":"deny","git *":"allow","ls":"allow"},"read":"allow"}"#
        );
        assert_eq!(call.secret_env.len(), 3);
        assert!(!format!("{call:?}").contains("sk-"));
    }

    #[test]
    fn values_that_would_be_read_as_something_else_are_refused() {
        for command in ["", "./opencode", "-x"] {
            let settings =
                OpencodeSettings { command: command.to_owned(), ..OpencodeSettings::default() };
            assert!(call(settings, &AgentTask::default()).is_err(), "{command:?}");
        }
        for model in ["", "sonnet", "-m/x", "a/b c", "/b", "a/"] {
            let task = AgentTask { model: Some(model.to_owned()), ..AgentTask::default() };
            assert!(call(OpencodeSettings::default(), &task).is_err(), "{model:?}");
        }
        for session in ["", "latest", "ses_", "ses_'; DROP TABLE session; --", "--help"] {
            let task = AgentTask { resume: Some(session.to_owned()), ..AgentTask::default() };
            assert!(call(OpencodeSettings::default(), &task).is_err(), "{session:?}");
        }
    }
}
