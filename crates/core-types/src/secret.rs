//! A text that must not be shown: no `Display`, masked `Debug`, no serialization.

use std::fmt;

use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;

/// A password, token, key, or URL with credentials; wiped from memory when dropped.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub struct Secret(SecretString);

impl Secret {
    /// Wraps a text that must not be shown.
    pub fn new(text: impl Into<String>) -> Self {
        Self(SecretString::from(text.into()))
    }

    /// The text itself. Call it only where the text is used, never to log or to format it.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// The last four characters of a text of at least twelve, for a person to recognise it by.
    #[must_use]
    pub fn last_four(&self) -> Option<String> {
        let characters: Vec<char> = self.expose().chars().collect();
        let tail = characters.len().checked_sub(4).filter(|_| characters.len() >= 12)?;
        Some(characters.iter().skip(tail).collect())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.expose() == other.expose()
    }
}

impl Eq for Secret {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_never_shows_the_text() {
        assert_eq!(format!("{:?}", Secret::new("hunter2hunter2")), "Secret(***)");
    }

    #[test]
    fn only_long_texts_show_their_last_four() {
        assert_eq!(Secret::new("short").last_four(), None);
        assert_eq!(Secret::new("sk-0123456789").last_four().as_deref(), Some("6789"));
    }
}
