//! What people read on the terminal. The only module that writes to standard output or standard error.

use std::{
    io::{self, Write as _},
    time::{Duration, Instant},
};

use anyhow::{Error, Result};

/// Writes one line to standard output. A closed terminal is no reason to stop what is under way.
pub(crate) fn line(text: impl AsRef<str>) {
    drop(writeln!(io::stdout().lock(), "{}", text.as_ref()));
}

/// Writes one line to standard error.
pub(crate) fn error_line(text: impl AsRef<str>) {
    drop(writeln!(io::stderr().lock(), "{}", text.as_ref()));
}

/// A failure that the program which was run has told already.
#[derive(Debug)]
pub(crate) struct AlreadyTold;

impl std::error::Error for AlreadyTold {}

impl std::fmt::Display for AlreadyTold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("failed; see above")
    }
}

/// Writes an error with its causes on one line.
pub(crate) fn fault(error: &Error) {
    if !error.is::<AlreadyTold>() {
        error_line(format!("xtask: {error:#}"));
    }
}

/// Asks a question that is answered by yes or no; no answer at all is a no.
pub(crate) fn confirm(question: &str) -> Result<bool> {
    let mut out = io::stdout().lock();
    write!(out, "{question} [y/N] ")?;
    out.flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// A length of time as people read it: `87 ms`, `3.2 s`, `2 min 05 s`.
#[must_use]
pub(crate) fn duration(length: Duration) -> String {
    let millis = length.as_millis();
    match length.as_secs() {
        0 => format!("{millis} ms"),
        1..=59 => format!("{:.1} s", length.as_secs_f64()),
        seconds => format!("{} min {:02} s", seconds / 60, seconds % 60),
    }
}

/// The steps of a command and how long each took, told as they end and once more at the end.
#[derive(Debug, Default)]
pub(crate) struct Steps {
    done: Vec<(String, Duration)>,
}

impl Steps {
    /// Runs a step and tells how long it took.
    pub(crate) fn time<T>(&mut self, name: &str, step: impl FnOnce() -> Result<T>) -> Result<T> {
        let started = Instant::now();
        let result = step();
        if result.is_ok() {
            self.add(name, started.elapsed());
        }
        result
    }

    /// Notes a step that ended and tells it.
    pub(crate) fn add(&mut self, name: &str, took: Duration) {
        line(format!("  {name:<28} {:>12}", duration(took)));
        self.note(name, took);
    }

    /// Notes a step for the table at the end.
    pub(crate) fn note(&mut self, name: &str, took: Duration) {
        self.done.push((name.to_owned(), took));
    }

    /// Writes the table of all steps.
    pub(crate) fn table(&self, title: &str) {
        line(format!("\n{title}"));
        for (name, took) in &self.done {
            line(format!("  {name:<28} {:>12}", duration(*took)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_are_written_in_their_unit() {
        assert_eq!(duration(Duration::from_millis(87)), "87 ms");
        assert_eq!(duration(Duration::from_millis(3_240)), "3.2 s");
        assert_eq!(duration(Duration::from_secs(125)), "2 min 05 s");
    }
}
