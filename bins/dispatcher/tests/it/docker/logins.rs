//! The host's login in a container: it is rotated, missing, expired, and comes back.

use std::{fs, iter, path::Path};

use jiff::Timestamp;
use model_stub::script::{Script, Turn};
use serde_json::{Value, json};
use tempfile::TempDir;
use testing::{
    account_host::{AccountHost, Usage},
    wait::wait_for,
};

use super::support::{Sandboxed, Setup, bash, gate};
use crate::system::{DEADLINE, Part, text_at};

const HOUR_MS: i64 = 3_600_000;

/// A login that can renew itself.
fn login(token: &str, expires_in_ms: i64) -> String {
    let expires = Timestamp::now().as_millisecond() + expires_in_ms;
    let login = json!({"claudeAiOauth": {
        "accessToken": token, "refreshToken": format!("refresh-{token}"), "expiresAt": expires,
        "scopes": ["user:inference", "user:profile"], "subscriptionType": "max",
    }});
    login.to_string()
}

/// Logs the host in, as its own command line does: with a new file that takes the place of the old one.
fn log_in(directory: &Path, token: &str, expires_in_ms: i64) {
    let new = directory.join(".credentials.json.new");
    fs::write(&new, login(token, expires_in_ms)).expect("the directory is there");
    fs::rename(&new, directory.join(".credentials.json")).expect("a file can be replaced");
}

/// Waits until sandboxes have this login, without what renews it.
async fn wait_in_view(it: &Sandboxed, token: &str) {
    let path = it.system.state.path().join("sandbox/login/claude/.credentials.json");
    wait_for("the login to be in the view", DEADLINE, async || {
        let text = fs::read_to_string(&path).unwrap_or_default();
        assert!(!text.contains("refresh-"), "{text}");
        if text.contains(token) { Ok(()) } else { Err(text) }
    })
    .await;
}

async fn pass_gate(it: &Sandboxed, run: &str) {
    it.open_gate(run);
    wait_for("the gate to be passed", DEADLINE, async || {
        let there = it.work(run).join("go").try_exists().unwrap_or(false);
        if there { Err(it.system.logs()) } else { Ok(()) }
    })
    .await;
}

/// The attempts to renew a login at the provider.
fn refreshes(host: &AccountHost) -> Vec<String> {
    let is_for_logins = |to: &String| to.contains("platform.claude") || to.contains("console.");
    host.connects().into_iter().filter(is_for_logins).collect()
}

/// The gate of Claude Code in sandboxes.
async fn of_sandbox(it: &Sandboxed) -> Value {
    let (_, gates) = it.system.http.get("/system/gates").await.expect("it answers");
    let items = gates.pointer("/items").and_then(Value::as_array).cloned().unwrap_or_default();
    let mut of_sandbox =
        items.into_iter().filter(|gate| text_at(gate, "/environment") == "sandbox");
    of_sandbox.next().unwrap_or_default()
}

/// A turn in which the agent calls its command line by itself, with an old login that it may write.
fn with_a_login_of_its_own() -> Turn {
    let old = login("token-of-the-agent", -HOUR_MS);
    bash(&format!(
        "own=$(mktemp -d) && echo '{old}' > $own/.credentials.json && \
         env -u CLAUDECODE -u CLAUDE_SECURESTORAGE_CONFIG_DIR CLAUDE_CONFIG_DIR=$own claude -p hello </dev/null; true"
    ))
}

fn setup(directory: &Path) -> Setup {
    Setup::new()
        .without("ANTHROPIC_API_KEY")
        .with("CLAUDE_AUTH_DIR", directory.to_string_lossy())
        .with("CLAUDE_CODE_MAX_RETRIES", "0")
}

#[tokio::test]
async fn a_login_that_the_host_rotates_is_taken_up_in_the_middle_of_a_run() {
    let (directory, host) = (TempDir::new().unwrap(), AccountHost::start(Usage::Used(1)).await);
    let proxy = host.variables().remove("HTTPS_PROXY").expect("it is a proxy");
    let tokens = ["token-of-the-first-hour", "token-of-the-second-hour", "token-of-the-third-hour"];
    log_in(directory.path(), tokens[0], HOUR_MS);
    let mut turns = Script::demo().turns;
    let farewell = turns.split_off(2);
    turns.splice(0..0, [gate(), gate()]);
    turns.extend([gate(), with_a_login_of_its_own()].into_iter().chain(farewell));
    let it =
        setup(directory.path()).with("HTTPS_PROXY", proxy).script("rotating", turns).start().await;
    it.model.let_in_only(tokens[0]);
    let task = it.queue_goal("[script: rotating] [file: HELLO.md] write the greeting").await;
    for token in &tokens[1..] {
        let run = it.at_gate(&task, 1).await;
        // The command line in the container sees that it lasts no longer, and may not do anything about it.
        log_in(directory.path(), token, HOUR_MS);
        wait_in_view(&it, token).await;
        it.model.let_in_only(*token);
        pass_gate(&it, &run).await;
    }
    let run = it.at_gate(&task, 1).await;
    assert_eq!(it.model.turned_away(), 0, "no request showed an old token");
    assert_eq!(refreshes(&host), [""; 0]);
    // What can renew its login does so, in the same container, and is seen here.
    pass_gate(&it, &run).await;
    it.wait_done(&task, &["succeeded"]).await;
    assert_ne!(refreshes(&host), [""; 0], "{:?}\n{}", host.connects(), it.system.logs());
    it.wait_clean().await;
}

#[tokio::test]
async fn tasks_wait_for_a_login_that_is_missing_or_expired_and_go_on_once_it_is_there() {
    let (directory, host) = (TempDir::new().unwrap(), AccountHost::start(Usage::Used(1)).await);
    let proxy = host.variables().remove("HTTPS_PROXY").expect("it is a proxy");
    let mut it = setup(directory.path()).with("HTTPS_PROXY", proxy).start().await;
    it.model.let_in_only("token-of-today");
    let task = it.queue_goal("[script: demo] [file: HELLO.md] write the greeting").await;
    assert_eq!(it.outcomes(&task, 1).await, ["login_required"]);
    let shown = it.waits(&task, "login", "").await;
    assert_eq!(shown.pointer("/attempts"), Some(&json!(0)), "{shown}");
    it.system.wait_log(Part::Dispatcher, "agents of claude_code in sandboxes have no login").await;

    // One of yesterday's is tried, found out and not renewed.
    log_in(directory.path(), "token-of-yesterday", -HOUR_MS);
    wait_in_view(&it, "token-of-yesterday").await;
    // The new file may have had one tried already, which then had the view of before.
    wait_for("the provider to see it", DEADLINE, async || {
        if it.model.turned_away() > 0 {
            return Ok(());
        }
        if text_at(&of_sandbox(&it).await, "/state") == "closed" {
            let path = "/system/gates/claude_code/open";
            let (status, answer) = it.system.http.post(path, &json!({})).await.unwrap();
            assert_eq!(status, 200, "{answer}");
        }
        Err(it.system.logs())
    })
    .await;
    it.waits(&task, "login", "").await;
    assert_eq!(refreshes(&host), [""; 0]);

    // The gate is in the database: who starts anew knows of it, and says what it said.
    it.system.kill(Part::Dispatcher);
    it.system.kill(Part::ApiServer);
    it.system.spawn(Part::Dispatcher);
    it.system.spawn(Part::ApiServer);
    it.system.wait_ready(200).await;
    let shown = it.waits(&task, "login", "").await;
    assert_eq!(shown.pointer("/attempts"), Some(&json!(0)), "{shown}");
    let gate = of_sandbox(&it).await;
    assert_eq!(
        (text_at(&gate, "/state"), text_at(&gate, "/cause")),
        ("closed".into(), "login".into())
    );
    assert!(text_at(&gate, "/hint").contains("/login"), "{gate}");
    let asked = "/system/claude/auth?environment=sandbox&refresh=true";
    let (_, found) = it.system.http.get(asked).await.unwrap();
    assert_eq!(text_at(&found, "/reason"), "login_expired", "{found}");

    let (code, told) = it.doctor(&[]).await;
    let line = told.lines().find(|line| line.contains("claude_auth")).unwrap_or_default();
    assert_eq!(code, Some(1), "{told}");
    assert!(line.starts_with("FAIL") && line.contains("has expired"), "{told}");
    assert!(line.contains("fix: run `claude` once on the host"), "{told}");

    // The host renews it while nobody looks.
    it.system.kill(Part::Dispatcher);
    it.system.kill(Part::ApiServer);
    log_in(directory.path(), "token-of-today", HOUR_MS);
    it.system.spawn(Part::Dispatcher);
    it.system.spawn(Part::ApiServer);
    it.system.wait_ready(200).await;
    // At once, or with the next look at the login: each minute.
    wait_for("the task to be done", DEADLINE * 2, async || {
        let shown = it.system.task(&task).await?;
        let is_done = text_at(&shown, "/status") == "done";
        if is_done { Ok(()) } else { Err(format!("{shown}\n{}", it.system.logs())) }
    })
    .await;
    let tried = it.system.runs(&task).await.len();
    assert!((3..=6).contains(&tried), "{tried} runs");
    let refused = iter::repeat_n("login_required", tried - 1);
    it.wait_done(&task, &refused.chain(["succeeded"]).collect::<Vec<_>>()).await;
    assert_eq!(refreshes(&host), [""; 0]);
    let shown = it.system.task(&task).await.unwrap();
    assert_eq!(shown.pointer("/attempts"), Some(&json!(1)), "{shown}");
    assert_eq!(text_at(&of_sandbox(&it).await, "/state"), "open");
    // A check says the same of it, in a container, with the login alone.
    let (_, found) = it.system.http.get(asked).await.unwrap();
    assert_eq!(
        (text_at(&found, "/reason"), &found["authenticated"]),
        ("ready".into(), &json!(true))
    );
    it.wait_clean_after_a_death().await;
}
