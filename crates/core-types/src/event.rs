//! The events of a run: one type whatever agent wrote them, stored, streamed and shown as they are.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{outcome::RunOutcome, usage::Usage};

/// Longest text kept in one event, in bytes; longer ones are cut at a character and say so.
pub const EVENT_TEXT_LIMIT: usize = 32 * 1024;

/// One thing that happened in a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum RunEvent {
    /// The run went to a new phase: `preparing`, `agent`, `verifying`, `committing`.
    Phase { name: String },
    /// The agent's CLI said hello. Proves nothing about its login.
    AgentStarted { session: Option<String>, model: Option<String>, cli_version: Option<String> },
    /// The agent wrote a text.
    Text { text: String },
    /// The agent calls a tool.
    ToolCall { id: String, tool: String, input: Value },
    /// A tool answered.
    ToolResult { id: String, is_error: bool, text: String },
    /// A tool call was denied.
    ToolDenied { tool: String, detail: Option<String> },
    /// The CLI tries a failed model call again; `max_attempts` is 0 where it does so for ever.
    ModelRetry { attempt: u32, max_attempts: u32, status: Option<u16>, reason: String },
    /// The provider told how much of the account's limit is used.
    RateLimit {
        status: String,
        limit: Option<String>,
        utilization: Option<f64>,
        resets_at: Option<Timestamp>,
    },
    /// The agent's CLI gave its final word.
    AgentResult { is_error: bool, text: Option<String>, usage: Usage },
    /// The agent's process ended.
    AgentExited { status: String, leftovers_killed: u32 },
    /// A line that is no event of the agent's protocol (a warning, a crash, noise).
    Output { stream: String, text: String },
    /// Output was dropped because there was too much of it.
    OutputGap { dropped_bytes: u64 },
    /// A verification command ran.
    Verification { command: Vec<String>, passed: bool, status: String, output: String },
    /// The result was committed.
    Commit {
        branch: String,
        commit: String,
        files_changed: u32,
        /// Whether the branch is in a repository of another host.
        #[serde(default)]
        pushed: bool,
    },
    /// Something a reader should know.
    Notice { text: String },
    /// The run ended; always the last event.
    Ended { outcome: RunOutcome, message: Option<String> },
}

impl RunEvent {
    /// The value of the field `kind`.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Phase { .. } => "phase",
            Self::AgentStarted { .. } => "agent_started",
            Self::Text { .. } => "text",
            Self::ToolCall { .. } => "tool_call",
            Self::ToolResult { .. } => "tool_result",
            Self::ToolDenied { .. } => "tool_denied",
            Self::ModelRetry { .. } => "model_retry",
            Self::RateLimit { .. } => "rate_limit",
            Self::AgentResult { .. } => "agent_result",
            Self::AgentExited { .. } => "agent_exited",
            Self::Output { .. } => "output",
            Self::OutputGap { .. } => "output_gap",
            Self::Verification { .. } => "verification",
            Self::Commit { .. } => "commit",
            Self::Notice { .. } => "notice",
            Self::Ended { .. } => "ended",
        }
    }
}

/// An event with its place in the run: numbers start at 1 and have no holes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NumberedEvent {
    /// The place in the run.
    pub seq: i64,
    /// When it happened, by the clock of the machine it happened on.
    pub at: Timestamp,
    /// What happened.
    pub event: RunEvent,
}

/// Cuts a text to `limit` bytes at a character boundary and says how much is missing.
#[must_use]
pub fn cut_text(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(limit);
    let (kept, dropped) = text.split_at(end);
    format!("{kept}… [{} bytes more]", dropped.len())
}

/// An attempt of at most so many, for people; of how many is left out where there is no end to them.
#[must_use]
pub fn attempt_of(attempt: u32, max_attempts: u32) -> String {
    match max_attempts {
        0 => attempt.to_string(),
        most => format!("{attempt} of {most}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kind_matches_the_serialized_tag() {
        let event = RunEvent::Notice { text: "x".to_owned() };
        let json = serde_json::to_value(&event).unwrap();
        assert_eq!(json.get("kind").and_then(Value::as_str), Some(event.kind()));
    }

    #[test]
    fn an_attempt_without_end_says_no_number_of_them() {
        assert_eq!(attempt_of(2, 3), "2 of 3");
        assert_eq!(attempt_of(7, 0), "7");
    }

    #[test]
    fn a_cut_text_ends_at_a_character_and_says_so() {
        assert_eq!(cut_text("héllo", 2), "h… [5 bytes more]");
        assert_eq!(cut_text("short", 5), "short");
    }
}
