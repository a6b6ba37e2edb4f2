//! Nothing that is planted in a work tree or its git directory executes. Every plant is shown to be live first.

use std::{fs, path::Path};

use testing::repository::{ScratchRepository, git_in, try_git_in};

use crate::bench::{Bench, Canary, assert_one_commit, start_tree_and, tree};

/// Plants a program and sets it off by using git without care.
type Plant = fn(&Path, &Canary);

const PLANTS: &[(&str, Plant)] = &[
    ("hooks", |work, canary| {
        fs::create_dir_all(work.join(".git/hooks")).unwrap();
        for hook in ["pre-commit", "post-commit", "post-index-change", "reference-transaction"] {
            fs::copy(&canary.script, work.join(".git/hooks").join(hook)).unwrap();
        }
        git_in(work, &["commit", "--quiet", "--allow-empty", "-m", "trigger"]);
    }),
    ("a hooks path", |work, canary| {
        fs::create_dir_all(work.join("hooks")).unwrap();
        fs::copy(&canary.script, work.join("hooks/pre-commit")).unwrap();
        git_in(work, &["config", "core.hooksPath", "hooks"]);
        git_in(work, &["commit", "--quiet", "--allow-empty", "-m", "trigger"]);
        fs::remove_dir_all(work.join("hooks")).unwrap();
    }),
    ("a file system monitor", |work, canary| {
        git_in(work, &["config", "core.fsmonitor", canary.script()]);
        git_in(work, &["status"]);
    }),
    ("a filter", |work, canary| {
        git_in(work, &["config", "filter.evil.clean", canary.script()]);
        git_in(work, &["config", "filter.evil.required", "true"]);
        fs::write(work.join(".git/info/attributes"), "* filter=evil\n").unwrap();
        fs::write(work.join("src/.gitattributes"), "* filter=evil diff=evil\n").unwrap();
        git_in(work, &["add", "--all"]);
        fs::remove_file(work.join("src/.gitattributes")).unwrap();
    }),
    ("a diff driver", |work, canary| {
        git_in(work, &["config", "diff.external", canary.script()]);
        fs::write(work.join("README.md"), "changed\n").unwrap();
        git_in(work, &["diff"]);
    }),
    ("a signing program", |work, canary| {
        git_in(work, &["config", "gpg.program", canary.script()]);
        git_in(work, &["config", "commit.gpgSign", "true"]);
        drop(try_git_in(work, &["commit", "--quiet", "--allow-empty", "-m", "trigger"]));
    }),
    ("a promisor remote", |work, canary| {
        git_in(work, &["config", "core.sshCommand", canary.script()]);
        git_in(work, &["config", "remote.evil.url", "ssh://nowhere.invalid/x"]);
        git_in(work, &["config", "remote.evil.promisor", "true"]);
        git_in(work, &["config", "extensions.partialClone", "evil"]);
        let missing = "1".repeat(40);
        drop(try_git_in(work, &["cat-file", "-p", &missing]));
    }),
];

#[tokio::test]
async fn nothing_planted_executes() {
    for (what, plant) in PLANTS {
        let bench = Bench::new();
        let canary = bench.canary();
        let repository = ScratchRepository::with_one_commit();
        let checkout = bench.prepare(repository.path()).await;
        plant(&checkout.work, &canary);
        canary.assert_live();
        fs::write(checkout.work.join("new.txt"), "new\n").unwrap();
        let (_, collected) = bench.collect(&checkout).await;
        canary.assert_silent();
        assert_one_commit(&repository, &collected);
        let found = tree(repository.path(), collected.branch.as_str());
        assert_eq!(found, start_tree_and(&["100644 new.txt"]), "{what}");
    }
}

#[tokio::test]
async fn configuration_in_the_agents_home_and_environment_does_not_count() {
    let mut bench = Bench::new();
    let canary = bench.canary();
    let repository = ScratchRepository::with_one_commit();
    let checkout = bench.prepare(repository.path()).await;
    let config = format!("[core]\n\tfsmonitor = {0}\n\tpager = {0}\n", canary.script());
    fs::write(checkout.home.join(".gitconfig"), config).unwrap();
    let home = checkout.home.to_str().unwrap().to_owned();
    bench.env.insert("HOME".to_owned(), home.clone());
    bench.env.insert("GIT_CONFIG_GLOBAL".to_owned(), format!("{home}/.gitconfig"));
    bench.env.insert("GIT_CONFIG_COUNT".to_owned(), "1".to_owned());
    bench.env.insert("GIT_CONFIG_KEY_0".to_owned(), "core.fsmonitor".to_owned());
    bench.env.insert("GIT_CONFIG_VALUE_0".to_owned(), canary.script().to_owned());
    fs::write(checkout.work.join("new.txt"), "new\n").unwrap();
    let (_, collected) = bench.collect(&checkout).await;
    canary.assert_silent();
    assert_one_commit(&repository, &collected);
}

#[tokio::test]
async fn a_nested_repository_is_taken_over_as_files_and_executes_nothing() {
    let bench = Bench::new();
    let canary = bench.canary();
    let repository = ScratchRepository::with_one_commit();
    let checkout = bench.prepare(repository.path()).await;
    let nested = checkout.work.join("vendor/lib");
    for place in [nested.clone(), nested.join("deeper"), checkout.work.join("unborn")] {
        fs::create_dir_all(&place).unwrap();
        git_in(&place, &["init", "--quiet"]);
        fs::write(place.join("file"), "content\n").unwrap();
        fs::write(place.join(".gitignore"), "*.o\n").unwrap();
        fs::write(place.join("x.o"), "").unwrap();
        git_in(&place, &["config", "core.fsmonitor", canary.script()]);
        git_in(&place, &["config", "filter.evil.clean", canary.script()]);
        fs::write(place.join(".git/info/attributes"), "* filter=evil\n").unwrap();
    }
    git_in(&nested, &["add", "file"]);
    git_in(&nested, &["commit", "--quiet", "-m", "inside"]);
    canary.assert_live();
    let (sealed, collected) = bench.collect(&checkout).await;
    canary.assert_silent();
    let expected = [
        "100644 unborn/.gitignore",
        "100644 unborn/file",
        "100644 vendor/lib/.gitignore",
        "100644 vendor/lib/deeper/.gitignore",
        "100644 vendor/lib/deeper/file",
        "100644 vendor/lib/file",
    ];
    assert_eq!(tree(repository.path(), collected.branch.as_str()), start_tree_and(&expected));
    assert_eq!(sealed.notices.len(), 3, "{:?}", sealed.notices);
    assert_one_commit(&repository, &collected);
}

#[tokio::test]
async fn a_planted_monitor_in_a_submodule_executes_nothing() {
    let bench = Bench::new();
    let canary = bench.canary();
    let (repository, inner) =
        (ScratchRepository::with_one_commit(), ScratchRepository::with_one_commit());
    repository.git(&["submodule", "--quiet", "add", inner.path().to_str().unwrap(), "sub"]);
    repository.commit_all("submodule");
    let checkout = bench.prepare(repository.path()).await;
    git_in(&checkout.work, &["submodule", "--quiet", "update", "--init"]);
    git_in(&checkout.work.join("sub"), &["config", "core.fsmonitor", canary.script()]);
    git_in(&checkout.work, &["status"]);
    canary.assert_live();
    fs::write(checkout.work.join("new.txt"), "").unwrap();
    bench.collect(&checkout).await;
    canary.assert_silent();
}
