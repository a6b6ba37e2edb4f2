//! Checkouts that a sandbox works in: what it sees, what is found again, and what of its claims is believed.

use std::{fs, os::unix::fs::symlink, path::Path};

use checkout::{
    checkouts::{Checkout, Limits, PrepareRequest},
    error::{CheckoutError, Fault},
    git::CommitId,
    sandboxed::{Claim, DiskUse},
};
use core_types::{
    ids::{RunId, TaskId},
    repository::Repository,
};
use launcher::spec::UserId;
use testing::repository::{ScratchRepository, git_in};

use crate::bench::{Bench, assert_one_commit, make_fifo};

/// Us: the dispatcher's own user.
pub(crate) fn user() -> UserId {
    UserId { uid: rustix::process::geteuid().as_raw(), gid: rustix::process::getegid().as_raw() }
}

pub(crate) async fn boxed(bench: &Bench, repository: &ScratchRepository, user: UserId) -> Checkout {
    let place = Repository::Local { path: repository.path().to_str().unwrap().to_owned() };
    let request = PrepareRequest {
        run: RunId::generate(),
        task: TaskId::generate(),
        number: 1,
        repository: &place,
        base_branch: None,
    };
    bench.checkouts.prepare_for_sandbox(request, user).await.unwrap()
}

/// Does what a worker in the sandbox does: a commit on the base, left as a pack. Its git sees the objects where the
/// container mounts them.
fn work(checkout: &Checkout, file: &str, content: &[u8]) -> (CommitId, String) {
    let mounts = checkout.sandbox_mounts().unwrap();
    fs::write(checkout.work.join(file), content).unwrap();
    let objects = mounts.directory.join("objects");
    fs::remove_dir(&objects).unwrap();
    symlink(&mounts.objects, &objects).unwrap();
    git_in(&checkout.work, &["add", "-A"]);
    commit_as(checkout, "openTiger", "opentiger@localhost");
    let left = leave(checkout, "HEAD", checkout.base_commit.as_str());
    fs::remove_file(&objects).unwrap();
    fs::create_dir(&objects).unwrap();
    left
}

fn commit_as(checkout: &Checkout, name: &str, mail: &str) {
    let variables = format!(
        "GIT_AUTHOR_NAME='{name}' GIT_COMMITTER_NAME='{name}' GIT_AUTHOR_EMAIL='{mail}' GIT_COMMITTER_EMAIL='{mail}'"
    );
    let alias = format!("alias.seal=!{variables} git commit -q -m work");
    git_in(&checkout.work, &["-c", &alias, "seal"]);
}

pub(crate) fn leave(checkout: &Checkout, tip: &str, base: &str) -> (CommitId, String) {
    let result = checkout.sandbox_mounts().unwrap().directory.join("result");
    let list = checkout.tmp.join("revisions");
    fs::write(&list, format!("{tip}\n^{base}\n")).unwrap();
    let script = format!(
        "!git pack-objects --quiet --revs '{}' < '{}'",
        result.join("pack").display(),
        list.display()
    );
    let hash = git_in(&checkout.work, &["-c", &format!("alias.leave={script}"), "leave"]);
    let commit = git_in(&checkout.work, &["rev-parse", tip]).trim().parse().unwrap();
    (commit, format!("pack-{}.pack", hash.trim()))
}

pub(crate) fn result_of(checkout: &Checkout) -> std::path::PathBuf {
    checkout.sandbox_mounts().unwrap().directory.join("result")
}

async fn refusal(
    bench: &Bench,
    checkout: &Checkout,
    commit: &CommitId,
    pack: &str,
) -> CheckoutError {
    let error = bench.checkouts.bring_claimed(checkout, Claim { commit, pack }).await.unwrap_err();
    assert_eq!(error.fault(), Fault::Result, "{error:?}");
    error
}

#[tokio::test]
async fn a_claim_is_brought_after_the_host_forgot_everything_and_counted_anew() {
    let bench = Bench::new();
    let repository = ScratchRepository::with_one_commit();
    let checkout = boxed(&bench, &repository, user()).await;
    let (commit, pack) = work(&checkout, "new.txt", b"one\ntwo\n");
    let again = bench.checkouts.reopen(checkout.run).await.unwrap().unwrap();
    assert_eq!((&again.base_commit, &again.branch), (&checkout.base_commit, &checkout.branch));
    let claim = Claim { commit: &commit, pack: &pack };
    let brought = bench.checkouts.bring_claimed(&again, claim).await.unwrap();
    assert_eq!((brought.files_changed, brought.insertions, brought.deletions), (1, 2, 0));
    let collected = bench.checkouts.publish(&again, &brought.brought).await.unwrap();
    assert_eq!(collected.commit, commit);
    // A dispatcher that dies after the branch was made does all of it again.
    assert_eq!(bench.checkouts.bring_claimed(&again, claim).await.unwrap(), brought);
    assert_eq!(bench.checkouts.publish(&again, &brought.brought).await.unwrap(), collected);
    assert_one_commit(&repository, &collected);
}

#[tokio::test]
async fn what_was_never_made_is_not_found() {
    let bench = Bench::new();
    assert!(bench.checkouts.reopen(RunId::generate()).await.unwrap().is_none());
}

#[tokio::test]
async fn a_sandbox_sees_nothing_that_the_host_reads_again() {
    let bench = Bench::new();
    let repository = ScratchRepository::with_one_commit();
    let checkout = boxed(&bench, &repository, user()).await;
    let mounts = checkout.sandbox_mounts().unwrap();
    let seen =
        |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    let mut names: Vec<String> = fs::read_dir(&mounts.directory).unwrap().map(seen).collect();
    names.sort();
    assert_eq!(names, ["home", "objects", "result", "tmp", "work"]);
    assert!(!mounts.objects.starts_with(&mounts.directory));
    // Whatever becomes of it, the host finds what it needs.
    fs::remove_dir_all(&mounts.directory).unwrap();
    assert!(bench.checkouts.reopen(checkout.run).await.unwrap().is_some());
}

#[tokio::test]
async fn claims_that_are_no_plain_pack_are_refused() {
    let bench = Bench::new();
    let repository = ScratchRepository::with_one_commit();
    let checkout = boxed(&bench, &repository, user()).await;
    let (commit, pack) = work(&checkout, "new.txt", b"new\n");
    let before = repository.fingerprint();
    let path = result_of(&checkout).join(&pack);
    let kept = checkout.tmp.join("kept");
    fs::rename(&path, &kept).unwrap();
    let not_plain = async |expected: &str| match refusal(&bench, &checkout, &commit, &pack).await {
        CheckoutError::PackNotPlain { what, .. } => assert_eq!(what, expected),
        other => panic!("{expected}: {other:?}"),
    };
    not_plain("missing").await;
    symlink(&kept, &path).unwrap();
    not_plain("a symbolic link").await;
    fs::remove_file(&path).unwrap();
    make_fifo(&path);
    not_plain("a fifo").await;
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    not_plain("a directory").await;
    let result = result_of(&checkout);
    fs::remove_dir_all(&result).unwrap();
    fs::rename(&kept, checkout.tmp.join(&pack)).unwrap();
    symlink(&checkout.tmp, &result).unwrap();
    not_plain("below something that is no directory").await;
    for name in ["", "..", "../tmp/x", "/etc/passwd"] {
        let error = refusal(&bench, &checkout, &commit, name).await;
        assert!(matches!(error, CheckoutError::PackNotPlain { .. }), "{name}: {error:?}");
    }
    assert_eq!(repository.fingerprint(), before);
}

#[tokio::test]
async fn claims_that_are_too_large_unrelated_or_of_another_commit_are_refused() {
    let limits = Limits { file_bytes: 1000, pack_bytes: 100_000, ..Limits::default() };
    let bench = Bench::with_limits(limits);
    let repository = ScratchRepository::with_one_commit();
    let before = repository.fingerprint();
    let checkout = boxed(&bench, &repository, user()).await;
    // Small on the wire, large in the user's repository.
    let (commit, pack) = work(&checkout, "large.txt", &[b'a'; 5000]);
    let error = refusal(&bench, &checkout, &commit, &pack).await;
    assert!(matches!(error, CheckoutError::FileTooLarge { bytes: 5000, .. }), "{error:?}");
    let path = result_of(&checkout).join(&pack);
    make_writable(&path);
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(1 << 40).unwrap();
    let error = refusal(&bench, &checkout, &commit, &pack).await;
    assert!(matches!(error, CheckoutError::PackTooLarge { .. }), "{error:?}");

    let checkout = boxed(&bench, &repository, user()).await;
    fs::write(checkout.work.join("by-another.txt"), "new\n").unwrap();
    let objects = checkout.sandbox_mounts().unwrap();
    fs::remove_dir(objects.directory.join("objects")).unwrap();
    symlink(&objects.objects, objects.directory.join("objects")).unwrap();
    git_in(&checkout.work, &["add", "-A"]);
    commit_as(&checkout, "Somebody", "else@example.org");
    let (by_another, pack) = leave(&checkout, "HEAD", checkout.base_commit.as_str());
    let error = refusal(&bench, &checkout, &by_another, &pack).await;
    assert!(matches!(error, CheckoutError::PackRefused { .. }), "{error:?}");
    let other: CommitId = "0123456789012345678901234567890123456789".parse().unwrap();
    let error = refusal(&bench, &checkout, &other, &pack).await;
    assert!(matches!(error, CheckoutError::PackRefused { .. }), "{error:?}");
    git_in(&checkout.work, &["checkout", "-q", "--orphan", "elsewhere"]);
    git_in(&checkout.work, &["rm", "-rfq", "--cached", "."]);
    git_in(&checkout.work, &["commit", "-q", "--allow-empty", "-m", "unrelated"]);
    let unrelated = git_in(&checkout.work, &["rev-parse", "HEAD"]);
    let (commit, pack) = leave_all(&checkout, unrelated.trim());
    let error = refusal(&bench, &checkout, &commit, &pack).await;
    assert!(matches!(error, CheckoutError::Unrelated { .. }), "{error:?}");
    assert_eq!(repository.fingerprint(), before);
}

fn leave_all(checkout: &Checkout, tip: &str) -> (CommitId, String) {
    let nothing = "4b825dc642cb6eb9a060e54bf8d69288fbee4904";
    git_in(&checkout.work, &["hash-object", "-w", "-t", "tree", "/dev/null"]);
    leave(checkout, tip, nothing)
}

fn make_writable(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
}

#[tokio::test]
async fn disk_use_counts_blocks_and_files_and_stops_at_the_limit() {
    let bench = Bench::new();
    let repository = ScratchRepository::with_one_commit();
    let checkout = boxed(&bench, &repository, user()).await;
    let everything = DiskUse { bytes: u64::MAX, files: u64::MAX, uncounted: false };
    let before = bench.checkouts.sandbox_use(checkout.run, everything).await;
    fs::write(checkout.work.join("big"), vec![1; 1 << 20]).unwrap();
    // A hole takes no place.
    fs::File::create(checkout.tmp.join("hole")).unwrap().set_len(1 << 40).unwrap();
    let after = bench.checkouts.sandbox_use(checkout.run, everything).await;
    assert_eq!(after.files, before.files + 2);
    assert!((1 << 20..2 << 20).contains(&(after.bytes - before.bytes)), "{after:?}");
    assert!(after.exceeds(before) && !after.exceeds(everything) && !after.uncounted);
}

#[tokio::test]
async fn objects_that_the_sandboxes_user_may_not_read_are_copied_and_never_changed() {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    let bench = Bench::new();
    let repository = ScratchRepository::with_one_commit();
    let head = repository.head();
    let (fan, name) = head.split_at(2);
    let object = repository.path().join(".git/objects").join(fan).join(name);
    fs::set_permissions(&object, fs::Permissions::from_mode(0o400)).unwrap();
    let before = fs::metadata(&object).unwrap();
    // Only root can give files away; anybody else runs the sandbox as itself.
    let root = rustix::process::geteuid().is_root();
    let user = if root { UserId { uid: 1001, gid: 1001 } } else { user() };
    let checkout = boxed(&bench, &repository, user).await;
    let mounts = checkout.sandbox_mounts().unwrap();
    let seen = fs::metadata(mounts.objects.join(fan).join(name)).unwrap();
    if root {
        assert_eq!(seen.mode() & 0o777, 0o444);
        assert_ne!(seen.ino(), before.ino());
        for path in
            [&mounts.directory, &checkout.work, &checkout.work.join(".git/HEAD"), &checkout.tmp]
        {
            let metadata = fs::metadata(path).unwrap();
            assert_eq!((metadata.uid(), metadata.gid()), (1001, 1001), "{}", path.display());
        }
    }
    let after = fs::metadata(&object).unwrap();
    assert_eq!(
        (after.mode(), after.uid(), after.ino()),
        (before.mode(), before.uid(), before.ino())
    );
}
