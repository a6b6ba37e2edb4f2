//! `/config`: show, change, and who changed what.

use axum::{
    Json,
    extract::State,
    response::{IntoResponse as _, Response},
};
use http::{HeaderMap, HeaderValue, StatusCode, header::ETAG};
use telemetry::chain::error_chain;

use crate::{
    access::caller::Caller,
    agreement::Agreement,
    error::ApiError,
    extract::{JsonBody, QueryTexts},
    openapi::{AboutQuery, AboutSettings, Always},
    requests::config::{Condition, ConfigPatch, HistoryQuery},
    routes::changing::{Changed, change_rows},
    state::ApiState,
    views::config::{ConfigChanged, ConfigView, HistoryPage, HistoryView},
};

/// Shows every setting of this process with its value and its source, and what other processes have in force.
///
/// Secrets are masked. The header `ETag` is the revision of the database's rows, for `If-Match` of a change.
#[utoipa::path(
    get, path = "/config", tag = "system", operation_id = "showConfig",
    responses(
        (status = 200, description = "The settings.", body = ConfigView,
            headers(("ETag" = String, description = "The revision, in quotes."))),
        Always,
    )
)]
pub(crate) async fn show(State(state): State<ApiState>) -> Response {
    let loaded = state.settings();
    let agreement = agreement(&state).await;
    let view = ConfigView::new(&loaded, agreement.as_ref());
    (tag(loaded.revision), Json(view)).into_response()
}

/// Changes settings in the database, all of them or none.
///
/// `null` removes a row, so that the default holds, also one that is faulty or that no setting has. Where `If-Match` is
/// sent, nothing is changed unless it names the present revision; without it the last writer wins. A key that reaches
/// the host is changed by callers with a key alone. Every process uses the new values at the moment that
/// `takes_effect` says; a value that an environment wins over is stored, and the answer says so.
#[utoipa::path(
    patch, path = "/config", tag = "system", operation_id = "changeConfig", request_body = ConfigPatch,
    params(("If-Match" = Option<String>, Header, description = "The `ETag` of `GET /config`, or `*`.")),
    responses(
        (status = 200, description = "The settings after the change.", body = ConfigChanged,
            headers(("ETag" = String, description = "The revision now, in quotes."))),
        (status = 412, description = "Somebody changed settings since; `ETag` has the present revision.",
            body = crate::error::ErrorBody, headers(("ETag" = String, description = "The revision now, in quotes."))),
        AboutSettings, Always,
    )
)]
pub(crate) async fn change(
    State(state): State<ApiState>,
    caller: Caller,
    condition: Condition,
    JsonBody(patch): JsonBody<ConfigPatch>,
) -> Result<Response, ApiError> {
    let changing = change_rows(state.clone(), caller, condition, patch.updates);
    match state.to_the_end(changing).await? {
        Changed::Made { loaded, keys } => {
            let agreement = agreement(&state).await;
            let view = ConfigChanged::new(&loaded, agreement.as_ref(), keys);
            Ok((tag(loaded.revision), Json(view)).into_response())
        }
        Changed::Stale { revision } => {
            let text = format!(
                "the settings have revision {revision}, which `If-Match` does not name; read them again"
            );
            let error = ApiError::new(StatusCode::PRECONDITION_FAILED, "revision_changed", text);
            Ok((tag(Some(revision)), error).into_response())
        }
    }
}

/// Lists who changed which setting when, newest first. Secrets are masked.
#[utoipa::path(
    get, path = "/config/history", tag = "system", operation_id = "configHistory", params(HistoryQuery),
    responses((status = 200, description = "A page of changes.", body = HistoryPage), AboutQuery, Always)
)]
pub(crate) async fn history(
    State(state): State<ApiState>,
    QueryTexts(query): QueryTexts<HistoryQuery>,
) -> Result<Json<HistoryPage>, ApiError> {
    let (key, before, limit) = query.page()?;
    let page = state.store.config_history(key, before, limit).await?;
    Ok(Json(HistoryPage {
        items: page.items.into_iter().map(HistoryView::from).collect(),
        next_cursor: page.next_cursor.map(|next| query.cursor(next)),
    }))
}

/// What other processes have in force, where the database says so: settings are shown without it as well.
async fn agreement(state: &ApiState) -> Option<Agreement> {
    match Agreement::look(&state.store, &state.settings()).await {
        Ok(agreement) => Some(agreement),
        Err(error) => {
            tracing::warn!(error = %error_chain(&error), "settings of other processes not known");
            None
        }
    }
}

fn tag(revision: Option<i64>) -> HeaderMap {
    let quoted = revision.map(|revision| format!("\"{revision}\""));
    let value = quoted.and_then(|quoted| HeaderValue::from_str(&quoted).ok());
    value.map(|value| (ETAG, value)).into_iter().collect()
}
