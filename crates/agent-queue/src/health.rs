//! Whether Redis answers, and what is wrong where it does not.

use std::fmt;

use fred::error::{Error, ErrorKind};
use tokio::time::Instant;

/// How it stands with Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueHealth {
    /// Whether it answered the last time it was asked.
    pub connected: bool,
    /// Since when that is so.
    pub since: Instant,
    /// What is wrong; none where it answers, or was not heard of yet.
    pub fault: Option<QueueFault>,
}

/// Why Redis does not answer, in the words of whoever has to mend it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueueFault {
    /// Nobody listens there, or the connection was cut.
    Unreachable,
    /// It takes connections and says nothing in time.
    Silent,
    /// It refuses the user or the password.
    Refused,
    /// The connection cannot be encrypted.
    Encryption,
    /// It answers something that makes no sense here.
    Incomprehensible,
}

impl fmt::Display for QueueFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unreachable => "cannot be reached",
            Self::Silent => "does not answer in time",
            Self::Refused => "refuses the user or the password",
            Self::Encryption => "cannot be reached encrypted",
            Self::Incomprehensible => "answers with an error",
        })
    }
}

impl QueueFault {
    /// The kind of an error; its text may quote anything and is left out.
    pub(crate) fn of(error: &Error) -> Self {
        match error.kind() {
            ErrorKind::Auth => Self::Refused,
            ErrorKind::Tls => Self::Encryption,
            ErrorKind::Timeout => Self::Silent,
            ErrorKind::IO
            | ErrorKind::Canceled
            | ErrorKind::Routing
            | ErrorKind::Backpressure
            | ErrorKind::Cluster
            | ErrorKind::Sentinel => Self::Unreachable,
            ErrorKind::Config
            | ErrorKind::InvalidCommand
            | ErrorKind::InvalidArgument
            | ErrorKind::Url
            | ErrorKind::Protocol
            | ErrorKind::Unknown
            | ErrorKind::Parse
            | ErrorKind::NotFound => Self::Incomprehensible,
        }
    }
}

impl QueueHealth {
    /// Nothing is known yet.
    pub(crate) fn unknown() -> Self {
        Self { connected: false, since: Instant::now(), fault: None }
    }

    /// The state after one more look; `since` moves only where it changed.
    pub(crate) fn after(self, fault: Option<QueueFault>) -> Self {
        let connected = fault.is_none();
        let since = if connected == self.connected { self.since } else { Instant::now() };
        Self { connected, since, fault }
    }
}
