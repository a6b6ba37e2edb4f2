//! A resident agent: a process that stays, takes the runs handed to it one after another, and gives back what it
//! cannot finish.
//!
//! It validates run, lease and status in the moment it accepts; whatever was handed over twice or taken back
//! meanwhile is left alone.

use std::time::Duration;

use core_config::load::Loaded;
use store::{
    agents::{BeatReply, NewAgent},
    error::FencedError,
    pool::Store,
    runs::Assignment,
    wake::Channel,
};
use telemetry::chain::error_chain;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    patience::Patience,
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
    pub async fn serve(self, stop: CancellationToken) {
        // The agent signs off before it gives its run back, lest the same run is handed to it again.
        let signed_off = CancellationToken::new();
        let mut presence = JoinSet::from_iter([be_present(
            self.shop.store.clone(),
            self.agent.clone(),
            stop.clone(),
            signed_off.clone(),
        )]);
        self.take_runs(&stop, &signed_off).await;
        while presence.join_next().await.is_some() {}
    }

    /// Takes runs until `stop`; the run that is alive then ends with `end_run`.
    async fn take_runs(&self, stop: &CancellationToken, end_run: &CancellationToken) {
        let mut alarm = self.shop.alarm.clone();
        while !stop.is_cancelled() {
            let looked = stop.run_until_cancelled(self.shop.store.assignment(self.agent.id)).await;
            match looked {
                None => return,
                Some(Ok(Some(assignment))) => {
                    self.accept(assignment, stop, end_run).await;
                    continue;
                }
                Some(Ok(None)) => {}
                Some(Err(error)) => {
                    tracing::debug!(error = %error_chain(&error), "no look for work")
                }
            }
            // Each arm is cancel-safe: they only say that it is time to look.
            tokio::select! {
                () = stop.cancelled() => {}
                Ok(()) = alarm.changed() => {}
                () = sleep(LOOK_EVERY) => {}
            }
        }
    }

    /// Starts a run and works on it. Starting it twice is fine, so an answer that was lost is asked for again.
    async fn accept(
        &self,
        assignment: Assignment,
        stop: &CancellationToken,
        end_run: &CancellationToken,
    ) {
        let key = assignment.key;
        // Also while the worker stops: a start whose answer was lost would look like a death.
        let mut patience = Patience::new(stop);
        loop {
            match self.shop.store.start_run(key, self.agent.id).await {
                Ok(started) => {
                    let started = StartedRun { key, task: started.task, run: started.run };
                    let policy = RunPolicy::from_settings(&self.settings.borrow());
                    return work_on(&self.shop, started, &policy, end_run).await;
                }
                Err(FencedError::Store(error)) if error.is_transient() => {
                    patience.note("run not accepted yet", &error);
                    if !patience.pause(LOOK_EVERY / 4).await {
                        return;
                    }
                }
                Err(error) => {
                    tracing::info!(run.id = %key.run, error = %error_chain(&error), "run left alone");
                    stop.run_until_cancelled(sleep(LOOK_EVERY / 10)).await;
                    return;
                }
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

/// Keeps the agent's row alive until `stop`, then signs it off and says so.
async fn be_present(
    store: Store,
    agent: NewAgent,
    stop: CancellationToken,
    signed_off: CancellationToken,
) {
    let mut registered = false;
    let mut failing = false;
    while !stop.is_cancelled() {
        let beat = if registered {
            store.agent_beat(agent.id).await.map(|reply| registered = reply == BeatReply::Known)
        } else {
            store.register_agent(&agent).await.map(|()| {
                registered = true;
                tracing::info!(agent.id = %agent.id, agent.name = agent.name, "agent registered");
            })
        };
        if let Err(error) = &beat
            && !failing
        {
            tracing::warn!(error = %error_chain(error), "agent could not say that it is there");
        }
        failing = beat.is_err();
        let wait = if registered && !failing { BEAT_EVERY } else { BEAT_EVERY / 6 };
        stop.run_until_cancelled(sleep(wait)).await;
    }
    match timeout(RETIRE_WITHIN, store.retire_agent(agent.id)).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::warn!(error = %error_chain(&error), "agent not signed off"),
        Err(_) => tracing::warn!("agent not signed off: the database does not answer"),
    }
    signed_off.cancel();
}
