//! What an answer, a refusal and a silence are to a caller.

use std::time::Duration;

use client::{
    address::BaseUrl,
    client::{Call, Client},
    credentials::Credentials,
    error::{ClientError, Meaning},
};
use http::Method;
use serde_json::{Value, json};

use crate::server::{Server, answer};

#[tokio::test]
async fn an_answer_is_json_with_its_etag() {
    let server = Server::answering(vec![answer("200 OK", "etag: \"7\"\r\n", r#"{"a":1}"#)]).await;
    let answer = server.client().call(Call::new(Method::GET, "/config")).await.unwrap();
    assert_eq!(answer.body, json!({ "a": 1 }));
    assert_eq!(answer.etag.as_deref(), Some("\"7\""));
}

#[tokio::test]
async fn a_patch_comes_as_it_is_and_its_refusal_as_an_error() {
    let server = Server::answering(vec![
        answer("200 OK", "content-type: text/x-diff\r\n", "{}\n"),
        answer("409 Conflict", "", r#"{"error":"no commit","code":"no_commit"}"#),
    ])
    .await;
    let bytes = server.client().bytes("/tasks/t/diff", "text/x-diff").await.unwrap();
    assert_eq!(bytes.as_ref(), b"{}\n");
    assert!(server.asked().concat().contains("accept: text/x-diff"));
    let error = server.client().bytes("/tasks/t/diff", "text/x-diff").await.unwrap_err();
    assert_eq!(error.refusal().map(|refusal| refusal.meaning()), Some(Meaning::Conflict));
}

#[tokio::test]
async fn a_key_goes_in_a_header_and_a_change_names_the_state_it_was_made_for() {
    let server = Server::answering(vec![answer("200 OK", "", "{}")]).await;
    let credentials = Credentials::new(Some("k-123".to_owned()), None);
    let client = Client::new(server.base.clone(), credentials);
    let body = json!({ "b": 2 });
    let call = Call::new(Method::PATCH, "/config").body(&body).if_match(Some("\"7\""));
    client.call(call).await.unwrap();
    let asked = server.asked().concat();
    assert!(asked.starts_with("patch /config "), "{asked}");
    for header in ["x-api-key: k-123", "if-match: \"7\"", "content-type: application/json"] {
        assert!(asked.contains(header), "{header} in {asked}");
    }
}

#[tokio::test]
async fn a_refusal_keeps_the_server_s_words_and_details() {
    let body = json!({
        "error": "`goal` is missing", "code": "invalid_fields",
        "details": [{ "field": "goal", "what": "is missing", "allowed": "a text" }],
    });
    let server = Server::answering(vec![
        answer("422 Unprocessable Entity", "", &body.to_string()),
        answer("429 Too Many Requests", "retry-after: 3\r\n", r#"{"error":"e","code":"c"}"#),
    ])
    .await;
    let error = server.client().post("/tasks", &Value::Null).await.unwrap_err();
    let refusal = error.refusal().unwrap();
    assert_eq!(refusal.meaning(), Meaning::Invalid);
    assert_eq!(refusal.code, "invalid_fields");
    assert_eq!(refusal.details.len(), 1);
    assert_eq!(error.to_string(), "`goal` is missing");
    let error = server.client().get("/tasks").await.unwrap_err();
    assert_eq!(error.refusal().unwrap().retry_after, Some(Duration::from_secs(3)));
    assert!(error.is_transient());
}

#[tokio::test]
async fn a_readiness_check_that_fails_is_an_answer() {
    let body = r#"{"ready":false,"checks":[]}"#;
    let server = Server::answering(vec![answer("503 Service Unavailable", "", body)]).await;
    let (status, body) = server.client().look("/health/ready").await.unwrap();
    assert_eq!(status.as_u16(), 503);
    assert_eq!(body["ready"], json!(false));
}

#[tokio::test]
async fn an_answer_of_somebody_else_is_foreign() {
    let server = Server::answering(vec![answer("502 Bad Gateway", "", "<html>")]).await;
    let error = server.client().get("/tasks").await.unwrap_err();
    assert!(matches!(error, ClientError::Foreign { .. }), "{error:?}");
}

#[tokio::test]
async fn nobody_who_listens_is_unreachable_and_an_answer_cut_short_is_lost() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let client = Client::new(BaseUrl::of_listener(free), Credentials::None);
    let error = client.get("/health").await.unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { .. }), "{error:?}");

    let short = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{".to_owned();
    let server = Server::answering(vec![short]).await;
    let error = server.client().get("/health").await.unwrap_err();
    assert!(matches!(error, ClientError::Lost { .. }), "{error:?}");
}

#[tokio::test]
async fn a_server_that_is_silent_is_given_up() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = BaseUrl::of_listener(silent.local_addr().unwrap());
    let limit = Duration::from_millis(50);
    let client = Client::new(base, Credentials::None).with_limit(limit);
    let error = client.get("/health").await.unwrap_err();
    assert!(matches!(error, ClientError::TimedOut { .. }), "{error:?}");
}
