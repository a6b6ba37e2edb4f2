//! Runs whose repository is on another host: what comes of them, and that nobody gets to see the host's login.

use std::{fs, time::Duration};

use agent::run::work_on;
use core_types::{
    event::RunEvent,
    outcome::RunOutcome,
    repository::Repository,
    task::{BlockReason, TaskState},
};
use store::tasks::NewTask;
use testing::{
    git_server::{Behaviour, GitServer},
    wait::wait_for,
};

use crate::bench::Bench;

const TOKEN: &str = "t0ken-that-nobody-may-see";

struct Remote {
    bench: Bench,
    server: GitServer,
    url: String,
}

impl Remote {
    async fn new() -> Self {
        let mut bench = Bench::with_fake_agent().await;
        let server = GitServer::start().await;
        server.add("project", &bench.repository);
        server.require_login("me", TOKEN);
        let url = server.url("project");
        bench.policy.remotes.ca_file = Some(server.ca_file());
        bench.policy.remotes.timeout = Duration::from_secs(20);
        let tokens = format!("{}=me:{TOKEN}", server.authority());
        bench.policy.remotes.tokens =
            core_types::credential::parse_host_tokens(&tokens).expect("the list is right");
        Self { bench, server, url }
    }

    fn task(&self) -> NewTask {
        self.task_at(&self.url)
    }

    fn task_at(&self, url: &str) -> NewTask {
        let mut task = self.bench.task("[fake: ok] [file: made.txt]");
        task.repository = Repository::Git { url: url.to_owned() };
        task.max_attempts = 2;
        task
    }

    fn hook(&self, script: &str) {
        let hook = self.server.path("project").join("hooks/pre-receive");
        fs::create_dir_all(hook.parent().expect("it is in a directory"))
            .expect("a directory can be made");
        fs::write(&hook, format!("#!/bin/sh\n{script}\n")).expect("a file can be written");
        testing::repository::set_mode(&hook, 0o755);
    }

    fn branches(&self) -> String {
        self.server.git("project", &["branch", "--list", "opentiger/*"])
    }
}

#[tokio::test]
async fn the_result_is_pushed_and_nothing_recorded_holds_the_token() {
    let remote = Remote::new().await;
    let mut task = remote.task();
    task.verification =
        vec![["sh", "-c", "test -f made.txt && env; false"].map(str::to_owned).into()];
    // A failing command shows what it saw.
    let told = remote.bench.work(task).await;
    told.assert_outcome(RunOutcome::VerificationFailed);
    let seen = format!("{:?}{:?}", told.events, told.run);
    assert!(seen.contains("PATH="), "{seen}");
    for secret in [TOKEN, "canary-of-the-worker", "SSH_AUTH_SOCK", "GIT_ASKPASS"] {
        assert!(!seen.contains(secret), "{secret}: {seen}");
    }
    assert_eq!(remote.branches(), "");
    let told = remote.bench.work(remote.task()).await;
    told.assert_outcome(RunOutcome::Succeeded);
    let (branch, commit) = (told.report().branch.clone().unwrap(), told.report().commit.clone());
    assert_eq!(remote.server.git("project", &["rev-parse", &branch]).trim(), commit.unwrap());
    let is_pushed = |event: &RunEvent| matches!(event, RunEvent::Commit { pushed: true, .. });
    assert!(told.events.iter().any(is_pushed), "{:?}", told.events);
    assert_eq!(told.run.base_commit, Some(remote.bench.repository.head()));
    assert!(!format!("{:?}{:?}", told.events, told.run).contains(TOKEN));
    remote.bench.assert_clean().await;
}

#[tokio::test]
async fn what_cannot_be_fetched_has_an_outcome_of_its_own() {
    let mut remote = Remote::new().await;
    let exhausted = TaskState::Blocked { reason: BlockReason::AttemptsExhausted };
    let nothing = remote.server.url("nothing");
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nobody = format!("https://{nobody}/x");
    let mut branchless = remote.task();
    branchless.base_branch = Some("gone".to_owned());
    for (task, behaviour, expected, state) in [
        (
            remote.task_at(&nothing),
            Behaviour::Serve,
            RunOutcome::RepositoryMissing,
            TaskState::Failed,
        ),
        (branchless, Behaviour::Serve, RunOutcome::BaseBranchMissing, TaskState::Failed),
        (remote.task_at(&nobody), Behaviour::Serve, RunOutcome::RemoteUnreachable, exhausted),
        (remote.task(), Behaviour::HangUp, RunOutcome::RemoteHungUp, exhausted),
        (
            remote.task(),
            Behaviour::Answer(403, String::new()),
            RunOutcome::RepositoryDenied,
            exhausted,
        ),
        (
            remote.task(),
            Behaviour::Answer(301, "Location: https://127.0.0.1:1/\r\n".to_owned()),
            RunOutcome::CheckoutFailed,
            TaskState::Failed,
        ),
    ] {
        remote.server.behave(behaviour);
        let mut task = task;
        task.max_attempts = 1;
        let told = remote.bench.work(task).await;
        told.assert_outcome(expected);
        assert_eq!(told.task.state, state, "{expected}");
        assert!(told.report().message.is_some() && told.report().hint.is_some(), "{expected}");
    }
    remote.server.behave(Behaviour::Serve);
    remote.bench.policy.remotes.ca_file = None;
    let told = remote.bench.work(remote.task()).await;
    told.assert_outcome(RunOutcome::HostNotTrusted);
    // Trying again may help, after a while.
    assert!(matches!(told.task.state, TaskState::Queued), "{:?}", told.task.state);
    remote.bench.assert_clean().await;
}

#[tokio::test]
async fn a_refused_push_and_a_taken_branch_are_told_apart() {
    let remote = Remote::new().await;
    remote.hook("echo 'no branches on fridays' >&2; exit 1");
    let told = remote.bench.work(remote.task()).await;
    told.assert_outcome(RunOutcome::PushRefused);
    assert_eq!(told.task.state, TaskState::Failed);
    let message = told.report().message.clone().unwrap();
    assert!(message.contains("no branches on fridays"), "{message}");
    // What the agent did is not lost with the push.
    let commit = told.report().commit.clone().unwrap();
    assert_eq!((&told.task.commit, &told.task.branch), (&Some(commit.clone()), &None));
    let kept =
        |event: &RunEvent| matches!(event, RunEvent::Notice { text } if text.contains(&commit));
    assert!(told.events.iter().any(kept), "{:?}", told.events);
    remote.hook("exit 0");
    let task = remote.task();
    let branch = format!("opentiger/{}-1", task.id);
    remote.server.git("project", &["branch", &branch, "main"]);
    let told = remote.bench.work(task).await;
    told.assert_outcome(RunOutcome::BranchTaken);
    let head = remote.bench.repository.head();
    assert_eq!(remote.server.git("project", &["rev-parse", &branch]).trim(), head);
    remote.bench.assert_clean().await;
}

#[tokio::test]
async fn a_push_that_fails_for_a_moment_is_tried_again() {
    let remote = Remote::new().await;
    let started = remote.bench.start(remote.task()).await;
    let run = started.key.run;
    let work = work_on(&remote.bench.shop, started, &remote.bench.policy, &remote.bench.stop);
    let interfere = async {
        remote.bench.wait_phase(run, "agent").await;
        remote.server.behave(Behaviour::HangUp);
        wait_for("a failed push", Duration::from_secs(30), async || {
            let events = remote.bench.told(run).await.events;
            let again = |e: &RunEvent| {
                matches!(e, RunEvent::Notice { text } if text.contains("the push is tried again"))
            };
            if events.iter().any(again) { Ok(()) } else { Err(format!("{events:?}")) }
        })
        .await;
        remote.server.behave(Behaviour::Serve);
    };
    tokio::join!(work, interfere);
    remote.bench.told(run).await.assert_outcome(RunOutcome::Succeeded);
}

#[tokio::test]
async fn a_stop_ends_a_fetch_that_hangs_and_leaves_nothing() {
    let remote = Remote::new().await;
    remote.server.behave(Behaviour::Hang);
    let started = remote.bench.start(remote.task()).await;
    let run = started.key.run;
    let work = work_on(&remote.bench.shop, started, &remote.bench.policy, &remote.bench.stop);
    let stop = async {
        wait_for("the fetch", Duration::from_secs(30), async || {
            let asked = remote.server.requests();
            if asked.is_empty() { Err("no request yet") } else { Ok(()) }
        })
        .await;
        remote.bench.stop.cancel();
    };
    tokio::join!(work, stop);
    remote.bench.told(run).await.assert_outcome(RunOutcome::Interrupted);
    remote.bench.assert_clean().await;
}
