//! What a check of a login found, as clients see it. The names are those that clients of earlier versions know.

use auth_probe::finding::Report;
use core_types::{
    auth::{AuthReason, CheckedBy, Language, QuotaWindow},
    task::ExecutionEnvironment,
};
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

/// Whether an agent could run right now, and why not.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AuthView {
    /// Whether the agent's program can be started and asked.
    pub(crate) available: bool,
    /// Whether a run would find its provider open. Only `ready` says so.
    pub(crate) authenticated: bool,
    #[schema(value_type = String, format = DateTime)]
    pub(crate) checked_at: Timestamp,
    #[schema(schema_with = crate::schema::environment)]
    pub(crate) execution_environment: ExecutionEnvironment,
    #[schema(schema_with = crate::schema::auth_reason)]
    pub(crate) reason: AuthReason,
    /// What is the matter, for people; in Japanese where `Accept-Language` asks for it.
    pub(crate) message: String,
    /// What to do about it, in the same language.
    pub(crate) hint: Option<String>,
    /// What was seen, such as a program's own words.
    pub(crate) detail: Option<String>,
    /// `credentials`: by looking at the login; `usage`: by asking for the account's limits, which costs nothing; `prompt`: by a prompt of one word.
    #[schema(schema_with = crate::schema::checked_by)]
    pub(crate) checked_by: CheckedBy,
    /// How much of the account's limits is used, where the provider told.
    pub(crate) quota: Option<Vec<QuotaView>>,
    /// When the provider lifts its limit, where it told.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) retry_at: Option<Timestamp>,
    pub(crate) duration_ms: u64,
    /// Whether the answer is from before, or was found for another caller.
    pub(crate) cached: bool,
}

/// How much of one limit of an account is used.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct QuotaView {
    #[schema(examples("five_hour"))]
    pub(crate) name: String,
    pub(crate) used_percent: f64,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) resets_at: Option<Timestamp>,
}

impl AuthView {
    pub(crate) fn new(report: Report, language: Language) -> Self {
        let Report { executor, environment, finding, checked_at, took, cached } = report;
        let reason = finding.reason;
        let hint = reason.hint(executor, environment, language);
        Self {
            available: reason.is_available(),
            authenticated: reason.is_authenticated(),
            checked_at,
            execution_environment: environment,
            reason,
            message: reason.message(executor, language).to_owned(),
            hint: hint.map(ToOwned::to_owned),
            detail: finding.detail,
            checked_by: finding.checked_by,
            quota: Some(finding.quota.into_iter().map(QuotaView::from).collect())
                .filter(|quota: &Vec<QuotaView>| !quota.is_empty()),
            retry_at: finding.retry_at,
            duration_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            cached,
        }
    }
}

impl From<QuotaWindow> for QuotaView {
    fn from(window: QuotaWindow) -> Self {
        let QuotaWindow { name, used_percent, resets_at } = window;
        Self { name, used_percent, resets_at }
    }
}
