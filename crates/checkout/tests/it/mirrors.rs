//! The mirrors: shared, whole whatever is killed, unmoved by what a remote says.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use checkout::trouble::Trouble;
use testing::{
    git_server::{Behaviour, GitServer},
    repository::{ScratchRepository, git_in, set_mode},
    wait::wait_for,
};

use crate::{bench::tree, remote_bench::RemoteBench};

pub(crate) struct Served {
    pub(crate) server: GitServer,
    pub(crate) repository: ScratchRepository,
    pub(crate) url: String,
    pub(crate) bench: RemoteBench,
}

impl Served {
    pub(crate) async fn new() -> Self {
        Self::with(ScratchRepository::with_one_commit()).await
    }

    pub(crate) async fn with(repository: ScratchRepository) -> Self {
        let server = GitServer::start().await;
        server.add("project", &repository);
        let (url, bench) = (server.url("project"), RemoteBench::of(&server));
        Self { server, repository, url, bench }
    }

    pub(crate) fn commit(&self, name: &str) -> String {
        self.repository.write(name, name);
        let commit = self.repository.commit_all(name);
        let into = self.server.path("project");
        self.repository.git(&["push", "--quiet", "--force", into.to_str().unwrap(), "main"]);
        commit
    }

    fn requests_since(&self, before: usize) -> usize {
        self.server.requests().len() - before
    }

    pub(crate) fn mirror(&self) -> PathBuf {
        let mut directories = fs::read_dir(self.bench.mirrors_dir()).unwrap().flatten();
        directories.find(|entry| entry.path().is_dir()).unwrap().path()
    }

    pub(crate) fn packs(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.mirror().join("repo.git/objects/pack")).unwrap();
        let paths = entries.flatten().map(|entry| entry.path());
        paths.filter(|path| path.extension().is_some_and(|e| e == "pack")).collect()
    }
}

#[tokio::test]
async fn a_second_run_fetches_only_what_is_new() {
    let served = Served::new().await;
    served.bench.prepare(&served.url).await;
    let after_first = served.server.requests().len();
    assert_eq!(served.packs().len(), 1);
    served.bench.prepare(&served.url).await;
    let look = served.requests_since(after_first);
    assert!(look < after_first, "nothing was new: {look} of {after_first} requests");
    let commit = served.commit("second.txt");
    let checkout = served.bench.prepare(&served.url).await;
    assert_eq!(checkout.base_commit.as_str(), commit);
    assert!(checkout.work.join("second.txt").is_file());
    assert_eq!(served.packs().len(), 2);
    let objects = |pack: &PathBuf| {
        let listing = git_in(Path::new("/"), &["verify-pack", "-v", pack.to_str().unwrap()]);
        listing.lines().filter(|l| ["commit", "tree", "blob"].iter().any(|k| l.contains(k))).count()
    };
    let mut counts: Vec<usize> = served.packs().iter().map(objects).collect();
    counts.sort_unstable();
    assert_eq!(counts.first(), Some(&3), "one commit, one tree, one file");
}

#[tokio::test]
async fn runs_share_a_mirror_at_the_same_time() {
    let served = Served::new().await;
    let (bench, url) = (&served.bench, &served.url);
    let (one, two, three) =
        tokio::join!(bench.prepare(url), bench.prepare(url), bench.prepare(url));
    for checkout in [&one, &two, &three] {
        git_in(&checkout.work, &["fsck", "--strict"]);
    }
    let (one, two) = tokio::join!(bench.try_push(&one), bench.try_push(&two));
    assert_ne!(one.unwrap().branch, two.unwrap().branch);
    assert_eq!(bench.mirrors().list().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_checkout_outlives_its_mirror() {
    let served = Served::new().await;
    let checkout = served.bench.prepare(&served.url).await;
    let mirrors = served.bench.mirrors();
    let listed = mirrors.list().await.unwrap();
    let [info] = listed.as_slice() else {
        panic!("{listed:?}");
    };
    assert_eq!(info.url, served.url);
    assert!(info.bytes > 0);
    assert!(mirrors.remove(&info.key).await.unwrap());
    assert!(!mirrors.remove("../checkouts").await.unwrap());
    git_in(&checkout.work, &["fsck", "--strict"]);
    served.bench.try_push(&checkout).await.unwrap();
    served.bench.prepare(&served.url).await;
}

#[tokio::test]
async fn mirrors_that_nobody_used_for_long_are_removed() {
    let served = Served::new().await;
    served.bench.prepare(&served.url).await;
    let mirrors = served.bench.mirrors();
    let day = Duration::from_secs(24 * 3600);
    assert_eq!(mirrors.remove_unused(day).await.unwrap(), []);
    let noted = fs::File::options().write(true).open(served.mirror().join("url")).unwrap();
    noted.set_modified(SystemTime::now() - 2 * day).unwrap();
    let removed = mirrors.remove_unused(day).await.unwrap();
    assert_eq!(removed.len(), 1);
    assert_eq!(mirrors.list().await.unwrap(), []);
}

#[tokio::test]
async fn a_fetch_that_was_cut_off_counts_for_nothing_and_is_in_nobodys_way() {
    let served = Served::new().await;
    let noise: String =
        (0..100_000_u32).map(|n| format!("{:x}", n.wrapping_mul(2_654_435_761))).collect();
    served.repository.write("large.txt", &noise);
    let commit = served.commit("second.txt");
    served.server.behave(Behaviour::StallFetch(100_000));
    let incoming = || {
        let entries = fs::read_dir(served.mirror()).ok()?;
        let mut names = entries.flatten().map(|entry| entry.file_name());
        names.find(|name| name.to_string_lossy().starts_with("incoming-"))
    };
    let there = wait_for("half a pack", Duration::from_secs(30), async || {
        if half_a_pack(&served.bench.mirrors_dir()) { Ok(()) } else { Err("nothing arrives") }
    });
    // As if its worker were killed: git goes on without anybody, and is ended by whoever takes the run back.
    tokio::select! {
        prepared = served.bench.try_prepare(&served.url, None) => panic!("{prepared:?}"),
        () = there => {}
    }
    assert_eq!(served.bench.launcher.discover().await.unwrap().len(), 1);
    let git_dir = served.mirror().join("repo.git");
    for stale in ["packed-refs.lock", "HEAD.lock", "objects/pack/tmp_pack_x", "refs/x.lock"] {
        fs::write(git_dir.join(stale), "stale").unwrap();
    }
    served.server.behave(Behaviour::Serve);
    let checkout = served.bench.prepare(&served.url).await;
    assert_eq!(checkout.base_commit.as_str(), commit);
    assert_eq!(incoming(), None);
    git_in(&git_dir, &["fsck", "--strict"]);
    for found in served.bench.launcher.discover().await.unwrap() {
        let handle = served.bench.launcher.attach(&found.record).await.unwrap();
        handle.stop(launcher::handle::StopRequest::new("test", Duration::ZERO)).await;
        handle.destroy(launcher::handle::Destroy::Everything).await.unwrap();
    }
}

/// Whether git has begun to write down what arrives.
fn half_a_pack(directory: &Path) -> bool {
    fs::read_dir(directory).into_iter().flatten().flatten().any(|entry| {
        entry.file_name().to_string_lossy().starts_with("tmp_pack_") || half_a_pack(&entry.path())
    })
}

#[tokio::test]
async fn a_half_made_mirror_is_made_anew() {
    let served = Served::new().await;
    served.bench.prepare(&served.url).await;
    fs::remove_file(served.mirror().join("repo.git/HEAD")).unwrap();
    served.bench.prepare(&served.url).await;
}

#[tokio::test]
async fn many_packs_become_one_and_checkouts_keep_theirs() {
    let served = Served::new().await;
    let first = served.bench.prepare(&served.url).await;
    let [pack] = served.packs().try_into().unwrap();
    for number in 0..40 {
        for suffix in ["pack", "idx"] {
            let copy = pack.with_file_name(format!("pack-{number:040}.{suffix}"));
            fs::copy(pack.with_extension(suffix), copy).unwrap();
        }
    }
    served.commit("second.txt");
    served.bench.prepare(&served.url).await;
    assert_eq!(served.packs().len(), 1);
    git_in(&first.work, &["fsck", "--strict"]);
    served.bench.prepare(&served.url).await;
}

#[tokio::test]
async fn history_that_was_rewritten_is_followed() {
    let served = Served::new().await;
    served.commit("second.txt");
    served.bench.prepare(&served.url).await;
    served.repository.git(&["reset", "--quiet", "--hard", "HEAD^"]);
    let commit = served.commit("other.txt");
    let checkout = served.bench.prepare(&served.url).await;
    assert_eq!(checkout.base_commit.as_str(), commit);
}

#[tokio::test]
async fn a_repository_with_long_hashes_works() {
    let served = Served::with(ScratchRepository::with_long_hashes()).await;
    let checkout = served.bench.prepare(&served.url).await;
    assert_eq!(checkout.base_commit.as_str().len(), 64);
    served.bench.try_push(&checkout).await.unwrap();
}

#[tokio::test]
async fn names_of_a_hostile_remote_become_no_paths_and_no_options() {
    let served = Served::new().await;
    let project = served.server.path("project");
    let head = served.repository.head();
    let odd = ["--upload-pack=x", "-x", "opentiger", "a/--exec=x"];
    let lines: String = odd.iter().map(|name| format!("{head} refs/heads/{name}\n")).collect();
    fs::write(project.join("packed-refs"), format!("{head} refs/heads/main\n{lines}")).unwrap();
    fs::remove_file(project.join("refs/heads/main")).ok();
    fs::write(project.join("HEAD"), "ref: refs/heads/-x\n").unwrap();
    let checkout = served.bench.prepare(&served.url).await;
    assert_eq!(checkout.base_commit.as_str(), head);
    assert_eq!(checkout.base_branch, None);
    let checkout = served.bench.try_prepare(&served.url, Some("opentiger")).await.unwrap();
    assert_eq!(checkout.base_commit.as_str(), head);
    let escaped = served.bench.state.path().join("escape");
    assert!(!escaped.try_exists().unwrap());
}

#[tokio::test]
async fn trees_that_would_plant_a_git_directory_are_refused() {
    let served = Served::new().await;
    let project = served.server.path("project");
    let git = |args: &[&str]| git_in(&project, args).trim().to_owned();
    let blob = git(&["rev-parse", "main:README.md"]);
    for (mode, name) in [("100755", ".git"), ("120000", ".git"), ("100644", "..")] {
        let entry = [format!("{mode} {name}\0").into_bytes(), hex(&blob)].concat();
        let file = project.join("tree");
        fs::write(&file, entry).unwrap();
        let tree = git(&["hash-object", "-w", "-t", "tree", "--literally", file.to_str().unwrap()]);
        let commit = git(&["commit-tree", "-m", "hostile", &tree]);
        fs::write(project.join("refs/heads/main"), format!("{commit}\n")).unwrap();
        assert_eq!(served.bench.trouble(&served.url).await, Trouble::Damaged, "{mode} {name}");
    }
}

fn hex(digits: &str) -> Vec<u8> {
    let pair = |at: usize| u8::from_str_radix(digits.get(at..at + 2).unwrap(), 16).unwrap();
    (0..digits.len()).step_by(2).map(pair).collect()
}

#[tokio::test]
async fn submodules_filters_and_hooks_of_a_remote_execute_nothing() {
    let served = Served::new().await;
    let canary = served.bench.state.path().join("canary");
    let script = served.bench.state.path().join("canary.sh");
    fs::write(&script, format!("#!/bin/sh\ntouch '{}'\ncat\n", canary.display())).unwrap();
    set_mode(&script, 0o755);
    let modules = format!(
        "[submodule \"x\"]\n\tpath = x\n\turl = ext::{}\n\tupdate = checkout\n",
        script.display()
    );
    served.repository.write(".gitmodules", &modules);
    served
        .repository
        .write(".gitattributes", "* filter=lfs diff=lfs merge=lfs\n*.md filter=evil\n");
    served.repository.write("pointer.bin", "version https://git-lfs.github.com/spec/v1\n");
    let head = served.repository.head();
    served.repository.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{head},x")]);
    fs::create_dir(served.repository.join("x")).unwrap();
    served.commit("more.txt");
    let project = served.server.path("project");
    git_in(&project, &["config", "uploadpack.packObjectsHook", script.to_str().unwrap()]);
    let home = served.bench.state.path().join("home/.gitconfig");
    let filter = format!(
        "[filter \"evil\"]\n\tsmudge = {0}\n[filter \"lfs\"]\n\tsmudge = {0}\n",
        script.display()
    );
    fs::write(home, filter).unwrap();
    let checkout = served.bench.prepare(&served.url).await;
    let pushed = served.bench.try_push(&checkout).await.unwrap();
    assert!(!canary.try_exists().unwrap());
    assert!(tree(&project, pushed.branch.as_str()).contains(&"160000 x".to_owned()));
}
