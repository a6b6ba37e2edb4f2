use std::{
    os::unix::fs::symlink,
    path::Path,
    process::{Child, Stdio},
    time::Duration,
};

use launcher::{
    handle::{HandleRecord, StopRequest},
    launcher::{Launched, Launcher as _, ReapPolicy},
    outcome::{ExitSource, LostReason, Outcome, StopCause},
    process::ProcessLauncher,
    spec::Input,
};
use rustix::process::{Pid, Signal, kill_process};

use crate::support::{DEADLINE, Scratch, mark, marked, marked_shell, read_all, shell, wait_for};

/// No test: the supervisor that other tests start and kill. Launches a script and waits.
#[tokio::test]
#[ignore = "started by other tests as a process of its own"]
async fn supervisor_process() {
    #[expect(clippy::disallowed_methods, reason = "told by the test that starts it")]
    let (state, script) =
        (std::env::var("SUPERVISOR_STATE").unwrap(), std::env::var("SUPERVISOR_SCRIPT").unwrap());
    let mut spec = shell(&script);
    #[expect(clippy::disallowed_methods, reason = "told by the test that starts it")]
    if let Ok(lease) = std::env::var("SUPERVISOR_LEASE_MS") {
        spec.lease = Some(Duration::from_millis(lease.parse().unwrap()));
    }
    let launcher = ProcessLauncher::new(&state).unwrap();
    let launched = launcher.launch(&"supervised".parse().unwrap(), &spec, Input::default()).await;
    let handle = launched.unwrap().into_handle();
    let record = serde_json::to_vec(&handle.record()).unwrap();
    let tmp = Path::new(&state).join("record.tmp");
    std::fs::write(&tmp, record).unwrap();
    std::fs::rename(&tmp, Path::new(&state).join("record.json")).unwrap();
    loop {
        handle.renew().await.ok();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Starts a supervisor, waits until its launch runs, and kills it with `SIGKILL`.
async fn killed_supervisor(scratch: &Scratch, script: &str, lease: Option<u64>) -> HandleRecord {
    #[expect(clippy::disallowed_methods, reason = "starts this test binary as the supervisor")]
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "recovery::supervisor_process", "--ignored", "--nocapture"]);
    command.env("SUPERVISOR_STATE", scratch.state()).env("SUPERVISOR_SCRIPT", script);
    if let Some(lease) = lease {
        command.env("SUPERVISOR_LEASE_MS", lease.to_string());
    }
    let mut child: Child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let record = scratch.state().join("record.json");
    let record = wait_for("the record", || std::fs::read(&record).ok()).await;
    child.kill().unwrap();
    child.wait().unwrap();
    serde_json::from_slice(&record).unwrap()
}

#[tokio::test]
async fn killed_supervisor_costs_neither_code_nor_output() {
    let scratch = Scratch::new();
    let script =
        "i=0; while [ $i -lt 300 ]; do echo line $i; i=$((i+1)); sleep 0.002; done; exit 42";
    let record = killed_supervisor(&scratch, script, None).await;
    let launcher = scratch.launcher();
    let handle = launcher.attach(&record).await.unwrap();
    let report = handle.exited().await;
    assert_eq!((report.outcome, report.cause), (Outcome::Exited(42), None));
    let expected: String = (0..300).map(|i| format!("line {i}\n")).collect();
    assert_eq!(String::from_utf8(read_all(&handle).await.0).unwrap(), expected);
}

#[tokio::test]
async fn killed_supervisor_costs_no_signal() {
    let scratch = Scratch::new();
    let record = killed_supervisor(&scratch, "sleep 0.3; kill -SEGV $$", None).await;
    let report = scratch.launcher().attach(&record).await.unwrap().exited().await;
    assert_eq!(report.outcome, Outcome::Signaled(11));
}

#[tokio::test]
async fn second_supervisor_stops_what_the_first_one_started() {
    let scratch = Scratch::new();
    let record = killed_supervisor(&scratch, "sleep 600 & sleep 600", None).await;
    let handle = scratch.launcher().attach(&record).await.unwrap();
    let report = handle.stop(StopRequest::new("taken over", Duration::from_secs(5))).await;
    assert_eq!(report.cause, Some(StopCause::Requested { reason: "taken over".to_owned() }));
    assert_eq!((report.survivors, report.source), (0, ExitSource::Record));
}

#[tokio::test]
async fn lease_ends_what_nobody_supervises() {
    let scratch = Scratch::new();
    let record = killed_supervisor(&scratch, "sleep 600", Some(400)).await;
    let exit = scratch.launch("supervised").join("exit.json");
    wait_for("the lease to end it", || exit.try_exists().unwrap().then_some(())).await;
    let report = scratch.launcher().attach(&record).await.unwrap().exited().await;
    assert_eq!(report.cause, Some(StopCause::LeaseExpired));
}

fn shim_of(scratch: &Scratch, id: &str) -> Pid {
    let shim = std::fs::read(scratch.launch(id).join("shim.json")).unwrap();
    let shim: serde_json::Value = serde_json::from_slice(&shim).unwrap();
    Pid::from_raw(i32::try_from(shim["pid"].as_i64().unwrap()).unwrap()).unwrap()
}

#[tokio::test]
async fn killed_shim_is_lost_and_its_command_dead() {
    let scratch = Scratch::new();
    let mark = mark("lost");
    let launcher = scratch.launcher();
    let script = "echo before; setsid sleep 600 & sleep 600";
    let handle = scratch.start("lost", &marked_shell(script, &mark)).await;
    wait_for("the processes", || (marked(&mark).len() == 3).then_some(())).await;
    let log = scratch.launch("lost").join("out.log");
    wait_for("the output", || std::fs::read(&log).unwrap().ends_with(b"before\n").then_some(()))
        .await;
    kill_process(shim_of(&scratch, "lost"), Signal::KILL).unwrap();
    let report = handle.exited().await;
    assert_eq!(report.outcome, Outcome::Lost(LostReason::ShimDied));
    assert_eq!((report.source, report.log_end), (ExitSource::Evidence, 7));
    if launcher.probe().await.unwrap().kills_without_shim() {
        assert_eq!(marked(&mark), Vec::<i32>::new());
    } else {
        // Without a cgroup only the command itself is surely found.
        let left = marked(&mark);
        assert!(left.len() < 3, "{left:?}");
        for pid in left {
            kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
        }
    }
    assert_eq!(read_all(&handle).await, (b"before\n".to_vec(), 0));
    // The verdict is final, whoever asks, and nothing is started again.
    let again = scratch.launcher().attach(&handle.record()).await.unwrap().exited().await;
    assert_eq!(again, report);
    let spec = marked_shell(script, &mark);
    let launched = launcher.launch(&"lost".parse().unwrap(), &spec, Input::default()).await;
    assert!(matches!(launched, Ok(Launched::AlreadyExited(_))), "{launched:?}");
}

#[tokio::test]
async fn other_boot_is_lost_without_touching_anything() {
    let scratch = Scratch::new();
    let handle = scratch.start("boot", &shell("sleep 600")).await;
    kill_process(shim_of(&scratch, "boot"), Signal::STOP).unwrap();
    let record = handle.record();
    // What a restarted machine finds: the files, an intent of another boot, and no shim.
    let copy = Scratch::new();
    copy.launcher();
    let target = copy.launch("boot");
    std::fs::create_dir(&target).unwrap();
    for name in ["accepted", "started.json", "shim.json", "out.log", "lock"] {
        std::fs::copy(scratch.launch("boot").join(name), target.join(name)).unwrap();
    }
    let intent = std::fs::read_to_string(scratch.launch("boot").join("intent.json")).unwrap();
    let intent = intent.replace(&record.boot_id, "00000000-0000-0000-0000-000000000000");
    std::fs::write(target.join("intent.json"), intent).unwrap();
    let found = copy.launcher().discover().await.unwrap().remove(0);
    let report = copy.launcher().attach(&found.record).await.unwrap().exited().await;
    assert_eq!(report.outcome, Outcome::Lost(LostReason::HostRebooted));

    kill_process(shim_of(&scratch, "boot"), Signal::CONT).unwrap();
    let report = handle.stop(StopRequest::new("enough", Duration::from_secs(5))).await;
    assert!(matches!(report.outcome, Outcome::Signaled(15)), "the copy touched it: {report:?}");
}

#[tokio::test]
async fn forged_exit_record_is_refused() {
    let scratch = Scratch::new();
    let launcher = scratch.launcher();
    let elsewhere = scratch.path().join("elsewhere");
    let record = r#"{"version":1,"outcome":{"exited":0},"cause":null,"out_of_memory":false,
        "leftovers_killed":0,"survivors":0,"log_end":0,"dropped_bytes":0,"started_us":1,"ended_us":2}"#;
    std::fs::write(&elsewhere, record).unwrap();
    type Forge<'a> = &'a dyn Fn(&Path);
    let forgeries: [(&str, Forge<'_>); 4] = [
        ("symlink", &|path| symlink(&elsewhere, path).unwrap()),
        ("fifo", &|path| {
            let mode = rustix::fs::Mode::from_raw_mode(0o600);
            let fifo = rustix::fs::FileType::Fifo;
            rustix::fs::mknodat(rustix::fs::CWD, path, fifo, mode, 0).unwrap();
        }),
        ("huge", &|path| std::fs::File::create(path).unwrap().set_len(1 << 40).unwrap()),
        ("junk", &|path| std::fs::write(path, "{}").unwrap()),
    ];
    for (name, forge) in forgeries {
        let handle = scratch.start(name, &shell("exec sleep 600")).await;
        forge(&scratch.launch(name).join("exit.json"));
        // While the shim lives, no record counts.
        let state = launcher.attach(&handle.record()).await.unwrap().state().borrow().clone();
        assert!(
            matches!(state, launcher::handle::LaunchState::Running { .. }),
            "{name}: {state:?}"
        );
        kill_process(shim_of(&scratch, name), Signal::KILL).unwrap();
        let outcome = handle.exited().await.outcome;
        assert!(
            matches!(outcome, Outcome::Lost(LostReason::RecordUnreadable { .. })),
            "{name}: {outcome:?}"
        );
    }
}

#[tokio::test]
async fn signal_to_the_shim_is_told_from_a_request() {
    let scratch = Scratch::new();
    let handle = scratch.start("operator", &shell("sleep 600")).await;
    kill_process(shim_of(&scratch, "operator"), Signal::TERM).unwrap();
    let report = handle.exited().await;
    assert_eq!(report.cause, Some(StopCause::EngineOrOperator { signal: 15 }));
}

#[tokio::test]
async fn shim_that_stands_still_is_woken_to_stop() {
    let scratch = Scratch::new();
    let handle = scratch.start("still", &shell("sleep 600")).await;
    kill_process(shim_of(&scratch, "still"), Signal::STOP).unwrap();
    let report = handle.stop(StopRequest::new("enough", Duration::ZERO)).await;
    assert_eq!(report.source, ExitSource::Record);
}

#[tokio::test]
async fn shim_that_stands_still_is_woken_to_keep_its_deadlines() {
    let scratch = Scratch::new();
    let mut spec = shell("sleep 600");
    spec.limits.wall = Some(Duration::from_millis(300));
    let handle = scratch.start("overslept", &spec).await;
    kill_process(shim_of(&scratch, "overslept"), Signal::STOP).unwrap();
    // The ten seconds between two looks pass at once.
    tokio::time::pause();
    let report = handle.exited().await;
    assert_eq!(report.cause, Some(StopCause::WallTime));
}

#[tokio::test]
async fn request_reaches_a_shim_whose_fifo_is_gone() {
    let scratch = Scratch::new();
    let handle = scratch.start("deaf", &shell("sleep 600")).await;
    std::fs::remove_file(scratch.launch("deaf").join("ctl")).unwrap();
    let asked = std::time::Instant::now();
    let report = handle.stop(StopRequest::new("enough", Duration::ZERO)).await;
    assert_eq!(report.cause, Some(StopCause::EngineOrOperator { signal: 15 }));
    assert_eq!(report.source, ExitSource::Record);
    assert!(asked.elapsed() < Duration::from_secs(30), "{:?}", asked.elapsed());
}

#[tokio::test]
async fn endless_grace_is_a_grace() {
    let scratch = Scratch::new();
    let handle = scratch.start("patient", &shell("sleep 600")).await;
    let report = handle.stop(StopRequest::new("whenever", Duration::MAX)).await;
    assert_eq!(report.outcome, Outcome::Signaled(15));
}

#[tokio::test]
async fn command_ends_when_its_launch_directory_is_removed() {
    let scratch = Scratch::new();
    let mark = mark("homeless");
    let handle = scratch.start("homeless", &marked_shell("sleep 600 & sleep 600", &mark)).await;
    wait_for("the processes", || (marked(&mark).len() == 3).then_some(())).await;
    std::fs::remove_dir_all(scratch.launch("homeless")).unwrap();
    let report = tokio::time::timeout(DEADLINE, handle.exited()).await.unwrap();
    assert!(matches!(report.outcome, Outcome::Lost(_)), "{report:?}");
    // What is lost is dead.
    assert_eq!(marked(&mark), Vec::<i32>::new());
}

#[tokio::test]
async fn inherited_signals_and_limits_cost_no_exit_code() {
    let (outer, scratch) = (Scratch::new(), Scratch::new());
    // The supervisor is a launch itself, so that no signal is ignored but those named here.
    let mut spec = shell("trap '' CHLD TERM HUP; ulimit -f 16384; exec \"$0\" \"$@\"");
    spec.args.push(std::env::current_exe().unwrap().display().to_string());
    let test = ["--exact", "recovery::supervisor_process", "--ignored", "--nocapture"];
    spec.args.extend(test.map(str::to_owned));
    spec.env.insert("SUPERVISOR_STATE".to_owned(), scratch.state().display().to_string());
    let script = "head -c 20000000 /dev/zero; sleep 0.2; exit 7".to_owned();
    spec.env.insert("SUPERVISOR_SCRIPT".to_owned(), script);
    let supervisor = outer.start("outer", &spec).await;
    let record = scratch.state().join("record.json");
    let record = wait_for("the inner launch", || std::fs::read(&record).ok()).await;
    let launcher = scratch.launcher();
    let handle = launcher.attach(&serde_json::from_slice(&record).unwrap()).await.unwrap();
    let report = tokio::time::timeout(DEADLINE, handle.exited()).await.unwrap();
    // 8 MiB in blocks of 512 bytes: enough for the shim's own file, and not for the output.
    assert_eq!((report.outcome.clone(), report.log_end), (Outcome::Exited(7), 20_000_000));
    assert!(report.dropped_bytes > 10_000_000, "{report:?}");
    let (kept, dropped) = read_all(&handle).await;
    assert_eq!((kept.len() as u64 + dropped, dropped), (20_000_000, report.dropped_bytes));
    supervisor.stop(StopRequest::new("seen", Duration::ZERO)).await;
}

#[tokio::test]
async fn crash_between_intent_and_shim_is_gone_on_with() {
    let scratch = Scratch::new();
    let launcher = scratch.launcher();
    let spec = shell("exit 4");
    let id = "resumed".parse().unwrap();
    drop(launcher.create(&id, &spec).await.unwrap());
    wait_for("the shim to end", || {
        scratch.launch("resumed").join("exit.json").try_exists().unwrap().then_some(())
    })
    .await;
    // What is left when the launcher dies before it starts the shim.
    for entry in std::fs::read_dir(scratch.launch("resumed")).unwrap().flatten() {
        if entry.file_name() != "intent.json" {
            std::fs::remove_file(entry.path()).unwrap();
        }
    }
    let launched = launcher.launch(&id, &spec, Input::default()).await.unwrap();
    assert!(matches!(launched, Launched::Started(_)), "{launched:?}");
    assert_eq!(launched.into_handle().exited().await.outcome, Outcome::Exited(4));
}

#[tokio::test]
async fn reap_leaves_no_file_and_no_foreign_entry_is_touched() {
    let scratch = Scratch::new();
    let launcher = scratch.launcher();
    for id in ["a", "b"] {
        scratch.start(id, &shell("true")).await.exited().await;
    }
    let foreign = scratch.state().join("launches").join("not-a-launch");
    std::fs::create_dir(&foreign).unwrap();
    std::fs::write(foreign.join("intent.json"), "somebody else's").unwrap();
    let policy =
        ReapPolicy { keep_ended: Duration::ZERO, keep_unassigned: Duration::ZERO, dry_run: false };
    let report = launcher.reap(&policy).await.unwrap();
    assert_eq!(report.removed.len(), 2, "{report:?}");
    assert_eq!(report.foreign, vec![foreign.clone()]);
    let names = std::fs::read_dir(scratch.state().join("launches")).unwrap().flatten();
    let mut names: Vec<_> = names.map(|entry| entry.file_name()).collect();
    names.sort();
    assert_eq!(names, [".store.json", "not-a-launch"]);
}

#[tokio::test]
async fn reap_leaves_alone_what_only_lacks_an_intent() {
    let scratch = Scratch::new();
    let launcher = scratch.launcher();
    let handle = scratch.start("alive", &shell("sleep 600")).await;
    let (alive, backup) = (scratch.launch("alive"), scratch.launch("backup"));
    std::fs::rename(alive.join("intent.json"), scratch.path().join("intent.json")).unwrap();
    std::fs::create_dir(&backup).unwrap();
    std::fs::write(backup.join("precious"), "").unwrap();
    // What a power failure leaves.
    let remnant = scratch.launch("remnant");
    std::fs::create_dir(&remnant).unwrap();
    std::fs::write(remnant.join("intent.json"), "").unwrap();
    let long_ago = std::time::SystemTime::now() - Duration::from_secs(600);
    for directory in [&alive, &backup, &remnant] {
        std::fs::File::open(directory).unwrap().set_modified(long_ago).unwrap();
    }
    let policy =
        ReapPolicy { keep_ended: Duration::ZERO, keep_unassigned: Duration::ZERO, dry_run: false };
    let mut report = launcher.reap(&policy).await.unwrap();
    report.foreign.sort();
    assert_eq!(report.foreign, [alive.clone(), backup.clone()]);
    assert!(alive.join("lock").try_exists().unwrap() && backup.try_exists().unwrap());
    assert!(!remnant.try_exists().unwrap());
    std::fs::rename(scratch.path().join("intent.json"), alive.join("intent.json")).unwrap();
    handle.stop(StopRequest::new("enough", Duration::ZERO)).await;
}
