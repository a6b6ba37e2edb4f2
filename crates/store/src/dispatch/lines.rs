//! The lines of ready tasks: which of them a claim looks at, and who stands at their heads.
//!
//! Each role has a line for each executor and provider, so that a closed gate holds up its own alone. Callers choose the
//! names of providers, so there can be any number of lines, and a claim looks at so many of them: at the first few, where
//! whoever names no provider stands, and at those that follow the ones it looked at the last time. So its cost has a bound,
//! and each line has its turn. Up to that number all lines are looked at, and the best task of all is first.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use core_types::{provider::Provider, task::Role};
use deadpool_postgres::{GenericClient as _, Transaction};
use tokio_postgres::Row;
use uuid::Uuid;

use super::picking::{Head, Room};
use crate::{
    error::StoreError,
    row::{get, word},
};

/// Lines that one look goes through, for each role.
pub(super) const AT_ONCE: i32 = 64;
/// Of these the first ones, which are looked at each time.
const FIRST: i32 = 4;
/// Looks of one claim that finds nobody.
const LOOKS: usize = 8;

/// Executor and provider.
type Line = (String, String);

/// After which line the next look goes on, for each role; none where it looks at all of them.
#[derive(Debug, Default)]
pub(crate) struct Cursors(Mutex<HashMap<Role, Line>>);

/// Where a look begins: after a line of a role, and how far it goes.
#[derive(Debug, Default)]
struct Starts<'a> {
    roles: Vec<&'a str>,
    executors: Vec<String>,
    providers: Vec<String>,
    most: Vec<i32>,
}

impl Cursors {
    fn held(&self) -> MutexGuard<'_, HashMap<Role, Line>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn starts<'a>(&self, roles: &[&'a str]) -> Result<Starts<'a>, StoreError> {
        let cursors = self.held();
        let mut starts = Starts::default();
        let mut start = |role: &'a str, (executor, provider): Line, most| {
            starts.roles.push(role);
            starts.executors.push(executor);
            starts.providers.push(provider);
            starts.most.push(most);
        };
        for &role in roles {
            let known = role.parse().map_err(|error| StoreError::corrupt("role", error))?;
            match cursors.get(&known) {
                None => start(role, Line::default(), AT_ONCE),
                Some(line) => {
                    start(role, Line::default(), FIRST);
                    start(role, line.clone(), AT_ONCE - FIRST);
                }
            }
        }
        Ok(starts)
    }

    /// Notes how far a look came. Tells whether there are lines that it has not seen.
    fn note(&self, roles: &[&str], rows: &[Row]) -> Result<bool, StoreError> {
        let mut ends = HashMap::new();
        for row in rows {
            if get(row, "is_end")? {
                ends.insert(
                    word::<Role>(row, "role")?,
                    (get(row, "executor")?, get(row, "provider")?),
                );
            }
        }
        let mut cursors = self.held();
        let began_amid =
            roles.iter().any(|role| role.parse().is_ok_and(|role| cursors.contains_key(&role)));
        cursors.retain(|role, _| !roles.contains(&role.as_str()));
        let goes_on = began_amid || !ends.is_empty();
        cursors.extend(ends);
        Ok(goes_on)
    }
}

/// Each line that is looked at, with the heads of those that are not behind one of these gates and not of one of these
/// executors. Served by `ready_by_rank`, in its order. The limits are literals: with parameters the planner may sort.
pub(super) fn heads_of_lines(limit: u32) -> String {
    format!(
        "WITH RECURSIVE line (role, executor, provider, number, most) AS (
             SELECT first.role, first.executor, first.provider, 1, wanted.most
             FROM unnest($1::text[], $2::text[], $3::text[], $4::int[]) AS wanted (role, executor, provider, most)
             CROSS JOIN LATERAL (
                 SELECT role, executor, provider FROM ready
                 WHERE role = wanted.role AND (executor, provider) > (wanted.executor, wanted.provider)
                 ORDER BY executor, provider LIMIT 1
             ) AS first
             UNION ALL
             SELECT next.role, next.executor, next.provider, line.number + 1, line.most
             FROM line CROSS JOIN LATERAL (
                 SELECT role, executor, provider FROM ready
                 WHERE role = line.role AND (executor, provider) > (line.executor, line.provider)
                 ORDER BY executor, provider LIMIT 1
             ) AS next
             WHERE line.number < line.most
         ), seen AS MATERIALIZED (
             SELECT role, executor, provider, number = most AND most <> {FIRST} AS is_end,
                 (executor, provider) IN (SELECT * FROM unnest($5::text[], $6::text[]))
                     OR executor = ANY ($7::text[]) AS shut
             FROM line
         )
         SELECT seen.role, seen.executor, seen.provider, seen.is_end, head.task, head.rank, head.area
         FROM seen LEFT JOIN LATERAL (
             SELECT task, rank, area FROM ready
             WHERE NOT seen.shut AND role = seen.role AND executor = seen.executor AND provider = seen.provider
             ORDER BY rank, task LIMIT {limit} FOR UPDATE SKIP LOCKED
         ) AS head ON true"
    )
}

/// The heads of the lines that have an idle agent, best first. Some more than needed: a lane or a task may be locked.
pub(super) async fn heads(
    tx: &Transaction<'_>,
    room: &Room,
    cursors: &Cursors,
    limit: u32,
) -> Result<Vec<Head>, StoreError> {
    let roles = room.roles();
    let (shut_executors, shut_providers): (Vec<&str>, Vec<&str>) =
        room.shut_lines().into_iter().unzip();
    let most = room.agents.values().map(VecDeque::len).max().unwrap_or_default();
    let wanted = u32::try_from(most).unwrap_or(limit).min(limit) + 3;
    let statement = tx.prepare_cached(&heads_of_lines(wanted.next_power_of_two())).await?;
    for _ in 0..LOOKS {
        let Starts { roles: starts, executors, providers, most } = cursors.starts(&roles)?;
        let rows = tx
            .query(
                &statement,
                &[
                    &starts,
                    &executors,
                    &providers,
                    &most,
                    &shut_executors,
                    &shut_providers,
                    &room.without(),
                ],
            )
            .await?;
        let goes_on = cursors.note(&roles, &rows)?;
        let heads = heads_from(&rows, room)?;
        if !heads.is_empty() || !goes_on {
            return Ok(heads);
        }
    }
    Ok(Vec::new())
}

fn heads_from(rows: &[Row], room: &Room) -> Result<Vec<Head>, StoreError> {
    let mut heads = Vec::new();
    // The first lines may be among those that follow.
    let mut known = HashSet::new();
    for row in rows {
        let Some(task) = get::<Option<Uuid>>(row, "task")? else { continue };
        if known.insert(task) {
            heads.push(head_from(row, task, room)?);
        }
    }
    heads.sort_by_key(|head| (head.rank, head.task));
    Ok(heads)
}

fn head_from(row: &Row, task: Uuid, room: &Room) -> Result<Head, StoreError> {
    let executor = word(row, "executor")?;
    let provider = Provider::named(get(row, "provider")?);
    Ok(Head {
        rank: get(row, "rank")?,
        task,
        role: word(row, "role")?,
        gate: room.gate_of(executor, &provider),
        area: get(row, "area")?,
    })
}
