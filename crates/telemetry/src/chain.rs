//! An error and its causes as one line: `a: b: c`.

use std::{error::Error, fmt};

/// Shows an error with all its causes on one line, each level once.
#[must_use]
pub fn error_chain(error: &dyn Error) -> impl fmt::Display + '_ {
    Chain(error)
}

struct Chain<'a>(&'a dyn Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut above = OneLine(self.0).to_string();
        f.write_str(&above)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            let text = OneLine(error).to_string();
            // A transparent wrapper, or one that names its cause itself, would say the same twice.
            if !above.ends_with(&text) {
                write!(f, ": {text}")?;
            }
            above = text;
            cause = error.source();
        }
        Ok(())
    }
}

/// The text of one level, with line breaks turned into spaces.
struct OneLine<'a>(&'a dyn Error);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string();
        let lines: Vec<&str> =
            text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        f.write_str(&lines.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Level {
        text: &'static str,
        #[source]
        cause: Option<Box<Self>>,
    }

    fn chain_of(texts: &[&'static str]) -> String {
        let level =
            texts.iter().rev().fold(None, |cause, text| Some(Box::new(Level { text, cause })));
        error_chain(level.unwrap().as_ref()).to_string()
    }

    #[test]
    fn every_level_is_said_once_on_one_line() {
        assert_eq!(
            chain_of(&["launch run", "cannot start", "no such file"]),
            "launch run: cannot start: no such file"
        );
    }

    #[test]
    fn a_level_that_repeats_its_cause_is_not_said_twice() {
        assert_eq!(chain_of(&["launch: no such file", "no such file"]), "launch: no such file");
    }

    #[test]
    fn line_breaks_do_not_reach_the_line() {
        assert_eq!(chain_of(&["2 faults\n  one\n  two"]), "2 faults; one; two");
    }
}
