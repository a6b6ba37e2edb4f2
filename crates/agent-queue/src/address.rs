//! Where Redis is: a URL read once, its faults told without its password.
//!
//! Which forms a URL may have is a matter of the setting, and is checked with it.

use core_types::secret::Secret;
use fred::{error::ErrorKind, types::config::Config};

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

pub(crate) fn parse(url: &Secret) -> Result<Address, AddressError> {
    let mut config = Config::from_url(url.expose()).map_err(|error| AddressError {
        what: match error.kind() {
            ErrorKind::Tls => "its encryption cannot be set up",
            _ => "its form or one of its parts is wrong",
        },
    })?;
    // With its default a client that finds no server at its start never tries again.
    config.fail_fast = false;
    Ok(Address(config))
}

#[cfg(test)]
mod tests {
    use super::*;

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
            assert!(parse(&Secret::new(url)).is_ok(), "{url}");
        }
    }

    #[test]
    fn a_wrong_form_is_told_without_the_password() {
        for url in [
            "redis://:hunter2@host:99999",
            "redis://:hunter2@h1:1,h2:2",
            "redis-sentinel://:hunter2@h1:1",
            "redis://:hunter2@",
        ] {
            let said = parse(&Secret::new(url)).unwrap_err().to_string();
            assert!(!said.contains("hunter2"), "{said}");
        }
    }
}
