//! `backup` and `restore`: the whole database as one file, and back.
//!
//! They speak to the database themselves: a backup must be possible while no server answers, and no server may run on a
//! database that is being filled.

use std::path::{Path, PathBuf};

use bootstrap::{error::StartError, whole::WholeDatabase};
use serde_json::json;
use store::backup::{BackupError, Contents};
use telemetry::chain::error_chain;
use tokio::fs::{self, File, OpenOptions};

use super::state::StateDir;
use crate::{
    cli::system::{BackupArgs, RestoreArgs},
    code::Code,
    console::Console,
    failure::Failure,
    server::announced,
    surroundings::Surroundings,
    units::bytes,
};

/// Writes the database into a file.
pub(crate) async fn save(
    args: &BackupArgs,
    surroundings: &Surroundings,
    console: &Console,
) -> Result<Code, Failure> {
    let settings = surroundings.settings()?;
    let database = WholeDatabase::open("backup", &settings).await.map_err(not_opened)?;
    let part = beside(&args.file);
    let written = database.during(write(&database, &part)).await;
    let written = written.map_err(|error| Failure::of("use the private database", &error));
    let contents = match written.and_then(|written| written) {
        Ok(contents) => contents,
        Err(failure) => {
            // It is of no use, and may never have been made.
            drop(fs::remove_file(&part).await);
            return Err(failure);
        }
    };
    fs::rename(&part, &args.file).await.map_err(|error| {
        Failure::of(format!("name the backup `{}`", args.file.display()), &error)
    })?;
    tell("saved", &args.file, &contents, console)?;
    Ok(Code::Done)
}

/// A name in the same directory, so that a backup has its own name only when it is whole.
fn beside(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".part");
    PathBuf::from(name)
}

async fn write(database: &WholeDatabase, part: &Path) -> Result<Contents, Failure> {
    let failed = |error| Failure::of(format!("write `{}`", part.display()), &error);
    // Settings are in it, secrets among them.
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(part).await.map_err(failed)?;
    let contents = database.store.back_up(&mut file).await.map_err(not_done)?;
    file.sync_all().await.map_err(failed)?;
    Ok(contents)
}

/// Fills an empty database from a file.
pub(crate) async fn restore(
    args: &RestoreArgs,
    surroundings: &Surroundings,
    console: &Console,
) -> Result<Code, Failure> {
    let settings = surroundings.settings()?;
    expect_no_server(&settings.state_dir)?;
    let opened = File::open(&args.file).await;
    let mut file =
        opened.map_err(|error| Failure::of(format!("read `{}`", args.file.display()), &error))?;
    let database = WholeDatabase::open("restore", &settings).await.map_err(not_opened)?;
    let filled = database.during(database.store.restore(&mut file)).await;
    let filled = filled.map_err(|error| Failure::of("use the private database", &error))?;
    let contents = filled.map_err(not_done)?;
    tell("restored", &args.file, &contents, console)?;
    Ok(Code::Done)
}

/// What runs here may work on the database that is to be filled.
fn expect_no_server(state_dir: &Path) -> Result<(), Failure> {
    let Some(_) = StateDir::existing(state_dir)? else { return Ok(()) };
    match announced(state_dir)? {
        None => Ok(()),
        Some(_) => Err(Failure::new(Code::Conflict, "openTiger runs, and may use the database")
            .with_hint("`opentiger down` stops it; then restore, then `opentiger up`")),
    }
}

fn tell(done: &str, file: &Path, contents: &Contents, console: &Console) -> std::io::Result<()> {
    let all: u64 = contents.tables.values().sum();
    console.value(&json!({
        "file": file, "schema": contents.schema, "taken_at": contents.taken_at, "bytes": contents.tables,
    }))?;
    console.line(format!(
        "{done}: {} of rows in {} tables, schema version {}, as of {}",
        bytes(all),
        contents.tables.len(),
        contents.schema,
        contents.taken_at
    ))
}

fn not_opened(error: StartError) -> Failure {
    let at_fault = matches!(&error, StartError::Settings(_) | StartError::NoDatabase);
    let code = if at_fault { Code::Usage } else { Code::Failed };
    let failure = Failure::new(code, error_chain(&error).to_string());
    match error.hint() {
        Some(hint) => failure.with_hint(hint),
        None => failure,
    }
}

fn not_done(error: BackupError) -> Failure {
    let code = match &error {
        BackupError::InUse { .. } | BackupError::Version { .. } => Code::Conflict,
        BackupError::NotWhole(_) => Code::Usage,
        BackupError::Empty => Code::NotFound,
        BackupError::File(_) | BackupError::Schema(_) | BackupError::Store(_) => Code::Failed,
    };
    Failure::new(code, error_chain(&error).to_string()).with_hint(error.hint())
}
