//! Sandboxes on a real engine: what a container of ours reaches through relays, a foreign one does not, and what a sandbox
//! sees and may write.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::{IpAddr, SocketAddr},
    os::unix::fs::chown,
    path::Path,
    time::Duration,
};

use core_config::load::load;
use core_types::task::ExecutorKind;
use futures_util::StreamExt as _;
use launcher::{
    container::ImagePolicy,
    docker::{DockerConfig, DockerLauncher},
    handle::{Destroy, Handle, StopRequest},
    launcher::Launcher as _,
    output::{LogContent, LogCursor},
    process::ProcessLauncher,
    spec::{Input, LaunchSpec, UserId},
};
use sandbox::{
    relay::{Network, clients::Clients, keep::Relays, plan},
    rewrite::{Service, Target},
    sandbox::{Purpose, Sandbox},
    view::{Sources, View, user},
};
use testing::{
    database::TestDatabase,
    engine::{base_image, shared_host},
    programs::built_program,
    redis::TestRedis,
};

/// A network of the shared engine and the launches on it; all of it goes with the test.
struct Place {
    state: tempfile::TempDir,
    network: String,
}

impl Place {
    fn new(name: &str) -> Self {
        let network = format!("opentiger-test-{name}-{}", std::process::id());
        let made = docker(&["network", "create", &network]);
        assert!(made.0, "{}", made.1);
        Self { state: tempfile::tempdir().unwrap(), network }
    }

    fn launcher(&self) -> DockerLauncher {
        let store = self.state.path().join("containers");
        DockerLauncher::open(DockerConfig { host: Some(shared_host()), store }).unwrap()
    }

    async fn gateways(&self) -> Vec<IpAddr> {
        let network = self.launcher().network(&self.network).await.unwrap();
        network.expect("the network is there").gateways
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let label = format!("label=opentiger.instance={}", self.launcher().store_id());
        let left = docker(&["ps", "-aq", "--filter", &label]).1;
        for container in left.split_whitespace() {
            docker(&["rm", "-fv", container]);
        }
        docker(&["network", "rm", &self.network]);
    }
}

#[expect(clippy::disallowed_methods, reason = "what a person does by hand")]
fn docker(args: &[&str]) -> (bool, String) {
    let mut command = std::process::Command::new("docker");
    let done = command.arg("-H").arg(shared_host()).args(args).output().unwrap();
    let text = [done.stdout, done.stderr].concat();
    (done.status.success(), String::from_utf8_lossy(&text).into_owned())
}

fn own() -> UserId {
    user(UserId {
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
    })
}

/// The sandbox of the settings, with a shell in the place of the worker.
fn shell(place: &Place, gateways: &[IpAddr], checkout: &Path, script: &str) -> LaunchSpec {
    let pairs = [
        ("SANDBOX_DOCKER_IMAGE", base_image()),
        ("SANDBOX_DOCKER_NETWORK", place.network.clone()),
        ("SANDBOX_IMAGE_PULL", "never".to_owned()),
    ];
    let settings =
        load(pairs.map(|(key, value)| (key.into(), value.into())), None).unwrap().settings;
    let view = View::open(place.state.path(), own()).unwrap();
    let home = place.state.path().join("home");
    fs::create_dir_all(home.join(".claude")).unwrap();
    let login = r#"{"claudeAiOauth":{"accessToken":"at-1","refreshToken":"rt-1"}}"#;
    fs::write(home.join(".claude/.credentials.json"), login).unwrap();
    view.refresh(&Sources::of(&settings, Some(&home)).unwrap()).unwrap();
    let network = Network { name: &place.network, gateways, engine_is_here: true };
    let worker = built_program("worker", "worker");
    let sandbox = Sandbox {
        settings: &settings,
        network,
        worker: &worker,
        user: own(),
        view: &view,
        image_env: &BTreeMap::new(),
    };
    let objects = checkout.join("../objects");
    let mut spec = sandbox.launch(&Purpose {
        args: &[],
        executor: ExecutorKind::ClaudeCode,
        checkout: Some(checkout),
        objects: Some(&objects),
        state: None,
        wall: Some(Duration::from_secs(60)),
        lease: None,
        labels: BTreeMap::new(),
    });
    assert_eq!(spec.container.as_ref().unwrap().pull, ImagePolicy::Never);
    spec.program = "/bin/bash".into();
    spec.args = vec!["-c".to_owned(), script.to_owned()];
    spec
}

/// A checkout as big as it takes.
fn checkout(place: &Place) -> std::path::PathBuf {
    let checkout = place.state.path().join("checkout");
    let objects = place.state.path().join("objects");
    for directory in [checkout.join("work"), checkout.join("objects"), objects.clone()] {
        fs::create_dir_all(&directory).unwrap();
    }
    fs::write(objects.join("pack"), "x").unwrap();
    for path in [&checkout, &checkout.join("work"), &objects, &objects.join("pack")] {
        chown(path, Some(own().uid), Some(own().gid)).unwrap();
    }
    checkout
}

async fn said(handle: &Handle) -> String {
    let report = handle.exited().await;
    let mut text = Vec::new();
    let mut logs = handle.logs(LogCursor::START);
    while let Some(chunk) = logs.next().await {
        if let LogContent::Output { data, .. } = chunk.unwrap().content {
            text.extend_from_slice(&data);
        }
    }
    format!("{}{:?}", String::from_utf8_lossy(&text), report.outcome)
}

#[tokio::test]
async fn container_of_ours_reaches_loopback_services_and_a_foreign_one_does_not() {
    let place = Place::new("relay");
    let gateways = place.gateways().await;
    let redis = TestRedis::start().await;
    let database = TestDatabase::new().await;
    let target = |service, address: SocketAddr| Target {
        service,
        address: Some(address.ip()),
        port: address.port(),
    };
    let targets = BTreeSet::from([
        target(Service::Redis, redis.address()),
        target(Service::Postgres, database.server_address()),
    ]);
    let network = Network { name: &place.network, gateways: &gateways, engine_is_here: true };
    let plan = plan(network, &targets, &[]).unwrap();
    assert_eq!(plan.len(), 2);
    let processes = ProcessLauncher::new(place.state.path()).unwrap();
    let worker = built_program("worker", "worker");
    let relays = Relays { worker, state_dir: place.state.path().to_owned() };
    let running = relays.ensure(&processes, &plan).await.unwrap();

    // A password for Redis; for Postgres the question whether it speaks TLS, which it answers with one letter.
    let script = format!(
        "exec 3<>/dev/tcp/host.docker.internal/{} && printf 'AUTH testing\\r\\nPING\\r\\nQUIT\\r\\n' >&3 && cat <&3
         exec 4<>/dev/tcp/host.docker.internal/{} && printf '\\0\\0\\0\\x08\\x04\\xd2\\x16\\x2f' >&4 && head -c 1 <&4",
        redis.address().port(),
        database.server_address().port(),
    );
    let checkout = checkout(&place);
    let spec = shell(&place, &gateways, &checkout, &script);
    let launcher = place.launcher();
    let clients = Clients::of_network(place.state.path(), &place.network);
    let (ours, foreign) = ("ours".parse().unwrap(), "foreign".parse().unwrap());

    let created = launcher.create(&ours, &spec).await.unwrap();
    clients.admit(&ours, &launcher.addresses(&ours).await.unwrap()).unwrap();
    let handle = launcher.assign(created, Input::default()).await.unwrap().into_handle();
    let answers = said(&handle).await;
    assert!(answers.starts_with("+OK\r\n+PONG\r\n+OK\r\n"), "{answers}");
    assert!(answers.contains("+OK\r\nN") || answers.contains("+OK\r\nS"), "{answers}");
    clients.dismiss(&ours).unwrap();

    let handle = launcher.launch(&foreign, &spec, Input::default()).await.unwrap().into_handle();
    let answers = said(&handle).await;
    assert!(!answers.contains('+') && !answers.contains('N'), "{answers}");

    for handle in running {
        handle.stop(StopRequest::new("the test is over", Duration::from_secs(5))).await;
        handle.destroy(Destroy::Everything).await.unwrap();
    }
}

#[tokio::test]
async fn sandbox_reads_its_login_and_writes_its_checkout_and_nothing_else() {
    let place = Place::new("sight");
    let gateways = place.gateways().await;
    let checkout = checkout(&place);
    let script = "
        id -u
        cat /home/worker/.claude/.credentials.json; echo
        ls -A /home/worker/.claude /home/worker/.config/claude
        for path in /home/worker/.claude/x /home/worker/.config/claude/x /opentiger/checkout/objects/pack /opentiger/worker /x /etc/x
        do (echo x >> $path) 2>/dev/null && echo wrote $path; done
        for path in /opentiger/checkout/work/x /opentiger/checkout/new /tmp/x /opentiger/state/x /opentiger/launches/x
        do (echo x > $path) 2>/dev/null || echo refused $path; done
        grep -c host.docker.internal /etc/hosts
        grep CapEff /proc/self/status
        test -x /opentiger/worker && echo executable";
    let spec = shell(&place, &gateways, &checkout, script);
    let launcher = place.launcher();
    let launched = launcher.launch(&"sight".parse().unwrap(), &spec, Input::default()).await;
    let seen = said(&launched.unwrap().into_handle()).await;
    let expected = format!(
        "{}\n{{\"claudeAiOauth\":{{\"accessToken\":\"at-1\"}}}}\n/home/worker/.claude:\n.credentials.json\n\n\
         /home/worker/.config/claude:\n1\nCapEff:\t0000000000000000\nexecutable\nExited(0)",
        own().uid
    );
    assert_eq!(seen, expected);
    assert!(checkout.join("work/x").is_file());
}
