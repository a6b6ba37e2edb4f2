//! A run's events as lines for people.
//!
//! What an agent printed is shown on somebody's terminal: characters that would move its cursor, or turn the direction of
//! the text, are replaced.

use core_types::event::{RunEvent, attempt_of, cut_text};
use jiff::{Timestamp, fmt::strtime};
use serde_json::Value;
use store::runs::StoredEvent;

/// How much of a tool's input and answer is shown, in bytes; the events have all of it.
const TOOL_LIMIT: usize = 2_000;

/// An event as lines, each with a line end: the time and a word before the first, the others indented.
pub(crate) fn lines(event: &StoredEvent) -> String {
    let (word, text) = match serde_json::from_value::<RunEvent>(event.event.clone()) {
        Ok(known) => told(known),
        Err(_) => unknown(&event.event),
    };
    let mut lines = String::new();
    for (index, line) in text.trim_end().split('\n').enumerate() {
        let line: String = line.trim_end_matches('\r').chars().map(harmless).collect();
        if index == 0 {
            lines.extend([time(event.at), format!(" {word:<8} ")]);
        } else {
            lines.push_str("    ");
        }
        lines.push_str(line.trim_end());
        lines.truncate(lines.trim_end_matches(' ').len());
        lines.push('\n');
    }
    lines
}

fn time(at: Timestamp) -> String {
    strtime::format("%Y-%m-%dT%H:%M:%SZ", at).unwrap_or_else(|_| at.to_string())
}

fn harmless(c: char) -> char {
    let turns = matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if (c.is_control() && c != '\t') || turns { '\u{fffd}' } else { c }
}

/// A word for the kind of event, and what happened.
fn told(event: RunEvent) -> (&'static str, String) {
    match event {
        RunEvent::Phase { name } => ("phase", name),
        RunEvent::AgentStarted { session, model, cli_version } => {
            let parts = [
                cli_version.map(|version| format!("version {version}")),
                model.map(|model| format!("model {model}")),
                session.map(|session| format!("session {session}")),
            ];
            let parts: Vec<String> = parts.into_iter().flatten().collect();
            ("agent", format!("started: {}", parts.join(", ")))
        }
        RunEvent::Text { text } => ("text", text),
        RunEvent::ToolCall { tool, input, .. } => {
            ("tool", format!("{tool} {}", cut_text(&input.to_string(), TOOL_LIMIT)))
        }
        RunEvent::ToolResult { is_error, text, .. } => {
            (if is_error { "failed" } else { "result" }, cut_text(&text, TOOL_LIMIT))
        }
        RunEvent::ToolDenied { tool, detail } => {
            ("denied", format!("{tool} {}", detail.unwrap_or_default()))
        }
        RunEvent::ModelRetry { attempt, max_attempts, status, reason } => {
            let status = status.map(|status| format!(" (status {status})")).unwrap_or_default();
            ("retry", format!("{}: {reason}{status}", attempt_of(attempt, max_attempts)))
        }
        RunEvent::RateLimit { status, limit, utilization, resets_at } => {
            let used = utilization.map(|used| format!(", {:.0} % used", used * 100.0));
            let resets = resets_at.map(|at| format!(", resets at {}", time(at)));
            let limit = limit.map(|limit| format!(" of `{limit}`"));
            let parts = [limit, used, resets].into_iter().flatten().collect::<String>();
            ("limit", format!("{status}{parts}"))
        }
        RunEvent::AgentResult { is_error, text, usage } => {
            let tokens = usage.total_tokens();
            let said = text.map(|text| format!(": {text}")).unwrap_or_default();
            let how = if is_error { "an error" } else { "done" };
            ("result", format!("{how} after {} turns and {tokens} tokens{said}", usage.turns))
        }
        RunEvent::AgentExited { status, leftovers_killed } => {
            ("agent", format!("ended: {status}, {leftovers_killed} leftovers ended"))
        }
        RunEvent::Output { stream, text } => ("output", format!("{stream}: {text}")),
        RunEvent::OutputGap { dropped_bytes } => {
            ("output", format!("{dropped_bytes} bytes dropped"))
        }
        RunEvent::Verification { command, passed, status, output } => {
            let how = if passed { "passed" } else { "failed" };
            ("verify", format!("{how} ({status}): {}\n{output}", command.join(" ")))
        }
        RunEvent::Commit { branch, commit, files_changed, pushed } => {
            let pushed = if pushed { ", pushed" } else { "" };
            ("commit", format!("{commit} on {branch}, {files_changed} files changed{pushed}"))
        }
        RunEvent::Notice { text } => ("notice", text),
        RunEvent::Ended { outcome, message } => {
            let said = message.map(|message| format!(": {message}")).unwrap_or_default();
            ("ended", format!("{outcome}{said}"))
        }
    }
}

/// An event of a kind that only a newer version knows.
fn unknown(event: &Value) -> (&'static str, String) {
    ("event", cut_text(&event.to_string(), TOOL_LIMIT))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shown(event: Value) -> String {
        lines(&StoredEvent { seq: 1, at: "2026-01-02T03:04:05.678Z".parse().unwrap(), event })
    }

    #[test]
    fn each_event_is_a_line_with_its_time_and_further_lines_are_indented() {
        let text = shown(json!({ "kind": "text", "text": "one\r\ntwo\n\nthree\n" }));
        assert_eq!(text, "2026-01-02T03:04:05Z text     one\n    two\n\n    three\n");
        let ended = shown(json!({ "kind": "ended", "outcome": "succeeded", "message": null }));
        assert_eq!(ended, "2026-01-02T03:04:05Z ended    succeeded\n");
        let empty = shown(json!({ "kind": "text", "text": "" }));
        assert_eq!(empty, "2026-01-02T03:04:05Z text\n");
    }

    #[test]
    fn what_would_move_a_terminals_cursor_is_replaced() {
        let text = shown(json!({ "kind": "text", "text": "a\u{1b}[2Jb\u{202e}c\td" }));
        assert!(text.ends_with("a\u{fffd}[2Jb\u{fffd}c\td\n"), "{text:?}");
    }

    #[test]
    fn an_event_of_an_unknown_kind_is_shown_as_it_is() {
        assert!(shown(json!({ "kind": "dance", "steps": 3 })).contains(r#""steps":3"#));
    }
}
