//! Engines, networks, mounts and services that stand in the way.

use std::{
    fs,
    os::unix::{
        fs::{PermissionsExt as _, chown},
        net::UnixListener,
    },
};

use core_types::{
    auth::{AuthReason as R, CheckedBy},
    secret::Secret,
    task::ExecutorKind::ClaudeCode,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    task::JoinSet,
};

use super::world::{Boxes, tell};

const BY: CheckedBy = CheckedBy::Credentials;

#[tokio::test]
async fn engine_that_is_away_or_silent_is_unavailable() {
    let mut boxes = Boxes::new();
    let socket = boxes.state.path().join("engine.sock");
    boxes.set("DOCKER_HOST", &format!("unix://{}", socket.display()));
    boxes.finds(ClaudeCode, "no socket", R::DockerUnavailable, BY).await;
    let _silent = UnixListener::bind(&socket).unwrap();
    boxes.finds(ClaudeCode, "socket that never answers", R::DockerUnavailable, BY).await;
}

/// The rights of one thread alone are lowered: what it asks the engine, it asks as somebody else.
#[test]
fn engine_that_refuses_this_user_is_told_from_one_that_is_away() {
    let mut boxes = Boxes::new();
    let socket = boxes.state.path().join("engine.sock");
    let _closed = UnixListener::bind(&socket).unwrap();
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o600)).unwrap();
    boxes.set("DOCKER_HOST", &format!("unix://{}", socket.display()));
    fs::set_permissions(boxes.state.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let checker = boxes.checker();
    let ask = boxes.ask(ClaudeCode);
    let report = std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let nobody = rustix::process::Uid::from_raw(65534);
            rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
            let sandbox = core_types::task::ExecutionEnvironment::Sandbox;
            runtime.block_on(checker.check(sandbox, ask, true))
        });
        thread.join().unwrap()
    });
    let took = report.took.as_millis();
    eprintln!(
        "{} | claude_code: socket closed to this user | {took} ms | 0",
        report.finding.reason
    );
    crate::world::found(&report.finding, R::DockerPermissionDenied, BY);
}

#[tokio::test]
async fn network_that_is_missing_or_leads_nowhere_is_told() {
    let mut boxes = Boxes::new();
    for network in ["opentiger-test-no-such-network", "none"] {
        boxes.set("ANTHROPIC_API_KEY", crate::world::KEY);
        boxes.variables.remove("ANTHROPIC_BASE_URL");
        boxes.environment.remove("HTTPS_PROXY");
        boxes.set("SANDBOX_DOCKER_NETWORK", network);
        boxes.finds(ClaudeCode, &format!("network `{network}`"), R::NetworkMissing, BY).await;
    }
}

#[tokio::test]
async fn directory_that_the_container_may_not_see_is_a_denied_mount() {
    let (boxes, _stub) = Boxes::with_key("nothing").await;
    let checker = boxes.checker();
    // As a label of SELinux or another range of users does: it is mounted, and closed.
    let login = boxes.state.path().join("sandbox/login/claude");
    chown(&login, Some(0), Some(0)).unwrap();
    let sandbox = core_types::task::ExecutionEnvironment::Sandbox;
    let report = checker.check(sandbox, boxes.ask(ClaudeCode), true).await;
    tell("view of the login closed", &report);
    crate::world::found(&report.finding, R::MountDenied, BY);
    assert!(report.finding.detail.unwrap().contains("/home/worker/.claude"));
    boxes.nothing_is_left().await;
}

#[tokio::test]
async fn service_that_lets_strangers_in_is_not_relayed() {
    let (mut boxes, _stub) = Boxes::with_key("nothing").await;
    boxes = boxes.with_database().await;
    // Postgres' answer where `pg_hba.conf` says `trust`: the start is taken without a password.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut serving = JoinSet::new();
    serving.spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _start = stream.read(&mut [0; 512]).await;
            stream.write_all(b"R\0\0\0\x08\0\0\0\0").await.ok();
        }
    });
    let database = boxes.database.as_mut().unwrap();
    database.url = Secret::new(format!("postgres://u:p@{address}/d"));
    let report = boxes.finds(ClaudeCode, "Postgres trusts", R::ServiceOpenToLoopback, BY).await;
    assert!(report.finding.detail.unwrap().contains("pg_hba.conf"));
}

#[tokio::test]
async fn proxy_on_loopback_is_told_and_not_led_to() {
    let (mut boxes, _stub) = Boxes::with_key("nothing").await;
    let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = proxy.local_addr().unwrap();
    boxes.environment.insert("HTTPS_PROXY".to_owned(), format!("http://{address}"));
    let report = boxes.finds(ClaudeCode, "proxy on loopback", R::ServiceUnreachable, BY).await;
    let detail = report.finding.detail.unwrap();
    assert!(detail.contains(&format!("the proxy at `{address}`")), "{detail}");
}

#[tokio::test]
async fn service_that_cannot_be_led_to_is_unreachable() {
    let (mut boxes, _stub) = Boxes::with_key("nothing").await;
    boxes = boxes.with_database().await;
    let database = boxes.database.as_mut().unwrap();
    database.url = Secret::new("postgres:///d?host=/run/postgresql");
    let report = boxes.finds(ClaudeCode, "Postgres on a socket", R::ServiceUnreachable, BY).await;
    assert!(report.finding.detail.unwrap().contains("Unix socket"));
}
