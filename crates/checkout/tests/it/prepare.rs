//! What an agent finds in its checkout, and that the user's repository does not notice.

use std::fs;

use checkout::error::CheckoutError;
use core_types::ids::RunId;
use testing::repository::{Fingerprint, ScratchRepository, git_in, set_mode};

use crate::bench::{Bench, assert_one_commit, start_tree_and, tree};

#[tokio::test]
async fn the_agent_finds_a_usable_repository_on_the_runs_branch() {
    let bench = Bench::new();
    let repository = ScratchRepository::with_one_commit();
    repository.write("second.txt", "2\n");
    let base = repository.commit_all("second");
    let checkout = bench.prepare(repository.path()).await;
    let work = &checkout.work;
    assert_eq!(checkout.base_commit.as_str(), base);
    assert_eq!(git_in(work, &["branch", "--show-current"]).trim(), checkout.branch.as_str());
    assert_eq!(git_in(work, &["status", "--porcelain"]), "");
    assert_eq!(git_in(work, &["log", "--format=%s"]), "second\nstart\n");
    assert_eq!(git_in(work, &["rev-parse", "main"]).trim(), base);
    assert_eq!(git_in(work, &["config", "user.name"]).trim(), "openTiger");
    assert_eq!(git_in(work, &["remote"]), "");
    assert_eq!(fs::read_to_string(work.join("second.txt")).unwrap(), "2\n");
    git_in(work, &["commit", "--quiet", "--allow-empty", "-m", "the agent's own"]);
    git_in(work, &["fsck", "--strict"]);
    for directory in [&checkout.tmp, &checkout.home] {
        assert_eq!(fs::read_dir(directory).unwrap().count(), 0);
    }
}

#[tokio::test]
async fn nothing_of_the_user_changes_even_on_the_base_branch_with_a_dirty_work_tree() {
    let bench = Bench::new();
    let repository = ScratchRepository::with_one_commit();
    repository.write("README.md", "half edited");
    repository.write("staged.txt", "staged");
    repository.git(&["add", "staged.txt"]);
    repository.write("untracked.txt", "mine");
    repository.git(&["branch", "other"]);
    repository.git(&["tag", "v1"]);
    let before = repository.fingerprint();
    let checkout = bench.prepare(repository.path()).await;
    assert!(!checkout.work.join("untracked.txt").try_exists().unwrap());
    fs::write(checkout.work.join("new.txt"), "new\n").unwrap();
    let (_, collected) = bench.collect(&checkout).await;
    bench.checkouts.remove(checkout.run).await.unwrap();
    assert_eq!(repository.fingerprint(), before);
    assert_one_commit(&repository, &collected);
    assert_eq!(
        tree(repository.path(), collected.branch.as_str()),
        start_tree_and(&["100644 new.txt"])
    );
}

#[tokio::test]
async fn the_named_base_branch_is_the_start_whatever_head_says() {
    let bench = Bench::new();
    let repository = ScratchRepository::with_one_commit();
    repository.git(&["checkout", "--quiet", "-b", "side/x"]);
    repository.write("side.txt", "side\n");
    let side = repository.commit_all("side");
    repository.git(&["checkout", "--quiet", "main"]);
    let checkout = bench.try_prepare(repository.path(), Some("side/x")).await.unwrap();
    assert_eq!(checkout.base_commit.as_str(), side);
    assert_eq!(checkout.base_branch.as_ref().unwrap().as_str(), "side/x");
    assert!(checkout.work.join("side.txt").is_file());
}

#[tokio::test]
async fn garbage_collection_and_rewritten_history_do_not_break_a_run() {
    let bench = Bench::new();
    let repository = ScratchRepository::with_one_commit();
    let checkout = bench.prepare(repository.path()).await;
    // The user rewrites the base away while the run works.
    repository.write("README.md", "rewritten\n");
    repository.git(&["commit", "--quiet", "--all", "--amend", "--message", "rewritten"]);
    repository.git(&["reflog", "expire", "--expire=now", "--all"]);
    repository.git(&["gc", "--quiet", "--prune=now"]);
    git_in(&checkout.work, &["fsck", "--strict"]);
    fs::write(checkout.work.join("new.txt"), "new\n").unwrap();
    let (sealed, collected) = bench.collect(&checkout).await;
    let parent = repository.git(&["rev-parse", &format!("{}^", collected.branch)]);
    assert_eq!(parent.trim(), checkout.base_commit.as_str());
    assert_eq!(repository.show(sealed.commit.as_str(), "README.md"), "# A scratch repository\n");
    repository.git(&["fsck", "--strict"]);
}

#[tokio::test]
async fn what_the_user_excludes_locally_is_excluded_in_the_checkout_too() {
    let bench = Bench::new();
    let repository = ScratchRepository::with_one_commit();
    fs::write(repository.join(".git/info/exclude"), "*.mine\n").unwrap();
    let checkout = bench.prepare(repository.path()).await;
    fs::write(checkout.work.join("a.mine"), "").unwrap();
    fs::write(checkout.work.join("b.txt"), "").unwrap();
    assert_eq!(git_in(&checkout.work, &["status", "--porcelain"]), "?? b.txt\n");
    let (_, collected) = bench.collect(&checkout).await;
    assert_eq!(
        tree(repository.path(), collected.branch.as_str()),
        start_tree_and(&["100644 b.txt"])
    );
}

#[tokio::test]
async fn hooks_and_filters_of_the_user_do_not_run_on_a_checkout() {
    let bench = Bench::new();
    let canary = bench.canary();
    let repository = ScratchRepository::with_one_commit();
    repository.write(".gitattributes", "*.md filter=evil\n");
    repository.commit_all("attributes");
    repository.git(&["config", "filter.evil.smudge", canary.script()]);
    repository.git(&["config", "core.fsmonitor", canary.script()]);
    for hook in ["post-checkout", "reference-transaction", "post-index-change"] {
        fs::create_dir_all(repository.join(".git/hooks")).unwrap();
        fs::copy(&canary.script, repository.join(".git/hooks").join(hook)).unwrap();
    }
    repository.git(&["checkout", "--quiet", "-b", "trigger"]);
    canary.assert_live();
    let checkout = bench.try_prepare(repository.path(), Some("main")).await.unwrap();
    fs::write(checkout.work.join("new.txt"), "new\n").unwrap();
    bench.collect(&checkout).await;
    canary.assert_silent();
}

#[tokio::test]
async fn a_partial_clone_is_refused_and_leaves_nothing_behind() {
    let bench = Bench::new();
    let repository = ScratchRepository::with_one_commit();
    repository.git(&["config", "uploadpack.allowFilter", "true"]);
    let place = tempfile::tempdir().unwrap();
    let partial = place.path().join("partial");
    let url = format!("file://{}", repository.path().display());
    git_in(
        place.path(),
        &[
            "clone",
            "--quiet",
            "--filter=blob:none",
            "--no-checkout",
            &url,
            partial.to_str().unwrap(),
        ],
    );
    let error = bench.try_prepare(&partial, None).await.unwrap_err();
    assert!(matches!(error, CheckoutError::PartialClone { .. }), "{error:?}");
    assert_eq!(bench.checkouts.list().await.unwrap(), []);
}

#[tokio::test]
async fn listing_and_removing_are_idempotent_and_mind_no_modes() {
    let bench = Bench::new();
    assert_eq!(bench.checkouts.list().await.unwrap(), []);
    bench.checkouts.remove(RunId::generate()).await.unwrap();
    let repository = ScratchRepository::with_one_commit();
    let checkout = bench.prepare(repository.path()).await;
    fs::write(bench.state.path().join("checkouts/foreign"), "").unwrap();
    assert_eq!(bench.checkouts.list().await.unwrap(), [checkout.run]);
    let locked = checkout.work.join("locked/deep");
    fs::create_dir_all(&locked).unwrap();
    fs::write(locked.join("file"), "").unwrap();
    set_mode(&locked.join("file"), 0o000);
    set_mode(&locked, 0o500);
    set_mode(locked.parent().unwrap(), 0o000);
    let before = Fingerprint::of(repository.path());
    bench.checkouts.remove(checkout.run).await.unwrap();
    bench.checkouts.remove(checkout.run).await.unwrap();
    assert_eq!(bench.checkouts.list().await.unwrap(), []);
    assert_eq!(Fingerprint::of(repository.path()), before);
    repository.git(&["fsck", "--strict"]);
}
