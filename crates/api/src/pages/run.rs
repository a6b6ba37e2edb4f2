//! A run's page: its steps, its log as it grows, its verification, what it used and what it changed.

use std::convert::Infallible;

use askama::Template;
use axum::{
    extract::State,
    response::{
        IntoResponse as _, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use core_types::{
    auth::Language,
    ids::{RunId, TaskId},
    task::{ExecutionEnvironment, RunStatus},
};
use futures_util::{StreamExt as _, stream};
use jiff::Timestamp;

use crate::{
    error::ApiError,
    extract::{LastEventId, PathId, QueryTexts},
    pages::{
        frame::{Frame, Html},
        patch::{PatchLine, patch_lines},
        shown::{Markup, ago, dollars, run_tone, short, span},
        task::is_alive,
        texts::{outcomes::RunWords, tasks::DetailTexts},
    },
    requests::paging::StreamQuery,
    routes::{diff::for_people, events::Follow, log::tail},
    state::ApiState,
    views::{
        diff::DiffView,
        log::lines,
        run::{RunDetail, RunView},
    },
};

/// How many lines of a log a page begins with.
const LINES: usize = 300;
/// How much of a patch a page shows, in bytes.
const PATCH: usize = 200 * 1024;

/// A run in a list.
#[derive(Debug)]
pub(crate) struct RunRow {
    pub(crate) id: RunId,
    pub(crate) number: u32,
    pub(crate) tone: &'static str,
    pub(crate) outcome: &'static str,
    pub(crate) message: Option<String>,
    pub(crate) started: Markup,
    pub(crate) duration: String,
    pub(crate) tokens: String,
    pub(crate) cost: String,
}

impl RunRow {
    pub(crate) fn new(run: RunView, language: Language) -> Self {
        let words = RunWords::of(language);
        let usage = run.usage.as_ref();
        Self {
            id: run.id,
            number: run.number,
            tone: run_tone(run.outcome.filter(|_| !is_alive(run.status))),
            outcome: words.run(run.status, run.outcome),
            message: run.message,
            started: ago(run.started_at.unwrap_or(run.created_at), Timestamp::now(), language),
            duration: run.duration_s.map(span).unwrap_or_default(),
            tokens: usage.map(|usage| short(usage.total_tokens)).unwrap_or_default(),
            cost: usage.map(|usage| dollars(usage.cost_usd)).unwrap_or_default(),
        }
    }
}

/// The part of a page that shows a log.
#[derive(Debug)]
pub(crate) struct LogPart {
    pub(crate) run: RunId,
    pub(crate) lines: Vec<String>,
    pub(crate) after: i64,
    pub(crate) alive: bool,
}

impl LogPart {
    pub(crate) async fn read(
        state: &ApiState,
        run: RunId,
        status: RunStatus,
    ) -> Result<Self, ApiError> {
        let read = tail(&state.store, run, 0, LINES).await?;
        let lines = read.text.lines().map(ToOwned::to_owned).collect();
        Ok(Self { run, lines, after: read.next_after, alive: is_alive(status) })
    }
}

/// A verification command that ran.
#[derive(Debug)]
struct Verified {
    command: String,
    passed: bool,
    status: String,
    output: String,
}

/// A step of a run.
#[derive(Debug)]
struct Step {
    name: String,
    started: Markup,
    duration: String,
}

/// A run's page.
#[derive(Debug, Template)]
#[template(path = "run.html")]
struct RunPage {
    frame: Frame,
    t: &'static DetailTexts,
    title: String,
    row: RunRow,
    hint: Option<String>,
    turns: Option<u32>,
    steps: Vec<Step>,
    verified: Vec<Verified>,
    task: TaskId,
    commit: Option<String>,
    branch: Option<String>,
    host: Option<String>,
    environment: ExecutionEnvironment,
    session: Option<String>,
    log: LogPart,
}

/// Shows a run.
pub(crate) async fn show(
    State(state): State<ApiState>,
    frame: Frame,
    PathId(id): PathId<RunId>,
) -> Result<Response, ApiError> {
    let run = state.store.run(id).await?.ok_or_else(|| ApiError::not_found("run"))?;
    let task = state.store.task(run.task).await?.ok_or_else(|| ApiError::not_found("task"))?;
    let milestones = state.store.milestones(id).await?;
    let log = LogPart::read(&state, id, run.status).await?;
    let RunDetail { run, phases, verification } = RunDetail::new(run, milestones);
    let (language, now) = (frame.language, Timestamp::now());
    let steps = phases.into_iter().map(|phase| Step {
        name: phase.name,
        started: ago(phase.started_at, now, language),
        duration: phase.duration_s.map(span).unwrap_or_default(),
    });
    let verified = verification.into_iter().map(|one| Verified {
        command: shell_words::join(&one.command),
        passed: one.passed,
        status: one.status,
        output: one.output,
    });
    let page = RunPage {
        t: DetailTexts::of(language),
        title: task.new.title,
        hint: run.hint.clone(),
        turns: run.usage.as_ref().map(|usage| usage.turns),
        steps: steps.collect(),
        verified: verified.collect(),
        task: run.task,
        commit: run.commit.clone(),
        branch: run.branch.clone(),
        host: run.host.clone(),
        environment: run.environment,
        session: run.session.clone(),
        row: RunRow::new(run, language),
        log,
        frame,
    };
    Ok(Html(page).into_response())
}

/// Streams the lines of a run's log as they come, and says when no more will.
pub(crate) async fn log(
    State(state): State<ApiState>,
    PathId(id): PathId<RunId>,
    QueryTexts(query): QueryTexts<StreamQuery>,
    last: Option<LastEventId>,
) -> Result<Response, ApiError> {
    let asked = query.after()?;
    let after = last.map_or(asked, |LastEventId(seq)| seq);
    state.store.run(id).await?.ok_or_else(|| ApiError::not_found("run"))?;
    let coming = Follow::new(&state, id, after).events().map(|event| {
        let text = lines(&event);
        Event::default().id(event.seq.to_string()).event("lines").data(text.trim_end_matches('\n'))
    });
    let over = stream::iter([Event::default().event("over").data("")]);
    let stopped = state.stop.clone().cancelled_owned();
    let told = coming.chain(over).map(Ok::<_, Infallible>).take_until(stopped);
    Ok(Sse::new(told).keep_alive(KeepAlive::new()).into_response())
}

/// What a run changed.
#[derive(Debug, Template)]
#[template(path = "changes.html")]
struct Changes {
    frame: Frame,
    t: &'static DetailTexts,
    diff: DiffView,
    lines: Vec<PatchLine>,
}

/// Shows what a run changed.
pub(crate) async fn changes(
    State(state): State<ApiState>,
    frame: Frame,
    PathId(id): PathId<RunId>,
) -> Result<Response, ApiError> {
    let diff = for_people(&state, id, PATCH).await?;
    let lines = patch_lines(&diff.patch);
    let t = DetailTexts::of(frame.language);
    Ok(Html(Changes { frame, t, diff, lines }).into_response())
}
