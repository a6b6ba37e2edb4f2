//! The programs of one start: launched under a lease, watched, told about when they end, and stopped in reverse order.
//!
//! Whoever started them renews the leases. If it is killed, nothing of what it started lives longer than the lease.

use std::{
    fs::DirBuilder,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use embedded::postgres::EmbeddedPostgres;
use futures_util::{StreamExt as _, future::select_all};
use jiff::Timestamp;
use launcher::{
    handle::{Destroy, Handle, LaunchState, StopRequest},
    id::LaunchId,
    launcher::Launcher as _,
    outcome::{ExitReport, StopCause},
    output::{LogContent, LogCursor},
    process::ProcessLauncher,
    spec::{Input, LaunchSpec, SecretValue, StopPolicy},
};
use tokio::task::JoinSet;

use crate::{
    console::{error_line, line},
    leftovers,
    services::Service,
};

/// How long the programs live when nobody renews their leases.
const LEASE: Duration = Duration::from_secs(30);
/// How often leases are renewed.
const RENEWAL: Duration = Duration::from_secs(8);
/// How long a program may take to end when asked.
const GRACE: Duration = Duration::from_secs(20);
/// How long ending everything by force may take.
const FORCED_LIMIT: Duration = Duration::from_secs(5);
/// Which start a launch belongs to.
const LABEL: &str = "opentiger.up";
/// How many of a program's last lines are shown.
const TAIL_LINES: usize = 20;
/// How long to read a program's output before taking it for read.
const READ_LIMIT: Duration = Duration::from_millis(500);
/// How long the last processes may take to disappear.
const SETTLE: Duration = Duration::from_secs(5);

/// Whose a state directory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ownership {
    /// This command's alone: everything in it ends with the command.
    Alone,
    /// Other programs may use it, and the private Postgres in it, at the same time.
    Shared,
}

/// Programs that were started together.
#[derive(Debug)]
pub(crate) struct Stack {
    launcher: ProcessLauncher,
    state_dir: PathBuf,
    ownership: Ownership,
    /// Tells this start's launches from those of others in the same directory.
    id: String,
    started: Vec<Started>,
    postgres: Option<EmbeddedPostgres>,
    renewals: JoinSet<()>,
}

#[derive(Debug, Clone)]
struct Started {
    name: String,
    handle: Handle,
}

impl Stack {
    /// An empty stack whose programs are launched in `state_dir`.
    pub(crate) fn new(state_dir: &Path, ownership: Ownership) -> Result<Self> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o711)
            .create(state_dir)
            .with_context(|| format!("make `{}`", state_dir.display()))?;
        let launcher =
            ProcessLauncher::new(state_dir.to_owned()).context("open the state directory")?;
        let id = format!("up-{}-{}", std::process::id(), Timestamp::now().as_millisecond());
        Ok(Self {
            launcher,
            state_dir: state_dir.to_owned(),
            ownership,
            id,
            started: Vec::new(),
            postgres: None,
            renewals: JoinSet::new(),
        })
    }

    /// The launcher, for servers that keep themselves alive.
    #[must_use]
    pub(crate) const fn launcher(&self) -> &ProcessLauncher {
        &self.launcher
    }

    /// Starts a program and keeps its lease.
    pub(crate) async fn start(&mut self, service: &Service) -> Result<Handle> {
        let id: LaunchId = format!("{}.{}", self.id, service.name).parse()?;
        let launched = self
            .launcher
            .launch(&id, &self.spec(service), input(service))
            .await
            .with_context(|| format!("start `{}`", service.name))?;
        let handle = launched.into_handle();
        self.renewals.spawn(keep_lease(handle.clone()));
        self.started.push(Started { name: service.name.clone(), handle: handle.clone() });
        Ok(handle)
    }

    /// Keeps a private Postgres alive for as long as this stack is, and ends it with the rest where it is ours alone.
    pub(crate) fn keep_alive(&mut self, postgres: &EmbeddedPostgres) {
        let kept = postgres.clone();
        self.renewals.spawn(async move {
            let Err(error) = kept.keep_alive().await;
            error_line(format!("the private Postgres is lost: {error}"));
        });
        self.postgres = Some(postgres.clone());
    }

    fn spec(&self, service: &Service) -> LaunchSpec {
        let Service { name, program, args, environment } = service;
        let mut spec = LaunchSpec::new(program, &self.state_dir);
        spec.args.clone_from(args);
        spec.env.clone_from(&environment.plain);
        spec.stop = StopPolicy { grace: GRACE, ..StopPolicy::default() };
        spec.lease = Some(LEASE);
        spec.labels = [(LABEL, &self.id), ("opentiger.service", name)]
            .map(|(label, value)| (label.to_owned(), value.clone()))
            .into();
        spec
    }

    /// Waits for something while the programs run; one that ends meanwhile is an error with its last lines.
    pub(crate) async fn guard<T>(&self, wanted: impl Future<Output = Result<T>>) -> Result<T> {
        // Both arms only wait and read: whichever loses can be dropped.
        tokio::select! {
            result = wanted => result,
            end = self.first_end() => {
                let (name, report) = end;
                let tail = self.tail_text(&name).await;
                bail!("`{name}` ended by itself: {report}; its last lines:\n{tail}")
            }
        }
    }

    async fn first_end(&self) -> (String, String) {
        if self.started.is_empty() {
            return std::future::pending().await;
        }
        let ends = self.started.iter().map(|one| Box::pin(one.handle.exited()));
        let (report, index, _) = select_all(ends).await;
        let name = self.started.get(index).map_or_else(String::new, |one| one.name.clone());
        (name, describe(&report))
    }

    /// The last lines of a program's output, indented.
    pub(crate) async fn tail_text(&self, name: &str) -> String {
        let Some(one) = self.started.iter().find(|one| one.name == name) else {
            return String::new();
        };
        let text = output_so_far(&one.handle).await;
        let lines: Vec<&str> = text.lines().collect();
        let skipped = lines.len().saturating_sub(TAIL_LINES);
        let shown: Vec<String> =
            lines.iter().skip(skipped).map(|one| format!("    {one}")).collect();
        shown.join("\n")
    }

    /// Waits until a program has written a line that `wanted` takes something from.
    pub(crate) async fn wait_for_line<T>(
        &self,
        name: &str,
        wanted: impl Fn(&str) -> Option<T>,
    ) -> Result<T> {
        let one = self.started.iter().find(|one| one.name == name);
        let handle = &one.with_context(|| format!("find `{name}`"))?.handle;
        let mut chunks = Box::pin(handle.logs(LogCursor::START));
        let mut text = String::new();
        while let Some(chunk) = chunks.next().await {
            if let LogContent::Output { stream: _, data } = chunk?.content {
                text.push_str(&String::from_utf8_lossy(&data));
            }
            if let Some(found) = text.lines().find_map(&wanted) {
                return Ok(found);
            }
        }
        bail!("`{name}` ended without saying so")
    }

    /// The id of a program's process.
    pub(crate) async fn pid(&self, name: &str) -> Result<i32> {
        let one = self.started.iter().find(|one| one.name == name);
        let stats = one.with_context(|| format!("find `{name}`"))?.handle.stats().await?;
        stats.leader_pid.with_context(|| format!("find the process of `{name}`"))
    }

    /// Stops everything, the last started first, each within its grace; `hurry` takes the grace away.
    pub(crate) async fn stop(&mut self, hurry: impl Future<Output = ()>) {
        // The list is kept until every program has ended: ending one is idempotent, so a dropped arm loses nothing.
        let hurried = tokio::select! {
            () = self.stop_in_order(GRACE) => false,
            () = hurry => true,
        };
        if hurried {
            let forced = self.stop_in_order(Duration::ZERO);
            if tokio::time::timeout(FORCED_LIMIT, forced).await.is_err() {
                let lease = LEASE.as_secs();
                error_line(format!("not everything ended; what is left ends within {lease} s"));
            }
        }
        self.renewals.shutdown().await;
        self.started.clear();
        if let (Some(postgres), Ownership::Alone) = (self.postgres.take(), self.ownership) {
            postgres.stop("the system is stopped").await;
        }
        if self.ownership == Ownership::Alone {
            self.stop_private_servers().await;
        }
    }

    /// Ends what the programs started for themselves: servers, and relays for sandboxes. Where that fails they end by
    /// their leases.
    async fn stop_private_servers(&self) {
        for found in self.launcher.discover().await.unwrap_or_default() {
            let is_server =
                found.labels.get("opentiger.part").is_some_and(|part| part == "embedded");
            let is_relay = found.labels.contains_key("opentiger.relay");
            if !(is_server || is_relay) || matches!(found.state, LaunchState::Ended(_)) {
                continue;
            }
            if let Ok(handle) = self.launcher.attach(&found.record).await {
                handle.stop(StopRequest::new("the system is stopped", GRACE)).await;
            }
        }
    }

    /// Removes what the launches of earlier starts left on disk.
    pub(crate) async fn clear_earlier(&self) -> Result<()> {
        for found in self.launcher.discover().await.context("list earlier launches")? {
            if !found.labels.contains_key(LABEL) || !matches!(found.state, LaunchState::Ended(_)) {
                continue;
            }
            if let Ok(handle) = self.launcher.attach(&found.record).await {
                handle.destroy(Destroy::Everything).await.context("remove an earlier launch")?;
            }
        }
        Ok(())
    }

    async fn stop_in_order(&self, grace: Duration) {
        for one in self.started.iter().rev() {
            let report = one.handle.stop(StopRequest::new("the system is stopped", grace)).await;
            if grace > Duration::ZERO {
                line(format!("  stopped {:<20} {}", one.name, describe(&report)));
            }
        }
    }

    /// Makes sure that no process of a state directory of our own is alive, waiting a little for those that are ending.
    pub(crate) async fn expect_nothing_left(&self) -> Result<()> {
        if self.ownership == Ownership::Shared {
            return Ok(());
        }
        let deadline = Instant::now() + SETTLE;
        loop {
            let left = leftovers::processes_of(&self.state_dir);
            if left.is_empty() {
                return Ok(());
            }
            if Instant::now() > deadline {
                let list: Vec<String> =
                    left.iter().map(|one| format!("  {} {}", one.pid, one.command)).collect();
                bail!("processes are left behind:\n{}", list.join("\n"));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

async fn keep_lease(handle: Handle) {
    // Ends with the launch: there is nothing left to renew then.
    loop {
        tokio::time::sleep(RENEWAL).await;
        if handle.renew().await.is_err() {
            return;
        }
    }
}

fn input(service: &Service) -> Input {
    let secrets = service.environment.secret.iter();
    let secret_env = secrets.map(|(name, value)| (name.clone(), SecretValue::new(value.expose())));
    Input { secret_env: secret_env.collect(), ..Input::default() }
}

/// What a program has written so far. A live one is read for a moment only.
async fn output_so_far(handle: &Handle) -> String {
    let mut chunks = handle.logs(LogCursor::START);
    let mut bytes = Vec::new();
    while let Ok(Some(Ok(chunk))) = tokio::time::timeout(READ_LIMIT, chunks.next()).await {
        if let LogContent::Output { stream: _, data } = chunk.content {
            bytes.extend_from_slice(&data);
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// How a program ended, in one line.
fn describe(report: &ExitReport) -> String {
    let cause = match &report.cause {
        None => "",
        Some(StopCause::Requested { .. }) => ", as asked",
        Some(StopCause::WallTime) => ", out of time",
        Some(StopCause::LeaseExpired) => ", its lease was not renewed",
        Some(StopCause::EngineOrOperator { .. }) => ", asked by somebody else",
    };
    let leftovers = match report.leftovers_killed {
        0 => String::new(),
        count => format!(", {count} processes it left were ended"),
    };
    format!("{}{cause}{leftovers}", report.outcome)
}
