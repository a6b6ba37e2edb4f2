//! `down`: everything of the state directory ends, in the order in which it loses least.

use std::time::{Duration, Instant};

use client::{client::Client, error::ClientError};
use launcher::identity::ProcessIdentity;
use serde_json::json;

use super::{
    expect_this_machine, processes,
    state::{Alive, Kind, StateDir, stop},
};
use crate::{
    cli::system::DownArgs,
    code::Code,
    console::Console,
    failure::Failure,
    progress::Progress,
    server::{Wanted, announced, client_of, process},
    surroundings::Surroundings,
    units::length,
};

/// How often the processes are looked at.
const POLL: Duration = Duration::from_millis(150);
/// How long the API server may take to end; it gives requests that are under way ten seconds.
const SERVER_GRACE: Duration = Duration::from_secs(15);
/// How long a private server may take: a database writes down what it has in memory.
const PRIVATE_GRACE: Duration = Duration::from_secs(60);
/// Why all of it is ended.
const REASON: &str = "opentiger down";

/// What was ended.
#[derive(Debug, Default)]
struct Ended {
    stopped: Vec<String>,
    forced: Vec<String>,
    /// How many of those were sandboxes.
    sandboxes: usize,
    private_left: Vec<String>,
}

/// Stops openTiger.
pub(crate) async fn run(
    args: &DownArgs,
    wanted: &Wanted,
    surroundings: &Surroundings,
    console: &Console,
) -> Result<Code, Failure> {
    expect_this_machine("down", wanted, surroundings)?;
    let settings = surroundings.settings()?;
    let Some(state) = StateDir::existing(&settings.state_dir)? else {
        tell(&Ended::default(), Duration::ZERO, console)?;
        return Ok(Code::Done);
    };
    let state = state.with_sandboxes(settings.docker_host.clone())?;
    let begun = Instant::now();
    let mut ended = Ended::default();
    {
        let mut progress = Progress::new(console);
        let mut asked = false;
        let server = announced(&state.path)?;
        if let Some(file) = &server {
            expect_ours(&state, &process(file)).await?;
            let client = client_of(file, surroundings);
            asked = drain(&client, args.grace, &mut progress, console, &mut ended).await?;
        }
        end_launches(&state, args, asked, &mut progress, &mut ended).await?;
        expect_nothing_left(&state, args.now).await?;
    }
    tell(&ended, begun.elapsed(), console)?;
    Ok(Code::Done)
}

/// A server that something else started would be started again by it, or missed by it.
async fn expect_ours(state: &StateDir, server: &ProcessIdentity) -> Result<(), Failure> {
    for one in state.alive().await? {
        if one.pid().await == Some(server.pid) {
            return Ok(());
        }
    }
    let pid = server.pid;
    Err(Failure::new(
        Code::Conflict,
        format!("the API server (pid {pid}) was not started by `opentiger up`"),
    )
    .with_hint("end it where it was started: a terminal, `cargo xtask up`, a unit of systemd"))
}

/// Asks the managed processes to end and waits for them, as long as they are given. Tells whether they were asked.
async fn drain(
    client: &Client,
    grace: Duration,
    progress: &mut Progress<'_>,
    console: &Console,
    ended: &mut Ended,
) -> Result<bool, Failure> {
    let deadline = Instant::now() + grace;
    loop {
        match processes::stop_all(client).await {
            Ok(Some(())) => break,
            Ok(None) => return Ok(false),
            // It turns away who asks too much, and is there all the same.
            Err(error) if error.retry_after().is_some() && Instant::now() < deadline => {
                progress.during(&error.to_string(), rest(&error, deadline)).await;
            }
            Err(error) if error.is_transient() || processes::is_unmanaged(&error) => {
                console
                    .remark("the server cannot ask its processes to end; they are ended from here");
                return Ok(false);
            }
            Err(error) => return Err(error.into()),
        }
    }
    let mut seen: Vec<String> = Vec::new();
    loop {
        let live = match processes::list(client).await {
            Ok(list) => live(list),
            Err(error) if error.is_transient() && Instant::now() < deadline => {
                rest(&error, deadline).await;
                continue;
            }
            Err(error) if error.is_transient() => return Ok(true),
            Err(error) => return Err(error.into()),
        };
        for name in seen.iter().filter(|name| !live.contains(name)) {
            ended.stopped.push(name.clone());
        }
        if live.is_empty() {
            return Ok(true);
        }
        if Instant::now() > deadline {
            console.remark(format!("late after {}: {}", length(grace), live.join(", ")));
            return Ok(true);
        }
        progress
            .during(&format!("waiting for {}", live.join(", ")), tokio::time::sleep(POLL))
            .await;
        seen = live;
    }
}

/// Waits until the server may be asked again, or the time is up.
async fn rest(error: &ClientError, deadline: Instant) {
    let pause = error.retry_after().unwrap_or(POLL).max(POLL);
    let left = deadline.saturating_duration_since(Instant::now());
    tokio::time::sleep(pause.min(left)).await;
}

fn live(list: Option<Vec<processes::Process>>) -> Vec<String> {
    let list = list.unwrap_or_default();
    list.into_iter().filter(processes::Process::is_live).map(|process| process.name).collect()
}

/// Ends what still runs: processes that are late or have no server any more, what is left of runs, the server.
async fn end_launches(
    state: &StateDir,
    args: &DownArgs,
    asked: bool,
    progress: &mut Progress<'_>,
    ended: &mut Ended,
) -> Result<(), Failure> {
    use Kind::{ApiServer, PrivateServer, Process, Run, Sandbox, Unknown};
    // Sandboxes go after the dispatcher, which would start them again, and before their way to the database (relays,
    // which are unknown here, and the servers): their workers say that they were interrupted.
    // A manager that was not asked would start again what is ended under it, so it goes first.
    let order = if asked {
        [Process, Run, Sandbox, Unknown, ApiServer, PrivateServer]
    } else {
        [ApiServer, Process, Run, Sandbox, Unknown, PrivateServer]
    };
    for kind in order {
        let alive: Vec<Alive> =
            state.alive().await?.into_iter().filter(|one| one.kind == kind).collect();
        if alive.is_empty() {
            continue;
        }
        let names: Vec<String> = alive.iter().map(|one| one.name.clone()).collect();
        if kind == Kind::PrivateServer && !args.now {
            ended.private_left = names;
            continue;
        }
        let grace = match kind {
            // They had their time; where nobody asked them, they have it now.
            Kind::Process if asked => Duration::ZERO,
            Kind::Process | Kind::Run | Kind::Sandbox | Kind::Unknown => args.grace,
            Kind::ApiServer => SERVER_GRACE,
            Kind::PrivateServer => PRIVATE_GRACE,
        };
        let step = format!("ending {}", names.join(", "));
        progress.during(&step, stop(&alive, REASON, grace)).await;
        if kind == Kind::Sandbox {
            ended.sandboxes = names.len();
        }
        let late = kind == Kind::Process && asked;
        if late { ended.forced.extend(names) } else { ended.stopped.extend(names) }
    }
    Ok(())
}

async fn expect_nothing_left(state: &StateDir, private_too: bool) -> Result<(), Failure> {
    let left = state.alive().await?.into_iter();
    let left = left.filter(|one| private_too || one.kind != Kind::PrivateServer);
    let left: Vec<String> = left.map(|one| one.name).collect();
    if left.is_empty() {
        return Ok(());
    }
    Err(Failure::new(Code::Failed, "not everything has ended")
        .with_notes(left)
        .with_hint("somebody may be starting it again; `opentiger status` shows what runs"))
}

fn tell(ended: &Ended, took: Duration, console: &Console) -> std::io::Result<()> {
    let Ended { stopped, forced, sandboxes, private_left } = ended;
    console.value(&json!({
        "stopped": stopped, "forced": forced, "private_servers_left": private_left,
        "took_s": took.as_secs_f64(),
    }))?;
    if stopped.is_empty() && forced.is_empty() {
        console.line("openTiger does not run")?;
    } else {
        console.line(format!("stopped after {}: {}", length(took), stopped.join(", ")))?;
    }
    if !forced.is_empty() {
        console.line(format!("ended by force: {}", forced.join(", ")))?;
    }
    if *sandboxes > 0 {
        console.line(
            "the runs of these sandboxes stay open until the next start (`opentiger up`), which collects what they left",
        )?;
    }
    if !private_left.is_empty() {
        console.line(format!(
            "{} ends by itself, a minute after its last use; `opentiger down --now` ends it at once",
            private_left.join(", ")
        ))?;
    }
    Ok(())
}
