//! An engine of the test's own, to be killed and started again.

use std::{
    fs::File,
    path::Path,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use super::support::{docker, host, image};

/// Starting an engine takes seconds; on a machine at its limits it takes many.
const PATIENCE: Duration = Duration::from_secs(60);

/// A private engine. Its bridge is its own, and it writes no firewall rules; told to have no bridge
/// it would remove `docker0`, which is another engine's.
pub(crate) struct PrivateEngine {
    bridge: String,
    scratch: tempfile::TempDir,
    live_restore: bool,
    daemon: Option<Child>,
}

impl PrivateEngine {
    /// Starts one that has the base image.
    pub(crate) fn start(live_restore: bool) -> Self {
        let scratch = tempfile::Builder::new().prefix("ot-engine").tempdir().unwrap();
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let (pid, count) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let bridge = format!("otl{pid}-{count}");
        ip(&["link", "add", "name", &bridge, "type", "bridge"]);
        let address = format!("198.19.{}.{}/29", pid % 256, count % 31 * 8 + 1);
        ip(&["addr", "add", &address, "dev", &bridge]);
        ip(&["link", "set", &bridge, "up"]);
        let mut engine = Self { bridge, scratch, live_restore, daemon: None };
        engine.restart();
        let archive = engine.path().join("image.tar");
        docker(&host(), &["save", "-o", &archive.display().to_string(), &image()]);
        docker(&engine.host(), &["load", "-i", &archive.display().to_string()]);
        std::fs::remove_file(archive).unwrap();
        engine
    }

    pub(crate) fn host(&self) -> String {
        format!("unix://{}/docker.sock", self.path().display())
    }

    fn path(&self) -> &Path {
        self.scratch.path()
    }

    /// Starts the daemon and waits until it answers.
    #[expect(clippy::disallowed_methods, reason = "a server of the test's own")]
    pub(crate) fn restart(&mut self) {
        assert!(self.daemon.is_none(), "it runs");
        let log = File::options().append(true).create(true).open(self.path().join("log")).unwrap();
        let place = |name: &str| self.path().join(name).display().to_string();
        let mut command = Command::new("dockerd");
        command.args(["--data-root", &place("data"), "--exec-root", &place("exec")]);
        command.args(["--pidfile", &place("pid"), "-H", &self.host()]);
        command.args([
            &format!("--bridge={}", self.bridge),
            "--iptables=false",
            "--ip-forward=false",
            "--ip-masq=false",
        ]);
        command.args(["--config-file", &place("none.json")]);
        std::fs::write(self.path().join("none.json"), "{}").unwrap();
        if self.live_restore {
            command.arg("--live-restore");
        }
        let errors = log.try_clone().unwrap();
        command.stdin(Stdio::null()).stdout(log).stderr(errors);
        self.daemon = Some(command.spawn().unwrap());
        let deadline = Instant::now() + PATIENCE;
        while !docker(&self.host(), &["version", "-f", "{{.Server.Version}}"]).contains('.')
            || docker(&self.host(), &["version"]).contains("Cannot connect")
        {
            let log = || std::fs::read_to_string(self.path().join("log")).unwrap();
            assert!(Instant::now() < deadline, "the engine does not answer:\n{}", log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Kills the daemon with `SIGKILL`.
    pub(crate) fn kill(&mut self) {
        let mut daemon = self.daemon.take().unwrap();
        daemon.kill().unwrap();
        daemon.wait().unwrap();
        // Its containerd dies with it, and a new daemon would wait for one that it takes for alive.
        let deadline = Instant::now() + PATIENCE;
        let is_containerd = |pid: &i32| {
            let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            name.trim() == "containerd"
        };
        while self.helpers().iter().any(is_containerd) {
            assert!(Instant::now() < deadline, "containerd lives on");
            std::thread::sleep(Duration::from_millis(10));
        }
        for id in ["pid", "exec/containerd/containerd.pid"] {
            std::fs::remove_file(self.path().join(id)).ok();
        }
    }

    /// Everything that has a path of this engine in its arguments: helpers that outlive it.
    fn helpers(&self) -> Vec<i32> {
        let place = self.path().display().to_string();
        let pids = std::fs::read_dir("/proc").unwrap().flatten();
        let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        pids.filter(|pid| {
            let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&arguments).contains(&place)
        })
        .collect()
    }
}

impl Drop for PrivateEngine {
    fn drop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            daemon.kill().ok();
            daemon.wait().ok();
        }
        for _ in 0..100 {
            let helpers = self.helpers();
            if helpers.is_empty() {
                break;
            }
            for pid in helpers {
                let pid = rustix::process::Pid::from_raw(pid).unwrap();
                rustix::process::kill_process(pid, rustix::process::Signal::KILL).ok();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        // What it had mounted, deepest first.
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let place = self.path().display().to_string();
        let points = mounts.lines().filter_map(|line| line.split(' ').nth(1));
        let mut points: Vec<&str> = points.filter(|point| point.starts_with(&place)).collect();
        points.sort_by_key(|point| std::cmp::Reverse(point.len()));
        for point in points {
            rustix::mount::unmount(point, rustix::mount::UnmountFlags::DETACH).ok();
        }
        ip(&["link", "del", &self.bridge]);
    }
}

#[expect(clippy::disallowed_methods, reason = "the machine's own tool")]
fn ip(args: &[&str]) {
    assert!(Command::new("ip").args(args).status().unwrap().success(), "ip {args:?}");
}
