//! When nothing is handed out, and what is said about it.

use std::collections::BTreeMap;

use core_config::{
    database::DatabaseSnapshot,
    load::{Loaded, load_lenient_database},
};
use core_types::{task::ExecutionEnvironment, usage::SpendLimits};
use dispatch::claim::{Claims, claims_under};

fn loaded(environment: &[(&str, &str)], row: Option<(&str, serde_json::Value)>) -> Loaded {
    let environment = environment.iter().map(|(key, value)| (key.into(), value.into()));
    let rows: BTreeMap<String, serde_json::Value> =
        row.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    let snapshot = DatabaseSnapshot { revision: 1, rows };
    load_lenient_database(environment, Some(&snapshot)).expect("the environment is right")
}

#[test]
fn host_claims_up_to_the_limit() {
    let claims = claims_under(&loaded(&[("MAX_CONCURRENT_WORKERS", "7")], None));
    let spend = SpendLimits::default();
    let environment = ExecutionEnvironment::Host;
    assert_eq!(claims, Claims::Open { environment, max_running: 7, spend });
}

#[test]
fn claims_are_for_the_environment_in_force() {
    let claims = claims_under(&loaded(&[("EXECUTION_ENVIRONMENT", "sandbox")], None));
    let Claims::Open { environment, .. } = claims else { panic!("{claims:?}") };
    assert_eq!(environment, ExecutionEnvironment::Sandbox);
}

#[test]
fn bad_row_pauses_claims_and_names_the_key() {
    let row = ("MAX_CONCURRENT_WORKERS", serde_json::json!("many"));
    let claims = claims_under(&loaded(&[], Some(row)));
    let Claims::Paused { reason } = claims else { panic!("{claims:?}") };
    assert!(reason.contains("MAX_CONCURRENT_WORKERS"), "{reason}");
}
