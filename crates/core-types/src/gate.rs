//! The gate of an executor: whether runs of it are handed out at all (D6, D7).
//!
//! One broken login or reached limit would otherwise be found out by every task in the queue, one after the other. A
//! gate closes when runs end with what concerns the executor as a whole; when its time has come exactly one run is let
//! through as a trial, and what comes of that opens the gate or closes it for longer.
//!
//! A check of the login tells the gate, too ([`checked`]).
//!
//! Plain decisions from a gate and the end of a run to the next gate. Where gates are kept, and that two decisions
//! about one never cross, is for others.

pub mod checked;

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::{
    ids::RunId,
    outcome::{
        RunOutcome,
        table::{Sign, doubled},
    },
    words,
};

words! {
    /// Why a gate closes.
    GateCause, "cause of a closed gate" {
        /// The provider's limit for the account is reached.
        Quota = "quota",
        /// The agent's login or key is refused.
        Login = "login",
        /// The provider is overloaded or fails.
        Overload = "overload",
        /// The agent cannot be started.
        Launch = "launch",
    }
}

words! {
    /// The kind of state a gate is in; see [`GateState`].
    GateWord, "state of a gate" {
        Open = "open",
        Closed = "closed",
        Trial = "trial",
    }
}

/// How long to wait for a limit whose reset time the provider did not tell: 15 min.
pub const QUOTA_WAIT_UNKNOWN: Duration = Duration::from_secs(15 * 60);
/// A limit that is said to be lifted sooner than this is waited for this long, lest a wrong clock make a loop.
pub const QUOTA_WAIT_MIN: Duration = Duration::from_secs(30);
/// A trial that has lived for so long has shown that its executor works: a refusal comes within seconds.
pub const TRIAL_LIFE: Duration = Duration::from_secs(60);
/// The wait after a trial that showed nothing.
pub const TRIAL_AGAIN: Duration = Duration::from_secs(5);
/// How much longer than the gate a task waits whose run failed at a closed gate, so that the next trial is another one.
pub const STEP_BACK: Duration = Duration::from_secs(15);

impl GateCause {
    /// How many runs in a row must end so before the gate closes.
    #[must_use]
    pub const fn threshold(self) -> u32 {
        match self {
            Self::Quota | Self::Login => 1,
            Self::Overload | Self::Launch => 3,
        }
    }

    /// Whether a person has to do something about it.
    #[must_use]
    pub const fn needs_a_person(self) -> bool {
        match self {
            Self::Login | Self::Launch => true,
            Self::Quota | Self::Overload => false,
        }
    }

    /// What is the matter, for people.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Quota => "the provider's limit is reached",
            Self::Login => "the agent's login or key is refused",
            Self::Overload => "the provider is overloaded or fails",
            Self::Launch => "the agent cannot be started",
        }
    }

    /// When the next trial is due after the gate has closed `closures` times in a row.
    fn next_trial(self, closures: u32, told: Option<Timestamp>, now: Timestamp) -> Timestamp {
        let least = match self {
            Self::Quota if told.is_some() => QUOTA_WAIT_MIN,
            Self::Quota => QUOTA_WAIT_UNKNOWN,
            Self::Login => doubled(60, 15 * 60, closures),
            Self::Overload | Self::Launch => doubled(30, 10 * 60, closures),
        };
        let least = later(now, least);
        match (self, told) {
            (Self::Quota, Some(told)) => told.max(least),
            (Self::Quota, None) | (Self::Login | Self::Overload | Self::Launch, _) => least,
        }
    }
}

/// The gate of an executor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gate {
    /// Where it stands.
    pub state: GateState,
    /// When it was last opened, or asked to be tried anew. What a run from before has to say is old.
    pub renewed_at: Timestamp,
}

/// Where a gate stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GateState {
    /// Runs are handed out.
    Open {
        /// Failures in a row that are too few to close it.
        streak: Option<Streak>,
    },
    /// No run is handed out.
    Closed {
        /// Why, and since when.
        shut: Shut,
        /// When one run is let through to try.
        retry_at: Timestamp,
    },
    /// One run is under way to try.
    Trial {
        /// Why it closed, and when.
        shut: Shut,
        /// The run.
        run: RunId,
        /// When it was handed out.
        since: Timestamp,
    },
}

/// Failures in a row with the same cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Streak {
    /// What they have in common.
    pub cause: GateCause,
    /// How many.
    pub failures: u32,
}

/// Why a gate is not open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shut {
    /// The kind of fault.
    pub cause: GateCause,
    /// When it closed first.
    pub since: Timestamp,
    /// How often it closed in a row; 0 where somebody asked for a trial since.
    pub closures: u32,
    /// What the run said that closed it.
    pub message: Option<String>,
    /// What to do about it.
    pub hint: Option<String>,
}

/// The end of a run, as far as it concerns a gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunEnd<'a> {
    /// The run.
    pub run: RunId,
    /// When it was handed out.
    pub claimed_at: Timestamp,
    /// What came of it.
    pub outcome: RunOutcome,
    /// Whether the model answered in it.
    pub answered: bool,
    /// When the provider lifts its limit, where it told.
    pub retry_at: Option<Timestamp>,
    /// What happened.
    pub message: Option<&'a str>,
    /// What to do about it.
    pub hint: Option<&'a str>,
}

/// Which runs a gate lets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passage {
    /// All.
    All,
    /// One, to try.
    One,
    /// None.
    None,
}

impl Gate {
    /// A gate that nothing is known about.
    #[must_use]
    pub const fn open(now: Timestamp) -> Self {
        Self { state: GateState::Open { streak: None }, renewed_at: now }
    }

    /// Which runs it lets through.
    #[must_use]
    pub fn passage(&self, now: Timestamp) -> Passage {
        match &self.state {
            GateState::Open { .. } => Passage::All,
            GateState::Closed { retry_at, .. } if *retry_at <= now => Passage::One,
            GateState::Closed { .. } | GateState::Trial { .. } => Passage::None,
        }
    }

    /// Why it is not open.
    #[must_use]
    pub const fn shut(&self) -> Option<&Shut> {
        match &self.state {
            GateState::Open { .. } => None,
            GateState::Closed { shut, .. } | GateState::Trial { shut, .. } => Some(shut),
        }
    }

    /// When one run is let through to try; absent while it is open or tries.
    #[must_use]
    pub const fn next_trial(&self) -> Option<Timestamp> {
        match &self.state {
            GateState::Open { .. } | GateState::Trial { .. } => None,
            GateState::Closed { retry_at, .. } => Some(*retry_at),
        }
    }

    /// The gate after a run was let through; absent where it changes nothing.
    #[must_use]
    pub fn passed(&self, run: RunId, now: Timestamp) -> Option<Self> {
        match (&self.state, self.passage(now)) {
            (GateState::Closed { shut, .. }, Passage::One) => Some(Self {
                state: GateState::Trial { shut: shut.clone(), run, since: now },
                renewed_at: self.renewed_at,
            }),
            _ => None,
        }
    }

    /// The gate after a run ended; absent where it changes nothing.
    #[must_use]
    pub fn after(&self, end: &RunEnd<'_>, now: Timestamp) -> Option<Self> {
        match end.sign() {
            Sign::Works => self.works(end.run, now),
            Sign::Nothing => self.nothing_shown(end.run, now),
            Sign::Fails(cause) => self.fails(cause, end, now),
        }
    }

    /// The gate after its trial has lived long enough; absent where it changes nothing.
    #[must_use]
    pub fn outlived(&self, now: Timestamp) -> Option<Self> {
        match &self.state {
            GateState::Trial { since, .. } if later(*since, TRIAL_LIFE) <= now => {
                Some(Self::open(now))
            }
            GateState::Open { .. } | GateState::Closed { .. } | GateState::Trial { .. } => None,
        }
    }

    /// The gate after somebody changed what may have been wrong, or asks to try; absent where it is open.
    #[must_use]
    pub fn tried_anew(&self, now: Timestamp) -> Option<Self> {
        let anew = |shut: &Shut| Shut { closures: 0, ..shut.clone() };
        let state = match &self.state {
            GateState::Open { .. } => return None,
            GateState::Closed { shut, .. } => GateState::Closed { shut: anew(shut), retry_at: now },
            GateState::Trial { shut, run, since } => {
                GateState::Trial { shut: anew(shut), run: *run, since: *since }
            }
        };
        Some(Self { state, renewed_at: now })
    }

    /// Whether the end of a run is put down to the executor and not to its task: it failed with what the gate is
    /// there for, while the gate was not open. Tells how long its task steps back.
    #[must_use]
    pub fn excuses(&self, outcome: RunOutcome, now: Timestamp) -> Option<Duration> {
        let Sign::Fails(_) = outcome.rule().sign else {
            return None;
        };
        match &self.state {
            GateState::Open { .. } => None,
            GateState::Closed { retry_at, .. } => {
                let wait = retry_at.duration_since(now).max(SignedDuration::ZERO).unsigned_abs();
                Some(wait + STEP_BACK)
            }
            GateState::Trial { .. } => Some(STEP_BACK),
        }
    }

    fn is_trial(&self, run: RunId) -> bool {
        matches!(&self.state, GateState::Trial { run: trial, .. } if *trial == run)
    }

    fn works(&self, run: RunId, now: Timestamp) -> Option<Self> {
        match &self.state {
            GateState::Open { streak: None } => None,
            GateState::Open { streak: Some(_) } => {
                let state = GateState::Open { streak: None };
                Some(Self { state, renewed_at: self.renewed_at })
            }
            // A run from before it closed proves nothing about now.
            GateState::Closed { .. } | GateState::Trial { .. } => {
                self.is_trial(run).then(|| Self::open(now))
            }
        }
    }

    fn nothing_shown(&self, run: RunId, now: Timestamp) -> Option<Self> {
        let shut = self.shut().filter(|_| self.is_trial(run))?;
        let state = GateState::Closed { shut: shut.clone(), retry_at: later(now, TRIAL_AGAIN) };
        Some(Self { state, renewed_at: self.renewed_at })
    }

    fn fails(&self, cause: GateCause, end: &RunEnd<'_>, now: Timestamp) -> Option<Self> {
        // What a run met before somebody mended it; a limit holds whoever tells of it.
        let old = end.claimed_at <= self.renewed_at && cause != GateCause::Quota;
        match &self.state {
            GateState::Open { .. } if old => None,
            GateState::Open { streak } => Some(self.counted(*streak, cause, end, now)),
            GateState::Closed { shut, retry_at } => {
                let until = cause.next_trial(1, end.retry_at, now);
                let longer = cause == GateCause::Quota && until > *retry_at;
                longer.then(|| self.closed(end.shut(cause, 1, shut.since), until))
            }
            GateState::Trial { run, .. } if *run != end.run => None,
            // Something was mended after it was handed out: it is tried again at once.
            GateState::Trial { shut, .. } if old => Some(self.closed(shut.clone(), now)),
            GateState::Trial { shut, .. } => {
                let closures = if shut.cause == cause { shut.closures + 1 } else { 1 };
                let retry_at = cause.next_trial(closures, end.retry_at, now);
                Some(self.closed(end.shut(cause, closures, shut.since), retry_at))
            }
        }
    }

    fn counted(
        &self,
        streak: Option<Streak>,
        cause: GateCause,
        end: &RunEnd<'_>,
        now: Timestamp,
    ) -> Self {
        let before = streak.filter(|streak| streak.cause == cause).map_or(0, |s| s.failures);
        let failures = before.saturating_add(1);
        if failures >= cause.threshold() {
            let retry_at = cause.next_trial(1, end.retry_at, now);
            return self.closed(end.shut(cause, 1, now), retry_at);
        }
        let state = GateState::Open { streak: Some(Streak { cause, failures }) };
        Self { state, renewed_at: self.renewed_at }
    }

    const fn closed(&self, shut: Shut, retry_at: Timestamp) -> Self {
        Self { state: GateState::Closed { shut, retry_at }, renewed_at: self.renewed_at }
    }
}

impl GateState {
    /// The word for this state.
    #[must_use]
    pub const fn word(&self) -> GateWord {
        match self {
            Self::Open { .. } => GateWord::Open,
            Self::Closed { .. } => GateWord::Closed,
            Self::Trial { .. } => GateWord::Trial,
        }
    }
}

impl RunEnd<'_> {
    /// What the run says about its executor. Where the table says nothing, an answer of the model says enough.
    #[must_use]
    pub const fn sign(&self) -> Sign {
        match self.outcome.rule().sign {
            Sign::Nothing | Sign::Fails(GateCause::Launch) if self.answered => Sign::Works,
            sign => sign,
        }
    }

    fn shut(&self, cause: GateCause, closures: u32, since: Timestamp) -> Shut {
        let message = self.message.map(ToOwned::to_owned);
        Shut { cause, since, closures, message, hint: self.hint.map(ToOwned::to_owned) }
    }
}

fn later(from: Timestamp, wait: Duration) -> Timestamp {
    from.checked_add(wait).unwrap_or(Timestamp::MAX)
}
