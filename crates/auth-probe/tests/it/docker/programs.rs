//! Command lines that misbehave in a container.

use core_types::{
    auth::{AuthReason as R, CheckedBy},
    task::ExecutorKind::ClaudeCode,
};

use super::world::{Boxes, Image};
use crate::world::KEY;

async fn finds(how: &str, script: &str, reason: R) {
    let image = Image::with_claude(&format!(
        "#!/bin/sh\n[ \"$1\" = --version ] && exec echo 1\n{script}\n"
    ));
    let mut boxes = Boxes::new();
    boxes.set("ANTHROPIC_API_KEY", KEY);
    boxes.set("SANDBOX_DOCKER_IMAGE", &image.0);
    boxes.finds(ClaudeCode, how, reason, CheckedBy::Prompt).await;
}

#[tokio::test]
async fn login_word_in_a_normal_reply_is_no_refusal() {
    let reply = r#"{"type":"result","subtype":"success","is_error":false,"result":"run /login, authentication_failed"}"#;
    finds("`/login` in a normal reply", &format!("echo '{reply}'; echo '/login' >&2"), R::Ready)
        .await;
}

#[tokio::test]
async fn program_that_ignores_the_request_to_end_is_ended_with_its_children() {
    let script = "trap '' TERM INT HUP\nsleep 1000 &\nwhile :; do sleep 1000; done";
    finds("ignores TERM", script, R::Timeout).await;
}

#[tokio::test]
async fn wrapper_that_goes_on_in_the_background_is_not_ready_and_leaves_nothing() {
    let script = "setsid sh -c 'sleep 1000' </dev/null >/dev/null 2>&1 &\nexit 0";
    finds("daemonises", script, R::CliIncompatible).await;
}

#[tokio::test]
async fn program_that_is_killed_tells_nothing_of_the_login() {
    finds("killed by a signal", "kill -9 $$", R::Unknown).await;
}
