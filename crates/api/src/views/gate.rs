//! The gates of executors as clients see them.

use core_types::{
    gate::{GateCause, GateState, GateWord},
    ids::RunId,
    task::{ExecutionEnvironment, ExecutorKind},
};
use jiff::Timestamp;
use serde::Serialize;
use store::gates::{GateKey, StoredGate, ToldQuota};
use utoipa::ToSchema;

use super::auth::QuotaView;

/// Whether runs of an executor are handed out.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct GateView {
    #[schema(schema_with = crate::schema::environment)]
    pub(crate) environment: ExecutionEnvironment,
    #[schema(schema_with = crate::schema::executor)]
    pub(crate) executor: ExecutorKind,
    /// The provider whose models this gate is for; absent where the executor has one only, and for models that its own
    /// settings choose.
    pub(crate) provider: Option<String>,
    /// `open`; `closed`: none are; `trial`: one is under way to try.
    #[schema(schema_with = crate::schema::gate_state)]
    pub(crate) state: GateWord,
    /// Why it is not open.
    #[schema(schema_with = crate::schema::optional_gate_cause)]
    pub(crate) cause: Option<GateCause>,
    /// Whether somebody has to do something about it.
    pub(crate) needs_a_person: bool,
    /// What the run said that closed it.
    pub(crate) message: Option<String>,
    /// What to do about it.
    pub(crate) hint: Option<String>,
    /// Since when it is not open.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) since: Option<Timestamp>,
    /// When one run is let through to try.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) retry_at: Option<Timestamp>,
    /// The same in seconds from now, never negative.
    pub(crate) retry_in_s: Option<f64>,
    /// How often it closed in a row.
    pub(crate) closures: u32,
    /// Failures in a row while it is open.
    pub(crate) failures: u32,
    /// The run that is under way to try.
    #[schema(schema_with = crate::schema::optional_run_id)]
    pub(crate) trial_run: Option<RunId>,
    #[schema(value_type = String, format = DateTime)]
    pub(crate) changed_at: Timestamp,
    /// How much of the account's limits is used, as the provider last told.
    pub(crate) quota: Option<Vec<QuotaView>>,
    /// When it told.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) quota_told_at: Option<Timestamp>,
}

/// Every gate.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct GateList {
    pub(crate) items: Vec<GateView>,
}

impl From<StoredGate> for GateView {
    fn from(stored: StoredGate) -> Self {
        let StoredGate { key, gate, changed_at, now } = stored;
        let GateKey { environment, executor, provider } = key;
        let (failures, trial_run) = match &gate.state {
            GateState::Open { streak } => (streak.map_or(0, |streak| streak.failures), None),
            GateState::Closed { .. } => (0, None),
            GateState::Trial { run, .. } => (0, Some(*run)),
        };
        let (shut, retry_at) = (gate.shut(), gate.next_trial());
        let cause = shut.map(|shut| shut.cause);
        Self {
            environment,
            executor,
            provider: provider.name().map(ToOwned::to_owned),
            state: gate.state.word(),
            cause,
            needs_a_person: cause.is_some_and(GateCause::needs_a_person),
            message: shut.and_then(|shut| shut.message.clone()),
            hint: shut.and_then(|shut| shut.hint.clone()),
            since: shut.map(|shut| shut.since),
            retry_at,
            retry_in_s: retry_at.map(|at| at.duration_since(now).as_secs_f64().max(0.0)),
            closures: shut.map_or(0, |shut| shut.closures),
            failures,
            trial_run,
            changed_at,
            quota: None,
            quota_told_at: None,
        }
    }
}

impl GateView {
    /// The same with what was told of the account's limits.
    pub(crate) fn with_quota(self, told: Option<ToldQuota>) -> Self {
        let (windows, told_at) = told.map(|told| (told.windows, told.told_at)).unzip();
        let quota = windows.map(|windows| windows.into_iter().map(QuotaView::from).collect());
        Self { quota, quota_told_at: told_at, ..self }
    }
}
