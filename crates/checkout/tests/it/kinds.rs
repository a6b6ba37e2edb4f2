//! The whole life of a checkout with every kind of repository.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, chown},
    path::{Path, PathBuf},
};

use checkout::error::CheckoutError;
use testing::repository::{ScratchRepository, git_in};

use crate::bench::{Bench, start_tree_and, tree};

/// Changes a file, takes it through to the user's repository and checks the result there.
async fn assert_full_cycle(bench: &Bench, repository: &Path) {
    let checkout = bench.prepare(repository).await;
    fs::write(checkout.work.join("new.txt"), "new\n").unwrap();
    let (sealed, collected) = bench.collect(&checkout).await;
    let branch = collected.branch.as_str();
    assert_eq!(git_in(repository, &["rev-parse", branch]).trim(), sealed.commit.as_str());
    let parent = git_in(repository, &["rev-parse", &format!("{branch}^")]);
    assert_eq!(parent.trim(), checkout.base_commit.as_str());
    assert_eq!(tree(repository, branch), start_tree_and(&["100644 new.txt"]));
    git_in(repository, &["fsck", "--strict"]);
}

fn beside(repository: &ScratchRepository, name: &str) -> PathBuf {
    repository.path().parent().unwrap().join(name)
}

#[tokio::test]
async fn a_bare_repository_takes_the_result() {
    let repository = ScratchRepository::with_one_commit();
    let bare = beside(&repository, "bare.git");
    repository.git(&["clone", "--quiet", "--bare", ".", bare.to_str().unwrap()]);
    assert_full_cycle(&Bench::new(), &bare).await;
}

#[tokio::test]
async fn a_linked_work_tree_starts_at_its_own_head_and_shares_the_result() {
    let repository = ScratchRepository::with_one_commit();
    let linked = beside(&repository, "linked");
    repository.git(&["worktree", "add", "--quiet", "-b", "side", linked.to_str().unwrap()]);
    assert_full_cycle(&Bench::new(), &linked).await;
    assert_ne!(repository.git(&["branch", "--list", "opentiger/*"]), "");
}

#[tokio::test]
async fn a_shallow_clone_is_worked_on_as_it_is() {
    let repository = ScratchRepository::with_one_commit();
    repository.commit_all("second");
    let shallow = beside(&repository, "shallow");
    let url = format!("file://{}", repository.path().display());
    repository.git(&["clone", "--quiet", "--depth=1", &url, shallow.to_str().unwrap()]);
    assert_full_cycle(&Bench::new(), &shallow).await;
}

#[tokio::test]
async fn a_repository_that_borrows_objects_itself_is_worked_on() {
    let repository = ScratchRepository::with_one_commit();
    let sharing = beside(&repository, "sharing");
    repository.git(&["clone", "--quiet", "--shared", ".", sharing.to_str().unwrap()]);
    assert_full_cycle(&Bench::new(), &sharing).await;
}

#[tokio::test]
async fn packed_objects_and_packed_refs_are_found() {
    let repository = ScratchRepository::with_one_commit();
    repository.git(&["gc", "--quiet"]);
    assert_full_cycle(&Bench::new(), repository.path()).await;
}

#[tokio::test]
async fn a_sha256_repository_is_worked_on() {
    let repository = ScratchRepository::with_one_commit();
    let other = beside(&repository, "sha256");
    fs::create_dir(&other).unwrap();
    git_in(&other, &["init", "--quiet", "--object-format=sha256", "--initial-branch=main"]);
    for file in ["README.md", ".gitignore", "src/lib.rs"] {
        fs::create_dir_all(other.join("src")).unwrap();
        fs::copy(repository.join(file), other.join(file)).unwrap();
    }
    git_in(&other, &["add", "--all"]);
    git_in(&other, &["commit", "--quiet", "-m", "start"]);
    assert_full_cycle(&Bench::new(), &other).await;
}

#[tokio::test]
async fn paths_with_spaces_line_ends_and_dashes_are_worked_on() {
    for name in ["a b", "-n", "line\nend"] {
        let repository = ScratchRepository::named(name);
        let source = ScratchRepository::with_one_commit();
        repository.git(&["fetch", "--quiet", source.path().to_str().unwrap(), "main"]);
        repository.git(&["reset", "--quiet", "--hard", "FETCH_HEAD"]);
        assert_full_cycle(&Bench::new(), repository.path()).await;
    }
}

#[tokio::test]
async fn a_result_of_many_files_arrives_as_one_pack() {
    let bench = Bench::new();
    let repository = ScratchRepository::with_one_commit();
    let checkout = bench.prepare(repository.path()).await;
    for number in 0..150 {
        fs::write(checkout.work.join(format!("f{number}")), number.to_string()).unwrap();
    }
    let (sealed, _) = bench.collect(&checkout).await;
    assert_eq!((sealed.files_changed, sealed.insertions), (150, 150));
    repository.git(&["fsck", "--strict"]);
    let packs = fs::read_dir(repository.join(".git/objects/pack")).unwrap();
    assert!(packs.flatten().any(|entry| entry.path().extension().is_some_and(|e| e == "pack")));
}

#[tokio::test]
async fn runs_on_one_repository_do_not_get_in_each_others_way() {
    let bench = Bench::new();
    let repository = ScratchRepository::with_one_commit();
    let before = repository.fingerprint();
    let path = repository.path();
    tokio::join!(
        assert_full_cycle(&bench, path),
        assert_full_cycle(&bench, path),
        assert_full_cycle(&bench, path),
        assert_full_cycle(&bench, path),
    );
    let branches = repository.git(&["branch", "--list", "opentiger/*"]);
    assert_eq!(branches.lines().count(), 4);
    assert_eq!(repository.fingerprint(), before);
}

#[tokio::test]
async fn a_privileged_process_acts_as_the_repositorys_owner() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let repository = ScratchRepository::with_one_commit();
    give_away(repository.path());
    assert_full_cycle(&Bench::new(), repository.path()).await;
    assert_eq!(first_file_of_root(repository.path()), None);
}

#[tokio::test]
async fn a_privileged_process_takes_no_object_of_another_user() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let repository = ScratchRepository::with_one_commit();
    give_away(repository.path());
    let secret = ScratchRepository::with_one_commit();
    let alternates = repository.join(".git/objects/info/alternates");
    fs::write(&alternates, format!("{}/.git/objects\n", secret.path().display())).unwrap();
    let error = Bench::new().try_prepare(repository.path(), None).await.unwrap_err();
    assert!(matches!(error, CheckoutError::OwnedByAnother { owner: 0, .. }), "{error:?}");
}

/// Gives a tree to the user `nobody`.
fn give_away(path: &Path) {
    std::os::unix::fs::lchown(path, Some(65534), Some(65534)).unwrap();
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            give_away(&entry.unwrap().path());
        }
    }
    chown(path, Some(65534), Some(65534)).unwrap();
}

fn first_file_of_root(path: &Path) -> Option<PathBuf> {
    if fs::symlink_metadata(path).unwrap().uid() == 0 {
        return Some(path.to_owned());
    }
    if !path.is_dir() {
        return None;
    }
    fs::read_dir(path).unwrap().find_map(|entry| first_file_of_root(&entry.unwrap().path()))
}
