//! The output of a launch as a reader sees it: chunks at byte offsets, with explicit gaps.
//!
//! It owns the words. How the bytes lie on disk is the business of `launch::log`.

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A place in the output: how many bytes the command had written before it, both streams together.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct LogCursor(pub u64);

impl LogCursor {
    /// Before the first byte.
    pub const START: Self = Self(0);
}

/// The stream that a chunk was written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Some output, or the place of some that is not kept. Chunks follow each other without holes:
/// each begins where the one before it says.
///
/// A chunk ends anywhere, also within a line or a character.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogChunk {
    /// Where it begins.
    pub offset: u64,
    /// Where to read on.
    pub next: LogCursor,
    /// When it was read from the command; for a gap, when the first byte after it was, or when the
    /// launch ended.
    pub at: Timestamp,
    /// What is there.
    pub content: LogContent,
}

/// What a chunk holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogContent {
    /// Bytes as the command wrote them.
    Output {
        /// Where the command wrote them.
        stream: LogStream,
        /// At least one byte.
        data: Bytes,
    },
    /// Bytes that were written and are not kept: the cap was reached or the disk was full.
    Gap {
        /// How many.
        dropped_bytes: u64,
    },
}
