//! A real Postgres that lets in whoever connects from loopback, and is found out.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    os::unix::fs::{PermissionsExt as _, chown},
    path::PathBuf,
    time::Duration,
};

use launcher::{
    handle::StopRequest,
    launcher::Launcher as _,
    process::ProcessLauncher,
    spec::{Input, LaunchSpec, UserId},
    tool::Tool,
};
use sandbox::{
    relay::{
        Relay,
        strangers::{Reception, knock},
    },
    rewrite::Service,
};
use testing::{programs::installed_program, wait::wait_for};

/// Postgres does not run as root: the user that nobody is.
const NOBODY: UserId = UserId { uid: 65534, gid: 65534 };
const LIMIT: Duration = Duration::from_secs(60);

/// A program of Postgres, which distributions keep out of `PATH`.
fn program(name: &str) -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found = versions.map(|version| version.path().join("bin").join(name));
    found.find(|path| path.is_file()).unwrap_or_else(|| installed_program(name))
}

#[tokio::test]
async fn postgres_that_trusts_loopback_is_found_out() {
    let user = rustix::process::geteuid().is_root().then_some(NOBODY);
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let data = directory.path().join("data");
    fs::create_dir(&data).unwrap();
    if let Some(user) = user {
        chown(&data, Some(user.uid), Some(user.gid)).unwrap();
    }
    let mut initdb = Tool::new(program("initdb"), directory.path());
    initdb.args = vec![
        format!("--pgdata={}", data.display()),
        "--auth=trust".to_owned(),
        "--username=owner".to_owned(),
        "--no-sync".to_owned(),
    ];
    initdb.env.insert("LC_ALL".to_owned(), "C".to_owned());
    initdb.user = user;
    let made = initdb.run().await.unwrap();
    assert_eq!(made.status, Some(0), "{}", String::from_utf8_lossy(&made.stderr));

    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut server = LaunchSpec::new(program("postgres"), directory.path());
    server.args =
        ["-D", &data.to_string_lossy(), "-p", &port.to_string(), "-k", "", "-h", "127.0.0.1"]
            .map(str::to_owned)
            .into();
    server.env.insert("LC_ALL".to_owned(), "C".to_owned());
    server.user = user;
    let launcher = ProcessLauncher::new(directory.path().join("state")).unwrap();
    let launched = launcher.launch(&"pg".parse().unwrap(), &server, Input::default()).await;
    let handle = launched.unwrap().into_handle();
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let relay = Relay {
        network: "net".to_owned(),
        listen: address,
        targets: vec![address],
        service: Service::Postgres,
    };
    let open =
        wait_for("the server to let a stranger in", LIMIT, async || match knock(&relay).await {
            Err(open) => Ok(open),
            Ok(said) => Err(format!("{said:?}")),
        })
        .await;
    assert_eq!(open.address, address);
    assert!(open.hint().contains("pg_hba.conf"));

    let hba = data.join("pg_hba.conf");
    let strict = fs::read_to_string(&hba).unwrap().replace("trust", "scram-sha-256");
    fs::write(&hba, strict).unwrap();
    let pid = handle.stats().await.unwrap().leader_pid.and_then(rustix::process::Pid::from_raw);
    rustix::process::kill_process(pid.unwrap(), rustix::process::Signal::HUP).unwrap();
    wait_for("the server to refuse a stranger", LIMIT, async || match knock(&relay).await {
        Ok(Reception::Refused) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    let request = StopRequest { reason: "test".to_owned(), grace: Duration::from_secs(1) };
    handle.stop(request).await;
}
