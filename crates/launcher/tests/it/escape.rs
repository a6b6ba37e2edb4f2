use std::time::{Duration, Instant};

use launcher::{
    handle::StopRequest,
    launcher::Launcher as _,
    outcome::{ExitSource, Outcome, StopCause},
};

use crate::support::{Scratch, mark, marked, marked_shell, wait_for};

/// Every way of getting away from a shell that needs no rights, and the escaped count.
const ESCAPES: &[(&str, usize, &str)] = &[
    ("background", 1, "sleep 600 &"),
    ("nohup", 1, "nohup sleep 600 >/dev/null 2>&1 &"),
    ("setsid", 1, "setsid sleep 600 &"),
    ("double-fork", 1, "(setsid sh -c 'sleep 600 & exit 0' & exit 0);"),
    ("deaf-daemon", 1, "setsid sh -c 'trap \"\" TERM HUP INT; while :; do sleep 600; done' &"),
    ("storm", 200, "i=0; while [ $i -lt 200 ]; do setsid sleep 600 & i=$((i+1)); done;"),
];

async fn escaped(mark: &str, count: usize) {
    wait_for(&format!("the escaped processes of {mark}"), || {
        (marked(mark).len() > count).then_some(())
    })
    .await;
}

#[tokio::test]
async fn stop_leaves_nothing_alive_however_it_got_away() {
    for (name, count, escape) in ESCAPES {
        let scratch = Scratch::new();
        let mark = mark(name);
        let spec = marked_shell(&format!("{escape} sleep 600"), &mark);
        let handle = scratch.start(name, &spec).await;
        escaped(&mark, *count).await;
        let asked = Instant::now();
        let report = handle.stop(StopRequest::new("enough", Duration::from_millis(500))).await;
        // Less than the grace of a launch that names none, and room for a loaded machine.
        assert!(asked.elapsed() < Duration::from_secs(6), "{name}: {:?}", asked.elapsed());
        assert_eq!(marked(&mark), Vec::<i32>::new(), "{name}");
        assert_eq!(report.survivors, 0, "{name}");
        assert!(matches!(report.cause, Some(StopCause::Requested { .. })), "{name}");
    }
}

#[tokio::test]
async fn leftovers_of_a_finished_command_are_killed_and_counted() {
    for (name, count, escape) in ESCAPES {
        let scratch = Scratch::new();
        let mark = mark(name);
        let script = format!("{escape} while [ ! -e {} ]; do sleep 0.01; done; exit 3", "$GO");
        let mut spec = marked_shell(&script, &mark);
        let go = scratch.path().join("go");
        spec.env.insert("GO".to_owned(), go.display().to_string());
        let handle = scratch.start(name, &spec).await;
        escaped(&mark, *count).await;
        std::fs::write(&go, "").unwrap();
        let report = handle.exited().await;
        assert_eq!(report.outcome, Outcome::Exited(3), "{name}");
        assert_eq!(marked(&mark), Vec::<i32>::new(), "{name}");
        assert!(report.leftovers_killed as usize >= *count, "{name}: {report:?}");
        assert_eq!(report.cause, None, "{name}");
    }
}

#[tokio::test]
async fn nested_launch_is_no_leftover_of_the_outer_one() {
    let (outer, inner) = (Scratch::new(), Scratch::new());
    let mark = mark("nested");
    // The outer command is a supervisor: this test binary, which launches the inner command.
    let mut spec = marked_shell("", &mark);
    spec.program = std::env::current_exe().unwrap();
    spec.args = ["--exact", "recovery::supervisor_process", "--ignored", "--nocapture"]
        .map(str::to_owned)
        .to_vec();
    spec.env.insert("SUPERVISOR_STATE".to_owned(), inner.state().display().to_string());
    spec.env.insert("SUPERVISOR_SCRIPT".to_owned(), "sleep 600 & sleep 600".to_owned());
    let handle = outer.start("outer", &spec).await;
    let outer_record = handle.record();
    let record = inner.state().join("record.json");
    let record = wait_for("the inner launch", || std::fs::read(&record).ok()).await;
    let record = serde_json::from_slice(&record).unwrap();
    let report = handle.stop(StopRequest::new("enough", Duration::from_millis(500))).await;
    assert_eq!(report.survivors, 0, "{report:?}");

    let launcher = inner.launcher();
    let handle = launcher.attach(&record).await.unwrap();
    let stats = handle.stats().await.unwrap();
    assert_eq!(stats.processes, 3, "the inner command was touched: {stats:?}");
    let report = handle.stop(StopRequest::new("enough", Duration::from_secs(5))).await;
    assert!(matches!(report.cause, Some(StopCause::Requested { .. })), "{report:?}");
    assert_eq!(marked(&mark), Vec::<i32>::new());
    // Only now is the cgroup of the outer one empty.
    let outer = outer.launcher().attach(&outer_record).await.unwrap();
    outer.destroy(launcher::handle::Destroy::Everything).await.unwrap();
}

#[tokio::test]
async fn command_that_ignores_everything_ends_within_its_grace() {
    let scratch = Scratch::new();
    let spec = marked_shell("trap '' TERM INT HUP QUIT; while :; do sleep 1; done", "deaf");
    let handle = scratch.start("deaf", &spec).await;
    let grace = Duration::from_millis(400);
    let asked = Instant::now();
    handle.stop(StopRequest::new("enough", grace)).await;
    assert!(asked.elapsed() < grace + Duration::from_secs(5), "{:?}", asked.elapsed());
}

#[tokio::test]
async fn stopped_process_is_woken_to_hear_the_request() {
    let scratch = Scratch::new();
    let spec = marked_shell("trap 'exit 5' TERM; kill -STOP $$; sleep 600", "frozen");
    let handle = scratch.start("frozen", &spec).await;
    let pid = handle.stats().await.unwrap().leader_pid.unwrap();
    wait_for("the process to stand still", || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.contains(") T ").then_some(())
    })
    .await;
    let report = handle.stop(StopRequest::new("enough", Duration::from_secs(10))).await;
    assert_eq!(report.outcome, Outcome::Exited(5));
}

/// No test: a process that looks like the shim of the launch that started it.
#[test]
#[ignore = "started by another test as a process of its own"]
fn pretends_to_be_a_shim() {
    std::thread::sleep(Duration::from_secs(600));
}

#[tokio::test]
async fn process_that_looks_like_the_shim_costs_no_record_and_does_not_get_away() {
    let scratch = Scratch::new();
    let evil = scratch.path().join("shim-evil");
    std::os::unix::fs::symlink(std::env::current_exe().unwrap(), &evil).unwrap();
    let mark = mark("pretends");
    // It names the launch directory of its own shim, whose lock is looked at for that.
    let script = format!(
        "{} {} escape::pretends_to_be_a_shim --exact --ignored >/dev/null & trap '' TERM
        while :; do sleep 0.05; done",
        evil.display(),
        scratch.launch("pretended").display()
    );
    let handle = scratch.start("pretended", &marked_shell(&script, &mark)).await;
    escaped(&mark, 1).await;
    // Long enough for several looks at the launch before the kill.
    let grace = Duration::from_millis(2500);
    let report = handle.stop(StopRequest::new("enough", grace)).await;
    assert_eq!(report.source, ExitSource::Record, "{report:?}");
    assert_eq!(report.outcome, Outcome::Signaled(9));
    assert_eq!(marked(&mark), Vec::<i32>::new());
}
