//! One server: requests with JSON in and out.

use std::time::Duration;

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode,
    header::{ACCEPT, CONTENT_TYPE, ETAG, RETRY_AFTER},
};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{Client as HyperClient, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::Value;

use crate::{
    address::BaseUrl,
    credentials::Credentials,
    error::{ClientError, Refusal},
    readiness::Readiness,
};

/// How long a connection may take to be there.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// How long an answer may take where nobody asked for more; the server itself gives up before.
const ANSWER_LIMIT: Duration = Duration::from_secs(40);
/// Where a system says whether it is ready.
const READINESS: &str = "/health/ready";
/// The longest answer that is read; a diff may be long.
const ANSWER_BYTES: usize = 256 << 20;

/// A client of one server. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    base: BaseUrl,
    credentials: Credentials,
    limit: Duration,
    http: HyperClient<HttpConnector, Full<Bytes>>,
}

/// An answer that is a success.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// What it holds; a text where it is no JSON, `null` where it holds nothing.
    pub body: Value,
    /// Which state of the resource it shows, where the server says so.
    pub etag: Option<String>,
}

/// A request that is no plain question.
#[derive(Debug, Clone)]
pub struct Call<'a> {
    method: Method,
    path: &'a str,
    body: Option<&'a Value>,
    if_match: Option<&'a str>,
    accept: &'static str,
}

impl<'a> Call<'a> {
    /// A request without a body.
    #[must_use]
    pub const fn new(method: Method, path: &'a str) -> Self {
        Self { method, path, body: None, if_match: None, accept: "application/json" }
    }

    /// The same with a JSON document.
    #[must_use]
    pub const fn body(mut self, body: &'a Value) -> Self {
        self.body = Some(body);
        self
    }

    /// The same on the condition that the resource is as that `ETag` says.
    #[must_use]
    pub const fn if_match(mut self, etag: Option<&'a str>) -> Self {
        self.if_match = etag;
        self
    }

    /// The same for an answer of another type than JSON.
    #[must_use]
    pub const fn accept(mut self, media_type: &'static str) -> Self {
        self.accept = media_type;
        self
    }
}

impl Client {
    /// A client of the server at an address.
    #[must_use]
    pub fn new(base: BaseUrl, credentials: Credentials) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_LIMIT));
        connector.set_nodelay(true);
        let http = HyperClient::builder(TokioExecutor::new()).build(connector);
        Self { base, credentials, limit: ANSWER_LIMIT, http }
    }

    /// The same client with another limit for the duration of each answer; 40 s unless told.
    #[must_use]
    pub const fn with_limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// The server's address.
    #[must_use]
    pub const fn base(&self) -> &BaseUrl {
        &self.base
    }

    /// Whether requests carry a key or token.
    #[must_use]
    pub const fn has_credentials(&self) -> bool {
        !self.credentials.is_none()
    }

    /// Asks for a resource.
    ///
    /// # Errors
    /// [`ClientError`]; anything but success is one.
    pub async fn get(&self, path: &str) -> Result<Value, ClientError> {
        Ok(self.call(Call::new(Method::GET, path)).await?.body)
    }

    /// Sends a JSON document.
    ///
    /// # Errors
    /// [`ClientError`]; anything but success is one.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value, ClientError> {
        Ok(self.call(Call::new(Method::POST, path).body(body)).await?.body)
    }

    /// Asks for a resource in a form of its own, to the byte.
    ///
    /// # Errors
    /// [`ClientError`]; anything but success is one.
    pub async fn bytes(&self, path: &str, media_type: &'static str) -> Result<Bytes, ClientError> {
        let (status, headers, bytes) =
            self.exchange(Call::new(Method::GET, path).accept(media_type)).await?;
        if status.is_success() {
            return Ok(bytes);
        }
        Err(self.refusal(status, &headers, &content(&bytes)))
    }

    /// Makes a request.
    ///
    /// # Errors
    /// [`ClientError`]; anything but success is one.
    pub async fn call(&self, call: Call<'_>) -> Result<Answer, ClientError> {
        let (status, headers, bytes) = self.exchange(call).await?;
        let body = content(&bytes);
        if status.is_success() {
            let etag = text(&headers, ETAG);
            return Ok(Answer { status, body, etag });
        }
        Err(self.refusal(status, &headers, &body))
    }

    /// Asks whether the system is ready. That it is not is an answer too.
    ///
    /// # Errors
    /// [`ClientError`]; [`ClientError::Refused`] where the server does not look, such as for a caller who asks too much.
    pub async fn readiness(&self) -> Result<Readiness, ClientError> {
        let (status, headers, bytes) = self.exchange(Call::new(Method::GET, READINESS)).await?;
        let body = content(&bytes);
        match Readiness::read(&body) {
            Some(readiness) => Ok(readiness),
            None if status.is_success() => Err(self.foreign("it does not say whether it is ready")),
            None => Err(self.refusal(status, &headers, &body)),
        }
    }

    async fn exchange(
        &self,
        call: Call<'_>,
    ) -> Result<(StatusCode, HeaderMap, Bytes), ClientError> {
        let request = self.request(&call, &[])?;
        let exchange = async {
            let response = self.send(request).await?;
            let (parts, body) = response.into_parts();
            let bytes = Limited::new(body, ANSWER_BYTES).collect().await;
            let bytes = bytes.map_err(|source| self.lost(source))?.to_bytes();
            Ok((parts.status, parts.headers, bytes))
        };
        let in_time = tokio::time::timeout(self.limit, exchange).await;
        in_time.map_err(|_| self.timed_out(self.limit))?
    }

    /// Opens an answer without an end; its status is a success.
    pub(crate) async fn open(
        &self,
        path: &str,
        headers: &[(HeaderName, String)],
    ) -> Result<Response<Incoming>, ClientError> {
        let request =
            self.request(&Call::new(Method::GET, path).accept("text/event-stream"), headers)?;
        let sent = tokio::time::timeout(self.limit, self.send(request)).await;
        let response = sent.map_err(|_| self.timed_out(self.limit))??;
        if response.status().is_success() {
            return Ok(response);
        }
        let (parts, body) = response.into_parts();
        let bytes = Limited::new(body, ANSWER_BYTES).collect();
        let bytes = tokio::time::timeout(self.limit, bytes).await;
        let bytes = bytes.map_err(|_| self.timed_out(self.limit))?;
        let bytes = bytes.map_err(|source| self.lost(source))?.to_bytes();
        Err(self.refusal(parts.status, &parts.headers, &content(&bytes)))
    }

    fn request(
        &self,
        call: &Call<'_>,
        headers: &[(HeaderName, String)],
    ) -> Result<Request<Full<Bytes>>, ClientError> {
        let uri = format!("{}{}", self.base.as_str(), call.path);
        let mut request =
            Request::builder().method(&call.method).uri(uri).header(ACCEPT, call.accept);
        if let Some((name, value)) = self.credentials.header() {
            request = request.header(name, value);
        }
        if let Some(etag) = call.if_match {
            request = request.header(http::header::IF_MATCH, etag);
        }
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let body = match call.body {
            Some(body) => {
                request =
                    request.header(CONTENT_TYPE, HeaderValue::from_static("application/json"));
                Full::from(body.to_string())
            }
            None => Full::default(),
        };
        request.body(body).map_err(|_| ClientError::Address {
            text: format!("{}{}", self.base.as_str(), call.path),
            why: "it cannot stand in a request",
        })
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, ClientError> {
        self.http.request(request).await.map_err(|error| {
            let base = self.base.as_str().to_owned();
            if error.is_connect() {
                ClientError::Unreachable { base, source: error.into() }
            } else {
                ClientError::Lost { base, source: error.into() }
            }
        })
    }

    fn refusal(&self, status: StatusCode, headers: &HeaderMap, body: &Value) -> ClientError {
        let seconds = text(headers, RETRY_AFTER).and_then(|text| text.parse().ok());
        match Refusal::read(status, body, seconds.map(Duration::from_secs)) {
            Some(refusal) => ClientError::Refused(Box::new(refusal)),
            None => self.foreign(format!("it answers with {status} and no error of ours")),
        }
    }

    pub(crate) fn foreign(&self, why: impl Into<String>) -> ClientError {
        ClientError::Foreign { base: self.base.as_str().to_owned(), why: why.into() }
    }

    pub(crate) fn lost(
        &self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> ClientError {
        ClientError::Lost { base: self.base.as_str().to_owned(), source: source.into() }
    }

    pub(crate) fn timed_out(&self, after: Duration) -> ClientError {
        ClientError::TimedOut { base: self.base.as_str().to_owned(), after }
    }
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<String> {
    headers.get(name)?.to_str().ok().map(ToOwned::to_owned)
}

fn content(bytes: &[u8]) -> Value {
    if bytes.is_empty() {
        return Value::Null;
    }
    serde_json::from_slice(bytes)
        .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(bytes).into_owned()))
}
