//! Command lines that misbehave.

use std::{fs, os::unix::fs::PermissionsExt as _, time::Duration};

use core_types::{
    auth::{AuthReason as R, CheckedBy},
    secret::Secret,
    task::ExecutorKind,
};

use crate::world::{KEY, World, found};

/// A world whose Claude Code is this shell script, with a key.
fn stand_in(script: &str) -> World {
    let mut world = World::new();
    world.settings.claude_code.api_key = Some(Secret::new(KEY));
    world.stand_in(script);
    world
}

const INIT: &str = r#"echo '{"type":"system","subtype":"init","apiKeySource":"none"}'"#;

#[tokio::test]
async fn login_word_in_a_normal_reply_is_no_refusal() {
    let reply = r#"{"type":"result","subtype":"success","is_error":false,"result":"run /login, authentication_failed"}"#;
    let world = stand_in(&format!("{INIT}; echo '{reply}'; echo '/login' >&2"));
    found(&world.claude().await, R::Ready, CheckedBy::Prompt);
}

#[tokio::test]
async fn program_that_ignores_the_request_to_end_is_ended_with_its_children() {
    let world = stand_in("trap '' TERM INT HUP\nsleep 1000 &\nwhile :; do sleep 1000; done");
    let report = world.report(ExecutorKind::ClaudeCode).await;
    found(&report.finding, R::Timeout, CheckedBy::Prompt);
    assert!(report.took < Duration::from_secs(29), "{report:?}");
}

#[tokio::test]
async fn wrapper_that_goes_on_in_the_background_is_not_ready_and_leaves_nothing() {
    let world = stand_in("setsid sh -c 'sleep 1000' </dev/null >/dev/null 2>&1 &\nexit 0");
    found(&world.claude().await, R::CliIncompatible, CheckedBy::Prompt);
}

#[tokio::test]
async fn exit_code_of_zero_or_a_text_alone_is_not_ready() {
    for (script, reason) in [
        ("exit 0", R::CliIncompatible),
        ("echo OK", R::CliIncompatible),
        ("echo 'error: unknown option' >&2; exit 1", R::CliIncompatible),
        ("exec no-such-interpreter", R::CliIncompatible),
        ("kill -9 $$", R::Unknown),
    ] {
        found(&stand_in(script).claude().await, reason, CheckedBy::Prompt);
    }
}

#[tokio::test]
async fn program_that_cannot_be_executed_is_told_by_the_launchers_own_error() {
    let world = stand_in("exit 0");
    let path = &world.settings.claude_code.command;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    found(&world.claude().await, R::CliIncompatible, CheckedBy::Prompt);
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(path, "#!/nowhere/interpreter\n").unwrap();
    found(&world.claude().await, R::CliIncompatible, CheckedBy::Prompt);
}

#[tokio::test]
async fn key_never_shows_in_what_was_seen() {
    let failure = format!(
        r#"{{"type":"result","subtype":"success","is_error":true,"result":"odd failure with {KEY}"}}"#
    );
    let world = stand_in(&format!("{INIT}; echo '{failure}'; exit 1"));
    let finding = world.claude().await;
    found(&finding, R::Unknown, CheckedBy::Prompt);
    assert!(finding.detail.unwrap().contains("odd failure"));
}
