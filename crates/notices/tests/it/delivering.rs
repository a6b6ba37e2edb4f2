//! What is told, to whom, how often, and what happens while nobody listens.

use std::{fs, os::unix::fs::PermissionsExt as _, time::Duration};

use core_types::{
    notice::{NoticeEvent, NoticeState},
    outcome::RunOutcome,
    secret::Secret,
    task::BlockReason,
};
use http::StatusCode;
use launcher::{launcher::Launcher as _, process::ProcessLauncher};
use notices::{
    message::Message,
    webhook::{EVENT_HEADER, ID_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER, Webhook, signature},
};
use testing::wait::wait_for;

use crate::{
    receiver::Receiver,
    world::{World, with_rows},
};

const ALL: (&str, &str) = ("NOTIFY_ON", "done,failed,blocked,paused,resumed");

#[tokio::test]
async fn each_end_of_a_task_and_each_pause_make_one_notice_and_a_retry_none() {
    let world = World::new().await;
    let done = world.over(RunOutcome::Succeeded).await;
    let failed = world.task(&[]).await;
    let dependant = world.task(&[failed]).await;
    world.end_next(RunOutcome::Interrupted).await;
    world.end_next(RunOutcome::CheckoutFailed).await;
    world.over(RunOutcome::LoginRequired).await;
    let trial = "UPDATE executor_gates SET state = 'trial', retry_at = NULL, trial_since = now(),
        trial_run = gen_random_uuid() WHERE state = 'closed'";
    world.database.run(trial).await;
    let open = "UPDATE executor_gates SET state = 'open', cause = NULL, closed_at = NULL, trial_since = NULL,
        trial_run = NULL WHERE state = 'trial'";
    world.database.run(open).await;
    let cancelled = world.task(&[]).await;
    world.store.cancel_task(cancelled, "x").await.unwrap();
    let told: Vec<_> = world.notices().await;
    let about: Vec<_> =
        told.iter().map(|notice| (notice.event, notice.task, notice.block_reason)).collect();
    let failing_dependency = Some(BlockReason::DependencyFailed);
    for one in [
        (NoticeEvent::Done, Some(done), None),
        (NoticeEvent::Failed, Some(failed), None),
        (NoticeEvent::Blocked, Some(dependant), failing_dependency),
        (NoticeEvent::Paused, None, None),
        (NoticeEvent::Resumed, None, None),
    ] {
        assert!(about.contains(&one), "{one:?} in {told:?}");
    }
    assert_eq!(told.len(), 5, "{told:?}");
    let pause = told.iter().find(|notice| notice.event == NoticeEvent::Paused).unwrap();
    assert_eq!(pause.subject.as_deref(), Some("host/claude_code"));
    assert!(pause.reason.is_some() && pause.until.is_some(), "{pause:?}");
}

#[tokio::test]
async fn a_notice_is_posted_once_signed_and_without_what_is_nobodys_business() {
    let mut world = World::new().await;
    let receiver = Receiver::start().await;
    world.over(RunOutcome::CheckoutFailed).await;
    world.over(RunOutcome::Succeeded).await;
    world.deliver(&[("NOTIFY_WEBHOOK_URL", &receiver.url()), ("NOTIFY_WEBHOOK_SECRET", "s3cret")]);
    let [failed, done] = world.notices().await.try_into().unwrap();
    world.wait(failed.id, "sent", |notice| notice.state == NoticeState::Sent).await;
    world.wait(done.id, "unwanted", |notice| notice.state == NoticeState::Unwanted).await;
    let [arrival] = receiver.arrivals().try_into().unwrap();
    assert_eq!(arrival.header(ID_HEADER), failed.id.to_string());
    assert_eq!(arrival.header(EVENT_HEADER), "failed");
    let at = arrival.header(TIMESTAMP_HEADER).parse().unwrap();
    assert_eq!(
        arrival.header(SIGNATURE_HEADER),
        signature(&Secret::new("s3cret"), at, &arrival.text)
    );
    let json = arrival.json();
    assert_eq!(
        (json["event"].as_str(), json["reason"].as_str()),
        (Some("failed"), Some("what happened"))
    );
    assert_eq!(
        (json["title"].as_str(), json["cost_usd"].as_f64()),
        (Some("repair the answer"), Some(1.25))
    );
    assert_eq!(json["path"], format!("/tasks/{}", failed.task.unwrap()));
    assert!(!arrival.text.contains("secret plan"));
}

#[tokio::test]
async fn a_receiver_that_fails_or_is_away_is_tried_again_until_it_takes_it() {
    let mut world = World::new().await;
    let receiver = Receiver::start().await;
    let (address, url) = (receiver.address, receiver.url());
    receiver.status.send_replace(StatusCode::INTERNAL_SERVER_ERROR);
    world.over(RunOutcome::Succeeded).await;
    world.deliver(&[ALL, ("NOTIFY_WEBHOOK_URL", &url)]);
    let id = world.notices().await[0].id;
    let tried = world.wait(id, "a first failure", |notice| notice.last_error.is_some()).await;
    assert_eq!(tried.last_error.as_deref(), Some("the webhook answered 500 Internal Server Error"));
    assert!(tried.next_at.unwrap() > tried.created_at);
    receiver.status.send_replace(StatusCode::FOUND);
    world.hurry().await;
    let tried = world
        .wait(id, "a second failure", |notice| {
            notice.attempts == 2
                && notice.last_error.as_ref().is_some_and(|error| error.contains("302"))
        })
        .await;
    assert_eq!((tried.state, receiver.arrivals().len()), (NoticeState::Pending, 2));
    drop(receiver);
    world.hurry().await;
    let away = world
        .wait(id, "a third failure", |notice| {
            notice.last_error.as_ref().is_some_and(|error| error.contains("does not answer"))
        })
        .await;
    assert!(!away.last_error.unwrap().contains("hunter2"));
    let back = Receiver::start_at(address).await;
    world.hurry().await;
    let sent = world.wait(id, "sent", |notice| notice.state == NoticeState::Sent).await;
    assert_eq!((sent.attempts, sent.last_error, back.arrivals().len()), (4, None, 1));
}

#[tokio::test]
async fn a_deliverer_that_dies_between_sending_and_noting_it_sends_again_under_the_same_id() {
    let mut world = World::new().await;
    let receiver = Receiver::start().await;
    world.over(RunOutcome::Succeeded).await;
    let [notice] = world
        .store
        .claim_notices(10, Duration::from_millis(1), false)
        .await
        .unwrap()
        .try_into()
        .unwrap();
    let webhook = Webhook::new().unwrap();
    webhook.post(&receiver.url(), None, &Message::new(&notice)).await.unwrap();
    // It is gone now; another one comes.
    world.deliver(&[ALL, ("NOTIFY_WEBHOOK_URL", &receiver.url())]);
    world.wait(notice.id, "sent", |notice| notice.state == NoticeState::Sent).await;
    let [first, second] = receiver.arrivals().try_into().unwrap();
    assert_eq!(first.header(ID_HEADER), second.header(ID_HEADER));
    assert_eq!(first.text, second.text);
    // What the dead one would still write does not count.
    let late = store::notices::Settled {
        webhook: false,
        command: false,
        next: store::notices::NoticeNext::GiveUp,
        error: None,
    };
    assert!(!world.store.settle_notice(&notice, &late).await.unwrap());
}

#[tokio::test]
async fn many_deliverers_send_each_notice_once() {
    let mut world = World::new().await;
    let receiver = Receiver::start().await;
    for _ in 0..20 {
        world.over(RunOutcome::Succeeded).await;
    }
    for _ in 0..4 {
        world.deliver(&[ALL, ("NOTIFY_WEBHOOK_URL", &receiver.url())]);
    }
    wait_for("all sent", Duration::from_secs(20), async || {
        let sent =
            world.notices().await.iter().filter(|notice| notice.state == NoticeState::Sent).count();
        if sent == 20 { Ok(()) } else { Err(sent) }
    })
    .await;
    let mut ids: Vec<String> =
        receiver.arrivals().iter().map(|one| one.header(ID_HEADER).to_owned()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!((ids.len(), receiver.arrivals().len()), (20, 20));
}

/// A program of the test's own.
fn program(world: &World, body: &str) -> String {
    let path = world.state.path().join("notify.sh");
    fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path.to_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_command_gets_the_notice_on_its_input_and_little_else() {
    let mut world = World::new().await;
    let out = world.state.path().join("out");
    let script =
        program(&world, &format!("cat > {0}; echo \"$*\" >> {0}; env >> {0}", out.display()));
    world.over(RunOutcome::Succeeded).await;
    world.deliver(&[ALL, ("NOTIFY_COMMAND", &format!("{script},an argument"))]);
    let id = world.notices().await[0].id;
    world
        .wait(id, "sent", |notice| {
            notice.state == NoticeState::Sent && notice.command_sent_at.is_some()
        })
        .await;
    let got = fs::read_to_string(out).unwrap();
    let mut lines = got.lines();
    let json: serde_json::Value = serde_json::from_str(lines.next().unwrap()).unwrap();
    assert_eq!(
        (json["id"].as_str().unwrap(), lines.next()),
        (id.to_string().as_str(), Some("an argument"))
    );
    assert!(!got.contains("OPENTIGER_TEST_DATABASE_URL"), "{got}");
}

#[tokio::test]
async fn of_two_ways_only_the_one_that_failed_is_tried_again() {
    let mut world = World::new().await;
    let receiver = Receiver::start().await;
    let flag = world.state.path().join("flag");
    let script =
        program(&world, &format!("test -e {} || {{ echo no flag >&2; exit 3; }}", flag.display()));
    world.over(RunOutcome::Succeeded).await;
    world.deliver(&[ALL, ("NOTIFY_COMMAND", &script), ("NOTIFY_WEBHOOK_URL", &receiver.url())]);
    let id = world.notices().await[0].id;
    let tried = world.wait(id, "half sent", |notice| notice.webhook_sent_at.is_some()).await;
    assert_eq!(tried.last_error.as_deref(), Some("the command ended with exit status 3: no flag"));
    fs::write(flag, "").unwrap();
    world.hurry().await;
    world.wait(id, "sent", |notice| notice.state == NoticeState::Sent).await;
    assert_eq!(receiver.arrivals().len(), 1);
}

#[tokio::test]
async fn a_test_is_tried_once_and_says_what_came_of_it() {
    let mut world = World::new().await;
    let stop = world.deliver(&[]);
    let id = world.store.add_test_notice().await.unwrap();
    let failed = world.wait(id, "given up", |notice| notice.state == NoticeState::Failed).await;
    assert!(failed.last_error.unwrap().contains("NOTIFY_WEBHOOK_URL"));
    stop.cancel();
    world.deliver(&[("NOTIFY_COMMAND", "/no/such/program"), ("NOTIFY_ON", "done")]);
    let id = world.store.add_test_notice().await.unwrap();
    let failed = world.wait(id, "given up", |notice| notice.state == NoticeState::Failed).await;
    assert!(failed.last_error.unwrap().contains("/no/such/program"));
}

#[tokio::test]
async fn a_webhook_that_does_not_answer_holds_up_no_command_and_is_tried_again() {
    let mut world = World::new().await;
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap();
    let out = world.state.path().join("out");
    let script = program(&world, &format!("cat >> {}", out.display()));
    world.over(RunOutcome::Succeeded).await;
    world.patience.webhook = Duration::from_secs(1);
    let url = format!("http://{address}/hook?token=hunter2");
    world.deliver(&[ALL, ("NOTIFY_COMMAND", &script), ("NOTIFY_WEBHOOK_URL", &url)]);
    let id = world.notices().await[0].id;
    let tried = world.wait(id, "a failure", |notice| notice.last_error.is_some()).await;
    assert_eq!(tried.last_error.as_deref(), Some("the webhook did not answer within 1 s"));
    assert!(tried.command_sent_at.is_some() && tried.webhook_sent_at.is_none(), "{tried:?}");
    assert_eq!((tried.state, tried.attempts), (NoticeState::Pending, 1));
    // Whatever came of the first attempt, it comes again, and the command does not.
    drop(silent);
    let back = Receiver::start_at(address).await;
    world.hurry().await;
    world.wait(id, "sent", |notice| notice.state == NoticeState::Sent).await;
    assert_eq!(back.arrivals().len(), 1);
    assert_eq!(fs::read_to_string(out).unwrap().lines().count(), 1);
}

#[tokio::test]
async fn a_command_that_hangs_is_ended_told_and_tried_again() {
    let mut world = World::new().await;
    let flag = world.state.path().join("flag");
    let body = format!("test -e {} && exit 0; echo stuck >&2; exec sleep 1000", flag.display());
    let script = program(&world, &body);
    world.over(RunOutcome::Succeeded).await;
    world.patience.command = Duration::from_secs(1);
    world.deliver(&[ALL, ("NOTIFY_COMMAND", &script)]);
    let id = world.notices().await[0].id;
    let tried = world.wait(id, "a failure", |notice| notice.last_error.is_some()).await;
    let error = tried.last_error.as_deref();
    assert_eq!(error, Some("the command did not end within 1 s: stuck"));
    let launcher = ProcessLauncher::new(world.state.path().to_path_buf()).unwrap();
    assert_eq!(launcher.discover().await.unwrap().len(), 0, "nothing of it is left");
    fs::write(flag, "").unwrap();
    world.hurry().await;
    world.wait(id, "sent", |notice| notice.state == NoticeState::Sent).await;
}

#[tokio::test]
async fn a_notice_waits_while_a_row_says_nothing_usable_about_where_it_goes() {
    let mut world = World::new().await;
    let receiver = Receiver::start().await;
    let url = receiver.url();
    let task = world.over(RunOutcome::Succeeded).await;
    let id = world.notices().await.first().unwrap().id;
    let to = [("NOTIFY_WEBHOOK_URL", &*url)];
    let stop = world.deliver_under(with_rows(&to, &[("NOTIFY_ON", "success")]));
    // A test is told of it, and shows that somebody looks.
    let test = world.store.add_test_notice().await.unwrap();
    let told =
        world.wait(test, "the test to be given up", |it| it.state == NoticeState::Failed).await;
    assert!(told.last_error.unwrap().contains("NOTIFY_ON"));
    let held = world.store.notice(id).await.unwrap().unwrap();
    assert_eq!((held.state, held.attempts), (NoticeState::Pending, 0));
    stop.cancel();
    world.deliver(&[("NOTIFY_WEBHOOK_URL", &url), ALL]);
    let sent = world.wait(id, "the notice to be sent", |it| it.state == NoticeState::Sent).await;
    assert_eq!(sent.task, Some(task));
}

#[tokio::test]
async fn a_pause_of_all_claims_is_told_once_and_so_is_its_end() {
    let world = World::new().await;
    let store = &world.store;
    store.note_claims("dispatcher on here", None).await.unwrap();
    for reason in ["the engine does not answer", "the engine is away"] {
        store.note_claims("dispatcher on here", Some(reason)).await.unwrap();
    }
    for _ in 0..2 {
        store.note_claims("dispatcher on here", None).await.unwrap();
    }
    store.note_claims("dispatcher on there", Some("no image")).await.unwrap();
    let told: Vec<_> = world.notices().await.into_iter().map(|it| (it.event, it.reason)).collect();
    let paused = |reason: &str| (NoticeEvent::Paused, Some(reason.to_owned()));
    let expected =
        [paused("the engine does not answer"), (NoticeEvent::Resumed, None), paused("no image")];
    assert_eq!(told, expected);
}
