//! Settings as the programs of one database have them.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use testing::{database::TestDatabase, wait::wait_for};

use crate::program::{self, Program};

#[tokio::test]
async fn a_setting_that_is_changed_at_one_server_is_told_to_another() {
    let database = TestDatabase::new().await;
    let url = ("DATABASE_URL", database.url.expose());
    let key = ("API_KEYS", "hunter2-hunter2-0001");
    let mut one = Program::start(&[], &[url, key, ("OPENTIGER_LOG", "debug")]);
    let mut two = Program::start(&[], &[url, ("TASK_TIMEBOX_S", "90")]);
    let (here, there) = (one.address(), two.address());
    let updates = r#"{"updates":{"CANCEL_GRACE_S":7,"TASK_TIMEBOX_S":60,"ANTHROPIC_API_KEY":"sk-hunter2-0002","CLAUDE_CODE_COMMAND":"/opt/claude"}}"#;
    let refused = program::send("PATCH", &here, "/config", "", updates);
    assert!(refused.starts_with("HTTP/1.1 403"), "{refused}");
    let with_key = "x-api-key: hunter2-hunter2-0001\r\n";
    let changed = program::send("PATCH", &here, "/config", with_key, updates);
    assert!(changed.starts_with("HTTP/1.1 200") && changed.contains("etag: \"1\""), "{changed}");
    let answered = Instant::now();
    while !program::get(&there, "/config").contains("etag: \"1\"") {
        // It looks by itself every half a minute.
        assert!(answered.elapsed() < Duration::from_secs(10), "the other is not told");
    }
    let config = program::get(&there, "/config");
    let config: Value = serde_json::from_str(config.split_once("\r\n\r\n").unwrap().1).unwrap();
    let setting = |name: &str| {
        config["settings"].as_array().unwrap().iter().find(|s| s["key"] == name).unwrap().clone()
    };
    assert_eq!(setting("CANCEL_GRACE_S")["value"], 7);
    assert_eq!(setting("TASK_TIMEBOX_S")["without_environment"]["value"], 60);
    assert_eq!(setting("ANTHROPIC_API_KEY")["value"]["last_four"], "0002");

    // Both have told what they have in force: one key differs, and only because of an environment.
    let told = |config: &str| {
        config.matches("\"program\":\"api-server\"").count() == 2
            && config.contains("\"differs\":[\"TASK_TIMEBOX_S\"]")
    };
    wait_for("both to have told", Duration::from_secs(10), async || {
        let config = program::get(&here, "/config");
        if told(&config) { Ok(()) } else { Err(config) }
    })
    .await;
    let ready = program::get(&here, "/health/ready");
    assert!(ready.contains("processes have different values of TASK_TIMEBOX_S"), "{ready}");
    for program in [&mut one, &mut two] {
        program.signal(Signal::TERM);
        assert_eq!(program.exit_code(), Some(0));
        let said = program.errors();
        assert!(said.contains("settings changed") && !said.contains("hunter2"), "{said}");
    }
    let history = database.store.config_history(None, None, 10).await.unwrap().items;
    assert!(history.len() == 4 && history.iter().all(|change| change.who == "api-key:0001"));
    assert!(!format!("{history:?}").contains("hunter2"));
}

#[tokio::test]
async fn a_bad_row_lets_it_start_marked_and_be_mended_there() {
    let database = TestDatabase::new().await;
    database
        .run("INSERT INTO system_config (key, value, updated_at, updated_by) VALUES
            ('EXECUTION_ENVIRONMENT', '\"cloud\"', now(), 'psql'), ('OF_ANOTHER_VERSION', '1', now(), 'psql')")
        .await;
    let mut program = Program::start(&[], &[("DATABASE_URL", database.url.expose())]);
    let address = program.address();
    let config = program::get(&address, "/config");
    assert!(config.starts_with("HTTP/1.1 200"), "{config}");
    assert!(
        config.contains("`cloud` is not allowed") && config.contains("OF_ANOTHER_VERSION"),
        "{config}"
    );
    assert!(program::get(&address, "/health").starts_with("HTTP/1.1 200"));
    let ready = program::get(&address, "/health/ready");
    assert!(
        ready.contains("settings in the database cannot be used: EXECUTION_ENVIRONMENT"),
        "{ready}"
    );
    let mend = r#"{"updates":{"EXECUTION_ENVIRONMENT":"host","OF_ANOTHER_VERSION":null}}"#;
    let mended = program::send("PATCH", &address, "/config", "if-match: \"0\"\r\n", mend);
    assert!(mended.starts_with("HTTP/1.1 200"), "{mended}");
    assert!(mended.contains("\"database_faults\":[]"), "{mended}");
    let ready = program::get(&address, "/health/ready");
    assert!(!ready.contains("cannot be used"), "{ready}");
}
