//! A run's events as lines for people.

use core_types::{
    event::{NumberedEvent, RunEvent, attempt_of},
    usage::Usage,
};
use jiff::Timestamp;
use serde_json::Value;

use crate::console::line;

/// Widest line of a text that is not the agent's own words.
const WIDTH: usize = 110;
/// The most lines of one text.
const LINES: usize = 12;

/// Tells a run's events as they come, each with its time since the task was submitted.
#[derive(Debug)]
pub(crate) struct Teller {
    since: Timestamp,
}

impl Teller {
    /// Tells times counted from `since`.
    #[must_use]
    pub(crate) const fn new(since: Timestamp) -> Self {
        Self { since }
    }

    /// Tells one event.
    pub(crate) fn tell(&self, event: &NumberedEvent) {
        let seconds = event.at.duration_since(self.since).as_secs_f64();
        let (who, text) = describe(&event.event);
        for (index, part) in lines_of(&text).into_iter().enumerate() {
            let time = if index == 0 { format!("{seconds:6.2} s") } else { " ".repeat(8) };
            let who = if index == 0 { who } else { "" };
            line(format!("  {time}  {who:<9} {part}"));
        }
    }
}

fn lines_of(text: &str) -> Vec<String> {
    let all: Vec<&str> = text.lines().collect();
    let mut shown: Vec<String> = all.iter().take(LINES).map(|part| cut(part)).collect();
    if all.len() > LINES {
        shown.push(format!("… {} lines more", all.len() - LINES));
    }
    if shown.is_empty() {
        shown.push(String::new());
    }
    shown
}

fn cut(part: &str) -> String {
    if part.chars().count() <= WIDTH {
        return part.to_owned();
    }
    part.chars().take(WIDTH).chain(['…']).collect()
}

/// Who did something, and what.
fn describe(event: &RunEvent) -> (&'static str, String) {
    match event {
        RunEvent::Phase { name } => ("phase", name.clone()),
        RunEvent::AgentStarted { session: _, model, cli_version } => {
            ("agent", started(model.as_deref(), cli_version.as_deref()))
        }
        RunEvent::Text { text } => ("says", text.clone()),
        RunEvent::ToolCall { id: _, tool, input } => {
            ("calls", format!("{tool} {}", summary(input)))
        }
        RunEvent::ToolResult { id: _, is_error: false, text } => ("answer", text.clone()),
        RunEvent::ToolResult { id: _, is_error: true, text } => ("error", text.clone()),
        RunEvent::ToolDenied { tool, detail } => ("denied", with_detail(tool, detail.as_deref())),
        RunEvent::ModelRetry { attempt, max_attempts, status: _, reason } => {
            ("retries", format!("model call {}: {reason}", attempt_of(*attempt, *max_attempts)))
        }
        RunEvent::RateLimit { status, limit, utilization: _, resets_at: _ } => {
            ("limit", with_detail(status, limit.as_deref()))
        }
        RunEvent::AgentResult { is_error, text, usage } => {
            ("result", result(*is_error, text.as_deref(), usage))
        }
        RunEvent::AgentExited { status, leftovers_killed: 0 } => {
            ("agent", format!("ended: {status}"))
        }
        RunEvent::AgentExited { status, leftovers_killed } => {
            ("agent", format!("ended: {status}; {leftovers_killed} processes it left were ended"))
        }
        RunEvent::Output { stream, text } => ("output", format!("{stream}: {text}")),
        RunEvent::OutputGap { dropped_bytes } => {
            ("output", format!("{dropped_bytes} bytes dropped"))
        }
        RunEvent::Verification { command, passed, status, output } => {
            ("verify", verification(command, *passed, status, output))
        }
        RunEvent::Commit { branch, commit, files_changed, pushed: _ } => {
            let commit: String = commit.chars().take(12).collect();
            ("commit", format!("{commit} on {branch}, files changed: {files_changed}"))
        }
        RunEvent::Notice { text } => ("notice", text.clone()),
        RunEvent::Ended { outcome, message } => {
            ("ended", with_detail(outcome.as_str(), message.as_deref()))
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
    format!("{verdict} ({status}): {}\n{output}", command.join(" "))
}

fn with_detail(text: &str, detail: Option<&str>) -> String {
    detail.map_or_else(|| text.to_owned(), |detail| format!("{text}: {detail}"))
}

/// The part of a tool's input that says what it does.
fn summary(input: &Value) -> String {
    let told = ["command", "file_path", "pattern", "path", "url", "description"];
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
        assert_eq!(describe(&event), ("calls", "Bash cat a".to_owned()));
    }

    #[test]
    fn a_path_in_the_checkout_is_told_without_the_way_there() {
        assert_eq!(within_checkout("/s/checkouts/run-1/work/src/a.rs"), "src/a.rs");
        assert_eq!(
            within_checkout("cat /s/checkouts/run-1/work/a"),
            "cat /s/checkouts/run-1/work/a"
        );
        assert_eq!(within_checkout("/etc/hosts"), "/etc/hosts");
    }

    #[test]
    fn long_texts_are_cut_and_say_so() {
        let text = "a\n".repeat(LINES + 3);
        let told = lines_of(&text);
        assert_eq!(told.len(), LINES + 1);
        assert_eq!(told.last().map(String::as_str), Some("… 3 lines more"));
        assert_eq!(lines_of(&"x".repeat(WIDTH + 5)), [format!("{}…", "x".repeat(WIDTH))]);
    }
}
