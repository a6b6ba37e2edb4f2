//! What a claim has room for, and which of the heads of the lines get it. The choice itself knows no database.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use core_types::{
    gate::Passage,
    ids::{RunId, TaskId},
    provider::Provider,
    task::{ExecutionEnvironment, ExecutorKind, Role},
    usage::SpendLimits,
};
use deadpool_postgres::{GenericClient as _, Transaction};
use tokio_postgres::{Row, types::ToSql};
use uuid::Uuid;

use super::{
    claim::{ClaimRequest, GATE, RUNNING, idle_agents},
    sandboxed::{BY_ROLE, places_from},
    spending::task_money_left,
};
use crate::{
    error::StoreError,
    gates::{self, GateKey, StoredGate},
    row::{get, number, word},
    spend::{self, DaySpend},
};

/// Where the runs of a claim are to be.
#[derive(Debug, Clone, Copy, Default)]
pub(super) enum Place<'a> {
    /// At idle agents of the host.
    #[default]
    Host,
    /// In sandboxes, so many of each role.
    Sandbox {
        /// Most runs of each role.
        counts: &'a BTreeMap<Role, u32>,
        /// Executors whose lines are passed over.
        without: &'a [ExecutorKind],
    },
}

impl Place<'_> {
    const fn environment(self) -> ExecutionEnvironment {
        match self {
            Self::Host => ExecutionEnvironment::Host,
            Self::Sandbox { .. } => ExecutionEnvironment::Sandbox,
        }
    }
}

/// A task at the head of its line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) rank: i64,
    pub(super) task: Uuid,
    pub(super) role: Role,
    /// The gate it must pass.
    pub(super) gate: GateKey,
    pub(super) area: Option<String>,
}

/// Idle agents by role, the longest idle first.
type Idle = HashMap<Role, VecDeque<Uuid>>;

/// What this claim could lock: areas, and tasks with their own limit on money and what they used of it, if that matters.
#[derive(Debug, Default)]
pub(super) struct Locked {
    pub(super) areas: HashSet<String>,
    pub(super) tasks: HashMap<Uuid, Money>,
}

/// The money of a task, in millionths of a US dollar.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Money {
    pub(super) limit: Option<u64>,
    pub(super) used: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pick {
    pub(super) task: Uuid,
    pub(super) agent: Uuid,
    /// The gate it passes.
    pub(super) gate: GateKey,
    /// What is set aside for it of the day's money, in millionths of a US dollar.
    pub(super) aside: u64,
}

/// What there is room for.
#[derive(Debug)]
pub(super) struct Room {
    /// Runs.
    pub(super) free: u32,
    pub(super) agents: Idle,
    /// Where the runs will be.
    environment: ExecutionEnvironment,
    /// Executors whose lines are passed over.
    without: Vec<ExecutorKind>,
    /// Gates that let no run through, or one: all others let any number through.
    kept: Vec<StoredGate>,
    /// Gates that let one run through; those of them that are locked by this claim once it asked.
    due: Vec<StoredGate>,
    /// Whose model a task of `opencode` asks that names none.
    default_provider: Provider,
    /// What was used today, where that is limited.
    day: Option<DaySpend>,
}

impl Room {
    /// Passes the gate of the claims, then looks in statements of their own: their snapshots show what the claim before
    /// has written.
    pub(super) async fn look(
        tx: &Transaction<'_>,
        limit: u32,
        request: &ClaimRequest,
        place: Place<'_>,
    ) -> Result<Self, StoreError> {
        let gate = tx.prepare_cached(GATE).await?;
        let running = tx.prepare_cached(RUNNING).await?;
        let idle = match place {
            Place::Host => tx.prepare_cached(&idle_agents(limit.next_power_of_two())).await?,
            Place::Sandbox { .. } => tx.prepare_cached(BY_ROLE).await?,
        };
        let gates = tx.prepare_cached(gates::SHUT_IN_ENVIRONMENT).await?;
        let (most, roles) = (i64::from(request.max_running), Role::WORDS);
        let environment = place.environment().as_str();
        let most: [&(dyn ToSql + Sync); 1] = [&most];
        let roles: &[&(dyn ToSql + Sync)] = match place {
            Place::Host => &[&roles],
            Place::Sandbox { .. } => &[],
        };
        let environment: [&(dyn ToSql + Sync); 1] = [&environment];
        let day = async {
            if request.spend.limits_days() { tx.query_opt(spend::DAY, &[]).await } else { Ok(None) }
        };
        // Sent together, run one after the other.
        let (_, count, agents, gates, day) = futures_util::try_join!(
            tx.query(&gate, &[]),
            tx.query_one(&running, &most),
            tx.query(&idle, roles),
            tx.query(&gates, &environment),
            day,
        )?;
        let count = number::<i64, u32>(&count, "running")?;
        let day = day.as_ref().map(spend::day_from_row).transpose()?;
        let spent = day.as_ref().is_some_and(|day| day.exhausted(&request.spend).is_some());
        let gates = gates.iter().map(gates::from_row).collect::<Result<Vec<_>, _>>()?;
        let kept: Vec<StoredGate> =
            gates.into_iter().filter(|s| s.gate.passage(s.now) != Passage::All).collect();
        let due = kept.iter().filter(|s| s.gate.passage(s.now) == Passage::One);
        Ok(Self {
            free: if spent { 0 } else { request.max_running.saturating_sub(count) },
            agents: match place {
                Place::Host => idle_from(&agents)?,
                Place::Sandbox { counts, .. } => places_from(&agents, counts)?,
            },
            environment: place.environment(),
            without: match place {
                Place::Host => Vec::new(),
                Place::Sandbox { without, .. } => without.to_vec(),
            },
            due: due.cloned().collect(),
            kept,
            default_provider: request.default_provider.clone(),
            day,
        })
    }

    /// Locks the gates that let one run through, as far as nobody else decides about them.
    pub(super) async fn open_due(
        &mut self,
        tx: &Transaction<'_>,
        environment: ExecutionEnvironment,
    ) -> Result<(), StoreError> {
        if !self.due.is_empty() {
            self.due = gates::lock_due(tx, environment).await?;
        }
        Ok(())
    }

    /// The roles that have an idle agent.
    pub(super) fn roles(&self) -> Vec<&'static str> {
        self.agents.keys().map(|role| role.as_str()).collect()
    }

    /// The gate that a task of this executor and provider must pass.
    pub(super) fn gate_of(&self, executor: ExecutorKind, provider: &Provider) -> GateKey {
        let provider = own_provider(executor, provider, &self.default_provider).clone();
        GateKey { environment: self.environment, executor, provider }
    }

    /// The executors whose lines are passed over, whatever their gates say.
    pub(super) fn without(&self) -> Vec<&'static str> {
        self.without.iter().map(|executor| executor.as_str()).collect()
    }

    /// The lines behind gates that let nothing through, as pairs of executor and provider. A task without a provider
    /// stands in a line of its own and passes the gate of the one from the settings.
    pub(super) fn shut_lines(&self) -> Vec<(&'static str, &str)> {
        let shut = self.kept.iter().map(|stored| &stored.key).filter(|key| !self.is_due(key));
        let mut lines = Vec::new();
        for GateKey { executor, provider, .. } in shut {
            if self.gate_of(*executor, provider).provider == *provider {
                lines.push((executor.as_str(), provider.as_str()));
            }
            let without_name = Provider::default();
            if self.gate_of(*executor, &without_name).provider == *provider {
                lines.push((executor.as_str(), ""));
            }
        }
        lines
    }

    fn is_due(&self, key: &GateKey) -> bool {
        self.due.iter().any(|stored| stored.key == *key)
    }

    /// Notes at the gates which runs are under way to try.
    pub(super) async fn pass(
        &self,
        tx: &Transaction<'_>,
        picks: &[Pick],
        claimed: &[(TaskId, RunId)],
    ) -> Result<(), StoreError> {
        for StoredGate { key, gate, now, .. } in &self.due {
            let of_gate = |pick: &&Pick| pick.gate == *key;
            let tried = picks.iter().find(of_gate).map(|pick| pick.task);
            let run = claimed.iter().find(|(task, _)| Some(task.as_uuid()) == tried);
            if let Some(gate) = run.and_then(|(_, run)| gate.passed(*run, *now)) {
                gates::write(tx, key, &gate).await?;
            }
        }
        Ok(())
    }
}

/// Whose model a task asks: of an executor with several providers the one from the settings, where it names none.
pub(crate) fn own_provider<'a>(
    executor: ExecutorKind,
    provider: &'a Provider,
    default_provider: &'a Provider,
) -> &'a Provider {
    match executor {
        ExecutorKind::ClaudeCode => provider,
        ExecutorKind::Opencode => provider.or(default_provider),
    }
}

fn idle_from(rows: &[Row]) -> Result<Idle, StoreError> {
    let mut idle = Idle::new();
    for row in rows {
        idle.entry(word(row, "role")?).or_default().push_back(get(row, "id")?);
    }
    Ok(idle)
}

/// Gives each head, best first, the agent of its role that has been idle the longest: one head of an area, one of a
/// gate that is tried, and no more than the day's money allows.
pub(super) fn pick(
    heads: Vec<Head>,
    room: &mut Room,
    locked: &Locked,
    limits: &SpendLimits,
    most: u32,
) -> Vec<Pick> {
    let most = usize::try_from(most.min(room.free)).unwrap_or(usize::MAX);
    let mut taken_areas = HashSet::new();
    let mut picks: Vec<Pick> = Vec::new();
    for head in heads {
        let Some(money) = locked.tasks.get(&head.task) else { continue };
        let area_is_free = head
            .area
            .as_ref()
            .is_none_or(|area| locked.areas.contains(area) && !taken_areas.contains(area));
        let tried_already =
            room.is_due(&head.gate) && picks.iter().any(|pick| pick.gate == head.gate);
        if picks.len() >= most || !area_is_free || tried_already {
            continue;
        }
        let Some(agents) = room.agents.get_mut(&head.role).filter(|agents| !agents.is_empty())
        else {
            continue;
        };
        let Some(aside) = set_aside(room.day.as_mut(), limits, *money) else { continue };
        if let Some(agent) = agents.pop_front() {
            taken_areas.extend(head.area);
            picks.push(Pick { task: head.task, agent, gate: head.gate, aside });
        }
    }
    picks
}

/// What is set aside for a run; nothing where the day does not leave enough.
fn set_aside(day: Option<&mut DaySpend>, limits: &SpendLimits, money: Money) -> Option<u64> {
    match (day, limits.day_cost_microusd) {
        (Some(day), Some(limit)) => {
            day.set_aside(limit, task_money_left(money.limit, limits, money.used))
        }
        (None, _) | (_, None) => Some(0),
    }
}

#[cfg(test)]
mod tests {
    use core_types::gate::Gate;
    use jiff::Timestamp;

    use super::*;

    const NO_LIMITS: SpendLimits = SpendLimits {
        task_tokens: None,
        task_cost_microusd: None,
        day_tokens: None,
        day_cost_microusd: None,
    };

    fn head(rank: i64, role: Role, area: Option<&str>) -> Head {
        let gate = gate(ExecutorKind::ClaudeCode, "");
        Head { rank, task: Uuid::now_v7(), role, gate, area: area.map(ToOwned::to_owned) }
    }

    fn gate(executor: ExecutorKind, provider: &str) -> GateKey {
        GateKey {
            environment: ExecutionEnvironment::Host,
            executor,
            provider: Provider::named(provider),
        }
    }

    /// A gate whose time to try has come.
    fn due(key: GateKey) -> StoredGate {
        let at = Timestamp::UNIX_EPOCH;
        StoredGate { key, gate: Gate::open(at), changed_at: at, now: at }
    }

    fn all_tasks(heads: &[Head]) -> Locked {
        let tasks = heads.iter().map(|head| (head.task, Money::default())).collect();
        Locked { areas: HashSet::new(), tasks }
    }

    /// Room for `free` runs of workers.
    fn room(free: u32) -> Room {
        let agents = (0..5).map(|_| Uuid::now_v7()).collect();
        let agents = Idle::from([(Role::Worker, agents)]);
        Room {
            free,
            agents,
            environment: ExecutionEnvironment::Host,
            without: Vec::new(),
            kept: Vec::new(),
            due: Vec::new(),
            default_provider: Provider::default(),
            day: None,
        }
    }

    fn picked(heads: &[Head], room: &mut Room, locked: &Locked, limits: &SpendLimits) -> Vec<Uuid> {
        pick(heads.to_vec(), room, locked, limits, 5).iter().map(|pick| pick.task).collect()
    }

    #[test]
    fn a_role_without_agents_is_passed_over() {
        let heads = [head(1, Role::Tester, None), head(2, Role::Worker, None)];
        let picks = picked(&heads, &mut room(5), &all_tasks(&heads), &NO_LIMITS);
        assert_eq!(picks, [heads[1].task]);
    }

    #[test]
    fn a_locked_area_does_not_use_up_the_room() {
        let heads = [head(1, Role::Worker, Some("a")), head(2, Role::Worker, None)];
        let picks = picked(&heads, &mut room(1), &all_tasks(&heads), &NO_LIMITS);
        assert_eq!(picks, [heads[1].task]);
    }

    #[test]
    fn of_an_area_with_a_line_for_each_executor_one_task_is_taken() {
        let opencode = gate(ExecutorKind::Opencode, "openai");
        let other = Head { gate: opencode, ..head(1, Role::Worker, Some("a")) };
        let heads = [other, head(2, Role::Worker, Some("a")), head(3, Role::Worker, None)];
        let locked = Locked { areas: HashSet::from(["a".to_owned()]), ..all_tasks(&heads) };
        let picks = picked(&heads, &mut room(5), &locked, &NO_LIMITS);
        assert_eq!(picks, [heads[0].task, heads[2].task]);
    }

    #[test]
    fn of_a_gate_that_is_tried_one_task_is_taken() {
        let of = |provider| gate(ExecutorKind::Opencode, provider);
        let head_of =
            |rank, provider| Head { gate: of(provider), ..head(rank, Role::Worker, None) };
        let heads = [head_of(1, "openai"), head_of(2, "openai"), head_of(3, "anthropic")];
        let mut room = Room { due: vec![due(of("openai"))], ..room(5) };
        let picks = picked(&heads, &mut room, &all_tasks(&heads), &NO_LIMITS);
        assert_eq!(picks, [heads[0].task, heads[2].task]);
    }

    #[test]
    fn no_more_runs_than_the_days_money_allows() {
        let heads: Vec<Head> = (1..=5).map(|rank| head(rank, Role::Worker, None)).collect();
        let limits = SpendLimits { day_cost_microusd: Some(1000), ..NO_LIMITS };
        let day = DaySpend {
            tokens: 0,
            cost_microusd: 300,
            reserved_microusd: 0,
            ends_at: Timestamp::UNIX_EPOCH,
        };
        let mut room = Room { day: Some(day), ..room(5) };
        let picks = pick(heads.clone(), &mut room, &all_tasks(&heads), &limits, 5);
        let aside: Vec<u64> = picks.iter().map(|pick| pick.aside).collect();
        assert_eq!(aside, [250, 250, 200]);
    }
}
