//! The addresses a sandbox is given: what names this machine's loopback names the host instead, all else stays to the byte.
//!
//! It splits texts itself, for each kind of address as its reader does (`tokio-postgres`, `fred`, the agents' command
//! lines): a general parser of URLs refuses several hosts and passwords with a slash, which those take, and writes back
//! what nobody asked it to change. It opens no connection.

pub mod http;
pub mod postgres;
pub mod redis;

mod loopback;
mod spans;

use std::{
    collections::BTreeSet,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use core_types::secret::Secret;

/// The name by which a sandbox knows the host.
pub const HOST_NAME: &str = "host.docker.internal";

/// An address as a sandbox gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rewritten {
    /// The whole text; it may hold a password.
    pub text: Secret,
    /// What it names on this machine's loopback.
    pub targets: BTreeSet<Target>,
}

/// A service on this machine's loopback that a sandbox has to reach.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// What speaks there.
    pub service: Service,
    /// Its address; `None` is the name `localhost`, which is either of both kinds.
    pub address: Option<IpAddr>,
    /// Its port.
    pub port: u16,
}

/// What speaks at an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Service {
    /// Postgres.
    Postgres,
    /// Redis or Valkey, a sentinel of one included.
    Redis,
    /// A model's provider.
    Provider,
    /// A proxy on the way to a provider, which leads to whatever it is asked for.
    Proxy,
}

/// Why an address cannot be given to a sandbox. Each is mended by a setting; none shows the address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RewriteError {
    /// It names a socket in the host's file system, or nothing, which means such a socket.
    #[error("the address of {service} is a Unix socket, which a sandbox cannot reach")]
    UnixSocket {
        /// Whose address.
        service: Service,
    },
    /// It has a form that its reader would not take either.
    #[error("the address of {service} cannot be read: {what}")]
    Unreadable {
        /// Whose address.
        service: Service,
        /// What is wrong, without a word of the text.
        what: &'static str,
    },
    /// It names loopback where only a number can stand, and the host has no number in a sandbox.
    #[error(
        "the address of {service} has a loopback `hostaddr`, and the network has no gateway to put there"
    )]
    NumberNeeded {
        /// Whose address.
        service: Service,
    },
}

impl Target {
    /// Where the service is looked for on this machine, in this order.
    #[must_use]
    pub fn addresses(&self) -> Vec<IpAddr> {
        match self.address {
            None => vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
            Some(IpAddr::V4(Ipv4Addr::UNSPECIFIED)) => vec![Ipv4Addr::LOCALHOST.into()],
            Some(IpAddr::V6(Ipv6Addr::UNSPECIFIED)) => vec![Ipv6Addr::LOCALHOST.into()],
            Some(address) => vec![address],
        }
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Postgres => "Postgres",
            Self::Redis => "Redis",
            Self::Provider => "the provider",
            Self::Proxy => "the proxy",
        })
    }
}

impl RewriteError {
    /// What a person can do about it.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::UnixSocket { .. } => {
                "let the server listen on 127.0.0.1 too and name that, such as `postgres://user:password@127.0.0.1:5432/database`"
            }
            Self::Unreadable { service: Service::Proxy, .. } => {
                "correct HTTP_PROXY or HTTPS_PROXY in openTiger's environment"
            }
            Self::Unreadable { service: Service::Postgres, .. } => {
                "correct DATABASE_URL; in a URL write `@` in a password as `%40`"
            }
            Self::Unreadable { .. } => "correct the setting",
            Self::NumberNeeded { .. } => "leave `hostaddr` out and name the host with `host`",
        }
    }
}
