use std::collections::BTreeMap;

use serde_json::{Value, json};
use store::{
    agents::{HostId, ProcessIdentity},
    config_rows::{ConfigUpdate, SetConfigError},
    process_settings::ProcessSettings,
};

use crate::world::World;

fn updates(of: &[(&str, Option<Value>, bool)]) -> BTreeMap<String, ConfigUpdate> {
    of.iter()
        .map(|(key, value, secret)| {
            ((*key).to_owned(), ConfigUpdate { value: value.clone(), secret: *secret })
        })
        .collect()
}

#[tokio::test]
async fn settings_are_set_changed_and_removed_with_a_rising_revision() {
    let world = World::new().await;
    let empty = world.store.config_rows().await.unwrap();
    assert_eq!((empty.revision, empty.rows.len()), (0, 0));
    let set = updates(&[("A", Some(json!("1e5")), false), ("B", Some(json!(["x"])), false)]);
    let rows = world.store.set_config_rows(&set, "anna", Some(0)).await.unwrap();
    assert_eq!((rows.revision, rows.rows["A"].clone()), (1, json!("1e5")));
    let remove = updates(&[("A", None, false)]);
    let rows = world.store.set_config_rows(&remove, "anna", None).await.unwrap();
    assert_eq!(rows.rows.keys().collect::<Vec<_>>(), ["B"]);
    assert_eq!(world.store.config_rows().await.unwrap(), rows);
}

#[tokio::test]
async fn a_change_on_top_of_an_old_revision_is_refused_whole() {
    let world = World::new().await;
    let set = updates(&[("A", Some(json!(1)), false)]);
    let changes = (0..5).map(|_| world.store.set_config_rows(&set, "anna", Some(0)));
    let results = futures_util::future::join_all(changes).await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    for refused in results.into_iter().filter_map(Result::err) {
        assert!(matches!(refused, SetConfigError::RevisionChanged { expected: 0, actual: 1 }));
    }
}

#[tokio::test]
async fn the_history_tells_who_changed_what_and_masks_secrets() {
    let world = World::new().await;
    let set = updates(&[("KEY", Some(json!("sk-1")), true), ("A", Some(json!(1)), false)]);
    world.store.set_config_rows(&set, "anna", None).await.unwrap();
    let set = updates(&[("KEY", Some(json!("sk-2")), true), ("A", Some(json!(1)), false)]);
    world.store.set_config_rows(&set, "bert", None).await.unwrap();
    let rows = world
        .sql
        .query("SELECT who, key, old_value, new_value FROM config_audit ORDER BY seq", &[])
        .await
        .unwrap();
    let history: Vec<(String, String, Option<Value>, Option<Value>)> =
        rows.iter().map(|row| (row.get(0), row.get(1), row.get(2), row.get(3))).collect();
    let entry = |who: &str, key: &str, old: Option<Value>, new: Value| {
        (who.to_owned(), key.to_owned(), old, Some(new))
    };
    assert_eq!(
        history,
        [
            entry("anna", "A", None, json!(1)),
            entry("anna", "KEY", None, json!("***")),
            entry("bert", "KEY", Some(json!("***")), json!("***")),
        ]
    );
}

#[tokio::test]
async fn a_change_that_changes_nothing_leaves_the_revision_and_the_history_as_they_are() {
    let world = World::new().await;
    let set = updates(&[("A", Some(json!(1)), false), ("B", None, false)]);
    assert_eq!(world.store.set_config_rows(&set, "anna", None).await.unwrap().revision, 1);
    assert_eq!(world.store.set_config_rows(&set, "anna", Some(1)).await.unwrap().revision, 1);
    assert_eq!(world.store.config_history(None, None, 10).await.unwrap().items.len(), 1);
}

#[tokio::test]
async fn the_history_is_paged_newest_first_of_all_keys_or_of_one() {
    let world = World::new().await;
    for number in 0..5 {
        let set = updates(&[("A", Some(json!(number)), false), ("KEY", Some(json!(number)), true)]);
        world.store.set_config_rows(&set, "anna", None).await.unwrap();
    }
    let first = world.store.config_history(Some("A"), None, 3).await.unwrap();
    let values = |items: &[store::config_rows::ConfigChange]| -> Vec<Option<Value>> {
        items.iter().map(|change| change.new_value.clone()).collect()
    };
    assert_eq!(values(&first.items), [Some(json!(4)), Some(json!(3)), Some(json!(2))]);
    let last = world.store.config_history(Some("A"), first.next_cursor, 3).await.unwrap();
    assert_eq!(values(&last.items), [Some(json!(1)), Some(json!(0))]);
    assert_eq!((last.next_cursor, &last.items[1].old_value), (None, &None));
    let secrets = world.store.config_history(Some("KEY"), None, 1).await.unwrap();
    assert_eq!(values(&secrets.items), [Some(json!("***"))]);
    assert_eq!(world.store.config_history(None, None, 100).await.unwrap().items.len(), 10);
}

#[tokio::test]
async fn processes_say_what_they_have_in_force_until_they_fall_silent() {
    let world = World::new().await;
    let said = ProcessSettings {
        id: uuid::Uuid::now_v7(),
        program: "dispatcher".to_owned(),
        host: HostId::new("here"),
        process: ProcessIdentity { pid: 7, start_ticks: 8, boot_id: "boot".to_owned() },
        version: "0.1.0".to_owned(),
        revision: Some(0),
        environment: vec!["CANCEL_GRACE_S".to_owned()],
        fingerprints: BTreeMap::from([("CANCEL_GRACE_S".to_owned(), "0badcafe".to_owned())]),
    };
    let later = ProcessSettings { revision: Some(3), ..said.clone() };
    let other = ProcessSettings { id: uuid::Uuid::now_v7(), ..said.clone() };
    for said in [&said, &other, &later] {
        world.store.publish_settings(said).await.unwrap();
    }
    let live = world.store.live_settings().await.unwrap();
    assert_eq!(live.iter().map(|live| &live.said).collect::<Vec<_>>(), [&later, &other]);
    let silence = format!(
        "UPDATE process_settings SET last_beat = last_beat - interval '20 seconds' WHERE id = '{}'",
        other.id
    );
    world.sql.batch_execute(&silence).await.unwrap();
    assert_eq!(world.store.live_settings().await.unwrap().len(), 1);
    world.store.retire_settings(said.id).await.unwrap();
    assert_eq!(world.store.live_settings().await.unwrap(), []);
    let salt = world.store.settings_salt().await.unwrap();
    assert_eq!((salt.len(), &salt), (32, &world.store.settings_salt().await.unwrap()));
}
