//! Who asks, as handlers and the history of settings know it.

use axum::extract::FromRequestParts;
use http::request::Parts;

use crate::error::ApiError;

/// Who asks. The layer around all routes finds it out; handlers take it as an argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Caller {
    /// Whoever holds one of `API_KEYS`.
    ApiKey {
        /// The key's last four characters, by which its owner recognises it.
        last_four: String,
    },
    /// Whoever holds `API_SECRET`.
    Bearer,
    /// Somebody on this machine, with a program or a page of this server.
    Local,
    /// Anybody else.
    Stranger,
}

impl Caller {
    /// Whether the caller has a key or the token.
    pub(crate) const fn has_key(&self) -> bool {
        match self {
            Self::ApiKey { .. } | Self::Bearer => true,
            Self::Local | Self::Stranger => false,
        }
    }

    /// The caller's name in the history of settings and in the log.
    pub(crate) fn who(&self) -> String {
        match self {
            Self::ApiKey { last_four } => format!("api-key:{last_four}"),
            Self::Bearer => "bearer".to_owned(),
            Self::Local => "local".to_owned(),
            Self::Stranger => "stranger".to_owned(),
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        parts.extensions.get::<Self>().cloned().ok_or_else(|| {
            tracing::error!("a request came past the check of who asks");
            ApiError::internal()
        })
    }
}
