//! What self-tests found, and who asked for one. Whoever claims runs for an environment decides by it what it claims.

use std::time::Duration;

use core_types::{
    self_test::SelfTestReport,
    task::{ExecutionEnvironment, ExecutorKind},
};
use jiff::Timestamp;
use tokio_postgres::{Row, types::Json};

use crate::{
    agents::HostId,
    connections::Statements as _,
    dispatchers,
    error::StoreError,
    pool::Store,
    row::{get, json, millis, number, word},
    wake::Channel,
};

/// What is tested.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SelfTestKey {
    /// The host.
    pub host: HostId,
    /// Where on it.
    pub environment: ExecutionEnvironment,
    /// The command line.
    pub executor: ExecutorKind,
}

/// What is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SelfTest {
    /// What is tested.
    pub key: SelfTestKey,
    /// What was found last; nothing where it was only asked for.
    pub last: Option<LastTest>,
    /// When somebody asked for one that is not done yet.
    pub asked_at: Option<Timestamp>,
    /// The database's clock when it was read.
    pub now: Timestamp,
}

/// What a self-test found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastTest {
    /// Everything that decides about it: image, programs, settings. What is tested is another where this differs.
    pub subject: String,
    /// How each step went.
    pub report: SelfTestReport,
    /// When it ended.
    pub tested_at: Timestamp,
    /// Failures of this subject in a row.
    pub failures: u32,
    /// When it is done again by itself; absent where it passed.
    pub retry_at: Option<Timestamp>,
}

const COLUMNS: &str = "host, environment, executor, subject, verdict, tested_at, failures, retry_at, asked_at, clock_timestamp() AS now";

impl Store {
    /// Every self-test that was done or asked for, in a fixed order.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn self_tests(&self) -> Result<Vec<SelfTest>, StoreError> {
        let connection = self.connection().await?;
        let sql = format!("SELECT {COLUMNS} FROM self_tests ORDER BY host, environment, executor");
        connection.query_cached(&sql, &[]).await?.iter().map(from_row).collect()
    }

    /// Keeps what a self-test found, and when it is done again if it failed. Whoever asked before `began_at` has its
    /// answer. Served by the primary key.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn record_self_test(
        &self,
        key: &SelfTestKey,
        subject: &str,
        report: &SelfTestReport,
        retry_in: Option<Duration>,
    ) -> Result<(), StoreError> {
        let connection = self.connection().await?;
        let statement = connection
            .prepare_cached(
                "INSERT INTO self_tests AS s (host, environment, executor, subject, passed, verdict, tested_at, failures, retry_at)
                 VALUES ($1, $2, $3, $4, $5, $6, clock_timestamp(), CASE WHEN $5 THEN 0 ELSE 1 END,
                     clock_timestamp() + $7::bigint * interval '1 millisecond')
                 ON CONFLICT (host, environment, executor) DO UPDATE SET
                     subject = excluded.subject, passed = excluded.passed, verdict = excluded.verdict,
                     tested_at = excluded.tested_at, retry_at = excluded.retry_at, asked_at = NULL,
                     failures = CASE WHEN excluded.passed THEN 0 WHEN s.subject = excluded.subject THEN s.failures + 1 ELSE 1 END",
            )
            .await?;
        let SelfTestKey { host, environment, executor } = key;
        let (passed, retry_in) = (report.passed(), retry_in.map(millis));
        let (environment, executor) = (environment.as_str(), executor.as_str());
        let report = Json(report);
        connection
            .execute(
                &statement,
                &[&host.as_str(), &environment, &executor, &subject, &passed, &report, &retry_in],
            )
            .await?;
        self.wake(Channel::Tasks);
        Ok(())
    }

    /// Asks every host with a live dispatcher for a self-test; tells which were asked.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn ask_for_self_test(
        &self,
        environment: ExecutionEnvironment,
        executor: ExecutorKind,
    ) -> Result<Vec<SelfTestKey>, StoreError> {
        let connection = self.connection().await?;
        let rows = connection
            .query(
                "INSERT INTO self_tests (host, environment, executor, asked_at)
                 SELECT DISTINCT host, $1, $2, clock_timestamp() FROM dispatchers
                 WHERE last_beat > clock_timestamp() - $3::bigint * interval '1 millisecond'
                 ON CONFLICT (host, environment, executor) DO UPDATE SET asked_at = excluded.asked_at
                 RETURNING host",
                &[&environment.as_str(), &executor.as_str(), &dispatchers::LIVE_FOR_MS],
            )
            .await?;
        self.wake(Channel::Tasks);
        let key = |row: &Row| {
            let host = HostId::new(get::<String>(row, "host")?);
            Ok(SelfTestKey { host, environment, executor })
        };
        rows.iter().map(key).collect()
    }

    /// Whether a task of this executor is ready for a run. Served by `ready_by_rank`.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn is_ready_for(&self, executor: ExecutorKind) -> Result<bool, StoreError> {
        let connection = self.connection().await?;
        let sql = "SELECT FROM unnest($1::text[]) AS wanted (role) CROSS JOIN LATERAL (
                       SELECT FROM ready WHERE role = wanted.role AND executor = $2 LIMIT 1
                   ) AS one LIMIT 1";
        let roles = core_types::task::Role::WORDS;
        Ok(!connection.query_cached(sql, &[&roles, &executor.as_str()]).await?.is_empty())
    }
}

/// Why no task of an executor is taken in this environment: what the last self-test found, unless one passed somewhere.
pub(crate) const FAILING: &str = "
    SELECT host, environment, executor, subject, verdict, tested_at, failures, retry_at, asked_at, clock_timestamp() AS now
    FROM self_tests s WHERE environment = $1 AND executor = $2 AND NOT passed
        AND NOT EXISTS (SELECT FROM self_tests o WHERE o.environment = $1 AND o.executor = $2 AND o.passed)
    ORDER BY tested_at DESC LIMIT 1";

pub(crate) fn from_row(row: &Row) -> Result<SelfTest, StoreError> {
    let subject = get::<Option<String>>(row, "subject")?;
    let last = subject.map(|subject| {
        Ok::<_, StoreError>(LastTest {
            subject,
            report: json(row, "verdict")?,
            tested_at: get(row, "tested_at")?,
            failures: number::<i32, u32>(row, "failures")?,
            retry_at: get(row, "retry_at")?,
        })
    });
    Ok(SelfTest {
        key: SelfTestKey {
            host: HostId::new(get::<String>(row, "host")?),
            environment: word(row, "environment")?,
            executor: word(row, "executor")?,
        },
        last: last.transpose()?,
        asked_at: get(row, "asked_at")?,
        now: get(row, "now")?,
    })
}
