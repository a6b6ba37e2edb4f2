//! Self-tests of sandboxes as clients see them.

use core_types::{
    self_test::StepEnd,
    task::{ExecutionEnvironment, ExecutorKind},
};
use jiff::Timestamp;
use serde::Serialize;
use store::self_tests::SelfTest;
use utoipa::ToSchema;

/// Whether an executor works in the sandboxes of a host.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SelfTestView {
    pub(crate) host: String,
    #[schema(schema_with = crate::schema::environment)]
    pub(crate) environment: ExecutionEnvironment,
    #[schema(schema_with = crate::schema::executor)]
    pub(crate) executor: ExecutorKind,
    /// `passed`; `failed`: no tasks of this executor are taken; `pending`: it was asked for and is not done yet.
    #[schema(examples("passed"))]
    pub(crate) state: &'static str,
    /// The step that failed, and why.
    pub(crate) message: Option<String>,
    /// What to do about it.
    pub(crate) hint: Option<String>,
    /// The version of the command line, as it says.
    pub(crate) cli_version: Option<String>,
    /// Every step that was taken, up to the first that failed.
    pub(crate) steps: Vec<StepView>,
    pub(crate) took_ms: Option<u64>,
    /// Failures in a row.
    pub(crate) failures: u32,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) tested_at: Option<Timestamp>,
    /// When it is done again by itself.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) retry_at: Option<Timestamp>,
}

/// How a step came out.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct StepView {
    /// `container`, `user`, `checkout`, `state`, `login`, `git`, `cli`, `tool`, `events` or `result`.
    #[schema(examples("cli"))]
    pub(crate) step: &'static str,
    pub(crate) ok: bool,
    pub(crate) cause: Option<String>,
    pub(crate) hint: Option<String>,
}

/// Every self-test.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SelfTestList {
    pub(crate) items: Vec<SelfTestView>,
}

impl From<SelfTest> for SelfTestView {
    fn from(test: SelfTest) -> Self {
        let report = test.last.as_ref().map(|last| &last.report);
        let state = match (test.asked_at, report) {
            (Some(_), _) | (None, None) => "pending",
            (None, Some(report)) if report.passed() => "passed",
            (None, Some(_)) => "failed",
        };
        Self {
            state,
            message: report.and_then(|report| report.text()),
            hint: report.and_then(|report| report.hint()).map(ToOwned::to_owned),
            cli_version: report.and_then(|report| report.cli_version.clone()),
            steps: report
                .into_iter()
                .flat_map(|report| &report.steps)
                .map(StepView::from)
                .collect(),
            took_ms: report.map(|report| report.took_ms),
            failures: test.last.as_ref().map_or(0, |last| last.failures),
            tested_at: test.last.as_ref().map(|last| last.tested_at),
            retry_at: test.last.as_ref().and_then(|last| last.retry_at),
            host: test.key.host.as_str().to_owned(),
            environment: test.key.environment,
            executor: test.key.executor,
        }
    }
}

impl From<&StepEnd> for StepView {
    fn from(end: &StepEnd) -> Self {
        Self {
            step: end.step.as_str(),
            ok: end.cause.is_none(),
            cause: end.cause.clone(),
            hint: end.hint.clone(),
        }
    }
}
