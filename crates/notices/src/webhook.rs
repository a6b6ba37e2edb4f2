//! Posting a notice to an address.
//!
//! Redirects are not followed: they would carry the notice to where nobody configured. Nothing of the answer's body is
//! read, and no error names the address, which may hold a token.

use std::{error::Error, fmt, time::Duration};

use bytes::Bytes;
use core_types::secret::Secret;
use http::{Request, StatusCode, Uri, header};
use http_body_util::Full;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use jiff::Timestamp;
use ring::hmac;
use telemetry::chain::error_chain;
use tokio::time::timeout;

use crate::message::Message;

/// How long a receiver may take to answer unless told.
pub const TIME: Duration = Duration::from_secs(10);
/// The header with the notice's id: the same at each attempt.
pub const ID_HEADER: &str = "x-opentiger-notice";
/// The header with what the notice is about.
pub const EVENT_HEADER: &str = "x-opentiger-event";
/// The header with the seconds since 1970 at which this attempt was signed.
pub const TIMESTAMP_HEADER: &str = "x-opentiger-timestamp";
/// The header with `sha256=` and the HMAC-SHA256, in hexadecimal digits, of timestamp, point and body.
pub const SIGNATURE_HEADER: &str = "x-opentiger-signature";

/// Posts notices.
#[derive(Clone)]
pub struct Webhook {
    limit: Duration,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook").finish_non_exhaustive()
    }
}

/// Why a notice did not arrive.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    /// The address or a header cannot be used.
    #[error("the address of the webhook cannot be used")]
    Unusable(#[source] Box<dyn Error + Send + Sync>),
    /// The machine's certificates cannot be read.
    #[error("the certificates of this machine cannot be read")]
    Certificates(#[source] std::io::Error),
    /// Nothing answers, or not in the way of HTTP.
    #[error("the webhook does not answer")]
    Unreachable(#[source] Box<dyn Error + Send + Sync>),
    /// It took too long.
    #[error("the webhook did not answer within {} s", after.as_secs())]
    Silent {
        /// How long it was given.
        after: Duration,
    },
    /// It answered, and does not want it.
    #[error("the webhook answered {status}")]
    Refused {
        /// Its status.
        status: StatusCode,
    },
}

impl Webhook {
    /// Reads the certificates that this machine trusts.
    ///
    /// # Errors
    /// [`WebhookError::Certificates`] where there are none.
    pub fn new() -> Result<Self, WebhookError> {
        // One provider for all of TLS: ring.
        let connector = HttpsConnectorBuilder::new()
            .with_provider_and_native_roots(rustls::crypto::ring::default_provider())
            .map_err(WebhookError::Certificates)?
            .https_or_http()
            .enable_http1()
            .build();
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Ok(Self { limit: TIME, client })
    }

    /// The same for receivers that may take so long.
    #[must_use]
    pub fn with_limit(self, limit: Duration) -> Self {
        Self { limit, ..self }
    }

    /// Posts a notice; any status from 200 to 299 is an arrival.
    ///
    /// # Errors
    /// [`WebhookError`]; whether it arrived is not known where the receiver was silent.
    pub async fn post(
        &self,
        url: &str,
        secret: Option<&Secret>,
        message: &Message<'_>,
    ) -> Result<(), WebhookError> {
        let request = request(url, secret, message, Timestamp::now().as_second())?;
        let answer = timeout(self.limit, self.client.request(request)).await;
        let response = answer
            .map_err(|_| WebhookError::Silent { after: self.limit })?
            .map_err(|error| WebhookError::Unreachable(Box::new(error)))?;
        match response.status() {
            status if status.is_success() => Ok(()),
            status => Err(WebhookError::Refused { status }),
        }
    }
}

impl WebhookError {
    /// What went wrong, with its causes, on one line.
    #[must_use]
    pub fn line(&self) -> String {
        error_chain(self).to_string()
    }
}

fn request(
    url: &str,
    secret: Option<&Secret>,
    message: &Message<'_>,
    now: i64,
) -> Result<Request<Full<Bytes>>, WebhookError> {
    let uri: Uri = url.parse().map_err(|error: http::uri::InvalidUri| unusable(error))?;
    let body = message.to_json();
    let mut request = Request::post(uri)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::USER_AGENT, concat!("openTiger/", env!("CARGO_PKG_VERSION")))
        .header(ID_HEADER, message.id().to_string())
        .header(EVENT_HEADER, message.event().as_str())
        .header(TIMESTAMP_HEADER, now);
    if let Some(secret) = secret {
        request = request.header(SIGNATURE_HEADER, signature(secret, now, &body));
    }
    request.body(Full::from(body)).map_err(unusable)
}

fn unusable(error: impl Error + Send + Sync + 'static) -> WebhookError {
    WebhookError::Unusable(Box::new(error))
}

/// The signature of a body that is sent at a moment.
#[must_use]
pub fn signature(secret: &Secret, timestamp: i64, body: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes());
    let tag = hmac::sign(&key, format!("{timestamp}.{body}").as_bytes());
    let digits: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256={digits}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_what_others_compute_too() {
        // printf '1700000000.{"a":1}' | openssl dgst -sha256 -hmac secret
        let expected = "sha256=49f24e537407743fa4a0242bb63b94b9a47ee99cbbe071ccd8a22550ae411686";
        assert_eq!(signature(&Secret::new("secret"), 1_700_000_000, r#"{"a":1}"#), expected);
    }
}
