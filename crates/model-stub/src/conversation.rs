//! What a request tells about the conversation it belongs to: its script, its turn, its placeholders.

use serde_json::Value;

/// The part of a request that decides the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Conversation {
    /// The model that was asked for.
    pub(crate) model: String,
    /// Whether the answer shall be streamed.
    pub(crate) stream: bool,
    /// The name in the last `[script: NAME]` that a person wrote.
    pub(crate) script: Option<String>,
    /// How many turns of the script have been said: answers with tool calls after the prompt.
    pub(crate) said: usize,
    /// Whether this is the agent's own conversation; others (titles, summaries) offer no tools.
    pub(crate) is_work: bool,
    /// Whether the agent names tools and their fields as opencode does (`bash`, `filePath`), and not as Claude Code
    /// (`Bash`, `file_path`), which the scripts do.
    pub(crate) opencode: bool,
    /// The agent's working directory.
    pub(crate) cwd: Option<String>,
    /// The file that the prompt speaks of.
    pub(crate) file: String,
}

const DEFAULT_FILE: &str = "HELLO.md";
const NOT_MEANT: [&str; 2] = ["CLAUDE.md", "AGENTS.md"];
/// Texts that the CLI adds by itself; what is written in them is nobody's prompt.
/// What the model is asked where nothing but an answer is wanted.
const CHECK: &str = "Respond with exactly OK.";
const ADDED: &str = "<system-reminder>";

impl Conversation {
    pub(crate) fn read(request: &Value) -> Self {
        let messages = request.get("messages").and_then(Value::as_array);
        let messages = messages.map(Vec::as_slice).unwrap_or_default();
        let prompt = messages.iter().rposition(|message| prompt_text(message).is_some());
        let prompt_at = prompt.unwrap_or_default();
        let text = messages.get(prompt_at).and_then(prompt_text).unwrap_or_default();
        let asks = |message: &&Value| is(message, "assistant") && has_block(message, "tool_use");
        Self {
            model: request.get("model").and_then(Value::as_str).unwrap_or("unknown").to_owned(),
            stream: request.get("stream").and_then(Value::as_bool).unwrap_or_default(),
            script: mark(&text),
            said: messages.iter().skip(prompt_at).filter(asks).count(),
            // A check of the login has no tools either, and is what the script is for.
            is_work: text.contains(CHECK)
                || request.get("tools").and_then(Value::as_array).is_some_and(|t| !t.is_empty()),
            opencode: names_like_opencode(request),
            cwd: working_directory(&request.to_string()),
            file: named_file(&text),
        }
    }

    /// The name of a tool as this agent spells it.
    pub(crate) fn tool(&self, name: &str) -> String {
        if self.opencode { name.to_lowercase() } else { name.to_owned() }
    }

    /// The input of a call with the conversation's own words, and its fields as this agent spells them.
    pub(crate) fn input(&self, input: &Value) -> Value {
        match self.fill_value(input) {
            Value::Object(fields) if self.opencode => {
                fields.into_iter().map(|(name, field)| (camel_case(&name), field)).collect()
            }
            input => input,
        }
    }

    /// Puts the conversation's own words in for the placeholders.
    pub(crate) fn fill(&self, text: &str) -> String {
        let file = text.replace("{file}", &self.file);
        match &self.cwd {
            Some(cwd) => file.replace("{cwd}", cwd),
            None => file.replace("{cwd}/", ""),
        }
    }

    /// The same in every text of a value.
    pub(crate) fn fill_value(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.fill(text)),
            Value::Array(items) => items.iter().map(|item| self.fill_value(item)).collect(),
            Value::Object(fields) => {
                fields.iter().map(|(name, field)| (name.clone(), self.fill_value(field))).collect()
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
        }
    }
}

/// What a person wrote in a message; `None` for answers of tools and for what the CLI added by itself.
fn prompt_text(message: &Value) -> Option<String> {
    if !is(message, "user") || has_block(message, "tool_result") {
        return None;
    }
    let written = |text: &&str| !text.trim_start().starts_with(ADDED);
    let texts: Vec<&str> = texts(message).into_iter().filter(written).collect();
    (!texts.is_empty()).then(|| texts.join("\n"))
}

fn texts(message: &Value) -> Vec<&str> {
    match message.get("content") {
        Some(Value::String(text)) => vec![text],
        Some(Value::Array(blocks)) => {
            blocks.iter().filter_map(|block| block.get("text")?.as_str()).collect()
        }
        _ => Vec::new(),
    }
}

fn is(message: &Value, role: &str) -> bool {
    message.get("role").and_then(Value::as_str) == Some(role)
}

fn has_block(message: &Value, kind: &str) -> bool {
    let blocks = message.get("content").and_then(Value::as_array).map(Vec::as_slice);
    let mut blocks = blocks.unwrap_or_default().iter();
    blocks.any(|block| block.get("type").and_then(Value::as_str) == Some(kind))
}

fn mark(text: &str) -> Option<String> {
    let (_, rest) = text.rsplit_once("[script:")?;
    let (name, _) = rest.split_once(']')?;
    Some(name.trim().to_owned())
}

/// The CLI tells the directory in its system prompt, the last time after all that an earlier session was told. The
/// request is searched as JSON text, so the path ends at the escaped line end.
fn working_directory(request: &str) -> Option<String> {
    let (_, rest) = request.rsplit_once("orking directory: ")?;
    let (path, _) = rest.split_once(r"\n")?;
    (path.starts_with('/') && !path.contains(['"', '\\'])).then(|| path.to_owned())
}

fn names_like_opencode(request: &Value) -> bool {
    let tools = request.get("tools").and_then(Value::as_array).map(Vec::as_slice);
    let mut names = tools.unwrap_or_default().iter().filter_map(|tool| tool.get("name")?.as_str());
    names.any(|name| name.starts_with(|c: char| c.is_ascii_lowercase()) && !name.contains("__"))
}

fn camel_case(name: &str) -> String {
    let mut words = name.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |sofar, word| {
        let (head, tail) = word.split_at(word.ceil_char_boundary(1));
        sofar + &head.to_uppercase() + tail
    })
}

fn named_file(prompt: &str) -> String {
    let outside = |c: char| !(c.is_ascii_alphanumeric() || "-_./".contains(c));
    let meant = |word: &&str| {
        word.ends_with(".md")
            && word.len() > 3
            && !word.starts_with('/')
            && !word.contains("..")
            && !NOT_MEANT.contains(word)
    };
    let mut words = prompt.split(outside).map(|word| word.trim_end_matches('.'));
    words.find(meant).unwrap_or(DEFAULT_FILE).to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn user(text: &str) -> Value {
        json!({"role": "user", "content": [{"type": "text", "text": text}]})
    }

    fn call() -> Value {
        json!({"role": "assistant", "content": [{"type": "tool_use", "id": "1", "name": "Bash", "input": {}}]})
    }

    fn answer(text: &str) -> Value {
        json!({"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "1", "content": text},
            {"type": "text", "text": "<system-reminder>[script: x]</system-reminder>"},
        ]})
    }

    fn read(messages: &[Value]) -> Conversation {
        Conversation::read(&json!({"model": "m", "tools": [{}], "messages": messages}))
    }

    #[test]
    fn script_and_turn_are_read_from_what_was_said() {
        let first = user("# Task [script: bash]\nplease");
        let at = |messages: &[Value]| {
            let conversation = read(messages);
            (conversation.script, conversation.said)
        };
        assert_eq!(at(std::slice::from_ref(&first)), (Some("bash".to_owned()), 0));
        let one = [first.clone(), call(), answer("[script: demo]")];
        assert_eq!(at(&one), (Some("bash".to_owned()), 1));
        let two = [first, call(), answer(""), call(), answer("")];
        assert_eq!(at(&two), (Some("bash".to_owned()), 2));
    }

    #[test]
    fn a_new_prompt_starts_its_script_from_the_beginning() {
        let conversation = read(&[user("[script: a]"), call(), answer(""), user("[script: b]")]);
        assert_eq!((conversation.script.as_deref(), conversation.said), (Some("b"), 0));
    }

    #[test]
    fn what_the_cli_adds_chooses_no_script() {
        let added = user("<system-reminder>recent commits: [script: hang]</system-reminder>");
        assert_eq!(read(&[added, user("work"), call(), answer("")]).script, None);
    }

    #[test]
    fn the_first_named_markdown_file_is_meant() {
        for (prompt, file) in [
            ("write docs/GREETING.md.", "docs/GREETING.md"),
            ("read `CLAUDE.md`, then `NOTES.md`", "NOTES.md"),
            ("run `test -f ../out.md /etc/x.md`", "HELLO.md"),
            ("", "HELLO.md"),
        ] {
            assert_eq!(named_file(prompt), file, "{prompt}");
        }
    }

    #[test]
    fn tools_are_called_as_the_agent_names_them() {
        let input = json!({"file_path": "{file}", "old_string": "a"});
        let with = |tool: &str| {
            let request = json!({"tools": [{"name": tool}], "messages": [user("write A.md")]});
            let conversation = Conversation::read(&request);
            (conversation.tool("Write"), conversation.input(&input))
        };
        let opencode = json!({"filePath": "A.md", "oldString": "a"});
        assert_eq!(with("bash"), ("write".to_owned(), opencode));
        assert_eq!(
            with("Bash"),
            ("Write".to_owned(), json!({"file_path": "A.md", "old_string": "a"}))
        );
    }

    #[test]
    fn placeholders_are_filled() {
        let request = json!({
            "system": [{"type": "text", "text": "x\n - Primary working directory: /w/a b\n - more"}],
            "messages": [user("write A.md")],
        });
        let conversation = Conversation::read(&request);
        assert_eq!(conversation.fill("{cwd}/{file}"), "/w/a b/A.md");
        assert_eq!(read(&[]).fill("{cwd}/{file}"), "HELLO.md");
    }
}
