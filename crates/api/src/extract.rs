//! What handlers are given: bodies, queries and ids that are known to be well-formed, or an error that names the field.

use std::str::FromStr;

use axum::{
    body::Bytes,
    extract::{
        FromRequest, FromRequestParts, OptionalFromRequestParts, Path, Request,
        rejection::BytesRejection,
    },
};
use http::{HeaderMap, StatusCode, header, request::Parts};
use serde::de::{DeserializeOwned, IgnoredAny};

use crate::error::{ApiError, FieldFault};

/// The longest body of a request, in bytes.
pub(crate) const BODY_LIMIT: usize = 2 * 1024 * 1024;
/// How much of a parser's complaint is shown.
const COMPLAINT_LIMIT: usize = 300;

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
        let bytes = Bytes::from_request(request, state).await.map_err(|error| unread(&error))?;
        parse(&bytes).map(Self)
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = value.and_then(|value| value.split(';').next()).unwrap_or_default();
    essence.trim().eq_ignore_ascii_case("application/json")
}

fn unread(error: &BytesRejection) -> ApiError {
    if error.status() == StatusCode::PAYLOAD_TOO_LARGE {
        let text = format!("the body is longer than {BODY_LIMIT} bytes");
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", text)
    } else {
        ApiError::new(StatusCode::BAD_REQUEST, "body_unreadable", "the body did not arrive whole")
    }
}

/// Reads JSON; an error names the field.
fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
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
    serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        refused(&path, error.inner())
    })
}

fn refused(path: &str, error: &serde_json::Error) -> ApiError {
    if error.is_data() {
        ApiError::fields(vec![misfit(path, &without_place(error))])
    } else {
        malformed(error)
    }
}

fn malformed(error: &serde_json::Error) -> ApiError {
    let text = format!("the body is not JSON: {}", cut(&error.to_string()));
    ApiError::new(StatusCode::BAD_REQUEST, "malformed_json", text)
}

/// serde's complaint as a fault of a field: what it names is the field, what it expects is what is allowed.
fn misfit(path: &str, complaint: &str) -> FieldFault {
    let parent = Some(path).filter(|path| *path != ".").unwrap_or_default();
    let join = |name: &str| match parent {
        "" => name.to_owned(),
        parent if parent == name || parent.ends_with(&format!(".{name}")) => parent.to_owned(),
        parent => format!("{parent}.{name}"),
    };
    let named = |prefix: &str| {
        let (name, rest) = complaint.strip_prefix(prefix)?.split_once('`')?;
        Some((join(name), rest.trim_start_matches(", expected ").trim()))
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
                ApiError::parameters(vec![misfit(".", complaint)])
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
            let fault = FieldFault::new("id", error.to_string(), "the id as the API gave it");
            ApiError::parameters(vec![fault])
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
        check(r#"{"name":"a","x":1}"#, "x", "is not a field of this request", "name or inner");
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
}
