//! What callers ask: answers are remembered for a minute, and concurrent callers share one check.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use core_types::{
    auth::{AuthReason, CheckedBy},
    task::{ExecutionEnvironment, ExecutorKind},
};
use jiff::Timestamp;
use tokio::time::Instant;

use crate::{
    finding::{Finding, Report},
    place::{Ask, Site},
    probe::{probe, probe_free},
};

/// How long an answer holds.
pub const KEPT_FOR: Duration = Duration::from_secs(60);

/// Checks logins for any number of callers. Clones share everything.
#[derive(Debug, Clone)]
pub struct Checker {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    host: Arc<dyn Site>,
    sandbox: Option<Arc<dyn Site>>,
    cells: Mutex<BTreeMap<(ExecutionEnvironment, ExecutorKind), Cell>>,
}

/// Held while a check runs.
type Cell = Arc<tokio::sync::Mutex<Option<Kept>>>;

#[derive(Debug)]
struct Kept {
    ask: Ask,
    revision: Option<i64>,
    report: Report,
    ended: Instant,
}

impl Checker {
    /// Checks in these places; without one for sandboxes nothing is known of those.
    #[must_use]
    pub fn new(host: Arc<dyn Site>, sandbox: Option<Arc<dyn Site>>) -> Self {
        Self { shared: Arc::new(Shared { host, sandbox, cells: Mutex::default() }) }
    }

    /// Finds out whether an agent could run in this environment. An answer to the same question that is younger than
    /// [`KEPT_FOR`] is good enough unless `refresh` is set, and one that came while this caller waited always is.
    ///
    /// # Cancel safety
    /// Dropped, the check is given up and the next caller begins anew; see [`probe`].
    pub async fn check(
        &self,
        environment: ExecutionEnvironment,
        ask: Ask,
        refresh: bool,
    ) -> Report {
        let asked = Instant::now();
        let cell = self.cell(environment, ask.executor);
        let mut kept = cell.lock().await;
        let site = self.site(environment);
        let revision = site.as_ref().and_then(|site| site.revision());
        let is_same = |kept: &&Kept| kept.ask == ask && kept.revision == revision;
        if let Some(kept) = kept.as_ref().filter(is_same) {
            let fresh = !refresh && kept.ended.elapsed() < KEPT_FOR;
            if fresh || kept.ended >= asked {
                return Report { cached: true, ..kept.report.clone() };
            }
        }
        let finding = match site {
            Some(site) => probe(&*site, &ask).await,
            None => not_here(),
        };
        let report = Report {
            executor: ask.executor,
            environment,
            finding,
            checked_at: Timestamp::now(),
            took: asked.elapsed(),
            cached: false,
        };
        *kept = Some(Kept { ask, revision, report: report.clone(), ended: Instant::now() });
        report
    }

    /// Finds out as much as costs nothing: a look at the credentials, and the exchange without a model where there is one.
    /// Nothing where only a prompt could tell. It is always made anew, one at a time, and is no answer for [`Self::check`].
    ///
    /// # Cancel safety
    /// As [`Self::check`].
    pub async fn check_free(&self, environment: ExecutionEnvironment, ask: Ask) -> Option<Report> {
        let asked = Instant::now();
        let cell = self.cell(environment, ask.executor);
        let _one_at_a_time = cell.lock().await;
        let finding = match self.site(environment) {
            Some(site) => probe_free(&*site, &ask).await?,
            None => return None,
        };
        Some(Report {
            executor: ask.executor,
            environment,
            finding,
            checked_at: Timestamp::now(),
            took: asked.elapsed(),
            cached: false,
        })
    }

    fn site(&self, environment: ExecutionEnvironment) -> Option<Arc<dyn Site>> {
        match environment {
            ExecutionEnvironment::Host => Some(Arc::clone(&self.shared.host)),
            ExecutionEnvironment::Sandbox => self.shared.sandbox.clone(),
        }
    }

    fn cell(&self, environment: ExecutionEnvironment, executor: ExecutorKind) -> Cell {
        let mut cells = self.shared.cells.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(cells.entry((environment, executor)).or_default())
    }
}

fn not_here() -> Finding {
    let detail = "sandboxes are not checked by this server";
    Finding::new(AuthReason::Unknown, CheckedBy::Credentials).with_detail(detail)
}
