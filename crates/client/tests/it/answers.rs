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
async fn a_system_that_is_ready_or_not_says_so_whatever_the_status() {
    let missing = json!({
        "ready": false, "error": "no agent is alive", "code": "not_ready", "warnings": [],
        "checks": [
            { "name": "database", "ok": true, "message": "the database answers" },
            { "name": "agent", "ok": false, "message": "no agent is alive" },
        ],
    });
    let server = Server::answering(vec![
        answer("200 OK", "", r#"{"ready":true,"checks":[],"warnings":[]}"#),
        answer("503 Service Unavailable", "", &missing.to_string()),
    ])
    .await;
    let ready = server.client().readiness().await.unwrap();
    assert!(ready.ready && ready.checks.is_empty());
    let told = server.client().readiness().await.unwrap();
    assert!(!told.ready);
    let missing_checks: Vec<&str> = told.missing().map(|check| check.name.as_str()).collect();
    assert_eq!(missing_checks, ["agent"]);
    assert_eq!(told.answer, missing);
    assert!(server.asked().concat().starts_with("get /health/ready "));
}

#[tokio::test]
async fn a_question_about_readiness_that_is_refused_is_a_refusal_and_may_be_asked_later() {
    let body = r#"{"error":"too many requests","code":"too_many_requests"}"#;
    for status in ["429 Too Many Requests", "503 Service Unavailable"] {
        let server = Server::answering(vec![answer(status, "retry-after: 2\r\n", body)]).await;
        let error = server.client().readiness().await.unwrap_err();
        assert_eq!(error.retry_after(), Some(Duration::from_secs(2)), "{status}");
        assert!(error.is_transient(), "{status}");
    }
}

#[tokio::test]
async fn what_neither_says_whether_it_is_ready_nor_refuses_is_foreign() {
    for (status, body) in [
        ("200 OK", "<html>"),
        ("200 OK", "{}"),
        ("429 Too Many Requests", r#"{"message":"slow down"}"#),
        ("503 Service Unavailable", "no upstream"),
        ("404 Not Found", ""),
    ] {
        let server = Server::answering(vec![answer(status, "retry-after: 2\r\n", body)]).await;
        let error = server.client().readiness().await.unwrap_err();
        assert!(matches!(error, ClientError::Foreign { .. }), "{status} {body}: {error:?}");
        assert!(!error.is_transient());
    }
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
