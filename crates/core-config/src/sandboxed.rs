//! The settings that a run in a sandbox gets, written out on the host and read again inside.
//!
//! What is not needed there stays here: other secrets, paths of the host, limits that the container keeps. Values are
//! written as rows of `system_config` hold them, for a list written as a variable cannot hold every text.

use std::{collections::BTreeMap, ffi::OsString, path::Path};

use core_types::secret::Secret;
use figment::Figment;

use crate::{
    database::DatabaseSnapshot,
    fault::Faults,
    kind::Kind,
    load::{Loaded, load},
    table::{SETTINGS, Setting},
};

/// The settings that a run in a sandbox reads.
const KEYS: &[&str] = &[
    "ANTHROPIC_API_KEY",
    "ANTHROPIC_BASE_URL",
    "OPENAI_API_KEY",
    "GEMINI_API_KEY",
    "CLAUDE_CODE_COMMAND",
    "CLAUDE_CODE_MODEL",
    "CLAUDE_CODE_DISALLOWED_TOOLS",
    "CLAUDE_CODE_MAX_TURNS",
    "CLAUDE_CODE_APPEND_SYSTEM_PROMPT",
    "CLAUDE_CODE_MAX_RETRIES",
    "OPENCODE_COMMAND",
    "OPENCODE_MODEL",
    "OPENCODE_IDLE_TIMEOUT_S",
    "AGENT_IDLE_TIMEOUT_S",
    "WORKER_INSTRUCTIONS",
    "WORKER_VERIFICATION",
    "TESTER_INSTRUCTIONS",
    "TESTER_VERIFICATION",
    "DOCSER_INSTRUCTIONS",
    "DOCSER_VERIFICATION",
    "TASK_TIMEBOX_S",
    "VERIFICATION_TIMEOUT_S",
    "CANCEL_GRACE_S",
    "TASK_TOKEN_LIMIT",
    "TASK_COST_LIMIT_USD",
    "DAILY_TOKEN_LIMIT",
    "DAILY_COST_LIMIT_USD",
];

/// The values in force of the settings that a sandbox reads, as JSON.
#[derive(Debug, Clone)]
pub(crate) struct ForSandboxes(Vec<(&'static Setting, Secret)>);

impl ForSandboxes {
    pub(crate) fn of(figment: &Figment) -> Self {
        let wanted = SETTINGS.iter().filter(|setting| KEYS.contains(&setting.key));
        let value = |setting: &'static Setting| {
            let value = figment.find_value(setting.key).ok()?;
            Some((setting, Secret::new(serde_json::to_string(&value).ok()?)))
        };
        Self(wanted.filter_map(value).collect())
    }
}

impl Loaded {
    /// The settings that a run in a sandbox gets, by key, each as JSON. `rewrite` turns an address that this host reaches
    /// into one that the sandbox does. Of a program's path only the name is left: the image has its own.
    #[must_use]
    pub fn for_sandbox(&self, rewrite: impl Fn(&str) -> String) -> BTreeMap<String, Secret> {
        let changed = |text: &Secret, change: &dyn Fn(&str) -> String| {
            let value: String = serde_json::from_str(text.expose()).unwrap_or_default();
            let value = if value.is_empty() { value } else { change(&value) };
            Secret::new(serde_json::Value::from(value).to_string())
        };
        let name = |path: &str| path.rsplit('/').next().unwrap_or(path).to_owned();
        let of = |(setting, text): &(&'static Setting, Secret)| {
            let text = match setting.kind {
                Kind::HttpUrl => changed(text, &rewrite),
                Kind::Program => changed(text, &name),
                _ => text.clone(),
            };
            (setting.key.to_owned(), text)
        };
        self.for_sandboxes.0.iter().map(of).collect()
    }
}

/// Reads what [`Loaded::for_sandbox`] wrote.
///
/// # Errors
/// Every fault, in one report; a setting that a sandbox has no use for is one.
pub fn load_in_sandbox(
    settings: &BTreeMap<String, Secret>,
    state_dir: &Path,
) -> Result<Loaded, Faults> {
    let value = |text: &Secret| {
        // What is no JSON is a text that no kind but one of texts takes.
        serde_json::from_str(text.expose()).unwrap_or_else(|_| text.expose().into())
    };
    let rows = settings.iter().map(|(key, text)| (key.clone(), value(text))).collect();
    let state_dir = (OsString::from("OPENTIGER_STATE_DIR"), state_dir.as_os_str().to_owned());
    load([state_dir], Some(&DatabaseSnapshot { revision: 0, rows }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::{Layers, setting};

    fn rows(rows: &[(&str, serde_json::Value)]) -> DatabaseSnapshot {
        let rows = rows.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
        DatabaseSnapshot { revision: 1, rows }
    }

    fn on_host(snapshot: &DatabaseSnapshot) -> Loaded {
        let home = [("HOME".into(), "/home/ann".into())];
        load(home, Some(snapshot)).unwrap()
    }

    #[test]
    fn every_key_is_a_setting_that_a_row_may_hold() {
        for key in KEYS {
            let setting = setting(key).unwrap_or_else(|| panic!("{key}"));
            assert_eq!(setting.layers, Layers::EnvironmentOrDatabase, "{key}");
        }
    }

    #[test]
    fn settings_come_through_as_they_are_but_for_addresses_and_programs() {
        let host = on_host(&rows(&[
            ("ANTHROPIC_API_KEY", "sk-123456789012".into()),
            ("ANTHROPIC_BASE_URL", "http://127.0.0.1:9".into()),
            ("CLAUDE_CODE_COMMAND", "/home/ann/bin/claude".into()),
            ("WORKER_VERIFICATION", serde_json::json!(["test a,b", "true"])),
            ("AGENT_IDLE_TIMEOUT_S", 77.into()),
            ("DAILY_COST_LIMIT_USD", "2.5".into()),
            ("GIT_TOKENS", "example.com=secret-of-the-host".into()),
        ]));
        let wire = host.for_sandbox(|url| url.replace("127.0.0.1", "host.docker.internal"));
        assert!(!wire.values().any(|value| value.expose().contains("secret-of-the-host")));
        let inside = load_in_sandbox(&wire, Path::new("/opentiger/state")).unwrap().settings;
        assert_eq!(inside.anthropic_api_key, host.settings.anthropic_api_key);
        assert_eq!(inside.anthropic_base_url.as_deref(), Some("http://host.docker.internal:9"));
        assert_eq!(inside.claude_code_command, "claude");
        assert_eq!(inside.worker_verification, ["test a,b", "true"]);
        assert_eq!(inside.agent_idle_timeout, std::time::Duration::from_secs(77));
        assert_eq!(inside.spend_limits(), host.settings.spend_limits());
        assert_eq!(inside.task_timebox, host.settings.task_timebox);
    }

    #[test]
    fn nothing_shows_a_value() {
        let host = on_host(&rows(&[("ANTHROPIC_API_KEY", "sk-123456789012".into())]));
        assert!(!format!("{host:?}").contains("sk-123456789012"));
    }

    #[test]
    fn key_that_is_no_setting_is_a_fault() {
        let settings = BTreeMap::from([("NO_SUCH".to_owned(), Secret::new("1"))]);
        assert!(load_in_sandbox(&settings, Path::new("/s")).is_err());
    }
}
