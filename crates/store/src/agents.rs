//! Resident agents: one row for each life of an agent process.
//!
//! A beat proves that the process is there, nothing more. Whether an agent is busy follows from its run alone, so a
//! beat cannot make a busy agent idle, and a finish cannot make a dead one live.

use std::fmt;

use core_types::{
    ids::{AgentId, RunId, RunKey},
    task::Role,
};
use jiff::Timestamp;
use tokio_postgres::{Row, types::ToSql};
use uuid::Uuid;

use crate::{
    connections::Statements as _,
    error::StoreError,
    pool::{SIGN_OF_LIFE, Store},
    row::{bigint, clean, get, number, word},
    runs::Assignment,
    tasks,
    wake::Channel,
};

/// An agent that was silent for longer than this gets no work, in milliseconds.
pub(crate) const LIVE_FOR_MS: i64 = 15_000;

/// Names a machine.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostId(String);

impl HostId {
    /// Takes a machine's name.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    /// The machine's name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HostId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Names a process for good, although its number will be used again.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ProcessIdentity {
    /// The process's number.
    pub pid: i32,
    /// When it started, in clock ticks since the machine did.
    pub start_ticks: u64,
    /// Which start of the machine.
    pub boot_id: String,
}

/// An agent that says hello.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewAgent {
    /// Made anew by each process.
    pub id: AgentId,
    /// What people call it; a later life of the same agent has the same.
    pub name: String,
    /// The tasks it takes.
    pub role: Role,
    /// Where it runs.
    pub host: HostId,
    /// Its process.
    pub process: ProcessIdentity,
    /// Its openTiger.
    pub version: String,
}

/// A registered agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agent {
    /// See [`NewAgent::id`].
    pub id: AgentId,
    /// See [`NewAgent::name`].
    pub name: String,
    /// See [`NewAgent::role`].
    pub role: Role,
    /// See [`NewAgent::host`].
    pub host: HostId,
    /// See [`NewAgent::process`].
    pub process: ProcessIdentity,
    /// See [`NewAgent::version`].
    pub version: String,
    /// The run it was handed; absent while it is idle.
    pub run: Option<RunId>,
    /// Whether its last beat is recent enough for it to be given work.
    pub live: bool,
    /// When it registered.
    pub registered_at: Timestamp,
    /// When it last gave a sign.
    pub last_beat: Timestamp,
    /// When it signed off, or was signed off.
    pub retired_at: Option<Timestamp>,
}

/// What an agent does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AgentState {
    /// It is alive and has no run.
    Idle,
    /// It is alive and has a run.
    Busy,
    /// It has not signed off and gives no sign.
    Silent,
    /// It has signed off, or was signed off.
    Retired,
}

/// Which agents a list shows; what is left out is not asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AgentFilter {
    /// Only those of this role.
    pub role: Option<Role>,
    /// Only those that do this; where left out, those that have not signed off.
    pub state: Option<AgentState>,
}

impl Agent {
    /// What it does.
    #[must_use]
    pub const fn state(&self) -> AgentState {
        match (self.retired_at, self.live, self.run) {
            (Some(_), _, _) => AgentState::Retired,
            (None, false, _) => AgentState::Silent,
            (None, true, Some(_)) => AgentState::Busy,
            (None, true, None) => AgentState::Idle,
        }
    }
}

/// Whether a beat counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BeatReply {
    /// It did.
    Known,
    /// The agent never registered: it must.
    Unknown,
}

/// Most agents in one list.
const LIST_LIMIT: i64 = 1000;

/// Reads the columns `pid`, `start_ticks` and `boot_id`.
pub(crate) fn process_from_row(row: &Row) -> Result<ProcessIdentity, StoreError> {
    Ok(ProcessIdentity {
        pid: get(row, "pid")?,
        start_ticks: number::<i64, u64>(row, "start_ticks")?,
        boot_id: get(row, "boot_id")?,
    })
}

impl Store {
    /// Makes an agent known and idle. Again for one that is known is a beat: its run is not touched, and one that was
    /// signed off stays so, for a later life of it has another id.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn register_agent(&self, agent: &NewAgent) -> Result<(), StoreError> {
        let NewAgent { id, name, role, host, process, version } = agent;
        let connection = self.connection().await?;
        connection
            .execute(
                "INSERT INTO agents (id, name, role, host, pid, start_ticks, boot_id, version, idle_since,
                     registered_at, last_beat)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, clock_timestamp(), clock_timestamp(), clock_timestamp())
                 ON CONFLICT (id) DO UPDATE SET last_beat = clock_timestamp()",
                &[
                    &id.as_uuid(),
                    &clean(name),
                    &role.as_str(),
                    &host.as_str(),
                    &process.pid,
                    &bigint(process.start_ticks),
                    &process.boot_id,
                    &version,
                ],
            )
            .await?;
        drop(connection);
        self.wake(Channel::Tasks);
        Ok(())
    }

    /// Notes a sign of life, whether the agent is signed on or off. Served by the primary key; changes no index.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn agent_beat(&self, id: AgentId) -> Result<BeatReply, StoreError> {
        let connection = self.connection_within(SIGN_OF_LIFE).await?;
        let statement = connection
            .prepare_cached("UPDATE agents SET last_beat = clock_timestamp() WHERE id = $1")
            .await?;
        let known = connection.execute(&statement, &[&id.as_uuid()]).await? > 0;
        Ok(if known { BeatReply::Known } else { BeatReply::Unknown })
    }

    /// Signs an agent off for good, so that it gets no more work; tells whether it was signed on. Its run is not touched.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn retire_agent(&self, id: AgentId) -> Result<bool, StoreError> {
        let connection = self.connection().await?;
        let retired = connection
            .execute(
                "UPDATE agents SET retired_at = clock_timestamp() WHERE id = $1 AND retired_at IS NULL",
                &[&id.as_uuid()],
            )
            .await?;
        Ok(retired > 0)
    }

    /// Signs off idle agents that have been silent for a week, so that dead ones do not pile up; tells how many.
    /// Served by `agents_idle`.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn retire_silent_agents(&self) -> Result<u64, StoreError> {
        let connection = self.connection().await?;
        let retired = connection
            .execute(
                "UPDATE agents SET retired_at = clock_timestamp()
                 WHERE run IS NULL AND retired_at IS NULL AND last_beat < clock_timestamp() - interval '7 days'",
                &[],
            )
            .await?;
        Ok(retired)
    }

    /// The agents that have not signed off, live ones first, then by name; at most 1000. Served by `agents_present`.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn agents(&self) -> Result<Vec<Agent>, StoreError> {
        let rest = "WHERE retired_at IS NULL ORDER BY live DESC, name, id LIMIT $2";
        self.select_agents(rest, &[&LIVE_FOR_MS, &LIST_LIMIT]).await
    }

    /// The agent, if there is one. Served by the primary key.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn agent(&self, id: AgentId) -> Result<Option<Agent>, StoreError> {
        let found = self.select_agents("WHERE id = $2", &[&LIVE_FOR_MS, &id.as_uuid()]).await?;
        Ok(found.into_iter().next())
    }

    /// Agents: live ones first, then by name; those that have signed off by when, the last one first. At most 1000.
    /// Served by `agents_present` or `agents_retired`.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn list_agents(&self, filter: AgentFilter) -> Result<Vec<Agent>, StoreError> {
        const LIVE: &str = "last_beat > clock_timestamp() - $1::bigint * interval '1 millisecond'";
        let role = filter.role.map(Role::as_str);
        let (state, order) = match filter.state {
            None => ("retired_at IS NULL".to_owned(), "live DESC, name, id"),
            Some(AgentState::Idle) => {
                (format!("retired_at IS NULL AND run IS NULL AND {LIVE}"), "name, id")
            }
            Some(AgentState::Busy) => {
                (format!("retired_at IS NULL AND run IS NOT NULL AND {LIVE}"), "name, id")
            }
            Some(AgentState::Silent) => {
                (format!("retired_at IS NULL AND NOT {LIVE}"), "last_beat DESC, id")
            }
            Some(AgentState::Retired) => {
                ("retired_at IS NOT NULL".to_owned(), "retired_at DESC, id DESC")
            }
        };
        let rest =
            format!("WHERE {state} AND ($3::text IS NULL OR role = $3) ORDER BY {order} LIMIT $2");
        self.select_agents(&rest, &[&LIVE_FOR_MS, &LIST_LIMIT, &role]).await
    }

    /// Every agent of this host that has not signed off, silent ones too. Served by `agents_present_by_host`.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn live_agents_on(&self, host: &HostId) -> Result<Vec<Agent>, StoreError> {
        let rest = "WHERE host = $2 AND retired_at IS NULL ORDER BY id";
        self.select_agents(rest, &[&LIVE_FOR_MS, &host.as_str()]).await
    }

    async fn select_agents(
        &self,
        rest: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Agent>, StoreError> {
        let sql = format!(
            "SELECT *, last_beat > clock_timestamp() - $1::bigint * interval '1 millisecond' AS live
             FROM agents {rest}"
        );
        let connection = self.connection().await?;
        let rows = connection.query_cached(&sql, params).await?;
        rows.iter().map(agent_from_row).collect()
    }

    /// The run that was handed to this agent and that it has not accepted yet. Served by the primary keys.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn assignment(&self, id: AgentId) -> Result<Option<Assignment>, StoreError> {
        let connection = self.connection().await?;
        let statement = connection
            .prepare_cached(&format!(
                "SELECT r.id AS run, l.number, {}
                 FROM agents a
                 JOIN runs r ON r.id = a.run AND r.agent = a.id AND r.status = 'launching'
                 JOIN leases l ON l.run = r.id AND l.revoked_at IS NULL
                 JOIN tasks t ON t.id = r.task
                 WHERE a.id = $1",
                tasks::COLUMNS
            ))
            .await?;
        let row = connection.query_opt(&statement, &[&id.as_uuid()]).await?;
        row.as_ref().map(assignment_from_row).transpose()
    }
}

fn assignment_from_row(row: &Row) -> Result<Assignment, StoreError> {
    let lease = core_types::ids::LeaseNumber(get(row, "number")?);
    Ok(Assignment {
        key: RunKey { run: RunId::from_uuid(get(row, "run")?), lease },
        number: crate::runs::number_of(lease)?,
        task: tasks::from_row(row)?,
    })
}

fn agent_from_row(row: &Row) -> Result<Agent, StoreError> {
    Ok(Agent {
        id: AgentId::from_uuid(get(row, "id")?),
        name: get(row, "name")?,
        role: word(row, "role")?,
        host: HostId::new(get::<String>(row, "host")?),
        process: process_from_row(row)?,
        version: get(row, "version")?,
        run: get::<Option<Uuid>>(row, "run")?.map(RunId::from_uuid),
        live: get(row, "live")?,
        registered_at: get(row, "registered_at")?,
        last_beat: get(row, "last_beat")?,
        retired_at: get(row, "retired_at")?,
    })
}
