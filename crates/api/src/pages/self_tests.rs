//! Self-tests of sandboxes: what the last ones found, and asking for one.

use axum::{extract::State, response::Redirect};
use core_types::task::ExecutorKind;
use jiff::Timestamp;

use crate::{
    error::ApiError,
    pages::{
        form::PageForm,
        frame::Frame,
        process::back_to,
        shown::{Markup, ago, span},
        texts::system::SystemTexts,
    },
    requests::self_test::SelfTestQuery,
    routes::self_tests,
    state::ApiState,
    views::self_test::SelfTestView,
};

/// What a self-test found.
#[derive(Debug)]
pub(crate) struct TestRow {
    pub(crate) executor: ExecutorKind,
    pub(crate) host: String,
    pub(crate) tone: &'static str,
    pub(crate) state: &'static str,
    pub(crate) message: Option<String>,
    pub(crate) hint: Option<String>,
    pub(crate) version: Option<String>,
    pub(crate) took: Option<String>,
    pub(crate) tested: Option<Markup>,
    pub(crate) again: Option<Markup>,
    /// Every step that was taken, and whether it went well.
    pub(crate) steps: Vec<(&'static str, bool)>,
}

impl TestRow {
    pub(crate) fn new(test: SelfTestView, frame: &Frame) -> Self {
        let t = SystemTexts::of(frame.language);
        let now = Timestamp::now();
        let when = |at: Timestamp| ago(at, now, frame.language);
        let (tone, state) = match test.state {
            "passed" => ("good", t.test_passed),
            "failed" => ("bad", t.test_failed),
            _ => ("busy", t.test_pending),
        };
        Self {
            executor: test.executor,
            host: test.host,
            tone,
            state,
            message: test.message,
            hint: test.hint,
            version: test.cli_version,
            took: test.took_ms.map(|took| span(took as f64 / 1000.0)),
            tested: test.tested_at.map(when),
            again: test.retry_at.map(when),
            steps: test.steps.iter().map(|step| (step.step, step.ok)).collect(),
        }
    }
}

/// Asks for a self-test; what it finds shows on the page once it is done.
pub(crate) async fn ask(
    State(state): State<ApiState>,
    PageForm(form): PageForm,
) -> Result<Redirect, ApiError> {
    let executor = form.filled("executor").map(ToOwned::to_owned);
    self_tests::ask(&state, &SelfTestQuery { executor, ..SelfTestQuery::default() }).await?;
    Ok(back_to(&form, "self_test_asked"))
}
