//! What ends badly, and the exit code that says so.

use client::address::AddressFile;

use crate::world::{DEADLINE, World};

#[tokio::test]
async fn a_followed_task_gives_its_result_as_exit_code() {
    let world = World::new().await;
    world.up().await;
    let args = ["task", "add", "fails", "--goal", "[fake: nothing]", "--max-attempts", "1", "-f"];
    let failed = world.call(&args).await.with_code(10);
    assert!(failed.out.contains("failed"), "{}", failed.out);
    let shown = world.call(&["task", "show", "@last"]).await.done();
    assert!(
        shown.out.contains("nothing_done") && shown.out.contains("task retry"),
        "{}",
        shown.out
    );
    let diff = world.call(&["task", "diff", "@last"]).await.with_code(5);
    assert!(diff.err.contains("has no result"), "{}", diff.err);

    let added =
        world.call(&["task", "add", "never ends", "--goal", "[fake: ignore-term]"]).await.done();
    let id = added.line().to_owned();
    let follow = ["task", "logs", "-f", &id];
    let (followed, cancelled) = tokio::join!(world.call(&follow), async {
        testing::wait::wait_for("the agent to start", DEADLINE, async || {
            let log = world.call(&["task", "logs", &id]).await;
            if log.out.contains("started") { Ok(()) } else { Err(log.out) }
        })
        .await;
        world.call(&["task", "cancel", &id]).await
    });
    assert!(cancelled.done().out.contains("being stopped"));
    followed.with_code(12);
    let again = world.call(&["task", "cancel", &id]).await.with_code(6);
    assert!(again.err.contains("already"), "{}", again.err);
}

#[tokio::test]
async fn ctrl_c_ends_the_telling_and_not_the_task() {
    let world = World::new().await;
    world.up().await;
    let mut command = world.command(env!("CARGO_BIN_EXE_opentiger"), world.repository.path());
    command.args(["task", "add", "goes on", "--goal", "[fake: ignore-term]", "-f"]);
    let log = world.state.path().join("followed");
    let file = std::fs::File::create(&log).expect("a file can be made");
    command.stdout(file).stderr(std::process::Stdio::piped());
    let child = command.spawn().expect("the program is built");
    testing::wait::wait_for("the agent to start", DEADLINE, async || {
        let told = std::fs::read_to_string(&log).unwrap_or_default();
        if told.contains("started") { Ok(()) } else { Err(told) }
    })
    .await;
    let pid =
        child.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw);
    rustix::process::kill_process(pid.expect("it runs"), rustix::process::Signal::INT).unwrap();
    let output = child.wait_with_output().await.unwrap();
    assert_eq!(output.status.code(), Some(130));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("goes on") && said.contains("task logs -f"), "{said}");
    let task = world.call(&["task", "show", "@last", "--json"]).await.done().json();
    assert_eq!(task["status"], "running");
}

#[tokio::test]
async fn ids_are_named_by_their_ends_and_not_by_chance() {
    let world = World::new().await;
    world.up().await;
    let first = world.call(&["task", "add", "one", "--goal", "[fake: nothing]"]).await.done();
    let id = first.line().to_owned();
    let digits = id.strip_prefix("task-").expect("ids begin so");
    let (head, tail) = digits.split_at(24);
    world.call(&["task", "add", "two", "--depends-on", tail]).await.done();
    let shown = world.call(&["task", "show", "@last", "--json"]).await.done().json();
    assert_eq!(shown["dependencies"][0], id.as_str());
    for name in [
        id.as_str(),
        digits,
        tail,
        &format!("task-{head}{tail}").to_uppercase().replace("TASK", "task"),
    ] {
        let shown = world.call(&["task", "show", name, "--json"]).await.done().json();
        assert_eq!(shown["title"], "one", "{name}");
    }
    // The first digits are the time, which two tasks of one minute share.
    let several = world.call(&["task", "show", head.split_at(6).0]).await.with_code(6);
    assert!(several.err.contains("names several") && several.err.contains(&id), "{}", several.err);
    for name in ["abc", "zzzz", "@first", "run-0123"] {
        world.call(&["task", "show", name]).await.with_code(2);
    }
    let unknown = "task-00000000000070008000000000000000";
    world.call(&["task", "show", unknown]).await.with_code(5);
    world.call(&["task", "show", "ffffffff00"]).await.with_code(5);
}

#[tokio::test]
async fn every_fault_of_a_request_is_told_on_a_line_of_its_own() {
    let world = World::new().await;
    world.up().await;
    let args =
        ["task", "add", "t", "--priority", "5000000", "--max-attempts", "0", "--base", "a..b"];
    let said = world.call(&args).await.with_code(2);
    for field in ["\n  priority ", "\n  max_attempts ", "\n  base_branch "] {
        assert!(said.err.contains(field), "{field:?} in: {}", said.err);
    }
    assert_eq!(said.out, "");
}

#[tokio::test]
async fn a_wrong_key_is_refused_and_the_right_one_is_never_an_argument() {
    let mut world = World::new().await;
    world.set("API_SECRET", "0123456789abcdef0123456789abcdef");
    world.set("API_KEYS", "fedcba9876543210fedcba9876543210");
    world.up().await;
    world.call(&["task", "list"]).await.done();
    world.set("OPENTIGER_API_KEY", "fedcba9876543210fedcba9876543210");
    world.call(&["task", "list"]).await.done();
    world.set("OPENTIGER_API_KEY", "ffffffffffffffffffffffffffffffff");
    let said = world.call(&["task", "list"]).await.with_code(4);
    assert!(said.err.contains("OPENTIGER_API_KEY"), "{}", said.err);
    world.variables.remove("OPENTIGER_API_KEY");
    // The processes that were started have it in no argument and no file of their launch.
    let launches = world.state_dir().join("launches");
    let holds = |path: &std::path::Path| {
        let bytes = std::fs::read(path).unwrap_or_default();
        String::from_utf8_lossy(&bytes).contains("0123456789abcdef0123456789abcdef")
    };
    let mut files = 0;
    for launch in std::fs::read_dir(launches).unwrap().flatten() {
        for file in std::fs::read_dir(launch.path()).into_iter().flatten().flatten() {
            // The launch's way to be asked something is a pipe, which holds nothing.
            if !file.file_type().is_ok_and(|kind| kind.is_file()) {
                continue;
            }
            files += 1;
            assert!(!holds(&file.path()), "{}", file.path().display());
        }
    }
    assert!(files > 3, "there are launches to look at");
    let file = AddressFile::read(&world.state_dir()).unwrap().expect("it runs");
    assert!(!holds(std::path::Path::new(&format!("/proc/{}/cmdline", file.pid))));
}

#[tokio::test]
async fn settings_are_set_and_shown_with_where_they_come_from() {
    let mut world = World::new().await;
    world.up().await;
    let set = world.call(&["config", "set", "TASK_TIMEBOX_S=120", "CANCEL_GRACE_S=3"]).await.done();
    assert!(set.out.contains("TASK_TIMEBOX_S = 120"), "{}", set.out);
    let got = world.call(&["config", "get", "TASK_TIMEBOX_S", "--json"]).await.done().json();
    assert_eq!((&got["value"], &got["source"]), (&120.into(), &"database".into()));
    world.call(&["config", "set", "--unset", "TASK_TIMEBOX_S"]).await.done();
    let got = world.call(&["config", "get", "TASK_TIMEBOX_S", "--json"]).await.done().json();
    assert_eq!(got["source"], "default");

    let key = "sk-ant-0123456789wxyz";
    world.call_with(&["config", "set", "ANTHROPIC_API_KEY=-"], &format!("{key}\n")).await.done();
    let got = world.call(&["config", "get", "ANTHROPIC_API_KEY"]).await.done();
    assert!(got.out.contains("wxyz") && !got.out.contains(key), "{}", got.out);

    let bad = world
        .call(&["config", "set", "TASK_TIMEBOX_S=soon", "CANCEL_GRACE_S=x"])
        .await
        .with_code(2);
    assert!(
        bad.err.contains("\n  ")
            && bad.err.contains("TASK_TIMEBOX_S")
            && bad.err.contains("CANCEL_GRACE_S"),
        "{}",
        bad.err
    );
    let one = world.call(&["config", "set", "CANCEL_GRACE_S=x"]).await.with_code(2);
    assert_eq!(one.err.matches("is not an integer").count(), 1, "{}", one.err);
    assert!(one.err.contains("\n  allowed: an integer from 0"), "{}", one.err);
    let unknown = world.call(&["config", "set", "CANCEL_GRACE=3"]).await.with_code(5);
    assert!(unknown.err.contains("did you mean CANCEL_GRACE_S?"), "{}", unknown.err);
    for (args, told) in [
        (["task", "list", "--limit", "0"], "a whole number from 1 on"),
        (["gc", "--dry-run", "--records", "many"], "a whole number"),
    ] {
        let said = world.call(&args).await.with_code(2);
        assert!(said.err.contains(told), "{}", said.err);
    }
    let near = world.call(&["config", "get", "timebox"]).await.with_code(5);
    assert!(near.err.contains("TASK_TIMEBOX_S"), "{}", near.err);
    world.set("CANCEL_GRACE_S", "4");
    world.call(&["down"]).await.done();
    world.up().await;
    let wins = world.call(&["config", "set", "CANCEL_GRACE_S=5"]).await.done();
    assert!(wins.out.contains("environment wins"), "{}", wins.out);
    world.call(&["config", "set", "no-equals-sign"]).await.with_code(2);
}

#[tokio::test]
async fn a_reader_that_goes_away_is_no_fault() {
    let world = World::new().await;
    world.up().await;
    let program = env!("CARGO_BIN_EXE_opentiger");
    let bash = testing::programs::installed_program("bash");
    let mut command = world.command(&bash.to_string_lossy(), world.state.path());
    let script = format!("{program} config get | true; echo ${{PIPESTATUS[0]}}");
    let output = command.args(["--norc", "-c", &script]).output().await.unwrap();
    let code = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    // Whoever is fast enough writes everything before the reader has left.
    assert!(code == "141" || code == "0", "{code}");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}
