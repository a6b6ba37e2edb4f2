//! Images that are not there, not for this machine, or without what a run needs.

use core_types::{
    auth::{AuthReason as R, CheckedBy},
    task::ExecutorKind::{ClaudeCode, Opencode},
};
use testing::engine::base_image;

use super::world::{Boxes, Image, foreign_image};

const BY: CheckedBy = CheckedBy::Credentials;

#[tokio::test]
async fn image_that_is_missing_foreign_or_without_git_is_told_apart() {
    let (mut boxes, _stub) = Boxes::with_key("nothing").await;
    boxes.set("SANDBOX_DOCKER_IMAGE", "opentiger-none:1");
    boxes.finds(ClaudeCode, "no such image", R::ImageMissing, BY).await;
    let foreign = foreign_image();
    boxes.set("SANDBOX_DOCKER_IMAGE", &foreign.0);
    let report = boxes.finds(ClaudeCode, "image for s390x", R::ImageInvalid, BY).await;
    assert!(report.finding.detail.unwrap().contains("linux/s390x"));
    boxes.set("SANDBOX_DOCKER_IMAGE", &base_image());
    let report = boxes.finds(ClaudeCode, "image without git", R::ImageInvalid, BY).await;
    assert!(report.finding.detail.unwrap().contains("`git`"));
}

#[tokio::test]
async fn image_without_the_command_line_is_told_from_one_with_another() {
    let (mut boxes, _stub) = Boxes::with_key("nothing").await;
    boxes.set("CLAUDE_CODE_COMMAND", "/opt/no-such-claude");
    boxes.set("OPENCODE_COMMAND", "no-such-opencode");
    boxes.finds(ClaudeCode, "no program in the image", R::CliMissing, BY).await;
    boxes.finds(Opencode, "no program in the image", R::CliMissing, BY).await;
    boxes.variables.remove("CLAUDE_CODE_COMMAND");
    for (how, script) in [
        ("program that knows no such option", "#!/bin/sh\necho 'unknown option' >&2; exit 2\n"),
        ("program with a missing interpreter", "#!/nowhere/interpreter\n"),
    ] {
        let image = Image::with_claude(script);
        boxes.set("SANDBOX_DOCKER_IMAGE", &image.0);
        boxes.finds(ClaudeCode, how, R::CliIncompatible, CheckedBy::Prompt).await;
    }
}
