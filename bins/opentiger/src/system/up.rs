//! `up`: from nothing to ready, or the reason why not.

use std::time::{Duration, Instant};

use client::{client::Client, error::ClientError};
use core_config::settings::ProcessManager;
use launcher::{
    handle::{Handle, LaunchState},
    outcome::ExitReport,
};
use serde_json::json;

use super::{api_server, expect_this_machine, processes, state::StateDir};
use crate::{
    cli::system::UpArgs,
    code::Code,
    console::{Console, Style},
    failure::Failure,
    progress::Progress,
    server::{Wanted, announced, client_of},
    surroundings::Surroundings,
    units::length,
};

/// How often the server is asked.
const POLL: Duration = Duration::from_millis(100);

/// Starts openTiger and waits until it is ready.
pub(crate) async fn run(
    args: &UpArgs,
    wanted: &Wanted,
    surroundings: &Surroundings,
    console: &Console,
) -> Result<Code, Failure> {
    expect_this_machine("up", wanted, surroundings)?;
    let begun = Instant::now();
    // Dropping the start half way is fine: what it launched goes on without it.
    let (start, client) = tokio::select! {
        started = start(args, surroundings, console) => started?,
        pressed = tokio::signal::ctrl_c() => {
            pressed.map_err(|error| Failure::of("listen for Ctrl-C", &error))?;
            return Err(Failure::new(Code::Interrupted, "no longer waited for; what was started goes on")
                .with_hint("`opentiger status` shows it, `opentiger down` ends it"));
        }
    };
    tell(&start, &client, surroundings, begun.elapsed(), console).await?;
    Ok(Code::Done)
}

/// Where the server came from.
#[derive(Debug)]
enum Origin {
    /// It ran already.
    Found,
    /// It is ours: its end is seen.
    Launched(Handle),
}

async fn start(
    args: &UpArgs,
    surroundings: &Surroundings,
    console: &Console,
) -> Result<(Origin, Client), Failure> {
    let settings = surroundings.settings()?;
    let mut progress = Progress::new(console);
    let deadline = Instant::now() + args.timeout;
    let origin = match announced(&settings.state_dir)? {
        Some(_) => Origin::Found,
        None => {
            let state = StateDir::made(&settings.state_dir)?;
            progress.step("starting the API server and what it needs");
            Origin::Launched(api_server::start(&state, surroundings).await?)
        }
    };
    let mut waiting = Waiting {
        origin: &origin,
        // Where no manager is wanted, somebody else starts and stops processes.
        asked_to_start: settings.process_manager == ProcessManager::Off,
        missing: Vec::new(),
    };
    loop {
        waiting.expect_alive(&settings.state_dir).await?;
        let client = announced(&settings.state_dir)?.map(|file| client_of(&file, surroundings));
        let pause = match client {
            None => POLL,
            Some(client) => match waiting.look(&client).await? {
                Look::Ready => return Ok((origin, client)),
                Look::Again(pause) => pause,
            },
        };
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(waiting.late(args.timeout));
        }
        progress.during(&waiting.step(), tokio::time::sleep(pause.min(left))).await;
    }
}

/// What is known while the system is not ready.
struct Waiting<'a> {
    origin: &'a Origin,
    asked_to_start: bool,
    missing: Vec<String>,
}

impl Waiting<'_> {
    /// A server that ended will not be ready.
    async fn expect_alive(&self, state_dir: &std::path::Path) -> Result<(), Failure> {
        match self.origin {
            Origin::Launched(handle) => match exit(handle) {
                Some(report) => Err(api_server::ended(handle, &report).await),
                None => Ok(()),
            },
            Origin::Found if announced(state_dir)?.is_none() => {
                Err(Failure::new(Code::Failed, "the API server that was running has ended")
                    .with_hint("`opentiger up` starts another one"))
            }
            Origin::Found => Ok(()),
        }
    }

    /// Whether it is ready; what is missing is kept.
    async fn look(&mut self, client: &Client) -> Result<Look, Failure> {
        let readiness = match client.readiness().await {
            Ok(readiness) => readiness,
            // It listens and does not answer yet, or not any more, or turns away who asks too much: the next look tells.
            Err(error) => {
                let again = Look::after(&error);
                self.missing =
                    error.refusal().map(|refusal| refusal.error.clone()).into_iter().collect();
                return again.ok_or_else(|| error.into());
            }
        };
        self.missing = readiness.missing().map(|check| check.message.clone()).collect();
        if !self.asked_to_start && self.wants_processes(readiness.ready) {
            return self.start_all(client).await;
        }
        if readiness.ready { are_settled(client).await } else { Ok(Look::Again(POLL)) }
    }

    /// An earlier `down` wanted no process to run, and that is still on record. One that runs already is left as it is.
    fn wants_processes(&self, ready: bool) -> bool {
        matches!(self.origin, Origin::Launched(_)) || !ready
    }

    async fn start_all(&mut self, client: &Client) -> Result<Look, Failure> {
        match processes::start_all(client).await {
            Ok(Some(()) | None) => {
                self.asked_to_start = true;
                Ok(Look::Again(POLL))
            }
            // Nobody manages processes yet: the next look asks again.
            Err(error) if processes::is_unmanaged(&error) => Ok(Look::Again(POLL)),
            Err(error) => Look::after(&error).ok_or_else(|| error.into()),
        }
    }

    fn step(&self) -> String {
        match self.missing.first() {
            None => "waiting for the API server".to_owned(),
            Some(first) => format!("not ready yet: {first}"),
        }
    }

    fn late(&self, after: Duration) -> Failure {
        Failure::new(Code::Failed, format!("not ready after {}", length(after)))
            .with_notes(self.missing.iter().cloned())
            .with_hint("it goes on trying: `opentiger status` shows how it stands, `opentiger down` ends it")
    }
}

/// What a look at the server gives.
#[derive(Debug)]
enum Look {
    /// The system is ready.
    Ready,
    /// It is not yet; when to look again.
    Again(Duration),
}

impl Look {
    /// What follows an error that may pass: it is asked again, but not before the server wants to be.
    fn after(error: &ClientError) -> Option<Self> {
        error.is_transient().then(|| Self::Again(error.retry_after().unwrap_or(POLL).max(POLL)))
    }
}

/// Those of an earlier start count as alive for a while after a sudden end.
async fn are_settled(client: &Client) -> Result<Look, Failure> {
    match processes::list(client).await {
        Ok(list) => {
            let settled = processes::are_settled(&list.unwrap_or_default());
            Ok(if settled { Look::Ready } else { Look::Again(POLL) })
        }
        Err(error) => Look::after(&error).ok_or_else(|| error.into()),
    }
}

fn exit(handle: &Handle) -> Option<ExitReport> {
    match &*handle.state().borrow() {
        LaunchState::Ended(report) => Some(report.clone()),
        LaunchState::Created | LaunchState::Running { .. } | LaunchState::Stopping { .. } => None,
    }
}

async fn tell(
    origin: &Origin,
    client: &Client,
    surroundings: &Surroundings,
    took: Duration,
    console: &Console,
) -> Result<(), Failure> {
    let settings = surroundings.settings()?;
    let found = matches!(origin, Origin::Found);
    let database = if settings.database_url.is_some() { "configured" } else { "private" };
    let running: Vec<String> = match processes::list(client).await {
        Ok(list) => list
            .unwrap_or_default()
            .iter()
            .filter(|one| one.is_live())
            .map(|one| one.name.clone())
            .collect(),
        // It is ready, which is what was asked; the list is an extra.
        Err(_) => Vec::new(),
    };
    console.value(&json!({
        "ready": true, "already_running": found, "api": client.base().as_str(),
        "state_dir": settings.state_dir, "database": database, "processes": running,
        "took_s": took.as_secs_f64(),
    }))?;
    let verb = if found { "runs already and is ready" } else { "is ready" };
    console.parts(&[
        (Style::Green, "openTiger "),
        (Style::Green, verb),
        (Style::Plain, &format!(" after {}", length(took))),
    ])?;
    console.line(format!("  API        {}", client.base().as_str()))?;
    console.line(format!("  state      {}", settings.state_dir.display()))?;
    console.line(format!("  database   {database}"))?;
    if !running.is_empty() {
        console.line(format!("  processes  {}", running.join(", ")))?;
    }
    console.line("next:")?;
    console.line("  opentiger task add \"…\" --verify \"…\" --follow")?;
    console.line("  opentiger status")?;
    console.line("  opentiger down")?;
    Ok(())
}
