use std::{
    process::{Command, Stdio},
    time::Duration,
};

use launcher::descendants::{Ended, adopt, end_all};

use crate::support::{mark, marked, wait_for};

/// No test: it ends everything that its process has started, which other tests would miss.
#[tokio::test]
#[ignore = "started by another test as a process of its own"]
async fn adopter_process() {
    adopt().unwrap();
    #[expect(clippy::disallowed_methods, reason = "no settings, but the mark of the test")]
    let mark = std::env::var("ADOPTED_MARK").unwrap();
    // A child whose parent ends, and a family that nobody knows any more.
    let script = "sleep 600 & (setsid sh -c 'trap \"\" TERM; sleep 600 & sleep 600' &)";
    #[expect(
        clippy::disallowed_methods,
        reason = "no launch: what is left when one was got around"
    )]
    let mut shell = Command::new("/bin/sh").args(["-c", script]).spawn().unwrap();
    shell.wait().unwrap();
    wait_for("all of them to run", || (marked(&mark).len() >= 5).then_some(())).await;
    let ended = end_all(Duration::from_secs(20)).await;
    assert_eq!(ended, Ended { killed: 4, left: 0 });
    assert_eq!(end_all(Duration::ZERO).await, Ended::default());
}

#[tokio::test]
async fn what_hides_from_its_launch_is_ended_by_who_adopts_orphans() {
    let mark = mark("adopted");
    #[expect(clippy::disallowed_methods, reason = "the adopter needs a process of its own")]
    let adopter = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "descendants::adopter_process", "--ignored", "--nocapture"])
        .env("ADOPTED_MARK", &mark)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&adopter.stdout).into_owned();
    assert!(adopter.status.success(), "{said}{}", String::from_utf8_lossy(&adopter.stderr));
    assert_eq!(marked(&mark), Vec::<i32>::new());
}
