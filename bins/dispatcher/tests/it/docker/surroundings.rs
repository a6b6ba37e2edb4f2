//! What sandboxes need and do not find: each is told to the task with what to do, costs no attempt, and is mended without
//! a restart.

use std::{net::SocketAddr, process::id};

use serde_json::json;
use tempfile::TempDir;
use testing::engine::{base_image, shared_host, worker_image};
use tokio::{
    io::copy_bidirectional,
    net::{TcpStream, UnixListener},
    task::JoinSet,
};

use super::support::{Network, Sandboxed, Setup, docker};
use crate::system::{Part, text_at};
const DEMO: &str = "[script: demo] [file: HELLO.md] write the greeting";

/// The image of the agents under another name, as long as the test lasts.
struct Renamed(String);

impl Renamed {
    /// As if it came from a registry where nothing listens.
    fn from_no_registry() -> Self {
        let name = format!("127.0.0.1:1/opentiger-test/renewed-{}:1", id());
        docker(&["tag", &worker_image(), &name]).expect("an image can be named");
        Self(name)
    }
}

impl Drop for Renamed {
    fn drop(&mut self) {
        drop(docker(&["rmi", &self.0]));
    }
}

async fn refused(it: &Sandboxed, key: &str, value: &str, words: &str) {
    let body = json!({ "updates": { key: value } });
    let (status, answer) = it.system.http.patch("/config", &body).await.expect("it answers");
    assert_eq!(status, 400, "{answer}");
    let text = answer.to_string();
    assert!(text.contains(key) && text.contains(words), "{text}");
}

/// The task waits for the environment with these words, and nothing was tried.
async fn paused(it: &Sandboxed, task: &str, words: &[&str]) {
    for part in words {
        let shown = it.waits(task, "sandbox_not_ready", part).await;
        assert_eq!(shown.pointer("/attempts"), Some(&json!(0)), "{shown}");
    }
    assert!(it.system.runs(task).await.is_empty(), "{}", it.system.logs());
}

/// A task that is queued once the self-test has failed with these words waits for that, and is told what to do.
async fn waits_for_the_self_test(it: &Sandboxed, said: &str, words: &str) -> String {
    it.system.wait_log(Part::Dispatcher, said).await;
    let task = it.queue_goal(DEMO).await;
    let shown = it.waits(&task, "self_test", words).await;
    assert!(!text_at(&shown, "/waiting/hint").is_empty(), "{shown}");
    assert!(it.system.runs(&task).await.is_empty(), "{}", it.system.logs());
    task
}

#[tokio::test]
async fn what_is_missing_is_told_to_the_task_and_mended_while_everything_runs() {
    let command = "CLAUDE_CODE_COMMAND";
    let keys = ["SANDBOX_DOCKER_IMAGE", "SANDBOX_DOCKER_NETWORK", "SANDBOX_IMAGE_PULL"];
    let environment = "EXECUTION_ENVIRONMENT";
    let setup = keys.into_iter().fold(Setup::new(), Setup::without);
    let it = setup.without(command).without(environment).start().await;
    let pull = |when: &str| (keys[2], json!(when));
    let image = |name: &str| (keys[0], json!(name));
    let network = |name: &str| (keys[1], json!(name));
    let sandbox = (environment, json!("sandbox"));
    let missing = image("opentiger-test/not-there:1");
    it.set(&[sandbox, missing, network(&it.network.name), pull("never")]).await;
    let words = ["image `opentiger-test/not-there:1` not found", "build or pull the image"];
    // Whoever is claimed before that is seen goes back free of charge.
    it.system.wait_log(Part::Dispatcher, words[0]).await;
    let task = it.queue_goal(DEMO).await;
    paused(&it, &task, &words).await;

    it.set(&[image(&worker_image()), network("opentiger-test-not-there")]).await;
    let words = ["network `opentiger-test-not-there` not found", "docker network create"];
    paused(&it, &task, &words).await;

    it.set(&[network("none")]).await;
    paused(&it, &task, &["network `none` leads nowhere", "SANDBOX_DOCKER_NETWORK"]).await;

    // A registry that does not answer is in the way of an image that is not there, and of no other.
    let renewed = Renamed::from_no_registry();
    let missing = image("127.0.0.1:1/opentiger-test/not-there:1");
    it.set(&[missing, network(&it.network.name), pull("always")]).await;
    let words = ["could not be fetched", "the registry cannot be reached", "or pull by hand"];
    paused(&it, &task, &words).await;
    it.set(&[image(&renewed.0)]).await;
    it.wait_done(&task, &["succeeded"]).await;
    it.system.wait_log(Part::Dispatcher, "image not renewed, the old one is used").await;
    it.set(&[pull("never")]).await;

    // The image is there, and has no git or no such command line.
    it.set(&[image(&base_image())]).await;
    let first = waits_for_the_self_test(&it, "self-test of sandboxes failed", "git").await;
    it.set(&[image(&worker_image()), (command, json!("no-such-claude"))]).await;
    let second = waits_for_the_self_test(&it, "no-such-claude", "no-such-claude").await;
    it.set(&[(command, json!("claude"))]).await;
    it.wait_done(&first, &["succeeded"]).await;
    it.wait_done(&second, &["succeeded"]).await;
    it.wait_clean().await;
}

#[tokio::test]
async fn names_that_no_engine_takes_and_networks_that_are_no_sandbox_are_refused_where_they_are_set()
 {
    let key = "a-key-of-a-test-that-is-long-enough-for-all";
    let mut it = Setup::new().with("API_KEYS", key).start().await;
    it.system.http.key = Some(key.to_owned());
    for (key, value, words) in [
        ("SANDBOX_DOCKER_IMAGE", "Not/A:Name:1", "lower case"),
        ("SANDBOX_DOCKER_NETWORK", "host", "not `host`"),
        ("SANDBOX_DOCKER_NETWORK", "container:other", "not `host`"),
    ] {
        refused(&it, key, value, words).await;
    }
}

#[tokio::test]
async fn a_task_works_on_a_network_with_another_gateway_and_not_on_one_without() {
    let third = 1 + id() % 250;
    let subnet = format!("--subnet=10.231.{third}.0/24");
    let gateway = format!("--gateway=10.231.{third}.77");
    let it = Setup::on(Network::new(&shared_host(), &[&subnet, &gateway])).start().await;
    let task = it.queue_goal(DEMO).await;
    it.wait_done(&task, &["succeeded"]).await;
    it.wait_clean().await;

    let bare = ["--opt", "com.docker.network.bridge.inhibit_ipv4=true"];
    let it = Setup::on(Network::new(&shared_host(), &bare)).start().await;
    let task = it.queue_goal(DEMO).await;
    paused(&it, &task, &["no gateway on this machine", "containers reach"]).await;
}

/// A socket at which the database answers that answers at an address.
fn socket_before(server: SocketAddr) -> (TempDir, JoinSet<()>) {
    let directory = TempDir::new().expect("a temporary directory can be made");
    let listener = UnixListener::bind(directory.path().join(".s.PGSQL.5432"));
    let listener = listener.expect("a socket can be made");
    let mut serving = JoinSet::new();
    serving.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((mut from, _)) = listener.accept().await {
            connections.spawn(async move {
                let mut to = TcpStream::connect(server).await?;
                copy_bidirectional(&mut from, &mut to).await
            });
        }
    });
    (directory, serving)
}

#[tokio::test]
async fn a_database_on_a_unix_socket_is_told_with_what_to_do() {
    let mut it = Setup::new().start().await;
    let database = it.system.database.as_ref().expect("it runs on a test database");
    let (url, server) = (database.url.expose().to_owned(), database.server_address());
    let (socket, _serving) = socket_before(server);
    let host = socket.path().to_string_lossy().replace('/', "%2F");
    let on_socket = url.replace(&server.to_string(), &host);
    assert_ne!(on_socket, url);
    it.system.set_variable("DATABASE_URL", on_socket);
    it.replace_dispatcher();
    let task = it.queue_goal(DEMO).await;
    let words = ["the address of Postgres is a Unix socket", "let the server listen on 127.0.0.1"];
    paused(&it, &task, &words).await;
    // On the address that containers are led to it goes on.
    it.system.set_variable("DATABASE_URL", url);
    it.replace_dispatcher();
    it.wait_done(&task, &["succeeded"]).await;
    it.wait_clean_after_a_death().await;
}
