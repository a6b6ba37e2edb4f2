//! A server that is there and does not answer what it is asked: too much was asked, it cannot now, or it is another one.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use client::address::AddressFile;
use core_types::label;
use launcher::{
    identity::ProcessIdentity,
    launcher::Launcher as _,
    process::ProcessLauncher,
    spec::{Input, LaunchSpec},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use crate::world::World;

const READY: &str = r#"{"ready":true,"checks":[],"warnings":[]}"#;
const NOT_READY: &str = r#"{"ready":false,"error":"no agent is alive","code":"not_ready","warnings":[],
    "checks":[{"name":"agent","ok":false,"message":"no agent is alive"}]}"#;
const UNAVAILABLE: &str = r#"{"error":"the database is not available","code":"unavailable"}"#;
const TOO_MANY: &str =
    r#"{"error":"too many requests from this address","code":"too_many_requests"}"#;

/// A server that stands in for the one of a state directory, for as long as the test lasts.
struct StandIn {
    asked: Arc<Mutex<Vec<(String, Instant)>>>,
    _task: JoinSet<()>,
}

impl StandIn {
    /// Answers by the path and by how often that path was asked for before.
    async fn for_state_of(
        world: &World,
        answer: impl FnMut(&str, usize) -> String + Send + 'static,
    ) -> Self {
        let own = ProcessIdentity::own().expect("it can be read");
        Self::announced_as(world, own, answer).await
    }

    /// The same under the name of another process.
    async fn announced_as(
        world: &World,
        process: ProcessIdentity,
        mut answer: impl FnMut(&str, usize) -> String + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("the loopback has a port");
        let address = listener.local_addr().expect("it is bound");
        announce(world, process, address);
        let asked = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&asked);
        let mut task = JoinSet::new();
        task.spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.expect("a client comes");
                let path = path(&mut stream).await;
                let before = {
                    let mut asked = sink.lock().expect("no test panics with it");
                    let before = asked.iter().filter(|(other, _)| *other == path).count();
                    asked.push((path.clone(), Instant::now()));
                    before
                };
                // A client that left early is no fault of the server.
                stream.write_all(answer(&path, before).as_bytes()).await.ok();
                stream.shutdown().await.ok();
            }
        });
        Self { asked, _task: task }
    }

    /// When a path was asked for.
    fn asked(&self, path: &str) -> Vec<Instant> {
        let asked = self.asked.lock().expect("no test panics with it");
        asked.iter().filter(|(other, _)| other == path).map(|(_, at)| *at).collect()
    }
}

/// Says of a process that it is the server of the state directory.
fn announce(world: &World, process: ProcessIdentity, address: std::net::SocketAddr) {
    let file = AddressFile {
        address,
        pid: process.pid,
        start_ticks: process.start_ticks,
        boot_id: process.boot_id,
        version: "0".to_owned(),
    };
    let path = AddressFile::path(&world.state_dir());
    std::fs::create_dir_all(world.state_dir()).expect("it can be made");
    std::fs::write(path, serde_json::to_vec(&file).expect("it is JSON"))
        .expect("it can be written");
}

async fn path(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).await.is_ok_and(|read| read > 0) {
        head.extend_from_slice(&byte);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    head.split(' ').nth(1).unwrap_or_default().to_owned()
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
}

fn processes() -> String {
    answer("200 OK", "", r#"{"items":[]}"#)
}

#[tokio::test]
async fn up_stays_away_as_long_as_it_is_told_and_waits_for_what_is_not_ready_yet() {
    let world = World::without_database();
    let server = StandIn::for_state_of(&world, |path, before| match (path, before) {
        ("/health/ready", 0) => answer("429 Too Many Requests", "retry-after: 2\r\n", TOO_MANY),
        ("/health/ready", 1) => answer("503 Service Unavailable", "", UNAVAILABLE),
        ("/health/ready", 2) => answer("503 Service Unavailable", "", NOT_READY),
        ("/health/ready", _) => answer("200 OK", "", READY),
        _ => processes(),
    })
    .await;
    let up = world.up().await;
    assert!(up.out.contains("runs already and is ready"), "{up:?}");
    assert!(up.err.contains("too many requests") && up.err.contains("no agent is alive"), "{up:?}");
    let asked = server.asked("/health/ready");
    let away = asked[1].duration_since(asked[0]);
    assert!(away >= Duration::from_secs(2), "asked again after {away:?}");
    // What an earlier `down` wanted is taken back once something is missing, and not before.
    assert_eq!(server.asked("/system/processes/start-all").len(), 1);
}

#[tokio::test]
async fn up_and_status_tell_a_server_that_turns_them_away_from_one_that_is_not_ours() {
    let world = World::without_database();
    let _server = StandIn::for_state_of(&world, |_, _| {
        answer("429 Too Many Requests", "retry-after: 7\r\n", TOO_MANY)
    })
    .await;
    let status = world.call(&["status"]).await.with_code(1);
    assert!(status.err.contains("too many requests"), "{}", status.err);
    assert!(status.err.contains("try again in 7 s"), "{}", status.err);
    let up = world.call(&["up", "--timeout", "1s"]).await.with_code(1);
    assert!(up.err.contains("not ready after") && up.err.contains("too many requests"), "{up:?}");

    let _server = StandIn::for_state_of(&world, |_, _| {
        answer("503 Service Unavailable", "retry-after: 7\r\n", "<html>")
    })
    .await;
    for command in [&["status"][..], &["up"]] {
        let said = world.call(command).await.with_code(3);
        assert!(said.err.contains("not as an openTiger server"), "{}", said.err);
    }
}

#[tokio::test]
async fn down_stays_away_as_long_as_it_is_told_and_then_asks_again() {
    let world = World::without_database();
    let server = StandIn::announced_as(&world, launched(&world).await, |_, before| match before {
        0 => answer("429 Too Many Requests", "retry-after: 1\r\n", TOO_MANY),
        _ => processes(),
    })
    .await;
    let down = world.call(&["down"]).await.done();
    assert!(!down.err.contains("cannot ask"), "{down:?}");
    assert!(down.out.contains("stopped after"), "{down:?}");
    for path in ["/system/processes/stop-all", "/system/processes"] {
        let asked = server.asked(path);
        assert_eq!(asked.len(), 2, "{path}: {down:?}");
        let away = asked[1].duration_since(asked[0]);
        assert!(away >= Duration::from_secs(1), "{path}: asked again after {away:?}");
    }
    assert!(world.alive().await.is_empty());
}

/// Starts a process that passes for the API server of the state directory.
async fn launched(world: &World) -> ProcessIdentity {
    let launcher = ProcessLauncher::new(world.state_dir()).expect("it can be made");
    let mut spec = LaunchSpec::new("/bin/sleep", "/");
    spec.args = vec!["600".to_owned()];
    spec.labels = [(label::PART.to_owned(), "api-server".to_owned())].into();
    let id = "api-server-1".parse().expect("it is an id");
    let launched = launcher.launch(&id, &spec, Input::default()).await;
    let stats = launched.expect("it is installed").into_handle().stats().await.expect("it runs");
    let pid = stats.leader_pid.expect("it has a process");
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let start = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(19));
    let start_ticks = start.and_then(|ticks| ticks.parse().ok()).expect("it is a number");
    ProcessIdentity { pid, start_ticks, ..ProcessIdentity::own().expect("it can be read") }
}
