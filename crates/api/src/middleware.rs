//! What happens to every request: an id, a time limit, one line in the log.
//!
//! The line has no query, no body and no header: they may hold what is nobody's business.

use std::{
    any::Any,
    time::{Duration, Instant},
};

use axum::{
    extract::Request,
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use tracing::Instrument as _;
use uuid::Uuid;

use crate::error::ApiError;

/// The header that carries the id of a request, both ways.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// How long a handler may take to begin its answer; a stream of events may go on after that.
const TIME_LIMIT: Duration = Duration::from_secs(30);

/// Gives the request an id, answers it or refuses it, and logs one line.
pub(crate) async fn observe(request: Request, next: Next) -> Response {
    let id = request_id(request.headers());
    let span = tracing::info_span!("request", request.id = %id);
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let began = Instant::now();
    async move {
        let mut response = answer(request, next).await;
        let status = response.status().as_u16();
        let duration_ms = began.elapsed().as_secs_f64() * 1000.0;
        tracing::info!(http.method = %method, http.path = %path, http.status = status, duration_ms, "request answered");
        harden(response.headers_mut(), &id);
        response
    }
    .instrument(span)
    .await
}

async fn answer(request: Request, next: Next) -> Response {
    match tokio::time::timeout(TIME_LIMIT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => ApiError::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "timeout",
            "the request took too long; a change it asked for may still be made",
        )
        .into_response(),
    }
}

/// The client's own id where it is short and plain, else a new one.
fn request_id(headers: &HeaderMap) -> String {
    let plain = |id: &&str| {
        (1..=64).contains(&id.len())
            && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    };
    let given = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok()).filter(plain);
    given.map_or_else(|| Uuid::now_v7().simple().to_string(), ToOwned::to_owned)
}

fn harden(headers: &mut HeaderMap, id: &str) {
    if let Ok(id) = HeaderValue::from_str(id) {
        headers.insert(REQUEST_ID, id);
    }
    headers.insert(http::header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(http::header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
}

/// Answers for a handler that panicked.
pub(crate) fn panicked(panic: Box<dyn Any + Send + 'static>) -> Response {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no text");
    tracing::error!(panic = text, "handler panicked");
    ApiError::internal().into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_answered_in_json() {
        let response = panicked(Box::new("hunter2"));
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(response.headers()["content-type"], "application/json");
    }

    #[test]
    fn only_a_plain_id_of_the_client_is_kept() {
        let id = |value: &'static str| {
            request_id(&HeaderMap::from_iter([(REQUEST_ID, HeaderValue::from_static(value))]))
        };
        assert_eq!(id("abc-1"), "abc-1");
        assert_ne!(id("a b"), "a b");
        assert_eq!(request_id(&HeaderMap::new()).len(), 32);
    }
}
