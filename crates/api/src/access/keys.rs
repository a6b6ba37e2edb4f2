//! Keys and the token: whether a request carries one of them.
//!
//! Compared are digests, all of them and each in constant time: how long it takes tells neither how much of a guess
//! is right nor how many keys there are before the right one.

use core_config::settings::Settings;
use http::{HeaderMap, HeaderName, HeaderValue, header::AUTHORIZATION};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::access::caller::Caller;

/// The header that carries a key.
pub(crate) const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

type Sum = [u8; 32];

/// What callers can prove themselves with.
#[derive(Debug)]
pub(crate) struct Keys {
    keys: Vec<(Sum, String)>,
    secret: Option<Sum>,
}

/// A request that carries a key or token that is none of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WrongKey;

impl Keys {
    pub(crate) fn of(settings: &Settings) -> Self {
        let known = |key: &core_types::secret::Secret| {
            (sum(key.expose().as_bytes()), key.last_four().unwrap_or_default())
        };
        Self {
            keys: settings.api_keys.iter().map(known).collect(),
            secret: settings.api_secret.as_ref().map(|secret| sum(secret.expose().as_bytes())),
        }
    }

    /// Whether there is any.
    pub(crate) const fn exist(&self) -> bool {
        !self.keys.is_empty() || self.secret.is_some()
    }

    /// Who a request says it comes from; nobody where it says nothing. A key is looked at before a token.
    pub(crate) fn identify(&self, headers: &HeaderMap) -> Result<Option<Caller>, WrongKey> {
        if headers.contains_key(API_KEY) {
            return self.by_key(only(headers, &API_KEY).ok_or(WrongKey)?.as_bytes()).map(Some);
        }
        if headers.contains_key(AUTHORIZATION) {
            return self.by_token(only(headers, &AUTHORIZATION).ok_or(WrongKey)?).map(Some);
        }
        Ok(None)
    }

    /// Who holds this key or token, whichever it is.
    pub(crate) fn of_text(&self, given: &str) -> Result<Caller, WrongKey> {
        let is_token: bool =
            self.secret.is_some_and(|known| known.ct_eq(&sum(given.as_bytes())).into());
        let by_key = self.by_key(given.as_bytes());
        if is_token { Ok(Caller::Bearer) } else { by_key }
    }

    fn by_key(&self, given: &[u8]) -> Result<Caller, WrongKey> {
        let given = sum(given);
        let mut found = None;
        for (known, last_four) in &self.keys {
            if known.ct_eq(&given).into() {
                found = Some(Caller::ApiKey { last_four: last_four.clone() });
            }
        }
        found.ok_or(WrongKey)
    }

    fn by_token(&self, given: &HeaderValue) -> Result<Caller, WrongKey> {
        let (scheme, token) =
            given.to_str().ok().and_then(|text| text.split_once(' ')).ok_or(WrongKey)?;
        let given = sum(token.trim().as_bytes());
        let right = self.secret.is_some_and(|known| known.ct_eq(&given).into());
        (right && scheme.eq_ignore_ascii_case("bearer")).then_some(Caller::Bearer).ok_or(WrongKey)
    }
}

/// Whether a request carries a key or a token, right or wrong.
pub(crate) fn carries_one(headers: &HeaderMap) -> bool {
    headers.contains_key(API_KEY) || headers.contains_key(AUTHORIZATION)
}

fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

fn sum(text: &[u8]) -> Sum {
    Sha256::digest(text).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(variables: &[(&str, &str)]) -> Keys {
        let state = [("OPENTIGER_STATE_DIR", "/srv")];
        let variables =
            state.iter().chain(variables).map(|(key, value)| ((*key).into(), (*value).into()));
        Keys::of(&core_config::load::load(variables, None).unwrap().settings)
    }

    fn asks(
        keys: &Keys,
        headers: &[(&'static str, &'static str)],
    ) -> Result<Option<Caller>, WrongKey> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_static(value));
        }
        keys.identify(&map)
    }

    #[test]
    fn each_key_and_the_token_are_known_and_nothing_else() {
        let keys = keys(&[
            ("API_KEYS", "first-key-000000001,second-key-00000002"),
            ("API_SECRET", "the-secret-00000003"),
        ]);
        let by_key = |last_four: &str| Ok(Some(Caller::ApiKey { last_four: last_four.to_owned() }));
        assert_eq!(asks(&keys, &[]), Ok(None));
        assert_eq!(asks(&keys, &[("x-api-key", "first-key-000000001")]), by_key("0001"));
        assert_eq!(asks(&keys, &[("x-api-key", "second-key-00000002")]), by_key("0002"));
        for scheme in ["Bearer the-secret-00000003", "bearer the-secret-00000003"] {
            assert_eq!(asks(&keys, &[("authorization", scheme)]), Ok(Some(Caller::Bearer)));
        }
        for wrong in [
            "",
            "first-key-00000000",
            "the-secret-00000003",
            "first-key-000000001,second-key-00000002",
        ] {
            assert_eq!(asks(&keys, &[("x-api-key", wrong)]), Err(WrongKey), "{wrong}");
        }
        for wrong in
            ["", "Bearer", "Bearer ", "Basic the-secret-00000003", "Bearer first-key-000000001"]
        {
            assert_eq!(asks(&keys, &[("authorization", wrong)]), Err(WrongKey), "{wrong}");
        }
        let twice = [("x-api-key", "first-key-000000001"), ("x-api-key", "first-key-000000001")];
        assert_eq!(asks(&keys, &twice), Err(WrongKey));
        let wrong_key_right_token =
            [("x-api-key", "wrong"), ("authorization", "Bearer the-secret-00000003")];
        assert_eq!(asks(&keys, &wrong_key_right_token), Err(WrongKey));
    }

    #[test]
    fn where_there_is_no_key_every_key_is_wrong_and_silence_is_not() {
        let keys = keys(&[("API_KEYS", " ,, "), ("API_SECRET", "")]);
        assert!(!keys.exist());
        assert_eq!(asks(&keys, &[]), Ok(None));
        assert_eq!(asks(&keys, &[("x-api-key", "")]), Err(WrongKey));
        assert_eq!(asks(&keys, &[("authorization", "Bearer ")]), Err(WrongKey));
    }
}
