//! The driver's process with everything it starts: gone with this value, whatever happens to the test.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};
use testing::programs::installed_program;

/// A chromedriver on a port of its own.
///
/// It stays in the test's process group, so that a runner that gives a test up ends it as well.
pub(super) struct Driver {
    program: Child,
    pub(super) port: u16,
}

impl Driver {
    pub(super) fn start() -> Self {
        #[expect(clippy::disallowed_methods, reason = "a test's own tool, ended by it")]
        let mut command = Command::new(installed_program("chromedriver"));
        let mut program = command
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver starts");
        let output = program.stdout.take();
        // Owned before anything can fail.
        let mut driver = Self { program, port: 0 };
        let output = BufReader::new(output.expect("standard output is a pipe"));
        let port = output.lines().map_while(Result::ok).find_map(|line| {
            let (_, port) = line.split_once("started successfully on port ")?;
            port.trim_end_matches('.').parse().ok()
        });
        driver.port = port.expect("chromedriver says its port");
        driver
    }

    /// Itself and all that it started and that lives.
    pub(super) fn family(&self) -> Vec<Process> {
        let mut family: Vec<Process> = Process::find(self.program.id()).into_iter().collect();
        let mut seen = 0;
        while let Some(parent) = family.get(seen) {
            let children = parent.children();
            family.extend(children);
            seen += 1;
        }
        family
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // The browser goes on when its driver is killed, and is asked for nobody's sake to end well.
        for process in self.family() {
            process.kill();
        }
        self.program.wait().ok();
    }
}

/// A process, told from a later one with the same number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Process {
    pid: u32,
    started: String,
}

impl Process {
    /// The living process of this number.
    fn find(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (_, rest) = stat.rsplit_once(") ")?;
        let mut fields = rest.split(' ');
        let dead = matches!(fields.next(), Some("Z" | "X") | None);
        // The first after the name is field 3, the time of its start field 22.
        let started = fields.nth(18)?.to_owned();
        (!dead).then_some(Self { pid, started })
    }

    pub(super) fn is_alive(&self) -> bool {
        Self::find(self.pid).as_ref() == Some(self)
    }

    fn children(&self) -> Vec<Self> {
        let threads = fs::read_dir(format!("/proc/{}/task", self.pid));
        let lists = threads
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
        let pids: Vec<u32> = lists
            .flat_map(|list| {
                list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>()
            })
            .collect();
        pids.into_iter().filter_map(Self::find).collect()
    }

    fn kill(&self) {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid.filter(|_| self.is_alive()) {
            // It may have ended since.
            kill_process(pid, Signal::KILL).ok();
        }
    }
}
