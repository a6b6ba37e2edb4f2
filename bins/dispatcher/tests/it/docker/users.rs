//! A dispatcher that is no root.

use std::{fs, os::unix::fs::MetadataExt as _};

use testing::engine::shared_host;

use super::support::Setup;
use crate::{account::Account, system::text_at};

const UID: u32 = 1234;

#[tokio::test]
async fn a_user_needs_the_engines_group_and_then_does_whole_tasks() {
    let socket = shared_host().strip_prefix("unix://").expect("it is a socket").to_owned();
    let group = fs::metadata(socket).expect("the engine runs").gid();
    let mut it = Setup::new().by(Account { uid: UID, group: None }).start().await;
    let task = it.queue().await;
    it.waits(&task, "sandbox_not_ready", "usermod -aG docker").await;
    let check = it.system.http.get("/system/claude/auth?environment=sandbox").await;
    let (_, found) = check.expect("api-server answers");
    assert_eq!(text_at(&found, "/reason"), "docker_permission_denied", "{found}");
    assert!(it.system.runs(&task).await.is_empty(), "{}", it.system.logs());

    it.system.account = Some(Account { uid: UID, group: Some(group) });
    it.replace_dispatcher();
    let (run, container) = it.alone_at_gate(&task, 1).await;
    let owner = fs::metadata(it.work(&run).join("started")).expect("it is there").uid();
    assert_eq!(owner, UID, "a sandbox runs as its dispatcher's user");
    let top = it.network.docker(&["top", &container, "-eo", "uid,pid,args"]).expect("it runs");
    assert!(top.lines().any(|line| line.trim_start().starts_with("1234 ")), "{top}");
    it.open_gate(&run);
    it.wait_done(&task, &["succeeded"]).await;
    it.wait_clean_after_a_death().await;
}
