//! What handlers are given: bodies, queries and ids that are known to be well-formed, or an error that names the field.

use std::{str::FromStr, time::Duration};

use axum::{
    body::Bytes,
    extract::{
        FromRequest, FromRequestParts, OptionalFromRequestParts, Path, Request,
        rejection::BytesRejection,
    },
};
use core_types::process::{ProcessName, ProcessNameError};
use http::{HeaderMap, StatusCode, header, request::Parts};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_path_to_error::{Path as JsonPath, Segment};
use tokio::time::timeout;

use crate::error::{ApiError, FieldFault};

/// The longest body of a request, in bytes.
pub(crate) const BODY_LIMIT: usize = 2 * 1024 * 1024;
/// How long a body may take to arrive.
const BODY_TIME: Duration = Duration::from_secs(15);
/// How much of a parser's complaint is shown.
const COMPLAINT_LIMIT: usize = 300;
/// The longest name of a field in an answer, in characters; no field of ours has a longer one.
const NAME_LIMIT: usize = 64;

/// A request's body, read as JSON.
#[derive(Debug)]
pub(crate) struct JsonBody<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        if !is_json(request.headers()) {
            return Err(ApiError::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported_media_type",
                "the body's `Content-Type` is not allowed; allowed: application/json",
            ));
        }
        if declared_length(request.headers()).is_some_and(|length| length > BODY_LIMIT) {
            return Err(too_long());
        }
        let arrived = timeout(BODY_TIME, Bytes::from_request(request, state)).await;
        let bytes = arrived.map_err(|_| too_slow())?.map_err(|error| unread(&error))?;
        parse(&bytes).map(Self)
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = value.and_then(|value| value.split(';').next()).unwrap_or_default();
    essence.trim().eq_ignore_ascii_case("application/json")
}

fn declared_length(headers: &HeaderMap) -> Option<usize> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn unread(error: &BytesRejection) -> ApiError {
    if error.status() == StatusCode::PAYLOAD_TOO_LARGE {
        too_long()
    } else {
        ApiError::new(StatusCode::BAD_REQUEST, "body_unreadable", "the body did not arrive whole")
    }
}

fn too_long() -> ApiError {
    let text = format!("the body is longer than {BODY_LIMIT} bytes");
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", text)
}

fn too_slow() -> ApiError {
    let text = format!("the body did not arrive within {} s", BODY_TIME.as_secs());
    ApiError::new(StatusCode::REQUEST_TIMEOUT, "body_timeout", text)
}

/// Reads JSON; an error names the field.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice::<IgnoredAny>(bytes).map_err(|error| malformed(&error))?;
    // serde would read an array as an object whose fields come in order.
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        return Err(ApiError::fields(vec![FieldFault::new(
            "body",
            "is not an object",
            "an object",
        )]));
    }
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    serde_path_to_error::deserialize(&mut reader)
        .map_err(|error| refused(&place(error.path()), error.inner()))
}

fn refused(path: &str, error: &serde_json::Error) -> ApiError {
    let complaint = without_place(error);
    if error.is_data() {
        return ApiError::fields(vec![misfit(path, &complaint)]);
    }
    // The form of the body was found right before; what is left is a value that cannot be read.
    let field = if path.is_empty() { "body" } else { path };
    let not_json = |what: &str, allowed: &str| {
        let details = vec![FieldFault::new(field, what, allowed)];
        ApiError::with_fields(StatusCode::BAD_REQUEST, "malformed_json", details)
    };
    match complaint.as_str() {
        "recursion limit exceeded" => {
            not_json("is nested too deeply", "arrays and objects in at most 127 levels")
        }
        "invalid unicode code point" => not_json("is not valid UTF-8", "texts in UTF-8"),
        "number out of range" => ApiError::fields(vec![FieldFault::new(
            field,
            "is a number out of range",
            "a number that a double can hold",
        )]),
        _ => ApiError::fields(vec![FieldFault::new(
            field,
            format!("cannot be read: {}", cut(&complaint)),
            "texts whose escapes are whole characters",
        )]),
    }
}

/// A path as clients write it; empty for the body itself.
fn place(path: &JsonPath) -> String {
    let segment = |segment: &Segment| match segment {
        Segment::Seq { index } => format!("[{index}]"),
        Segment::Map { key } => format!(".{}", cut_name(key)),
        Segment::Enum { variant } => format!(".{}", cut_name(variant)),
        Segment::Unknown => ".?".to_owned(),
    };
    let text: String = path.iter().map(segment).collect();
    cut(text.strip_prefix('.').unwrap_or(&text))
}

/// A name that may be a stranger's, of bounded length.
fn cut_name(name: &str) -> String {
    if name.chars().nth(NAME_LIMIT).is_none() {
        return name.to_owned();
    }
    name.chars().take(NAME_LIMIT - 1).chain(['…']).collect()
}

fn malformed(error: &serde_json::Error) -> ApiError {
    let text = format!("the body is not JSON: {}", cut(&error.to_string()));
    ApiError::new(StatusCode::BAD_REQUEST, "malformed_json", text)
}

/// serde's complaint as a fault of a field: what it names is the field, what it expects is what is allowed.
fn misfit(parent: &str, complaint: &str) -> FieldFault {
    let join = |name: &str| match parent {
        "" => name.to_owned(),
        parent if parent == name || parent.ends_with(&format!(".{name}")) => parent.to_owned(),
        parent => format!("{parent}.{name}"),
    };
    let named = |prefix: &str| {
        let (name, rest) = complaint.strip_prefix(prefix)?.split_once('`')?;
        Some((join(&cut_name(name)), rest.trim_start_matches(", expected ").trim()))
    };
    if let Some((field, _)) = named("missing field `") {
        return FieldFault::new(field, "is missing", "a value");
    }
    if let Some((field, known)) = named("unknown field `") {
        let known = known.trim_start_matches("one of ").replace('`', "");
        return FieldFault::new(field, "is not a field of this request", known);
    }
    if let Some((field, _)) = named("duplicate field `") {
        return FieldFault::new(field, "is there twice", "one value");
    }
    let field = if parent.is_empty() { "body" } else { parent };
    match complaint.split_once(", expected ") {
        Some((what, allowed)) => FieldFault::new(field, cut(what), in_words(allowed)),
        None => match complaint.split_once("; allowed: ") {
            Some((what, allowed)) => FieldFault::new(field, cut(what), allowed),
            None => FieldFault::new(field, cut(complaint), "see `GET /openapi.json`"),
        },
    }
}

/// Names of Rust types as a client would say them.
fn in_words(expected: &str) -> String {
    match expected {
        "i8" | "i16" | "i32" | "i64" => "an integer".to_owned(),
        "u8" | "u16" | "u32" | "u64" | "usize" => "an integer that is not negative".to_owned(),
        "f32" | "f64" => "a number".to_owned(),
        other if other.starts_with("struct ") => "an object".to_owned(),
        "internally tagged enum Repository" | "a map" => "an object".to_owned(),
        "a sequence" => "an array".to_owned(),
        other => other.to_owned(),
    }
}

fn without_place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rsplit_once(" at line ").map_or(text.clone(), |(complaint, _)| complaint.to_owned())
}

fn cut(text: &str) -> String {
    core_types::event::cut_text(text, COMPLAINT_LIMIT)
}

/// The query of a request, read into texts; what they mean is checked by whoever asked.
#[derive(Debug)]
pub(crate) struct QueryTexts<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for QueryTexts<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        axum::extract::Query::<T>::try_from_uri(&parts.uri).map(|query| Self(query.0)).map_err(
            |rejection| {
                let text = rejection.body_text();
                let complaint = text.split_once(": ").map_or(text.as_str(), |(_, rest)| rest);
                let complaint = complaint.rsplit(": ").next().unwrap_or(complaint);
                ApiError::parameters(vec![misfit("", complaint)])
            },
        )
    }
}

/// An id in the path of a request.
#[derive(Debug)]
pub(crate) struct PathId<T>(pub(crate) T);

impl<S, T> FromRequestParts<S> for PathId<T>
where
    S: Send + Sync,
    T: FromStr + Send,
    T::Err: std::fmt::Display,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let path = <Path<String> as FromRequestParts<S>>::from_request_parts(parts, state).await;
        let text = path.map_or_else(|_| String::new(), |Path(text)| text);
        text.parse().map(Self).map_err(|error: T::Err| {
            let fault = FieldFault::new("id", cut(&error.to_string()), "the id as the API gave it");
            ApiError::parameters(vec![fault])
        })
    }
}

/// The name of a managed process from the path.
#[derive(Debug)]
pub(crate) struct PathProcess(pub(crate) ProcessName);

impl<S: Send + Sync> FromRequestParts<S> for PathProcess {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let path = <Path<String> as FromRequestParts<S>>::from_request_parts(parts, state).await;
        let text = path.map_or_else(|_| String::new(), |Path(text)| text);
        text.parse().map(Self).map_err(|error: ProcessNameError| {
            ApiError::new(StatusCode::NOT_FOUND, "no_such_process", error.to_string())
        })
    }
}

/// The place after which a stream of events goes on, from the header that browsers send when they come back.
#[derive(Debug)]
pub(crate) struct LastEventId(pub(crate) i64);

impl<S: Send + Sync> OptionalFromRequestParts<S> for LastEventId {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Option<Self>, ApiError> {
        let Some(value) = parts.headers.get("last-event-id") else {
            return Ok(None);
        };
        let seq = value.to_str().ok().and_then(|text| text.parse().ok()).filter(|seq| *seq >= 0);
        seq.map(|seq| Some(Self(seq))).ok_or_else(|| {
            let fault = FieldFault::new("Last-Event-ID", "is not the id of an event", "a number");
            ApiError::parameters(vec![fault])
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only its reading is of interest")]
    struct Body {
        name: String,
        #[serde(default)]
        inner: Vec<Inner>,
        #[serde(default)]
        any: serde_json::Value,
    }

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only its reading is of interest")]
    struct Inner {
        count: u8,
        #[serde(default)]
        role: Option<core_types::task::Role>,
    }

    #[track_caller]
    fn check(json: &str, field: &str, what: &str, allowed: &str) {
        let error = parse::<Body>(json.as_bytes()).unwrap_err();
        let expected = ApiError::fields(vec![FieldFault::new(field, what, allowed)]);
        assert_eq!(error, expected, "{json}");
    }

    #[test]
    fn every_misfit_names_its_field() {
        check("{}", "name", "is missing", "a value");
        check(r#"{"name":"a","inner":[{}]}"#, "inner[0].count", "is missing", "a value");
        check(r#"{"name":1}"#, "name", "invalid type: integer `1`", "a string");
        check(r#"{"name":"a","x":1}"#, "x", "is not a field of this request", "name, inner, any");
        check(
            r#"{"name":"a","inner":[{"count":1,"y":2}]}"#,
            "inner[0].y",
            "is not a field of this request",
            "count or role",
        );
        check(
            r#"{"name":"a","inner":[{"count":1000}]}"#,
            "inner[0].count",
            "invalid value: integer `1000`",
            "an integer that is not negative",
        );
        check(
            r#"{"name":"a","inner":[{"count":1,"role":"boss"}]}"#,
            "inner[0].role",
            "`boss` is not a role",
            "worker, tester, docser",
        );
        check(r#"{"name":"a","name":"b"}"#, "name", "is there twice", "one value");
        check("[]", "body", "is not an object", "an object");
    }

    #[test]
    fn what_is_not_json_is_told_apart() {
        for json in ["", "{", "{\"name\":\"a\"} x", "nope"] {
            let error = parse::<Body>(json.as_bytes()).unwrap_err();
            assert_eq!(error.status(), StatusCode::BAD_REQUEST, "{json}");
        }
    }

    #[track_caller]
    fn refuses(json: impl AsRef<[u8]>, status: u16, field: &str, what: &str) {
        let error = parse::<Body>(json.as_ref()).unwrap_err();
        assert_eq!(error.status().as_u16(), status, "{error:?}");
        let text = format!("{error:?}");
        assert!(text.contains(&format!("field: \"{field}\"")) && text.contains(what), "{text}");
    }

    #[test]
    fn values_that_cannot_be_read_are_told_with_their_place() {
        let number = format!(r#"{{"name":"a","any":{{"x":[{}]}}}}"#, "9".repeat(400));
        refuses(&number, 422, "any.x[0]", "out of range");
        let count = r#"{"name":"a","inner":[{"count":1e999}]}"#;
        refuses(count, 422, "inner[0].count", "out of range");
        for half in [r"\ud800", r"\udc00", r"\ud800\ud800", r"\ud800x"] {
            refuses(format!(r#"{{"name":"{half}"}}"#), 422, "name", "cannot be read");
        }
        refuses(b"{\"name\":\"\xff\"}", 400, "name", "UTF-8");
        let deep = format!(r#"{{"name":"a","any":{}1{}}}"#, "[".repeat(500), "]".repeat(500));
        let error = parse::<Body>(deep.as_bytes()).unwrap_err();
        let text = format!("{error:?}");
        assert_eq!(error.status(), StatusCode::BAD_REQUEST);
        assert!(text.contains("field: \"any[0]") && text.contains("too deeply"), "{text}");
    }

    #[test]
    fn a_long_unknown_name_is_cut() {
        let name = "ä".repeat(100_000);
        let cut = format!("{}…", "ä".repeat(63));
        refuses(format!(r#"{{"{name}":1}}"#), 422, &cut, "is not a field");
        let inner = format!(r#"{{"name":"a","inner":[{{"{name}":1}}]}}"#);
        refuses(inner, 422, &format!("inner[0].{cut}"), "is not a field");
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_stalls_is_given_up() {
        let stalled = futures_util::stream::pending::<Result<Bytes, std::io::Error>>();
        let request = Request::builder()
            .header("content-type", "application/json")
            .body(axum::body::Body::from_stream(stalled))
            .unwrap();
        let error = JsonBody::<Body>::from_request(request, &()).await.unwrap_err();
        assert_eq!(error.status(), StatusCode::REQUEST_TIMEOUT);
    }

    #[tokio::test]
    async fn a_body_that_is_said_to_be_too_long_is_not_waited_for() {
        let never = futures_util::stream::pending::<Result<Bytes, std::io::Error>>();
        let request = Request::builder()
            .header("content-type", "application/json")
            .header("content-length", BODY_LIMIT + 1)
            .body(axum::body::Body::from_stream(never))
            .unwrap();
        let error = JsonBody::<Body>::from_request(request, &()).await.unwrap_err();
        assert_eq!(error.status(), StatusCode::PAYLOAD_TOO_LARGE);
    }
}
