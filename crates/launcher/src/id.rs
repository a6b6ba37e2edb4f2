//! The name of a launch. It owns the rule for such names and nothing else.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// The longest launch id in bytes.
pub const MAX_LENGTH: usize = 63;

/// The caller's name for one launch: 1 to 63 of `a-z 0-9 . _ -`, starting with a letter or digit.
///
/// The same rule makes it a safe directory name, cgroup name and container name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LaunchId(String);

/// A text that is no launch id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no launch id: 1 to 63 of `a-z 0-9 . _ -`, starting with a letter or digit")]
pub struct LaunchIdError {
    /// The text as it was given, cut at 80 characters.
    pub text: String,
}

impl LaunchId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for LaunchId {
    type Err = LaunchIdError;

    fn from_str(text: &str) -> Result<Self, LaunchIdError> {
        let first_fits = text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
        let all_fit = text.bytes().all(|b| {
            b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-')
        });
        if first_fits && all_fit && text.len() <= MAX_LENGTH {
            Ok(Self(text.to_owned()))
        } else {
            Err(LaunchIdError { text: text.chars().take(80).collect() })
        }
    }
}

impl TryFrom<String> for LaunchId {
    type Error = LaunchIdError;

    fn try_from(text: String) -> Result<Self, LaunchIdError> {
        text.parse()
    }
}

impl From<LaunchId> for String {
    fn from(id: LaunchId) -> Self {
        id.0
    }
}

impl fmt::Display for LaunchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for LaunchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LaunchId({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_safe_everywhere_are_accepted() {
        for text in ["a", "7", "run-0193.2_b", &"x".repeat(63)] {
            assert_eq!(text.parse::<LaunchId>().unwrap().as_str(), text);
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in ["", ".", "..", "-a", "_a", ".hidden", "A", "a/b", "a b", "ä", &"x".repeat(64)]
        {
            assert!(text.parse::<LaunchId>().is_err(), "{text}");
        }
    }
}
