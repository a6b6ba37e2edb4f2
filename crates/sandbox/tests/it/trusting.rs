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
        strangers::{Callers, Reception, ServiceOpenToLoopback, knock},
    },
    rewrite::{Service, postgres::names},
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
    let callers = Callers::of(names("postgres://ot:p@127.0.0.1/tiger").unwrap(), "box");
    let found = open(&relay, &callers).await;
    assert_eq!(found.address, address);
    assert!(found.hint().contains("pg_hba.conf"));

    let hba = data.join("pg_hba.conf");
    let strict = fs::read_to_string(&hba).unwrap().replace("trust", "scram-sha-256");
    let reload = async |first: &str| {
        fs::write(&hba, format!("{first}\n{strict}")).unwrap();
        let pid = handle.stats().await.unwrap().leader_pid.and_then(rustix::process::Pid::from_raw);
        rustix::process::kill_process(pid.unwrap(), rustix::process::Signal::HUP).unwrap();
    };
    reload("").await;
    refused(&relay, &callers).await;
    // One line is enough, for whomever it is.
    for line in [
        "host tiger ot 127.0.0.1/32 trust",
        "host postgres ot 127.0.0.1/32 trust",
        "host tiger box 127.0.0.1/32 trust",
        "host all postgres 127.0.0.1/32 trust",
        "host replication ot 127.0.0.1/32 trust",
        "host replication postgres 127.0.0.1/32 trust",
    ] {
        reload(line).await;
        open(&relay, &callers).await;
        reload("").await;
        refused(&relay, &callers).await;
    }
    let request = StopRequest { reason: "test".to_owned(), grace: Duration::from_secs(1) };
    handle.stop(request).await;
}

async fn open(relay: &Relay, callers: &Callers) -> ServiceOpenToLoopback {
    let what = "the server to let a stranger in";
    wait_for(what, LIMIT, async || match knock(relay, callers).await {
        Err(open) => Ok(open),
        Ok(said) => Err(format!("{said:?}")),
    })
    .await
}

async fn refused(relay: &Relay, callers: &Callers) {
    let what = "the server to refuse a stranger";
    wait_for(what, LIMIT, async || match knock(relay, callers).await {
        Ok(Reception::Refused) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}
