//! Who is answered: this machine, and no foreign web page that asks for a change.

use std::net::SocketAddr;

use api::{
    server::{BindError, Server},
    state::ApiState,
};
use http::{Method, StatusCode};
use http_body_util::Full;
use testing::database::TestDatabase;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::support::{Api, settings};

#[tokio::test]
async fn a_name_that_a_stranger_points_here_is_refused() {
    let api = Api::start().await;
    for (host, status) in [("evil.example", 403), ("localhost", 200), ("127.0.0.1:1", 200)] {
        let request = api.request(Method::GET, "/health").header("host", host);
        let answer = api.send(request.body(Full::default()).unwrap()).await;
        assert_eq!(answer.status.as_u16(), status, "{host}");
    }
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
async fn the_server_binds_nothing_but_the_loopback() {
    let database = TestDatabase::new().await;
    let (_sender, settings) = watch::channel(settings(&[], &[]).into());
    let state = ApiState::new(database.store.clone(), settings, None, CancellationToken::new());
    let everywhere = SocketAddr::from(([0, 0, 0, 0], 0));
    let error = Server::bind(everywhere, state.clone()).await.unwrap_err();
    assert!(matches!(error, BindError::NotLoopback { .. }), "{error}");
    assert!(error.hint().contains("OPENTIGER_API_LISTEN"));

    let first = Server::bind(SocketAddr::from(([127, 0, 0, 1], 0)), state.clone()).await.unwrap();
    let error = Server::bind(first.address(), state).await.unwrap_err();
    assert!(matches!(error, BindError::InUse { .. }), "{error}");
}
