use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use futures_util::StreamExt as _;
use launcher::{
    handle::Handle,
    launcher::Launcher as _,
    output::{LogContent, LogCursor},
    process::ProcessLauncher,
    spec::{Input, LaunchSpec},
};

pub(crate) const DEADLINE: Duration = Duration::from_secs(15);

/// A state directory that goes with the test, and everything that still runs in it.
pub(crate) struct Scratch(tempfile::TempDir);

impl Scratch {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.0.path().join("state")
    }

    pub(crate) fn launcher(&self) -> ProcessLauncher {
        ProcessLauncher::new(self.state()).unwrap()
    }

    /// The launch directory of an id.
    pub(crate) fn launch(&self, id: &str) -> PathBuf {
        self.state().join("launches").join(id)
    }

    pub(crate) async fn start(&self, id: &str, spec: &LaunchSpec) -> Handle {
        let launched = self.launcher().launch(&id.parse().unwrap(), spec, Input::default()).await;
        launched.unwrap().into_handle()
    }
}

/// A shell script with a plain environment, killed by its lease if a test dies.
pub(crate) fn shell(script: &str) -> LaunchSpec {
    let mut spec = LaunchSpec::new("/bin/sh", "/");
    spec.args = vec!["-c".to_owned(), script.to_owned()];
    spec.env.insert("PATH".to_owned(), "/usr/local/bin:/usr/bin:/bin".to_owned());
    spec.limits.wall = Some(Duration::from_secs(60));
    spec
}

/// Has a process that eats memory killed in 32 MiB, and says that it went on.
///
/// `tail` keeps what has no line end. While the kernel takes back the memory of the one that it killed, it may kill one
/// more for the next page that somebody asks for; the shell that goes on is the last one that it would choose.
pub(crate) const EATER: &str = "(echo 1000 > /proc/self/oom_score_adj && head -c 200000000 /dev/zero | tail | wc -c); \
                                echo went on";

/// Waits until something is there.
pub(crate) async fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {DEADLINE:?} for {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The whole output, and the sum of its gaps.
pub(crate) async fn read_all(handle: &Handle) -> (Vec<u8>, u64) {
    let mut logs = handle.logs(LogCursor::START);
    let (mut bytes, mut dropped) = (Vec::new(), 0);
    while let Some(chunk) = logs.next().await {
        match chunk.unwrap().content {
            LogContent::Output { data, .. } => bytes.extend_from_slice(&data),
            LogContent::Gap { dropped_bytes } => dropped += dropped_bytes,
        }
    }
    (bytes, dropped)
}

/// The living processes whose environment contains a text.
pub(crate) fn marked(mark: &str) -> Vec<i32> {
    let pids = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.windows(mark.len()).any(|window| window == mark.as_bytes())
    })
    .collect()
}

/// A spec whose processes can be counted by [`marked`].
pub(crate) fn marked_shell(script: &str, mark: &str) -> LaunchSpec {
    let mut spec = shell(script);
    spec.env.insert("LAUNCH_TEST_MARK".to_owned(), mark.to_owned());
    spec
}

/// A mark that no other test or run has.
pub(crate) fn mark(test: &str) -> String {
    format!("{test}-{}-{:?}", std::process::id(), std::time::SystemTime::now())
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
