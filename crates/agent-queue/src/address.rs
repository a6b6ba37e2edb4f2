//! Where Redis is: a URL read once, its faults told without its password.

use core_types::secret::Secret;
use fred::{error::ErrorKind, types::config::Config};

/// The forms that a URL may have.
pub const FORMS: &str =
    "`redis://`, `rediss://`, `redis-cluster://`, `redis-sentinel://` or `redis+unix://`";
const SCHEMES: &[&str] = &[
    "redis",
    "rediss",
    "redis-cluster",
    "rediss-cluster",
    "redis-sentinel",
    "rediss-sentinel",
    "redis+unix",
    "valkey",
    "valkeys",
    "valkey-cluster",
    "valkeys-cluster",
    "valkey-sentinel",
    "valkeys-sentinel",
    "valkey+unix",
];

/// A URL that cannot be used. Its text is not repeated: it may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the redis url is not understood: {what}")]
pub struct AddressError {
    what: &'static str,
}

impl AddressError {
    /// What to do about it.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        "write REDIS_URL as redis://user:password@host:6379/0, with special characters of the password percent-encoded; \
         or leave it empty for a private server"
    }
}

/// An address that can be connected to.
#[derive(Clone)]
pub(crate) struct Address(pub(crate) Config);

impl std::fmt::Debug for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Address").finish_non_exhaustive()
    }
}

/// Says what is wrong with a URL, if anything is.
///
/// # Errors
/// [`AddressError`], without the URL's text.
pub fn check(url: &Secret) -> Result<(), AddressError> {
    parse(url).map(drop)
}

pub(crate) fn parse(url: &Secret) -> Result<Address, AddressError> {
    let fault = |what| AddressError { what };
    let text = url.expose();
    let scheme = text.split_once("://").map(|(scheme, _)| scheme);
    let scheme = scheme.ok_or(fault("it has no form such as `redis://host:6379`"))?;
    if !SCHEMES.contains(&scheme) {
        return Err(fault("it does not begin with `redis://` or a form like it"));
    }
    let parsed = url::Url::parse(text).map_err(|error| fault(said(error)))?;
    let needs_host = !scheme.ends_with("+unix");
    if needs_host && !parsed.has_host() {
        return Err(fault("it names no host"));
    }
    if scheme.ends_with("-sentinel")
        && !parsed.query_pairs().any(|(name, _)| name == "sentinelServiceName")
    {
        return Err(fault("a sentinel needs `sentinelServiceName=…` behind a `?`"));
    }
    let mut config = Config::from_url(text).map_err(|error| {
        fault(match error.kind() {
            ErrorKind::Tls => "its encryption cannot be set up",
            _ => "its form or one of its parts is wrong",
        })
    })?;
    // With its default a client that finds no server at its start never tries again.
    config.fail_fast = false;
    Ok(Address(config))
}

/// The parser's complaint in our words; its own never quote the text, but that is nobody's promise.
const fn said(error: url::ParseError) -> &'static str {
    match error {
        url::ParseError::EmptyHost => "it names no host",
        url::ParseError::InvalidPort => "its port is not a number up to 65535",
        _ => "its form is wrong",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(url: &str) -> String {
        check(&Secret::new(url)).unwrap_err().to_string()
    }

    #[test]
    fn every_form_is_taken() {
        for url in [
            "redis://127.0.0.1:6379/0",
            "redis://user:p%40ss@host",
            "rediss://:pw@host:6380",
            "redis-cluster://h1:1?node=h2:2",
            "redis-sentinel://h1:26379/1?node=h2:2&sentinelServiceName=m",
            "redis+unix:///run/redis.sock",
            "redis://[::1]:6379",
        ] {
            assert_eq!(check(&Secret::new(url)), Ok(()), "{url}");
        }
    }

    #[test]
    fn a_wrong_form_is_told_without_the_password() {
        for url in [
            "127.0.0.1:6379",
            "http://:hunter2@host",
            "redis://:hunter2@host:99999",
            "redis://:hunter2@h1:1,h2:2",
            "redis-sentinel://:hunter2@h1:1",
            "redis://:hunter2@",
        ] {
            let said = refused(url);
            assert!(!said.contains("hunter2"), "{said}");
        }
        assert!(refused("redis-sentinel://h:1").contains("sentinelServiceName"));
    }
}
