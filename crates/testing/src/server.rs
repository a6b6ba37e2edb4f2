//! The database server of the tests: a configured one, else a private one that all tests of this user share.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::OnceLock,
};

use core_types::secret::Secret;
use embedded::{
    options::{Durability, EmbeddedOptions},
    postgres::{EmbeddedPostgres, ensure_postgres},
};
use launcher::process::ProcessLauncher;

use crate::programs::search_path;

/// The variable that names a server for the tests: a role that may create databases.
const VARIABLE: &str = "OPENTIGER_TEST_DATABASE_URL";

/// The URL of the server's maintenance database.
///
/// # Panics
/// When there is no server and none can be started.
pub(crate) fn url() -> &'static Secret {
    static URL: OnceLock<Secret> = OnceLock::new();
    URL.get_or_init(|| match std::env::var_os(VARIABLE) {
        Some(url) => {
            Secret::new(url.into_string().unwrap_or_else(|_| panic!("{VARIABLE} is not UTF-8")))
        }
        None => private_server(),
    })
}

/// Starts or finds the private server, and keeps it alive from a thread of its own for as long as this process lives:
/// a test's runtime may end, or stand still, at any time.
fn private_server() -> Secret {
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::Builder::new()
        .name("test-database".to_owned())
        .spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime can be made").block_on(async {
                let started = start().await;
                let keep = started.as_ref().ok().cloned();
                tell.send(started.map(|postgres| postgres.url)).ok();
                if let Some(postgres) = keep {
                    postgres.keep_alive().await.ok();
                }
            });
        })
        .expect("a thread can be started");
    match told.recv() {
        Ok(Ok(url)) => url,
        Ok(Err(why)) => panic!("no database for the tests: {why}"),
        Err(_) => panic!("no database for the tests: its thread died"),
    }
}

async fn start() -> Result<EmbeddedPostgres, String> {
    let state_dir = directory()?;
    let launcher = ProcessLauncher::new(state_dir.clone()).map_err(|error| error.to_string())?;
    let mut options = EmbeddedOptions::new(state_dir, search_path(), launcher);
    options.durability = Durability::Test;
    ensure_postgres(options).await.map_err(|error| {
        let hint = error.hint().unwrap_or("see the error");
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
        format!("{error}{}; {hint}, or set {VARIABLE}", cause.unwrap_or_default())
    })
}

/// A directory of this user alone, the same for all test processes on this machine.
fn directory() -> Result<PathBuf, String> {
    let user = rustix::process::geteuid().as_raw();
    let path = std::env::temp_dir().join(format!("opentiger-test-{user}"));
    match fs::DirBuilder::new().mode(0o711).create(&path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(format!("cannot make `{}`: {error}", path.display())),
    }
    check_owner(&path, user)?;
    Ok(path)
}

/// Anybody may make names in the directory for temporary files.
fn check_owner(path: &Path, user: u32) -> Result<(), String> {
    let metadata = fs::symlink_metadata(path).map_err(|error| error.to_string())?;
    let open_to_others = metadata.permissions().mode() & 0o022 != 0;
    if metadata.is_dir() && metadata.uid() == user && !open_to_others {
        return Ok(());
    }
    Err(format!("`{}` is not a directory of this user alone", path.display()))
}
