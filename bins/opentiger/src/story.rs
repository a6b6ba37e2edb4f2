//! A run's events as lines for people.

use core_types::{
    event::{RunEvent, attempt_of},
    usage::Usage,
};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use crate::console::{Console, Style};

/// The most lines of one text.
const LINES: usize = 12;
/// How much room time and speaker take.
const MARGIN: usize = 23;

/// Tells events as they come, each with its time since the first one of its run.
#[derive(Debug)]
pub(crate) struct Teller<'a> {
    console: &'a Console,
    since: Option<Timestamp>,
}

#[derive(Deserialize)]
struct Numbered {
    at: Timestamp,
    event: Value,
}

impl<'a> Teller<'a> {
    pub(crate) const fn new(console: &'a Console) -> Self {
        Self { console, since: None }
    }

    /// Tells one event, as the API shows it.
    pub(crate) fn tell(&mut self, event: &Value) -> std::io::Result<()> {
        self.console.value(event)?;
        let Ok(Numbered { at, event }) = Numbered::deserialize(event) else {
            return Ok(());
        };
        let seconds = at.duration_since(*self.since.get_or_insert(at)).as_secs_f64();
        let (style, who, text) = match RunEvent::deserialize(&event) {
            Ok(event) => describe(&event),
            // A newer server may know more kinds.
            Err(_) => (Style::Dim, "event", event.to_string()),
        };
        let width = usize::from(self.console.width).saturating_sub(MARGIN).max(20);
        for (index, part) in lines_of(&text, width).into_iter().enumerate() {
            let (time, who) =
                if index == 0 { (format!("{seconds:8.1} s"), who) } else { (" ".repeat(10), "") };
            let who = format!("  {who:<9} ");
            self.console.parts(&[(Style::Dim, &time), (style, &who), (Style::Plain, &part)])?;
        }
        Ok(())
    }
}

fn lines_of(text: &str, width: usize) -> Vec<String> {
    let all: Vec<&str> = text.lines().collect();
    let mut shown: Vec<String> = all.iter().take(LINES).map(|part| cut(part, width)).collect();
    if all.len() > LINES {
        shown.push(format!("… {} lines more", all.len() - LINES));
    }
    if shown.is_empty() {
        shown.push(String::new());
    }
    shown
}

/// The text, or as much of it as fits.
pub(crate) fn cut(part: &str, width: usize) -> String {
    if part.chars().count() <= width {
        return part.to_owned();
    }
    part.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

/// How it stands out, who did something, and what.
fn describe(event: &RunEvent) -> (Style, &'static str, String) {
    match event {
        RunEvent::Phase { name } => (Style::Cyan, "phase", name.clone()),
        RunEvent::AgentStarted { session: _, model, cli_version } => {
            (Style::Cyan, "agent", started(model.as_deref(), cli_version.as_deref()))
        }
        RunEvent::Text { text } => (Style::Bold, "says", text.clone()),
        RunEvent::ToolCall { id: _, tool, input } => {
            (Style::Plain, "calls", format!("{tool} {}", summary(input)))
        }
        RunEvent::ToolResult { id: _, is_error: false, text } => {
            (Style::Dim, "answer", text.clone())
        }
        RunEvent::ToolResult { id: _, is_error: true, text } => (Style::Red, "error", text.clone()),
        RunEvent::ToolDenied { tool, detail } => {
            (Style::Red, "denied", with_detail(tool, detail.as_deref()))
        }
        RunEvent::ModelRetry { attempt, max_attempts, status: _, reason } => (
            Style::Yellow,
            "retries",
            format!("model call {}: {reason}", attempt_of(*attempt, *max_attempts)),
        ),
        RunEvent::RateLimit { status, limit, utilization: _, resets_at: _ } => {
            (Style::Yellow, "limit", with_detail(status, limit.as_deref()))
        }
        RunEvent::AgentResult { is_error, text, usage } => {
            (Style::Cyan, "result", result(*is_error, text.as_deref(), usage))
        }
        RunEvent::AgentExited { status, leftovers_killed: 0 } => {
            (Style::Cyan, "agent", format!("ended: {status}"))
        }
        RunEvent::AgentExited { status, leftovers_killed } => (
            Style::Cyan,
            "agent",
            format!("ended: {status}; {leftovers_killed} processes it left were ended"),
        ),
        RunEvent::Output { stream, text } => (Style::Dim, "output", format!("{stream}: {text}")),
        RunEvent::OutputGap { dropped_bytes } => {
            (Style::Yellow, "output", format!("{dropped_bytes} bytes dropped"))
        }
        RunEvent::Verification { command, passed, status, output } => {
            let style = if *passed { Style::Green } else { Style::Red };
            (style, "verify", verification(command, *passed, status, output))
        }
        RunEvent::Commit { branch, commit, files_changed, pushed: _ } => {
            let commit: String = commit.chars().take(12).collect();
            let text = format!("{commit} on {branch}, files changed: {files_changed}");
            (Style::Green, "commit", text)
        }
        RunEvent::Notice { text } => (Style::Yellow, "notice", text.clone()),
        RunEvent::Ended { outcome, message } => {
            (Style::Cyan, "ended", with_detail(outcome.as_str(), message.as_deref()))
        }
    }
}

fn started(model: Option<&str>, version: Option<&str>) -> String {
    let version = version.map(|version| format!(", version {version}")).unwrap_or_default();
    let model = model.map(|model| format!(", model {model}")).unwrap_or_default();
    format!("started{version}{model}")
}

fn result(is_error: bool, text: Option<&str>, usage: &Usage) -> String {
    let verdict = if is_error { "failed" } else { "finished" };
    with_detail(&format!("{verdict}, {} tokens", usage.total_tokens()), text)
}

fn verification(command: &[String], passed: bool, status: &str, output: &str) -> String {
    let verdict = if passed { "passed" } else { "failed" };
    format!("{verdict} ({status}): {}\n{output}", shell_words::join(command))
}

fn with_detail(text: &str, detail: Option<&str>) -> String {
    detail.map_or_else(|| text.to_owned(), |detail| format!("{text}: {detail}"))
}

/// The part of a tool's input that says what it does.
fn summary(input: &Value) -> String {
    let told = ["command", "file_path", "filePath", "pattern", "path", "url", "description"];
    let found = told.iter().find_map(|key| input.get(key).and_then(Value::as_str));
    found.map_or_else(|| input.to_string(), |text| within_checkout(text).to_owned())
}

/// A path in the run's checkout as the agent's repository knows it; anything else as it is.
fn within_checkout(text: &str) -> &str {
    let after = text.split_once("/checkouts/run-").and_then(|(_, rest)| rest.split_once("/work/"));
    match after {
        Some((run, path)) if text.starts_with('/') && !run.contains('/') => path,
        Some(_) | None => text,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_tool_call_is_told_by_what_it_does() {
        let event = RunEvent::ToolCall {
            id: "1".to_owned(),
            tool: "Bash".to_owned(),
            input: json!({ "command": "cat a", "description": "show a" }),
        };
        assert_eq!(describe(&event), (Style::Plain, "calls", "Bash cat a".to_owned()));
    }

    #[test]
    fn a_path_in_the_checkout_is_told_without_the_way_there() {
        assert_eq!(within_checkout("/s/checkouts/run-1/work/src/a.rs"), "src/a.rs");
        assert_eq!(within_checkout("/etc/hosts"), "/etc/hosts");
    }

    #[test]
    fn long_texts_are_cut_and_say_so() {
        let told = lines_of(&"a\n".repeat(LINES + 3), 80);
        assert_eq!(told.len(), LINES + 1);
        assert_eq!(told.last().map(String::as_str), Some("… 3 lines more"));
        assert_eq!(lines_of(&"x".repeat(85), 80), [format!("{}…", "x".repeat(79))]);
    }
}
