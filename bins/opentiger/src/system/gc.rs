//! `gc`: what ended runs and launches left on the disk, and mirrors that nobody uses.

use std::{
    io,
    os::unix::{
        fs::{FileTypeExt as _, MetadataExt as _},
        net::UnixStream,
    },
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use checkout::{checkouts::Checkouts, git::GitCommand, mirror::Mirrors};
use client::client::Client;
use jiff::Timestamp;
use launcher::launcher::{Launcher as _, ReapPolicy};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{expect_this_machine, records, state::StateDir};
use crate::{
    cli::system::GcArgs,
    code::Code,
    console::Console,
    failure::Failure,
    server::{Wanted, announced, client_of, not_running},
    shape::read,
    surroundings::Surroundings,
    units,
};

/// Directories of the state directory in which no socket of ours lies.
const NO_SOCKETS: &[&str] = &["launches", "checkouts"];
/// How deep sockets lie at most.
const SOCKET_DEPTH: usize = 3;

/// What was removed, or would be.
#[derive(Debug, Default)]
struct Removed {
    launches: Vec<String>,
    checkouts: Vec<String>,
    mirrors: Vec<String>,
    results: Vec<String>,
    sockets: Vec<String>,
    records: Map<String, Value>,
    bytes: u64,
}

#[derive(Debug, Deserialize)]
struct Config {
    settings: Vec<Setting>,
}

#[derive(Debug, Deserialize)]
struct Setting {
    key: String,
    #[serde(default)]
    value: Value,
}

#[derive(Debug, Deserialize)]
struct RunEnd {
    status: String,
    #[serde(default)]
    ended_at: Option<Timestamp>,
}

/// Removes what nobody uses any more.
pub(crate) async fn run(
    args: &GcArgs,
    wanted: &Wanted,
    surroundings: &Surroundings,
    console: &Console,
) -> Result<Code, Failure> {
    expect_this_machine("gc", wanted, surroundings)?;
    let settings = surroundings.settings()?;
    let mut removed = Removed::default();
    if let Some(state) = StateDir::existing(&settings.state_dir)? {
        launches(&state, args, &mut removed).await?;
        match announced(&state.path)? {
            Some(file) => {
                let client = client_of(&file, surroundings);
                checkouts(&state, &client, args, &mut removed).await?;
                mirrors(&state, &client, args, &mut removed).await?;
                if let Some(days) = args.records {
                    removed.records = records::remove(&client, days, args.dry_run).await?;
                }
            }
            None if args.records.is_some() => return Err(not_running(settings.state_dir)),
            None => console.remark(
                "openTiger does not run: checkouts and mirrors are kept, for nobody says which are still wanted",
            ),
        }
        sockets(&state.path, SOCKET_DEPTH, args, &mut removed)
            .map_err(|error| Failure::of("look for sockets", &error))?;
    }
    tell(args.dry_run, &removed, console)?;
    Ok(Code::Done)
}

async fn launches(state: &StateDir, args: &GcArgs, removed: &mut Removed) -> Result<(), Failure> {
    let mut policy =
        ReapPolicy { keep_ended: args.older_than, keep_unassigned: args.older_than, dry_run: true };
    let failed = |error| Failure::of("look through what was launched", &error);
    let due = state.launcher.reap(&policy).await.map_err(failed)?.removed;
    let sizes: Vec<(String, u64)> =
        due.iter().map(|id| (id.to_string(), size(&state.launcher.launch_dir(id)))).collect();
    let gone = if args.dry_run {
        due
    } else {
        policy.dry_run = false;
        state.launcher.reap(&policy).await.map_err(failed)?.removed
    };
    for id in gone {
        let id = id.to_string();
        removed.bytes += sizes.iter().find(|(one, _)| *one == id).map_or(0, |(_, size)| *size);
        removed.launches.push(id);
    }
    Ok(())
}

/// Checkouts of runs that the server knows to be over.
async fn checkouts(
    state: &StateDir,
    client: &Client,
    args: &GcArgs,
    removed: &mut Removed,
) -> Result<(), Failure> {
    let root = state.path.join("checkouts");
    // Nothing here runs git; the type that lists and removes checkouts wants to know where it is.
    let all = Checkouts::new(root.clone(), GitCommand::new("/usr/bin/git".into(), String::new()));
    let failed = |error| Failure::of("look through the checkouts", &error);
    for run in all.list().await.map_err(failed)? {
        let path = format!("/runs/{run}");
        let end = match client.get(&path).await {
            Ok(answer) => RunEnd::deserialize(answer).ok(),
            // A run of another database in the same directory: not ours to judge.
            Err(error) if error.refusal().is_some_and(|r| r.code == "not_found") => None,
            Err(error) => return Err(error.into()),
        };
        let over = end.filter(|end| end.status == "ended").and_then(|end| end.ended_at);
        if over.is_some_and(|at| is_old(at, args.older_than)) {
            let bytes = size(&root.join(run.to_string()));
            if !args.dry_run {
                all.remove(run).await.map_err(failed)?;
            }
            removed.bytes += bytes;
            removed.checkouts.push(run.to_string());
        }
    }
    Ok(())
}

/// Mirrors that no run used for as long as MIRROR_KEEP_DAYS says, as the server does by itself each minute; and the
/// results in the others that are as old.
async fn mirrors(
    state: &StateDir,
    client: &Client,
    args: &GcArgs,
    removed: &mut Removed,
) -> Result<(), Failure> {
    let config: Config = read("the settings", &client.get("/config").await?)?;
    let setting = config.settings.into_iter().find(|setting| setting.key == "MIRROR_KEEP_DAYS");
    let days = setting.and_then(|setting| setting.value.as_u64()).and_then(|n| n.try_into().ok());
    let Some(days) = days.filter(|days: &u32| *days > 0) else {
        return Ok(());
    };
    let keep = Duration::from_secs(24 * 3600) * days;
    let all = Mirrors::new(state.path.join("mirrors"));
    let failed = |error| Failure::of("look through the mirrors", &error);
    let (results, unused) = if args.dry_run {
        (all.old_results(keep).await, all.unused(keep).await)
    } else {
        (all.remove_results(keep).await, all.remove_unused(keep).await)
    };
    let (results, unused) = (results.map_err(failed)?, unused.map_err(failed)?);
    removed.results.extend(results.iter().map(ToString::to_string));
    for mirror in unused {
        removed.bytes += mirror.bytes;
        removed.mirrors.push(mirror.url);
    }
    Ok(())
}

fn is_old(at: Timestamp, age: Duration) -> bool {
    Duration::try_from(Timestamp::now().duration_since(at)).is_ok_and(|passed| passed >= age)
}

/// Sockets nobody listens on. One that is young may be about to be listened on.
fn sockets(directory: &Path, depth: usize, args: &GcArgs, removed: &mut Removed) -> io::Result<()> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        let kind = entry.file_type()?;
        let skipped = entry.file_name().to_str().is_some_and(|name| NO_SOCKETS.contains(&name));
        if kind.is_dir() && depth > 1 && !skipped {
            sockets(&entry.path(), depth - 1, args, removed)?;
        } else if kind.is_socket() && is_stale(&entry.path(), args.older_than)? {
            if !args.dry_run {
                std::fs::remove_file(entry.path())?;
            }
            removed.sockets.push(entry.path().to_string_lossy().into_owned());
        }
    }
    Ok(())
}

fn is_stale(path: &PathBuf, age: Duration) -> io::Result<bool> {
    let changed = std::fs::symlink_metadata(path)?.modified()?;
    let old = SystemTime::now().duration_since(changed).is_ok_and(|passed| passed >= age);
    let refused = || {
        let answer = UnixStream::connect(path);
        answer.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
    };
    Ok(old && refused())
}

/// The room that a directory takes on the disk; links of a file to elsewhere count as its own.
fn size(path: &Path) -> u64 {
    let Ok(about) = std::fs::symlink_metadata(path) else {
        return 0;
    };
    let own = about.blocks() * 512;
    if !about.is_dir() {
        return own;
    }
    let entries = std::fs::read_dir(path).into_iter().flatten();
    own + entries.filter_map(Result::ok).map(|entry| size(&entry.path())).sum::<u64>()
}

fn tell(dry_run: bool, removed: &Removed, console: &Console) -> io::Result<()> {
    let Removed { launches, checkouts, mirrors, results, sockets, records, bytes } = removed;
    console.value(&json!({
        "dry_run": dry_run, "launches": launches, "checkouts": checkouts, "mirrors": mirrors,
        "results": results, "sockets": sockets, "records": records, "freed_bytes": bytes,
    }))?;
    let verb = if dry_run { "would remove" } else { "removed" };
    let kinds = [
        ("launch", launches),
        ("checkout", checkouts),
        ("kept result of run", results),
        ("mirror of", mirrors),
        ("socket", sockets),
    ];
    for (what, list) in kinds {
        for one in list {
            console.line(format!("{verb} {what} {one}"))?;
        }
    }
    for (kind, count) in records {
        console.line(format!("{verb} {count} {kind} of the database"))?;
    }
    let freed = if dry_run { "would free" } else { "freed" };
    console.line(format!("{freed} {}", units::bytes(*bytes)))
}
