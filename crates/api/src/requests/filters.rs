//! Queries of lists: filters, order, the length of a page, and the place where it begins.

use std::str::FromStr;

use core_types::{
    ids::{AgentId, TaskId},
    notice::{NoticeEvent, NoticeState},
    outcome::RunOutcome,
    task::{ExecutorKind, Role, RunStatus, TaskStatus},
};
use jiff::Timestamp;
use serde::Deserialize;
use store::{
    agents::{AgentFilter, AgentState},
    notices::NoticeFilter,
    page::Order,
    runs::list::RunFilter,
    tasks::list::TaskFilter,
};
use utoipa::IntoParams;

use crate::{
    error::{ApiError, FieldFault},
    requests::{
        cursor,
        paging::{PAGE_DEFAULT, PAGE_MAX, limit},
    },
};

/// The longest text that is looked for in titles, in characters.
pub(crate) const SEARCH_MAX: usize = 200;
/// The words of `order`.
pub(crate) const ORDERS: &[&str] = &["newest", "oldest"];
/// The words of `state` of an agent.
pub(crate) const AGENT_STATES: &[&str] = &["idle", "busy", "silent", "retired"];

/// The query of `GET /tasks`.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct TasksQuery {
    /// Only tasks that stand so; several are separated by commas.
    #[param(style = Form, explode = false, schema_with = crate::schema::task_statuses)]
    pub(crate) status: Option<String>,
    /// Only tasks of this role.
    #[param(schema_with = crate::schema::role)]
    pub(crate) role: Option<String>,
    /// Only tasks for this agent command line.
    #[param(schema_with = crate::schema::executor)]
    pub(crate) executor: Option<String>,
    /// Only tasks of this area.
    #[param(schema_with = crate::schema::plain_text)]
    pub(crate) target_area: Option<String>,
    /// Only tasks of the repository with this path or URL, as the task names it.
    #[param(schema_with = crate::schema::plain_text)]
    pub(crate) repository: Option<String>,
    /// Only tasks with this text in their title, upper and lower case alike.
    #[param(schema_with = crate::schema::search_text)]
    pub(crate) q: Option<String>,
    /// Only tasks that were made then or later.
    #[param(schema_with = crate::schema::moment)]
    pub(crate) created_after: Option<String>,
    /// Only tasks that were made earlier.
    #[param(schema_with = crate::schema::moment)]
    pub(crate) created_before: Option<String>,
    /// Which come first; `newest` where left out.
    #[param(schema_with = crate::schema::order)]
    pub(crate) order: Option<String>,
    /// The length of the page, 1 to 200; 50 where left out.
    #[param(schema_with = crate::schema::page_limit)]
    pub(crate) limit: Option<String>,
    /// The `next_cursor` of the page before, with the same filters and order.
    pub(crate) cursor: Option<String>,
}

/// The query of `GET /runs`.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct RunsQuery {
    /// Only runs of this task.
    #[param(schema_with = crate::schema::task_id)]
    pub(crate) task: Option<String>,
    /// Only runs that stand so; several are separated by commas.
    #[param(style = Form, explode = false, schema_with = crate::schema::run_statuses)]
    pub(crate) status: Option<String>,
    /// Only runs that came to this; several are separated by commas.
    #[param(style = Form, explode = false, schema_with = crate::schema::run_outcomes)]
    pub(crate) outcome: Option<String>,
    /// Only runs of this agent.
    #[param(schema_with = crate::schema::agent_id)]
    pub(crate) agent: Option<String>,
    /// Only runs of tasks for this agent command line.
    #[param(schema_with = crate::schema::executor)]
    pub(crate) executor: Option<String>,
    /// Only runs that were handed out then or later.
    #[param(schema_with = crate::schema::moment)]
    pub(crate) since: Option<String>,
    /// Only runs that were handed out earlier.
    #[param(schema_with = crate::schema::moment)]
    pub(crate) until: Option<String>,
    /// Which come first; `newest` where left out.
    #[param(schema_with = crate::schema::order)]
    pub(crate) order: Option<String>,
    /// The length of the page, 1 to 200; 50 where left out.
    #[param(schema_with = crate::schema::page_limit)]
    pub(crate) limit: Option<String>,
    /// The `next_cursor` of the page before, with the same filters and order.
    pub(crate) cursor: Option<String>,
}

/// The query of `GET /agents`.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct AgentsQuery {
    /// Only agents of this role.
    #[param(schema_with = crate::schema::role)]
    role: Option<String>,
    /// Only agents that do this; where left out, all that have not signed off.
    #[param(schema_with = crate::schema::agent_state)]
    state: Option<String>,
}

/// The query of `GET /notices`.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct NoticesQuery {
    /// Only notices that stand so; several are separated by commas.
    #[param(style = Form, explode = false, schema_with = crate::schema::notice_states)]
    state: Option<String>,
    /// Only notices about this.
    #[param(schema_with = crate::schema::notice_event)]
    event: Option<String>,
    /// The length of the page, 1 to 200; 50 where left out.
    #[param(schema_with = crate::schema::page_limit)]
    limit: Option<String>,
    /// The `next_cursor` of the page before, with the same filters.
    cursor: Option<String>,
}

impl TasksQuery {
    pub(crate) fn filter(&self) -> Result<TaskFilter, ApiError> {
        let mut read = Reader::default();
        let mut filter = TaskFilter {
            statuses: read.words("status", self.status.as_deref(), TaskStatus::WORDS),
            role: read.word("role", self.role.as_deref(), Role::WORDS),
            executor: read.word("executor", self.executor.as_deref(), ExecutorKind::WORDS),
            target_area: read.text("target_area", self.target_area.as_deref(), usize::MAX),
            repository: read.text("repository", self.repository.as_deref(), usize::MAX),
            title: read.text("q", self.q.as_deref(), SEARCH_MAX),
            since: read.moment("created_after", self.created_after.as_deref()),
            until: read.moment("created_before", self.created_before.as_deref()),
            order: read.order(self.order.as_deref()),
            before: None,
            limit: 0,
        };
        filter.before = cursor::parse(self.cursor.as_deref(), &filter, &mut read.0);
        filter.limit = limit(self.limit.as_deref(), PAGE_DEFAULT, PAGE_MAX, &mut read.0);
        read.done(filter)
    }
}

impl RunsQuery {
    pub(crate) fn filter(&self) -> Result<RunFilter, ApiError> {
        let mut read = Reader::default();
        let mut filter = RunFilter {
            task: read.id("task", self.task.as_deref(), TaskId::KIND),
            statuses: read.words("status", self.status.as_deref(), RunStatus::WORDS),
            outcomes: read.words("outcome", self.outcome.as_deref(), RunOutcome::WORDS),
            agent: read.id("agent", self.agent.as_deref(), AgentId::KIND),
            executor: read.word("executor", self.executor.as_deref(), ExecutorKind::WORDS),
            since: read.moment("since", self.since.as_deref()),
            until: read.moment("until", self.until.as_deref()),
            order: read.order(self.order.as_deref()),
            before: None,
            limit: 0,
        };
        filter.before = cursor::parse(self.cursor.as_deref(), &filter, &mut read.0);
        filter.limit = limit(self.limit.as_deref(), PAGE_DEFAULT, PAGE_MAX, &mut read.0);
        read.done(filter)
    }
}

impl NoticesQuery {
    pub(crate) fn filter(&self) -> Result<NoticeFilter, ApiError> {
        let mut read = Reader::default();
        let mut filter = NoticeFilter {
            states: read.words("state", self.state.as_deref(), NoticeState::WORDS),
            event: read.word("event", self.event.as_deref(), NoticeEvent::WORDS),
            before: None,
            limit: 0,
        };
        filter.before = cursor::parse(self.cursor.as_deref(), &filter, &mut read.0);
        filter.limit = limit(self.limit.as_deref(), PAGE_DEFAULT, PAGE_MAX, &mut read.0);
        read.done(filter)
    }
}

impl AgentsQuery {
    pub(crate) fn filter(&self) -> Result<AgentFilter, ApiError> {
        let mut read = Reader::default();
        let role = read.word("role", self.role.as_deref(), Role::WORDS);
        let state = self.state.as_deref().and_then(|state| read.agent_state(state));
        read.done(AgentFilter { role, state })
    }
}

/// What `next_cursor` says for a page of this filter, whose cursor and length do not count.
pub(crate) fn next_task_cursor(
    filter: TaskFilter,
    cursor: Option<store::page::Cursor>,
) -> Option<String> {
    let filters = TaskFilter { before: None, limit: 0, ..filter };
    cursor.map(|cursor| cursor::text(cursor, &filters))
}

/// The same for runs.
pub(crate) fn next_run_cursor(
    filter: RunFilter,
    cursor: Option<store::page::Cursor>,
) -> Option<String> {
    let filters = RunFilter { before: None, limit: 0, ..filter };
    cursor.map(|cursor| cursor::text(cursor, &filters))
}

/// The same for notices.
pub(crate) fn next_notice_cursor(
    filter: NoticeFilter,
    cursor: Option<store::page::Cursor>,
) -> Option<String> {
    let filters = NoticeFilter { before: None, limit: 0, ..filter };
    cursor.map(|cursor| cursor::text(cursor, &filters))
}

/// Reads parameters and collects what is wrong with them.
#[derive(Debug, Default)]
struct Reader(Vec<FieldFault>);

impl Reader {
    fn done<T>(self, filter: T) -> Result<T, ApiError> {
        if self.0.is_empty() { Ok(filter) } else { Err(ApiError::parameters(self.0)) }
    }

    fn fault(&mut self, field: &str, allowed: impl Into<String>) {
        self.0.push(FieldFault::new(field, "is not allowed", allowed));
    }

    fn word<T: FromStr>(&mut self, field: &str, text: Option<&str>, words: &[&str]) -> Option<T> {
        let parsed = text?.parse().ok();
        if parsed.is_none() {
            self.fault(field, words.join(", "));
        }
        parsed
    }

    fn words<T: FromStr>(&mut self, field: &str, text: Option<&str>, words: &[&str]) -> Vec<T> {
        let Some(text) = text else {
            return Vec::new();
        };
        let parsed: Result<Vec<T>, T::Err> = text.split(',').map(str::parse).collect();
        parsed.unwrap_or_else(|_| {
            self.fault(field, format!("one or several, separated by commas: {}", words.join(", ")));
            Vec::new()
        })
    }

    fn id<T: FromStr>(&mut self, field: &str, text: Option<&str>, kind: &str) -> Option<T> {
        let parsed = text?.parse().ok();
        if parsed.is_none() {
            self.fault(field, format!("`{kind}-` and 32 hexadecimal digits"));
        }
        parsed
    }

    /// A text of at least one character; the database takes no NUL.
    fn text(&mut self, field: &str, text: Option<&str>, max: usize) -> Option<String> {
        let text = text?;
        if text.is_empty() || text.contains('\0') || text.chars().nth(max).is_some() {
            let longest = if max == usize::MAX { String::new() } else { format!(" to {max}") };
            self.fault(
                field,
                format!("a text of 1{longest} characters, without the character NUL"),
            );
            return None;
        }
        Some(text.to_owned())
    }

    /// A moment of the years that have four digits; nothing was made outside of them.
    fn moment(&mut self, field: &str, text: Option<&str>) -> Option<Timestamp> {
        let parsed: Option<Timestamp> = text?.parse().ok();
        if parsed.is_none() {
            self.fault(field, "a date and time with its offset, such as 2026-01-31T12:00:00Z");
        }
        parsed.map(|at| at.clamp(Timestamp::UNIX_EPOCH, Timestamp::MAX))
    }

    fn order(&mut self, text: Option<&str>) -> Order {
        match text {
            None | Some("newest") => Order::Newest,
            Some("oldest") => Order::Oldest,
            Some(_) => {
                self.fault("order", ORDERS.join(", "));
                Order::Newest
            }
        }
    }

    fn agent_state(&mut self, text: &str) -> Option<AgentState> {
        Some(match text {
            "idle" => AgentState::Idle,
            "busy" => AgentState::Busy,
            "silent" => AgentState::Silent,
            "retired" => AgentState::Retired,
            _ => {
                self.fault("state", AGENT_STATES.join(", "));
                return None;
            }
        })
    }
}
