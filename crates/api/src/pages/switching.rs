//! Switching where agents run: first what will happen, then the change of the one setting.

use std::collections::BTreeMap;

use askama::Template;
use axum::{
    extract::State,
    response::{IntoResponse as _, Redirect, Response},
};
use core_types::task::{ExecutionEnvironment, TaskStatus};
use http::StatusCode;

use crate::{
    access::caller::Caller,
    agreement::{Agreement, decides},
    error::ApiError,
    pages::{
        form::{PageForm, PageQuery},
        frame::{Frame, Html},
        system::environment_of,
        texts::system::SystemTexts,
    },
    requests::config::{Condition, Updates},
    routes::changing::{Changed, change_rows},
    state::ApiState,
};

/// The setting.
const KEY: &str = "EXECUTION_ENVIRONMENT";

/// Why the setting cannot be changed here.
#[derive(Debug)]
pub(crate) struct Lock {
    /// The processes whose environment sets it.
    pub(crate) setters: Vec<String>,
}

impl Lock {
    /// Whether an environment that decides sets it: that of a dispatcher, or this server's own.
    pub(crate) async fn look(state: &ApiState) -> Result<Option<Self>, ApiError> {
        let loaded = state.settings();
        let here = loaded.set_by_environment().any(|key| key == KEY);
        let agreement = Agreement::look(&state.store, &loaded).await?;
        let setters = agreement.setters(KEY);
        if !here && !setters.iter().any(|said| decides(said)) {
            return Ok(None);
        }
        let name = |said: &&store::process_settings::ProcessSettings| {
            format!("{} {} on {}", said.program, said.process.pid, said.host)
        };
        Ok(Some(Self { setters: setters.iter().map(name).collect() }))
    }
}

/// What a switch will do.
#[derive(Debug, Template)]
#[template(path = "switch.html")]
struct Switch {
    frame: Frame,
    t: &'static SystemTexts,
    to: ExecutionEnvironment,
    same: bool,
    lock: Option<Lock>,
    running: u64,
    revision: i64,
    stale: bool,
}

/// Shows what a switch will do.
pub(crate) async fn preview(
    State(state): State<ApiState>,
    frame: Frame,
    PageQuery(query): PageQuery,
) -> Result<Response, ApiError> {
    let to = environment_of(query.text("to"))?;
    Ok(Html(Switch::new(&state, frame, to, false).await?).into_response())
}

impl Switch {
    async fn new(
        state: &ApiState,
        frame: Frame,
        to: ExecutionEnvironment,
        stale: bool,
    ) -> Result<Self, ApiError> {
        let counts = state.store.count_tasks().await?.counts;
        let running = counts.iter().filter(|(_, status, _)| *status == TaskStatus::Running);
        Ok(Self {
            t: SystemTexts::of(frame.language),
            to,
            same: state.settings().settings.execution_environment == to,
            lock: Lock::look(state).await?,
            running: running.map(|(_, _, count)| count).sum(),
            revision: state.store.config_rows().await?.revision,
            stale,
            frame,
        })
    }
}

/// Switches, unless somebody changed settings since the preview.
pub(crate) async fn switch(
    State(state): State<ApiState>,
    caller: Caller,
    frame: Frame,
    PageForm(form): PageForm,
) -> Result<Response, ApiError> {
    let to = environment_of(form.text("to"))?;
    if Lock::look(&state).await?.is_some() {
        let text = "the environment of a process sets `EXECUTION_ENVIRONMENT`; change it there";
        return Err(ApiError::new(StatusCode::CONFLICT, "locked", text));
    }
    // What is no revision is none that ever was.
    let seen = form.text("revision").parse().into_iter().collect();
    let updates = BTreeMap::from([(KEY.to_owned(), Some(to.as_str().into()))]);
    let changing = change_rows(state.clone(), caller, Condition::OneOf(seen), Updates(updates));
    match state.to_the_end(changing).await? {
        Changed::Made { .. } => Ok(Redirect::to("/ui/system?said=switched").into_response()),
        Changed::Stale { .. } => {
            let page = Switch::new(&state, frame, to, true).await?;
            Ok((StatusCode::CONFLICT, Html(page)).into_response())
        }
    }
}
