//! Why a request is refused, and how that is said.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode,
    header::{RETRY_AFTER, WWW_AUTHENTICATE},
};

use crate::{
    access::{limits::TooMany, seconds},
    error::ApiError,
};

const LIMIT: HeaderName = HeaderName::from_static("ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("ratelimit-reset");

/// Why a request is not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The name it asks for is none of this server's.
    Host,
    /// A page of another site asks.
    Origin,
    /// A key is needed, and there is none.
    NoKey,
    /// The key or token is none of ours.
    WrongKey,
    /// Control of the system without a key is switched off.
    Control,
    /// What reaches the host needs a key.
    HostReach,
    /// The address sent too many requests.
    TooManyRequests(TooMany),
    /// The address sent too many wrong keys.
    TooManyWrongKeys(TooMany),
    /// Where the request comes from is not known, which is a defect.
    Unknown,
}

impl Refusal {
    pub(crate) const fn code(self) -> &'static str {
        match self {
            Self::Host => "host_not_allowed",
            Self::Origin => "origin_not_allowed",
            Self::NoKey => "authentication_required",
            Self::WrongKey => "wrong_key",
            Self::Control => "control_not_allowed",
            Self::HostReach => "key_required",
            Self::TooManyRequests(_) => "too_many_requests",
            Self::TooManyWrongKeys(_) => "too_many_wrong_keys",
            Self::Unknown => "internal",
        }
    }

    const fn status(self) -> StatusCode {
        match self {
            Self::Host | Self::Origin | Self::Control | Self::HostReach => StatusCode::FORBIDDEN,
            Self::NoKey | Self::WrongKey => StatusCode::UNAUTHORIZED,
            Self::TooManyRequests(_) | Self::TooManyWrongKeys(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Unknown => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    const fn text(self) -> &'static str {
        match self {
            Self::Host => {
                "the `Host` of the request is not this server; allowed: localhost, 127.0.0.1, [::1], the address it is reached on, and `OPENTIGER_API_HOSTS`"
            }
            Self::Origin => {
                "a web page of another origin asks; allowed: pages of this server, programs that are no browser, and callers with a key"
            }
            Self::NoKey => {
                "a key is needed here: send `X-API-Key` or `Authorization: Bearer`; `API_KEYS` and `API_SECRET` say which"
            }
            Self::WrongKey => "the key or token is not one of this server's",
            Self::Control => {
                "control of the system needs a key here, for `OPENTIGER_ALLOW_INSECURE_SYSTEM_CONTROL` is `false`, and none is set; set `API_KEYS` or `API_SECRET`"
            }
            Self::HostReach => {
                "what reaches the host is changed with a key or by the environment only: send `X-API-Key` or `Authorization: Bearer`"
            }
            Self::TooManyRequests(_) => {
                "too many requests from this address; `Retry-After` says when to come back"
            }
            Self::TooManyWrongKeys(_) => {
                "too many wrong keys from this address; `Retry-After` says when to come back"
            }
            Self::Unknown => "internal error; the server's log has more under this request's id",
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = ApiError::new(self.status(), self.code(), self.text()).into_response();
        let headers = response.headers_mut();
        match self {
            Self::NoKey | Self::WrongKey => {
                let ways = HeaderValue::from_static("Bearer realm=\"openTiger\"");
                headers.insert(WWW_AUTHENTICATE, ways);
            }
            Self::TooManyRequests(TooMany { limit, after })
            | Self::TooManyWrongKeys(TooMany { limit, after }) => {
                headers.insert(RETRY_AFTER, HeaderValue::from(seconds(after)));
                announce(headers, limit, 0, after);
            }
            Self::Unknown => tracing::error!("a request came without the ends of its connection"),
            Self::Host | Self::Origin | Self::Control | Self::HostReach => {}
        }
        response
    }
}

/// Says what is left of the limit.
pub(crate) fn announce(headers: &mut HeaderMap, limit: u32, remaining: u32, reset: Duration) {
    headers.insert(LIMIT, HeaderValue::from(limit));
    headers.insert(REMAINING, HeaderValue::from(remaining));
    headers.insert(RESET, HeaderValue::from(seconds(reset)));
}
