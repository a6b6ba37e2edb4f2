use std::{collections::BTreeSet, time::Duration};

use core_types::{
    process::{ProcessName, ProcessState, Wanted},
    task::Role,
};
use store::{
    agents::HostId,
    pool::{PoolOptions, Store},
    processes::{LastExit, ProcessRow, Saved, Wish},
    wake::{Channel, Wake},
};
use testing::{database::TestDatabase, proxy::FaultProxy, wait::wait_for};
use tokio::time::timeout;

use crate::world::World;

const LIMIT: Duration = Duration::from_secs(20);

fn host() -> HostId {
    HostId::new("here")
}

fn name(text: &str) -> ProcessName {
    text.parse().unwrap()
}

fn row(text: &str) -> ProcessRow {
    ProcessRow {
        host: host(),
        name: name(text),
        generation: 3,
        state: ProcessState::Running,
        draining: false,
        launch: "process.0.worker-1.3".to_owned(),
        record: Some(serde_json::json!({ "id": "process.0.worker-1.3" })),
        pid: Some(4711),
        started_at: Some(jiff::Timestamp::from_second(1).unwrap()),
        restarts: 2,
        attempts: 1,
        window_began: Some(jiff::Timestamp::from_second(2).unwrap()),
        next_start: None,
        start_seen: 5,
        restart_seen: 6,
        last_exit: Some(LastExit {
            outcome: "exited with 1".to_owned(),
            at: jiff::Timestamp::from_second(3).unwrap(),
            unasked: true,
            lines: Some("it hurts".to_owned()),
        }),
        message: Some("said".to_owned()),
        hint: Some("do".to_owned()),
    }
}

async fn manage(store: &Store) -> store::processes::managership::Managership {
    timeout(LIMIT, store.manage_processes(&host())).await.expect("the lock is free")
}

#[tokio::test]
async fn one_manages_and_the_next_one_takes_over_when_it_is_gone() {
    let world = World::new().await;
    assert_eq!(world.store.process_manager().await.unwrap(), None);
    let first = manage(&world.store).await;
    assert_eq!(world.store.process_manager().await.unwrap().unwrap().host, host());
    let other_host = HostId::new("there");
    let waiting = world.store.manage_processes(&other_host);
    tokio::pin!(waiting);
    assert!(timeout(Duration::from_millis(1200), &mut waiting).await.is_err(), "two manage");
    let (epoch, instance) = (first.epoch(), first.instance().to_owned());
    drop(first);
    let second = timeout(LIMIT, waiting).await.expect("the lock is free again");
    assert_eq!(second.epoch(), epoch + 1);
    assert_eq!(second.instance(), instance);
    assert_eq!(world.store.process_manager().await.unwrap().unwrap().host, other_host);
}

#[tokio::test]
async fn writes_of_who_managed_before_change_nothing() {
    let world = World::new().await;
    let first = manage(&world.store).await;
    let stays = row("worker-1");
    assert_eq!(world.store.save_process(first.epoch(), &stays).await.unwrap(), Saved::Yes);
    let epoch = first.epoch();
    drop(first);
    let second = manage(&world.store).await;
    let late = ProcessRow { state: ProcessState::Failed, ..stays.clone() };
    assert_eq!(world.store.save_process(epoch, &late).await.unwrap(), Saved::NotManager);
    assert_eq!(world.store.processes().await.unwrap(), std::slice::from_ref(&stays));
    let next = ProcessRow { generation: 4, last_exit: None, ..stays };
    assert_eq!(world.store.save_process(second.epoch(), &next).await.unwrap(), Saved::Yes);
    assert_eq!(world.store.processes().await.unwrap(), [next]);
}

#[tokio::test]
async fn a_manager_whose_connection_is_cut_or_silent_learns_it() {
    let database = TestDatabase::new().await;
    let proxy = FaultProxy::start(database.server_address()).await;
    let url = database.url_through(proxy.address());
    let store = Store::connect(&url, PoolOptions::new("through a proxy")).await.unwrap();
    let mut cut = manage(&store).await;
    assert!(timeout(Duration::from_millis(200), cut.lost()).await.is_err(), "it holds");
    proxy.cut();
    timeout(LIMIT, cut.lost()).await.expect("a cut is seen");
    let mut silent = manage(&store).await;
    proxy.pause();
    timeout(LIMIT, silent.lost()).await.expect("silence is seen");
    proxy.resume();
}

#[tokio::test]
async fn the_agents_of_a_process_are_signed_off_by_who_manages_alone() {
    let world = World::new().await;
    let id = world.agent(Role::Worker).await;
    let agent = world.store.agent(id).await.unwrap().expect("it registered");
    let first = manage(&world.store).await;
    let epoch = first.epoch();
    drop(first);
    let second = manage(&world.store).await;
    let is_retired = "SELECT count(*) FROM agents WHERE retired_at IS NOT NULL";
    for (epoch, retired) in [(epoch, 0), (second.epoch(), 1)] {
        let pid = agent.process.pid;
        let signed = world.store.sign_off_agents_of(epoch, &agent.host, &agent.name, pid);
        assert!(!signed.await.unwrap(), "it has no run");
        assert_eq!(world.count(is_retired).await, retired);
    }
}

#[tokio::test]
async fn wishes_overlay_the_settings_until_they_are_taken_back() {
    let world = World::new().await;
    let store = &world.store;
    assert!(store.process_wishes().await.unwrap().is_empty());
    let (one, two) = (name("worker-1"), name("worker-2"));
    store.wish_start(one).await.unwrap();
    store.wish_start(one).await.unwrap();
    store.wish_stop(two).await.unwrap();
    let wishes = store.process_wishes().await.unwrap();
    let running = Wish { wanted: Wanted::Running, start_number: 2, restart_number: 0 };
    assert_eq!(wishes[&one], running);
    assert_eq!(wishes[&two], Wish { wanted: Wanted::Stopped, start_number: 0, restart_number: 0 });

    store.wish_restart(one, true).await.unwrap();
    store.wish_restart(name("docser-1"), true).await.unwrap();
    store.wish_restart(name("docser-2"), false).await.unwrap();
    let wishes = store.process_wishes().await.unwrap();
    assert_eq!(wishes[&one], Wish { start_number: 3, restart_number: 1, ..running });
    assert_eq!(wishes[&name("docser-1")].wanted, Wanted::Settings);
    assert_eq!(wishes[&name("docser-2")].wanted, Wanted::Running);

    let all: Vec<ProcessName> = ProcessName::all().collect();
    store.wish_stop_all(&all).await.unwrap();
    let wishes = store.process_wishes().await.unwrap();
    assert_eq!(wishes.keys().copied().collect::<BTreeSet<_>>(), all.into_iter().collect());
    assert!(wishes.values().all(|wish| wish.wanted == Wanted::Stopped));
    store.wish_settings_for_all().await.unwrap();
    let wishes = store.process_wishes().await.unwrap();
    assert!(wishes.values().all(|wish| wish.wanted == Wanted::Settings && wish.start_number > 0));
}

#[tokio::test]
async fn a_wish_wakes_who_manages() {
    let world = World::new().await;
    let mut wakes = world.store.wakes(&[Channel::Processes]);
    assert_eq!(timeout(LIMIT, wakes.next()).await.unwrap(), Wake::Reconnected);
    world.store.wish_stop(ProcessName::Dispatcher).await.unwrap();
    let woken = timeout(LIMIT, wakes.next()).await.unwrap();
    assert_eq!(woken, Wake::Notified(Channel::Processes));
}

#[tokio::test]
async fn rows_of_several_hosts_are_kept_apart() {
    let world = World::new().await;
    let managership = manage(&world.store).await;
    let here = row("worker-1");
    let there = ProcessRow { host: HostId::new("there"), ..row("worker-1") };
    for row in [&here, &there] {
        world.store.save_process(managership.epoch(), row).await.unwrap();
    }
    wait_for("both rows", LIMIT, async || match world.store.processes().await.unwrap() {
        rows if rows.contains(&here) && rows.contains(&there) => Ok(()),
        rows => Err(format!("{rows:?}")),
    })
    .await;
}
