//! `/system/claude/auth` and `/system/opencode/auth`: could an agent run right now, and why not.

use axum::{Json, extract::State};
use core_types::task::ExecutorKind;
use http::HeaderMap;

use crate::{
    error::ApiError,
    extract::QueryTexts,
    openapi::{AboutQuery, Always},
    requests::auth::{AuthQuery, accepted_language},
    state::ApiState,
    views::auth::AuthView,
};

/// Says whether Claude Code could do a task right now: with its login, key, provider and limits.
///
/// Cheap ways come first, and a login is never renewed or changed by it. An answer holds for a minute, and callers at the
/// same time share one check, which takes less than half a minute.
#[utoipa::path(
    get, path = "/system/claude/auth", tag = "system", operation_id = "checkClaudeAuth",
    params(AuthQuery),
    responses((status = 200, description = "What was found, be it good or bad.", body = AuthView), AboutQuery, Always)
)]
pub(crate) async fn claude(
    State(state): State<ApiState>,
    headers: HeaderMap,
    QueryTexts(query): QueryTexts<AuthQuery>,
) -> Result<Json<AuthView>, ApiError> {
    check(&state, &headers, &query, ExecutorKind::ClaudeCode).await
}

/// Says the same of opencode, which has no way to ask its provider but a prompt of one word.
#[utoipa::path(
    get, path = "/system/opencode/auth", tag = "system", operation_id = "checkOpencodeAuth",
    params(AuthQuery),
    responses((status = 200, description = "What was found, be it good or bad.", body = AuthView), AboutQuery, Always)
)]
pub(crate) async fn opencode(
    State(state): State<ApiState>,
    headers: HeaderMap,
    QueryTexts(query): QueryTexts<AuthQuery>,
) -> Result<Json<AuthView>, ApiError> {
    check(&state, &headers, &query, ExecutorKind::Opencode).await
}

async fn check(
    state: &ApiState,
    headers: &HeaderMap,
    query: &AuthQuery,
    executor: ExecutorKind,
) -> Result<Json<AuthView>, ApiError> {
    let refresh = query.refresh()?;
    let environment = query.environment(state.settings().settings.execution_environment)?;
    let report = state.login(environment, executor, refresh).await?;
    Ok(Json(AuthView::new(report, accepted_language(headers))))
}
