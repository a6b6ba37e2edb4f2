//! What is a repository that a run may start from, and what the refusals say.

use std::{
    fs,
    os::unix::fs::{chown, symlink},
    path::{Path, PathBuf},
};

use checkout::{
    error::{CheckoutError, Fault},
    local::{Head, LocalRepository, inspect_local},
    roots::AllowedRoots,
};
use core_types::repository::Repository;
use testing::repository::{ScratchRepository, git_in, set_mode};

use crate::bench::{Bench, git};

async fn inspect(path: &Path) -> Result<LocalRepository, CheckoutError> {
    inspect_local(&git(), path.to_str().unwrap(), &AllowedRoots::default()).await
}

async fn refusal(path: &Path) -> CheckoutError {
    let error = inspect(path).await.unwrap_err();
    assert_eq!(error.fault(), Fault::Request, "{error:?}");
    assert!(error.hint().is_some(), "{error:?}");
    error
}

#[tokio::test]
async fn paths_that_are_no_repository_are_refused_each_with_its_reason() {
    let repository = ScratchRepository::with_one_commit();
    let plain = tempfile::tempdir().unwrap();
    let relative = refusal(Path::new("a/b")).await;
    assert!(matches!(relative, CheckoutError::PathNotAbsolute { .. }), "{relative:?}");
    let missing = refusal(&plain.path().join("missing")).await;
    assert!(matches!(missing, CheckoutError::PathMissing { .. }), "{missing:?}");
    let file = refusal(&repository.join("README.md")).await;
    assert!(matches!(file, CheckoutError::PathNotDirectory { .. }), "{file:?}");
    let below_file = refusal(&repository.join("README.md/x")).await;
    assert!(matches!(below_file, CheckoutError::PathMissing { .. }), "{below_file:?}");
    let directory = refusal(plain.path()).await;
    assert!(matches!(directory, CheckoutError::NotARepository { .. }), "{directory:?}");
    for inside in ["src", ".git/refs"] {
        let inside = refusal(&repository.join(inside)).await;
        assert!(matches!(inside, CheckoutError::NotTopLevel { .. }), "{inside:?}");
    }
}

#[tokio::test]
async fn work_trees_bare_ones_linked_ones_and_odd_names_are_repositories() {
    for name in ["a b", "-n", "line\nend", "ünïcode", "quo\"te'"] {
        let repository = ScratchRepository::named(name);
        let commit = repository.commit_all("start");
        let found = inspect(repository.path()).await.unwrap();
        let expected =
            Head::Branch { name: "main".parse().unwrap(), commit: commit.parse().unwrap() };
        assert_eq!(found.head, expected, "{name:?}");
    }
    let repository = ScratchRepository::with_one_commit();
    let place = tempfile::tempdir().unwrap();
    let (bare, linked) = (place.path().join("bare.git"), place.path().join("linked"));
    git_in(repository.path(), &["clone", "--quiet", "--bare", ".", bare.to_str().unwrap()]);
    repository.git(&["worktree", "add", "--quiet", "-b", "side", linked.to_str().unwrap()]);
    assert!(matches!(inspect(&bare).await.unwrap().head, Head::Branch { .. }));
    let found = inspect(&linked).await.unwrap();
    assert_eq!(found.common_dir, repository.path().canonicalize().unwrap().join(".git"));
    assert!(matches!(found.head, Head::Branch { name, .. } if name.as_str() == "side"));
    let link = place.path().join("link");
    symlink(repository.path(), &link).unwrap();
    assert_eq!(inspect(&link).await.unwrap().path, repository.path().canonicalize().unwrap());
}

#[tokio::test]
async fn a_missing_start_is_told_with_the_branches_that_there_are() {
    let git = git();
    let empty = ScratchRepository::empty();
    let found = inspect(empty.path()).await.unwrap();
    for branch in [None, Some("main")] {
        let error = found.base(&git, branch).await.unwrap_err();
        assert!(matches!(error, CheckoutError::NoCommit { .. }), "{error:?}");
    }
    let repository = ScratchRepository::with_one_commit();
    repository.git(&["branch", "other"]);
    let found = inspect(repository.path()).await.unwrap();
    let error = found.base(&git, Some("missing")).await.unwrap_err();
    assert!(error.to_string().ends_with("no branch `missing`; branches: main, other"), "{error}");
    let error = found.base(&git, Some("--all")).await.unwrap_err();
    assert!(matches!(error, CheckoutError::BranchInvalid(_)), "{error:?}");
    repository.git(&["symbolic-ref", "HEAD", "refs/heads/unborn"]);
    let found = inspect(repository.path()).await.unwrap();
    let error = found.base(&git, None).await.unwrap_err();
    assert!(
        matches!(&error, CheckoutError::UnbornHead { branch, .. } if branch == "unborn"),
        "{error:?}"
    );
    assert!(found.base(&git, Some("other")).await.is_ok());
}

#[tokio::test]
async fn a_detached_head_is_a_start_without_a_branch() {
    let repository = ScratchRepository::with_one_commit();
    repository.git(&["checkout", "--quiet", "--detach"]);
    let found = inspect(repository.path()).await.unwrap();
    let base = found.base(&git(), None).await.unwrap();
    assert_eq!((base.branch, base.commit.as_str()), (None, repository.head().as_str()));
}

#[tokio::test]
async fn nothing_outside_of_the_allowed_directories_is_reached() {
    let (inside, outside) =
        (ScratchRepository::with_one_commit(), ScratchRepository::with_one_commit());
    let root = inside.path().parent().unwrap();
    let roots = AllowedRoots::new(vec![PathBuf::from("/missing"), root.to_owned()]);
    let look = async |path: &Path| inspect_local(&git(), path.to_str().unwrap(), &roots).await;
    look(inside.path()).await.unwrap();
    let link = root.join("link");
    symlink(outside.path(), &link).unwrap();
    let gitfile = root.join("gitfile");
    fs::create_dir(&gitfile).unwrap();
    fs::write(gitfile.join(".git"), format!("gitdir: {}/.git\n", outside.path().display()))
        .unwrap();
    let other_root = outside.path().parent().unwrap().file_name().unwrap();
    let dotted = root.join("..").join(other_root).join("repository");
    for path in [outside.path(), &link, &gitfile, &dotted] {
        let error = look(path).await.unwrap_err();
        assert!(matches!(error, CheckoutError::OutsideAllowedRoots { .. }), "{path:?}: {error:?}");
    }
}

#[tokio::test]
async fn a_prefix_of_an_allowed_name_is_not_below_it() {
    let place = tempfile::tempdir().unwrap();
    fs::create_dir(place.path().join("repos")).unwrap();
    fs::create_dir(place.path().join("repos-of-others")).unwrap();
    let roots = AllowedRoots::new(vec![place.path().join("repos")]);
    assert!(roots.check(&place.path().join("repos")).is_ok());
    assert!(roots.check(&place.path().join("repos-of-others")).is_err());
}

#[tokio::test]
async fn a_repository_of_mixed_owners_is_refused_with_a_way_out() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let repository = ScratchRepository::with_one_commit();
    // The directory is another user's; the git directory stays root's: git would trust neither.
    chown(repository.path(), Some(65534), Some(65534)).unwrap();
    let error = refusal(repository.path()).await;
    assert!(
        matches!(error, CheckoutError::OwnedByAnother { user: 65534, owner: 0, .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_repository_its_owner_cannot_reach_is_refused() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let repository = ScratchRepository::with_one_commit();
    chown(repository.path(), Some(65534), Some(65534)).unwrap();
    set_mode(repository.path().parent().unwrap(), 0o700);
    let error = refusal(repository.path()).await;
    assert!(matches!(error, CheckoutError::PathUnreadable { .. }), "{error:?}");
}

#[tokio::test]
async fn a_url_is_refused_as_not_there_yet() {
    let bench = Bench::new();
    let repository = Repository::Git { url: "https://example.org/x.git".to_owned() };
    let request = checkout::checkouts::PrepareRequest {
        run: core_types::ids::RunId::generate(),
        task: core_types::ids::TaskId::generate(),
        number: 1,
        repository: &repository,
        base_branch: None,
    };
    let error = bench.checkouts.prepare(request).await.unwrap_err();
    assert!(matches!(error, CheckoutError::RemotesUnavailable { .. }), "{error:?}");
}
