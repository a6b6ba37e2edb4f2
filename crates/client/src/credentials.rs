//! Who a caller says it is. Comes from the environment, never from an argument list.

use core_types::secret::Secret;
use http::{HeaderName, HeaderValue, header::AUTHORIZATION};

/// The variable that holds a caller's key, one of the server's `API_KEYS`.
pub const KEY_VARIABLE: &str = "OPENTIGER_API_KEY";
/// The variable that holds the server's bearer token; the server reads the same one.
pub const TOKEN_VARIABLE: &str = "API_SECRET";

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// What goes with every request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Credentials {
    /// Nothing: this machine's user, as far as the server trusts the machine.
    #[default]
    None,
    /// A key, sent as `X-API-Key`.
    Key(Secret),
    /// A token, sent as `Authorization: Bearer`.
    Token(Secret),
}

impl Credentials {
    /// The key where there is one, else the token where there is one. Empty texts are none.
    #[must_use]
    pub fn new(key: Option<String>, token: Option<String>) -> Self {
        let there = |text: Option<String>| text.filter(|text| !text.is_empty()).map(Secret::new);
        match (there(key), there(token)) {
            (Some(key), _) => Self::Key(key),
            (None, Some(token)) => Self::Token(token),
            (None, None) => Self::None,
        }
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }

    /// The header to send; nothing where the text cannot stand in one, which no server could have given out.
    pub(crate) fn header(&self) -> Option<(HeaderName, HeaderValue)> {
        let (name, text) = match self {
            Self::None => return None,
            Self::Key(key) => (API_KEY, key.expose().to_owned()),
            Self::Token(token) => (AUTHORIZATION, format!("Bearer {}", token.expose())),
        };
        let mut value = HeaderValue::from_str(&text).ok()?;
        value.set_sensitive(true);
        Some((name, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_wins_over_a_token_and_empty_texts_are_none() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            Credentials::new(some("k"), some("t")).header().map(|(name, _)| name),
            Some(API_KEY)
        );
        let (name, value) = Credentials::new(some(""), some("t")).header().unwrap();
        assert_eq!((name, value.to_str().unwrap()), (AUTHORIZATION, "Bearer t"));
        assert!(value.is_sensitive());
        assert!(Credentials::new(some(""), None).is_none());
    }

    #[test]
    fn a_text_that_no_header_can_hold_is_not_sent() {
        assert_eq!(Credentials::new(Some("a\nb".to_owned()), None).header(), None);
    }
}
