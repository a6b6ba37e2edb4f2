//! `/system/gates`: which executors take tasks, and trying one now.

use axum::{
    Json,
    extract::{FromRequestParts, Path, State},
};
use core_types::{provider::Provider, task::ExecutorKind};
use http::request::Parts;
use store::gates::{GateKey, StoredGate};

use crate::{
    error::{ApiError, FieldFault},
    extract::QueryTexts,
    openapi::{AboutId, AboutQuery, Always},
    requests::gates::ProviderQuery,
    state::ApiState,
    views::gate::{GateList, GateView},
};

/// The executor that a path names.
#[derive(Debug)]
pub(crate) struct PathExecutor(pub(crate) ExecutorKind);

impl FromRequestParts<ApiState> for PathExecutor {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, ApiError> {
        let path = <Path<String> as FromRequestParts<ApiState>>::from_request_parts(parts, state);
        let text = path.await.map_or_else(|_| String::new(), |Path(text)| text);
        text.parse().map(Self).map_err(|_| {
            let allowed = ExecutorKind::WORDS.join(", ");
            ApiError::parameters(vec![FieldFault::new("executor", "is no executor", allowed)])
        })
    }
}

/// Shows for each executor, and each provider of which there is something to say, whether runs are handed out, and why not.
#[utoipa::path(
    get, path = "/system/gates", tag = "system", operation_id = "listGates",
    responses((status = 200, description = "The gates.", body = GateList), Always)
)]
pub(crate) async fn list(State(state): State<ApiState>) -> Result<Json<GateList>, ApiError> {
    let (gates, quotas) = (state.store.gates().await?, state.store.quotas().await?);
    let view = |stored: StoredGate| {
        let told = quotas.iter().find(|told| told.key == stored.key).cloned();
        GateView::from(stored).with_quota(told)
    };
    Ok(Json(GateList { items: gates.into_iter().map(view).collect() }))
}

/// Has one run of an executor tried now at each of its gates, or at one provider's, in the environment in force. A gate
/// opens when that run shows that it works; one that is open stays so. The answer is the gate, of several the first that
/// is not open.
#[utoipa::path(
    post, path = "/system/gates/{executor}/open", tag = "system", operation_id = "tryGate",
    params(("executor" = inline(ExecutorWord), Path, description = "The executor."), ProviderQuery),
    responses(
        (status = 200, description = "The gate as it stands now.", body = GateView),
        AboutId, AboutQuery, Always,
    )
)]
pub(crate) async fn try_now(
    State(state): State<ApiState>,
    PathExecutor(executor): PathExecutor,
    QueryTexts(query): QueryTexts<ProviderQuery>,
) -> Result<Json<GateView>, ApiError> {
    let environment = state.settings.borrow().settings.execution_environment;
    let store = state.store.clone();
    let wanted = query.provider.as_deref().map(Provider::named);
    let trying = async move {
        let of_executor =
            |key: &GateKey| key.environment == environment && key.executor == executor;
        let is_wanted = |key: &GateKey| wanted.as_ref().is_none_or(|name| key.provider == *name);
        let mut tried = Vec::new();
        for stored in store.gates().await? {
            if of_executor(&stored.key) && is_wanted(&stored.key) {
                tried.extend(store.try_gate(&stored.key).await?);
            }
        }
        Ok(tried)
    };
    let tried = state.to_the_end(trying).await?;
    let shut = tried.iter().find(|stored| stored.gate.shut().is_some());
    let gate = shut.or(tried.first()).ok_or_else(|| ApiError::not_found("gate"))?;
    Ok(Json(gate.clone().into()))
}

/// The form of the path's executor, for the OpenAPI document.
#[derive(utoipa::ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "only its schema is used")]
enum ExecutorWord {
    ClaudeCode,
    Opencode,
}
