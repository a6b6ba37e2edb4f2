use std::{io::Write as _, os::unix::fs::PermissionsExt as _};

use launcher::{
    error::LaunchError,
    launcher::{Launched, Launcher as _},
    outcome::{Outcome, StartFailure},
    spec::{Input, LaunchSpec, SecretValue, UserId},
};

use crate::support::{Scratch, is_root, read_all, shell};

async fn refused(scratch: &Scratch, id: &str, spec: &LaunchSpec) -> LaunchError {
    let launched = scratch.launcher().launch(&id.parse().unwrap(), spec, Input::default()).await;
    launched.unwrap_err()
}

#[tokio::test]
async fn failed_starts_are_told_apart() {
    let scratch = Scratch::new();
    let file = |name: &str, text: &str, mode| {
        let path = scratch.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    };
    let plain = file("plain", "no program", 0o644);
    let orphan = file("orphan", "#!/nonexistent/interpreter\n", 0o755);
    let text = file("text", "neither binary nor script", 0o755);

    let error = refused(&scratch, "missing", &LaunchSpec::new("/nonexistent", "/")).await;
    assert!(matches!(error, LaunchError::ProgramMissing { .. }), "{error:?}");
    let mut unknown = shell("");
    unknown.program = "no-such-program-anywhere".into();
    let error = refused(&scratch, "unknown", &unknown).await;
    assert!(matches!(&error, LaunchError::ProgramMissing { .. }), "{error:?}");
    assert!(error.hint().contains("no-such-program-anywhere"), "{}", error.hint());
    let error = refused(&scratch, "plain", &LaunchSpec::new(plain, "/")).await;
    assert!(matches!(error, LaunchError::NotExecutable { .. }), "{error:?}");
    let error = refused(&scratch, "text", &LaunchSpec::new(text, "/")).await;
    assert!(matches!(error, LaunchError::NotExecutable { .. }), "{error:?}");
    let error = refused(&scratch, "orphan", &LaunchSpec::new(orphan, "/")).await;
    let interpreter = LaunchError::NeverStarted(StartFailure::InterpreterMissing {
        program: scratch.path().join("orphan"),
    });
    assert_eq!(format!("{error:?}"), format!("{interpreter:?}"));
    let error = refused(&scratch, "cwd", &LaunchSpec::new("/bin/true", "/nonexistent")).await;
    assert!(matches!(error, LaunchError::CwdMissing { .. }), "{error:?}");
    let error = refused(&scratch, "directory", &LaunchSpec::new("/tmp", "/")).await;
    assert!(matches!(error, LaunchError::Permission { .. }), "{error:?}");
}

#[tokio::test]
async fn bare_name_is_found_in_the_path_of_the_launch() {
    let scratch = Scratch::new();
    let bin = scratch.path().join("bin");
    std::fs::create_dir(&bin).unwrap();
    std::fs::write(bin.join("greet"), "#!/bin/sh\necho hello $1\n").unwrap();
    std::fs::set_permissions(bin.join("greet"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut spec = LaunchSpec::new("greet", "/");
    spec.args = vec!["you".to_owned()];
    spec.env.insert("PATH".to_owned(), format!("/nonexistent:{}:/bin", bin.display()));
    let handle = scratch.start("bare", &spec).await;
    assert_eq!(read_all(&handle).await.0, b"hello you\n");
}

#[tokio::test]
async fn environment_and_place_are_exactly_those_of_the_spec() {
    let scratch = Scratch::new();
    let mut spec = shell("pwd; env | sort; cat; ls -1 /proc/self/fd | wc -l");
    spec.cwd = "/usr".into();
    spec.env.insert("PLAIN".to_owned(), "from the spec".to_owned());
    spec.env.insert("BOTH".to_owned(), "from the spec".to_owned());
    let secret_env = [
        ("SECRET".to_owned(), SecretValue::new("from the input")),
        ("BOTH".to_owned(), SecretValue::new("from the input")),
    ];
    let input = Input { secret_env: secret_env.into(), ..Input::default() };
    let launched = scratch.launcher().launch(&"env".parse().unwrap(), &spec, input).await;
    let (output, _) = read_all(&launched.unwrap().into_handle()).await;
    // Standard input, output, error, and the directory that `ls` reads.
    let expected = "/usr\nBOTH=from the input\nPATH=/usr/local/bin:/usr/bin:/bin\n\
                    PLAIN=from the spec\nPWD=/usr\nSECRET=from the input\n4\n";
    assert_eq!(String::from_utf8_lossy(&output), expected);
}

#[tokio::test]
async fn input_that_ends_early_starts_nothing() {
    let scratch = Scratch::new();
    let launcher = scratch.launcher();
    launcher.probe().await.unwrap();
    let shim = std::fs::read_dir(scratch.state()).unwrap().flatten();
    let shim = shim.map(|entry| entry.path()).find(|path| path.to_string_lossy().contains("shim-"));
    for (name, frame) in [
        ("nothing", Vec::new()),
        ("half-a-header", b"LNCHIN\0\x01\x10".to_vec()),
        ("half-a-payload", [b"LNCHIN\0\x01".as_slice(), &100u64.to_le_bytes(), &[0; 40]].concat()),
        ("damaged", [b"LNCHIN\0\x01".as_slice(), &4u64.to_le_bytes(), &[0; 12]].concat()),
        ("foreign", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec()),
    ] {
        let directory = scratch.path().join(name);
        std::fs::create_dir(&directory).unwrap();
        #[expect(clippy::disallowed_methods, reason = "speaks to the shim as a broken host")]
        let mut child = std::process::Command::new(shim.as_ref().unwrap())
            .arg(&directory)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(&frame).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(127), "{name}");
        let record = std::fs::read_to_string(directory.join("exit.json")).unwrap();
        let record: serde_json::Value = serde_json::from_str(&record).unwrap();
        let reason = &record["outcome"]["never_started"];
        assert!(reason == "input_incomplete" || reason == "input_damaged", "{name}: {record}");
        assert!(!directory.join("accepted").try_exists().unwrap(), "{name}");
    }
}

#[tokio::test]
async fn waiting_launch_can_be_stopped() {
    let scratch = Scratch::new();
    let launcher = scratch.launcher();
    let id = "waiting".parse().unwrap();
    let created = launcher.create(&id, &shell("exit 0")).await.unwrap();
    let found = launcher.discover().await.unwrap().remove(0);
    let handle = launcher.attach(&found.record).await.unwrap();
    let request = launcher::handle::StopRequest::new("changed my mind", std::time::Duration::ZERO);
    let report = handle.stop(request).await;
    assert_eq!(report.outcome, Outcome::NeverStarted(StartFailure::Stopped));
    let refused = launcher.assign(created, Input::default()).await;
    assert!(matches!(refused, Err(LaunchError::NeverStarted(_))), "{refused:?}");
    handle.destroy(launcher::handle::Destroy::Everything).await.unwrap();
}

#[tokio::test]
async fn warm_launch_takes_its_assignment_later() {
    let scratch = Scratch::new();
    let launcher = scratch.launcher();
    let created = launcher.create(&"warm".parse().unwrap(), &shell("cat")).await.unwrap();
    let assignment = serde_json::json!({ "run": "r-1" });
    let input =
        Input { stdin: b"work".to_vec(), assignment: Some(assignment.clone()), ..Input::default() };
    let launched = launcher.assign(created, input).await.unwrap();
    assert!(matches!(launched, Launched::Started(_)));
    assert_eq!(read_all(&launched.into_handle()).await.0, b"work");
    let written = std::fs::read(scratch.launch("warm").join("assignment")).unwrap();
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&written).unwrap(), assignment);
}

#[tokio::test]
async fn user_is_switched_or_refused() {
    let scratch = Scratch::new();
    let mut spec = shell("id -u; id -g; id -G; ls \"$LAUNCH\" 2>/dev/null || echo closed");
    spec.env.insert("LAUNCH".to_owned(), scratch.launch("user").display().to_string());
    spec.user = Some(UserId { uid: 65534, gid: 65533 });
    if is_root() {
        let handle = scratch.start("user", &spec).await;
        let (output, _) = read_all(&handle).await;
        assert_eq!(String::from_utf8_lossy(&output), "65534\n65533\n65533\nclosed\n");
        assert!(handle.exited().await.is_success());
    } else {
        let error = refused(&scratch, "user", &spec).await;
        assert!(matches!(error, LaunchError::Permission { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn launch_that_was_given_up_meanwhile_is_not_started() {
    let scratch = Scratch::new();
    let launcher = scratch.launcher();
    let ran = scratch.path().join("ran");
    let spec = shell(&format!("touch {}", ran.display()));
    // Both between the look that found no shim and the start that another caller is about.
    let created = launcher.create(&"verdict".parse().unwrap(), &spec).await.unwrap();
    std::fs::write(scratch.launch("verdict").join("verdict.json"), "{}").unwrap();
    let refused = launcher.assign(created, Input::default()).await;
    assert!(
        matches!(refused, Err(LaunchError::NeverStarted(StartFailure::Stopped))),
        "{refused:?}"
    );

    let created = launcher.create(&"removed".parse().unwrap(), &spec).await.unwrap();
    std::fs::rename(scratch.launch("removed"), scratch.path().join("elsewhere")).unwrap();
    let refused = launcher.assign(created, Input::default()).await;
    assert!(
        matches!(refused, Err(LaunchError::NeverStarted(StartFailure::Stopped))),
        "{refused:?}"
    );
    assert!(!ran.try_exists().unwrap());
}

#[tokio::test]
async fn shim_file_that_was_cleared_away_is_written_again() {
    let scratch = Scratch::new();
    let launcher = scratch.launcher();
    for id in ["one", "two"] {
        let (id, spec) = (id.parse().unwrap(), shell("exit 3"));
        let launched = launcher.launch(&id, &spec, Input::default()).await.unwrap();
        assert_eq!(launched.into_handle().exited().await.outcome, Outcome::Exited(3));
        for entry in std::fs::read_dir(scratch.state()).unwrap().flatten() {
            if entry.file_name().to_string_lossy().starts_with("shim-") {
                std::fs::remove_file(entry.path()).unwrap();
            }
        }
    }
}
