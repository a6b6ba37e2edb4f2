use std::collections::BTreeMap;

use serde_json::{Value, json};
use store::config_rows::{ConfigUpdate, SetConfigError};

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
