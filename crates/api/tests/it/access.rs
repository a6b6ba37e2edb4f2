//! Who is answered: this machine, and no foreign web page that asks for a change.

use std::{net::SocketAddr, sync::Arc};

use api::{
    server::{BindError, Server},
    state::ApiState,
};
use http::{Method, StatusCode};
use http_body_util::Full;
use store::{
    agents::{HostId, ProcessIdentity},
    dispatchers::DispatcherBeat,
};
use testing::database::TestDatabase;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::support::{Answer, Api, settings};

const KEYS: [(&str, &str); 2] =
    [("API_KEYS", "the-right-key-0001"), ("API_SECRET", "the-right-token-2")];

#[tokio::test]
async fn a_name_that_a_stranger_points_here_is_refused() {
    let api = Api::start_with(&KEYS).await;
    for (host, status) in [("evil.example", 403), ("localhost", 200), ("127.0.0.1:1", 200)] {
        for path in ["/health", "/tasks"] {
            let answer = ask(&api, Method::GET, path, &[("host", host)]).await;
            assert_eq!(answer.status.as_u16(), status, "{host}");
        }
    }
    let key = ("x-api-key", "the-right-key-0001");
    let answer = ask(&api, Method::GET, "/config", &[("host", "evil.example"), key]).await;
    assert_eq!(answer.error(), (403, "host_not_allowed".to_owned()));
}

#[tokio::test]
async fn a_foreign_page_changes_nothing() {
    let api = Api::start().await;
    let own = api.url("");
    for (origin, status) in [
        ("https://evil.example", StatusCode::FORBIDDEN),
        ("null", StatusCode::FORBIDDEN),
        ("http://127.0.0.1:1", StatusCode::FORBIDDEN),
        (own.as_str(), StatusCode::CREATED),
    ] {
        let request = api
            .request(Method::POST, "/tasks")
            .header("origin", origin)
            .header("content-type", "application/json");
        let answer = api.send(request.body(Full::from(api.task().to_string())).unwrap()).await;
        assert_eq!(answer.status, status, "{origin}: {}", answer.json);
    }
    assert_eq!(api.get("/tasks").await.json["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn without_a_key_the_server_binds_nothing_but_the_loopback() {
    let database = TestDatabase::new().await;
    let (_sender, settings) = watch::channel(settings(&[], &[]).into());
    let state = ApiState::new(database.store.clone(), settings, None, CancellationToken::new());
    let everywhere = SocketAddr::from(([0, 0, 0, 0], 0));
    let error = Server::bind(everywhere, state.clone()).await.unwrap_err();
    assert!(matches!(error, BindError::Unprotected { .. }), "{error}");
    assert!(error.hint().contains("API_KEYS"));

    let first = Server::bind(SocketAddr::from(([127, 0, 0, 1], 0)), state.clone()).await.unwrap();
    let error = Server::bind(first.address(), state).await.unwrap_err();
    assert!(matches!(error, BindError::InUse { .. }), "{error}");
}

#[tokio::test]
async fn a_form_that_a_foreign_page_posts_makes_nothing() {
    let api = Api::start().await;
    let task = api.task().to_string();
    let from_a_page: [&[(&str, &str)]; 3] = [
        &[("content-type", "text/plain"), ("origin", "https://evil.example")],
        &[("content-type", "application/x-www-form-urlencoded"), ("sec-fetch-site", "cross-site")],
        &[("content-type", "application/json"), ("origin", "null"), ("sec-fetch-mode", "no-cors")],
    ];
    for headers in from_a_page {
        let mut request = api.request(Method::POST, "/tasks");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = api.send(request.body(Full::from(task.clone())).unwrap()).await;
        assert_eq!(answer.error(), (403, "origin_not_allowed".to_owned()), "{headers:?}");
        assert_eq!(answer.headers.get("access-control-allow-origin"), None);
    }
    let preflight = [("origin", "https://evil.example"), ("access-control-request-method", "POST")];
    let answer = ask(&api, Method::OPTIONS, "/tasks", &preflight).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    assert_eq!(api.get("/tasks").await.json["items"], serde_json::json!([]));
}

#[tokio::test]
async fn a_stranger_learns_nothing_whatever_its_headers_say() {
    let api = Api::start_with(&[KEYS[0], KEYS[1], ("OPENTIGER_API_HOSTS", "tiger.example")]).await;
    let document = serde_json::to_value(api::openapi::document()).unwrap();
    let mut asks =
        vec![(Method::GET, "/no/such/route".to_owned()), (Method::DELETE, "/tasks".to_owned())];
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            if operation["x-right"] != "open" {
                asks.push((method.to_uppercase().parse().unwrap(), path.replace(['{', '}'], "")));
            }
        }
    }
    assert!(asks.len() >= 15);
    let disguises: [&[(&str, &str)]; 6] = [
        &[("host", "tiger.example")],
        &[("host", "tiger.example"), ("x-forwarded-for", "127.0.0.1")],
        &[("x-forwarded-for", "127.0.0.1"), ("x-forwarded-host", "localhost")],
        &[("x-real-ip", "::1")],
        &[("forwarded", "for=127.0.0.1;host=localhost;proto=https")],
        &[("cf-connecting-ip", "127.0.0.1")],
    ];
    for (method, path) in &asks {
        for headers in disguises {
            let answer = ask(&api, method.clone(), path, headers).await;
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{method} {path} {headers:?}");
            assert!(answer.headers.contains_key("www-authenticate"));
            if *method != Method::HEAD {
                assert_eq!(answer.error().1, "authentication_required");
            }
        }
    }
    let health = ask(&api, Method::GET, "/health", disguises[0]).await;
    assert_eq!(health.status, StatusCode::OK);
}

#[tokio::test]
async fn a_stranger_is_told_what_is_missing_and_not_why() {
    let api = Api::start_following(&[KEYS[0], ("OPENTIGER_API_HOSTS", "tiger.example")]).await;
    api.write_rows(&[("CANCEL_GRACE_S", serde_json::json!("a secret plan"))]).await;
    let faulty = |config: &serde_json::Value| config["database_faults"] != serde_json::json!([]);
    api.config_until(faulty).await;
    let beat = DispatcherBeat {
        id: uuid::Uuid::now_v7(),
        host: HostId::new("here"),
        process: ProcessIdentity { pid: 1, start_ticks: 1, boot_id: "boot".to_owned() },
        version: "0.1.0".to_owned(),
        paused: Some("the day's limit of $ 7.50 is used up".to_owned()),
    };
    api.database.store.dispatcher_beat(&beat).await.unwrap();
    let near = ask(&api, Method::GET, "/health/ready", &[]).await;
    assert!(near.text("error").contains("no dispatcher takes tasks: the day's limit of $ 7.50"));
    assert!(near.text("error").contains("CANCEL_GRACE_S"));
    let far = ask(&api, Method::GET, "/health/ready", &[("host", "tiger.example")]).await;
    assert_eq!(far.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(
        far.text("error"),
        "settings in the database cannot be used; no dispatcher takes tasks; no agent is alive"
    );
    assert!(!far.json.to_string().contains("7.50"), "{}", far.json);
}

#[tokio::test]
async fn a_key_or_the_token_opens_every_list_from_anywhere_and_a_wrong_one_none() {
    let api = Api::start_with(&[KEYS[0], KEYS[1], ("OPENTIGER_API_HOSTS", "tiger.example")]).await;
    let right =
        [("x-api-key", "the-right-key-0001"), ("authorization", "Bearer the-right-token-2")];
    let wrong =
        [("x-api-key", "the-right-key-0002"), ("authorization", "Bearer the-right-token-1")];
    for path in ["/tasks", "/runs", "/agents", "/config", "/openapi.json"] {
        for host in ["tiger.example", "localhost"] {
            for given in right {
                let answer = ask(&api, Method::GET, path, &[("host", host), given]).await;
                assert_eq!(answer.status, StatusCode::OK, "{path} {given:?}");
            }
            for given in wrong {
                let answer = ask(&api, Method::GET, path, &[("host", host), given]).await;
                assert_eq!(answer.error(), (401, "wrong_key".to_owned()), "{path} {given:?}");
            }
        }
    }
    let without_keys = Api::start_with(&[("API_KEYS", ""), ("API_SECRET", "")]).await;
    assert_eq!(without_keys.get("/tasks").await.status, StatusCode::OK, "nobody is locked out");
    for given in right {
        let answer = ask(&without_keys, Method::GET, "/tasks", &[given]).await;
        assert_eq!(answer.error(), (401, "wrong_key".to_owned()), "{given:?}");
    }
}

#[tokio::test]
async fn a_stream_of_events_opens_with_a_key() {
    let api = Api::start_with(&[KEYS[0], KEYS[1], ("OPENTIGER_API_HOSTS", "tiger.example")]).await;
    api.make(&serde_json::json!({})).await;
    let run = crate::agent::TestAgent::register(&api.database.store).await.start_next().await.run;
    let path = format!("/runs/{run}/events/stream");
    let request = || api.request(Method::GET, &path).header("host", "tiger.example");
    let refused = api.send(request().body(Full::default()).unwrap()).await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    let request = request().header("authorization", "Bearer the-right-token-2");
    let opened = api.client.request(request.body(Full::default()).unwrap()).await.unwrap();
    assert_eq!(opened.status(), StatusCode::OK);
    assert_eq!(opened.headers()["content-type"], "text/event-stream");
}

#[tokio::test]
async fn too_many_requests_are_told_when_to_come_back_and_health_is_never_one_of_them() {
    let api = Api::start_with(&[("API_RATE_LIMIT_PER_MINUTE", "1")]).await;
    // This machine may ask ten times as much.
    for remaining in (0..10).rev() {
        let answer = api.get("/tasks").await;
        assert_eq!(answer.status, StatusCode::OK);
        assert_eq!(answer.headers["ratelimit-remaining"], remaining.to_string());
    }
    for disguise in ["x-forwarded-for", "x-real-ip", "cf-connecting-ip", "x-request-id"] {
        let answer = ask(&api, Method::GET, "/tasks", &[(disguise, "10.1.2.3")]).await;
        assert_eq!(answer.error(), (429, "too_many_requests".to_owned()), "{disguise}");
        let after: u64 = answer.headers["retry-after"].to_str().unwrap().parse().unwrap();
        assert!((1..=6).contains(&after), "{after}");
        assert_eq!(answer.headers["ratelimit-limit"], "10");
        assert_eq!(answer.headers["ratelimit-remaining"], "0");
        assert!(answer.headers.contains_key("x-request-id"));
    }
    for _ in 0..20 {
        assert_eq!(api.get("/health").await.status, StatusCode::OK);
    }
    let unlimited = settings(&[("API_RATE_LIMIT_PER_MINUTE", "0")], &[]);
    api.settings.send_replace(Arc::new(unlimited));
    assert_eq!(api.get("/tasks").await.status, StatusCode::OK, "the setting holds at once");
}

#[tokio::test]
async fn after_too_many_wrong_keys_the_right_one_does_not_help_for_a_while() {
    let api = Api::start_with(&KEYS).await;
    for number in 0..100 {
        let guess = format!("a-guess-of-the-key-{number}");
        let answer = ask(&api, Method::GET, "/tasks", &[("x-api-key", &guess)]).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{number}");
    }
    let right = ("x-api-key", "the-right-key-0001");
    let answer = ask(&api, Method::GET, "/tasks", &[right]).await;
    assert_eq!(answer.error(), (429, "too_many_wrong_keys".to_owned()));
    assert!(answer.headers.contains_key("retry-after"));
    assert_eq!(api.get("/tasks").await.status, StatusCode::OK, "who sends no key is not guessing");
}

/// Sends a request without a body and with these headers.
async fn ask(api: &Api, method: Method, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = api.request(method, path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    api.send(request.body(Full::default()).expect("the request is well-formed")).await
}
