//! Scripts: what the model shall say, turn by turn.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::builtin;

/// The turns of one conversation.
///
/// In texts and tool inputs `{file}` stands for the first Markdown file that the prompt names besides
/// `CLAUDE.md` and `AGENTS.md` (`HELLO.md` if there is none), and `{cwd}` for the agent's working directory.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Script {
    /// What is said, in order.
    pub turns: Vec<Turn>,
    /// Whether the last turn is said again and again; else a plain text ends the conversation.
    #[serde(default)]
    pub repeat_last: bool,
}

/// What is said in one turn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub enum Turn {
    /// The model answers.
    Answer(Answer),
    /// The request fails.
    Fail(Failure),
    /// Nothing ever comes.
    Hang,
}

/// An answer of the model. With calls it ends with `tool_use`, without it ends the conversation.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Answer {
    /// A text, before the calls.
    pub text: Option<String>,
    /// Tools to be called.
    pub calls: Vec<Call>,
    /// What it used.
    pub usage: Tokens,
    /// Pause before each part of a streamed answer, in milliseconds.
    pub part_delay_ms: u64,
    /// What is told about the account's limit.
    pub limit: Option<Limit>,
}

/// A call of a tool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Call {
    /// The tool's name, e.g. `Bash`.
    pub tool: String,
    /// Its input.
    pub input: Value,
}

/// What an answer used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tokens {
    /// Tokens read.
    pub input: u64,
    /// Tokens written.
    pub output: u64,
    /// Tokens that came from a cache.
    pub cache_read: u64,
    /// Tokens written to a cache.
    pub cache_write: u64,
}

impl Default for Tokens {
    fn default() -> Self {
        Self { input: 1_000, output: 50, cache_read: 0, cache_write: 0 }
    }
}

/// A request that fails.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Failure {
    /// The HTTP status.
    pub status: u16,
    /// The error's type in the body, e.g. `overloaded_error`.
    pub kind: String,
    /// The error's text in the body.
    pub message: String,
    /// Header `retry-after`, in seconds.
    #[serde(default)]
    pub retry_after_s: Option<u64>,
    /// What is told about the account's limit.
    #[serde(default)]
    pub limit: Option<Limit>,
    /// Further headers.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// How many requests of one session fail here before the next turn is said; `None` is all.
    #[serde(default)]
    pub times: Option<u32>,
}

/// The account's limit, as the headers `anthropic-ratelimit-unified-*` tell it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limit {
    /// `allowed`, `allowed_warning` or `rejected`.
    pub status: String,
    /// Which limit, e.g. `five_hour`.
    pub claim: String,
    /// When it is lifted, in seconds from the answer on.
    pub resets_in_s: u64,
    /// How much of it is used, from 0 to 1.
    #[serde(default)]
    pub utilization: Option<f64>,
}

/// Why there is no such script.
#[derive(Debug, thiserror::Error)]
pub enum ScriptError {
    /// The text is no script.
    #[error("text is no script and no collection of scripts")]
    Malformed(#[source] serde_json::Error),
    /// There is none with this name.
    #[error("there is no script `{name}`; allowed: {known}")]
    Unknown {
        /// The name that was asked for.
        name: String,
        /// The names that there are.
        known: String,
    },
    /// A script has no turn to say again.
    #[error("script `{name}` has `repeat_last` and no turn")]
    NothingToRepeat {
        /// The script's name.
        name: String,
    },
}

/// Scripts by name. A request chooses one by `[script: NAME]` in its prompt, else the default is taken.
#[derive(Debug, Clone, PartialEq)]
pub struct Scripts {
    default: String,
    by_name: BTreeMap<String, Script>,
}

/// A file of scripts: one, or several by name.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum ScriptFile {
    Several { default: String, scripts: BTreeMap<String, Script> },
    One(Script),
}

/// The name of a script that was given without one.
pub const OWN: &str = "own";

impl Script {
    /// The built-in script of the demo: writes a file, looks at it, ends.
    #[must_use]
    pub fn demo() -> Self {
        builtin::demo()
    }

    /// A conversation of answers.
    #[must_use]
    pub fn of(turns: impl IntoIterator<Item = Turn>) -> Self {
        Self { turns: turns.into_iter().collect(), repeat_last: false }
    }
}

impl Turn {
    /// A call of one tool.
    #[must_use]
    pub fn call(tool: &str, input: Value) -> Self {
        let call = Call { tool: tool.to_owned(), input };
        Self::Answer(Answer { calls: vec![call], ..Answer::default() })
    }

    /// A plain text, which ends the conversation.
    #[must_use]
    pub fn text(text: &str) -> Self {
        Self::Answer(Answer { text: Some(text.to_owned()), ..Answer::default() })
    }

    /// A failure of every request.
    #[must_use]
    pub fn fail(status: u16, kind: &str, message: &str) -> Self {
        Self::Fail(Failure {
            status,
            kind: kind.to_owned(),
            message: message.to_owned(),
            retry_after_s: None,
            limit: None,
            headers: BTreeMap::new(),
            times: None,
        })
    }
}

impl Scripts {
    /// The built-in scripts, with `demo` as the default.
    #[must_use]
    pub fn builtin() -> Self {
        Self { default: "demo".to_owned(), by_name: builtin::scripts() }
    }

    /// The scripts of a JSON text besides the built-in ones: `{"turns": […]}`, or
    /// `{"default": NAME, "scripts": {NAME: {"turns": […]}}}`.
    ///
    /// # Errors
    /// [`ScriptError`] where the text is something else, or its default is no script.
    pub fn from_json(text: &str) -> Result<Self, ScriptError> {
        let mut all = Self::builtin();
        match serde_json::from_str(text).map_err(ScriptError::Malformed)? {
            ScriptFile::One(script) => {
                all.by_name.insert(OWN.to_owned(), script);
                OWN.clone_into(&mut all.default);
            }
            ScriptFile::Several { default, scripts } => {
                all.by_name.extend(scripts);
                all.default = default;
            }
        }
        all.checked()
    }

    /// The same scripts with another default.
    ///
    /// # Errors
    /// [`ScriptError::Unknown`] where there is none of this name.
    pub fn with_default(mut self, name: &str) -> Result<Self, ScriptError> {
        name.clone_into(&mut self.default);
        self.checked()
    }

    /// The same scripts and one more.
    #[must_use]
    pub fn with(mut self, name: &str, script: Script) -> Self {
        self.by_name.insert(name.to_owned(), script);
        self
    }

    /// The names that there are.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }

    /// The script of this name; without a name the default.
    pub(crate) fn choose(&self, name: Option<&str>) -> Result<&Script, ScriptError> {
        let name = name.unwrap_or(&self.default);
        self.by_name.get(name).ok_or_else(|| ScriptError::Unknown {
            name: name.to_owned(),
            known: self.names().collect::<Vec<_>>().join(", "),
        })
    }

    fn checked(self) -> Result<Self, ScriptError> {
        self.choose(None)?;
        let empty = |script: &Script| script.repeat_last && script.turns.is_empty();
        match self.by_name.iter().find(|(_, script)| empty(script)) {
            Some((name, _)) => Err(ScriptError::NothingToRepeat { name: name.clone() }),
            None => Ok(self),
        }
    }
}

impl From<Script> for Scripts {
    /// The built-in scripts, and this one as the default.
    fn from(script: Script) -> Self {
        Self { default: OWN.to_owned(), ..Self::builtin().with(OWN, script) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_holds_one_script_or_several() {
        let one = r#"{"turns":[{"do":"answer","text":"hi"},{"do":"hang"}]}"#;
        let scripts = Scripts::from_json(one).unwrap();
        assert_eq!(scripts.choose(None).unwrap().turns, [Turn::text("hi"), Turn::Hang]);
        let several = r#"{"default":"a","scripts":{"a":{"turns":[]}}}"#;
        let scripts = Scripts::from_json(several).unwrap();
        assert_eq!(scripts.choose(None).unwrap(), &Script::default());
        assert_eq!(scripts.choose(Some("demo")).unwrap(), &Script::demo());
    }

    #[test]
    fn faults_in_a_file_are_told() {
        for text in ["", "[]", r#"{"turns":[{"do":"dance"}]}"#, r#"{"turn":[]}"#] {
            assert!(matches!(Scripts::from_json(text), Err(ScriptError::Malformed(_))), "{text}");
        }
        let error = Scripts::from_json(r#"{"default":"b","scripts":{}}"#).unwrap_err();
        assert!(error.to_string().contains("`b`; allowed: "), "{error}");
        let error = Scripts::from_json(r#"{"turns":[],"repeat_last":true}"#).unwrap_err();
        assert!(matches!(error, ScriptError::NothingToRepeat { .. }));
    }

    #[test]
    fn every_built_in_script_survives_json() {
        let scripts = Scripts::builtin();
        for name in scripts.names() {
            let script = scripts.choose(Some(name)).unwrap();
            let text = serde_json::to_string(script).unwrap();
            assert_eq!(&serde_json::from_str::<Script>(&text).unwrap(), script, "{name}");
        }
    }
}
