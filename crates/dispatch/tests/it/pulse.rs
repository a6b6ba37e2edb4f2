//! The dispatcher's pulse while its database is there, and while it is not.

use std::{sync::Arc, time::Duration};

use core_config::load::load_lenient_database;
use dispatch::pulse::Pulse;
use store::{
    agents::{HostId, ProcessIdentity},
    dispatchers::DispatcherBeat,
    pool::{PoolOptions, Store},
};
use testing::{database::TestDatabase, proxy::FaultProxy};
use tokio::{sync::watch, time::Instant};

fn pulse(store: Store) -> Pulse {
    let loaded = load_lenient_database(Vec::new(), None).expect("the defaults are right");
    let beat = DispatcherBeat {
        id: uuid::Uuid::now_v7(),
        host: HostId::new("here"),
        process: ProcessIdentity { pid: 1, start_ticks: 1, boot_id: "this".to_owned() },
        version: "test".to_owned(),
        paused: None,
    };
    Pulse::new(store, beat, watch::Sender::new(Arc::new(loaded)).subscribe())
}

#[tokio::test]
async fn a_beat_is_seen_by_others_and_is_a_look() {
    let database = TestDatabase::new().await;
    let pulse = pulse(database.store.clone());
    assert!(!pulse.view().has_looked());
    pulse.beat().await.unwrap();
    pulse.first_beat().await;
    assert_eq!(database.store.dispatchers().await.unwrap().len(), 1);
    let seen_at = Instant::now();
    assert!(!pulse.view().vouches_for(seen_at, Duration::ZERO), "no beat came after it");
    assert!(pulse.view_now().await.vouches_for(seen_at, Duration::ZERO));
}

#[tokio::test]
async fn nothing_is_vouched_for_while_the_database_does_not_answer() {
    let database = TestDatabase::new().await;
    let proxy = FaultProxy::start(database.server_address()).await;
    let url = database.url_through(proxy.address());
    let store = Store::connect(&url, PoolOptions::new("test")).await.unwrap();
    let pulse = pulse(store);
    pulse.beat().await.unwrap();
    proxy.pause();
    let asked = Instant::now();
    assert!(!pulse.view_now().await.vouches_for(asked, Duration::ZERO));
    assert!(asked.elapsed() < Duration::from_secs(3), "a look does not wait for the database");
}
