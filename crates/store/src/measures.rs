//! The whole system in numbers, as the database knows it: what every process did, whoever asks.
//!
//! Read in one transaction, so that all numbers are of one moment. It looks at every task that is kept: ask a few times a
//! minute, not a few times a second. How numbers are called and written for whoever collects them is decided elsewhere.

use std::collections::BTreeMap;

use core_types::{provider::Provider, task::ExecutionEnvironment, words};
use deadpool_postgres::Transaction;
use jiff::Timestamp;
use tokio_postgres::{IsolationLevel, Row};

use crate::{
    agents,
    connections::Statements as _,
    dispatchers,
    error::StoreError,
    pool::Store,
    row::{get, number, word},
};

words! {
    /// What is counted.
    Measure, "measure" {
        /// Tasks, by role and status.
        Tasks = "tasks",
        /// Queued tasks, by what they wait for: `dependency`, `cooldown`, `area`, `gate`, or nothing but their `turn`.
        Queued = "queued",
        /// Blocked tasks, by reason.
        Blocked = "blocked",
        /// For how many seconds the queued task that was made first has been there.
        OldestQueued = "oldest_queued",
        /// Runs that are alive, by environment and status.
        LiveRuns = "live_runs",
        /// Runs that ended, ever, by environment, executor, role and outcome.
        EndedRuns = "ended_runs",
        /// Tokens used, ever, by executor and kind.
        Tokens = "tokens",
        /// Money used, ever, in US dollars, by executor.
        Cost = "cost",
        /// Tokens used on this day of UTC.
        DayTokens = "day_tokens",
        /// Money used on this day of UTC, in US dollars.
        DayCost = "day_cost",
        /// Leases whose time is over and that nobody took back yet.
        ExpiredLeases = "expired_leases",
        /// Agents that live, by role and whether they are `idle` or `busy`.
        Agents = "agents",
        /// Dispatchers that live, by whether they are `claiming` or `paused`.
        Dispatchers = "dispatchers",
        /// Managed processes, by state.
        Processes = "processes",
        /// Starts after an end that nobody asked for, by the name of the process.
        Restarts = "restarts",
        /// Whether the gate of an executor is open, by environment, executor and provider.
        GateOpen = "gate_open",
        /// Notices that are not delivered, by state: `pending`, `failed`.
        Notices = "notices",
        /// Bytes of the database.
        DatabaseBytes = "database_bytes",
    }
}

words! {
    /// A stretch of a run's life.
    Stretch, "stretch" {
        /// From when a task could be taken to its claim.
        Wait = "wait",
        /// From the claim to the start.
        Start = "start",
        /// From the start to the end.
        Duration = "duration",
    }
}

/// A number.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// What was counted.
    pub measure: Measure,
    /// By what, in the order of the measure's documentation.
    pub labels: Vec<String>,
    /// How much.
    pub value: f64,
}

/// How long a stretch of ended runs took.
#[derive(Debug, Clone, PartialEq)]
pub struct Timing {
    /// Which stretch.
    pub stretch: Stretch,
    /// Where they ran.
    pub environment: String,
    /// What they ran.
    pub executor: String,
    /// All of it, in seconds.
    pub seconds: f64,
    /// For each bound how many took less; the last bound is infinite.
    pub buckets: Vec<(f64, u64)>,
}

/// The numbers of one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Measures {
    /// All but times.
    pub counts: Vec<Measured>,
    /// Times.
    pub timings: Vec<Timing>,
}

/// `$1` is the environment in force, `$2` the provider of a task of opencode that names none, `$3` and `$4` for how many
/// milliseconds silent agents and dispatchers count as alive.
const COUNTS: &str = "
    SELECT 'tasks' AS measure, ARRAY[role, status] AS labels, count(*)::float8 AS value
        FROM tasks GROUP BY role, status
    UNION ALL
    SELECT 'queued', ARRAY[waits.word], count(*) FROM tasks t
        LEFT JOIN ready r ON r.task = t.id
        LEFT JOIN executor_gates g ON r.task IS NOT NULL AND g.environment = $1::text AND g.executor = r.executor
            AND g.provider = CASE WHEN r.executor = 'opencode' AND r.provider = '' THEN $2::text ELSE r.provider END
        CROSS JOIN LATERAL (SELECT CASE
            WHEN t.pending_dependencies > 0 THEN 'dependency'
            WHEN t.not_before IS NOT NULL THEN 'cooldown'
            WHEN r.task IS NULL THEN 'area'
            WHEN g.state <> 'open' THEN 'gate'
            ELSE 'turn' END AS word) AS waits
        WHERE t.status = 'queued' GROUP BY waits.word
    UNION ALL
    SELECT 'blocked', ARRAY[block_reason], count(*) FROM tasks WHERE status = 'blocked' GROUP BY block_reason
    UNION ALL
    (SELECT 'oldest_queued', ARRAY[]::text[], greatest(extract(epoch FROM clock_timestamp() - created_at), 0)
        FROM tasks WHERE status = 'queued' ORDER BY seq LIMIT 1)
    UNION ALL
    SELECT 'live_runs', ARRAY[environment, status], count(*) FROM runs
        WHERE status IN ('launching', 'running', 'collecting') GROUP BY environment, status
    UNION ALL
    SELECT 'tokens', ARRAY[s.executor, k.kind], sum(k.tokens) FROM spend s
        CROSS JOIN LATERAL (VALUES ('input', s.input_tokens), ('output', s.output_tokens),
            ('cache_read', s.cache_read_tokens), ('cache_write', s.cache_write_tokens)) AS k (kind, tokens)
        GROUP BY s.executor, k.kind
    UNION ALL
    SELECT 'cost', ARRAY[executor], sum(cost_microusd) / 1e6 FROM spend GROUP BY executor
    UNION ALL
    SELECT 'day_tokens', ARRAY[]::text[],
        coalesce(sum(input_tokens + output_tokens + cache_read_tokens + cache_write_tokens), 0)
        FROM spend WHERE day = (clock_timestamp() AT TIME ZONE 'UTC')::date
    UNION ALL
    SELECT 'day_cost', ARRAY[]::text[], coalesce(sum(cost_microusd), 0) / 1e6
        FROM spend WHERE day = (clock_timestamp() AT TIME ZONE 'UTC')::date
    UNION ALL
    SELECT 'expired_leases', ARRAY[]::text[], count(*) FROM leases WHERE expires_at < clock_timestamp()
    UNION ALL
    SELECT 'agents', ARRAY[role, CASE WHEN run IS NULL THEN 'idle' ELSE 'busy' END], count(*) FROM agents
        WHERE retired_at IS NULL AND last_beat > clock_timestamp() - $3::bigint * interval '1 millisecond'
        GROUP BY 1, 2
    UNION ALL
    SELECT 'dispatchers', ARRAY[CASE WHEN paused IS NULL THEN 'claiming' ELSE 'paused' END], count(*) FROM dispatchers
        WHERE last_beat > clock_timestamp() - $4::bigint * interval '1 millisecond' GROUP BY 1, 2
    UNION ALL
    SELECT 'processes', ARRAY[state], count(*) FROM processes GROUP BY state
    UNION ALL
    SELECT 'restarts', ARRAY[name], sum(restarts) FROM processes GROUP BY name
    UNION ALL
    SELECT 'gate_open', ARRAY[environment, executor, provider], CASE WHEN state = 'open' THEN 1 ELSE 0 END
        FROM executor_gates
    UNION ALL
    SELECT 'notices', ARRAY[state], count(*) FROM notices WHERE state IN ('pending', 'failed') GROUP BY state
    UNION ALL
    SELECT 'database_bytes', ARRAY[]::text[], pg_database_size(current_database())";

/// Sums over runs that ended, as the trigger `runs_keep_measures` makes them, with what `$WHERE` says of them.
const ENDED: &str = "
    SELECT x.measure, r.environment, t.executor, t.role, r.outcome,
        CASE x.measure WHEN 'ended' THEN 0 ELSE width_bucket(x.seconds, run_time_bounds()) END AS bucket,
        count(*) AS runs, sum(x.seconds)::float8 AS seconds
    FROM runs r JOIN tasks t ON t.id = r.task
    CROSS JOIN LATERAL (VALUES
        ('ended', 0::float8),
        ('wait', extract(epoch FROM r.created_at - coalesce(r.claimable_at,
            CASE WHEN r.lease_number = 1 THEN t.created_at END))::float8),
        ('start', extract(epoch FROM r.started_at - r.created_at)::float8),
        ('duration', extract(epoch FROM r.ended_at - r.started_at)::float8)
    ) AS x (measure, seconds)
    WHERE r.ended_at IS NOT NULL AND x.seconds IS NOT NULL AND $WHERE
    GROUP BY 1, 2, 3, 4, 5, 6";
/// Those that were removed.
const REMOVED: &str =
    "SELECT measure, environment, executor, role, outcome, bucket, runs, seconds FROM removed_runs";
/// How many that are, and until when no transaction can still end a run.
const MOMENT: &str = "
    SELECT coalesce(sum(runs), 0)::bigint AS removed, clock_timestamp() - interval '60 seconds' AS settled
    FROM removed_runs";

/// What is added up: stretch, environment, executor, role, outcome, bucket.
type Key = (String, String, String, String, String, i32);

/// Sums over runs that ended before a moment, kept from one question to the next: what is old does not change, so each
/// question reads what is new. Once something was removed all is read anew.
#[derive(Debug, Clone, Default)]
pub struct Settled {
    until: Option<Timestamp>,
    removed: i64,
    sums: Sums,
}

#[derive(Debug, Clone, Default)]
struct Sums(BTreeMap<Key, (u64, f64)>);

impl Sums {
    fn add(&mut self, rows: &[Row]) -> Result<(), StoreError> {
        for row in rows {
            let key = (
                get(row, "measure")?,
                get(row, "environment")?,
                get(row, "executor")?,
                get(row, "role")?,
                get(row, "outcome")?,
                get(row, "bucket")?,
            );
            let sum = self.0.entry(key).or_default();
            sum.0 += number::<i64, u64>(row, "runs")?;
            sum.1 += get::<f64>(row, "seconds")?;
        }
        Ok(())
    }
}

impl Store {
    /// The system in numbers, with the gates of an environment and of a default provider deciding what tasks wait for.
    ///
    /// Reads every task, and each run that ended once: what is known of them stays in `settled`.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn measures(
        &self,
        environment: ExecutionEnvironment,
        default_provider: &Provider,
        settled: &mut Settled,
    ) -> Result<Measures, StoreError> {
        let mut connection = self.connection().await?;
        let transaction = connection
            .build_transaction()
            .read_only(true)
            .isolation_level(IsolationLevel::RepeatableRead)
            .start()
            .await?;
        // All of a table is what is wanted here, which the pool's sessions are set against.
        transaction
            .batch_execute(
                "SET LOCAL enable_seqscan = on; SET LOCAL enable_hashjoin = on; SET LOCAL enable_mergejoin = on;
                 SET LOCAL enable_bitmapscan = on",
            )
            .await?;
        let (environment, provider) = (environment.as_str(), default_provider.as_str());
        let counts = transaction
            .query_cached(
                COUNTS,
                &[&environment, &provider, &agents::LIVE_FOR_MS, &dispatchers::LIVE_FOR_MS],
            )
            .await?;
        let counts: Result<Vec<Measured>, StoreError> = counts.iter().map(measured).collect();
        let bounds = transaction.query_cached("SELECT run_time_bounds() AS bounds", &[]).await?;
        let bounds: Vec<f64> =
            bounds.first().map(|row| get(row, "bounds")).transpose()?.unwrap_or_default();
        let mut measures = Measures { counts: counts?, timings: Vec::new() };
        for (key, sum) in &ended(&transaction, settled).await?.0 {
            measures.add(key, *sum, &bounds);
        }
        transaction.commit().await?;
        Ok(measures)
    }
}

/// Sums over all runs that ended; what is settled of them is brought up to date. Served by `runs_by_end`, but where all
/// is read.
async fn ended(transaction: &Transaction<'_>, settled: &mut Settled) -> Result<Sums, StoreError> {
    let rows = transaction.query_cached(MOMENT, &[]).await?;
    let row = rows.first().ok_or_else(|| StoreError::corrupt("removed", "no sum"))?;
    let (removed, until): (i64, Timestamp) = (get(row, "removed")?, get(row, "settled")?);
    let mut next = match settled.until {
        Some(from) if settled.removed == removed && from <= until => {
            let mut next = settled.clone();
            let between = ENDED.replace("$WHERE", "r.ended_at >= $1 AND r.ended_at < $2");
            next.sums.add(&transaction.query_cached(&between, &[&from, &until]).await?)?;
            next
        }
        Some(_) | None => {
            let mut next = Settled::default();
            let before = ENDED.replace("$WHERE", "r.ended_at < $1");
            next.sums.add(&transaction.query_cached(&before, &[&until]).await?)?;
            next.sums.add(&transaction.query_cached(REMOVED, &[]).await?)?;
            next
        }
    };
    (next.until, next.removed) = (Some(until), removed);
    let mut all = next.sums.clone();
    let since = ENDED.replace("$WHERE", "r.ended_at >= $1");
    all.add(&transaction.query_cached(&since, &[&until]).await?)?;
    // Only now: a question that failed half way is asked again from where it began.
    *settled = next;
    Ok(all)
}

fn measured(row: &Row) -> Result<Measured, StoreError> {
    Ok(Measured {
        measure: word(row, "measure")?,
        labels: get(row, "labels")?,
        value: get(row, "value")?,
    })
}

impl Measures {
    /// Adds a sum. They come in the order of their keys, so times of one stretch, environment and executor follow each
    /// other, and so do outcomes.
    fn add(&mut self, key: &Key, (runs, seconds): (u64, f64), bounds: &[f64]) {
        let (measure, environment, executor, role, outcome, bucket) = key;
        let Ok(stretch) = measure.parse::<Stretch>() else {
            let labels = [environment, executor, role, outcome].map(Clone::clone).to_vec();
            let value = runs as f64;
            self.counts.push(Measured { measure: Measure::EndedRuns, labels, value });
            return;
        };
        let is_last = |timing: &Timing| {
            timing.stretch == stretch
                && timing.environment == *environment
                && timing.executor == *executor
        };
        if !self.timings.last().is_some_and(is_last) {
            let bounds = bounds.iter().copied().chain([f64::INFINITY]);
            self.timings.push(Timing {
                stretch,
                environment: environment.clone(),
                executor: executor.clone(),
                seconds: 0.0,
                buckets: bounds.map(|bound| (bound, 0)).collect(),
            });
        }
        let place = usize::try_from(*bucket).unwrap_or(usize::MAX);
        if let Some(timing) = self.timings.last_mut() {
            timing.seconds += seconds;
            if let Some((_, count)) = timing.buckets.get_mut(place) {
                *count += runs;
            }
        }
    }
}
