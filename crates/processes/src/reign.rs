//! One holding of the lock: takes over what the rows say, then keeps processes as they are wanted.
//!
//! This task alone changes what it knows of the processes. What takes time (a launch, an end, a look at the disk) is
//! done beside it and comes back as an event that names the generation it is about.

mod ending;
mod starting;
mod sweeping;
mod taking_over;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use core_config::{load::Loaded, settings::Settings};
use core_types::process::{ProcessName, ProcessState};
use jiff::Timestamp;
use launcher::{error::LaunchError, handle::Handle, outcome::ExitReport};
use store::{
    error::StoreError,
    processes::{ProcessRow, Saved, Wish},
    wake::Channel,
};
use telemetry::chain::error_chain;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::{
    desired::{Desired, Manner, desired, is_undecided},
    launches::Start,
    manager::Manager,
};

/// How often it looks even if nothing happens.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How often it looks whether an agent has become idle, or a launch can be looked at.
const LOOK_SOON: Duration = Duration::from_millis(500);
/// How long it waits at most before it tries again to attach to a launch that it cannot attach to.
const ATTACH_AGAIN_MAX: Duration = Duration::from_secs(30);
/// How often old launches are looked through.
const SWEEP_EVERY: Duration = Duration::from_secs(60);
/// How long it waits before it asks a database again that failed.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// Somebody else manages.
#[derive(Debug)]
pub(crate) struct NotManager;

/// What came of work that was done beside the loop.
#[derive(Debug)]
enum Done {
    /// A launch was accepted, or not.
    Launched { start: Start, result: Result<Launched, LaunchError> },
    /// A launch ended; with its last lines.
    Ended { start: Start, report: Box<ExitReport>, lines: Vec<String> },
    /// Nothing that anybody has to know.
    Nothing,
}

/// A launch that was accepted.
#[derive(Debug)]
struct Launched {
    handle: Handle,
    pid: Option<i32>,
}

/// A process of this host.
#[derive(Debug)]
struct Child {
    row: ProcessRow,
    /// The launch of this generation, once it is known.
    handle: Option<Handle>,
    /// When to try again to attach to it, and how long the wait after that is, where that failed.
    attach_again: Option<(Instant, Duration)>,
}

/// One holding of the lock.
#[derive(Debug)]
pub(crate) struct Reign {
    manager: Manager,
    epoch: i64,
    instance: String,
    children: BTreeMap<ProcessName, Child>,
    /// The highest generation of each name of which there is a launch, whatever the rows say.
    launched: BTreeMap<ProcessName, u64>,
    work: JoinSet<Done>,
}

impl Child {
    const fn new(row: ProcessRow) -> Self {
        Self { row, handle: None, attach_again: None }
    }

    const fn start(&self) -> Start {
        Start { name: self.row.name, generation: self.row.generation }
    }

    /// Whether it is stopped, and not for the restart that somebody wishes.
    fn rests(&self, wish: Wish) -> bool {
        self.row.state == ProcessState::Stopped && wish.restart_number <= self.row.restart_seen
    }

    /// Whether its launch is there and could not be looked at yet.
    fn is_astray(&self) -> bool {
        let has_launch = matches!(self.row.state, ProcessState::Running | ProcessState::Stopping);
        has_launch && self.handle.is_none()
    }

    /// How long its launch is left alone after an attempt to attach to it that failed.
    fn until_attach(&self) -> Duration {
        self.attach_again
            .map_or(Duration::ZERO, |(at, _)| at.saturating_duration_since(Instant::now()))
    }

    /// Notes that its launch cannot be attached to: each time it is left alone for twice as long.
    fn put_off_attach(&mut self) {
        let pause = self.attach_again.map_or(LOOK_SOON, |(_, pause)| pause);
        let next = (pause * 2).min(ATTACH_AGAIN_MAX);
        self.attach_again = Some((Instant::now() + pause, next));
    }
}

impl Reign {
    pub(crate) fn new(manager: Manager, epoch: i64, instance: String) -> Self {
        Self {
            manager,
            epoch,
            instance,
            children: BTreeMap::new(),
            launched: BTreeMap::new(),
            work: JoinSet::new(),
        }
    }

    /// Takes over and manages until somebody else does.
    pub(crate) async fn run(mut self) -> NotManager {
        match self.manage().await {
            Ok(never) => match never {},
            Err(over) => over,
        }
    }

    async fn manage(&mut self) -> Result<std::convert::Infallible, NotManager> {
        // Registered before the first look, so that no wish in between is missed.
        let mut wakes = self.manager.store.wakes(&[Channel::Processes]);
        let mut settings = self.manager.settings.clone();
        self.take_over().await?;
        let mut sweep_at = Instant::now();
        loop {
            let loaded = Arc::clone(&settings.borrow_and_update());
            let current = Arc::clone(&loaded.settings);
            if Instant::now() >= sweep_at {
                self.sweep(current.process_stop_grace);
                sweep_at = Instant::now() + SWEEP_EVERY;
            }
            let wishes = insist("wishes", || self.manager.store.process_wishes()).await;
            for name in ProcessName::all() {
                let wish = wishes.get(&name).copied().unwrap_or_default();
                self.reconcile(name, wish, &loaded).await?;
            }
            let wait = self.next_look();
            // Every arm is cancel-safe: `join_next` loses nothing, the others only say that it is time to look.
            tokio::select! {
                Some(done) = self.work.join_next() => self.note(done, &current).await?,
                _ = wakes.next() => {}
                Ok(()) = settings.changed() => {}
                () = sleep(wait) => {}
            }
        }
    }

    /// Brings one process a step nearer to what is wanted of it.
    async fn reconcile(
        &mut self,
        name: ProcessName,
        wish: Wish,
        loaded: &Loaded,
    ) -> Result<(), NotManager> {
        let settings = &loaded.settings;
        let is_undecided = is_undecided(name, wish.wanted, loaded);
        let wanted = match is_undecided {
            true if self.children.get(&name).is_none_or(|child| child.rests(wish)) => return Ok(()),
            true => Desired::Running,
            false => desired(name, wish.wanted, settings),
        };
        let Some(child) = self.children.get(&name) else {
            return match wanted {
                Desired::Running => self.start(name, wish, settings).await,
                Desired::Skipped | Desired::Stopped(_) => Ok(()),
            };
        };
        if child.is_astray() {
            return match child.until_attach().is_zero() {
                true => self.attach_again(name, settings).await,
                false => Ok(()),
            };
        }
        let row = &child.row;
        let restart = wish.restart_number > row.restart_seen;
        let asked = wish.start_number > row.start_seen || restart;
        match (row.state, wanted) {
            (ProcessState::Running, Desired::Running) if restart => {
                self.stop(name, "it shall be restarted", settings).await
            }
            (ProcessState::Running, Desired::Running) if asked => {
                self.note_start_asked(name, wish).await
            }
            (ProcessState::Running, Desired::Stopped(Manner::Now)) => {
                self.stop(name, "somebody asked it to stop", settings).await
            }
            (ProcessState::Running, Desired::Stopped(Manner::WhenIdle)) => {
                self.drain(name, "the settings do not want it any more", settings).await
            }
            (ProcessState::Running, Desired::Skipped) => {
                self.drain(name, "no agent runs on the host in the environment `sandbox`", settings)
                    .await
            }
            (ProcessState::Stopping, Desired::Stopped(Manner::Now)) if row.draining => {
                self.stop(name, "somebody asked it to stop", settings).await
            }
            (ProcessState::Stopping, _) if row.draining && restart => {
                self.stop(name, "it shall be restarted", settings).await
            }
            (ProcessState::Stopping, _) if row.draining => self.stop_if_idle(name, settings).await,
            (ProcessState::BackingOff, Desired::Running) if asked || is_due(row) => {
                self.start(name, wish, settings).await
            }
            (ProcessState::Failed, Desired::Running) if asked => {
                self.start(name, wish, settings).await
            }
            (ProcessState::Stopped, Desired::Running) => self.start(name, wish, settings).await,
            (
                ProcessState::BackingOff | ProcessState::Failed,
                Desired::Stopped(_) | Desired::Skipped,
            ) => self.give_up(name).await,
            _ => Ok(()),
        }
    }

    /// Takes note of something that happened beside the loop.
    async fn note(
        &mut self,
        done: Result<Done, tokio::task::JoinError>,
        settings: &Settings,
    ) -> Result<(), NotManager> {
        match done {
            Ok(Done::Launched { start, result }) => self.note_launch(start, result, settings).await,
            Ok(Done::Ended { start, report, lines }) => {
                self.note_end(start, &report, lines, settings).await
            }
            Ok(Done::Nothing) => Ok(()),
            Err(error) => {
                tracing::error!(error = %error, "work on a process did not run to its end");
                Ok(())
            }
        }
    }

    /// The child that this start is the present generation of: a late event of an older one concerns nobody.
    fn present(&mut self, start: Start) -> Option<&mut Child> {
        self.children.get_mut(&start.name).filter(|child| child.row.generation == start.generation)
    }

    fn next_look(&self) -> Duration {
        let now = Timestamp::now();
        let waits = self.children.values().filter_map(|child| {
            let until = |due: Timestamp| Duration::try_from(due.duration_since(now));
            let due = child.row.next_start.map(|due| until(due).unwrap_or(Duration::ZERO));
            let astray = child.is_astray().then(|| child.until_attach());
            due.or(astray).or(child.row.draining.then_some(LOOK_SOON))
        });
        waits.min().unwrap_or(LOOK_EVERY).min(LOOK_EVERY)
    }

    /// Writes how a child stands, however long the database takes; the lock's loss ends the waiting.
    async fn save(&mut self, name: ProcessName) -> Result<(), NotManager> {
        let Some(row) = self.children.get(&name).map(|child| child.row.clone()) else {
            return Ok(());
        };
        let epoch = self.epoch;
        match insist("row", || self.manager.store.save_process(epoch, &row)).await {
            Saved::Yes => Ok(()),
            Saved::NotManager => Err(NotManager),
        }
    }
}

/// Asks the database until it answers.
async fn insist<T, F>(what: &'static str, mut ask: impl FnMut() -> F) -> T
where
    F: Future<Output = Result<T, StoreError>>,
{
    let mut is_told = false;
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(error) => {
                if !std::mem::replace(&mut is_told, true) {
                    tracing::warn!(what, error = %error_chain(&error), "processes wait for the database");
                }
                sleep(ASK_AGAIN).await;
            }
        }
    }
}

fn is_due(row: &ProcessRow) -> bool {
    row.next_start.is_none_or(|due| due <= Timestamp::now())
}
