//! Every error is JSON of one shape, whatever went wrong.

use bytes::Bytes;
use http::{Method, StatusCode};
use http_body_util::Full;
use serde_json::json;

use crate::support::Api;

#[tokio::test]
async fn unknown_routes_and_methods_are_told_in_json() {
    let api = Api::start().await;
    assert_eq!(api.get("/nowhere").await.error(), (404, "no_such_route".to_owned()));
    let request = api.request(Method::DELETE, "/tasks").body(Full::default()).unwrap();
    let refused = api.send(request).await;
    assert_eq!(refused.error(), (405, "method_not_allowed".to_owned()));
    assert!(refused.headers["allow"].to_str().unwrap().contains("POST"));
}

#[tokio::test]
async fn bodies_that_cannot_be_read_are_told_apart() {
    let api = Api::start().await;
    for text in ["", "{", "[1", "nope", "{\"title\": \"a\"} trailing"] {
        let refused = api.post_text("/tasks", text).await;
        assert_eq!(refused.error(), (400, "malformed_json".to_owned()), "`{text}`");
    }
    for text in ["[]", "7", "null", "\"x\""] {
        let refused = api.post_text("/tasks", text).await;
        assert_eq!(refused.error(), (422, "invalid_fields".to_owned()), "`{text}`");
        assert_eq!(refused.fields(), ["body"], "`{text}`");
    }
    let too_long = "x".repeat(2 * 1024 * 1024 + 1);
    let refused = api.post_text("/tasks", &too_long).await;
    assert_eq!(refused.error(), (413, "body_too_large".to_owned()));
    for kind in [None, Some("text/plain"), Some("application/x-www-form-urlencoded")] {
        let request = api.request(Method::POST, "/tasks");
        let request = match kind {
            Some(kind) => request.header("content-type", kind),
            None => request,
        };
        let body: Full<Bytes> = Full::from(api.task().to_string());
        let refused = api.send(request.body(body).unwrap()).await;
        assert_eq!(refused.error(), (415, "unsupported_media_type".to_owned()), "{kind:?}");
    }
}

#[tokio::test]
async fn values_that_no_text_or_number_holds_name_their_field() {
    let api = Api::start().await;
    for (text, status, field) in [
        (r#"{"title":"a","priority":1e999}"#, 422, "priority"),
        (r#"{"title":"\ud800"}"#, 422, "title"),
        (r#"{"context":{"a":[0,1e999]}}"#, 422, "context.a[1]"),
    ] {
        let refused = api.post_text("/tasks", text).await;
        assert_eq!(refused.status.as_u16(), status, "{text}: {}", refused.json);
        assert_eq!(refused.fields(), [field], "{text}");
    }
}

#[tokio::test]
async fn ids_that_are_none_and_ids_of_nothing_are_told_apart() {
    let api = Api::start().await;
    for path in [
        "/tasks/7",
        "/tasks/%ff",
        "/runs/task-0123456789abcdef0123456789abcdef",
        "/runs/x/events",
        "/runs/x/events/stream",
        "/tasks/x/runs",
    ] {
        let refused = api.get(path).await;
        assert_eq!(refused.error(), (400, "invalid_parameters".to_owned()), "{path}");
        assert_eq!(refused.fields(), ["id"], "{path}");
    }
    let nothing = "0123456789abcdef0123456789abcdef";
    for path in [
        format!("/tasks/task-{nothing}"),
        format!("/tasks/task-{nothing}/runs"),
        format!("/runs/run-{nothing}"),
        format!("/runs/run-{nothing}/events"),
        format!("/runs/run-{nothing}/events/stream"),
    ] {
        assert_eq!(api.get(&path).await.error(), (404, "not_found".to_owned()), "{path}");
    }
    let cancel = format!("/tasks/task-{nothing}/cancel");
    assert_eq!(api.post_text(&cancel, "").await.error(), (404, "not_found".to_owned()));
}

#[tokio::test]
async fn queries_that_are_not_allowed_name_their_parameter() {
    let api = Api::start().await;
    for (query, field) in [
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("limit=x", "limit"),
        ("limit=", "limit"),
        ("status=sleeping", "status"),
        ("role=boss", "role"),
        ("cursor=x%00", "cursor"),
        ("colour=red", "colour"),
        ("limit=1&limit=2", "limit"),
    ] {
        let refused = api.get(&format!("/tasks?{query}")).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{query}");
        assert_eq!(refused.fields(), [field], "{query}: {}", refused.json);
    }
}

#[tokio::test]
async fn every_answer_carries_the_id_of_its_request() {
    let api = Api::start().await;
    let request = api.request(Method::GET, "/health").header("x-request-id", "mine-1");
    let answer = api.send(request.body(Full::default()).unwrap()).await;
    assert_eq!(answer.headers["x-request-id"], "mine-1");
    let refused = api.get("/nowhere").await;
    assert_eq!(refused.headers["x-request-id"].len(), 32);
    assert_eq!(refused.json["details"], json!(null));
}
