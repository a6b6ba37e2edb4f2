//! Query and body of `/system/cleanup`.

use std::{str::FromStr, time::Duration};

use core_types::words;
use jiff::Timestamp;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use store::cleanup::{CleanupPlan, CleanupScope};
use utoipa::{IntoParams, ToSchema};

use crate::error::{ApiError, FieldFault};

words! {
    /// What may be removed.
    Removable, "kind of thing to remove" {
        /// Ended tasks with their runs and events.
        Tasks = "tasks",
        /// Events of ended tasks' runs.
        Events = "events",
        /// Agents that have signed off.
        Agents = "agents",
        /// Notices that are delivered or given up.
        Notices = "notices",
        /// Mirrors of repositories behind URLs that no run used.
        Mirrors = "mirrors",
        /// Commits of runs that are kept in a mirror.
        Results = "results",
    }
}

/// What is removed where nothing is named: rows of the database, which are old once they are over. A mirror is used by
/// what comes, and a result may be wanted long after.
const UNLESS_NAMED: &[Removable] =
    &[Removable::Tasks, Removable::Events, Removable::Agents, Removable::Notices];
/// The longest time back, in days.
pub(crate) const DAYS_MAX: u32 = 36_500;

/// The query of `GET /system/cleanup`.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct CleanupQuery {
    /// Only what ended so many days ago or earlier.
    #[param(required = true, schema_with = crate::schema::days)]
    older_than_days: Option<String>,
    /// What to remove; several are separated by commas. Where left out, all but `mirrors` and `results`.
    #[param(style = Form, explode = false, schema_with = crate::schema::removables)]
    what: Option<String>,
}

/// The body of `POST /system/cleanup`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CleanupRequest {
    /// As in the query of `GET /system/cleanup`.
    #[schema(maximum = 36500)]
    older_than_days: u32,
    /// As in the query of `GET /system/cleanup`.
    #[schema(min_items = 1, schema_with = crate::schema::removables)]
    what: Vec<Removable>,
    /// The `confirm` of its answer.
    #[schema(max_length = 200)]
    confirm: String,
}

/// How much of the disk of the server's host was, or would be, removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct DiskCounts {
    pub(crate) mirrors: u64,
    pub(crate) results: u64,
}

/// What a cleanup is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CleanupWish {
    pub(crate) days: u32,
    /// Each once, in the order of the words.
    pub(crate) what: Vec<Removable>,
}

impl CleanupWish {
    fn new(days: u32, named: &[Removable]) -> Self {
        let what = Removable::ALL.iter().filter(|one| named.contains(one)).copied().collect();
        Self { days, what }
    }

    /// For how long what goes was not used, or was kept.
    pub(crate) fn age(&self) -> Duration {
        Duration::from_secs(24 * 3600).saturating_mul(self.days)
    }

    pub(crate) fn names(&self, one: Removable) -> bool {
        self.what.contains(&one)
    }

    pub(crate) fn scope(&self) -> CleanupScope {
        let has = |one| self.names(one);
        CleanupScope {
            tasks: has(Removable::Tasks),
            events: has(Removable::Events),
            agents: has(Removable::Agents),
            notices: has(Removable::Notices),
        }
    }

    /// The value that confirms this very plan: the moment before which things go, and a digest of all the rest.
    pub(crate) fn confirmation(
        &self,
        before: Timestamp,
        plan: &CleanupPlan,
        disk: DiskCounts,
    ) -> String {
        let said = format!("{self:?} {plan:?} {disk:?} {before}");
        let digest = Sha256::digest(said.as_bytes());
        let digest: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        format!("{}-{digest}", before.as_microsecond())
    }
}

/// The moment that a confirming value is about; none where it is no such value.
pub(crate) fn moment_of(confirm: &str) -> Option<Timestamp> {
    let (micros, _) = confirm.split_once('-')?;
    Timestamp::from_microsecond(micros.parse().ok()?).ok()
}

impl CleanupQuery {
    pub(crate) fn wish(&self) -> Result<CleanupWish, ApiError> {
        let mut faults = Vec::new();
        let days = self.older_than_days.as_deref().and_then(|days| days.parse().ok());
        let days = days.filter(|days| *days <= DAYS_MAX);
        if days.is_none() {
            let what = if self.older_than_days.is_some() { "is not allowed" } else { "is missing" };
            let allowed = format!("a number of days from 0 to {DAYS_MAX}");
            faults.push(FieldFault::new("older_than_days", what, allowed));
        }
        let named: Result<Vec<Removable>, _> = match self.what.as_deref() {
            None => Ok(UNLESS_NAMED.to_vec()),
            Some(text) => text.split(',').map(Removable::from_str).collect(),
        };
        if named.is_err() {
            let allowed =
                format!("one or several, separated by commas: {}", Removable::WORDS.join(", "));
            faults.push(FieldFault::new("what", "is not allowed", allowed));
        }
        match (days, named) {
            (Some(days), Ok(named)) => Ok(CleanupWish::new(days, &named)),
            _ => Err(ApiError::parameters(faults)),
        }
    }
}

impl CleanupRequest {
    /// What to remove, the moment before which things go, and the value that confirms both.
    pub(crate) fn confirmed(self) -> Result<(CleanupWish, Timestamp, String), ApiError> {
        let mut faults = Vec::new();
        if self.older_than_days > DAYS_MAX {
            let allowed = format!("a number from 0 to {DAYS_MAX}");
            faults.push(FieldFault::new("older_than_days", "is out of range", allowed));
        }
        if self.what.is_empty() {
            faults.push(FieldFault::new("what", "is empty", Removable::WORDS.join(", ")));
        }
        let before = moment_of(&self.confirm);
        if before.is_none() {
            let allowed = "the `confirm` of `GET /system/cleanup`";
            faults.push(FieldFault::new("confirm", "confirms nothing", allowed));
        }
        match before {
            Some(before) if faults.is_empty() => {
                let wish = CleanupWish::new(self.older_than_days, &self.what);
                Ok((wish, before, self.confirm))
            }
            Some(_) | None => Err(ApiError::fields(faults)),
        }
    }
}
