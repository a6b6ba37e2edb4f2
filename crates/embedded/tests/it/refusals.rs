//! Where there can be no server, the error says what was tried and what to do.

use std::{fs, os::unix::fs::PermissionsExt as _};

use embedded::error::EmbeddedError;
use testing::repository::set_mode;

use crate::bench::Bench;

async fn refusal(bench: &Bench) -> EmbeddedError {
    let error = bench.try_ensure().await.unwrap_err();
    assert!(error.hint().is_some(), "{error:?}");
    error
}

#[tokio::test]
async fn missing_and_broken_binaries_are_listed_with_what_is_wrong() {
    let mut bench = Bench::new();
    let directory = bench.directory.path().join("bin");
    fs::create_dir(&directory).unwrap();
    bench.options.bin_dir = Some(directory.clone());
    let missing = refusal(&bench).await;
    assert!(
        matches!(&missing, EmbeddedError::BinariesMissing { tried, download: None, .. }
        if *tried == format!("`{}`: no `postgres` there", directory.display())),
        "{missing:?}"
    );
    for program in ["postgres", "initdb"] {
        let file = directory.join(program);
        fs::write(&file, "#!/bin/sh\necho 'wrong libssl' >&2\nexit 127\n").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let broken = refusal(&bench).await;
    assert!(broken.to_string().contains("wrong libssl"), "{broken}");
    fs::write(directory.join("postgres"), "#!/bin/sh\necho 'postgres (PostgreSQL) 9.6.1'\n")
        .unwrap();
    let old = refusal(&bench).await;
    assert!(old.to_string().contains("is version 9.6.1, too old"), "{old}");
    assert!(!bench.postgres_dir().join("data").try_exists().unwrap());
}

#[tokio::test]
async fn data_of_another_version_is_left_alone() {
    let bench = Bench::new();
    let data = bench.postgres_dir().join("data");
    fs::create_dir_all(&data).unwrap();
    fs::write(data.join("PG_VERSION"), "9\n").unwrap();
    let error = refusal(&bench).await;
    assert!(matches!(error, EmbeddedError::VersionMissing { data_major: 9, .. }), "{error:?}");
    assert_eq!(fs::read_dir(&data).unwrap().count(), 1);
}

#[tokio::test]
async fn a_lost_password_and_a_taken_port_are_told() {
    let mut bench = Bench::new();
    let postgres = bench.ensure().await;
    postgres.stop("a test").await;
    bench.options.port = Some(postgres.port);
    let thief = std::net::TcpListener::bind(("127.0.0.1", postgres.port)).unwrap();
    let error = refusal(&bench).await;
    assert!(
        matches!(error, EmbeddedError::PortTaken { port } if port == postgres.port),
        "{error:?}"
    );
    drop(thief);
    fs::remove_file(postgres.data_dir.join("opentiger.password")).unwrap();
    let error = refusal(&bench).await;
    assert!(matches!(error, EmbeddedError::PasswordLost { .. }), "{error:?}");
}

#[tokio::test]
async fn a_directory_that_shuts_the_servers_user_out_is_named() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let bench = Bench::new();
    set_mode(bench.directory.path(), 0o700);
    let error = refusal(&bench).await;
    let expected = bench.directory.path();
    assert!(
        matches!(&error, EmbeddedError::Unreachable { path, .. } if path == expected),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_directory_of_another_user_is_refused() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let bench = Bench::new();
    fs::create_dir(bench.postgres_dir()).unwrap();
    std::os::unix::fs::chown(bench.postgres_dir(), Some(12_345), None).unwrap();
    let error = refusal(&bench).await;
    assert!(matches!(&error, EmbeddedError::NotOurs { owner: 12_345, .. }), "{error:?}");
}
