//! What is proved of sandboxes holds for exactly the sandboxes that were tested.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use checkout::{checkouts::Checkouts, git::GitCommand};
use core_config::load::load;
use core_types::{
    label,
    self_test::{SelfTestReport, TestStep},
    task::{ExecutionEnvironment, ExecutorKind},
};
use dispatch::sandboxed::{
    outfit::{NotReady, Order, Outfit, Outfitter, Unfit},
    readiness::Readiness,
    self_tests::SelfTests,
};
use launcher::{
    id::LaunchId,
    launcher::Launcher,
    process::ProcessLauncher,
    spec::{Input, LaunchSpec, UserId},
};
use store::{agents::HostId, self_tests::SelfTestKey};
use tempfile::TempDir;
use testing::{database::TestDatabase, programs::search_path, samples, wait::wait_for};
use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

const LONG: Duration = Duration::from_secs(60);

const CLAUDE: ExecutorKind = ExecutorKind::ClaudeCode;

/// Sandboxes of an image that is replaced. A self-test of one waits until it may begin, and fails.
#[derive(Debug)]
struct Images {
    checkouts: Checkouts,
    image: Mutex<&'static str>,
    begun: Notify,
    may_begin: Notify,
}

impl Images {
    fn is(&self, image: &'static str) {
        *self.image.lock().unwrap() = image;
    }
}

#[async_trait]
impl Outfitter for Images {
    async fn ready(&self) -> Result<(), NotReady> {
        Ok(())
    }

    async fn subject(&self, _: ExecutorKind) -> Result<Option<String>, NotReady> {
        Ok(Some((*self.image.lock().unwrap()).to_owned()))
    }

    fn user(&self) -> UserId {
        let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
        UserId { uid: uid.as_raw(), gid: gid.as_raw() }
    }

    fn checkouts(&self) -> Result<Checkouts, NotReady> {
        Ok(self.checkouts.clone())
    }

    async fn outfit(&self, _: Order<'_>) -> Result<Outfit, Unfit> {
        let mut spec = LaunchSpec::new("/bin/false", "/");
        let image = *self.image.lock().unwrap();
        spec.labels.insert(label::SUBJECT.to_owned(), image.to_owned());
        self.begun.notify_one();
        self.may_begin.notified().await;
        Ok(Outfit { spec, input: Input::default() })
    }

    async fn admit(&self, _: &LaunchId, _: Option<&str>) -> Result<(), NotReady> {
        Ok(())
    }

    async fn dismiss(&self, _: &LaunchId) {}
}

fn passed() -> SelfTestReport {
    let mut report = SelfTestReport::default();
    TestStep::ALL.iter().for_each(|step| report.passes(*step));
    report
}

#[tokio::test]
async fn an_image_that_was_replaced_is_proved_no_longer_while_the_new_one_is_tested() {
    let (database, state) = (TestDatabase::new().await, TempDir::new().unwrap());
    let store = &database.store;
    let git = GitCommand::find(&search_path()).unwrap();
    let images = Arc::new(Images {
        checkouts: Checkouts::new(state.path().join("checkouts"), git),
        image: Mutex::new("image 1"),
        begun: Notify::new(),
        may_begin: Notify::new(),
    });
    let key = SelfTestKey {
        host: HostId::new("here"),
        environment: ExecutionEnvironment::Sandbox,
        executor: CLAUDE,
    };
    store.record_self_test(&key, "image 1", &passed(), None).await.unwrap();
    store.create_tasks(vec![samples::task()]).await.unwrap();
    let launcher: Arc<dyn Launcher> =
        Arc::new(ProcessLauncher::new(state.path().to_path_buf()).unwrap());
    let readiness = Arc::new(Readiness::new());
    readiness.look(&*images).await;
    let outfitter = Arc::<Images>::clone(&images);
    let tests = SelfTests::new(store.clone(), key.host, launcher, outfitter, readiness);
    let tests = Arc::new(tests);
    let settings = [("EXECUTION_ENVIRONMENT".into(), "sandbox".into())];
    let (_settings, settings) = watch::channel(Arc::new(load(settings, None).unwrap()));
    let (stop, mut work) = (CancellationToken::new(), JoinSet::new());
    work.spawn(Arc::clone(&tests).run(settings, stop.clone()));

    // Nothing is known at first, and then it is what the database says.
    assert!(tests.is_proved(CLAUDE, Some("image 1")).await.unwrap());
    let mut changes = tests.changes();
    let proved = changes.wait_for(|()| !tests.unproved().contains(&CLAUDE));
    drop(tokio::time::timeout(LONG, proved).await.unwrap().unwrap());
    // Whoever claimed before an image was replaced does not start in the new one.
    assert!(!tests.is_proved(CLAUDE, Some("image 2")).await.unwrap());

    images.is("image 2");
    tokio::time::timeout(LONG, images.begun.notified()).await.unwrap();
    assert!(tests.unproved().contains(&CLAUDE), "nothing is claimed while it is tested");
    images.may_begin.notify_one();
    wait_for("the test of the new image", LONG, async || {
        let known = store.self_tests().await.unwrap();
        let last = known.into_iter().find_map(|test| test.last.filter(|it| it.failures > 0));
        last.filter(|last| last.subject == "image 2").ok_or("not recorded")
    })
    .await;
    assert!(tests.unproved().contains(&CLAUDE));
    stop.cancel();
    work.join_all().await;
}
