//! What is pushed stays in the mirror, to be looked at: also where the push was refused.

use std::{fs, os::unix::fs::PermissionsExt as _, time::Duration};

use checkout::{
    checkouts::Checkout,
    diff::{Change, Diff, DiffError, DiffLimits, diff},
    git::CommitId,
    trouble::Trouble,
    url::{RepositoryUrl, UrlRules},
};
use testing::{
    repository::{ScratchRepository, git_in},
    ssh_server::SshServer,
};

use crate::{
    bench::git,
    mirrors::Served,
    remote_bench::{RemoteBench, trouble_of},
};

async fn shown(bench: &RemoteBench, url: &str, base: &CommitId, commit: &CommitId) -> Option<Diff> {
    let url = RepositoryUrl::parse(url, UrlRules::default()).unwrap();
    let limits = DiffLimits { files: 10, patch_bytes: 1 << 20, binary: true };
    for place in bench.mirrors().objects(&url).await.unwrap() {
        match diff(&git(), &place, (base, commit), limits).await {
            Err(DiffError::CommitMissing { .. }) => {}
            found => return Some(found.unwrap()),
        }
    }
    None
}

#[track_caller]
fn assert_new_file(diff: Option<Diff>) {
    let diff = diff.expect("the commit is kept");
    let [file] = diff.files.as_slice() else {
        panic!("{:?}", diff.files);
    };
    assert_eq!((file.path.as_str(), file.change, file.added), ("new.txt", Change::Added, Some(1)));
    assert!(String::from_utf8_lossy(&diff.patch).contains("+new"));
}

fn refuse_pushes(served: &Served) {
    let hook = served.server.path("project").join("hooks/pre-receive");
    fs::create_dir_all(hook.parent().unwrap()).unwrap();
    fs::write(&hook, "#!/bin/sh\nexit 1\n").unwrap();
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
}

/// A result whose push is refused.
async fn refused(served: &Served) -> (Checkout, CommitId) {
    let checkout = served.bench.prepare(&served.url).await;
    let sealed = served.bench.change(&checkout).await;
    let brought = served.bench.checkouts().bring(&checkout, &sealed).await.unwrap();
    assert!(brought.is_kept());
    let error = served.bench.checkouts().publish(&checkout, &brought).await.unwrap_err();
    assert_eq!(trouble_of(&error), Trouble::PushRefused);
    (checkout, sealed.commit)
}

#[tokio::test]
async fn a_pushed_and_a_refused_result_can_be_looked_at_and_are_no_branches() {
    let served = Served::new().await;
    let checkout = served.bench.prepare(&served.url).await;
    let pushed = served.bench.try_push(&checkout).await.unwrap();
    let there = shown(&served.bench, &served.url, &checkout.base_commit, &pushed.commit).await;
    assert_new_file(there);
    refuse_pushes(&served);
    let (checkout, commit) = refused(&served).await;
    assert_new_file(shown(&served.bench, &served.url, &checkout.base_commit, &commit).await);
    served.bench.checkouts().remove(checkout.run).await.unwrap();
    assert_new_file(shown(&served.bench, &served.url, &checkout.base_commit, &commit).await);
    let next = served.bench.prepare(&served.url).await;
    let refs = git_in(&next.work, &["for-each-ref", "--format=%(refname)"]);
    assert_eq!(refs, format!("refs/heads/main\n{}\n", next.branch.to_ref()));
    assert!(!served.server.git("project", &["for-each-ref"]).contains("results"));
}

#[tokio::test]
async fn results_outlive_the_damage_of_their_mirror_and_its_putting_in_order() {
    let served = Served::new().await;
    refuse_pushes(&served);
    let (checkout, commit) = refused(&served).await;
    let since = || {
        let name = format!("repo.git/refs/opentiger/results/{}", checkout.run);
        fs::metadata(served.mirror().join(name)).unwrap().modified().unwrap()
    };
    let long_ago = since() - Duration::from_secs(1000);
    let name = format!("repo.git/refs/opentiger/results/{}", checkout.run);
    let file = fs::File::options().write(true).open(served.mirror().join(name)).unwrap();
    file.set_modified(long_ago).unwrap();
    for entry in fs::read_dir(served.mirror().join("repo.git/refs/opentiger")).unwrap().flatten() {
        if entry.path().is_file() {
            fs::write(entry.path(), "f".repeat(40)).unwrap();
        }
    }
    fs::remove_file(served.server.path("project").join("hooks/pre-receive")).unwrap();
    served.commit("second.txt");
    served.bench.prepare(&served.url).await;
    assert_new_file(shown(&served.bench, &served.url, &checkout.base_commit, &commit).await);
    assert_eq!(since(), long_ago);
    // Many loose objects: they are packed, and what nothing leads to goes.
    let loose = served.mirror().join("repo.git/objects/17");
    fs::create_dir_all(&loose).unwrap();
    for number in 0..20 {
        fs::write(loose.join(format!("{number:038x}")), "").unwrap();
    }
    served.bench.prepare(&served.url).await;
    assert!(!loose.try_exists().unwrap());
    assert_new_file(shown(&served.bench, &served.url, &checkout.base_commit, &commit).await);
}

#[tokio::test]
async fn results_are_forgotten_after_a_while() {
    let served = Served::new().await;
    let checkout = served.bench.prepare(&served.url).await;
    let pushed = served.bench.try_push(&checkout).await.unwrap();
    let mirrors = served.bench.mirrors();
    assert_eq!(mirrors.remove_results(Duration::from_secs(60)).await.unwrap(), []);
    assert_eq!(mirrors.remove_results(Duration::ZERO).await.unwrap(), [checkout.run]);
    let loose = served.mirror().join("repo.git/objects/17");
    fs::create_dir_all(&loose).unwrap();
    for number in 0..20 {
        fs::write(loose.join(format!("{number:038x}")), "").unwrap();
    }
    served.bench.prepare(&served.url).await;
    let there = shown(&served.bench, &served.url, &checkout.base_commit, &pushed.commit).await;
    assert_eq!(there, None);
    let nowhere = RepositoryUrl::parse("https://nowhere.invalid/x", UrlRules::default()).unwrap();
    assert!(mirrors.objects(&nowhere).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_mirror_that_was_removed_meanwhile_takes_the_result_whole() {
    for repository in [ScratchRepository::with_one_commit(), ScratchRepository::with_long_hashes()]
    {
        let served = Served::with(repository).await;
        let checkout = served.bench.prepare(&served.url).await;
        let mirrors = served.bench.mirrors();
        let key = mirrors.list().await.unwrap()[0].key.clone();
        assert!(mirrors.remove(&key).await.unwrap());
        let pushed = served.bench.try_push(&checkout).await.unwrap();
        let there = shown(&served.bench, &served.url, &checkout.base_commit, &pushed.commit).await;
        assert_new_file(there);
        served.bench.prepare(&served.url).await;
    }
}

#[tokio::test]
async fn results_over_ssh_are_kept_too() {
    let server = SshServer::start().await;
    server.make_known();
    let repository = ScratchRepository::with_one_commit();
    let url = format!("ssh://127.0.0.1:{}{}", server.port(), repository.path().display());
    let bench = RemoteBench::of_ssh(&server);
    let checkout = bench.prepare(&url).await;
    let pushed = bench.try_push(&checkout).await.unwrap();
    assert_new_file(shown(&bench, &url, &checkout.base_commit, &pushed.commit).await);
}
