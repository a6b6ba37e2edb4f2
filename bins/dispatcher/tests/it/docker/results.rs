//! Results that do not come home: a refused push, a full disk.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::json;
use testing::{
    git_server::GitServer,
    repository::{Fingerprint, ScratchRepository, set_mode},
};

use super::support::{Sandboxed, Setup, bash, gate};
use crate::system::text_at;

const DEMO: &str = "[script: demo] [file: HELLO.md] write the greeting";
const TOKEN: &str = "t0ken-that-nobody-may-see";

#[tokio::test]
async fn a_push_that_the_server_refuses_is_told_and_the_result_is_kept() {
    let server = GitServer::start().await;
    server.add("project", &ScratchRepository::with_one_commit());
    server.require_login("me", TOKEN);
    let hook = server.path("project").join("hooks/pre-receive");
    fs::create_dir_all(hook.parent().unwrap()).unwrap();
    fs::write(&hook, "#!/bin/sh\necho 'protected branch: ask a maintainer' >&2; exit 1\n").unwrap();
    set_mode(&hook, 0o755);
    let it = Setup::new()
        .with("GIT_CA_FILE", server.ca_file().to_string_lossy())
        .with("GIT_TOKENS", format!("{}=me:{TOKEN}", server.authority()))
        .start()
        .await;
    let repository = json!({ "mode": "git", "url": server.url("project") });
    let task = it.system.queue(DEMO, json!({ "repository": repository })).await;
    it.system.wait_status(&task, "failed").await;
    let runs = it.system.runs(&task).await;
    assert_eq!(it.outcomes(&task, 1).await, ["push_refused"]);
    let message = runs.first().map(|run| text_at(run, "/message")).unwrap_or_default();
    assert!(message.contains("ask a maintainer"), "{message}");
    it.wait_clean().await;
    // What the agent made is here, and can be looked at.
    let (status, diff) = it.system.http.get(&format!("/tasks/{task}/diff")).await.unwrap();
    assert!(status == 200 && diff.to_string().contains("hello, tiger"), "{status} {diff}");
    // Once the rule is gone another attempt is pushed.
    fs::remove_file(&hook).unwrap();
    let (status, answer) =
        it.system.http.post(&format!("/tasks/{task}/retry"), &json!({})).await.unwrap();
    assert!(status < 300, "{answer}");
    it.system.wait_status(&task, "done").await;
    it.wait_clean().await;
}

/// A small disk. It goes with the test.
struct Disk(PathBuf);

impl Disk {
    fn at(path: PathBuf, megabytes: u64) -> Self {
        fs::create_dir_all(&path).expect("a directory can be made");
        let size = format!("size={megabytes}m,mode=755");
        mount(&["-t", "tmpfs", "-o", &size, "opentiger-test", &path.to_string_lossy()]);
        Self(path)
    }

    fn resize(&self, megabytes: u64) {
        mount(&["-o", &format!("remount,size={megabytes}m"), &self.0.to_string_lossy()]);
    }

    /// How much is on it, in megabytes, rounded up.
    fn used(&self) -> u64 {
        let stats = rustix::fs::statvfs(&self.0).expect("it is mounted");
        ((stats.f_blocks - stats.f_bfree) * stats.f_frsize).div_ceil(1 << 20)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH).ok();
    }
}

#[expect(clippy::disallowed_methods, reason = "what the administrator of a machine does")]
fn mount(args: &[&str]) {
    let done = std::process::Command::new("mount").args(args).status();
    assert!(done.expect("it can be started").success(), "mount {args:?}");
}

async fn queue_in(it: &Sandboxed, repository: &Path) -> String {
    let repository = json!({ "mode": "local", "path": repository });
    it.system.queue("[script: large] be large", json!({ "repository": repository })).await
}

/// The only run ended by the full disk; after that is mended the next one makes the branch.
async fn done_once_there_is_room(it: &Sandboxed, task: &str, make_room: impl FnOnce()) {
    let path = format!("/tasks/{task}/retry");
    assert_eq!(it.outcomes(task, 1).await, ["disk_full"], "{:?}", it.system.runs(task).await);
    let shown = it.system.task(task).await.expect("it is there");
    assert_eq!(text_at(&shown, "/waiting/kind"), "cooldown", "{shown}");
    make_room();
    let (status, answer) = it.system.http.post(&path, &json!({})).await.expect("it answers");
    assert!(status < 300, "{answer}");
    let run = it.at_gate(task, 2).await;
    it.open_gate(&run);
    it.system.wait_status(task, "done").await;
    assert_eq!(it.outcomes(task, 2).await, ["disk_full", "succeeded"]);
    it.wait_clean().await;
}

#[tokio::test]
async fn a_full_disk_costs_an_attempt_and_no_work_of_others() {
    // Random, lest it be packed smaller.
    let turns = [bash("head -c 20000000 /dev/urandom > large.bin"), gate()];
    let it = Setup::new().script("large", turns).start().await;
    let checkouts = Disk::at(it.system.state.path().join("checkouts"), 400);
    let theirs = Disk::at(it.system.state.path().join("theirs"), 8);
    let repository = theirs.0.join("project.git");
    let from = it.system.repository.path().to_string_lossy();
    it.system.repository.git(&["clone", "-q", "--bare", &from, &repository.to_string_lossy()]);
    let before = Fingerprint::of(&repository);

    // The user's own disk is full.
    let task = queue_in(&it, &repository).await;
    let run = it.at_gate(&task, 1).await;
    it.open_gate(&run);
    done_once_there_is_room(&it, &task, || theirs.resize(200)).await;

    // The disk of the checkouts is: there is room for the worker's commit and pack, and not for a copy of that.
    let task = queue_in(&it, &repository).await;
    let run = it.at_gate(&task, 1).await;
    checkouts.resize(checkouts.used() + 30);
    it.open_gate(&run);
    done_once_there_is_room(&it, &task, || checkouts.resize(400)).await;
    assert_eq!(
        Fingerprint::of(&repository),
        before,
        "there are two branches more and nothing else"
    );
}
