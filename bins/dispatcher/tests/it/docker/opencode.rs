//! opencode in a container, with its own login.

use std::{fs, path::Path};

use serde_json::json;

use super::support::Setup;

/// The key in opencode's file of logins; of keys the scripted model keeps the last four characters.
const KEY: &str = "sk-ant-api-of-opencode-4321";

fn log_in(home: &Path) {
    let file = home.join(".local/share/opencode/auth.json");
    fs::create_dir_all(file.parent().expect("it is in a directory")).expect("it can be made");
    let login = json!({ "anthropic": { "type": "api", "key": KEY } });
    fs::write(file, login.to_string()).expect("it can be written");
}

#[tokio::test]
async fn opencode_does_a_task_with_the_login_of_the_host() {
    let it = Setup::new()
        .without("ANTHROPIC_API_KEY")
        .with("OPENCODE_MODEL", "anthropic/claude-sonnet-4-5")
        .start()
        .await;
    log_in(it.system.state.path());
    let goal = "[script: demo] [file: HELLO.md] write the greeting";
    let task = it.system.queue(goal, json!({ "executor": "opencode" })).await;
    it.wait_done(&task, &["succeeded"]).await;
    let requests = it.model.requests();
    let keys = requests.iter().filter_map(|request| request.headers.get("x-api-key"));
    let keys: Vec<&str> = keys.map(String::as_str).collect();
    assert!(!keys.is_empty() && keys.iter().all(|key| *key == "***4321"), "{keys:?}");
    it.wait_clean().await;
}
