//! Which executors have proved that they work in this host's sandboxes: before the first task of one is claimed, and again
//! whenever its image, its program or its settings are others.
//!
//! What was found is in the database, so that a dispatcher that starts anew does not test again. An executor that failed
//! is left alone, and no other; it is tested again after a while, when it is another, and when somebody asks.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use core_config::load::Loaded;
use core_types::{
    self_test::SelfTestReport,
    task::{ExecutionEnvironment, ExecutorKind},
};
use launcher::launcher::Launcher;
use store::{
    agents::HostId,
    error::StoreError,
    pool::Store,
    self_tests::{LastTest, SelfTest, SelfTestKey},
    wake::Channel,
};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use super::{
    outfit::Outfitter,
    readiness::Readiness,
    self_test::{Tested, sweep, test},
};
use crate::complaints::Complaints;

/// How often it is looked whether something has to be tested.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How often what cut-off self-tests left is removed.
const SWEEP_EVERY: Duration = Duration::from_secs(60);
/// When one that failed is tested again, doubled with each failure.
const AGAIN: Duration = Duration::from_secs(60);
/// The longest of these waits.
const AGAIN_MAX: Duration = Duration::from_secs(15 * 60);

/// The self-tests of one host.
#[derive(Debug)]
pub struct SelfTests {
    store: Store,
    host: HostId,
    launcher: Arc<dyn Launcher>,
    outfitter: Arc<dyn Outfitter>,
    readiness: Arc<Readiness>,
    /// What the executors that passed were then.
    proved: Mutex<BTreeMap<ExecutorKind, Option<String>>>,
    changes: watch::Sender<()>,
}

impl SelfTests {
    /// Nothing is proved yet.
    #[must_use]
    pub fn new(
        store: Store,
        host: HostId,
        launcher: Arc<dyn Launcher>,
        outfitter: Arc<dyn Outfitter>,
        readiness: Arc<Readiness>,
    ) -> Self {
        let (proved, changes) = (Mutex::default(), watch::Sender::new(()));
        Self { store, host, launcher, outfitter, readiness, proved, changes }
    }

    /// The executors of which nothing may be claimed.
    #[must_use]
    pub fn unproved(&self) -> Vec<ExecutorKind> {
        let proved = self.proved();
        ExecutorKind::ALL.iter().copied().filter(|kind| !proved.contains_key(kind)).collect()
    }

    /// Whether an executor is proved in exactly this: what it was proved in may have been replaced since a task was claimed,
    /// and then nothing more of it is claimed until that is tested.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn is_proved(
        &self,
        executor: ExecutorKind,
        subject: Option<&str>,
    ) -> Result<bool, StoreError> {
        let Some(subject) = subject else { return Ok(true) };
        if self.proved().get(&executor).is_some_and(|proved| proved.as_deref() == Some(subject)) {
            return Ok(true);
        }
        // Whoever takes up a run after a start may be here before the first look.
        let known = self.known().await?;
        let known = known.iter().find(|test| test.key.executor == executor);
        let passed = verdict(subject, known) == Known::Passed;
        if !passed {
            self.note(executor, None, false);
        }
        Ok(passed)
    }

    /// Tells when another executor is proved.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// Tests what has to be tested, until it is told to stop.
    pub async fn run(
        self: Arc<Self>,
        mut settings: watch::Receiver<Arc<Loaded>>,
        stop: CancellationToken,
    ) {
        let mut complaints = Complaints::default();
        let mut wakes = self.store.wakes(&[Channel::Tasks]);
        let mut ready = self.readiness.changes();
        let mut swept_at: Option<Instant> = None;
        while !stop.is_cancelled() {
            if swept_at.is_none_or(|at| at.elapsed() >= SWEEP_EVERY) {
                swept_at = Some(Instant::now());
                stop.run_until_cancelled(sweep(&*self.outfitter, &self.launcher)).await;
            }
            let wanted = settings.borrow_and_update().settings.execution_environment;
            // What a test leaves that is dropped is swept by the next dispatcher.
            let looked = stop.run_until_cancelled(self.look(wanted)).await;
            if let Some(looked) = looked {
                complaints.note("self-tests", looked);
            }
            // Every arm is cancel-safe: each only says that it is time to look.
            tokio::select! {
                () = stop.cancelled() => return,
                _ = wakes.next() => {}
                Ok(()) = settings.changed() => {}
                Ok(()) = ready.changed() => {}
                () = sleep(LOOK_EVERY) => {}
            }
        }
    }

    async fn look(&self, wanted: ExecutionEnvironment) -> Result<(), StoreError> {
        let known = self.known().await?;
        for executor in ExecutorKind::ALL {
            let of = known.iter().find(|test| test.key.executor == *executor);
            if of.is_some_and(|test| test.asked_at.is_some()) {
                self.test(*executor, of).await?;
            } else if wanted == ExecutionEnvironment::Sandbox && self.readiness.unready().is_none()
            {
                self.prove(*executor, of).await?;
            }
        }
        Ok(())
    }

    async fn known(&self) -> Result<Vec<SelfTest>, StoreError> {
        let all = self.store.self_tests().await?.into_iter();
        let here = |test: &SelfTest| {
            test.key.host == self.host && test.key.environment == ExecutionEnvironment::Sandbox
        };
        Ok(all.filter(here).collect())
    }

    /// Sees to it that an executor is proved before a task of it is claimed, and no longer than it is the same.
    async fn prove(
        &self,
        executor: ExecutorKind,
        known: Option<&SelfTest>,
    ) -> Result<(), StoreError> {
        let is_proved = self.proved().contains_key(&executor);
        if !is_proved && !self.store.is_ready_for(executor).await? {
            return Ok(());
        }
        // What cannot be told now is told by the next look at the readiness.
        let Ok(subject) = self.outfitter.subject(executor).await else { return Ok(()) };
        let Some(subject) = subject else {
            self.note(executor, None, true);
            return Ok(());
        };
        match verdict(&subject, known) {
            Known::Passed => self.note(executor, Some(subject), true),
            Known::Failed => self.note(executor, None, false),
            Known::Nothing => self.test(executor, known).await?,
        }
        Ok(())
    }

    async fn test(
        &self,
        executor: ExecutorKind,
        known: Option<&SelfTest>,
    ) -> Result<(), StoreError> {
        // A test takes its time, and nobody looks at the others meanwhile.
        for other in ExecutorKind::ALL {
            self.forget_replaced(*other).await;
        }
        tracing::info!(%executor, "self-test of sandboxes begins");
        let Tested { report, subject } = test(&*self.outfitter, &self.launcher, executor).await;
        let subject = match subject {
            Some(subject) => subject,
            None => match self.outfitter.subject(executor).await {
                Ok(subject) => subject.unwrap_or_default(),
                Err(_) => String::new(),
            },
        };
        let passed = report.passed();
        tell(executor, &report);
        let retry_in = (!passed).then(|| again(known, &subject));
        let environment = ExecutionEnvironment::Sandbox;
        let key = SelfTestKey { host: self.host.clone(), environment, executor };
        self.store.record_self_test(&key, &subject, &report, retry_in).await?;
        self.note(executor, Some(subject), passed);
        Ok(())
    }

    /// An executor that is another by now has not proved anything.
    async fn forget_replaced(&self, executor: ExecutorKind) {
        let Some(Some(proved)) = self.proved().get(&executor).cloned() else { return };
        let subject = self.outfitter.subject(executor).await;
        if subject.is_ok_and(|subject| subject.as_ref() != Some(&proved)) {
            self.note(executor, None, false);
        }
    }

    fn note(&self, executor: ExecutorKind, subject: Option<String>, passed: bool) {
        let changed = {
            let mut proved = self.proved();
            if passed {
                proved.insert(executor, subject.clone()) != Some(subject)
            } else {
                proved.remove(&executor).is_some()
            }
        };
        if changed {
            self.changes.send_replace(());
        }
    }

    fn proved(&self) -> std::sync::MutexGuard<'_, BTreeMap<ExecutorKind, Option<String>>> {
        self.proved.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is known of a subject.
#[derive(Debug, PartialEq, Eq)]
enum Known {
    Passed,
    /// And its time to be tested again has not come.
    Failed,
    Nothing,
}

fn verdict(subject: &str, known: Option<&SelfTest>) -> Known {
    let Some(SelfTest { last: Some(last), now, .. }) = known else { return Known::Nothing };
    match last.retry_at {
        _ if last.subject != subject => Known::Nothing,
        None if last.report.passed() => Known::Passed,
        Some(at) if *now < at => Known::Failed,
        None | Some(_) => Known::Nothing,
    }
}

fn again(known: Option<&SelfTest>, subject: &str) -> Duration {
    let last = known.and_then(|test| test.last.as_ref());
    let failures =
        last.filter(|last| last.subject == subject).map_or(0, |last: &LastTest| last.failures);
    AGAIN.saturating_mul(1 << failures.min(8)).min(AGAIN_MAX)
}

fn tell(executor: ExecutorKind, report: &SelfTestReport) {
    let (took_ms, version) = (report.took_ms, report.cli_version.as_deref());
    match report.text() {
        None => {
            tracing::info!(%executor, took_ms, cli.version = version, "self-test of sandboxes passed");
        }
        Some(why) => tracing::error!(
            %executor,
            took_ms,
            hint = report.hint(),
            "self-test of sandboxes failed, no tasks of this executor are taken: {why}"
        ),
    }
}

#[cfg(test)]
mod tests {
    use core_types::self_test::TestStep;
    use jiff::{SignedDuration, Timestamp};

    use super::*;

    fn known(report: SelfTestReport, failures: u32, retry_at: Option<Timestamp>) -> SelfTest {
        let now = Timestamp::UNIX_EPOCH;
        SelfTest {
            key: SelfTestKey {
                host: HostId::new("here"),
                environment: ExecutionEnvironment::Sandbox,
                executor: ExecutorKind::ClaudeCode,
            },
            last: Some(LastTest {
                subject: "image 1".to_owned(),
                report,
                tested_at: now,
                failures,
                retry_at,
            }),
            asked_at: None,
            now,
        }
    }

    fn passed() -> SelfTestReport {
        let mut report = SelfTestReport::default();
        TestStep::ALL.iter().for_each(|step| report.passes(*step));
        report
    }

    #[test]
    fn what_passed_is_not_tested_again_until_it_is_another() {
        let test = known(passed(), 0, None);
        assert_eq!(verdict("image 1", Some(&test)), Known::Passed);
        assert_eq!(verdict("image 2", Some(&test)), Known::Nothing);
        assert_eq!(verdict("image 1", None), Known::Nothing);
    }

    #[test]
    fn what_failed_is_tested_again_after_a_while_and_at_once_when_it_is_another() {
        let report = SelfTestReport::failed(TestStep::Cli, "it is gone", None);
        let later = Timestamp::UNIX_EPOCH + SignedDuration::from_secs(5);
        let test = known(report.clone(), 3, Some(later));
        assert_eq!(verdict("image 1", Some(&test)), Known::Failed);
        assert_eq!(verdict("image 2", Some(&test)), Known::Nothing);
        let due = known(report, 3, Some(Timestamp::UNIX_EPOCH));
        assert_eq!(verdict("image 1", Some(&due)), Known::Nothing);
        assert_eq!(again(None, "image 1"), AGAIN);
        assert_eq!(again(Some(&due), "image 1"), AGAIN * 8);
        assert_eq!(again(Some(&due), "image 2"), AGAIN);
    }
}
