//! The relay against real servers that listen on loopback alone. Other addresses of loopback stand for the gateway and for
//! containers.

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, SocketAddr, TcpListener},
    path::Path,
    time::Duration,
};

use client::address::AddressFile;
use launcher::{
    fake::{Behaviour, End, FakeLauncher},
    handle::{Handle, LaunchState, StopRequest},
    identity::ProcessIdentity,
    launcher::Launcher as _,
    outcome::StopCause,
    process::ProcessLauncher,
    spec::Input,
};
use sandbox::{
    relay::{
        Network, Relay, RelayError,
        clients::Clients,
        keep::{LEASE, Relays, clients},
        own_api::addresses,
        plan,
        serve::{Server, may_listen, per_client},
        strangers::{Callers, Reception, knock},
    },
    rewrite::{Service, Target},
};
use testing::{database::TestDatabase, programs::built_program, redis::TestRedis, wait::wait_for};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

const GATEWAY: &str = "127.0.0.9";
const CONTAINER: &str = "127.0.0.20";
const STRANGER: &str = "127.0.0.21";
const LIMIT: Duration = Duration::from_secs(30);

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn target(service: Service, address: SocketAddr) -> Target {
    Target { service, address: Some(address.ip()), port: address.port() }
}

fn network(gateways: &[IpAddr]) -> Network<'_> {
    Network { name: "net", gateways, engine_is_here: true }
}

async fn connect_from(from: &str, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(ip(from), 0))?;
    socket.connect(to).await
}

/// What a Redis says to a client from an address: nothing, where the connection ends.
async fn redis_says(from: &str, to: SocketAddr) -> String {
    let mut said = Vec::new();
    let asked = async {
        let mut stream = connect_from(from, to).await?;
        stream.write_all(b"AUTH testing\r\nPING\r\nQUIT\r\n").await?;
        stream.read_to_end(&mut said).await
    };
    drop(asked.await);
    String::from_utf8_lossy(&said).into_owned()
}

/// The relay that a plan for one service needs.
fn planned(service: Service, address: SocketAddr) -> Relay {
    let gateways = [ip(GATEWAY)];
    let targets = BTreeSet::from([target(service, address)]);
    let plan = plan(network(&gateways), &targets, &[]).expect("there is a way");
    plan.into_iter().next().expect("a relay is needed")
}

async fn served(relay: &Relay, clients: &Clients, tasks: &mut JoinSet<()>) -> CancellationToken {
    let stop = CancellationToken::new();
    let server = Server::listen(
        relay.listen,
        relay.targets.clone(),
        clients.clone(),
        per_client(relay.service),
    );
    tasks.spawn(server.await.expect("the address is free").serve(stop.clone()));
    stop
}

#[tokio::test]
async fn container_reaches_redis_and_stranger_does_not() {
    let redis = TestRedis::start().await;
    let state = tempfile::tempdir().unwrap();
    let relay = planned(Service::Redis, redis.address());
    let clients = Clients::of_network(state.path(), "net");
    clients.admit(&"r-1".parse().unwrap(), &[ip(CONTAINER)]).unwrap();
    let mut tasks = JoinSet::new();
    let stop = served(&relay, &clients, &mut tasks).await;
    assert_eq!(redis_says(CONTAINER, relay.listen).await, "+OK\r\n+PONG\r\n+OK\r\n");
    assert_eq!(redis_says(STRANGER, relay.listen).await, "");
    clients.dismiss(&"r-1".parse().unwrap()).unwrap();
    assert_eq!(redis_says(CONTAINER, relay.listen).await, "");
    stop.cancel();
    tasks.join_all().await;
    assert!(TcpListener::bind(relay.listen).is_ok(), "the address is free again");
}

#[tokio::test]
async fn container_that_takes_all_connections_it_may_have_leaves_those_of_others() {
    let redis = TestRedis::start().await;
    let state = tempfile::tempdir().unwrap();
    let relay = planned(Service::Redis, redis.address());
    let clients = Clients::of_network(state.path(), "net");
    clients.admit(&"r-1".parse().unwrap(), &[ip(CONTAINER)]).unwrap();
    clients.admit(&"r-2".parse().unwrap(), &[ip(STRANGER)]).unwrap();
    let mut tasks = JoinSet::new();
    let stop = served(&relay, &clients, &mut tasks).await;
    let mut held = Vec::new();
    for _ in 0..per_client(Service::Redis) {
        let mut stream = connect_from(CONTAINER, relay.listen).await.unwrap();
        stream.write_all(b"AUTH testing\r\n").await.unwrap();
        let mut answer = [0; 5];
        stream.read_exact(&mut answer).await.unwrap();
        held.push(stream);
    }
    assert_eq!(redis_says(CONTAINER, relay.listen).await, "");
    assert_eq!(redis_says(STRANGER, relay.listen).await, "+OK\r\n+PONG\r\n+OK\r\n");
    // A place is given back with its connection.
    held.pop();
    wait_for("a place", LIMIT, async || match redis_says(CONTAINER, relay.listen).await.as_str() {
        "" => Err("none"),
        _ => Ok(()),
    })
    .await;
    stop.cancel();
    tasks.join_all().await;
}

#[tokio::test]
async fn container_that_connects_before_its_entry_is_served_then() {
    let redis = TestRedis::start().await;
    let state = tempfile::tempdir().unwrap();
    let relay = planned(Service::Redis, redis.address());
    let clients = Clients::of_network(state.path(), "net");
    let mut tasks = JoinSet::new();
    let stop = served(&relay, &clients, &mut tasks).await;
    let mut stream = connect_from(CONTAINER, relay.listen).await.unwrap();
    stream.write_all(b"AUTH testing\r\n").await.unwrap();
    clients.admit(&"r-1".parse().unwrap(), &[ip(CONTAINER)]).unwrap();
    let mut answer = [0; 5];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"+OK\r\n");
    stop.cancel();
    tasks.join_all().await;
}

#[tokio::test]
async fn postgres_behind_the_relay_asks_for_its_password() {
    let database = TestDatabase::new().await;
    let state = tempfile::tempdir().unwrap();
    let relay = planned(Service::Postgres, database.server_address());
    let clients = Clients::of_network(state.path(), "net");
    // What the check says through the relay is what a container's client gets.
    clients.admit(&"r-1".parse().unwrap(), &[ip("127.0.0.1"), ip(GATEWAY)]).unwrap();
    let mut tasks = JoinSet::new();
    let stop = served(&relay, &clients, &mut tasks).await;
    let through = Relay { targets: vec![relay.listen], ..relay.clone() };
    assert_eq!(knock(&through, &Callers::default()).await, Ok(Reception::Refused));
    stop.cancel();
    tasks.join_all().await;
    assert_eq!(
        knock(&through, &Callers::default()).await,
        Ok(Reception::Unknown),
        "nobody listens any more"
    );
}

#[tokio::test]
async fn taken_address_names_who_holds_it() {
    let redis = TestRedis::start().await;
    let relay = planned(Service::Redis, redis.address());
    let _other = TcpListener::bind(relay.listen).unwrap();
    let clients = Clients::at("/nonexistent".into());
    let error = Server::listen(relay.listen, relay.targets, clients, 1).await.unwrap_err();
    let RelayError::AddressTaken { address, holder } = error else { panic!("{error:?}") };
    assert_eq!((address, holder.process), (relay.listen, Some(std::process::id())));
}

#[tokio::test]
async fn a_service_on_every_address_needs_no_relay() {
    let service = TcpListener::bind("0.0.0.0:0").unwrap();
    let at = SocketAddr::new(ip("127.0.0.1"), service.local_addr().unwrap().port());
    let targets = BTreeSet::from([target(Service::Provider, at)]);
    assert_eq!(plan(network(&[ip(GATEWAY)]), &targets, &[]).unwrap(), []);
    let targets = BTreeSet::from([target(Service::Proxy, at)]);
    assert_eq!(plan(network(&[ip(GATEWAY)]), &targets, &[]).unwrap(), [], "nor does a proxy");
}

#[tokio::test]
async fn a_proxy_on_loopback_is_not_relayed() {
    let proxy = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let gateways = [ip(GATEWAY)];
    let alone = BTreeSet::from([target(Service::Proxy, proxy)]);
    let by_name = Target { address: None, ..target(Service::Proxy, proxy) };
    // Nor under the name of another service.
    let beside = BTreeSet::from([by_name.clone(), target(Service::Provider, proxy)]);
    for targets in [alone, BTreeSet::from([by_name]), beside] {
        let refused = plan(network(&gateways), &targets, &[]).unwrap_err();
        assert!(matches!(refused, RelayError::ProxyOnLoopback { .. }), "{refused:?}");
        assert!(refused.hint().contains("NO_PROXY=*"));
    }
}

#[test]
fn plans_that_cannot_be_are_refused() {
    let at = |text: &str| text.parse::<SocketAddr>().unwrap();
    let one = BTreeSet::from([target(Service::Postgres, at("127.0.0.1:1"))]);
    let gateways = [ip(GATEWAY)];
    let elsewhere = [ip("203.0.113.1")];
    for network in
        [network(&[]), network(&elsewhere), Network { engine_is_here: false, ..network(&gateways) }]
    {
        let refused = plan(network, &one, &[]);
        assert!(matches!(refused, Err(RelayError::NoRelay { .. })), "{refused:?}");
        assert_eq!(plan(network, &BTreeSet::new(), &[]).unwrap(), [], "nothing is needed");
    }
    for api in ["127.0.0.1:1", "0.0.0.0:1", "[::]:1"] {
        let refused = plan(network(&gateways), &one, &[at("127.0.0.1:2"), at(api)]);
        assert!(matches!(refused, Err(RelayError::OwnApi { .. })), "{refused:?}");
    }
    assert!(plan(network(&gateways), &one, &[at("127.0.0.1:2")]).is_ok());
    let mut two = one.clone();
    two.insert(target(Service::Redis, at("127.0.0.2:1")));
    let refused = plan(network(&gateways), &two, &[]);
    assert!(matches!(refused, Err(RelayError::SharedPort { port: 1, .. })), "{refused:?}");
    let by_name = Target { service: Service::Postgres, address: None, port: 1 };
    let relays = plan(network(&gateways), &BTreeSet::from([by_name]), &[]).unwrap();
    assert_eq!(relays[0].targets, [at("127.0.0.1:1"), at("[::1]:1")]);
}

#[test]
fn api_that_runs_is_known_by_what_it_says_of_itself() {
    let state = tempfile::tempdir().unwrap();
    let (set, real) = ("127.0.0.1:4301".parse().unwrap(), "127.0.0.1:4711".parse().unwrap());
    assert_eq!(addresses(state.path(), set), [set]);
    let own = ProcessIdentity::own().unwrap();
    let file = |start_ticks| AddressFile {
        address: real,
        pid: own.pid,
        start_ticks,
        boot_id: own.boot_id.clone(),
        version: "0".to_owned(),
    };
    let announced = file(own.start_ticks).announce(state.path()).unwrap();
    assert_eq!(addresses(state.path(), set), [set, real]);
    drop(announced);
    // The file of a process that is no more.
    let _left_behind = file(own.start_ticks + 1).announce(state.path()).unwrap();
    assert_eq!(addresses(state.path(), set), [set]);
}

#[tokio::test]
async fn service_without_a_password_is_found_out() {
    let redis = TestRedis::start().await;
    let relay = planned(Service::Redis, redis.address());
    assert_eq!(knock(&relay, &Callers::default()).await, Ok(Reception::Refused));
    redis.say("CONFIG SET requirepass \"\"").await;
    let open = knock(&relay, &Callers::default()).await.unwrap_err();
    assert_eq!((open.service, open.address), (Service::Redis, redis.address()));
    assert!(open.hint().contains("requirepass"));
}

fn relays(state: &Path) -> Relays {
    Relays { worker: built_program("worker", "worker"), state_dir: state.to_owned() }
}

async fn pid(handle: &Handle) -> i32 {
    wait_for("the relay's process", LIMIT, async || {
        let stats = handle.stats().await.map_err(|error| error.to_string())?;
        stats.leader_pid.ok_or_else(|| "no process".to_owned())
    })
    .await
}

async fn end(handle: &Handle) {
    let request = StopRequest { reason: "test".to_owned(), grace: Duration::from_secs(5) };
    handle.stop(request).await;
}

#[tokio::test]
async fn one_relay_runs_for_an_address_however_often_it_is_asked_for() {
    let redis = TestRedis::start().await;
    let state = tempfile::tempdir().unwrap();
    let launcher = ProcessLauncher::new(state.path()).unwrap();
    let relay = planned(Service::Redis, redis.address());
    let relays = relays(state.path());
    let plan = [relay.clone()];
    let (one, other) =
        tokio::join!(relays.ensure(&launcher, &plan), relays.ensure(&launcher, &plan));
    let (one, other) = (one.unwrap().remove(0), other.unwrap().remove(0));
    assert_eq!(one.id(), other.id());
    let clients = Clients::of_network(state.path(), "net");
    clients.admit(&"r-1".parse().unwrap(), &[ip(CONTAINER)]).unwrap();
    assert_eq!(redis_says(CONTAINER, relay.listen).await, "+OK\r\n+PONG\r\n+OK\r\n");

    relays.renew_used(&launcher).await.unwrap();

    // One that died is started again, under another id.
    let dead = rustix::process::Pid::from_raw(pid(&one).await).unwrap();
    rustix::process::kill_process(dead, rustix::process::Signal::KILL).unwrap();
    one.exited().await;
    let again = relays.ensure(&launcher, &plan).await.unwrap().remove(0);
    assert_ne!(again.id(), one.id());
    assert_eq!(redis_says(CONTAINER, relay.listen).await, "+OK\r\n+PONG\r\n+OK\r\n");
    end(&again).await;
    assert!(matches!(*again.state().borrow(), LaunchState::Ended(_)));
}

/// In the launcher's own time, of which a minute passes at once.
#[tokio::test(start_paused = true)]
async fn relay_outlives_its_lease_while_a_container_uses_it_and_no_longer() {
    let state = tempfile::tempdir().unwrap();
    let relay = Relay {
        network: "net".to_owned(),
        listen: SocketAddr::new(ip(GATEWAY), 1),
        targets: vec![SocketAddr::new(ip("127.0.0.1"), 1)],
        service: Service::Redis,
    };
    let relays = Relays { worker: "/worker".into(), state_dir: state.path().to_owned() };
    let launcher = FakeLauncher::new();
    launcher.on("/worker", Behaviour::ending(End::Hang));
    let id = "relay-1".parse().unwrap();
    let launched = launcher.launch(&id, &relays.spec(&relay), Input::default()).await.unwrap();
    let handle = launched.into_handle();
    let (clients, container) = (clients(state.path(), &relay), "r-1".parse().unwrap());
    clients.admit(&container, &[ip(CONTAINER)]).unwrap();
    for _ in 0..10 {
        tokio::time::sleep(LEASE / 2).await;
        relays.renew_used(&launcher).await.unwrap();
    }
    assert!(matches!(*handle.state().borrow(), LaunchState::Running { .. }));
    clients.dismiss(&container).unwrap();
    relays.renew_used(&launcher).await.unwrap();
    let ended = tokio::time::timeout(LEASE + Duration::from_secs(1), handle.exited()).await;
    assert_eq!(ended.unwrap().cause, Some(StopCause::LeaseExpired));
}

#[tokio::test]
async fn another_instances_relay_is_named_and_left_alone() {
    let redis = TestRedis::start().await;
    let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let relay = planned(Service::Redis, redis.address());
    let their_launcher = ProcessLauncher::new(theirs.path()).unwrap();
    let plan = [relay];
    let their = relays(theirs.path()).ensure(&their_launcher, &plan).await.unwrap().remove(0);
    let our_launcher = ProcessLauncher::new(ours.path()).unwrap();
    for _ in 0..3 {
        let error = relays(ours.path()).ensure(&our_launcher, &plan).await.unwrap_err();
        let RelayError::AddressTaken { holder, .. } = error else { panic!("{error:?}") };
        assert_eq!(holder.process, u32::try_from(pid(&their).await).ok());
        assert_eq!(holder.program.as_deref(), Some("worker"));
    }
    // A look that finds the address taken starts nothing.
    assert!(our_launcher.discover().await.unwrap().is_empty());
    end(&their).await;
    let ours = relays(ours.path()).ensure(&our_launcher, &plan).await.unwrap().remove(0);
    end(&ours).await;
}

#[tokio::test]
async fn relay_that_fails_is_told_with_its_words_and_not_started_at_each_look() {
    let state = tempfile::tempdir().unwrap();
    let launcher = ProcessLauncher::new(state.path()).unwrap();
    let (worker, starts) = (state.path().join("broken"), state.path().join("starts"));
    let script = format!("#!/bin/sh\necho >> {}\necho no such option\nexit 2\n", starts.display());
    std::fs::write(&worker, script).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&worker, mode).unwrap();
    let relays = Relays { worker, state_dir: state.path().to_owned() };
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let relay = planned(Service::Redis, free);
    for _ in 0..3 {
        let error = relays.ensure(&launcher, std::slice::from_ref(&relay)).await.unwrap_err();
        let RelayError::Ended { address, said } = error else { panic!("{error:?}") };
        assert_eq!((address, said.as_str()), (relay.listen, "no such option"));
    }
    assert_eq!(std::fs::read_to_string(&starts).unwrap(), "\n", "it was started once");
    assert_eq!(launcher.discover().await.unwrap().len(), 1);
    let gone = Relays { worker: state.path().join("gone"), ..relays };
    let other = planned(Service::Provider, SocketAddr::new(free.ip(), free.port()));
    let other = Relay { network: "other".to_owned(), ..other };
    for _ in 0..2 {
        let error = gone.ensure(&launcher, std::slice::from_ref(&other)).await.unwrap_err();
        assert!(matches!(error, RelayError::Launch { .. }), "{error:?}");
    }
    assert_eq!(launcher.discover().await.unwrap().len(), 1);
}

#[test]
fn address_that_nobody_may_listen_on_is_told_with_what_helps() {
    let address = SocketAddr::new(ip(GATEWAY), 80);
    let hint = |kind| RelayError::Listen { address, source: io::Error::from(kind) }.hint();
    assert!(hint(io::ErrorKind::PermissionDenied).contains("1024"));
    assert!(!hint(io::ErrorKind::AddrInUse).contains("1024"));
    // An address that this machine does not have.
    let elsewhere = SocketAddr::new(ip("203.0.113.1"), 80);
    assert!(matches!(may_listen(elsewhere), Err(RelayError::Listen { .. })));
}
