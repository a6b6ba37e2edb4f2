//! The gates of executors as rows: whether tasks are taken, why not, since when and until when, what the account has left.

use axum::{extract::State, response::Redirect};
use core_types::{
    ids::RunId,
    task::{ExecutionEnvironment, ExecutorKind},
};
use jiff::Timestamp;

use crate::{
    error::ApiError,
    extract::QueryTexts,
    pages::{
        form::PageForm,
        frame::Frame,
        process::back_to,
        shown::{Markup, ago},
    },
    requests::gates::ProviderQuery,
    routes::gates::{self, PathExecutor},
    state::ApiState,
    views::{auth::QuotaView, gate::GateView},
};

/// A limit of an account.
#[derive(Debug)]
pub(crate) struct Limit {
    pub(crate) name: String,
    pub(crate) used: String,
    pub(crate) left: String,
    pub(crate) resets: Option<Markup>,
}

/// An executor and whether it takes tasks.
#[derive(Debug)]
pub(crate) struct GateRow {
    pub(crate) executor: ExecutorKind,
    pub(crate) environment: ExecutionEnvironment,
    pub(crate) provider: Option<String>,
    pub(crate) open: bool,
    pub(crate) message: Option<String>,
    pub(crate) hint: Option<String>,
    /// Since when it takes no tasks.
    pub(crate) since: Option<Markup>,
    /// Whether a run is under way to try.
    pub(crate) trial: Option<RunId>,
    /// Whether it can be tried now: only those of the environment in force can.
    pub(crate) may_try: bool,
    pub(crate) retry_at: Option<Markup>,
    pub(crate) windows: Vec<Limit>,
    pub(crate) told: Option<Markup>,
}

impl GateRow {
    pub(crate) fn new(gate: GateView, environment: ExecutionEnvironment, frame: &Frame) -> Self {
        let now = Timestamp::now();
        let when = |at: Timestamp| ago(at, now, frame.language);
        let window = |window: QuotaView| Limit {
            name: window.name,
            used: format!("{:.0}", window.used_percent.clamp(0.0, 100.0)),
            left: format!("{:.0}", (100.0 - window.used_percent).clamp(0.0, 100.0)),
            resets: window.resets_at.map(when),
        };
        Self {
            executor: gate.executor,
            environment: gate.environment,
            provider: gate.provider,
            open: gate.cause.is_none(),
            since: gate.since.map(when),
            trial: gate.trial_run,
            may_try: gate.environment == environment && gate.trial_run.is_none(),
            message: gate.message,
            hint: gate.hint,
            retry_at: gate.retry_at.map(when),
            windows: gate.quota.into_iter().flatten().map(window).collect(),
            told: gate.quota_told_at.map(when),
        }
    }
}

/// Has one run let through to try an executor that takes none.
pub(crate) async fn try_now(
    State(state): State<ApiState>,
    executor: PathExecutor,
    PageForm(form): PageForm,
) -> Result<Redirect, ApiError> {
    let provider = form.filled("provider").map(ToOwned::to_owned);
    let query = QueryTexts(ProviderQuery { provider });
    gates::try_now(State(state), executor, query).await.map(drop)?;
    Ok(back_to(&form, "gate_tried"))
}
