//! The first start: the data is made in a directory of its own and gets its name when it is complete.
//!
//! `initdb` does not end with the process that started it. So each attempt has a fresh directory, in which no earlier
//! one can meddle, and `initdb` is a launch with a short lease: by its id the next attempt finds and ends it.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use launcher::{
    handle::{Handle, StopRequest},
    id::LaunchId,
    launcher::Launcher as _,
    outcome::ExitReport,
    process::ProcessLauncher,
    spec::{Input, LaunchSpec, OutputLimits},
};
use tokio::time::Instant;

use crate::{
    error::{EmbeddedError, io_error, launch_error},
    files::{make_directory, new_password, random_text, sync_directory, write_private},
    launch::{self, last_lines},
    options::Durability,
    postgres::{ROLE, binaries::Binaries, cluster::PASSWORD_FILE, program::Postgres},
    server,
};

/// How long `initdb` may take.
pub(crate) const INIT_TIMEOUT: Duration = Duration::from_secs(300);
/// Only a holder of the start lock launches under this id, so what is found under it is an orphan.
const LAUNCH_ID: &str = "embedded-postgres-init";
/// How long an orphan works on if nobody starts again.
const LEASE: Duration = Duration::from_secs(15);
/// Nothing of an unfinished attempt is kept, so there is little to wait for.
const STOP_GRACE: Duration = Duration::from_secs(1);
/// What the directory of an attempt is named by.
const PREFIX: &str = "data.init";
/// What a version that had one name for all attempts may have left, the password among it.
const FORMER: [&str; 2] = ["data.password", "data.new"];

/// One attempt: a directory with the password and the data to be.
struct Attempt {
    directory: PathBuf,
}

/// Makes the data. The caller holds the start lock and has cleared the leftovers away.
pub(crate) async fn make(
    launcher: &ProcessLauncher,
    postgres: &Postgres<'_>,
    binaries: &Binaries,
) -> Result<(), EmbeddedError> {
    let parent = postgres.cluster.data_dir.parent().unwrap_or(Path::new("/"));
    let attempt = Attempt { directory: parent.join(format!("{PREFIX}-{}", random_text(12))) };
    let made = match attempt.prepare(postgres) {
        Ok(()) => initdb(launcher, postgres, binaries, &attempt).await,
        Err(error) => Err(error),
    };
    let named = made.and_then(|()| attempt.give_name(parent, postgres));
    sweep(parent);
    named
}

/// Ends and removes what killed attempts left. The caller holds the start lock.
pub(crate) async fn clear_leftovers(
    launcher: &ProcessLauncher,
    directory: &Path,
) -> Result<(), EmbeddedError> {
    if let Some(orphan) = launch::find(launcher, &launch_id()).await? {
        orphan.stop(StopRequest::new("whoever started it is gone", STOP_GRACE)).await;
        launch::forget(&orphan).await?;
    }
    sweep(directory);
    Ok(())
}

impl Attempt {
    fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    fn password(&self) -> PathBuf {
        self.directory.join("password")
    }

    fn prepare(&self, postgres: &Postgres<'_>) -> Result<(), EmbeddedError> {
        let user = postgres.account.user;
        // Another user only passes through.
        make_directory(&self.directory, if user.is_some() { 0o711 } else { 0o700 }, None)?;
        make_directory(&self.data(), 0o700, user)?;
        write_private(&self.password(), new_password().expose().as_bytes(), user)
    }

    /// The password goes into the data first, so that neither is ever there without the other.
    fn give_name(&self, parent: &Path, postgres: &Postgres<'_>) -> Result<(), EmbeddedError> {
        let (password, data) = (self.password(), self.data());
        fs::rename(&password, data.join(PASSWORD_FILE)).map_err(io_error("rename", &password))?;
        match postgres.durability {
            Durability::Full => sync_directory(&data)?,
            Durability::Test => {}
        }
        fs::rename(&data, &postgres.cluster.data_dir).map_err(io_error("rename", &data))?;
        match postgres.durability {
            Durability::Full => sync_directory(parent),
            Durability::Test => Ok(()),
        }
    }
}

async fn initdb(
    launcher: &ProcessLauncher,
    postgres: &Postgres<'_>,
    binaries: &Binaries,
    attempt: &Attempt,
) -> Result<(), EmbeddedError> {
    let spec = spec(postgres, binaries, attempt);
    let launched = launcher.launch(&launch_id(), &spec, Input::default()).await;
    let handle = launched.map_err(launch_error("run initdb"))?.into_handle();
    let report = follow(&handle).await;
    let judged = if report.is_success() {
        Ok(())
    } else {
        let words = last_lines(&launch::words(&handle).await);
        let detail = match &report.cause {
            None => words,
            Some(cause) => format!("it was ended ({cause:?}); {words}"),
        };
        Err(EmbeddedError::InitFailed { detail })
    };
    launch::forget(&handle).await?;
    judged
}

/// Keeps it alive to its end, but not for longer than it may take.
async fn follow(handle: &Handle) -> ExitReport {
    let deadline = Instant::now() + INIT_TIMEOUT;
    while Instant::now() < deadline {
        // Cancel safe: `exited` only watches.
        if let Ok(report) = tokio::time::timeout(LEASE / 5, handle.exited()).await {
            return report;
        }
        // One that has ended is seen above.
        handle.renew().await.ok();
    }
    handle.stop(StopRequest::new("initdb takes too long", STOP_GRACE)).await
}

fn spec(postgres: &Postgres<'_>, binaries: &Binaries, attempt: &Attempt) -> LaunchSpec {
    let text = |path: &Path| path.display().to_string();
    let mut args = vec![
        "--pgdata".to_owned(),
        text(&attempt.data()),
        "--username".to_owned(),
        ROLE.to_owned(),
        "--pwfile".to_owned(),
        text(&attempt.password()),
    ];
    let locale = if cfg!(target_env = "gnu") { "--locale=C.UTF-8" } else { "--locale=C" };
    let fixed = ["--auth=scram-sha-256", "--encoding=UTF8", locale, "--no-instructions"];
    args.extend(fixed.map(str::to_owned));
    args.push(match postgres.durability {
        Durability::Full => "--data-checksums".to_owned(),
        Durability::Test => "--no-sync".to_owned(),
    });
    let mut spec = server::spec(&binaries.initdb, args, postgres.account);
    spec.output = OutputLimits { head_bytes: 1 << 20, tail_bytes: 1 << 20 };
    spec.lease = Some(LEASE);
    spec
}

/// Removes what attempts left, the passwords among it. What cannot be removed harms no attempt; the next start tries
/// again.
fn sweep(directory: &Path) {
    let Ok(entries) = fs::read_dir(directory) else {
        return;
    };
    for entry in entries.flatten() {
        let is_ours = |name: &str| name.starts_with(PREFIX) || FORMER.contains(&name);
        if !entry.file_name().to_str().is_some_and(is_ours) {
            continue;
        }
        let path = entry.path();
        let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
        let removed = if is_directory { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        if let Err(error) = removed {
            let path = path.display();
            tracing::warn!(%path, %error, "cannot remove an unfinished database directory");
        }
    }
}

fn launch_id() -> LaunchId {
    LAUNCH_ID.parse().expect("the fixed text is a launch id")
}
