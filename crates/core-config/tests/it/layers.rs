//! Which layer wins, and how it shows.

use std::{path::PathBuf, time::Duration};

use core_config::{
    fault::Source,
    kind::Kind,
    load::load,
    provenance::Shown,
    settings::{LogFormat, PermissionMode, ProcessManager},
    table::{Fallback, Layers, SETTINGS, TakesEffect},
};
use core_types::task::ExecutionEnvironment;
use serde_json::json;

use crate::support::{environment, provenance, rows};

#[test]
fn nothing_set_gives_the_defaults() {
    let loaded = load(environment(&[]), None).unwrap();
    let settings = &loaded.settings;
    assert_eq!(settings.database_url, None);
    assert_eq!(settings.api_listen.to_string(), "127.0.0.1:4301");
    assert!(settings.knows_no_caller() && settings.allow_insecure_system_control);
    assert_eq!(settings.api_rate_limit, Some(1200));
    assert_eq!(settings.log_format, LogFormat::Text);
    assert_eq!(settings.execution_environment, ExecutionEnvironment::Host);
    assert!(settings.max_concurrent_workers >= 1);
    assert_eq!(settings.claude_code_permission_mode, PermissionMode::DontAsk);
    assert_eq!(settings.claude_code_allowed_tools.len(), 6);
    assert_eq!(settings.claude_code_max_turns, None);
    assert_eq!(settings.agent_idle_timeout, Duration::from_secs(600));
    assert_eq!(settings.agent_memory_limit, None);
    assert_eq!(settings.local_repo_roots, Vec::<PathBuf>::new());
    assert_eq!(settings.process_manager, ProcessManager::On);
    assert!(settings.dispatcher_enabled);
    assert!((1..=4).contains(&settings.worker_count));
    assert_eq!((settings.tester_count, settings.docser_count), (1, 1));
    assert_eq!(settings.process_restart_delay, Duration::from_secs(1));
    assert_eq!(loaded.provenance.len(), SETTINGS.len());
}

#[test]
fn the_environment_wins_over_the_database_and_that_over_the_default() {
    let database = rows(&[
        ("AGENT_IDLE_TIMEOUT_S", json!(60)),
        ("TASK_TIMEBOX_S", json!("120")),
        ("LOCAL_REPO_ROOTS", json!(["/srv/a", "/srv/b"])),
    ]);
    let loaded = load(environment(&[("AGENT_IDLE_TIMEOUT_S", "30")]), Some(&database)).unwrap();
    assert_eq!(loaded.settings.agent_idle_timeout, Duration::from_secs(30));
    assert_eq!(loaded.settings.task_timebox, Duration::from_secs(120));
    assert_eq!(loaded.settings.local_repo_roots.len(), 2);
    assert_eq!(loaded.revision, Some(7));

    let idle = provenance(&loaded, "AGENT_IDLE_TIMEOUT_S");
    assert_eq!(idle.effective.source, Source::Environment);
    assert_eq!(idle.effective.value, Shown::Plain(json!(30)));
    let beneath = idle.without_environment.as_ref().unwrap();
    assert_eq!((&beneath.value, beneath.source), (&Shown::Plain(json!(60)), Source::Database));

    let timebox = provenance(&loaded, "TASK_TIMEBOX_S");
    assert_eq!(timebox.effective.source, Source::Database);
    assert_eq!(timebox.without_environment, None);
    assert_eq!(provenance(&loaded, "CANCEL_GRACE_S").effective.source, Source::Default);
}

#[test]
fn where_the_environment_wins_over_no_row_the_default_is_what_lies_beneath() {
    let loaded = load(environment(&[("LLM_EXECUTOR", "claude_code")]), None).unwrap();
    let beneath = provenance(&loaded, "LLM_EXECUTOR").without_environment.clone().unwrap();
    assert_eq!(beneath.source, Source::Default);
}

#[test]
fn an_empty_variable_blanks_a_row() {
    let database = rows(&[("BASE_BRANCH", json!("main"))]);
    let loaded = load(environment(&[("BASE_BRANCH", "")]), Some(&database)).unwrap();
    assert_eq!(loaded.settings.base_branch, None);
}

#[test]
fn secrets_that_look_like_numbers_or_structures_stay_as_they_are() {
    for secret in ["1e5", "007", "true", "[x", "{\"a\":1}", "\"q\"", "null"] {
        let loaded = load(environment(&[("ANTHROPIC_API_KEY", secret)]), None).unwrap();
        assert_eq!(loaded.settings.anthropic_api_key.as_ref().unwrap().expose(), secret);
    }
}

#[test]
fn secrets_are_masked_wherever_they_could_show() {
    let variables = [
        ("ANTHROPIC_API_KEY", "sk-ant-hunter2-0042"),
        ("DATABASE_URL", "postgres://me:hunter2@db.example.org/tiger"),
        ("API_KEYS", "hunter2-hunter2-0001,hunter2-hunter2-0002"),
        ("API_SECRET", "hunter2-hunter2-0003"),
    ];
    let loaded = load(environment(&variables), None).unwrap();
    let json = serde_json::to_string(&loaded.provenance).unwrap();
    for text in [json, format!("{loaded:?}")] {
        assert!(!text.contains("hunter2"), "{text}");
    }
    let key = &provenance(&loaded, "ANTHROPIC_API_KEY").effective.value;
    assert_eq!(*key, Shown::Secret { set: true, last_four: Some("0042".to_owned()) });
    let url = &provenance(&loaded, "DATABASE_URL").effective.value;
    assert_eq!(*url, Shown::Secret { set: true, last_four: None });
    let keys = &provenance(&loaded, "API_KEYS").effective.value;
    assert_eq!(*keys, Shown::Secret { set: true, last_four: None });
    let secret = &provenance(&loaded, "API_SECRET").effective.value;
    assert_eq!(*secret, Shown::Secret { set: true, last_four: Some("0003".to_owned()) });
    let empty = load(environment(&[("API_KEYS", "")]), None).unwrap();
    let keys = &provenance(&empty, "API_KEYS").effective;
    assert_eq!(keys.value, Shown::Secret { set: false, last_four: None }, "empty is not set");
}

#[test]
fn fingerprints_follow_every_value_secrets_included_and_tell_little_of_it() {
    let prints = |variables: &[(&str, &str)], salt: &str| {
        load(environment(variables), None).unwrap().fingerprints(salt.as_bytes())
    };
    let plain = prints(&[], "salt");
    assert_eq!(plain, prints(&[("LLM_EXECUTOR", "claude_code")], "salt"));
    let other = prints(&[("CANCEL_GRACE_S", "11")], "salt");
    let differing: Vec<&str> =
        plain.iter().filter(|(key, print)| other[*key] != **print).map(|(key, _)| *key).collect();
    assert_eq!(differing, ["CANCEL_GRACE_S"]);
    let of_key = |key: &str, salt: &str| {
        prints(&[("ANTHROPIC_API_KEY", key)], salt)["ANTHROPIC_API_KEY"].clone()
    };
    assert_ne!(of_key("a", "salt"), of_key("b", "salt"));
    assert_ne!(of_key("a", "salt"), of_key("a", "another"), "another database has other sums");
    assert_eq!(of_key("a", "salt").len(), 8, "too short to confirm a guess");
    assert!(!plain.contains_key("API_KEYS"), "who may enter is no business of other processes");
}

#[test]
fn new_rows_give_new_settings_and_a_bad_row_leaves_the_old_ones_marked() {
    let first = load(environment(&[("AGENT_IDLE_TIMEOUT_S", "30")]), None).unwrap();
    let second =
        first.after(&rows(&[("CANCEL_GRACE_S", json!(3)), ("AGENT_IDLE_TIMEOUT_S", json!(60))]));
    assert_eq!(second.settings.cancel_grace, Duration::from_secs(3));
    assert_eq!(second.settings.agent_idle_timeout, Duration::from_secs(30), "the environment wins");
    assert_eq!((second.revision, &second.database_faults), (Some(7), &None));
    assert_eq!(
        second.set_by_environment().collect::<Vec<_>>(),
        ["OPENTIGER_STATE_DIR", "AGENT_IDLE_TIMEOUT_S"]
    );
    let third = second.after(&rows(&[("CANCEL_GRACE_S", json!("soon"))]));
    assert_eq!(third.settings, second.settings);
    assert_eq!(third.database_faults.as_ref().unwrap().len(), 1);
    let fourth = third.after(&rows(&[]));
    assert_eq!(fourth.settings, first.settings);
    assert_eq!(fourth.database_faults, None);
}

#[test]
fn a_row_of_any_key_changes_the_settings_of_a_process_that_lives() {
    let first = load(environment(&[]), None).unwrap();
    let of_database = SETTINGS.iter().filter(|s| s.layers == Layers::EnvironmentOrDatabase);
    for setting in of_database {
        assert_ne!(setting.takes_effect, TakesEffect::Restart, "{}", setting.key);
        let value = match setting.kind {
            Kind::Integer { min, max } => {
                json!(if setting.default == Fallback::Integer(max) { min } else { max })
            }
            Kind::Boolean => json!(setting.default != Fallback::Text("true")),
            Kind::Choice(words) => {
                let other = words.iter().find(|word| setting.default != Fallback::Text(word));
                // A choice of one word cannot be changed.
                let Some(other) = other else { continue };
                json!(other)
            }
            Kind::Words(words) => json!(words),
            Kind::HttpUrl | Kind::SecretHttpUrl => json!("https://gateway.example"),
            Kind::SecretUrl => json!("postgres://db.example/x"),
            Kind::RedisUrl => json!("redis://cache.example"),
            Kind::Address => json!("127.0.0.1:1"),
            Kind::Model { .. } => json!("other/model"),
            Kind::Image => json!("other:1"),
            Kind::Engine => json!("tcp://other:1"),
            Kind::Path { .. } | Kind::Program | Kind::PathList => json!("/opt/other"),
            Kind::Text
            | Kind::Secret
            | Kind::Branch
            | Kind::Network
            | Kind::List
            | Kind::HostList => json!("other"),
            Kind::Usd => json!("12.5"),
            Kind::AccessKey | Kind::AccessKeys => json!("other-other-other-other"),
            Kind::HostTokens => json!("other=token"),
        };
        let second = first.after(&rows(&[(setting.key, value)]));
        assert_eq!(second.database_faults, None, "{}", setting.key);
        assert_ne!(second.settings, first.settings, "{} is read by nobody", setting.key);
        assert_eq!(second.after(&rows(&[])).settings, first.settings, "{}", setting.key);
    }
}
