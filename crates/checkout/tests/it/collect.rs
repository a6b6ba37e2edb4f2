//! What comes into the user's repository, and what does not.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use checkout::{
    checkouts::{Checkout, Limits},
    error::{CheckoutError, Fault},
    seal::SealedCommit,
};
use testing::repository::{ScratchRepository, git_in, set_mode};

use crate::bench::{Bench, assert_one_commit};

/// A repository, a checkout with one new file, and its seal.
async fn sealed(bench: &Bench) -> (ScratchRepository, Checkout, SealedCommit) {
    let repository = ScratchRepository::with_one_commit();
    let checkout = bench.prepare(repository.path()).await;
    fs::write(checkout.work.join("new.txt"), "new\n").unwrap();
    let sealed = bench.seal(&checkout).await;
    (repository, checkout, sealed)
}

async fn refusal(bench: &Bench, checkout: &Checkout, sealed: &SealedCommit) -> CheckoutError {
    let error = bench.checkouts.collect(checkout, sealed).await.unwrap_err();
    assert_eq!(error.fault(), Fault::Result, "{error:?}");
    error
}

/// Lets the agent claim a commit of its own making.
fn forge(checkout: &Checkout, commit: &str, revisions: &str) -> SealedCommit {
    let list = checkout.tmp.join("revisions");
    fs::write(&list, revisions).unwrap();
    let stem = checkout.tmp.join("pack");
    let script =
        format!("!git pack-objects --quiet --revs '{}' < '{}'", stem.display(), list.display());
    let alias = format!("alias.forge={script}");
    let hash = git_in(&checkout.work, &["-c", &alias, "forge"]);
    SealedCommit {
        commit: commit.parse().unwrap(),
        files_changed: 1,
        insertions: 0,
        deletions: 0,
        pack: checkout.tmp.join(format!("pack-{}.pack", hash.trim())),
        notices: Vec::new(),
    }
}

#[tokio::test]
async fn collecting_twice_is_collecting_once() {
    let bench = Bench::new();
    let (repository, checkout, sealed) = sealed(&bench).await;
    let first = bench.checkouts.collect(&checkout, &sealed).await.unwrap();
    // Even when the checkout is gone by then.
    bench.checkouts.remove(checkout.run).await.unwrap();
    assert_eq!(bench.checkouts.collect(&checkout, &sealed).await.unwrap(), first);
    assert_one_commit(&repository, &first);
}

#[tokio::test]
async fn a_branch_with_something_else_on_it_is_a_conflict_and_stays() {
    let bench = Bench::new();
    let (repository, checkout, sealed) = sealed(&bench).await;
    repository.git(&["branch", checkout.branch.as_str(), "main"]);
    let error = bench.checkouts.collect(&checkout, &sealed).await.unwrap_err();
    let base = repository.head();
    assert!(matches!(&error, CheckoutError::BranchTaken { existing, .. } if *existing == base));
    assert_eq!(repository.git(&["rev-parse", checkout.branch.as_str()]).trim(), base);
}

#[tokio::test]
async fn a_branch_in_the_way_of_the_name_is_told() {
    let bench = Bench::new();
    let (repository, checkout, sealed) = sealed(&bench).await;
    repository.git(&["branch", "opentiger"]);
    let error = bench.checkouts.collect(&checkout, &sealed).await.unwrap_err();
    assert!(
        matches!(&error, CheckoutError::BranchBlocked { blocking, .. } if blocking == "opentiger"),
        "{error:?}"
    );
    repository.git(&["branch", "--delete", "--force", "opentiger"]);
    bench.checkouts.collect(&checkout, &sealed).await.unwrap();
}

#[tokio::test]
async fn a_pack_that_is_no_plain_file_is_not_opened() {
    let bench = Bench::new();
    let (repository, checkout, sealed) = sealed(&bench).await;
    let before = repository.fingerprint();
    let kept = checkout.tmp.join("kept.pack");
    fs::copy(&sealed.pack, &kept).unwrap();
    fs::remove_file(&sealed.pack).unwrap();
    let not_plain = async |expected: &str| match refusal(&bench, &checkout, &sealed).await {
        CheckoutError::PackNotPlain { what, .. } => assert_eq!(what, expected),
        other => panic!("{expected}: {other:?}"),
    };
    not_plain("missing").await;
    symlink(&kept, &sealed.pack).unwrap();
    not_plain("a symbolic link").await;
    fs::remove_file(&sealed.pack).unwrap();
    let mode = rustix::fs::Mode::from_raw_mode(0o644);
    rustix::fs::mknodat(rustix::fs::CWD, &sealed.pack, rustix::fs::FileType::Fifo, mode, 0)
        .unwrap();
    not_plain("a fifo").await;
    fs::remove_file(&sealed.pack).unwrap();
    fs::create_dir(&sealed.pack).unwrap();
    not_plain("a directory").await;
    let result = sealed.pack.parent().unwrap();
    fs::remove_dir_all(result).unwrap();
    let name = sealed.pack.file_name().unwrap();
    fs::rename(&kept, checkout.tmp.join(name)).unwrap();
    symlink(&checkout.tmp, result).unwrap();
    not_plain("below something that is no directory").await;
    let outside = SealedCommit { pack: PathBuf::from("/etc/passwd"), ..sealed.clone() };
    let error = refusal(&bench, &checkout, &outside).await;
    assert!(matches!(error, CheckoutError::PackNotPlain { .. }), "{error:?}");
    let dotted = SealedCommit { pack: checkout.tmp.join("../../x"), ..sealed.clone() };
    let error = refusal(&bench, &checkout, &dotted).await;
    assert!(matches!(error, CheckoutError::PackNotPlain { .. }), "{error:?}");
    assert_eq!(repository.fingerprint(), before);
}

#[tokio::test]
async fn damaged_and_oversized_packs_are_refused() {
    let bench = Bench::new();
    let (repository, checkout, sealed) = sealed(&bench).await;
    let good = fs::read(&sealed.pack).unwrap();
    let overwrite = |bytes: &[u8]| {
        set_mode(&sealed.pack, 0o644);
        fs::write(&sealed.pack, bytes).unwrap();
    };
    let mut flipped = good.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0x40;
    for bytes in [b"".as_slice(), b"garbage", &good[..good.len() - 30], &flipped] {
        overwrite(bytes);
        let error = refusal(&bench, &checkout, &sealed).await;
        assert!(matches!(error, CheckoutError::PackRefused { .. }), "{error:?}");
    }
    let small = Limits { pack_bytes: 10, ..Limits::default() };
    overwrite(&good);
    let checkouts = bench.checkouts.clone().with_limits(small);
    let error = checkouts.collect(&checkout, &sealed).await.unwrap_err();
    assert!(matches!(error, CheckoutError::PackTooLarge { limit: 10, .. }), "{error:?}");
    assert_eq!(repository.git(&["branch", "--list", "opentiger/*"]), "");
    // What was refused can still be put right.
    bench.checkouts.collect(&checkout, &sealed).await.unwrap();
}

#[tokio::test]
async fn a_commit_that_does_not_build_on_the_base_is_refused() {
    let bench = Bench::new();
    let (_repository, checkout, _) = sealed(&bench).await;
    let work = &checkout.work;
    git_in(work, &["checkout", "--quiet", "--orphan", "unrelated"]);
    git_in(work, &["add", "--all"]);
    git_in(work, &["commit", "--quiet", "-m", "no parent"]);
    let tip = git_in(work, &["rev-parse", "HEAD"]);
    let forged = forge(&checkout, tip.trim(), &tip);
    let error = refusal(&bench, &checkout, &forged).await;
    assert!(matches!(error, CheckoutError::Unrelated { .. }), "{error:?}");
}

#[tokio::test]
async fn a_claimed_commit_that_is_not_in_the_pack_is_refused() {
    let bench = Bench::new();
    let (_repository, checkout, sealed) = sealed(&bench).await;
    let claim = SealedCommit { commit: "1".repeat(40).parse().unwrap(), ..sealed };
    let error = refusal(&bench, &checkout, &claim).await;
    assert!(matches!(error, CheckoutError::PackRefused { .. }), "{error:?}");
}

#[tokio::test]
async fn objects_that_git_holds_for_dangerous_are_refused() {
    let bench = Bench::new();
    let (_repository, checkout, _) = sealed(&bench).await;
    let work = &checkout.work;
    let blob = git_in(work, &["hash-object", "-w", "new.txt"]);
    let inner = tree_of(work, &[("100644 blob", blob.trim(), "config")]);
    let outer = tree_of(work, &[("040000 tree", &inner, ".git")]);
    let tip = git_in(work, &["commit-tree", "-p", "HEAD", "-m", "evil", &outer]);
    let forged =
        forge(&checkout, tip.trim(), &format!("{}\n^{}\n", tip.trim(), checkout.base_commit));
    let error = refusal(&bench, &checkout, &forged).await;
    assert!(
        matches!(&error, CheckoutError::PackRefused { detail } if detail.contains("hasDotgit")),
        "{error:?}"
    );
}

#[tokio::test]
async fn only_what_the_commit_needs_comes_in() {
    let bench = Bench::new();
    let (repository, checkout, _) = sealed(&bench).await;
    let work = &checkout.work;
    git_in(work, &["add", "--all"]);
    git_in(work, &["commit", "--quiet", "-m", "wanted"]);
    let tip = git_in(work, &["rev-parse", "HEAD"]);
    fs::write(work.join("junk"), "nobody asked for this\n").unwrap();
    let junk = git_in(work, &["hash-object", "-w", "junk"]);
    let junk_tree = tree_of(work, &[("100644 blob", junk.trim(), "junk")]);
    let junk_tip = git_in(work, &["commit-tree", "-m", "junk", &junk_tree]);
    let revisions = format!("{}{}^{}\n", tip, junk_tip, checkout.base_commit);
    let forged = forge(&checkout, tip.trim(), &revisions);
    bench.checkouts.collect(&checkout, &forged).await.unwrap();
    let object =
        testing::repository::try_git_in(repository.path(), &["cat-file", "-e", junk.trim()]);
    assert!(!object.status.success(), "an object that no ref needs came in");
    assert!(repository.git(&["fsck", "--unreachable"]).is_empty());
}

#[tokio::test]
async fn a_repository_that_cannot_be_written_is_told() {
    if rustix::process::geteuid().is_root() {
        // No mode keeps root out.
        return;
    }
    let bench = Bench::new();
    let (repository, checkout, sealed) = sealed(&bench).await;
    let objects = repository.join(".git/objects");
    set_mode(&objects, 0o500);
    let error = bench.checkouts.collect(&checkout, &sealed).await.unwrap_err();
    assert!(matches!(error, CheckoutError::NotWritable { .. }), "{error:?}");
    set_mode(&objects, 0o700);
    bench.checkouts.collect(&checkout, &sealed).await.unwrap();
}

/// Writes a tree object and returns its name.
fn tree_of(work: &Path, entries: &[(&str, &str, &str)]) -> String {
    let lines: String =
        entries.iter().map(|(kind, object, name)| format!("{kind} {object}\t{name}\n")).collect();
    let file = work.parent().unwrap().join("tmp/tree");
    fs::write(&file, lines).unwrap();
    let alias = format!("alias.make-tree=!git mktree < '{}'", file.display());
    git_in(work, &["-c", &alias, "make-tree"]).trim().to_owned()
}
