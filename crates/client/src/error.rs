//! Why a request came to nothing, by what a caller can do about it.

use std::{io, time::Duration};

use http::StatusCode;
use serde::Deserialize;
use serde_json::Value;

/// A request that has no good answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address of the server is none.
    #[error("`{text}` is no address of a server: {why}")]
    Address {
        /// The address as it was given.
        text: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Nobody answers at the address.
    #[error("nothing answers at `{base}`")]
    Unreachable {
        /// The server's address.
        base: String,
        /// What the system said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The connection was lost before the answer was whole; what was asked for may have happened.
    #[error("the connection to `{base}` was lost")]
    Lost {
        /// The server's address.
        base: String,
        /// What the system said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The server took too long; what was asked for may have happened.
    #[error("`{base}` did not answer within {} s", after.as_secs())]
    TimedOut {
        /// The server's address.
        base: String,
        /// How long it was given.
        after: Duration,
    },
    /// The server answered with an error.
    #[error(transparent)]
    Refused(Box<Refusal>),
    /// The answer is not what this API answers.
    #[error("`{base}` answers, but not as an openTiger server: {why}")]
    Foreign {
        /// The server's address.
        base: String,
        /// What is wrong with the answer.
        why: String,
    },
}

/// The server's own words for what went wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{error}")]
pub struct Refusal {
    /// The status of the answer.
    pub status: StatusCode,
    /// What went wrong, for people.
    pub error: String,
    /// What went wrong, for programs.
    pub code: String,
    /// What is at fault, one object for each.
    pub details: Vec<Value>,
    /// When to come back, where the server says so.
    pub retry_after: Option<Duration>,
}

/// What a refusal means to a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// Who asks may not: no key, a wrong one, or not from there.
    Forbidden,
    /// What was asked for is not there.
    NotFound,
    /// What is there does not allow it: it has another state or another content.
    Conflict,
    /// What was sent is not valid.
    Invalid,
    /// The server cannot now, and may later.
    Unavailable,
    /// A fault of the server, or an answer of another version.
    Fault,
}

#[derive(Deserialize)]
struct Body {
    error: String,
    code: String,
    #[serde(default)]
    details: Vec<Value>,
}

impl Refusal {
    /// Reads an answer that is no success; nothing where it is not in this API's shape.
    pub(crate) fn read(
        status: StatusCode,
        body: &Value,
        retry_after: Option<Duration>,
    ) -> Option<Self> {
        let Body { error, code, details } = Body::deserialize(body).ok()?;
        Some(Self { status, error, code, details, retry_after })
    }

    /// What it means to a program.
    #[must_use]
    pub fn meaning(&self) -> Meaning {
        match self.status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Meaning::Forbidden,
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => Meaning::NotFound,
            StatusCode::CONFLICT
            | StatusCode::PRECONDITION_FAILED
            | StatusCode::PRECONDITION_REQUIRED => Meaning::Conflict,
            StatusCode::BAD_REQUEST
            | StatusCode::UNPROCESSABLE_ENTITY
            | StatusCode::PAYLOAD_TOO_LARGE
            | StatusCode::UNSUPPORTED_MEDIA_TYPE => Meaning::Invalid,
            StatusCode::TOO_MANY_REQUESTS
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::REQUEST_TIMEOUT
            | StatusCode::GATEWAY_TIMEOUT => Meaning::Unavailable,
            _ => Meaning::Fault,
        }
    }

    /// Whether the server is of a version that does not have this route.
    #[must_use]
    pub fn is_missing_route(&self) -> bool {
        self.code == "no_such_route" || self.code == "method_not_allowed"
    }
}

impl ClientError {
    /// The server's refusal, where it is one.
    #[must_use]
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            Self::Address { .. }
            | Self::Unreachable { .. }
            | Self::Lost { .. }
            | Self::TimedOut { .. }
            | Self::Foreign { .. } => None,
        }
    }

    /// When to come back, where the server says so.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.refusal()?.retry_after
    }

    /// Whether asking again may help: the network, or a server that cannot now.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Lost { .. } | Self::TimedOut { .. } => true,
            Self::Refused(refusal) => refusal.meaning() == Meaning::Unavailable,
            Self::Address { .. } | Self::Foreign { .. } => false,
        }
    }
}

/// Why the file that says where a server listens cannot be written or read.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what} `{}`", path.display())]
pub struct AddressFileError {
    /// What was tried.
    pub what: &'static str,
    /// The file.
    pub path: std::path::PathBuf,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refusal(status: u16, code: &str) -> Refusal {
        let status = StatusCode::from_u16(status).unwrap();
        Refusal::read(status, &json!({ "error": "no", "code": code }), None).unwrap()
    }

    #[test]
    fn a_refusal_says_what_a_program_can_do() {
        for (status, meaning) in [
            (401, Meaning::Forbidden),
            (403, Meaning::Forbidden),
            (404, Meaning::NotFound),
            (409, Meaning::Conflict),
            (412, Meaning::Conflict),
            (422, Meaning::Invalid),
            (429, Meaning::Unavailable),
            (503, Meaning::Unavailable),
            (500, Meaning::Fault),
        ] {
            assert_eq!(refusal(status, "x").meaning(), meaning, "{status}");
        }
        assert!(refusal(404, "no_such_route").is_missing_route());
        assert!(!refusal(404, "not_found").is_missing_route());
    }

    #[test]
    fn what_is_not_in_the_shape_of_an_error_is_no_refusal() {
        let status = StatusCode::BAD_GATEWAY;
        assert_eq!(Refusal::read(status, &json!("<html>"), None), None);
        assert_eq!(Refusal::read(status, &json!({ "error": 7 }), None), None);
    }
}
