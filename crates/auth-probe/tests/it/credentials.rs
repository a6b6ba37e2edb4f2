//! What is found out without starting anything.

use std::{fs, path::PathBuf};

use core_types::auth::{AuthReason as R, CheckedBy};
use jiff::{Timestamp, ToSpan as _};
use serde_json::json;

use crate::world::{World, found};

fn login_file(world: &World) -> PathBuf {
    fs::create_dir_all(world.home().join(".claude")).expect("the home can be written");
    world.home().join(".claude/.credentials.json")
}

#[tokio::test]
async fn missing_unreadable_and_expired_logins_are_told_apart_and_start_nothing() {
    let mut world = World::new();
    // It would tell if it was started.
    let trace = world.dir.path().join("started");
    world.stand_in(&format!("touch '{}'", trace.display()));
    found(&world.claude().await, R::LoginRequired, CheckedBy::Credentials);

    let path = login_file(&world);
    for (text, reason) in [
        ("not json", R::CredentialsUnreadable),
        ("{}", R::LoginRequired),
        // What the CLI leaves where the provider refused to renew the login.
        (r#"{"claudeAiOauth":{"accessToken":"","refreshToken":""}}"#, R::LoginRequired),
    ] {
        fs::write(&path, text).unwrap();
        found(&world.claude().await, reason, CheckedBy::Credentials);
    }

    let ended = Timestamp::now().checked_sub(1.hour()).unwrap().as_millisecond();
    let login = json!({"claudeAiOauth": {
        "accessToken": "sk-ant-oat01-x", "refreshToken": "sk-ant-ort01-x", "expiresAt": ended,
    }});
    fs::write(&path, login.to_string()).unwrap();
    let finding = world.claude().await;
    found(&finding, R::LoginExpired, CheckedBy::Credentials);
    assert!(finding.detail.unwrap().contains("renews it by itself"));

    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    found(&world.claude().await, R::CredentialsUnreadable, CheckedBy::Credentials);
    assert!(!trace.try_exists().unwrap());
}

#[tokio::test]
async fn opencode_without_login_key_or_provider_is_not_started() {
    let world = World::new();
    found(&world.opencode().await, R::LoginRequired, CheckedBy::Credentials);
    let path = world.home().join(executor::opencode::LOGIN_IN_HOME);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, "{").unwrap();
    found(&world.opencode().await, R::CredentialsUnreadable, CheckedBy::Credentials);
    fs::write(&path, "{}").unwrap();
    found(&world.opencode().await, R::LoginRequired, CheckedBy::Credentials);
}

#[tokio::test]
async fn missing_program_is_told_before_anything_else() {
    let mut world = World::new();
    for command in ["no-such-claude", "/nowhere/claude"] {
        world.settings.claude_code.command = command.to_owned();
        world.settings.opencode.command = command.to_owned();
        found(&world.claude().await, R::CliMissing, CheckedBy::Credentials);
        found(&world.opencode().await, R::CliMissing, CheckedBy::Credentials);
    }
}
