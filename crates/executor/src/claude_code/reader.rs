//! Claude Code's output: from bytes to events, keeping what the verdict will need.

use std::collections::VecDeque;

use core_types::{event::RunEvent, secret::Secret, usage::Usage};

use crate::{
    claude_code::{
        message::{self, Assistant, Block, FinalWord, Message, RateLimit, ToolAnswer},
        tokens::Tokens,
        verdict,
    },
    lines::{Line, LineSplitter},
    tally::Calls,
    text::{event_text, event_value, mask, one_line},
    verdict::{AgentEnd, Verdict},
};

/// How many of the last lines that are no messages are kept to explain an end without a result.
const NOISE_LINES: usize = 20;

/// Reads the output of one run of Claude Code.
#[derive(Debug, Default)]
pub struct ClaudeReader {
    secrets: Vec<Secret>,
    stdout: LineSplitter,
    stderr: LineSplitter,
    tokens: Tokens,
    pub(super) facts: Facts,
}

/// What a run told, as far as the verdict depends on it.
#[derive(Debug, Default)]
pub(super) struct Facts {
    pub(super) session: Option<String>,
    /// Where the CLI says its key is from; `none` is a login or nothing.
    pub(super) key_source: Option<String>,
    pub(super) calls: Calls,
    pub(super) rate_limit: Option<RateLimit>,
    /// The model's last failure, forgotten when it answers again.
    pub(super) error: Option<String>,
    /// HTTP status and reason of the last repeated call, forgotten likewise.
    pub(super) retry: Option<(Option<u16>, String)>,
    pub(super) last_text: Option<String>,
    pub(super) final_word: Option<FinalWord>,
    /// Whether the agent went on after its final word.
    pub(super) went_on: bool,
    /// Last lines that are no messages, oldest first.
    pub(super) noise: VecDeque<String>,
}

impl Facts {
    /// The final word, if it was the last one.
    pub(super) fn result(&self) -> Option<&FinalWord> {
        self.final_word.as_ref().filter(|_| !self.went_on)
    }
}

impl ClaudeReader {
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
    pub fn usage(&self) -> Usage {
        self.tokens.all()
    }

    /// See [`crate::stream::StreamReader::final_seen`].
    #[must_use]
    pub fn final_seen(&self) -> bool {
        self.facts.result().is_some()
    }

    /// See [`crate::stream::StreamReader::finish`].
    #[must_use]
    pub fn finish(mut self, end: &AgentEnd) -> Verdict {
        drop(self.end_of_output());
        let judgement = verdict::judge(&self.facts, end);
        let final_text = self.facts.result().and_then(|word| word.text.clone());
        Verdict {
            outcome: judgement.outcome,
            message: judgement.message,
            hint: judgement.hint,
            usage: self.usage(),
            retry_at: judgement.retry_at,
            final_text: final_text.or(self.facts.last_text).map(|text| event_text(&text)),
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
            Some(message) => self.message(message),
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
        self.noise("stderr", line)
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

    fn message(&mut self, message: Message) -> Vec<RunEvent> {
        match message {
            Message::Init { session, model, version, key_source } => {
                self.facts.went_on = self.facts.final_word.is_some();
                self.facts.session.clone_from(&session);
                self.facts.key_source = key_source;
                vec![RunEvent::AgentStarted { session, model, cli_version: version }]
            }
            Message::ApiRetry { attempt, max_attempts, status, reason } => {
                self.facts.retry = Some((status, reason.clone()));
                vec![RunEvent::ModelRetry { attempt, max_attempts, status, reason }]
            }
            Message::PermissionDenied { call, tool, detail } => {
                self.facts.calls.denied(&call.unwrap_or_default(), &tool);
                vec![RunEvent::ToolDenied { tool, detail: detail.as_deref().map(one_line) }]
            }
            Message::RateLimit(limit) => self.rate_limit(limit),
            Message::Assistant(answer) => self.assistant(answer),
            Message::Tools(answers) => answers.into_iter().map(|a| self.tool_answer(a)).collect(),
            Message::Final(word) => self.final_word(*word),
            Message::Other => Vec::new(),
        }
    }

    /// The CLI repeats what it knows with every turn; only news becomes an event.
    fn rate_limit(&mut self, limit: RateLimit) -> Vec<RunEvent> {
        if self.facts.rate_limit.as_ref() == Some(&limit) {
            return Vec::new();
        }
        let event = RunEvent::RateLimit {
            status: limit.status.clone(),
            limit: limit.limit.clone(),
            utilization: limit.utilization,
            resets_at: limit.resets_at,
        };
        self.facts.rate_limit = Some(limit);
        vec![event]
    }

    fn assistant(&mut self, answer: Assistant) -> Vec<RunEvent> {
        self.facts.went_on = self.facts.final_word.is_some();
        self.tokens.add(answer.id.as_deref(), answer.usage);
        if answer.error.is_none() {
            self.facts.retry = None;
        }
        self.facts.error = answer.error;
        answer.blocks.into_iter().map(|block| self.block(block)).collect()
    }

    fn block(&mut self, block: Block) -> RunEvent {
        match block {
            Block::Text(text) => {
                let event = RunEvent::Text { text: event_text(&text) };
                self.facts.last_text = Some(text);
                event
            }
            Block::Call { id, tool, input } => {
                self.facts.calls.called(&id, &tool);
                RunEvent::ToolCall { id, tool, input: event_value(&input) }
            }
        }
    }

    fn tool_answer(&mut self, answer: ToolAnswer) -> RunEvent {
        self.facts.calls.answered(&answer.call, answer.is_error, &answer.text);
        RunEvent::ToolResult {
            id: answer.call,
            is_error: answer.is_error,
            text: event_text(&answer.text),
        }
    }

    fn final_word(&mut self, word: FinalWord) -> Vec<RunEvent> {
        self.tokens.told(word.usage, word.share);
        let mut events = Vec::new();
        for (call, tool) in &word.denials {
            if self.facts.calls.denied(call, tool) {
                events.push(RunEvent::ToolDenied { tool: tool.clone(), detail: None });
            }
        }
        if self.facts.calls.denials() > 0 && self.facts.calls.any_fine() {
            let tools = self.facts.calls.denied_tools();
            events.push(RunEvent::Notice { text: format!("calls of {tools} were denied") });
        }
        let text = word.text.clone().or_else(|| word.errors.first().cloned());
        events.push(RunEvent::AgentResult {
            is_error: word.is_error || word.subtype != "success",
            text: text.as_deref().map(event_text),
            usage: self.tokens.all(),
        });
        self.facts.session = word.session.clone().or_else(|| self.facts.session.take());
        self.facts.final_word = Some(word);
        self.facts.went_on = false;
        events
    }
}
