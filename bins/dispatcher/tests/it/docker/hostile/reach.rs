//! What a program in a sandbox can reach: a table of attempts and their results, in the order in which they are tried.

use std::{
    collections::BTreeMap,
    fs,
    net::{SocketAddr, TcpListener},
    path::Path,
};

use serde_json::json;
use testing::{
    database::TestDatabase, engine::base_image, programs::hostile_path, redis::TestRedis,
};

use super::{arm, attempts, only_run};
use crate::{
    docker::support::{GOAL, Sandboxed, Setup, bash},
    system::text_at,
};

/// Each attempt with what may come of it. `done` is what must work, for the attempt's own sake or to show that it could.
const EXPECTED: &[(&str, &[&str])] = &[
    ("own child: environment", &["done"]),
    ("own child: memory map", &["done"]),
    ("own child: memory", &["done"]),
    ("own child: memory to write", &["done"]),
    // Engines' filters of system calls forbid both for everybody where a kernel does not hold them to what it asks of who
    // traces. Then these rows say nothing of the worker, and `trace` does: it is the same question to the kernel.
    ("own child: memory across", &["done", "EPERM"]),
    ("own child: take a descriptor", &["done", "EPERM", "ENOSYS"]),
    ("own child: trace", &["done"]),
    ("own child: descriptors", &["done"]),
    ("own child: input", &["done"]),
    ("own child: root directory", &["done"]),
    ("own child: namespaces", &["done"]),
    ("own child: stop", &["done"]),
    ("own child: terminate", &["done"]),
    ("own child: kill", &["done"]),
    ("worker: environment", &["EACCES"]),
    ("worker: memory map", &["EACCES"]),
    ("worker: memory", &["EACCES"]),
    ("worker: memory to write", &["EACCES"]),
    ("worker: memory across", &["EPERM"]),
    ("worker: take a descriptor", &["EPERM", "ENOSYS"]),
    ("worker: trace", &["EPERM"]),
    ("worker: descriptors", &["EACCES"]),
    ("worker: input", &["EACCES"]),
    ("worker: root directory", &["EACCES"]),
    ("worker: namespaces", &["EACCES"]),
    ("first process: environment", &["EACCES"]),
    ("first process: memory map", &["EACCES"]),
    ("first process: memory", &["EACCES"]),
    ("first process: memory to write", &["EACCES"]),
    ("first process: memory across", &["EPERM"]),
    ("first process: take a descriptor", &["EPERM", "ENOSYS"]),
    ("first process: trace", &["EPERM"]),
    ("first process: descriptors", &["EACCES"]),
    ("first process: input", &["EACCES"]),
    ("first process: root directory", &["EACCES"]),
    ("first process: namespaces", &["EACCES"]),
    ("first process: stop", &["EPERM"]),
    ("first process: terminate", &["EPERM"]),
    ("first process: kill", &["EPERM"]),
    ("supervisor: sockets of the worker", &["0"]),
    ("become root", &["EPERM"]),
    ("own user namespace", &["EPERM"]),
    ("own mounts", &["EPERM"]),
    ("mount", &["EPERM"]),
    ("unmount the base's objects", &["EPERM"]),
    ("unmount the login", &["EPERM"]),
    ("another root directory", &["EPERM"]),
    ("fifo", &["done"]),
    ("device", &["EPERM"]),
    // Scratch takes no notice of the bit, and it would be its own user's.
    ("file that changes users, of its own", &["done"]),
    ("write /proc/sys/kernel/core_pattern", &["EACCES", "EROFS"]),
    ("write /proc/sysrq-trigger", &["EACCES", "EROFS", "ENOENT"]),
    ("write /proc/1/oom_score_adj", &["EACCES"]),
    ("read /proc/kcore", &["EACCES", "ENOENT", "EPERM", "nothing in it"]),
    ("read /dev/mem", &["ENOENT"]),
    ("read /dev/kmsg", &["ENOENT"]),
    ("cgroups to write", &["0"]),
    ("list the launch", &["EACCES"]),
    ("forge the launch's exit.json", &["EACCES"]),
    ("forge the launch's out.log", &["EACCES"]),
    ("forge the launch's ctl", &["EACCES"]),
    ("forge the launch's intent.json", &["EACCES"]),
    ("replace /opentiger/worker", &["EACCES", "EROFS"]),
    ("replace /usr/bin/git", &["EACCES", "EROFS"]),
    ("replace /usr/local/bin/claude", &["EACCES", "EROFS"]),
    ("replace /bin/sh", &["EACCES", "EROFS"]),
    ("write /etc/hosts", &["EACCES", "EROFS"]),
    ("write /etc/resolv.conf", &["EACCES", "EROFS"]),
    ("write /etc/passwd", &["EACCES", "EROFS"]),
    ("write /etc/ld.so.preload", &["EROFS"]),
    ("read the login", &["done"]),
    ("write the login", &["EROFS"]),
    ("remove the login", &["EROFS"]),
    ("file beside the login", &["EROFS"]),
    ("read an object of the base", &["done"]),
    ("write an object of the base", &["EACCES", "EROFS"]),
    ("open up an object of the base", &["EROFS"]),
    ("remove an object of the base", &["EROFS"]),
    ("link an object of the base", &["EXDEV"]),
    ("link of its own", &["done"]),
    ("object beside the base's", &["EROFS"]),
    ("another directory of objects", &["EBUSY"]),
    // All that is the run's own, and nothing else.
    ("/dev/mqueue", &["writable"]),
    ("/dev/shm", &["writable"]),
    ("/opentiger/checkout", &["writable"]),
    ("/opentiger/launches", &["writable"]),
    ("/opentiger/state", &["writable"]),
    ("/tmp", &["writable"]),
    ("socket of its own", &["done"]),
    ("socket /var/run/docker.sock", &["ENOENT"]),
    ("socket /run/docker.sock", &["ENOENT"]),
    ("socket /run/containerd/containerd.sock", &["ENOENT"]),
    ("connect to the database", &["asks for a password"]),
    ("connect to Redis", &["ECONNREFUSED"]),
    ("connect to openTiger's API", &["ECONNREFUSED"]),
    ("connect to another service of the host's loopback", &["ECONNREFUSED"]),
    ("connect to its own loopback by the database's port", &["ECONNREFUSED"]),
    ("connect to its own loopback by the API's port", &["ECONNREFUSED"]),
    ("connect to the engine", &["ECONNREFUSED"]),
    ("connect to the engine with TLS", &["ECONNREFUSED"]),
    // With the login of sandboxes, which the agent cannot get: those of the worker's own functions, and what Postgres lets
    // everybody do. A wake-up says nothing, and whoever takes a lock is ended.
    ("database: another password", &["28P01"]),
    ("database: another system's", &["42501"]),
    ("database: ask who it is", &["t"]),
    ("database: read tasks", &["42501"]),
    ("database: read the settings", &["42501"]),
    ("database: read its own password", &["42501"]),
    ("database: end other runs", &["42501"]),
    ("database: drop tables", &["42501"]),
    ("database: take another run by a guess", &["f"]),
    ("database: report for another run by a guess", &["0"]),
    ("database: ask for a token's fit", &["42501"]),
    ("database: temporary table", &["42501"]),
    ("database: function of its own", &["42501"]),
    ("database: become superuser", &["42501"]),
    ("database: read a file", &["42501"]),
    ("database: run a program", &["42501"]),
    ("database: large object", &["42501"]),
    ("database: end sessions of others", &["42501"]),
    ("database: wake everybody", &["done"]),
    ("database: take the lock of the schema", &["done"]),
    ("database: keep it", &["57P01", "UnexpectedEof", "error 104", "error 32"]),
    ("variables of the host", &["none"]),
    // What an agent works with it can read; nothing else of what lies around is there.
    ("canary-access", &["secret"]),
    ("canary-key", &["secret"]),
];

/// Where the command line of the agent puts sockets of its own, if it does.
fn is_of_the_agent(attempt: &str, word: &str) -> bool {
    word == "socket" && attempt.starts_with("/opentiger/checkout/tmp/")
}

#[tokio::test]
async fn nothing_of_the_host_or_of_others_is_in_reach() {
    let redis = TestRedis::start().await;
    let it = Setup::new()
        .with("REDIS_URL", redis.url().expose())
        .with("ANTHROPIC_API_KEY", "canary-key")
        .with("SOME_TOKEN", "canary-environment")
        .script("reach", [bash("./hostile reach")])
        .start()
        .await;
    let state = it.system.state.path();
    let login = json!({ "claudeAiOauth": {
        "accessToken": "canary-access",
        "refreshToken": "canary-refresh",
        "expiresAt": 4_102_444_800_000_i64,
        "scopes": ["user:inference"],
    }});
    fs::create_dir_all(state.join(".claude")).expect("the state directory is ours");
    fs::write(state.join(".claude/.credentials.json"), login.to_string()).expect("it is ours");
    fs::write(state.join("secret"), "canary-state").expect("it is ours");
    let bystander = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
    let database = it.system.database.as_ref().expect("it runs on a test database");
    let (host, loopback) = ("host.docker.internal", "127.0.0.1");
    let (api, database) = (api_port(state), database.server_address().port());
    let addresses = [
        format!("the database {host}:{database}"),
        format!("Redis {host}:{}", redis.address().port()),
        format!("openTiger's API {host}:{api}"),
        format!(
            "another service of the host's loopback {host}:{}",
            bystander.local_addr().expect("it listens").port()
        ),
        format!("its own loopback by the database's port {loopback}:{database}"),
        format!("its own loopback by the API's port {loopback}:{api}"),
        format!("the engine {host}:2375"),
        format!("the engine with TLS {host}:2376"),
    ];
    arm(&it, &addresses.join("\n"));
    it.system.repository.git(&["config", "user.signingKey", "canary-config"]);

    // Another run's checkout, while that one is at work.
    let other = it.system.queue(GOAL, json!({})).await;
    let (other_run, container) = it.alone_at_gate(&other, 1).await;
    fs::write(it.work(&other_run).join("secret"), "canary-run").expect("the checkout is there");
    let inspected = it.network.docker(&["inspect", &container]).expect("it runs");
    assert!(!inspected.contains("canary"), "{inspected}");

    let (elsewhere, postgres) = (TestDatabase::new().await, format!("{host}:{database}"));
    give_login_away(&it, &elsewhere, &postgres, &other_run).await;
    it.system.repository.write("untracked", "canary-untracked");
    let refused = asked_by_a_foreign_container(&it, database);
    assert!(["error 104", "UnexpectedEof"].contains(&&*refused), "{refused}");

    let run = only_run(&it, "[script: reach] try", json!({})).await;
    assert_eq!(text_at(&run, "/outcome"), "succeeded", "{run}\n{}", it.system.logs());
    let mut found = attempts(&it, &text_at(&run, "/branch"));
    found.retain(|attempt, word| !is_of_the_agent(attempt, word));
    let faults = differences(&found);
    assert!(faults.is_empty(), "{faults:#?}\n{found:#?}");
    it.open_gate(&other_run);
    it.system.wait_status(&other, "done").await;
    it.wait_clean().await;
}

/// Tells the program the login of sandboxes, which a worker never tells.
async fn give_login_away(it: &Sandboxed, elsewhere: &TestDatabase, address: &str, run: &str) {
    let name = |database: &TestDatabase| {
        let (_, name) = database.url.expose().rsplit_once('/').expect("it names the database");
        name.split('?').next().unwrap_or_default().to_owned()
    };
    let database = it.system.database.as_ref().expect("it runs on a test database");
    let login = database.store.ensure_sandbox_login().await.expect("it can be made");
    elsewhere.store.ensure_sandbox_login().await.expect("it can be made");
    let words = [
        &login.name,
        login.password.expose(),
        &name(database),
        &name(elsewhere),
        address,
        run.trim_start_matches("run-"),
    ];
    it.system.repository.write("login", &words.join("\n"));
    it.system.repository.commit_all("a login that was found out");
}

/// What a container on the sandboxes' network that is none of ours is told by the relay to the database.
fn asked_by_a_foreign_container(it: &Sandboxed, port: u16) -> String {
    let (network, docker) = (&it.network.name, |args: &[&str]| it.network.docker(args));
    let gateway = ["network", "inspect", "--format", "{{(index .IPAM.Config 0).Gateway}}", network];
    let gateway = docker(&gateway).expect("the network is there");
    let (program, address) = (hostile_path(), format!("{}:{port}", gateway.trim()));
    let mount = format!("{}:/hostile:ro", program.display());
    let run = ["run", "--rm", "--network", network, "--volume", &mount, &base_image()];
    let knock = ["/hostile", "knock", &address];
    let args: Vec<&str> = run.into_iter().chain(knock).collect();
    docker(&args).expect("the program runs").trim().to_owned()
}

/// Where api-server listens on loopback, from its log.
fn api_port(state: &Path) -> u16 {
    let log = fs::read_to_string(state.join("api-server.log")).expect("it has a log");
    let (_, address) = log.rsplit_once("listens on http://").expect("it listens");
    let address = address.lines().next().unwrap_or_default();
    let address: SocketAddr = address.trim().parse().expect("it is an address");
    address.port()
}

/// What was expected and did not come, and what came and was not expected.
fn differences(found: &BTreeMap<String, String>) -> Vec<String> {
    let expected: BTreeMap<&str, &[&str]> = EXPECTED.iter().copied().collect();
    let missing = expected.iter().filter(|(attempt, _)| !found.contains_key(**attempt));
    let missing = missing.map(|(attempt, _)| format!("not tried: {attempt}"));
    let wrong = found.iter().filter(|(attempt, word)| {
        !expected.get(attempt.as_str()).is_some_and(|allowed| allowed.contains(&word.as_str()))
    });
    missing.chain(wrong.map(|(attempt, word)| format!("{word}: {attempt}"))).collect()
}
