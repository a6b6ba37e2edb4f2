//! `worker look`: what a sandbox sees of its mounts, its programs and the database, as one line on standard output.
//!
//! It is the first command of a container like that of a run, and changes nothing in it.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use core_types::{
    event::cut_text,
    sandbox::look::{DatabaseLook, LookOrder, LookReport, ProgramFault},
    secret::Secret,
};
use launcher::tool::{Tool, ToolError};
use store::sandbox::trial::try_login;
use telemetry::chain::error_chain;
use tokio::{task::JoinSet, time::timeout};

/// Most bytes of an order.
const LONGEST: u64 = 1 << 20;
/// Longest time for a program to tell its version.
const VERSION_WITHIN: Duration = Duration::from_secs(8);
/// Longest time for the database.
const DATABASE_WITHIN: Duration = Duration::from_secs(8);
/// Longest line of what is told.
const LINE: usize = 300;
/// A file that is made and removed where files must be writable.
const TRACE: &str = ".opentiger-look";

/// Looks at what is asked for on standard input.
pub(crate) async fn look() -> anyhow::Result<()> {
    bootstrap::once::hide_memory().context("close this process's memory to others")?;
    let order = read()?;
    let (programs, database) =
        tokio::join!(versions(order.programs), database(order.database_url.as_ref()));
    let directories = order.directories.into_iter();
    let faults = directories.filter_map(|(path, writable)| {
        let fault = try_directory(&path, writable).err()?;
        Some((path, cut_text(&fault, LINE)))
    });
    let report = LookReport { directories: faults.collect(), programs, database };
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, &report).context("write to standard output")?;
    writeln!(out).context("write to standard output")
}

fn read() -> anyhow::Result<LookOrder> {
    let mut text = Vec::new();
    io::stdin().lock().take(LONGEST).read_to_end(&mut text).context("read what to look at")?;
    // The error names a field, which is no secret, and no value.
    serde_json::from_slice(&text).context("understand what to look at")
}

fn try_directory(path: &Path, writable: bool) -> Result<(), String> {
    let at = |what: &str, path: &Path, error: &io::Error| {
        format!("{what} `{}`: {error}", path.display())
    };
    for entry in fs::read_dir(path).map_err(|error| at("list", path, &error))? {
        let file = entry.map_err(|error| at("list", path, &error))?.path();
        if file.is_file() {
            fs::File::open(&file)
                .and_then(|mut file| file.read(&mut [0]))
                .map_err(|error| at("read", &file, &error))?;
        }
    }
    if writable {
        let trace = path.join(TRACE);
        let written = fs::write(&trace, "x").and_then(|()| fs::remove_file(&trace));
        written.map_err(|error| at("write to", path, &error))?;
    }
    Ok(())
}

async fn versions(programs: Vec<String>) -> BTreeMap<String, Result<String, ProgramFault>> {
    let mut asked: JoinSet<_> =
        programs.into_iter().map(async |name| (name.clone(), version(&name).await)).collect();
    let mut told = BTreeMap::new();
    while let Some(answer) = asked.join_next().await {
        told.extend(answer.ok());
    }
    told
}

async fn version(name: &str) -> Result<String, ProgramFault> {
    let useless = |why: &str| ProgramFault::Useless(cut_text(why, LINE));
    let tool = Tool {
        args: vec!["--version".to_owned()],
        env: bootstrap::environment::environment(),
        timeout: VERSION_WITHIN,
        output_limit: 4 << 10,
        ..Tool::new(PathBuf::from(name), "/tmp")
    };
    let output = tool.run().await.map_err(|error| match error {
        ToolError::ProgramMissing { .. } if !is_in_path(name) => ProgramFault::Missing,
        ToolError::ProgramMissing { .. } => {
            useless(&format!("the interpreter of `{name}` is not there"))
        }
        error => useless(&error_chain(&error).to_string()),
    })?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().map(str::trim).find(|line| !line.is_empty());
    match line {
        Some(line) if output.status == Some(0) => Ok(cut_text(line, LINE)),
        Some(_) | None => Err(useless(&format!("`{name} --version` does not work"))),
    }
}

/// What has no interpreter is missing, too, for who starts it.
fn is_in_path(name: &str) -> bool {
    let path = bootstrap::environment::environment().remove("PATH").unwrap_or_default();
    path.split(':').any(|directory| Path::new(directory).join(name).is_file())
}

async fn database(url: Option<&Secret>) -> Option<Result<DatabaseLook, String>> {
    let url = url?;
    let begun = Instant::now();
    let Ok(tried) = timeout(DATABASE_WITHIN, try_login(url)).await else {
        return Some(Err(format!("no answer within {} s", DATABASE_WITHIN.as_secs())));
    };
    let took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    Some(match tried {
        Ok(trial) => Ok(DatabaseLook { took_ms, answers: trial.answers, closed: trial.closed }),
        Err(error) => Err(cut_text(&error_chain(&error).to_string(), LINE)),
    })
}
