//! Repositories behind ssh: a real sshd on loopback with keys of its own.

use checkout::trouble::Trouble;
use testing::{
    repository::{ScratchRepository, git_in},
    ssh_server::SshServer,
};

use crate::remote_bench::{RemoteBench, trouble_of};

#[tokio::test]
async fn both_ssh_forms_fetch_and_push() {
    let server = SshServer::start().await;
    server.make_known();
    let bench = RemoteBench::of_ssh(&server);
    let repository = ScratchRepository::with_one_commit();
    let path = repository.path().display();
    for url in [format!("ssh://127.0.0.1:{}{path}", server.port()), format!("127.0.0.1:{path}")] {
        let checkout = bench.prepare(&url).await;
        assert_eq!(checkout.base_commit.as_str(), repository.head(), "{url}");
        let pushed = bench.try_push(&checkout).await.unwrap();
        let there = repository.git(&["rev-parse", pushed.branch.as_str()]);
        assert_eq!(there.trim(), pushed.commit.as_str(), "{url}");
    }
    bench.assert_no_launches().await;
}

#[tokio::test]
async fn an_unknown_host_key_is_refused_unless_a_setting_accepts_it() {
    let server = SshServer::start().await;
    let mut bench = RemoteBench::of_ssh(&server);
    let repository = ScratchRepository::with_one_commit();
    let url = format!("127.0.0.1:{}", repository.path().display());
    assert_eq!(bench.trouble(&url).await, Trouble::NotTrusted);
    assert!(!server.known_hosts().try_exists().unwrap());
    bench.access.accept_unknown_ssh_hosts = true;
    bench.prepare(&url).await;
    assert!(server.known_hosts().is_file());
    // A key that changed is not a new one.
    let other = SshServer::start().await;
    other.make_known();
    let key = std::fs::read_to_string(other.known_hosts()).unwrap();
    let key = key.replace(&other.port().to_string(), &server.port().to_string());
    std::fs::write(server.known_hosts(), key).unwrap();
    assert_eq!(bench.trouble(&url).await, Trouble::NotTrusted);
}

#[tokio::test]
async fn troubles_of_ssh_have_their_names() {
    let server = SshServer::start().await;
    server.make_known();
    let bench = RemoteBench::of_ssh(&server);
    let repository = ScratchRepository::with_one_commit();
    let url = format!("127.0.0.1:{}", repository.path().display());
    assert_eq!(bench.trouble("127.0.0.1:/nowhere/at/all").await, Trouble::NotFound);
    let checkout = bench.prepare(&url).await;
    server.lock_out();
    assert_eq!(bench.trouble(&url).await, Trouble::Denied);
    assert_eq!(trouble_of(&bench.try_push(&checkout).await.unwrap_err()), Trouble::Denied);
    assert_eq!(bench.trouble("nowhere.invalid:x").await, Trouble::Unreachable);
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("ssh://{nobody}/x");
    assert_eq!(bench.trouble(&url).await, Trouble::Unreachable);
}

#[tokio::test]
async fn the_keys_of_the_users_agent_are_used_and_the_server_cannot_borrow_them() {
    let server = SshServer::start().await;
    server.make_known();
    let agent = server.start_agent().await;
    server.use_agent_alone();
    let mut bench = RemoteBench::of_ssh(&server);
    let repository = ScratchRepository::with_one_commit();
    let url = format!("127.0.0.1:{}", repository.path().display());
    assert_eq!(bench.trouble(&url).await, Trouble::Denied);
    let socket = agent.socket().to_str().unwrap().to_owned();
    bench.access.environment.insert("SSH_AUTH_SOCK".to_owned(), socket);
    let checkout = bench.prepare(&url).await;
    let hook = repository.join(".git/hooks/pre-receive");
    std::fs::create_dir_all(hook.parent().unwrap()).unwrap();
    let seen = repository.join("seen");
    let script = format!("#!/bin/sh\nprintf '%s' \"$SSH_AUTH_SOCK\" > '{}'\n", seen.display());
    std::fs::write(&hook, script).unwrap();
    testing::repository::set_mode(&hook, 0o755);
    bench.try_push(&checkout).await.unwrap();
    assert_eq!(std::fs::read_to_string(seen).unwrap(), "");
    git_in(repository.path(), &["fsck", "--strict"]);
}
