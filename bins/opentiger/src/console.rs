//! What people and programs read: the only module that writes to standard output and standard error.
//!
//! Whatever comes from outside is shown without its control characters: a title, an agent's words or a file must not
//! move the cursor, change colours or reorder text on somebody's terminal.

use std::io::{self, Write as _};

use serde::Serialize;

use crate::{code::Code, failure::Failure, surroundings::Surroundings};

/// How a part of a line stands out on a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    Plain,
    Bold,
    Dim,
    Red,
    Green,
    Yellow,
    Cyan,
}

impl Style {
    const fn sequence(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Bold => Some("\x1b[1m"),
            Self::Dim => Some("\x1b[2m"),
            Self::Red => Some("\x1b[31m"),
            Self::Green => Some("\x1b[32m"),
            Self::Yellow => Some("\x1b[33m"),
            Self::Cyan => Some("\x1b[36m"),
        }
    }
}

/// Where output goes, and in which form.
#[derive(Debug, Clone)]
pub(crate) struct Console {
    /// Whether programs read it: one JSON value, or one to a line, and nothing else.
    pub(crate) json: bool,
    /// Whether standard output is a terminal that takes more than plain lines.
    pub(crate) terminal: bool,
    /// The width of a line.
    pub(crate) width: u16,
    colour: bool,
    progress: bool,
}

impl Console {
    pub(crate) fn new(surroundings: &Surroundings, json: bool) -> Self {
        Self {
            json,
            terminal: surroundings.terminal,
            width: surroundings.width,
            colour: surroundings.terminal && surroundings.colour,
            progress: surroundings.error_terminal && !json,
        }
    }

    /// Whether a line that moves may be shown on standard error.
    pub(crate) const fn shows_progress(&self) -> bool {
        self.progress
    }

    /// Writes one line for people; nothing where programs read.
    pub(crate) fn line(&self, text: impl AsRef<str>) -> io::Result<()> {
        self.parts(&[(Style::Plain, text.as_ref())])
    }

    /// Writes one line whose parts stand out on a terminal.
    pub(crate) fn parts(&self, parts: &[(Style, &str)]) -> io::Result<()> {
        if self.json {
            return Ok(());
        }
        let mut line = String::new();
        for (style, text) in parts {
            let sequence = style.sequence().filter(|_| self.colour);
            line.push_str(sequence.unwrap_or_default());
            line.push_str(&clean(text));
            line.push_str(if sequence.is_some() { "\x1b[0m" } else { "" });
        }
        let mut out = io::stdout().lock();
        writeln!(out, "{line}")?;
        out.flush()
    }

    /// Writes one JSON value for programs; nothing where people read.
    pub(crate) fn value(&self, value: &impl Serialize) -> io::Result<()> {
        if !self.json {
            return Ok(());
        }
        let mut out = io::stdout().lock();
        serde_json::to_writer(&mut out, value).map_err(io::Error::from)?;
        writeln!(out)?;
        out.flush()
    }

    /// Writes bytes as they are, for a program that reads them, such as `git apply` or a shell.
    pub(crate) fn raw(&self, bytes: &[u8]) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(bytes)?;
        out.flush()
    }

    /// Writes a remark for people to standard error, where it is in no program's way.
    pub(crate) fn remark(&self, text: impl AsRef<str>) {
        // Nobody who reads it is no reason to stop what is under way.
        writeln!(io::stderr().lock(), "{}", clean(text.as_ref())).ok();
    }

    /// Rewrites the line that moves.
    pub(crate) fn moving(&self, text: &str) {
        let room = usize::from(self.width.saturating_sub(1));
        let text: String = clean(text).chars().take(room).collect();
        let mut err = io::stderr().lock();
        write!(err, "\r\x1b[2K{text}").ok();
        err.flush().ok();
    }

    /// Takes the line that moves away.
    pub(crate) fn still(&self) {
        let mut err = io::stderr().lock();
        write!(err, "\r\x1b[2K").ok();
        err.flush().ok();
    }

    /// Tells how the command ended.
    pub(crate) fn end(&self, outcome: Result<Code, Failure>) -> Code {
        let failure = match outcome {
            Ok(code) => return code,
            Err(failure) => failure,
        };
        if let Some(text) = &failure.text {
            self.remark(format!("opentiger: {text}"));
        }
        for note in &failure.notes {
            self.remark(format!("  {note}"));
        }
        if let Some(hint) = &failure.hint {
            self.remark(format!("hint: {hint}"));
        }
        failure.code
    }
}

/// The text without what could do more on a terminal than be read.
pub(crate) fn clean(text: &str) -> String {
    let shown = |character: char| match character {
        '\n' | '\t' => character,
        // Overrides of the direction of writing: what is read would not be what is there.
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
        _ if character.is_control() => '\u{fffd}',
        _ => character,
    };
    text.chars().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_outside_cannot_control_the_terminal() {
        assert_eq!(
            clean("a\x1b[2Jb\r\x07\u{9b}c\u{202e}d"),
            "a\u{fffd}[2Jb\u{fffd}\u{fffd}\u{fffd}c\u{fffd}d"
        );
        assert_eq!(clean("two\n\tlines, ü"), "two\n\tlines, ü");
    }
}
