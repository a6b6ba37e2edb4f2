//! What is special in a work tree: links, fifos, forbidden names, too much of it, nothing of it.

use std::{
    fs,
    os::unix::{fs::symlink, net::UnixListener},
    time::{Duration, Instant},
};

use checkout::{
    checkouts::{Checkouts, Limits},
    error::{CheckoutError, Fault},
};
use testing::repository::{ScratchRepository, git_in, set_mode};

use crate::bench::{Bench, git, make_fifo, start_tree_and, tree};

#[tokio::test]
async fn links_are_committed_as_links_and_never_followed() {
    let bench = Bench::new();
    let repository = ScratchRepository::with_one_commit();
    let checkout = bench.prepare(repository.path()).await;
    symlink("/etc/passwd", checkout.work.join("leak")).unwrap();
    symlink("/etc", checkout.work.join("leak-dir")).unwrap();
    symlink("missing", checkout.work.join("dangling")).unwrap();
    // A tracked file behind what is a link now: it must not be read through it.
    let elsewhere = tempfile::tempdir().unwrap();
    fs::write(elsewhere.path().join("lib.rs"), "a secret of the host").unwrap();
    fs::remove_dir_all(checkout.work.join("src")).unwrap();
    symlink(elsewhere.path(), checkout.work.join("src")).unwrap();
    let (_, collected) = bench.collect(&checkout).await;
    let expected = [
        "100644 .gitignore",
        "100644 README.md",
        "120000 dangling",
        "120000 leak",
        "120000 leak-dir",
        "120000 src",
    ];
    assert_eq!(tree(repository.path(), collected.branch.as_str()), expected);
    assert_eq!(repository.show(collected.branch.as_str(), "leak"), "/etc/passwd");
}

#[tokio::test]
async fn fifos_and_sockets_are_left_out_with_a_notice() {
    let bench = Bench::new();
    let repository = ScratchRepository::with_one_commit();
    let checkout = bench.prepare(repository.path()).await;
    make_fifo(&checkout.work.join("fifo"));
    let _socket = UnixListener::bind(checkout.work.join("src/socket")).unwrap();
    fs::remove_file(checkout.work.join("README.md")).unwrap();
    make_fifo(&checkout.work.join("README.md"));
    fs::write(checkout.work.join("new.txt"), "").unwrap();
    let (sealed, collected) = bench.collect(&checkout).await;
    let mut notices = sealed.notices.clone();
    notices.sort();
    assert_eq!(
        notices,
        [
            "left out `README.md`: it is a fifo",
            "left out `fifo`: it is a fifo",
            "left out `src/socket`: it is a socket",
        ]
    );
    let expected = ["100644 .gitignore", "100644 new.txt", "100644 src/lib.rs"];
    assert_eq!(tree(repository.path(), collected.branch.as_str()), expected);
}

#[tokio::test]
async fn names_that_git_keeps_for_itself_are_left_out() {
    let bench = Bench::new();
    let repository = ScratchRepository::with_one_commit();
    let checkout = bench.prepare(repository.path()).await;
    fs::write(checkout.work.join("src/.git"), "gitdir: /nowhere\n").unwrap();
    for name in [".GIT", "git~1", ".g\u{200c}it"] {
        fs::create_dir(checkout.work.join(name)).unwrap();
        fs::write(checkout.work.join(name).join("config"), "[core]\n").unwrap();
    }
    fs::write(checkout.work.join("new.txt"), "").unwrap();
    let (sealed, collected) = bench.collect(&checkout).await;
    assert_eq!(
        tree(repository.path(), collected.branch.as_str()),
        start_tree_and(&["100644 new.txt"])
    );
    assert_eq!(sealed.notices.len(), 3, "{:?}", sealed.notices);
    assert!(sealed.notices.iter().all(|notice| notice.contains("git does not allow the name")));
}

#[tokio::test]
async fn too_large_a_file_is_refused_before_it_is_read() {
    let limits = Limits { file_bytes: 1 << 20, ..Limits::default() };
    let bench = Bench::with_limits(limits);
    let repository = ScratchRepository::with_one_commit();
    let file = fs::File::create(repository.join("was-large")).unwrap();
    file.set_len(2 << 20).unwrap();
    repository.commit_all("a large file");
    let checkout = bench.prepare(repository.path()).await;
    fs::write(checkout.work.join("new.txt"), "").unwrap();
    bench.seal(&checkout).await;
    let grow = |name: &str, bytes: u64| {
        let path = checkout.work.join(name);
        let file = fs::File::options().create(true).truncate(false).write(true).open(path);
        file.unwrap().set_len(bytes).unwrap();
    };
    grow("was-large", 3 << 20);
    let error = bench.try_seal(&checkout).await.unwrap_err();
    assert!(matches!(&error, CheckoutError::FileTooLarge { path, .. } if path == "was-large"));
    grow("was-large", 0);
    // A terabyte without a block on the disk: hashing it would take an hour.
    grow("huge", 1 << 40);
    let started = Instant::now();
    let error = bench.try_seal(&checkout).await.unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(20));
    assert_eq!(error.fault(), Fault::Result);
    assert_eq!(
        error.to_string(),
        "file `huge` has 1099511627776 bytes; at most 1048576 are committed"
    );
}

#[tokio::test]
async fn too_much_is_refused() {
    let repository = ScratchRepository::with_one_commit();
    let few = Bench::with_limits(Limits { files: 10, ..Limits::default() });
    let checkout = few.prepare(repository.path()).await;
    for number in 0..10 {
        fs::write(checkout.work.join(format!("f{number}")), "").unwrap();
    }
    let error = few.try_seal(&checkout).await.unwrap_err();
    assert!(matches!(error, CheckoutError::TooManyFiles { limit: 10 }), "{error:?}");
    let small = Bench::with_limits(Limits { pack_bytes: 4096, ..Limits::default() });
    let checkout = small.prepare(repository.path()).await;
    let noise: Vec<u8> =
        (0..20_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    fs::write(checkout.work.join("noise"), noise).unwrap();
    let error = small.try_seal(&checkout).await.unwrap_err();
    assert!(matches!(error, CheckoutError::PackTooLarge { limit: 4096, .. }), "{error:?}");
}

#[tokio::test]
async fn what_cannot_be_read_is_named() {
    if rustix::process::geteuid().is_root() {
        // No mode keeps root out.
        return;
    }
    let bench = Bench::new();
    let repository = ScratchRepository::with_one_commit();
    let checkout = bench.prepare(repository.path()).await;
    fs::write(checkout.work.join("shut"), "x").unwrap();
    set_mode(&checkout.work.join("shut"), 0o000);
    let error = bench.try_seal(&checkout).await.unwrap_err();
    assert!(matches!(&error, CheckoutError::Unreadable { path } if path == "shut"), "{error:?}");
    fs::remove_file(checkout.work.join("shut")).unwrap();
    fs::create_dir(checkout.work.join("shut dir")).unwrap();
    set_mode(&checkout.work.join("shut dir"), 0o000);
    let error = bench.try_seal(&checkout).await.unwrap_err();
    assert!(
        matches!(&error, CheckoutError::Unreadable { path } if path == "shut dir/"),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_work_tree_that_is_gone_or_a_link_is_no_result() {
    let bench = Bench::new();
    let repository = ScratchRepository::with_one_commit();
    let checkout = bench.prepare(repository.path()).await;
    fs::remove_dir_all(&checkout.work).unwrap();
    let error = bench.try_seal(&checkout).await.unwrap_err();
    assert!(matches!(error, CheckoutError::WorkTreeGone { .. }), "{error:?}");
    symlink("/etc", &checkout.work).unwrap();
    let error = bench.try_seal(&checkout).await.unwrap_err();
    assert!(matches!(error, CheckoutError::WorkTreeGone { .. }), "{error:?}");
}

#[tokio::test]
async fn a_fifo_where_git_reads_a_list_ends_at_the_time_limit() {
    let mut bench = Bench::new();
    let repository = ScratchRepository::with_one_commit();
    let checkout = bench.prepare(repository.path()).await;
    make_fifo(&checkout.work.join("src/.gitignore"));
    fs::write(checkout.work.join("src/new"), "").unwrap();
    let impatient = git().with_timeout(Duration::from_secs(2));
    bench.checkouts = Checkouts::new(bench.state.path().join("checkouts"), impatient);
    let error = bench.try_seal(&checkout).await.unwrap_err();
    assert!(matches!(error, CheckoutError::Timeout { .. }), "{error:?}");
}

#[tokio::test]
async fn a_submodule_stays_what_the_base_says() {
    let bench = Bench::new();
    let (repository, inner) =
        (ScratchRepository::with_one_commit(), ScratchRepository::with_one_commit());
    repository.git(&["submodule", "--quiet", "add", inner.path().to_str().unwrap(), "sub"]);
    repository.commit_all("submodule");
    let checkout = bench.prepare(repository.path()).await;
    git_in(&checkout.work, &["submodule", "--quiet", "update", "--init"]);
    git_in(&checkout.work.join("sub"), &["commit", "--quiet", "--allow-empty", "-m", "inside"]);
    fs::write(checkout.work.join("sub/inside"), "").unwrap();
    fs::write(checkout.work.join("new.txt"), "").unwrap();
    let (_, collected) = bench.collect(&checkout).await;
    assert_eq!(
        tree(repository.path(), collected.branch.as_str()),
        start_tree_and(&["100644 .gitmodules", "100644 new.txt", "160000 sub"])
    );
    let before = repository.git(&["rev-parse", "main:sub"]);
    assert_eq!(repository.git(&["rev-parse", &format!("{}:sub", collected.branch)]), before);
}
