//! What of a work tree becomes the result.

use std::{
    ffi::OsStr,
    fs,
    os::unix::{ffi::OsStrExt as _, fs::symlink},
    path::Path,
};

use checkout::seal::Sealed;
use testing::repository::{ScratchRepository, git_in, set_mode};

use crate::bench::{Bench, assert_one_commit, make_fifo, start_tree_and, tree};

#[tokio::test]
async fn an_untouched_work_tree_seals_to_nothing() {
    let bench = Bench::new();
    let repository = ScratchRepository::with_one_commit();
    let checkout = bench.prepare(repository.path()).await;
    fs::create_dir(checkout.work.join("empty")).unwrap();
    fs::create_dir(checkout.work.join("target")).unwrap();
    fs::write(checkout.work.join("target/built"), "ignored").unwrap();
    fs::write(checkout.work.join("a.log"), "ignored").unwrap();
    let sealed = bench.try_seal(&checkout).await.unwrap();
    assert_eq!(sealed, Sealed::Nothing { notices: Vec::new() });
}

#[tokio::test]
async fn every_kind_of_change_is_in_the_commit() {
    let bench = Bench::new();
    let repository = ScratchRepository::with_one_commit();
    for file in ["becomes-dir", "dir/becomes-file", "gone/a", "was-plain.sh", "moved", "was.link"] {
        repository.write(file, file);
    }
    repository.commit_all("more");
    let checkout = bench.prepare(repository.path()).await;
    let work = &checkout.work;
    fs::write(work.join("README.md"), "changed\n").unwrap();
    fs::remove_file(work.join("becomes-dir")).unwrap();
    fs::create_dir(work.join("becomes-dir")).unwrap();
    fs::write(work.join("becomes-dir/file"), "").unwrap();
    fs::remove_dir_all(work.join("dir")).unwrap();
    fs::write(work.join("dir"), "a file now").unwrap();
    fs::remove_dir_all(work.join("gone")).unwrap();
    set_mode(&work.join("was-plain.sh"), 0o755);
    fs::rename(work.join("moved"), work.join("to here")).unwrap();
    fs::remove_file(work.join("was.link")).unwrap();
    symlink("README.md", work.join("was.link")).unwrap();
    let (sealed, collected) = bench.collect(&checkout).await;
    assert_eq!(sealed.notices, Vec::<String>::new());
    let expected = [
        "100644 becomes-dir/file",
        "100644 dir",
        "100644 to here",
        "100755 was-plain.sh",
        "120000 was.link",
    ];
    assert_eq!(tree(repository.path(), collected.branch.as_str()), start_tree_and(&expected));
    assert_eq!(repository.show(collected.branch.as_str(), "README.md"), "changed\n");
    assert_eq!(
        repository.git(&["log", "-1", "--format=%B", collected.branch.as_str()]),
        "A title\n\nA body.\n\n"
    );
    assert_one_commit(&repository, &collected);
}

#[tokio::test]
async fn names_of_all_kinds_are_kept_to_the_byte() {
    let bench = Bench::new();
    let repository = ScratchRepository::with_one_commit();
    let checkout = bench.prepare(repository.path()).await;
    let names: &[&[u8]] = &[
        b"-n",
        b"--all",
        b":(exclude)*",
        b"a\nb",
        b"q\"uote'",
        b"tab\t",
        b"\xff\xfe",
        b"*.md",
        b" ",
    ];
    for name in names {
        fs::write(checkout.work.join(OsStr::from_bytes(name)), name).unwrap();
    }
    let (sealed, collected) = bench.collect(&checkout).await;
    assert_eq!(sealed.notices, Vec::<String>::new());
    assert_eq!(usize::try_from(sealed.files_changed).unwrap(), names.len());
    let place = tempfile::tempdir().unwrap();
    let target = place.path().join("out");
    repository.git(&[
        "worktree",
        "add",
        "--quiet",
        target.to_str().unwrap(),
        collected.branch.as_str(),
    ]);
    for name in names {
        assert_eq!(&fs::read(target.join(OsStr::from_bytes(name))).unwrap(), name);
    }
}

#[tokio::test]
async fn insertions_and_deletions_are_counted() {
    let bench = Bench::new();
    let repository = ScratchRepository::with_one_commit();
    let checkout = bench.prepare(repository.path()).await;
    fs::write(checkout.work.join("src/lib.rs"), "pub fn answer() -> u32 {\n    42\n}\n").unwrap();
    fs::write(checkout.work.join("binary"), [0, 159, 146, 150]).unwrap();
    let sealed = bench.seal(&checkout).await;
    assert_eq!((sealed.files_changed, sealed.insertions, sealed.deletions), (2, 1, 1));
}

#[tokio::test]
async fn sealing_again_takes_what_is_there_then() {
    let bench = Bench::new();
    let repository = ScratchRepository::with_one_commit();
    let checkout = bench.prepare(repository.path()).await;
    fs::write(checkout.work.join("one"), "").unwrap();
    bench.seal(&checkout).await;
    fs::rename(checkout.work.join("one"), checkout.work.join("two")).unwrap();
    let (_, collected) = bench.collect(&checkout).await;
    assert_eq!(tree(repository.path(), collected.branch.as_str()), start_tree_and(&["100644 two"]));
}

#[tokio::test]
async fn whatever_the_agent_did_with_its_own_git_the_result_is_one_commit() {
    type Mischief = fn(&Path, &Path);
    let mischiefs: &[(&str, Mischief)] = &[
        ("committed itself", |work, _| {
            git_in(work, &["add", "--all"]);
            git_in(work, &["commit", "--quiet", "-m", "one"]);
            git_in(work, &["commit", "--quiet", "--allow-empty", "-m", "two"]);
        }),
        ("switched the branch", |work, _| {
            git_in(work, &["checkout", "--quiet", "--orphan", "else"]);
        }),
        ("staged something else", |work, _| {
            git_in(work, &["rm", "--quiet", "--cached", "README.md"]);
        }),
        ("hid a change from its index", |work, _| {
            git_in(work, &["update-index", "--assume-unchanged", "README.md"]);
            git_in(work, &["update-index", "--skip-worktree", "src/lib.rs"]);
        }),
        ("deleted .git", |work, _| fs::remove_dir_all(work.join(".git")).unwrap()),
        ("made .git a file", |work, other| {
            fs::remove_dir_all(work.join(".git")).unwrap();
            fs::write(work.join(".git"), format!("gitdir: {}/.git\n", other.display())).unwrap();
        }),
        ("made .git a link", |work, other| {
            fs::remove_dir_all(work.join(".git")).unwrap();
            symlink(other.join(".git"), work.join(".git")).unwrap();
        }),
        ("made .git a fifo", |work, _| {
            fs::remove_dir_all(work.join(".git")).unwrap();
            make_fifo(&work.join(".git"));
        }),
        ("borrowed another repository's objects", |work, other| {
            let line = format!("{}/.git/objects\n", other.display());
            fs::write(work.join(".git/objects/info/alternates"), line).unwrap();
        }),
        ("broke its git directory", |work, _| {
            fs::write(work.join(".git/HEAD"), "garbage").unwrap();
            fs::write(work.join(".git/index"), "garbage").unwrap();
        }),
        ("planted a seal", |work, other| {
            let seal = work.parent().unwrap().join("seal.git");
            symlink(other.join(".git"), seal).unwrap();
        }),
    ];
    let bench = Bench::new();
    let other = ScratchRepository::with_one_commit();
    let before = other.fingerprint();
    for (what, mischief) in mischiefs {
        let repository = ScratchRepository::with_one_commit();
        let checkout = bench.prepare(repository.path()).await;
        fs::write(checkout.work.join("new.txt"), "new\n").unwrap();
        mischief(&checkout.work, other.path());
        fs::write(checkout.work.join("README.md"), "changed\n").unwrap();
        let (sealed, collected) = bench.collect(&checkout).await;
        assert_one_commit(&repository, &collected);
        let found = tree(repository.path(), collected.branch.as_str());
        assert_eq!(found, start_tree_and(&["100644 new.txt"]), "{what}");
        assert_eq!(repository.show(sealed.commit.as_str(), "README.md"), "changed\n", "{what}");
    }
    assert_eq!(other.fingerprint(), before);
}
