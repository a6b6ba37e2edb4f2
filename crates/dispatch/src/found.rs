//! What a look found, and what follows from it: which runs are to be taken back, and why.
//!
//! Plain decisions; nothing here asks the database or a process.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use core_types::outcome::RunOutcome;
use store::{
    agents::HostId,
    recovery::{Orphan, Revocation},
};
use tokio::time::Instant;

use crate::view::View;

/// How long a claimed run lives without renewal, by the database's clock (design §4).
pub const LEASE: Duration = Duration::from_secs(30);
/// Whose lease is over is left to a dispatcher of its own host for so long: that one can end what is left of it.
pub const HEAD_START: Duration = Duration::from_secs(3);
/// A run of another host that was revoked and not finished has nothing alive any more so long after its lease: its
/// launches have shorter leases of their own.
pub const DEAD_AFTER: Duration = Duration::from_secs(15);

/// Runs that seem to be nobody's any more, as one look found them.
#[derive(Debug)]
pub struct Found {
    /// When all of this had been read.
    pub read_at: Instant,
    /// Of this host, with a worker process that is gone.
    pub dead: Vec<Orphan>,
    /// Handed out too long ago and not accepted.
    pub late: Vec<Orphan>,
    /// With a lease that is over.
    pub silent: Vec<Orphan>,
    /// Revoked by a dispatcher that did not come to finish them, or not yet.
    pub revoked: Vec<Orphan>,
    /// Hosts on which a dispatcher is alive.
    pub tended: BTreeSet<HostId>,
}

/// Why a run is taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// A dispatcher before us decided it, and left it at that.
    LeftBehind,
    /// Its worker process is gone.
    WorkerDead,
    /// Nobody accepted it.
    NotAccepted {
        /// In this time.
        within: Duration,
    },
    /// Nobody renewed its lease.
    Silent,
}

/// A run that is to be taken back.
#[derive(Debug, Clone)]
pub struct Case {
    /// The run.
    pub orphan: Orphan,
    /// Why.
    pub reason: Reason,
}

/// What a decision needs besides the runs.
#[derive(Debug, Clone, Copy)]
pub struct Rules<'a> {
    /// This host.
    pub host: &'a HostId,
    /// How long an agent may take to accept a run.
    pub accept_within: Duration,
}

impl Found {
    /// Whether the decision depends on the dispatcher's view having no gap.
    #[must_use]
    pub const fn rests_on_silence(&self) -> bool {
        !self.late.is_empty() || !self.silent.is_empty()
    }

    /// Whether the decision depends on who tends other hosts.
    #[must_use]
    pub fn has_foreign(&self, host: &HostId) -> bool {
        let mut elsewhere = self.silent.iter().chain(&self.revoked);
        elsewhere.any(|orphan| orphan.host.as_ref() != Some(host))
    }

    /// Leaves the runs of other hosts alone.
    pub fn forget_foreign(&mut self, host: &HostId) {
        for runs in [&mut self.silent, &mut self.revoked] {
            runs.retain(|orphan| orphan.host.as_ref() == Some(host));
        }
    }

    /// The runs to take back, each once, for the reason that is the most certain.
    #[must_use]
    pub fn cases(self, view: &View, rules: Rules<'_>) -> Vec<Case> {
        let Self { read_at, dead, late, silent, revoked, tended } = self;
        let within = rules.accept_within;
        let trusted = |runs: Vec<Orphan>, period| {
            if view.vouches_for(read_at, period) { runs } else { Vec::new() }
        };
        let with = |reason| move |orphan| Case { orphan, reason };
        let mut cases = BTreeMap::new();
        let all = revoked
            .into_iter()
            .map(with(Reason::LeftBehind))
            .chain(dead.into_iter().map(with(Reason::WorkerDead)))
            .chain(trusted(late, within).into_iter().map(with(Reason::NotAccepted { within })))
            .chain(trusted(silent, LEASE).into_iter().map(with(Reason::Silent)));
        for case in all.filter(|case| case.is_ours(rules.host, &tended)) {
            cases.entry(case.orphan.key.run).or_insert(case);
        }
        cases.into_values().collect()
    }
}

impl Case {
    /// Whether a dispatcher of this host may take it back now. A host that is tended is best left to its own
    /// dispatcher, which can end what is left there.
    fn is_ours(&self, host: &HostId, tended: &BTreeSet<HostId>) -> bool {
        let orphan = &self.orphan;
        if orphan.host.as_ref() == Some(host) {
            return true;
        }
        let is_tended = orphan.host.as_ref().is_some_and(|host| tended.contains(host));
        match self.reason {
            // That dispatcher may be ending it, or know that something of it cannot be ended.
            Reason::LeftBehind => !is_tended && orphan.lease_expired_for >= DEAD_AFTER,
            Reason::Silent => !is_tended || orphan.lease_expired_for >= HEAD_START,
            // Nothing was started for it.
            Reason::NotAccepted { .. } => true,
            Reason::WorkerDead => false,
        }
    }

    /// What has to be true in the database for the run to be taken; absent where it was taken before.
    #[must_use]
    pub const fn revocation(&self) -> Option<Revocation> {
        match self.reason {
            Reason::LeftBehind => None,
            Reason::WorkerDead => Some(Revocation::WorkerDead),
            Reason::NotAccepted { within } => Some(Revocation::NotAccepted { within }),
            Reason::Silent => Some(Revocation::LeaseExpired),
        }
    }

    /// What came of the run.
    #[must_use]
    pub fn outcome(&self) -> RunOutcome {
        match self.reason {
            // One that was never accepted costs no attempt, whatever it was taken for.
            Reason::LeftBehind
            | Reason::WorkerDead
            | Reason::NotAccepted { .. }
            | Reason::Silent => RunOutcome::WorkerLost,
        }
    }

    /// What happened, for people.
    #[must_use]
    pub const fn message(&self) -> &'static str {
        match self.reason {
            Reason::LeftBehind => "its worker was lost",
            Reason::WorkerDead => "its worker process ended",
            Reason::NotAccepted { .. } => "its agent did not accept it in time",
            Reason::Silent => "its worker fell silent and its lease ran out",
        }
    }
}

#[cfg(test)]
mod tests {
    use core_types::ids::{LeaseNumber, RunId, RunKey, TaskId};
    use jiff::Timestamp;

    use super::*;
    use crate::view::Look;

    const WITHIN: Duration = Duration::from_secs(10);

    fn orphan(host: &str, expired_for: u64) -> Orphan {
        Orphan {
            key: RunKey { run: RunId::generate(), lease: LeaseNumber(1) },
            task: TaskId::generate(),
            status: core_types::task::RunStatus::Running,
            agent: None,
            process: None,
            host: Some(HostId::new(host)),
            lease_expired_for: Duration::from_secs(expired_for),
            cancel_requested: false,
            revoked: false,
        }
    }

    fn nothing() -> Found {
        Found {
            read_at: Instant::now(),
            dead: Vec::new(),
            late: Vec::new(),
            silent: Vec::new(),
            revoked: Vec::new(),
            tended: BTreeSet::new(),
        }
    }

    fn revoked(host: &str, expired_for: u64) -> Found {
        let orphan = Orphan { revoked: true, ..orphan(host, expired_for) };
        Found { revoked: vec![orphan], ..nothing() }
    }

    fn tended(found: Found) -> Found {
        Found { tended: BTreeSet::from([HostId::new("there")]), ..found }
    }

    /// A view whose only gap was so many seconds before its last look.
    fn view(last_look: Instant, without_gap: u64) -> View {
        let mut view = View::default();
        for ago in (0..=without_gap).rev() {
            let passed = Duration::from_secs(without_gap - ago);
            let at = last_look - Duration::from_secs(ago);
            view.looked(Look { at, since_boot: passed, database: Timestamp::UNIX_EPOCH + passed });
        }
        view
    }

    /// Why a dispatcher of host `here` whose last gap was so many seconds ago takes runs back.
    fn reasons(found: Found, without_gap: u64) -> Vec<Reason> {
        let view = view(found.read_at, without_gap);
        let rules = Rules { host: &HostId::new("here"), accept_within: WITHIN };
        found.cases(&view, rules).into_iter().map(|case| case.reason).collect()
    }

    #[test]
    fn a_death_that_is_seen_waits_for_nothing() {
        let found = Found { dead: vec![orphan("here", 0)], ..nothing() };
        assert_eq!(reasons(found, 0), [Reason::WorkerDead]);
    }

    #[test]
    fn silence_counts_after_a_lease_without_a_gap() {
        let silent = || Found { silent: vec![orphan("here", 1)], ..nothing() };
        assert_eq!(reasons(silent(), 29), []);
        assert_eq!(reasons(silent(), 30), [Reason::Silent]);
    }

    #[test]
    fn a_run_counts_as_not_accepted_after_that_time_without_a_gap() {
        let late = || Found { late: vec![orphan("here", 0)], ..nothing() };
        assert_eq!(reasons(late(), 9), []);
        assert_eq!(reasons(late(), 10), [Reason::NotAccepted { within: WITHIN }]);
    }

    #[test]
    fn a_run_that_was_left_behind_here_is_taken_up_at_once_and_elsewhere_when_it_must_be_dead() {
        assert_eq!(reasons(revoked("here", 0), 0), [Reason::LeftBehind]);
        assert_eq!(reasons(revoked("there", 14), 0), []);
        assert_eq!(reasons(revoked("there", 15), 0), [Reason::LeftBehind]);
    }

    #[test]
    fn another_host_is_left_to_its_own_dispatcher_while_that_is_alive() {
        assert_eq!(reasons(tended(revoked("there", 3600)), 60), []);
        let silent =
            |expired_for| tended(Found { silent: vec![orphan("there", expired_for)], ..nothing() });
        assert_eq!(reasons(silent(2), 60), []);
        // It has a gap of its own, or stands still; the agents of that run have ended by their lease.
        assert_eq!(reasons(silent(3), 60), [Reason::Silent]);
    }

    #[test]
    fn a_run_found_twice_is_taken_back_once_for_the_surest_reason() {
        let orphan = orphan("here", 1);
        let found = Found {
            dead: vec![orphan.clone()],
            late: vec![orphan.clone()],
            silent: vec![orphan],
            ..nothing()
        };
        assert_eq!(reasons(found, 60), [Reason::WorkerDead]);
    }
}
