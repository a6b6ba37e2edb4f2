//! A run's events as people are told them: who did something, and what, in lines that fit.
//!
//! Colours and the time in front of a line are the caller's business.

use core_types::{
    event::{RunEvent, attempt_of},
    usage::Usage,
};
use serde_json::Value;

/// The most lines of one text.
const LINES: usize = 12;

/// What an event says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// How it stands out.
    pub tone: Tone,
    /// Who did something, in one word.
    pub who: &'static str,
    /// What, on as many lines as it has.
    pub text: String,
}

/// How something that is told stands out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// Not at all.
    Plain,
    /// Less than others: what a tool answered.
    Dim,
    /// As the agent's own words.
    Words,
    /// As a step of the run.
    Step,
    /// As something that went well.
    Good,
    /// As something that is not as it should be, and may pass.
    Odd,
    /// As something that went wrong.
    Bad,
}

/// A text as lines that fit, and at most twelve of them.
#[must_use]
pub fn lines_of(text: &str, width: usize) -> Vec<String> {
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
#[must_use]
pub fn cut(part: &str, width: usize) -> String {
    if part.chars().count() <= width {
        return part.to_owned();
    }
    part.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

/// How an event stands out, who did something, and what.
#[must_use]
pub fn describe(event: &RunEvent) -> Told {
    let (tone, who, text) = match event {
        RunEvent::Phase { name } => (Tone::Step, "phase", name.clone()),
        RunEvent::AgentStarted { session: _, model, cli_version } => {
            (Tone::Step, "agent", started(model.as_deref(), cli_version.as_deref()))
        }
        RunEvent::Text { text } => (Tone::Words, "says", text.clone()),
        RunEvent::ToolCall { id: _, tool, input } => {
            (Tone::Plain, "calls", format!("{tool} {}", summary(input)))
        }
        RunEvent::ToolResult { id: _, is_error: false, text } => {
            (Tone::Dim, "answer", text.clone())
        }
        RunEvent::ToolResult { id: _, is_error: true, text } => (Tone::Bad, "error", text.clone()),
        RunEvent::ToolDenied { tool, detail } => {
            (Tone::Bad, "denied", with_detail(tool, detail.as_deref()))
        }
        RunEvent::ModelRetry { attempt, max_attempts, status: _, reason } => (
            Tone::Odd,
            "retries",
            format!("model call {}: {reason}", attempt_of(*attempt, *max_attempts)),
        ),
        RunEvent::RateLimit { status, limit, utilization: _, resets_at: _ } => {
            (Tone::Odd, "limit", with_detail(status, limit.as_deref()))
        }
        RunEvent::AgentResult { is_error, text, usage } => {
            (Tone::Step, "result", result(*is_error, text.as_deref(), usage))
        }
        RunEvent::AgentExited { status, leftovers_killed: 0 } => {
            (Tone::Step, "agent", format!("ended: {status}"))
        }
        RunEvent::AgentExited { status, leftovers_killed } => (
            Tone::Step,
            "agent",
            format!("ended: {status}; {leftovers_killed} processes it left were ended"),
        ),
        RunEvent::Output { stream, text } => (Tone::Dim, "output", format!("{stream}: {text}")),
        RunEvent::OutputGap { dropped_bytes } => {
            (Tone::Odd, "output", format!("{dropped_bytes} bytes dropped"))
        }
        RunEvent::Verification { command, passed, status, output } => {
            let tone = if *passed { Tone::Good } else { Tone::Bad };
            (tone, "verify", verification(command, *passed, status, output))
        }
        RunEvent::Commit { branch, commit, files_changed, pushed: _ } => {
            let commit: String = commit.chars().take(12).collect();
            let text = format!("{commit} on {branch}, files changed: {files_changed}");
            (Tone::Good, "commit", text)
        }
        RunEvent::Notice { text } => (Tone::Odd, "notice", text.clone()),
        RunEvent::Ended { outcome, message } => {
            (Tone::Step, "ended", with_detail(outcome.as_str(), message.as_deref()))
        }
    };
    Told { tone, who, text }
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
        let Told { tone, who, text } = describe(&event);
        assert_eq!((tone, who, text.as_str()), (Tone::Plain, "calls", "Bash cat a"));
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
