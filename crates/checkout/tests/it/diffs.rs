//! What a difference between two commits shows, and what it never does.

use std::{fs, path::Path};

use checkout::{
    diff::{Change, Diff, DiffError, DiffLimits, ObjectSource, diff},
    error::CheckoutError,
    git::CommitId,
    local::inspect_local,
    roots::AllowedRoots,
};
use testing::repository::{ScratchRepository, git_in, try_git_in};

use crate::bench::{Bench, git};

const LIMITS: DiffLimits = DiffLimits { files: 100, patch_bytes: 1 << 20, binary: false };

async fn compare(
    path: &Path,
    (base, commit): (&str, &str),
    limits: DiffLimits,
    roots: AllowedRoots,
) -> Result<Diff, DiffError> {
    let repository = inspect_local(&git(), path.to_str().unwrap(), &roots).await?;
    let (base, commit): (CommitId, CommitId) = (base.parse().unwrap(), commit.parse().unwrap());
    diff(&git(), &ObjectSource::of_local(&repository), (&base, &commit), limits).await
}

async fn difference(repository: &ScratchRepository, base: &str, commit: &str) -> Diff {
    compare(repository.path(), (base, commit), LIMITS, AllowedRoots::default()).await.unwrap()
}

#[tokio::test]
async fn a_difference_lists_files_with_lines_and_shows_the_patch() {
    let repository = ScratchRepository::with_one_commit();
    repository.write("old name.txt", &"a line\n".repeat(50));
    let base = repository.commit_all("base");
    repository.write("src/lib.rs", "pub fn answer() -> u32 {\n    42\n}\n");
    repository.write("new.bin", "a\0b");
    repository.git(&["mv", "old name.txt", "größe.txt"]);
    fs::remove_file(repository.join("README.md")).unwrap();
    let commit = repository.commit_all("work");
    let before = repository.fingerprint();
    let found = difference(&repository, &base, &commit).await;
    let files: Vec<_> = found
        .files
        .iter()
        .map(|file| (file.change, file.path.as_str(), file.added, file.deleted))
        .collect();
    assert_eq!(
        files,
        [
            (Change::Deleted, "README.md", Some(0), Some(1)),
            (Change::Renamed, "größe.txt", Some(0), Some(0)),
            (Change::Added, "new.bin", None, None),
            (Change::Modified, "src/lib.rs", Some(1), Some(1)),
        ]
    );
    assert_eq!(found.files[1].old_path.as_deref(), Some("old name.txt"));
    let patch = String::from_utf8(found.patch).unwrap();
    assert!(patch.contains("--- a/src/lib.rs\n+++ b/src/lib.rs\n"), "{patch}");
    assert!(patch.contains("-    41\n+    42\n") && patch.contains("Binary files"), "{patch}");
    assert!(!found.files_truncated && !found.patch_truncated);
    assert_eq!(repository.fingerprint(), before);
    let nothing = difference(&repository, &commit, &commit).await;
    assert!(nothing.files.is_empty() && nothing.patch.is_empty());
}

#[tokio::test]
async fn a_patch_with_binary_files_can_be_applied() {
    let repository = ScratchRepository::with_one_commit();
    let base = repository.head();
    repository.write("new.bin", "a\0b\u{1}");
    let commit = repository.commit_all("work");
    let limits = DiffLimits { binary: true, ..LIMITS };
    let found = compare(repository.path(), (&base, &commit), limits, AllowedRoots::default()).await;
    let place = tempfile::tempdir().unwrap();
    let (clone, patch) = (place.path().join("clone"), place.path().join("patch"));
    git_in(place.path(), &["clone", "--quiet", repository.path().to_str().unwrap(), "clone"]);
    git_in(&clone, &["reset", "--quiet", "--hard", &base]);
    fs::write(&patch, found.unwrap().patch).unwrap();
    git_in(&clone, &["apply", patch.to_str().unwrap()]);
    assert_eq!(fs::read(clone.join("new.bin")).unwrap(), b"a\0b\x01");
}

#[tokio::test]
async fn what_is_too_much_is_cut_and_said_to_be() {
    let repository = ScratchRepository::with_one_commit();
    let base = repository.head();
    for file in 0..20 {
        repository.write(&format!("file {file:02}"), &"x\n".repeat(1000));
    }
    let commit = repository.commit_all("work");
    let limits = DiffLimits { files: 5, patch_bytes: 3000, binary: false };
    let found = compare(repository.path(), (&base, &commit), limits, AllowedRoots::default()).await;
    let found = found.unwrap();
    assert_eq!((found.files.len(), found.files_truncated), (5, true));
    assert_eq!((found.patch.len(), found.patch_truncated), (3000, true));
    assert_eq!(found.files[0].added, Some(1000));
}

#[tokio::test]
async fn a_commit_that_is_gone_is_named() {
    let repository = ScratchRepository::with_one_commit();
    let (base, gone) = (repository.head(), "1".repeat(40));
    for pair in [(base.as_str(), gone.as_str()), (&gone, &base)] {
        let error = compare(repository.path(), pair, LIMITS, AllowedRoots::default()).await;
        let error = error.unwrap_err();
        assert!(
            matches!(&error, DiffError::CommitMissing { commit } if commit.as_str() == gone),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn bare_repositories_and_those_with_long_object_names_are_read() {
    let repository = ScratchRepository::with_one_commit();
    let base = repository.head();
    repository.write("new", "new\n");
    let commit = repository.commit_all("work");
    let place = tempfile::tempdir().unwrap();
    git_in(
        repository.path(),
        &["clone", "--quiet", "--bare", ".", place.path().join("bare\n:\".git").to_str().unwrap()],
    );
    let bare = place.path().join("bare\n:\".git");
    let found = compare(&bare, (&base, &commit), LIMITS, AllowedRoots::default()).await.unwrap();
    assert_eq!(found.files.len(), 1);

    let long = place.path().join("long");
    git_in(place.path(), &["init", "--quiet", "--object-format=sha256", "long"]);
    let mut commits = Vec::new();
    for text in ["one\n", "two\n"] {
        fs::write(long.join("file"), text).unwrap();
        git_in(&long, &["add", "file"]);
        git_in(&long, &["commit", "--quiet", "-m", "x"]);
        commits.push(git_in(&long, &["rev-parse", "HEAD"]).trim().to_owned());
    }
    let pair = (commits[0].as_str(), commits[1].as_str());
    let found = compare(&long, pair, LIMITS, AllowedRoots::default()).await.unwrap();
    assert_eq!((found.files[0].added, found.files[0].deleted), (Some(1), Some(1)));
}

#[tokio::test]
async fn nothing_that_a_repository_plants_executes() {
    let bench = Bench::new();
    let canary = bench.canary();
    let repository = ScratchRepository::with_one_commit();
    let base = repository.head();
    repository.write(".gitattributes", "* diff=evil filter=evil\n");
    repository.write("src/lib.rs", "changed\n");
    let commit = repository.commit_all("work");
    fs::write(repository.join(".git/info/attributes"), "* diff=evil filter=evil\n").unwrap();
    for (key, value) in [
        ("diff.external", canary.script()),
        ("diff.evil.command", canary.script()),
        ("diff.evil.textconv", canary.script()),
        ("filter.evil.clean", canary.script()),
        ("filter.evil.smudge", canary.script()),
        ("core.fsmonitor", canary.script()),
        ("core.pager", canary.script()),
        ("core.hooksPath", "hooks"),
        ("core.sshCommand", canary.script()),
        ("core.alternateRefsCommand", canary.script()),
        ("remote.evil.url", "ssh://nowhere.invalid/x"),
        ("remote.evil.promisor", "true"),
        ("extensions.partialClone", "evil"),
    ] {
        repository.git(&["config", key, value]);
    }
    drop(try_git_in(repository.path(), &["diff", &base, &commit]));
    canary.assert_live();
    let found = difference(&repository, &base, &commit).await;
    assert_eq!(found.files.len(), 2);
    let gone = "1".repeat(40);
    let missing = compare(repository.path(), (&base, &gone), LIMITS, AllowedRoots::default()).await;
    assert!(matches!(missing, Err(DiffError::CommitMissing { .. })), "{missing:?}");
    canary.assert_silent();
}

#[tokio::test]
async fn objects_borrowed_from_outside_of_the_allowed_directories_are_not_shown() {
    let (inside, outside) =
        (ScratchRepository::with_one_commit(), ScratchRepository::with_one_commit());
    outside.write("secret", "hunter2\n");
    let secret = outside.commit_all("secret");
    let base = inside.head();
    let alternates = inside.join(".git/objects/info/alternates");
    fs::write(&alternates, format!("{}\n", outside.join(".git/objects").display())).unwrap();
    let roots = AllowedRoots::new(vec![inside.path().parent().unwrap().to_owned()]);
    let error = compare(inside.path(), (&base, &secret), LIMITS, roots.clone()).await.unwrap_err();
    let refused = matches!(error, DiffError::Checkout(CheckoutError::OutsideAllowedRoots { .. }));
    assert!(refused, "{error:?}");
    let lines = format!("{}\n", inside.join(".git/objects").display()).repeat(500);
    fs::write(&alternates, lines).unwrap();
    compare(inside.path(), (&base, &base), LIMITS, roots).await.unwrap();
}

#[tokio::test]
async fn a_repository_of_another_user_is_read_as_that_user() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let repository = ScratchRepository::with_one_commit();
    let base = repository.head();
    repository.write("new", "new\n");
    let commit = repository.commit_all("work");
    let own = |path: &Path| std::os::unix::fs::chown(path, Some(65534), Some(65534)).unwrap();
    let mut left = vec![repository.path().to_owned()];
    while let Some(path) = left.pop() {
        own(&path);
        if path.is_dir() {
            left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    assert_eq!(difference(&repository, &base, &commit).await.files.len(), 1);
}
