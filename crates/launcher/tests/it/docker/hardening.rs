use std::{fs::Permissions, os::unix::fs::PermissionsExt as _, time::Duration};

use launcher::{
    container::{Mount, Scratch},
    handle::{Destroy, StopRequest},
    outcome::{ExitSource, Outcome, StopCause},
};

use super::support::{Boxes, USER, mount, shell};
use crate::support::read_all;

#[tokio::test]
async fn command_has_no_capability_and_cannot_reach_its_launch_directory_or_the_shim() {
    let boxes = Boxes::new();
    let script = "grep -E '^(Uid|Gid|Groups|CapPrm|CapEff|CapInh|CapAmb|NoNewPrivs|Seccomp):' \
                  /proc/self/status; ls /run/opentiger; ls /run/opentiger/launch; \
                  echo forged > /run/opentiger/launch/exit.json; cat /proc/1/environ; \
                  kill -TERM 1; kill -KILL 1; touch /forbidden; exit 7";
    let handle = boxes.start("hostile", &shell(script)).await;
    let report = handle.exited().await;
    let (output, _) = read_all(&handle).await;
    let output = String::from_utf8(output).unwrap();
    assert_eq!((report.outcome, report.cause), (Outcome::Exited(7), None), "{output}");
    assert_eq!(report.source, ExitSource::Record);
    for line in [
        "Uid:\t1001\t1001\t1001\t1001",
        "Gid:\t1001\t1001\t1001\t1001",
        "CapPrm:\t0000000000000000",
        "CapEff:\t0000000000000000",
        "CapInh:\t0000000000000000",
        "CapAmb:\t0000000000000000",
        "NoNewPrivs:\t1",
        "Seccomp:\t2",
        "ls: cannot open directory '/run/opentiger': Permission denied",
        "ls: cannot access '/run/opentiger/launch': Permission denied",
        "cannot create /run/opentiger/launch/exit.json: Permission denied",
        "cat: /proc/1/environ: Permission denied",
        "Operation not permitted",
        "touch: cannot touch '/forbidden': Read-only file system",
    ] {
        assert!(output.contains(line), "`{line}` is missing in\n{output}");
    }
    boxes.clear().await;
}

#[tokio::test]
async fn mounts_and_scratch_are_as_asked() {
    let boxes = Boxes::new();
    let (shown, taken) = (boxes.path().join("shown"), boxes.path().join("taken"));
    for directory in [&shown, &taken] {
        std::fs::create_dir(directory).unwrap();
        std::fs::set_permissions(directory, Permissions::from_mode(0o777)).unwrap();
    }
    let script = "touch /shown/x; touch /taken/x; touch /scratch/x && stat -c '%a %u:%g' /scratch; \
                  head -c 2000000 /dev/zero > /scratch/big; rm /scratch/big; cp /bin/true /scratch/run; /scratch/run; \
                  touch /root-only/x; grep -c ' /scratch ' /proc/mounts";
    let mut spec = shell(script);
    mount(&mut spec, &shown, "/shown");
    let container = spec.container.as_mut().unwrap();
    let target = "/taken".into();
    container.mounts.push(Mount { source: taken.clone(), target, read_only: false });
    let scratch = |target: &str, mode, owner| Scratch {
        target: target.into(),
        size_bytes: 1 << 20,
        mode,
        owner,
        exec: false,
    };
    container.scratch.push(scratch("/scratch", 0o700, Some(USER)));
    container.scratch.push(scratch("/root-only", 0o755, None));
    let handle = boxes.start("places", &spec).await;
    handle.exited().await;
    let output = String::from_utf8(read_all(&handle).await.0).unwrap();
    for line in [
        "touch: cannot touch '/shown/x': Read-only file system",
        "700 1001:1001",
        "head: error writing 'standard output': No space left on device",
        "/scratch/run: Permission denied",
        "touch: cannot touch '/root-only/x': Permission denied",
    ] {
        assert!(output.contains(line), "`{line}` is missing in\n{output}");
    }
    assert!(!output.contains("/taken/x") && taken.join("x").try_exists().unwrap(), "{output}");
    boxes.clear().await;
}

#[tokio::test]
async fn signal_of_the_engine_is_told_from_a_request_and_one_from_inside_is_not_heard() {
    let boxes = Boxes::new();
    let handle = boxes.start("signals", &shell("exec sleep 600")).await;
    let name = boxes.container("signals");
    // Root in the container, which no command of ours ever is.
    boxes.docker(&["exec", "-u", "0", &name, "sh", "-c", "kill -TERM 1; kill -INT 1"]);
    let early = tokio::time::timeout(Duration::from_millis(500), handle.exited()).await;
    assert!(early.is_err(), "{early:?}");
    boxes.docker(&["stop", &name]);
    let report = handle.exited().await;
    assert_eq!(report.cause, Some(StopCause::EngineOrOperator { signal: 15 }));
    assert_eq!((report.outcome, report.source), (Outcome::Signaled(15), ExitSource::Record));
    handle.destroy(Destroy::Everything).await.unwrap();
}

#[tokio::test]
async fn whatever_a_command_leaves_running_ends_with_it() {
    let boxes = Boxes::new();
    let script = "sleep 600 & nohup sleep 600 & setsid sleep 600 & (setsid sleep 600 &) ; \
                  sh -c 'trap \"\" TERM; setsid sleep 600 &'; sleep 600";
    let handle = boxes.start("escape", &shell(script)).await;
    let count = || handle.stats();
    while count().await.unwrap().processes < 7 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let report = handle.stop(StopRequest::new("enough", Duration::from_millis(300))).await;
    assert_eq!(report.survivors, 0, "{report:?}");
    assert_eq!(report.cause, Some(StopCause::Requested { reason: "enough".to_owned() }));
    handle.destroy(Destroy::Everything).await.unwrap();
    assert_eq!(boxes.docker(&["ps", "-aq", "--filter", "name=escape"]), "");
}
