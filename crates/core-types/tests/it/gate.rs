use core_types::{
    gate::{Gate, GateCause, GateState, Passage, RunEnd, TRIAL_AGAIN, TRIAL_LIFE},
    ids::RunId,
    outcome::{RunOutcome, table::Sign},
};
use jiff::Timestamp;
use proptest::{prelude::*, sample::select};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

/// A run that was handed out one second before it ended at `second`.
fn end(outcome: RunOutcome, second: i64) -> RunEnd<'static> {
    RunEnd {
        run: RunId::generate(),
        claimed_at: at(second - 1),
        outcome,
        answered: false,
        retry_at: None,
        message: Some("it did not work"),
        hint: None,
    }
}

fn open() -> Gate {
    Gate::open(at(0))
}

/// The gate after these runs ended, one every ten seconds.
fn after(gate: Gate, outcomes: &[RunOutcome]) -> Gate {
    let ends = outcomes.iter().zip(1_i64..).map(|(outcome, n)| (end(*outcome, 10 * n), 10 * n));
    ends.fold(gate, |gate, (end, second)| gate.after(&end, at(second)).unwrap_or(gate))
}

/// How long a closed gate waits, seen from `now`.
#[track_caller]
fn wait(gate: &Gate, now: i64) -> i64 {
    let GateState::Closed { retry_at, .. } = gate.state else { panic!("not closed: {gate:?}") };
    retry_at.as_second() - at(now).as_second()
}

/// The gate after a trial that began at `from` and ended so a second later.
fn tried(gate: &Gate, from: i64, outcome: RunOutcome) -> Gate {
    let run = RunId::generate();
    let trial = gate.passed(run, at(from)).expect("a trial is due");
    let end = RunEnd { run, claimed_at: at(from), ..end(outcome, from + 1) };
    trial.after(&end, at(from + 1)).expect("a trial that ends changes its gate")
}

#[test]
fn one_refused_login_closes_and_each_refused_trial_doubles_the_wait() {
    let mut gate = after(open(), &[RunOutcome::LoginRequired]);
    assert_eq!(wait(&gate, 10), 60);
    let mut now = 10;
    for expected in [120, 240, 480, 900, 900] {
        now += wait(&gate, now);
        assert_eq!(gate.passage(at(now - 1)), Passage::None);
        assert_eq!(gate.passage(at(now)), Passage::One);
        gate = tried(&gate, now, RunOutcome::KeyRejected);
        now += 1;
        assert_eq!(wait(&gate, now), expected);
    }
    let opened = tried(&gate, now + 900, RunOutcome::VerificationFailed);
    assert_eq!(opened.passage(at(now + 901)), Passage::All);
    let again = end(RunOutcome::LoginRequired, now + 1000);
    assert_eq!(wait(&opened.after(&again, at(now + 1000)).unwrap(), now + 1000), 60);
}

#[test]
fn overload_and_failed_starts_close_at_the_third_in_a_row() {
    for outcome in [RunOutcome::ProviderOverloaded, RunOutcome::LaunchFailed] {
        assert_eq!(after(open(), &[outcome; 2]).passage(at(20)), Passage::All);
        let mixed = [outcome, outcome, RunOutcome::Succeeded, outcome, outcome];
        assert_eq!(after(open(), &mixed).passage(at(50)), Passage::All);
        assert_eq!(wait(&after(open(), &[outcome; 3]), 30), 30);
        // Runs that were under way when it closed do not close it for longer.
        assert_eq!(after(open(), &[outcome; 3]), after(open(), &[outcome; 3 + 7]));
    }
}

#[test]
fn a_reached_limit_closes_until_the_provider_lifts_it() {
    let told = RunEnd { retry_at: Some(at(7200)), ..end(RunOutcome::QuotaExceeded, 10) };
    let gate = open().after(&told, at(10)).unwrap();
    assert_eq!(wait(&gate, 10), 7190);
    assert_eq!(wait(&after(open(), &[RunOutcome::QuotaExceeded]), 10), 15 * 60);
    let later = RunEnd { retry_at: Some(at(9000)), ..told };
    assert_eq!(wait(&gate.after(&later, at(20)).unwrap(), 20), 8980);
    let sooner = RunEnd { retry_at: Some(at(100)), ..told };
    assert_eq!(gate.after(&sooner, at(20)), None);
    let past = RunEnd { retry_at: Some(at(5)), ..told };
    assert_eq!(wait(&open().after(&past, at(10)).unwrap(), 10), 30);
}

#[test]
fn a_trial_opens_by_living_and_a_lost_one_is_soon_tried_again() {
    let gate = after(open(), &[RunOutcome::LoginRequired]);
    let run = RunId::generate();
    let trial = gate.passed(run, at(70)).unwrap();
    assert_eq!(trial.passage(at(100_000)), Passage::None);
    assert_eq!(trial.passed(RunId::generate(), at(100_000)), None);
    let life = i64::try_from(TRIAL_LIFE.as_secs()).unwrap();
    assert_eq!(trial.outlived(at(70 + life - 1)), None);
    assert_eq!(trial.outlived(at(70 + life)).unwrap().passage(at(70 + life)), Passage::All);
    let lost = tried(&gate, 70, RunOutcome::WorkerLost);
    assert_eq!(wait(&lost, 71), i64::try_from(TRIAL_AGAIN.as_secs()).unwrap());
    let answered = RunEnd { run, answered: true, ..end(RunOutcome::AgentFailed, 72) };
    assert_eq!(trial.after(&answered, at(72)).unwrap().passage(at(72)), Passage::All);
}

#[test]
fn what_a_run_from_before_the_mending_met_does_not_close_again() {
    let closed = after(open(), &[RunOutcome::KeyRejected]);
    let run = RunId::generate();
    let trial = closed.passed(run, at(70)).unwrap();
    // Mended while the trial is under way with the old key: it says nothing about the new one.
    let mended = trial.tried_anew(at(80)).unwrap();
    let refused = RunEnd { run, claimed_at: at(70), ..end(RunOutcome::KeyRejected, 90) };
    let gate = mended.after(&refused, at(90)).unwrap();
    assert_eq!(gate.passage(at(90)), Passage::One);
    let opened = tried(&gate, 95, RunOutcome::Succeeded);
    let old = RunEnd { claimed_at: at(85), ..end(RunOutcome::KeyRejected, 97) };
    assert_eq!(opened.after(&old, at(97)), None);
}

#[test]
fn only_what_concerns_the_executor_is_excused_and_only_at_a_closed_gate() {
    let closed = after(open(), &[RunOutcome::LaunchFailed; 3]);
    for outcome in RunOutcome::ALL {
        assert_eq!(open().excuses(*outcome, at(0)), None, "{outcome}");
        let concerns = matches!(outcome.rule().sign, Sign::Fails(_));
        assert_eq!(closed.excuses(*outcome, at(30)).is_some(), concerns, "{outcome}");
    }
    let back = closed.excuses(RunOutcome::LaunchFailed, at(30)).unwrap().as_secs();
    assert_eq!(i64::try_from(back).unwrap(), wait(&closed, 30) + 15);
}

/// One thing that happens to a gate.
#[derive(Debug, Clone)]
enum Event {
    Ends { outcome: RunOutcome, trial: bool, answered: bool, age: i64 },
    Claim,
    Look,
    TryAnew,
    Passes { seconds: i64 },
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        (select(RunOutcome::ALL), any::<bool>(), any::<bool>(), 0_i64..200).prop_map(
            |(outcome, trial, answered, age)| Event::Ends { outcome, trial, answered, age }
        ),
        Just(Event::Claim),
        Just(Event::Look),
        Just(Event::TryAnew),
        (1_i64..2000).prop_map(|seconds| Event::Passes { seconds }),
    ]
}

proptest! {
    #[test]
    fn a_gate_never_sticks_and_never_lets_two_try(events in proptest::collection::vec(event(), 0..200)) {
        let (mut gate, mut now) = (open(), 0_i64);
        for event in events {
            let before = gate.clone();
            let trial = match &gate.state {
                GateState::Trial { run, .. } => Some(*run),
                GateState::Open { .. } | GateState::Closed { .. } => None,
            };
            let next = match &event {
                Event::Ends { outcome, trial: of_trial, answered, age } => {
                    let run = trial.filter(|_| *of_trial).unwrap_or_else(RunId::generate);
                    let ended = RunEnd { run, claimed_at: at(now - age), answered: *answered, ..end(*outcome, now) };
                    let next = gate.after(&ended, at(now));
                    // Others than the trial never end it, and the trial always does.
                    if let Some(trial) = trial {
                        prop_assert_eq!(next.is_some(), trial == run, "{:?}", event);
                    }
                    next
                }
                Event::Claim => {
                    let next = gate.passed(RunId::generate(), at(now));
                    prop_assert_eq!(next.is_some(), gate.passage(at(now)) == Passage::One);
                    next
                }
                Event::Look => gate.outlived(at(now)),
                Event::TryAnew => gate.tried_anew(at(now)),
                Event::Passes { seconds } => { now += seconds; None }
            };
            gate = next.unwrap_or(gate);
            match &gate.state {
                GateState::Open { streak } => {
                    prop_assert!(streak.is_none_or(|s| s.failures < s.cause.threshold()));
                }
                // Nobody waits longer than the longest back-off without having been told to by the provider.
                GateState::Closed { retry_at, .. } => {
                    prop_assert!(retry_at.as_second() - at(now).as_second() <= 15 * 60);
                }
                GateState::Trial { since, .. } => {
                    prop_assert!(gate.outlived(at(since.as_second() - at(0).as_second() + 60)).is_some());
                }
            }
            // A closed gate opens by its trial alone.
            if before.shut().is_some() && gate.shut().is_none() {
                prop_assert!(matches!(before.state, GateState::Trial { .. }), "{:?} {:?}", before, event);
            }
        }
    }
}

#[test]
fn every_cause_says_what_is_the_matter() {
    for cause in GateCause::ALL {
        assert!(!cause.text().is_empty() && !cause.text().ends_with('.'), "{cause}");
    }
}
