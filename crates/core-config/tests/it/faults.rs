//! Every kind of fault, and that all of a start are in one report.

use std::{ffi::OsString, os::unix::ffi::OsStringExt as _};

use core_config::{
    database::{check_update, validate_row},
    fault::{Fault, Source},
    load::{load, load_lenient_database, load_to_serve},
};
use serde_json::json;

use crate::support::{environment, rows};

#[track_caller]
fn only_fault(variables: &[(&str, &str)]) -> Fault {
    let faults = load(environment(variables), None).expect_err("the variable is refused");
    assert_eq!(faults.len(), 1, "{faults}");
    faults.iter().next().expect("one fault was counted").clone()
}

#[test]
fn a_fault_says_key_source_what_is_wrong_what_is_allowed_and_what_to_do() {
    let fault = only_fault(&[("EXECUTION_ENVIRONMENT", "cloud")]);
    assert_eq!(
        fault.to_string(),
        "EXECUTION_ENVIRONMENT (environment): `cloud` is not allowed; allowed: host, sandbox; \
         set the variable to an allowed value or unset `EXECUTION_ENVIRONMENT`"
    );
}

#[test]
fn all_faults_of_a_start_are_in_one_report() {
    let variables = [
        ("MAX_CONCURRENT_WORKERS", "1e5"),
        ("OPENTIGER_API_LISTEN", "4301"),
        ("OPENTIGER_STATEDIR", "/srv"),
    ];
    let database = rows(&[("CANCEL_GRACE_S", json!(true)), ("NO_SUCH_KEY", json!("x"))]);
    let faults = load(environment(&variables), Some(&database)).unwrap_err();
    let keys: Vec<&str> = faults.iter().map(|fault| fault.key.as_str()).collect();
    assert_eq!(
        keys,
        [
            "MAX_CONCURRENT_WORKERS",
            "OPENTIGER_API_LISTEN",
            "OPENTIGER_STATEDIR",
            "CANCEL_GRACE_S",
            "NO_SUCH_KEY"
        ]
    );
    assert!(faults.to_string().starts_with("5 settings cannot be used\n  MAX_CONCURRENT_WORKERS"));
}

#[test]
fn an_address_that_strangers_can_reach_needs_a_key_in_the_program_that_listens_there() {
    let open = ("OPENTIGER_API_LISTEN", "0.0.0.0:4301");
    let faults = load_to_serve(environment(&[open, ("API_KEYS", " , ")]), None).unwrap_err();
    assert_eq!(faults.len(), 1);
    assert!(faults.to_string().contains("neither `API_KEYS` nor `API_SECRET` is set"), "{faults}");
    let bad_key = load_to_serve(environment(&[open, ("API_KEYS", "short")]), None).unwrap_err();
    assert_eq!(bad_key.iter().next().unwrap().key, "API_KEYS");
    assert_eq!(bad_key.len(), 1, "a key that cannot be used is one fault and not two");
    for key in [("API_KEYS", "0123456789abcdef"), ("API_SECRET", "0123456789abcdef")] {
        load_to_serve(environment(&[open, key]), None).unwrap();
    }
    load(environment(&[open]), None).expect("others do not listen there");
    load_to_serve(environment(&[("OPENTIGER_API_LISTEN", "[::1]:4301")]), None).unwrap();
}

#[test]
fn an_unknown_variable_of_ours_is_a_fault_that_suggests_the_nearest_name() {
    let fault = only_fault(&[("OPENTIGER_STATEDIR", "/srv")]);
    assert_eq!(fault.what, "is not a setting");
    assert_eq!(fault.hint, "did you mean `OPENTIGER_STATE_DIR`?");
    assert!(only_fault(&[("OPENTIGER_X", "1")]).hint.starts_with("unset `OPENTIGER_X`"));
}

#[test]
fn variables_of_others_of_tests_and_of_the_command_line_are_left_alone() {
    let variables = [
        ("CLAUDE_CODE_SOMETHING", "1"),
        ("OPENTIGER_TEST_DATABASE_URL", "x"),
        ("OPENTIGER_API_URL", "http://127.0.0.1:4301"),
        ("OPENTIGER_API_KEY", "k"),
    ];
    load(environment(&variables), None).unwrap();
}

#[test]
fn no_fault_shows_the_value_of_a_secret() {
    let variables = [
        ("ANTHROPIC_API_KEY", "hunter2\nhunter2"),
        ("DATABASE_URL", "postgres://me:hunter2\n@db/tiger"),
        ("ANTHROPIC_BASE_URL", "https://me:hunter2@gateway"),
        ("API_KEYS", "hunter2"),
        ("API_SECRET", "hunter2"),
    ];
    let database = rows(&[
        ("ANTHROPIC_API_KEY", json!({"key": "hunter2"})),
        ("DATABASE_URL", json!("postgres://me:hunter2@db")),
    ]);
    let faults = load(environment(&variables), Some(&database)).unwrap_err();
    assert_eq!(faults.len(), 7);
    let report = format!("{faults}{faults:?}{}", serde_json::to_string(&faults).unwrap());
    assert!(!report.contains("hunter2"), "{report}");
}

#[test]
fn a_variable_that_is_not_text_is_a_fault() {
    let mut variables = environment(&[]);
    variables.push((OsString::from("BASE_BRANCH"), OsString::from_vec(vec![b'a', 0xff])));
    let faults = load(variables, None).unwrap_err();
    assert_eq!(faults.iter().next().unwrap().what, "is not valid UTF-8");
}

#[test]
fn keys_for_the_environment_only_are_refused_in_the_database() {
    let database = rows(&[("OPENTIGER_API_LISTEN", json!("127.0.0.1:1"))]);
    let faults = load(environment(&[]), Some(&database)).unwrap_err();
    let fault = faults.iter().next().unwrap();
    assert_eq!(fault.source, Source::Database);
    assert_eq!(fault.what, "cannot be set in the database");
}

#[test]
fn bad_rows_are_kept_apart_and_do_not_become_defaults_silently() {
    let database = rows(&[("CANCEL_GRACE_S", json!("soon")), ("TASK_TIMEBOX_S", json!(60))]);
    let loaded = load_lenient_database(environment(&[]), Some(&database)).unwrap();
    assert_eq!(loaded.settings.task_timebox.as_secs(), 60);
    let bad_rows = loaded.database_faults.unwrap();
    assert_eq!(bad_rows.len(), 1);
    assert_eq!(bad_rows.iter().next().unwrap().key, "CANCEL_GRACE_S");

    let faults = load_lenient_database(environment(&[("TASK_TIMEBOX_S", "x")]), Some(&database))
        .unwrap_err();
    assert!(faults.iter().all(|fault| fault.source == Source::Environment), "{faults}");
}

#[test]
fn a_later_bad_state_keeps_the_old_values_and_marks_them() {
    let old = load(environment(&[("CANCEL_GRACE_S", "5")]), None).unwrap();
    let bad = rows(&[("TASK_TIMEBOX_S", json!("soon"))]);
    let faults = load_lenient_database(environment(&[]), Some(&bad)).unwrap().database_faults;
    let marked = old.with_database_faults(bad.revision, faults.unwrap());
    assert_eq!(marked.settings, old.settings);
    assert_eq!(marked.database_faults.unwrap().len(), 1);
}

#[test]
fn a_bad_row_of_the_allowed_roots_allows_nothing_unless_a_variable_wins() {
    let bad = rows(&[("LOCAL_REPO_ROOTS", json!("srv"))]);
    let fresh = load_lenient_database(environment(&[]), Some(&bad)).unwrap();
    assert_eq!(fresh.local_repo_roots().unwrap_err().key, "LOCAL_REPO_ROOTS");
    let old = load(environment(&[]), None).unwrap();
    assert!(old.local_repo_roots().unwrap().is_empty());
    let marked = old.with_database_faults(bad.revision, fresh.database_faults.unwrap());
    assert!(marked.local_repo_roots().is_err(), "a later bad row is no better than an early one");

    let variables = [("LOCAL_REPO_ROOTS", "/srv")];
    let overruled = load_lenient_database(environment(&variables), Some(&bad)).unwrap();
    assert_eq!(overruled.local_repo_roots().unwrap(), [std::path::PathBuf::from("/srv")]);
    let other = rows(&[("CANCEL_GRACE_S", json!("soon"))]);
    let other = load_lenient_database(environment(&[]), Some(&other)).unwrap();
    assert!(other.local_repo_roots().is_ok(), "faults of other keys do not matter here");
}

#[test]
fn a_row_that_is_no_branch_is_a_fault() {
    for name in ["main\n", "no such", "-x", "a..b", "x.lock", "HEAD", "a//b", "@{u}"] {
        assert!(validate_row("BASE_BRANCH", &json!(name)).is_err(), "{name}");
    }
    for name in ["", "main", "release/1.x", "größe"] {
        assert!(validate_row("BASE_BRANCH", &json!(name)).is_ok(), "{name}");
    }
}

#[test]
fn a_value_can_be_checked_before_it_is_stored() {
    assert!(validate_row("CANCEL_GRACE_S", &json!(5)).is_ok());
    let fault = validate_row("CANCEL_GRACE_S", &json!(601)).unwrap_err();
    assert_eq!(
        (fault.what.as_str(), fault.allowed.as_str()),
        ("`601` is out of range", "an integer from 0 to 600")
    );
    assert_eq!(
        validate_row("CANCEL_GRACES", &json!(5)).unwrap_err().hint,
        "did you mean `CANCEL_GRACE_S`?"
    );
}

#[test]
fn a_change_is_typed_or_refused_and_a_row_can_always_be_removed() {
    let change = |key: &str, value: serde_json::Value| check_update(key, Some(&value), true);
    assert_eq!(change("CANCEL_GRACE_S", json!("7")).unwrap(), Some(json!(7)));
    let tools = change("CLAUDE_CODE_ALLOWED_TOOLS", json!("Bash(git log:a,b), Edit")).unwrap();
    assert_eq!(tools, Some(json!(["Bash(git log:a,b)", "Edit"])));
    for (key, value, what) in [
        ("CANCEL_GRACE_S", json!(601), "`601` is out of range"),
        ("CANCEL_GRACE_S", json!(true), "is a boolean, expected an integer"),
        ("EXECUTION_ENVIRONMENT", json!("cloud"), "`cloud` is not allowed"),
        ("CANCEL_GRACES", json!(1), "is not a setting"),
        ("API_SECRET", json!("hunter2"), "cannot be set in the database"),
    ] {
        let fault = change(key, value).unwrap_err();
        assert_eq!(fault.what, what);
        assert!(!fault.allowed.is_empty() && !fault.to_string().contains("hunter2"), "{fault}");
    }
    assert_eq!(
        change("CANCEL_GRACES", json!(1)).unwrap_err().hint,
        "did you mean `CANCEL_GRACE_S`?"
    );

    for key in ["CANCEL_GRACE_S", "LEFT_BY_ANOTHER_VERSION", "API_KEYS"] {
        assert_eq!(check_update(key, None, true).unwrap(), None, "{key}");
    }
    assert_eq!(check_update("CANCEL_GRACE_S", None, false).unwrap(), None);
    assert_eq!(check_update("CANCEL_GRACES", None, false).unwrap_err().what, "is not a setting");
    assert!(check_update("API_KEYS", None, false).is_err());
}

#[test]
fn a_model_that_a_command_line_would_misread_is_refused_with_what_is_allowed() {
    for (key, value) in [
        ("CLAUDE_CODE_MODEL", "--help"),
        ("CLAUDE_CODE_MODEL", "a b"),
        ("OPENCODE_MODEL", "sonnet"),
        ("OPENCODE_MODEL", "/sonnet"),
        ("OPENCODE_MODEL", "-a/b"),
    ] {
        let fault = validate_row(key, &json!(value)).expect_err(value);
        assert!(fault.to_string().contains("letters, digits"), "{fault}");
        only_fault(&[(key, value)]);
    }
    for (key, value) in [
        ("CLAUDE_CODE_MODEL", ""),
        ("CLAUDE_CODE_MODEL", "claude-sonnet-4-5[1m]"),
        ("OPENCODE_MODEL", ""),
        ("OPENCODE_MODEL", "openrouter/anthropic/claude-sonnet-4.5"),
    ] {
        validate_row(key, &json!(value)).expect(value);
    }
}
