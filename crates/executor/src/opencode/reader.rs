//! opencode's output: from bytes to events, keeping what the verdict will need.

use std::collections::VecDeque;

use core_types::{event::RunEvent, secret::Secret, usage::Usage};

use crate::{
    lines::{Line, LineSplitter},
    opencode::{
        message::{self, Failure, Message, Told, ToolUse},
        verdict,
    },
    tally::{Calls, plus},
    text::{event_text, event_value, mask, one_line},
    verdict::{AgentEnd, Verdict},
};

/// How many of the last lines that are no messages are kept to explain an end without a result.
const NOISE_LINES: usize = 20;
/// What a line of the log on standard error holds where a call of the model failed and is tried again.
const STREAM_ERROR: &str = "message=\"stream error\"";

/// Reads the output of one run of opencode.
#[derive(Debug, Default)]
pub struct OpencodeReader {
    secrets: Vec<Secret>,
    stdout: LineSplitter,
    stderr: LineSplitter,
    usage: Usage,
    pub(super) facts: Facts,
}

/// What a run told, as far as the verdict depends on it.
#[derive(Debug, Default)]
pub(super) struct Facts {
    pub(super) session: Option<String>,
    pub(super) calls: Calls,
    /// The last `error` line, forgotten when the model answers again.
    pub(super) error: Option<Failure>,
    /// How often in a row a call of the model failed and was tried again, and what was wrong the last time.
    pub(super) repeats: Option<(u32, String)>,
    /// Why the last answer of the model ended; `None` while one is under way.
    pub(super) finished: Option<String>,
    /// Whether the present or last answer asked for a tool.
    pub(super) asked_for_tools: bool,
    /// Whether the model answered at all.
    pub(super) answered: bool,
    pub(super) last_text: Option<String>,
    /// Last lines that are no messages, oldest first.
    pub(super) noise: VecDeque<String>,
}

impl Facts {
    /// Whether the last answer was the last word for sure: it asked for no tool, and no further call is under way.
    ///
    /// Some providers end an answer with `stop`, or with a word that opencode does not know, although it asks for
    /// tools; opencode then goes on.
    pub(super) fn is_final(&self) -> bool {
        let unsure = self.asked_for_tools || self.finished.as_deref() == Some("unknown");
        self.is_over() && !unsure && self.repeats.is_none()
    }

    /// Whether the last answer is the last word where opencode then ends by itself.
    pub(super) fn is_over(&self) -> bool {
        self.error.is_none() && self.finished.as_deref().is_some_and(|why| why != "tool-calls")
    }
}

impl OpencodeReader {
    /// A reader that masks these secrets wherever they occur.
    #[must_use]
    pub fn new(secrets: Vec<Secret>) -> Self {
        Self { secrets, ..Self::default() }
    }

    /// See [`crate::stream::StreamReader::push`].
    pub fn push(&mut self, bytes: &[u8]) -> Vec<RunEvent> {
        let lines = self.stdout.push(bytes);
        lines.into_iter().flat_map(|line| self.stdout_line(line)).collect()
    }

    /// See [`crate::stream::StreamReader::push_stderr`].
    pub fn push_stderr(&mut self, bytes: &[u8]) -> Vec<RunEvent> {
        let lines = self.stderr.push(bytes);
        lines.into_iter().map(|line| self.stderr_line(line)).collect()
    }

    /// See [`crate::stream::StreamReader::end_of_output`].
    pub fn end_of_output(&mut self) -> Vec<RunEvent> {
        let stdout = self.stdout.finish();
        let mut events: Vec<RunEvent> =
            stdout.into_iter().flat_map(|line| self.stdout_line(line)).collect();
        let stderr = self.stderr.finish();
        events.extend(stderr.map(|line| self.stderr_line(line)));
        events
    }

    /// See [`crate::stream::StreamReader::usage`].
    #[must_use]
    pub const fn usage(&self) -> Usage {
        self.usage
    }

    /// See [`crate::stream::StreamReader::final_seen`].
    #[must_use]
    pub fn final_seen(&self) -> bool {
        self.facts.is_final()
    }

    /// See [`crate::stream::StreamReader::only_repeats`].
    #[must_use]
    pub const fn only_repeats(&self) -> bool {
        self.facts.repeats.is_some()
    }

    /// See [`crate::stream::StreamReader::finish`].
    #[must_use]
    pub fn finish(mut self, end: &AgentEnd) -> Verdict {
        drop(self.end_of_output());
        let judgement = verdict::judge(&self.facts, end);
        Verdict {
            outcome: judgement.outcome,
            message: judgement.message,
            hint: judgement.hint,
            usage: self.usage,
            retry_at: judgement.retry_at,
            final_text: self.facts.last_text.map(|text| event_text(&text)),
            session: self.facts.session,
            session_lost: judgement.session_lost,
        }
    }

    fn stdout_line(&mut self, line: Line) -> Vec<RunEvent> {
        let Line::Whole(text) = line else {
            return vec![self.noise("stdout", line)];
        };
        let text = mask(text, &self.secrets);
        match message::parse(&text) {
            Some(told) => self.told(told),
            None => vec![self.noise("stdout", Line::Whole(text))],
        }
    }

    fn stderr_line(&mut self, line: Line) -> RunEvent {
        let line = match line {
            Line::Whole(text) => Line::Whole(mask(text, &self.secrets)),
            Line::Cut { start, dropped } => {
                Line::Cut { start: mask(start, &self.secrets), dropped }
            }
        };
        match &line {
            Line::Whole(text) if text.contains(STREAM_ERROR) => self.repeat(text),
            Line::Whole(_) | Line::Cut { .. } => self.noise("stderr", line),
        }
    }

    /// opencode repeats a failed call as often as it likes, and says so in its log only.
    fn repeat(&mut self, line: &str) -> RunEvent {
        let reason = logged_error(line);
        let before = self.facts.repeats.as_ref().map_or(0, |(count, _)| *count);
        let attempt = before.saturating_add(1);
        self.facts.repeats = Some((attempt, reason.clone()));
        RunEvent::ModelRetry { attempt, max_attempts: 0, status: None, reason }
    }

    fn noise(&mut self, stream: &str, line: Line) -> RunEvent {
        let text = match line {
            Line::Whole(text) => text,
            Line::Cut { start, dropped } => format!("{start}… [{dropped} bytes more]"),
        };
        if self.facts.noise.len() == NOISE_LINES {
            self.facts.noise.pop_front();
        }
        self.facts.noise.push_back(one_line(&text));
        RunEvent::Output { stream: stream.to_owned(), text: event_text(&text) }
    }

    fn told(&mut self, told: Told) -> Vec<RunEvent> {
        let mut events = Vec::new();
        if self.facts.session.is_none() && told.session.is_some() {
            self.facts.session.clone_from(&told.session);
            events.push(RunEvent::AgentStarted {
                session: told.session,
                model: None,
                cli_version: None,
            });
        }
        events.extend(self.message(told.message));
        events
    }

    fn message(&mut self, message: Message) -> Vec<RunEvent> {
        match message {
            Message::StepStart => {
                self.goes_on();
                self.facts.asked_for_tools = false;
                Vec::new()
            }
            Message::Text(text) => {
                self.goes_on();
                let event = RunEvent::Text { text: event_text(&text) };
                self.facts.last_text = Some(text);
                vec![event]
            }
            Message::Tool(used) => {
                self.goes_on();
                self.tool(used)
            }
            Message::StepFinish { reason, usage } => self.step_finish(reason, usage),
            Message::Error(failure) => self.failed(failure),
            Message::Other => Vec::new(),
        }
    }

    /// The model answers: whatever went wrong before is over.
    fn goes_on(&mut self) {
        self.facts.error = None;
        self.facts.repeats = None;
        self.facts.finished = None;
    }

    fn tool(&mut self, used: ToolUse) -> Vec<RunEvent> {
        self.facts.asked_for_tools = true;
        let calls = &mut self.facts.calls;
        calls.called(&used.id, &used.tool);
        calls.answered(&used.id, used.is_error, &used.text);
        let input = event_value(&used.input);
        let mut events =
            vec![RunEvent::ToolCall { id: used.id.clone(), tool: used.tool.clone(), input }];
        if used.denied && calls.denied(&used.id, &used.tool) {
            let detail = Some(one_line(&used.text));
            events.push(RunEvent::ToolDenied { tool: used.tool, detail });
        }
        events.push(RunEvent::ToolResult {
            id: used.id,
            is_error: used.is_error,
            text: event_text(&used.text),
        });
        events
    }

    fn step_finish(&mut self, reason: Option<String>, usage: Usage) -> Vec<RunEvent> {
        self.goes_on();
        self.usage = plus(self.usage, usage);
        self.facts.answered = true;
        self.facts.finished = Some(reason.unwrap_or_else(|| "unknown".to_owned()));
        if !self.facts.is_over() {
            return Vec::new();
        }
        let mut events = Vec::new();
        let calls = &self.facts.calls;
        if calls.denials() > 0 && calls.any_fine() {
            let text = format!("calls of {} were denied", calls.denied_tools());
            events.push(RunEvent::Notice { text });
        }
        let text = self.facts.last_text.as_deref().map(event_text);
        events.push(RunEvent::AgentResult { is_error: false, text, usage: self.usage });
        events
    }

    fn failed(&mut self, failure: Failure) -> Vec<RunEvent> {
        let text = Some(one_line(&failure.message));
        self.facts.error = Some(failure);
        vec![RunEvent::AgentResult { is_error: true, text, usage: self.usage }]
    }
}

/// What a line of the log says was wrong: `… error.error="AI_APICallError: Overloaded"`.
fn logged_error(line: &str) -> String {
    let told = line.split_once("error.error=").map_or(line, |(_, told)| told);
    let told = told.trim_matches('"');
    one_line(told.strip_prefix("AI_APICallError: ").unwrap_or(told))
}
