use std::{os::unix::fs::PermissionsExt as _, time::Duration};

use launcher::{
    handle::StopRequest,
    launcher::Launcher as _,
    spec::{Input, SecretValue},
};

use crate::support::{Scratch, shell, wait_for};

const CANARY: &str = "canary-4f1d9a77-in-the-coal-mine";

fn contains(bytes: &[u8]) -> bool {
    bytes.windows(CANARY.len()).any(|window| window == CANARY.as_bytes())
}

#[tokio::test]
async fn secret_is_in_no_file_argument_or_environment_but_the_command_s() {
    let scratch = Scratch::new();
    let spec = shell("read line; test \"$KEY\" = \"$line\" && echo same; exec sleep 600");
    let input = Input {
        stdin: format!("{CANARY}\n").into_bytes(),
        secret_env: [("KEY".to_owned(), SecretValue::new(CANARY))].into(),
        assignment: Some(serde_json::json!({ "run": "r-1" })),
    };
    let launched = scratch.launcher().launch(&"secret".parse().unwrap(), &spec, input).await;
    let handle = launched.unwrap().into_handle();
    let directory = scratch.launch("secret");
    wait_for("the command to have read it", || {
        let log = std::fs::read(directory.join("out.log")).unwrap();
        log.windows(5).any(|window| window == b"same\n").then_some(())
    })
    .await;

    let leader = i64::from(handle.stats().await.unwrap().leader_pid.unwrap());
    let read =
        |pid: i64, what: &str| std::fs::read(format!("/proc/{pid}/{what}")).unwrap_or_default();
    assert!(contains(&read(leader, "environ")), "the canary itself does not sing");
    let shim = std::fs::read(directory.join("shim.json")).unwrap();
    let shim: serde_json::Value = serde_json::from_slice(&shim).unwrap();
    for pid in [shim["pid"].as_i64().unwrap(), leader] {
        assert!(!contains(&read(pid, "cmdline")));
    }
    assert!(!contains(&read(shim["pid"].as_i64().unwrap(), "environ")));

    handle.stop(StopRequest::new("enough", Duration::from_secs(5))).await;
    let files = std::fs::read_dir(&directory).unwrap().flatten();
    let mut count = 0;
    for entry in files.filter(|entry| entry.file_type().unwrap().is_file()) {
        assert!(!contains(&std::fs::read(entry.path()).unwrap()), "{:?}", entry.file_name());
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o077, 0, "{entry:?}");
        count += 1;
    }
    assert!(count >= 5, "only {count} files");
    let mode = directory.parent().unwrap().metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    let record = serde_json::to_string(&handle.record()).unwrap();
    assert!(!contains(record.as_bytes()));
}
