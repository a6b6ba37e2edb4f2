//! The loop that tells: takes what ended, posts it, notes how far it came.

use std::{error::Error, fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use core_config::{load::Loaded, settings::Settings};
use core_types::secret::Secret;
use http::{HeaderName, HeaderValue, Request, StatusCode, Uri, header};
use http_body_util::Full;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use store::{pool::Store, traces::EndedRun};
use telemetry::chain::error_chain;
use tokio::{sync::watch, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::spans::Export;

/// How often it looks.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How long it waits after a failure, so that a collector that is away costs little.
const WAIT: Duration = Duration::from_secs(30);
/// Most runs of one post.
const BATCH: u32 = 100;
/// A transaction that ends a run is over by then: what it notes is not passed over.
pub const SETTLED: Duration = Duration::from_secs(30);

/// Tells runs that ended to a collector, where one is configured.
#[derive(Debug, Clone)]
pub struct Exporter {
    /// The database.
    pub store: Store,
    /// The settings in force.
    pub settings: watch::Receiver<Arc<Loaded>>,
    /// How long ago a run ended that is told, see [`SETTLED`].
    pub settled: Duration,
}

/// Why a collector did not take it.
#[derive(Debug, thiserror::Error)]
pub enum PostError {
    /// The address or a header cannot be used.
    #[error("the collector's address or headers cannot be used")]
    Unusable(#[source] Box<dyn Error + Send + Sync>),
    /// Nothing answers, or not in the way of HTTP.
    #[error("the collector does not answer")]
    Unreachable(#[source] Box<dyn Error + Send + Sync>),
    /// It answered, and does not want it.
    #[error("the collector answered {status}")]
    Refused {
        /// Its status.
        status: StatusCode,
    },
}

impl Exporter {
    /// Tells until it is told to stop. What is under way then is told again by the next.
    pub async fn run(mut self, stop: CancellationToken) {
        let collector = match Collector::new() {
            Ok(collector) => collector,
            Err(error) => {
                tracing::warn!(error = %error, "no trace can be told");
                return;
            }
        };
        let mut failing = false;
        while !stop.is_cancelled() {
            let Some(round) = stop.run_until_cancelled(self.round(&collector)).await else {
                break;
            };
            if let Err(error) = &round
                && !failing
            {
                tracing::warn!(error = error.as_str(), "traces not told for now");
            }
            failing = round.is_err();
            let wait = match round {
                Ok(told) if told >= BATCH as usize => continue,
                Ok(_) => LOOK_EVERY,
                Err(_) => WAIT,
            };
            // Every arm is cancel-safe: each only says that it is time to look.
            tokio::select! {
                () = stop.cancelled() => break,
                () = sleep(wait) => {}
                Ok(()) = self.settings.changed() => {}
            }
        }
    }

    /// Tells what is due; how many runs that was, or what went wrong.
    async fn round(&self, collector: &Collector) -> Result<usize, String> {
        let loaded = Arc::clone(&self.settings.borrow());
        let Some(endpoint) = loaded.settings.otlp_endpoint.clone() else {
            return Ok(0);
        };
        let mut failure = None;
        let tell = async |runs: &[EndedRun]| {
            let posted = collector.post(&endpoint, &loaded.settings, runs).await;
            failure = posted.err().map(|error| error_chain(&error).to_string());
            failure.is_none()
        };
        let told = self.store.tell_ended(BATCH, self.settled, tell).await;
        match (told, failure) {
            (_, Some(failure)) => Err(failure),
            (Ok(told), None) => Ok(told),
            (Err(error), None) => Err(error_chain(&error).to_string()),
        }
    }
}

/// Posts spans.
struct Collector {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Collector").finish_non_exhaustive()
    }
}

impl Collector {
    /// Reads the certificates that this machine trusts.
    fn new() -> std::io::Result<Self> {
        let connector = HttpsConnectorBuilder::new()
            .with_provider_and_native_roots(rustls::crypto::ring::default_provider())?
            .https_or_http()
            .enable_http1()
            .build();
        Ok(Self { client: Client::builder(TokioExecutor::new()).build(connector) })
    }

    /// Nothing of the answer's body is read, and no error names the address or a header, which may hold a token.
    async fn post(
        &self,
        endpoint: &str,
        settings: &Settings,
        runs: &[EndedRun],
    ) -> Result<(), PostError> {
        let body = serde_json::to_vec(&Export::of(runs)).map_err(unusable)?;
        let mut request = Request::post(address(endpoint)?)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::USER_AGENT, concat!("openTiger/", env!("CARGO_PKG_VERSION")));
        for (name, value) in headers(settings.otlp_headers.as_ref())? {
            request = request.header(name, value);
        }
        let request = request.body(Full::from(body)).map_err(unusable)?;
        let answer = self.client.request(request).await;
        match answer.map_err(|error| PostError::Unreachable(Box::new(error)))?.status() {
            status if status.is_success() => Ok(()),
            status => Err(PostError::Refused { status }),
        }
    }
}

/// The setting names a collector; where it takes traces is said by OTLP.
fn address(endpoint: &str) -> Result<Uri, PostError> {
    format!("{}/v1/traces", endpoint.trim_end_matches('/')).parse().map_err(unusable)
}

/// `name=value`, separated by commas, as OpenTelemetry writes them.
fn headers(text: Option<&Secret>) -> Result<Vec<(HeaderName, HeaderValue)>, PostError> {
    let parts = text.map_or("", Secret::expose).split(',').map(str::trim);
    parts
        .filter(|part| !part.is_empty())
        .map(|part| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let name = name.trim().parse::<HeaderName>().map_err(unusable)?;
            let mut value = value.trim().parse::<HeaderValue>().map_err(unusable)?;
            value.set_sensitive(true);
            Ok((name, value))
        })
        .collect()
}

fn unusable(error: impl Error + Send + Sync + 'static) -> PostError {
    PostError::Unusable(Box::new(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_endpoint_is_the_collectors_and_the_path_is_otlps() {
        for endpoint in ["http://127.0.0.1:4318", "http://127.0.0.1:4318/"] {
            assert_eq!(address(endpoint).unwrap(), "http://127.0.0.1:4318/v1/traces");
        }
        assert_eq!(
            address("https://otel.example/base").unwrap(),
            "https://otel.example/base/v1/traces"
        );
    }

    #[test]
    fn headers_are_taken_apart_and_not_shown() {
        let text = Secret::new("authorization=Bearer a=b, x-tenant=7,");
        let headers = headers(Some(&text)).unwrap();
        assert_eq!(headers[0].1, "Bearer a=b");
        assert_eq!(
            (headers[1].0.as_str(), &headers[1].1),
            ("x-tenant", &HeaderValue::from_static("7"))
        );
        assert!(!format!("{headers:?}").contains("Bearer"));
        assert!(super::headers(Some(&Secret::new("no header=x"))).is_err());
    }
}
