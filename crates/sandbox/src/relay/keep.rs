//! Relays as launches: found by their label, started where none runs, kept alive by renewing their lease.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use launcher::{
    handle::{Destroy, Handle, LaunchState, StopRequest},
    id::LaunchId,
    launcher::{Discovered, Launcher},
    outcome::Outcome,
    spec::{Input, LaunchSpec},
};
use sha2::{Digest as _, Sha256};
use telemetry::chain::error_chain;
use tokio::time::{Instant, sleep};

use super::{
    Relay, RelayError,
    clients::Clients,
    listeners::Listeners,
    serve::{may_listen, per_client},
};

/// How long a relay lives that nobody renews. It has to be renewed more often than that while containers live.
pub const LEASE: Duration = Duration::from_secs(60);
/// The label that a relay is found by; its value is `network address`.
pub const LABEL: &str = "opentiger.relay";
/// The longest wait for a relay to listen.
const PATIENCE: Duration = Duration::from_secs(10);
const LOOKS: Duration = Duration::from_millis(10);
/// How long a relay that failed as soon as it was started is not started again. Until then its launch stays, as the
/// evidence of why.
const AGAIN: SignedDuration = SignedDuration::from_secs(30);

/// What it takes to start a relay.
#[derive(Debug, Clone)]
pub struct Relays {
    /// The program `worker` of this host.
    pub worker: PathBuf,
    /// The state directory.
    pub state_dir: PathBuf,
}

impl Relays {
    /// Makes every relay of a plan run and renews its lease; gives their handles. Calls at the same time, by several
    /// dispatchers too, end in one relay for each address.
    ///
    /// However often it is called, a relay that cannot run leaves one ended launch at most.
    ///
    /// # Errors
    /// [`RelayError::AddressTaken`] where somebody else listens there, [`RelayError::Listen`] where nobody may; else why a
    /// relay could not be started.
    pub async fn ensure(
        &self,
        launcher: &dyn Launcher,
        plan: &[Relay],
    ) -> Result<Vec<Handle>, RelayError> {
        let found = launcher.discover().await.map_err(RelayError::Discover)?;
        let mut handles = Vec::with_capacity(plan.len());
        for relay in plan {
            handles.push(match running(launcher, relay, &found).await {
                Some(handle) => handle,
                None => match self.start(launcher, relay, &found).await {
                    Ok(handle) => handle,
                    // What is in its way may be the same relay, which another dispatcher has just started.
                    Err(error) => match launcher.discover().await {
                        Ok(found) => running(launcher, relay, &found).await.ok_or(error)?,
                        Err(_) => return Err(error),
                    },
                },
            });
        }
        Ok(handles)
    }

    /// Renews every relay that serves a container, those of networks and targets that settings no longer name among them:
    /// runs in flight finish where they are. Others end by their lease.
    ///
    /// # Errors
    /// [`RelayError::Discover`].
    pub async fn renew_used(&self, launcher: &dyn Launcher) -> Result<(), RelayError> {
        let found = launcher.discover().await.map_err(RelayError::Discover)?;
        let running = found.iter().filter(|launch| !matches!(launch.state, LaunchState::Ended(_)));
        for launch in running {
            let network = launch.labels.get(LABEL).and_then(|label| label.split(' ').next());
            let clients = network.map(|name| Clients::of_network(&self.state_dir, name));
            let serves = clients.and_then(|clients| clients.entries().ok());
            if serves.is_some_and(|entries| !entries.is_empty())
                && let Ok(handle) = launcher.attach(&launch.record).await
                && let Err(error) = handle.renew().await
            {
                tracing::debug!(launch.id = %launch.id, error = %error_chain(&error), "relay not renewed");
            }
        }
        Ok(())
    }

    /// Starts a relay, unless it is known that it would fail.
    async fn start(
        &self,
        launcher: &dyn Launcher,
        relay: &Relay,
        found: &[Discovered],
    ) -> Result<Handle, RelayError> {
        if let Err(taken @ RelayError::AddressTaken { .. }) = may_listen(relay.listen) {
            return Err(taken);
        }
        let ended = ended(relay, found);
        if let Some(failed) = ended.iter().find(|launch| has_just_failed(launch))
            && let Ok(handle) = launcher.attach(&failed.record).await
        {
            return Err(cause(relay.listen, &handle).await);
        }
        let started = self.launch(launcher, relay, next(relay, found)).await;
        for launch in ended {
            if let Ok(handle) = launcher.attach(&launch.record).await {
                remove(&handle).await;
            }
        }
        started
    }

    async fn launch(
        &self,
        launcher: &dyn Launcher,
        relay: &Relay,
        id: LaunchId,
    ) -> Result<Handle, RelayError> {
        let address = relay.listen;
        let launched = match launcher.launch(&id, &self.spec(relay), Input::default()).await {
            Ok(launched) => launched,
            Err(source) => {
                remove_by_id(launcher, &id).await;
                return Err(RelayError::Launch { address, source: Box::new(source) });
            }
        };
        let handle = launched.into_handle();
        let until = Instant::now() + PATIENCE;
        loop {
            if matches!(*handle.state().borrow(), LaunchState::Ended(_)) {
                let cause = cause(address, &handle).await;
                if matches!(cause, RelayError::AddressTaken { .. }) {
                    remove(&handle).await;
                }
                return Err(cause);
            }
            if is_served(&handle, address).await {
                return Ok(handle);
            }
            if Instant::now() >= until {
                handle.stop(StopRequest::new("it does not listen", Duration::ZERO)).await;
                remove(&handle).await;
                return Err(RelayError::Silent { address });
            }
            sleep(LOOKS).await;
        }
    }

    /// The command of a relay.
    #[must_use]
    pub fn spec(&self, relay: &Relay) -> LaunchSpec {
        let clients = Clients::of_network(&self.state_dir, &relay.network);
        let mut spec = LaunchSpec::new(&self.worker, "/");
        spec.args = vec!["relay".to_owned(), format!("--listen={}", relay.listen)];
        spec.args.extend(relay.targets.iter().map(|target| format!("--to={target}")));
        spec.args.push(format!("--clients={}", clients.directory().display()));
        spec.args.push(format!("--per-client={}", per_client(relay.service)));
        spec.labels = BTreeMap::from([(LABEL.to_owned(), label(relay))]);
        spec.lease = Some(LEASE);
        spec.output.head_bytes = 1 << 20;
        spec.output.tail_bytes = 1 << 20;
        spec
    }
}

/// Where the clients of a network's relays are told.
#[must_use]
pub fn clients(state_dir: &Path, relay: &Relay) -> Clients {
    Clients::of_network(state_dir, &relay.network)
}

/// A relay of another plan for the same address would lead elsewhere, so the targets belong to the name.
fn label(relay: &Relay) -> String {
    let targets: Vec<String> = relay.targets.iter().map(SocketAddr::to_string).collect();
    format!("{} {} {}", relay.network, relay.listen, targets.join(" "))
}

async fn running(launcher: &dyn Launcher, relay: &Relay, found: &[Discovered]) -> Option<Handle> {
    let label = label(relay);
    let ours = found.iter().filter(|launch| launch.labels.get(LABEL) == Some(&label));
    for launch in ours.filter(|launch| !matches!(launch.state, LaunchState::Ended(_))) {
        let Ok(handle) = launcher.attach(&launch.record).await else { continue };
        if handle.renew().await.is_ok() && is_served(&handle, relay.listen).await {
            return Some(handle);
        }
    }
    None
}

/// The ended launches of a relay.
fn ended<'a>(relay: &Relay, found: &'a [Discovered]) -> Vec<&'a Discovered> {
    let label = label(relay);
    let ours = found.iter().filter(|launch| launch.labels.get(LABEL) == Some(&label));
    ours.filter(|launch| matches!(launch.state, LaunchState::Ended(_))).collect()
}

/// Whether it gave up by itself, and so lately that the next one would as well.
fn has_just_failed(launch: &Discovered) -> bool {
    let LaunchState::Ended(exit) = &launch.state else { return false };
    let gave_up = matches!(exit.outcome, Outcome::Exited(code) if code != 0);
    let age = Timestamp::now().duration_since(exit.ended_at);
    // A clock that was set back makes it no younger.
    gave_up && exit.cause.is_none() && (SignedDuration::ZERO..AGAIN).contains(&age)
}

/// Why a relay ended by itself: mostly because of its address, and then that is still to be seen.
async fn cause(address: SocketAddr, ended: &Handle) -> RelayError {
    match may_listen(address) {
        Err(error) => error,
        Ok(()) => RelayError::Ended { address, said: ended.last_words().await },
    }
}

async fn remove(ended: &Handle) {
    if let Err(error) = ended.destroy(Destroy::Everything).await {
        tracing::warn!(launch.id = %ended.id(), error = %error_chain(&error), "ended relay not removed");
    }
}

/// Removes what a launch that failed has left, where there is something.
async fn remove_by_id(launcher: &dyn Launcher, id: &LaunchId) {
    let found = launcher.discover().await.unwrap_or_default();
    let Some(left) = found.iter().find(|launch| launch.id == *id) else { return };
    if matches!(left.state, LaunchState::Ended(_))
        && let Ok(handle) = launcher.attach(&left.record).await
    {
        remove(&handle).await;
    }
}

/// A launch id is used once, so each start of a relay has a number; two that start it at the same time take the same.
fn next(relay: &Relay, found: &[Discovered]) -> LaunchId {
    let digest = Sha256::digest(label(relay).as_bytes());
    let digest: String = digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    let prefix = format!("relay-{}-{digest}-", relay.listen.port());
    let numbers =
        found.iter().filter_map(|launch| launch.id.as_str().strip_prefix(&prefix)?.parse().ok());
    let number = numbers.max().unwrap_or(0_u32).saturating_add(1);
    format!("{prefix}{number}")
        .parse()
        .expect("letters, digits and dashes, beginning with a letter")
}

/// Whether it is this launch that listens on the address, not somebody else who took it.
async fn is_served(handle: &Handle, address: SocketAddr) -> bool {
    let Some(pid) = handle.stats().await.ok().and_then(|stats| stats.leader_pid) else {
        return false;
    };
    let listeners = Listeners::read().unwrap_or_default();
    let holder = listeners.holder(address).and_then(|holder| holder.process);
    holder.is_some_and(|holder| i32::try_from(holder) == Ok(pid))
}
