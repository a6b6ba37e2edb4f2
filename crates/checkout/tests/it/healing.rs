//! Mirrors that are damaged or too large are made anew by the run that finds out.

use std::{fs, path::Path};

use checkout::{checkouts::Checkout, error::CheckoutError, git::GitCommand, trouble::Trouble};
use testing::{programs::search_path, repository::git_in};

use crate::mirrors::Served;

/// A git that is killed at each call of a kind, for as long as a file is there.
fn killed_at(served: &Served, kind: &str) -> (GitCommand, std::path::PathBuf) {
    let directory = served.bench.state.path().join("bin");
    let (program, flag) = (directory.join("git"), directory.join("kills"));
    fs::create_dir(&directory).unwrap();
    let real = GitCommand::find(&search_path()).unwrap();
    let real = real.program().display();
    let script = format!(
        "#!/bin/sh\ncase \"$*\" in {kind}) [ -e '{}' ] && kill -9 $$ ;; esac\nexec {real} \"$@\"\n",
        flag.display()
    );
    fs::write(&program, script).unwrap();
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&program, executable).unwrap();
    fs::write(&flag, "").unwrap();
    let path = format!("{}:{}", directory.display(), search_path());
    (GitCommand::find(&path).unwrap(), flag)
}

/// The refs of results in a repository of the mirror.
fn results(served: &Served, repository: &str) -> String {
    let repository = served.mirror().join(repository);
    git_in(&repository, &["for-each-ref", "refs/opentiger/results"])
}

#[tokio::test]
async fn results_that_could_not_be_taken_over_for_the_moment_are_taken_over_later() {
    let mut served = Served::new().await;
    let first = served.bench.prepare(&served.url).await;
    served.bench.try_push(&first).await.unwrap();
    let kept = results(&served, "repo.git");
    assert_eq!(kept.lines().count(), 1);
    let repository = served.mirror().join("repo.git");
    fs::rename(&repository, served.mirror().join("old.git")).unwrap();
    let (git, flag) = killed_at(&served, "*fetch*old.git*refs/opentiger/results/*");
    served.bench.git = git;
    served.bench.prepare(&served.url).await;
    assert_eq!(results(&served, "old.git"), kept);
    fs::remove_file(flag).unwrap();
    served.bench.prepare(&served.url).await;
    assert_eq!(results(&served, "repo.git"), kept);
    assert!(!served.mirror().join("old.git").try_exists().unwrap());
}

#[tokio::test]
async fn a_git_that_is_killed_is_no_damage() {
    let mut served = Served::new().await;
    served.bench.prepare(&served.url).await;
    let packs = served.packs();
    let (git, flag) = killed_at(&served, "*cat-file*");
    served.bench.git = git;
    let error = served.bench.try_prepare(&served.url, None).await.unwrap_err();
    assert!(matches!(error, CheckoutError::Git { .. }), "{error:?}");
    assert_eq!(served.packs(), packs);
    fs::remove_file(flag).unwrap();
    served.bench.prepare(&served.url).await;
    assert_eq!(served.packs(), packs);
}

/// Writes a file anew: the old one may be linked from checkouts.
fn replace(path: &Path, change: impl Fn(Vec<u8>) -> Vec<u8>) {
    let bytes = change(fs::read(path).unwrap());
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

fn flipped_at(part: usize) -> impl Fn(Vec<u8>) -> Vec<u8> {
    move |mut bytes| {
        // Between a pack's head and its checksum.
        let at = 12 + (bytes.len() - 40) * part / 8;
        for byte in bytes.iter_mut().skip(at).take(8) {
            *byte ^= 0xa5;
        }
        bytes
    }
}

async fn heals(damage: impl Fn(&Served), news: bool) {
    let (served, checkout) = works_after(damage, news).await;
    git_in(&checkout.work, &["fsck", "--strict"]);
    git_in(&served.mirror().join("repo.git"), &["fsck", "--strict"]);
    assert!(!served.mirror().join("old.git").try_exists().unwrap());
}

async fn works_after(damage: impl Fn(&Served), news: bool) -> (Served, Checkout) {
    let served = Served::new().await;
    let first = served.bench.prepare(&served.url).await;
    served.bench.try_push(&first).await.unwrap();
    damage(&served);
    let mut expected = served.repository.head();
    if news {
        expected = served.commit("second.txt");
    }
    let checkout = served.bench.prepare(&served.url).await;
    assert_eq!(checkout.base_commit.as_str(), expected);
    assert_eq!(git_in(&checkout.work, &["status", "--porcelain"]), "");
    served.bench.try_push(&checkout).await.unwrap();
    (served, checkout)
}

#[tokio::test]
async fn a_damaged_pack_is_fetched_again() {
    for part in [0, 3, 5, 7] {
        heals(|served| replace(&served.packs()[0], flipped_at(part)), false).await;
        // What only the history has may be damaged, and nobody has looked at it.
        works_after(|served| replace(&served.packs()[0], flipped_at(part)), true).await;
    }
}

#[tokio::test]
async fn a_damaged_index_is_fetched_again() {
    for news in [false, true] {
        let cut = |bytes: Vec<u8>| bytes[..bytes.len() / 2].to_vec();
        heals(|served| replace(&served.packs()[0].with_extension("idx"), cut), news).await;
        heals(|served| fs::remove_file(&served.packs()[0]).unwrap(), news).await;
    }
}

#[tokio::test]
async fn damaged_files_of_the_repository_are_made_anew() {
    for news in [false, true] {
        for file in ["config", "HEAD"] {
            let path = |served: &Served| served.mirror().join("repo.git").join(file);
            heals(|served| fs::write(path(served), "\0[[[").unwrap(), news).await;
            heals(|served| fs::remove_file(path(served)).unwrap(), news).await;
        }
        let refs = |served: &Served| served.mirror().join("repo.git/refs/opentiger");
        heals(
            |served| {
                for entry in fs::read_dir(refs(served)).unwrap().flatten() {
                    if entry.path().is_file() {
                        fs::write(entry.path(), "f".repeat(40)).unwrap();
                    }
                }
            },
            news,
        )
        .await;
        heals(
            |served| {
                fs::remove_dir_all(refs(served)).unwrap();
                fs::write(refs(served), "in the way").unwrap();
            },
            news,
        )
        .await;
    }
}

fn noise(seed: u32) -> String {
    (0..40_000_u32).map(|n| format!("{:x}", n.wrapping_mul(2_654_435_761) ^ seed)).collect()
}

#[tokio::test]
async fn a_mirror_that_grew_too_large_is_made_anew_and_keeps_results() {
    let mut served = Served::new().await;
    served.repository.write("large.txt", &noise(1));
    served.commit("second.txt");
    let large = served.bench.prepare(&served.url).await;
    served.repository.git(&["reset", "--quiet", "--hard", "HEAD^"]);
    served.commit("third.txt");
    let before = served.bench.mirrors().list().await.unwrap()[0].bytes;
    assert!(before > 100_000, "{before}");
    served.bench.access.max_bytes = Some(before - 10_000);
    let checkout = served.bench.prepare(&served.url).await;
    assert!(!checkout.work.join("large.txt").try_exists().unwrap());
    let after = served.bench.mirrors().list().await.unwrap()[0].bytes;
    assert!(after < before / 2, "{before} {after}");
    git_in(&large.work, &["fsck", "--strict"]);
    // What does not fit at all is not fetched again and again in one run.
    served.repository.write("large.txt", &noise(2));
    served.commit("fourth.txt");
    served.bench.access.max_bytes = Some(after + 10_000);
    let requests = served.server.requests().len();
    assert_eq!(served.bench.trouble(&served.url).await, Trouble::TooLarge);
    let fetches = served.server.requests().len() - requests;
    assert!(fetches < 12, "{fetches}");
    served.bench.access.max_bytes = None;
    served.bench.prepare(&served.url).await;
}
