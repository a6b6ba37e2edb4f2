//! A resident agent: a process that stays, takes the runs handed to it one after another, and gives back what it
//! cannot finish.
//!
//! It validates run, lease and status in the moment it accepts; whatever was handed over twice or taken back
//! meanwhile is left alone.

use std::time::Duration;

use core_config::load::Loaded;
use core_types::ids::AgentId;
use store::{
    agents::{BeatReply, NewAgent},
    error::{FencedError, StoreError},
    pool::Store,
    runs::Assignment,
    wake::Channel,
};
use telemetry::chain::error_chain;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    policy::RunPolicy,
    run::{StartedRun, Workshop, work_on},
};

/// How often the agent says that it is there.
const BEAT_EVERY: Duration = Duration::from_secs(3);
/// How often it looks for work even if nobody wakes it.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Longest time to sign off at the end.
const RETIRE_WITHIN: Duration = Duration::from_secs(3);

/// A resident agent.
#[derive(Debug)]
pub struct Resident {
    /// What its runs use.
    pub shop: Workshop,
    /// Who it is.
    pub agent: NewAgent,
    /// The settings in force, read anew for each run.
    pub settings: watch::Receiver<std::sync::Arc<Loaded>>,
}

impl Resident {
    /// Serves until it is told to stop; a run that is alive then is ended and given back.
    ///
    /// # Errors
    /// [`StoreError`] where the agent could not be registered for a reason that waiting does not mend.
    pub async fn serve(self, stop: CancellationToken) -> Result<(), StoreError> {
        let id = self.agent.id;
        let beats = tokio::task::JoinSet::from_iter([keep_registered(
            self.shop.store.clone(),
            self.agent.clone(),
            stop.clone(),
        )]);
        self.take_runs(id, &stop).await;
        drop(beats);
        match timeout(RETIRE_WITHIN, self.shop.store.retire_agent(id)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::warn!(error = %error_chain(&error), "agent not signed off"),
            Err(_) => tracing::warn!("agent not signed off: the database does not answer"),
        }
        Ok(())
    }

    async fn take_runs(&self, id: AgentId, stop: &CancellationToken) {
        let mut alarm = self.shop.alarm.clone();
        let mut next_look = Instant::now();
        while !stop.is_cancelled() {
            match self.shop.store.assignment(id).await {
                Ok(Some(assignment)) => {
                    self.accept(id, assignment, stop).await;
                    continue;
                }
                Ok(None) => {}
                Err(error) => tracing::warn!(error = %error_chain(&error), "no look for work"),
            }
            next_look = (next_look + LOOK_EVERY).max(Instant::now() + LOOK_EVERY / 2);
            // Each arm is cancel-safe: they only say that it is time to look.
            tokio::select! {
                () = stop.cancelled() => {}
                Ok(()) = alarm.changed() => {}
                () = sleep_until(next_look) => {}
            }
        }
    }

    async fn accept(&self, id: AgentId, assignment: Assignment, stop: &CancellationToken) {
        let key = assignment.key;
        match self.shop.store.start_run(key, id).await {
            Ok(started) => {
                let started = StartedRun { key, task: started.task, run: started.run };
                let policy = RunPolicy::from_settings(&self.settings.borrow().settings);
                work_on(&self.shop, started, &policy, stop).await;
            }
            Err(FencedError::Fenced { .. }) => {
                tracing::info!(run.id = %key.run, "run left alone: it was taken back");
                tokio::time::sleep(LOOK_EVERY / 10).await;
            }
            Err(FencedError::Store(error)) => {
                tracing::warn!(run.id = %key.run, error = %error_chain(&error), "run not accepted yet");
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
    }
}

/// Turns the database's wake-ups for agents into an alarm that any number may watch on one connection. It rings until
/// the task it runs in ends.
pub async fn ring(store: Store, alarm: watch::Sender<u64>) {
    let mut wakes = store.wakes(&[Channel::Agents]);
    loop {
        wakes.next().await;
        alarm.send_modify(|rung| *rung = rung.wrapping_add(1));
    }
}

/// Keeps the agent's row alive; registers it again where it is missing.
async fn keep_registered(store: Store, agent: NewAgent, stop: CancellationToken) {
    let mut registered = false;
    while !stop.is_cancelled() {
        let beat = if registered {
            store.agent_beat(agent.id).await.map(|reply| registered = reply == BeatReply::Known)
        } else {
            store.register_agent(&agent).await.map(|()| {
                registered = true;
                tracing::info!(agent.id = %agent.id, agent.name = agent.name, "agent registered");
            })
        };
        if let Err(error) = &beat {
            tracing::warn!(error = %error_chain(error), "agent could not say that it is there");
        }
        let wait = if registered && beat.is_ok() { BEAT_EVERY } else { BEAT_EVERY / 6 };
        // Both arms are cancel-safe.
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}
