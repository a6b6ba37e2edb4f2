//! Repositories behind https: a real git server on loopback with a certificate of its own.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, time::Duration};

use checkout::{error::CheckoutError, trouble::Trouble, url::UrlRules};
use testing::{
    git_server::{Behaviour, GitServer},
    repository::{ScratchRepository, git_in},
};

use crate::{
    bench::{start_tree_and, tree},
    remote_bench::{RemoteBench, trouble_of},
};

const TOKEN: &str = "t0ken-that-nobody-may-see";

async fn served() -> (GitServer, ScratchRepository, String) {
    let server = GitServer::start().await;
    let repository = ScratchRepository::with_one_commit();
    server.add("project", &repository);
    let url = server.url("project");
    (server, repository, url)
}

#[tokio::test]
async fn a_result_is_pushed_as_the_runs_branch_and_nothing_else_changes() {
    let (server, repository, url) = served().await;
    let bench = RemoteBench::of(&server);
    let refs = || server.git("project", &["for-each-ref", "--format=%(refname) %(objectname)"]);
    let before = refs();
    let checkout = bench.prepare(&url).await;
    assert_eq!(checkout.base_commit.as_str(), repository.head());
    assert_eq!(checkout.base_branch.as_ref().unwrap().as_str(), "main");
    assert_eq!(git_in(&checkout.work, &["remote"]), "");
    assert_eq!(git_in(&checkout.work, &["log", "--format=%s"]), "start\n");
    let sealed = bench.change(&checkout).await;
    let pushed = bench.checkouts().collect(&checkout, &sealed).await.unwrap();
    let line = format!("{} {}\n", pushed.branch.to_ref(), pushed.commit);
    assert_eq!(refs(), format!("{before}{line}"));
    let tree = tree(&server.path("project"), pushed.branch.as_str());
    assert_eq!(tree, start_tree_and(&["100644 new.txt"]));
    server.git("project", &["fsck", "--strict"]);
    // Again is fine: the branch is there with this commit.
    assert_eq!(bench.checkouts().collect(&checkout, &sealed).await.unwrap(), pushed);
    bench.assert_no_launches().await;
}

#[tokio::test]
async fn a_base_branch_that_is_not_there_is_named_with_those_that_are() {
    let (server, repository, url) = served().await;
    let bench = RemoteBench::of(&server);
    server.git("project", &["branch", "side/x", &repository.head()]);
    let checkout = bench.try_prepare(&url, Some("side/x")).await.unwrap();
    assert_eq!(checkout.base_branch.unwrap().as_str(), "side/x");
    let error = bench.try_prepare(&url, Some("gone")).await.unwrap_err();
    let CheckoutError::BranchMissing { branch, existing, .. } = &error else {
        panic!("{error:?}");
    };
    assert_eq!((branch.as_str(), existing.as_str()), ("gone", "main, side/x"));
    server.add("empty", &ScratchRepository::empty());
    let error = bench.try_prepare(&server.url("empty"), None).await.unwrap_err();
    assert!(matches!(error, CheckoutError::NoCommit { .. }), "{error:?}");
}

#[tokio::test]
async fn a_token_opens_the_repository_and_a_wrong_or_missing_one_does_not() {
    let (server, _, url) = served().await;
    server.require_login("me", TOKEN);
    let mut bench = RemoteBench::of(&server);
    assert_eq!(bench.trouble(&url).await, Trouble::Denied);
    bench.set_tokens(&format!("{}=me:wrong", server.authority()));
    assert_eq!(bench.trouble(&url).await, Trouble::Denied);
    bench.set_tokens(&format!("elsewhere=me:{TOKEN}"));
    assert_eq!(bench.trouble(&url).await, Trouble::Denied);
    bench.set_tokens(&format!("{}=me:{TOKEN}", server.authority()));
    let checkout = bench.prepare(&url).await;
    bench.try_push(&checkout).await.unwrap();
    // However it is written.
    let checkout = bench.prepare(&url.replace("https://", "HTTPS://")).await;
    bench.try_push(&checkout).await.unwrap();
    assert_eq!(bench.mirrors().list().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_token_is_in_no_file_no_argument_and_no_environment_while_it_is_used() {
    let (server, _, url) = served().await;
    server.require_login("me", TOKEN);
    let mut bench = RemoteBench::of(&server);
    bench.set_tokens(&format!("{}=me:{TOKEN}", server.authority()));
    bench.access.timeout = Duration::from_secs(4);
    // The fetch logs in and then hangs, so that it can be looked at.
    server.behave(Behaviour::StallFetch(200));
    let preparing = bench.try_prepare(&url, None);
    let looking = async {
        let mut looks = 0;
        let started = std::time::Instant::now();
        while started.elapsed() < Duration::from_secs(3) {
            assert_eq!(places_with(TOKEN, bench.state.path()), Vec::<String>::new());
            looks += 1;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        looks
    };
    let (prepared, looks) = tokio::join!(preparing, looking);
    assert_eq!(trouble_of(&prepared.unwrap_err()), Trouble::TimedOut);
    assert!(looks > 10, "{looks}");
    assert_eq!(places_with(TOKEN, bench.state.path()), Vec::<String>::new());
}

/// Where the text is: arguments and environments of other processes, files of the state directory.
fn places_with(text: &str, state: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for process in fs::read_dir("/proc").unwrap().flatten() {
        if process.file_name() == std::process::id().to_string().as_str() {
            continue;
        }
        for part in ["cmdline", "environ"] {
            let path = process.path().join(part);
            if fs::read(&path).is_ok_and(|bytes| holds(&bytes, text)) {
                found.push(path.display().to_string());
            }
        }
    }
    files_with(text, state, &mut found);
    found
}

fn files_with(text: &str, directory: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let Ok(kind) = entry.file_type() else {
            continue;
        };
        if kind.is_dir() {
            files_with(text, &entry.path(), found);
        } else if kind.is_file() && fs::read(entry.path()).is_ok_and(|bytes| holds(&bytes, text)) {
            found.push(entry.path().display().to_string());
        }
    }
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[tokio::test]
async fn the_users_own_credential_helper_is_used_and_nothing_else_of_their_configuration() {
    let (server, _, url) = served().await;
    server.require_login("me", TOKEN);
    let bench = RemoteBench::of(&server);
    let home = bench.state.path().join("home");
    let canary = home.join("canary");
    let helper = home.join("helper.sh");
    fs::write(
        &helper,
        format!("#!/bin/sh\n[ $1 = get ] && printf 'username=me\\npassword={TOKEN}\\n'\n"),
    )
    .unwrap();
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();
    let config = format!(
        "[credential \"https://{}\"]\n\thelper = {}\n[core]\n\tsshCommand = touch {canary}\n\tfsmonitor = touch {canary}\n\
         [url \"https://evil.invalid/\"]\n\tinsteadOf = https://127.0.0.1\n",
        server.authority(),
        helper.display(),
        canary = canary.display(),
    );
    fs::write(home.join(".gitconfig"), config).unwrap();
    let checkout = bench.prepare(&url).await;
    bench.try_push(&checkout).await.unwrap();
    assert!(!canary.try_exists().unwrap());
}

#[tokio::test]
async fn a_login_in_the_users_netrc_is_used() {
    let (server, _, url) = served().await;
    server.require_login("me", TOKEN);
    let bench = RemoteBench::of(&server);
    let netrc = bench.state.path().join("home/.netrc");
    fs::write(&netrc, format!("machine 127.0.0.1 login me password {TOKEN}\n")).unwrap();
    bench.prepare(&url).await;
}

#[tokio::test]
async fn each_trouble_has_its_name() {
    let (server, _, url) = served().await;
    let mut bench = RemoteBench::of(&server);
    bench.access.timeout = Duration::from_secs(3);
    assert_eq!(bench.trouble(&server.url("nothing")).await, Trouble::NotFound);
    for (behaviour, expected) in [
        (Behaviour::Answer(403, String::new()), Trouble::Denied),
        (Behaviour::Answer(503, String::new()), Trouble::Unreachable),
        (Behaviour::Answer(429, String::new()), Trouble::Unreachable),
        (Behaviour::Answer(301, "Location: https://evil.invalid/x\r\n".to_owned()), Trouble::Moved),
        (Behaviour::HangUp, Trouble::HungUp),
        (Behaviour::Hang, Trouble::TimedOut),
    ] {
        server.behave(behaviour.clone());
        assert_eq!(bench.trouble(&url).await, expected, "{behaviour:?}");
    }
    server.behave(Behaviour::Serve);
    bench.access.ca_file = None;
    assert_eq!(bench.trouble(&url).await, Trouble::NotTrusted);
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert_eq!(bench.trouble(&format!("https://{nobody}/x")).await, Trouble::Unreachable);
    assert_eq!(bench.trouble("https://nowhere.invalid/x").await, Trouble::Unreachable);
    bench.assert_no_launches().await;
    assert_eq!(bench.checkouts().list().await.unwrap(), []);
}

#[tokio::test]
async fn a_fetch_that_brings_more_than_allowed_is_ended() {
    let (server, repository, _) = served().await;
    let noise: String =
        (0..400_000_u32).map(|n| format!("{:x}", n.wrapping_mul(2_654_435_761))).collect();
    repository.write("large.txt", &noise);
    repository.commit_all("large");
    server.add("large", &repository);
    let mut bench = RemoteBench::of(&server);
    bench.access.max_bytes = Some(100_000);
    // It stays long enough to be measured.
    server.behave(Behaviour::StallFetch(1_000_000));
    assert_eq!(bench.trouble(&server.url("large")).await, Trouble::TooLarge);
    bench.access.max_bytes = Some(100 << 20);
    server.behave(Behaviour::Serve);
    bench.prepare(&server.url("large")).await;
}

#[tokio::test]
async fn a_push_that_a_hook_declines_is_refused_with_the_servers_words() {
    let (server, _, url) = served().await;
    let bench = RemoteBench::of(&server);
    let checkout = bench.prepare(&url).await;
    let hook = server.path("project").join("hooks/pre-receive");
    fs::create_dir_all(hook.parent().unwrap()).unwrap();
    fs::write(&hook, "#!/bin/sh\nprintf 'no \\033[31mbranches on fridays\\n' >&2\nexit 1\n")
        .unwrap();
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    let error = bench.try_push(&checkout).await.unwrap_err();
    assert_eq!(trouble_of(&error), Trouble::PushRefused);
    let text = error.to_string();
    assert!(text.contains("pre-receive hook declined"), "{text}");
    assert!(text.contains("branches on fridays") && !text.contains('\u{1b}'), "{text}");
    fs::remove_file(hook).unwrap();
    server.git("project", &["config", "http.receivepack", "false"]);
    let error = bench.try_push(&checkout).await.unwrap_err();
    assert_eq!(trouble_of(&error), Trouble::Denied, "{error}");
}

#[tokio::test]
async fn a_branch_that_is_there_with_something_else_is_never_moved() {
    let (server, repository, url) = served().await;
    let bench = RemoteBench::of(&server);
    let checkout = bench.prepare(&url).await;
    server.git("project", &["branch", checkout.branch.as_str(), &repository.head()]);
    let error = bench.try_push(&checkout).await.unwrap_err();
    let CheckoutError::BranchTaken { existing, .. } = &error else {
        panic!("{error:?}");
    };
    assert_eq!(*existing, repository.head());
    let there = server.git("project", &["rev-parse", checkout.branch.as_str()]);
    assert_eq!(there.trim(), repository.head());
}

#[tokio::test]
async fn a_push_whose_answer_is_lost_is_found_out_about() {
    let (server, _, url) = served().await;
    let bench = RemoteBench::of(&server);
    let checkout = bench.prepare(&url).await;
    server.behave(Behaviour::LoseAnswerOfPush);
    let pushed = bench.try_push(&checkout).await.unwrap();
    let there = server.git("project", &["rev-parse", pushed.branch.as_str()]);
    assert_eq!(there.trim(), pushed.commit.as_str());
    // Nothing arrives at all: an error that may be tried again, and no branch.
    let checkout = bench.prepare(&url).await;
    server.behave(Behaviour::HangUp);
    let error = bench.try_push(&checkout).await.unwrap_err();
    assert!(error.is_transient(), "{error:?}");
    server.behave(Behaviour::Serve);
    bench.try_push(&checkout).await.unwrap();
}

#[tokio::test]
async fn a_push_goes_on_when_the_base_branch_moved_meanwhile() {
    let (server, repository, url) = served().await;
    let bench = RemoteBench::of(&server);
    let checkout = bench.prepare(&url).await;
    repository.write("meanwhile.txt", "x\n");
    repository.commit_all("meanwhile");
    repository.git(&["push", "--quiet", server.path("project").to_str().unwrap(), "main"]);
    let pushed = bench.try_push(&checkout).await.unwrap();
    let parent = server.git("project", &["rev-parse", &format!("{}^", pushed.branch)]);
    assert_eq!(parent.trim(), checkout.base_commit.as_str());
}

#[tokio::test]
async fn what_git_must_not_see_is_refused_before_it_is_called() {
    let (server, _, _) = served().await;
    let bench = RemoteBench::of(&server);
    let canary = bench.state.path().join("canary");
    for hostile in [
        format!("ext::sh -c touch% {}", canary.display()),
        format!("--upload-pack=touch {}", canary.display()),
        format!("ssh://-oProxyCommand=touch%20{}/x", canary.display()),
        format!("-oProxyCommand=touch {}:x", canary.display()),
        format!("https://me:secret@{}/project.git", server.authority()),
        format!("http://{}/project.git", server.authority()),
        format!("file://{}", server.path("project").display()),
    ] {
        let error = bench.try_prepare(&hostile, None).await.unwrap_err();
        assert!(matches!(error, CheckoutError::Url(_)), "`{hostile}`: {error:?}");
        assert!(!error.to_string().contains("secret"));
    }
    for branch in ["--upload-pack=x", "-x", "a..b", "x y"] {
        let error = bench.try_prepare(&server.url("project"), Some(branch)).await.unwrap_err();
        assert!(matches!(error, CheckoutError::BranchInvalid(_)), "`{branch}`: {error:?}");
    }
    assert!(!canary.try_exists().unwrap());
    assert_eq!(server.requests(), Vec::<String>::new());
}

#[tokio::test]
async fn plain_http_on_loopback_works_where_it_is_allowed() {
    let mut bench = RemoteBench::new();
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{nobody}/x");
    let error = bench.try_prepare(&url, None).await.unwrap_err();
    assert!(matches!(error, CheckoutError::Url(_)), "{error:?}");
    bench.access.rules = UrlRules { http_loopback: true };
    assert_eq!(bench.trouble(&url).await, Trouble::Unreachable);
}
