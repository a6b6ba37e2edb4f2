//! Runs and their events as clients see them.

use core_types::{
    event::RunEvent,
    ids::{AgentId, RunId, TaskId},
    outcome::RunOutcome,
    task::{ExecutionEnvironment, RunStatus},
    usage::Usage,
};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use store::runs::{Run, StoredEvent};
use utoipa::ToSchema;

/// One attempt at a task.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RunView {
    #[schema(schema_with = crate::schema::run_id)]
    pub(crate) id: RunId,
    #[schema(schema_with = crate::schema::task_id)]
    pub(crate) task: TaskId,
    /// Its place among the runs of its task, from 1.
    pub(crate) number: u32,
    #[schema(schema_with = crate::schema::run_status)]
    pub(crate) status: RunStatus,
    /// What came of it; absent while it lasts.
    #[schema(schema_with = crate::schema::optional_run_outcome)]
    pub(crate) outcome: Option<RunOutcome>,
    /// What happened, for people.
    pub(crate) message: Option<String>,
    /// What to do about it.
    pub(crate) hint: Option<String>,
    /// When the provider lifts its limit.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) retry_at: Option<Timestamp>,
    pub(crate) usage: Option<UsageView>,
    /// The agent's own session.
    pub(crate) session: Option<String>,
    pub(crate) base_commit: Option<String>,
    pub(crate) commit: Option<String>,
    pub(crate) branch: Option<String>,
    #[schema(schema_with = crate::schema::optional_agent_id)]
    pub(crate) agent: Option<AgentId>,
    pub(crate) host: Option<String>,
    /// Whether it runs on that host itself or in a sandbox there.
    #[schema(schema_with = crate::schema::environment)]
    pub(crate) environment: ExecutionEnvironment,
    #[schema(value_type = String, format = DateTime)]
    pub(crate) created_at: Timestamp,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) started_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) ended_at: Option<Timestamp>,
    /// From its start to its end.
    pub(crate) duration_s: Option<f64>,
}

/// A run with what happened in it, in short.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RunDetail {
    #[serde(flatten)]
    pub(crate) run: RunView,
    /// The steps it went through, in order.
    pub(crate) phases: Vec<PhaseView>,
    /// The verification commands that ran, in order.
    pub(crate) verification: Vec<VerificationView>,
}

/// One step of a run.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PhaseView {
    /// `preparing`, `agent`, `sealing`, `verifying`, `committing`; a newer version may know more.
    pub(crate) name: String,
    #[schema(value_type = String, format = DateTime)]
    pub(crate) started_at: Timestamp,
    /// Absent while it lasts.
    pub(crate) duration_s: Option<f64>,
}

/// What a verification command came to.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct VerificationView {
    pub(crate) command: Vec<String>,
    pub(crate) passed: bool,
    /// How it ended.
    pub(crate) status: String,
    /// What it printed, cut.
    pub(crate) output: String,
    #[schema(value_type = String, format = DateTime)]
    pub(crate) at: Timestamp,
}

/// What a run used.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UsageView {
    pub(crate) input_tokens: u64,
    pub(crate) output_tokens: u64,
    pub(crate) cache_read_tokens: u64,
    pub(crate) cache_write_tokens: u64,
    pub(crate) total_tokens: u64,
    /// Estimated by the agent's command line.
    pub(crate) cost_usd: f64,
    pub(crate) turns: u32,
}

/// A page of runs, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RunPage {
    pub(crate) items: Vec<RunView>,
    /// Where the next page begins; absent on the last one.
    pub(crate) next_cursor: Option<String>,
}

/// The runs of a task, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TaskRuns {
    pub(crate) items: Vec<RunView>,
}

/// One thing that happened in a run.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EventView {
    /// Its place in the run, from 1 and without holes.
    #[schema(value_type = i64)]
    pub(crate) seq: i64,
    #[schema(value_type = String, format = DateTime)]
    pub(crate) at: Timestamp,
    /// What happened: the field `kind` tells which other fields there are. A newer version may know more kinds.
    #[schema(value_type = Object, examples(json!({"kind": "text", "text": "done"})))]
    pub(crate) event: Value,
}

/// A page of a run's events, oldest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EventPage {
    pub(crate) items: Vec<EventView>,
    /// The value of `after` for the next page; the same as asked for where this one is empty.
    pub(crate) next_after: i64,
    /// Whether no event follows.
    pub(crate) ended: bool,
}

impl From<StoredEvent> for EventView {
    fn from(StoredEvent { seq, at, event }: StoredEvent) -> Self {
        Self { seq, at, event }
    }
}

impl From<Usage> for UsageView {
    fn from(usage: Usage) -> Self {
        Self {
            input_tokens: usage.input_tokens,
            output_tokens: usage.output_tokens,
            cache_read_tokens: usage.cache_read_tokens,
            cache_write_tokens: usage.cache_write_tokens,
            total_tokens: usage.total_tokens(),
            cost_usd: usd(usage.cost_microusd),
            turns: usage.turns,
        }
    }
}

impl From<Run> for RunView {
    fn from(run: Run) -> Self {
        let duration_s = run
            .started_at
            .zip(run.ended_at)
            .map(|(start, end)| end.duration_since(start).as_secs_f64());
        let outcome = run.outcome();
        let report = run.report;
        let of_report = |text: fn(&core_types::outcome::RunReport) -> &Option<String>| {
            report.as_ref().and_then(|report| text(report).clone())
        };
        Self {
            id: run.id,
            task: run.task,
            number: run.number,
            status: run.status,
            outcome,
            message: of_report(|report| &report.message),
            hint: of_report(|report| &report.hint),
            retry_at: report.as_ref().and_then(|report| report.retry_at),
            usage: report.as_ref().map(|report| report.usage.into()),
            session: of_report(|report| &report.session),
            base_commit: run.base_commit,
            commit: of_report(|report| &report.commit),
            branch: of_report(|report| &report.branch),
            agent: run.agent,
            host: run.host.map(|host| host.as_str().to_owned()),
            environment: run.environment,
            created_at: run.created_at,
            started_at: run.started_at,
            ended_at: run.ended_at,
            duration_s,
        }
    }
}

impl RunDetail {
    pub(crate) fn new(run: Run, milestones: Vec<StoredEvent>) -> Self {
        let ended_at = run.ended_at;
        let (mut phases, mut verification) = (Vec::<PhaseView>::new(), Vec::new());
        for StoredEvent { at, event, .. } in milestones {
            match serde_json::from_value(event) {
                Ok(RunEvent::Phase { name }) => {
                    end_phase(&mut phases, at);
                    phases.push(PhaseView { name, started_at: at, duration_s: None });
                }
                Ok(RunEvent::Ended { .. }) => end_phase(&mut phases, at),
                Ok(RunEvent::Verification { command, passed, status, output }) => {
                    verification.push(VerificationView { command, passed, status, output, at });
                }
                Ok(_) | Err(_) => {}
            }
        }
        if let Some(at) = ended_at {
            end_phase(&mut phases, at);
        }
        Self { run: run.into(), phases, verification }
    }
}

/// Ends the last phase, if it is not over.
fn end_phase(phases: &mut [PhaseView], at: Timestamp) {
    if let Some(phase) = phases.last_mut().filter(|phase| phase.duration_s.is_none()) {
        let seconds = at.duration_since(phase.started_at).as_secs_f64();
        phase.duration_s = Some(seconds.max(0.0));
    }
}

/// Millionths of a US dollar as dollars.
pub(crate) fn usd(microusd: u64) -> f64 {
    microusd as f64 / 1_000_000.0
}
