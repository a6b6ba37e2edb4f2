//! `/metrics`: the system in numbers, for whoever collects them.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    extract::State,
    response::{IntoResponse as _, Response},
};
use http::header;
use store::measures::{Measures, Settled};
use telemetry::chain::error_chain;
use tokio::sync::Mutex;

use crate::{
    error::ApiError,
    metrics::{CONTENT_TYPE, Told},
    openapi::Always,
    state::ApiState,
};

/// For how long an answer of the database is shown again: several collectors cost as much as one.
const FRESH: Duration = Duration::from_secs(5);

/// What was read last, and when.
#[derive(Debug, Clone, Default)]
pub(crate) struct LastMeasures(Arc<Mutex<Last>>);

#[derive(Debug, Default)]
struct Last {
    answer: Option<(Instant, Measures)>,
    /// What is not read again.
    settled: Settled,
}

/// Shows the system in numbers, in the text format of Prometheus.
///
/// They come from the database, so that every server tells the same of all processes; they are five seconds old at most.
/// Where the database does not answer, `opentiger_database_up` is 0 and what it knows is absent.
#[utoipa::path(
    get, path = "/metrics", tag = "system", operation_id = "showMetrics",
    responses((status = 200, description = "The numbers.", body = String, content_type = "text/plain"), Always)
)]
pub(crate) async fn show(State(state): State<ApiState>) -> Result<Response, ApiError> {
    let told = Told {
        measures: measures(&state).await,
        redis: state.queue.as_ref().map(|queue| queue.health().connected),
        faults: state.settings().database_faults.iter().flatten().count(),
    };
    let text = told.text().map_err(|_| ApiError::internal())?;
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response())
}

/// Who asks while another one reads waits for what that one gets.
async fn measures(state: &ApiState) -> Option<Measures> {
    let mut last = state.measures.0.lock().await;
    if let Some((at, measures)) = &last.answer
        && at.elapsed() < FRESH
    {
        return Some(measures.clone());
    }
    let loaded = state.settings();
    let environment = loaded.settings.execution_environment;
    let provider = loaded.settings.default_provider();
    match state.store.measures(environment, &provider, &mut last.settled).await {
        Ok(measures) => {
            last.answer = Some((Instant::now(), measures.clone()));
            Some(measures)
        }
        Err(error) => {
            tracing::warn!(error = %error_chain(&error), "numbers of the database not known");
            last.answer = None;
            None
        }
    }
}
