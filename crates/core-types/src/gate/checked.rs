//! What a check of a login means for a gate.
//!
//! A check is asked for by people and by the server itself, so it may be wrong where a run would not be: it closes an
//! open gate and opens one that was closed for the login, and leaves everything else to runs.

use jiff::Timestamp;

use super::{Gate, GateCause, GateState, Shut};
use crate::{
    auth::{AuthReason, CheckedBy},
    task::ExecutionEnvironment,
};

/// What a check says about runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckSign {
    /// The provider lets them in.
    LetsIn {
        /// Whether it said how much of the account's limits is used, and that none of them is reached.
        within_limits: bool,
    },
    /// The login or key is not taken.
    Refuses,
    /// The account's limit is reached.
    AtLimit,
    /// Nothing that is sure.
    Nothing,
}

/// The end of a check, as far as it concerns a gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckEnd<'a> {
    /// What it says.
    pub sign: CheckSign,
    /// When it began. What was renewed since is not told by it.
    pub began_at: Timestamp,
    /// When the provider lifts its limit, where it told.
    pub retry_at: Option<Timestamp>,
    /// What is the matter.
    pub message: Option<&'a str>,
    /// What to do about it.
    pub hint: Option<&'a str>,
}

impl CheckSign {
    /// What a check that found this says about runs of its environment; `quota` tells whether it came with the use of the
    /// account's limits.
    #[must_use]
    pub const fn of(
        reason: AuthReason,
        by: CheckedBy,
        quota: bool,
        environment: ExecutionEnvironment,
    ) -> Self {
        match reason {
            AuthReason::Ready => {
                Self::LetsIn { within_limits: quota && matches!(by, CheckedBy::Usage) }
            }
            // On the host a run renews an old token by itself, and the check looked at its age alone.
            AuthReason::LoginExpired
                if matches!(environment, ExecutionEnvironment::Host)
                    && matches!(by, CheckedBy::Credentials) =>
            {
                Self::Nothing
            }
            AuthReason::LoginRequired
            | AuthReason::LoginExpired
            | AuthReason::KeyInvalid
            | AuthReason::AccountBlocked => Self::Refuses,
            AuthReason::RateLimited => Self::AtLimit,
            AuthReason::CredentialsUnreadable
            | AuthReason::ProviderUnreachable
            | AuthReason::CliMissing
            | AuthReason::CliIncompatible
            | AuthReason::DockerUnavailable
            | AuthReason::DockerPermissionDenied
            | AuthReason::ImageMissing
            | AuthReason::ImageInvalid
            | AuthReason::NetworkMissing
            | AuthReason::MountDenied
            | AuthReason::ServiceOpenToLoopback
            | AuthReason::ServiceUnreachable
            | AuthReason::Timeout
            | AuthReason::Unknown => Self::Nothing,
        }
    }

    /// Whether it may close a gate.
    #[must_use]
    pub const fn closes(self) -> bool {
        match self {
            Self::Refuses | Self::AtLimit => true,
            Self::LetsIn { .. } | Self::Nothing => false,
        }
    }
}

impl Gate {
    /// The gate after a check ended; absent where it changes nothing.
    #[must_use]
    pub fn checked(&self, end: &CheckEnd<'_>, now: Timestamp) -> Option<Self> {
        match end.sign {
            CheckSign::Nothing => None,
            CheckSign::LetsIn { within_limits } => self.let_in(within_limits, now),
            CheckSign::Refuses => self.refused(end, GateCause::Login, now),
            CheckSign::AtLimit => self.refused(end, GateCause::Quota, now),
        }
    }

    fn let_in(&self, within_limits: bool, now: Timestamp) -> Option<Self> {
        match self.shut()?.cause {
            GateCause::Login => Some(Self::open(now)),
            GateCause::Quota => within_limits.then(|| Self::open(now)),
            // It says nothing of how a run starts, or of the model's own load.
            GateCause::Overload | GateCause::Launch => None,
        }
    }

    fn refused(&self, end: &CheckEnd<'_>, cause: GateCause, now: Timestamp) -> Option<Self> {
        let until = cause.next_trial(1, end.retry_at, now);
        let shut = |since| Shut {
            cause,
            since,
            closures: 1,
            message: end.message.map(ToOwned::to_owned),
            hint: end.hint.map(ToOwned::to_owned),
        };
        match &self.state {
            // What it met may have been mended since.
            GateState::Open { .. } if end.began_at <= self.renewed_at => None,
            GateState::Open { .. } => Some(self.closed(shut(now), until)),
            GateState::Closed { shut: before, retry_at } => {
                let longer = cause == GateCause::Quota
                    && before.cause == GateCause::Quota
                    && end.retry_at.is_some()
                    && until > *retry_at;
                longer.then(|| self.closed(shut(before.since), until))
            }
            // Its run finds out.
            GateState::Trial { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ids::RunId, outcome::RunOutcome};

    fn at(second: i64) -> Timestamp {
        Timestamp::new(1_800_000_000 + second, 0).expect("a time of this century")
    }

    fn check(sign: CheckSign, second: i64) -> CheckEnd<'static> {
        CheckEnd {
            sign,
            began_at: at(second),
            retry_at: None,
            message: Some("it says no"),
            hint: Some("log in"),
        }
    }

    fn closed_by(outcome: RunOutcome, retry_at: Option<Timestamp>) -> Gate {
        let end = super::super::RunEnd {
            run: RunId::generate(),
            claimed_at: at(1),
            outcome,
            answered: false,
            retry_at,
            message: None,
            hint: None,
        };
        let gate = Gate::open(at(0)).after(&end, at(2)).expect("it closes");
        assert!(gate.shut().is_some());
        gate
    }

    const IN: CheckSign = CheckSign::LetsIn { within_limits: false };
    const WITHIN: CheckSign = CheckSign::LetsIn { within_limits: true };

    #[test]
    fn a_check_that_is_refused_closes_an_open_gate_with_its_reason() {
        let open = Gate::open(at(0));
        let closed = open.checked(&check(CheckSign::Refuses, 5), at(6)).unwrap();
        let shut = closed.shut().unwrap();
        assert_eq!((shut.cause, shut.closures, shut.since), (GateCause::Login, 1, at(6)));
        assert_eq!(
            (shut.message.as_deref(), shut.hint.as_deref()),
            (Some("it says no"), Some("log in"))
        );
        assert_eq!(closed.next_trial(), Some(at(66)));
        assert_eq!(open.checked(&check(CheckSign::Nothing, 5), at(6)), None);
        assert_eq!(open.checked(&check(WITHIN, 5), at(6)), None);
    }

    #[test]
    fn a_check_from_before_the_gate_was_renewed_closes_nothing() {
        let open = Gate::open(at(10));
        assert_eq!(open.checked(&check(CheckSign::Refuses, 9), at(11)), None);
    }

    #[test]
    fn a_limit_closes_the_gate_until_it_is_lifted() {
        let end = CheckEnd { retry_at: Some(at(5_000)), ..check(CheckSign::AtLimit, 5) };
        let closed = Gate::open(at(0)).checked(&end, at(6)).unwrap();
        assert_eq!(closed.shut().unwrap().cause, GateCause::Quota);
        assert_eq!(closed.next_trial(), Some(at(5_000)));
        let later = CheckEnd { retry_at: Some(at(9_000)), ..end };
        let longer = closed.checked(&later, at(7)).unwrap();
        assert_eq!(longer.next_trial(), Some(at(9_000)));
        assert_eq!(longer.checked(&end, at(8)), None);
        assert_eq!(longer.checked(&check(CheckSign::AtLimit, 8), at(9)), None, "no time was told");
    }

    #[test]
    fn a_login_that_works_opens_what_was_closed_for_it_and_no_limit_before_its_time() {
        let login = closed_by(RunOutcome::LoginRequired, None);
        assert_eq!(login.checked(&check(IN, 5), at(6)), Some(Gate::open(at(6))));
        let trial = login.passed(RunId::generate(), at(100)).expect("it is due");
        assert_eq!(trial.checked(&check(IN, 101), at(102)), Some(Gate::open(at(102))));
        assert_eq!(trial.checked(&check(CheckSign::Refuses, 101), at(102)), None);
        assert_eq!(login.checked(&check(CheckSign::Refuses, 5), at(6)), None);
        let quota = closed_by(RunOutcome::QuotaExceeded, Some(at(9_000)));
        assert_eq!(quota.checked(&check(IN, 5), at(6)), None);
        assert_eq!(quota.checked(&check(WITHIN, 5), at(6)), Some(Gate::open(at(6))));
    }

    #[test]
    fn only_sure_reasons_say_something() {
        use AuthReason as R;
        let sign = |reason, by, quota| CheckSign::of(reason, by, quota, ExecutionEnvironment::Host);
        assert_eq!(sign(R::Ready, CheckedBy::Usage, true), WITHIN);
        assert_eq!(sign(R::Ready, CheckedBy::Prompt, false), IN);
        assert_eq!(sign(R::RateLimited, CheckedBy::Usage, true), CheckSign::AtLimit);
        assert_eq!(sign(R::LoginExpired, CheckedBy::Prompt, false), CheckSign::Refuses);
        assert_eq!(sign(R::LoginExpired, CheckedBy::Credentials, false), CheckSign::Nothing);
        let boxed = ExecutionEnvironment::Sandbox;
        let old = CheckSign::of(R::LoginExpired, CheckedBy::Credentials, false, boxed);
        assert_eq!(old, CheckSign::Refuses, "nothing there renews it");
        let closing: Vec<R> = R::ALL
            .iter()
            .copied()
            .filter(|reason| sign(*reason, CheckedBy::Prompt, false).closes())
            .collect();
        assert_eq!(
            closing,
            [R::LoginRequired, R::LoginExpired, R::KeyInvalid, R::AccountBlocked, R::RateLimited]
        );
    }
}
