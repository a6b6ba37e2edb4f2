//! An agent of a test: takes tasks and does with them what the test says.

use std::time::Duration;

use core_types::{
    event::{NumberedEvent, RunEvent},
    ids::{AgentId, RunKey},
    outcome::{RunOutcome, RunReport},
    task::Role,
    usage::{SpendLimits, Usage},
};
use store::{
    agents::{HostId, NewAgent, ProcessIdentity},
    dispatch::claim::ClaimRequest,
    pool::Store,
};

/// An agent that is registered.
pub(crate) struct TestAgent {
    store: Store,
    pub(crate) id: AgentId,
}

impl TestAgent {
    pub(crate) async fn register(store: &Store) -> Self {
        let id = AgentId::generate();
        let agent = NewAgent {
            id,
            name: "worker-1".to_owned(),
            role: Role::Worker,
            host: HostId::new("here"),
            process: ProcessIdentity { pid: 1, start_ticks: 1, boot_id: "boot".to_owned() },
            version: "0.1.0".to_owned(),
        };
        store.register_agent(&agent).await.expect("the database answers");
        Self { store: store.clone(), id }
    }

    /// Takes the next task and starts its run.
    pub(crate) async fn start_next(&self) -> RunKey {
        let request = ClaimRequest {
            limit: 1,
            lease: Duration::from_secs(30),
            max_running: 8,
            spend: SpendLimits::default(),
            default_provider: core_types::provider::Provider::default(),
        };
        let claimed = self.store.claim_host_runs(request).await.expect("the database answers");
        let key = claimed.first().expect("a task is ready and the agent idle").key;
        self.store.start_run(key, self.id).await.expect("the run was handed to this agent");
        key
    }

    /// Appends texts as events, numbered from `first` on.
    pub(crate) async fn say(&self, key: RunKey, first: i64, texts: &[&str]) {
        let events: Vec<NumberedEvent> = (first..)
            .zip(texts)
            .map(|(seq, text)| numbered(seq, RunEvent::Text { text: (*text).to_owned() }))
            .collect();
        self.store.append_events(key, &events).await.expect("the run is ours");
    }

    /// Appends an event.
    pub(crate) async fn note(&self, key: RunKey, seq: i64, event: RunEvent) {
        self.store.append_events(key, &[numbered(seq, event)]).await.expect("the run is ours");
    }

    /// Appends the last event and finishes the run with a commit.
    pub(crate) async fn finish(&self, key: RunKey, last: i64) {
        let ended = RunEvent::Ended { outcome: RunOutcome::Succeeded, message: None };
        self.store.append_events(key, &[numbered(last, ended)]).await.expect("the run is ours");
        self.finish_silently(key).await;
    }

    /// Finishes the run without a last event, as when its agent died.
    pub(crate) async fn finish_silently(&self, key: RunKey) {
        let report = RunReport {
            commit: Some("a".repeat(40)),
            branch: Some("opentiger/x-1".to_owned()),
            usage: Usage { input_tokens: 3, cost_microusd: 1_500_000, ..Usage::default() },
            ..RunReport::new(RunOutcome::Succeeded)
        };
        self.store.finish_run(key, &report).await.expect("the run is ours");
    }

    /// Ends the run with this report.
    pub(crate) async fn end(&self, key: RunKey, report: &RunReport) {
        self.store.finish_run(key, report).await.expect("the run is ours");
    }
}

fn numbered(seq: i64, event: RunEvent) -> NumberedEvent {
    NumberedEvent { seq, at: jiff::Timestamp::now(), event }
}
