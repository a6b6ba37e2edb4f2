//! Reading an agent's output as it comes.

use core_types::{event::RunEvent, usage::Usage};

use crate::{
    claude_code::reader::ClaudeReader,
    opencode::reader::OpencodeReader,
    verdict::{AgentEnd, Verdict},
};

/// Turns the bytes an agent writes into events, and in the end into a verdict.
///
/// Bytes may be cut anywhere, even inside a character: events and verdict depend on the bytes alone.
/// It never fails: what is no event of the agent's protocol comes out as [`RunEvent::Output`].
#[derive(Debug)]
pub enum StreamReader {
    /// Claude Code's `stream-json`.
    ClaudeCode(Box<ClaudeReader>),
    /// opencode's JSON lines.
    Opencode(Box<OpencodeReader>),
}

impl StreamReader {
    /// Takes bytes of standard output and gives the events that are complete now.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<RunEvent> {
        match self {
            Self::ClaudeCode(reader) => reader.push(bytes),
            Self::Opencode(reader) => reader.push(bytes),
        }
    }

    /// Takes bytes of standard error and gives the events that are complete now.
    pub fn push_stderr(&mut self, bytes: &[u8]) -> Vec<RunEvent> {
        match self {
            Self::ClaudeCode(reader) => reader.push_stderr(bytes),
            Self::Opencode(reader) => reader.push_stderr(bytes),
        }
    }

    /// Takes note that no more bytes come and gives the events of unfinished last lines.
    ///
    /// Without it [`Self::finish`] still counts those lines, but their events are lost.
    pub fn end_of_output(&mut self) -> Vec<RunEvent> {
        match self {
            Self::ClaudeCode(reader) => reader.end_of_output(),
            Self::Opencode(reader) => reader.end_of_output(),
        }
    }

    /// What the agent has used so far, for limits that hold while it works.
    #[must_use]
    pub fn usage(&self) -> Usage {
        match self {
            Self::ClaudeCode(reader) => reader.usage(),
            Self::Opencode(reader) => reader.usage(),
        }
    }

    /// Whether the agent has given its final word, so that its process should exit soon.
    ///
    /// One that lingers may be stopped: the verdict stays the result's. Goes back to `false` if the agent starts another turn.
    #[must_use]
    pub fn final_seen(&self) -> bool {
        match self {
            Self::ClaudeCode(reader) => reader.final_seen(),
            Self::Opencode(reader) => reader.final_seen(),
        }
    }

    /// Whether the last that was read is that a call of the model failed and is tried again, which may go on for ever
    /// and is no sign that the agent gets on.
    #[must_use]
    pub const fn only_repeats(&self) -> bool {
        match self {
            // It gives up by itself.
            Self::ClaudeCode(_) => false,
            Self::Opencode(reader) => reader.only_repeats(),
        }
    }

    /// The verdict of everything that was read and of how the process ended.
    #[must_use]
    pub fn finish(self, end: &AgentEnd) -> Verdict {
        match self {
            Self::ClaudeCode(reader) => reader.finish(end),
            Self::Opencode(reader) => reader.finish(end),
        }
    }
}
