//! Docker engines for tests: the shared one that `cargo xtask test` starts, and private ones that a test may stop or kill.
//!
//! A private engine has everything of its own: socket, data, bridge, addresses, cgroup. It writes no firewall rules, for
//! those would be the machine's: its containers reach this machine and not the world. It needs root.

mod remains;

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    os::unix::{net::UnixStream, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::Instant;

use self::remains::Place;
pub use self::remains::clear_abandoned;
use crate::programs::installed_program;

/// The variable that names the shared engine, as `DOCKER_HOST` does; `cargo xtask test` sets it and those below.
const HOST_VARIABLE: &str = "OPENTIGER_TEST_DOCKER_HOST";
const BASE_IMAGE_VARIABLE: &str = "OPENTIGER_TEST_BASE_IMAGE";
const WORKER_IMAGE_VARIABLE: &str = "OPENTIGER_TEST_WORKER_IMAGE";
const STATIC_WORKER_VARIABLE: &str = "OPENTIGER_TEST_STATIC_WORKER";
/// How long an engine may take to answer, on a machine that has much else to do.
const START_LIMIT: Duration = Duration::from_secs(90);
/// How long an engine may take to stop: it waits for its containers.
const STOP_LIMIT: Duration = Duration::from_secs(40);
const POLL: Duration = Duration::from_millis(20);

/// Where the shared engine answers, in the form of `DOCKER_HOST`. Tests never stop or kill it.
///
/// # Panics
/// When `OPENTIGER_TEST_DOCKER_HOST` is not set.
#[must_use]
pub fn shared_host() -> String {
    variable(HOST_VARIABLE)
}

/// The image of a bare Debian: no certificates, no git, no command line of an agent.
///
/// # Panics
/// When `OPENTIGER_TEST_BASE_IMAGE` is not set.
#[must_use]
pub fn base_image() -> String {
    variable(BASE_IMAGE_VARIABLE)
}

/// The image with the pinned command lines of the agents.
///
/// # Panics
/// When `OPENTIGER_TEST_WORKER_IMAGE` is not set.
#[must_use]
pub fn worker_image() -> String {
    variable(WORKER_IMAGE_VARIABLE)
}

/// The worker that runs in any image.
///
/// # Panics
/// When `OPENTIGER_TEST_STATIC_WORKER` is not set.
#[must_use]
pub fn static_worker() -> PathBuf {
    PathBuf::from(variable(STATIC_WORKER_VARIABLE))
}

fn variable(name: &str) -> String {
    let value = std::env::var_os(name).and_then(|value| value.into_string().ok());
    value.unwrap_or_else(|| {
        panic!(
            "{name} is not set; run the tests with `cargo xtask test`, which starts an engine and sets it, or leave the \
             tests that need Docker out with `--without-docker`"
        )
    })
}

/// How a private engine is started.
#[derive(Debug, Clone, Default)]
pub struct EngineOptions {
    /// Containers go on while the engine is down; without it the engine ends them as soon as it is back.
    pub live_restore: bool,
    /// Where its images are kept for the next time; none is a folder that ends with the engine.
    pub kept_data: Option<PathBuf>,
}

/// An engine of its owner alone. Dropping it ends it and its containers at once, and leaves nothing on the machine.
#[derive(Debug)]
pub struct PrivateEngine {
    options: EngineOptions,
    place: Place,
    process: Option<Child>,
}

impl PrivateEngine {
    /// Starts an engine without images.
    ///
    /// # Panics
    /// When it cannot be started.
    pub async fn start(live_restore: bool) -> Self {
        let options = EngineOptions { live_restore, kept_data: None };
        Self::open(options).await.unwrap_or_else(|error| panic!("a private engine starts: {error}"))
    }

    /// Starts an engine.
    ///
    /// # Errors
    /// This is not root, a program is missing, or the engine does not answer in time; the text has its last words.
    pub async fn open(options: EngineOptions) -> io::Result<Self> {
        if !rustix::process::geteuid().is_root() {
            return Err(io::Error::other("a Docker engine of one's own needs root"));
        }
        clear_abandoned();
        let place = Place::reserve(options.kept_data.clone())?;
        let mut engine = Self { options, place, process: None };
        engine.place.make_bridge()?;
        engine.try_start_again().await?;
        Ok(engine)
    }

    /// Where it answers, in the form of `DOCKER_HOST`.
    #[must_use]
    pub fn host(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// Its socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.place.run.join("docker.sock")
    }

    /// Its process; none while it is down.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Child::id)
    }

    /// The command line `docker`, speaking to this engine.
    #[must_use]
    pub fn docker(&self) -> Command {
        docker_at(&self.host())
    }

    /// Brings images of the shared engine here, one after another.
    ///
    /// # Panics
    /// When the shared engine lacks one.
    pub fn load_from_shared(&self, images: &[&str]) {
        for image in images {
            let mut save = docker_at(&shared_host())
                .args(["save", image])
                .stdout(Stdio::piped())
                .spawn()
                .expect("docker can be started");
            let image_data = save.stdout.take().expect("its output is a pipe");
            let loaded = self.docker().args(["load", "--quiet"]).stdin(image_data).output();
            let saved = save.wait().expect("docker ends");
            let loaded = loaded.expect("docker can be started");
            let said = String::from_utf8_lossy(&loaded.stderr);
            assert!(
                saved.success() && loaded.status.success(),
                "`{image}` is not brought over: {said}"
            );
        }
    }

    /// Kills it (`kill -9`). What it runs goes on for now; its socket stays, and nobody answers there.
    ///
    /// # Panics
    /// When it is down already.
    pub fn kill(&mut self) {
        let mut process = self.process.take().expect("the engine runs");
        process.kill().expect("a child can be killed");
        process.wait().expect("a killed child ends");
        self.place.wait_for_the_end_of_the_supervisor();
    }

    /// Asks it to stop, and waits until it has. Its containers end, unless it restores them later.
    ///
    /// # Panics
    /// When it is down already.
    pub async fn stop(&mut self) {
        let mut process = self.process.take().expect("the engine runs");
        let pid = i32::try_from(process.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.expect("a child has an id"), Signal::TERM).expect("the child is alive");
        let deadline = Instant::now() + STOP_LIMIT;
        while process.try_wait().expect("a child can be waited for").is_none() {
            if Instant::now() > deadline {
                process.kill().expect("a child can be killed");
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Starts it again where it was, and waits until it answers.
    ///
    /// # Panics
    /// When it does not.
    pub async fn start_again(&mut self) {
        self.try_start_again()
            .await
            .unwrap_or_else(|error| panic!("the engine starts again: {error}"));
    }

    /// Ends it with its containers at once, and says what could not be taken away: nothing, as a rule.
    #[must_use]
    pub fn end(self) -> Vec<String> {
        let place = self.place.clone();
        drop(self);
        place.remains()
    }

    async fn try_start_again(&mut self) -> io::Result<()> {
        self.place.forget_the_killed();
        let log = File::options().create(true).append(true).open(self.log())?;
        #[expect(clippy::disallowed_methods, reason = "a test's engine is no part of the product")]
        let mut command = Command::new(daemon().ok_or_else(|| {
            io::Error::other(
                "there is no `dockerd`: install Docker's engine (`apt-get install docker.io`)",
            )
        })?);
        command.args(self.place.arguments());
        if self.options.live_restore {
            command.arg("--live-restore");
        }
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        // An interrupt of the terminal is for whoever started this, who then ends it in order.
        self.process = Some(command.process_group(0).spawn()?);
        self.wait_until_it_answers().await
    }

    async fn wait_until_it_answers(&mut self) -> io::Result<()> {
        let deadline = Instant::now() + START_LIMIT;
        while !answers(&self.socket()) {
            let ended = self.process.as_mut().map_or(Ok(None), Child::try_wait)?;
            if ended.is_some() || Instant::now() > deadline {
                let words = fs::read_to_string(self.log()).unwrap_or_default();
                let last: Vec<&str> = words.lines().rev().take(6).collect();
                let last: Vec<&str> = last.into_iter().rev().collect();
                let what = if ended.is_some() { "ended" } else { "does not answer" };
                return Err(io::Error::other(format!("`dockerd` {what}: {}", last.join("\n"))));
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    fn log(&self) -> PathBuf {
        self.place.run.join("log")
    }
}

impl Drop for PrivateEngine {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().ok();
            process.wait().ok();
        }
        self.place.clear();
    }
}

/// The engine's program, which Debian puts where only root looks.
#[must_use]
pub fn daemon() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places =
        std::env::split_paths(&path).chain(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from));
    places.map(|place| place.join("dockerd")).find(|program| program.is_file())
}

fn docker_at(host: &str) -> Command {
    #[expect(clippy::disallowed_methods, reason = "a test's errand is no part of the product")]
    let mut command = Command::new(installed_program("docker"));
    command.args(["--host", host]);
    command
}

fn answers(socket: &Path) -> bool {
    let ask = || -> io::Result<String> {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(b"GET /_ping HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| answer.contains(" 200 "))
}

#[cfg(test)]
mod docker {
    use super::*;

    fn said(engine: &PrivateEngine, args: &[&str]) -> String {
        let output = engine.docker().args(args).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "docker {args:?}: {stderr}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// A container that was alive before its engine was killed, and whether it still is when the engine is back.
    async fn lives_through_a_killed_engine(live_restore: bool) -> bool {
        let mut engine = PrivateEngine::start(live_restore).await;
        engine.load_from_shared(&[&base_image()]);
        let id = said(&engine, &["run", "--detach", &base_image(), "sleep", "600"]);
        engine.kill();
        assert!(!answers(&engine.socket()));
        engine.start_again().await;
        said(&engine, &["inspect", "--format", "{{.State.Running}}", &id]) == "true"
    }

    #[tokio::test]
    async fn a_container_lives_through_a_killed_engine_that_restores() {
        assert!(lives_through_a_killed_engine(true).await);
    }

    #[tokio::test]
    async fn a_container_ends_with_a_killed_engine_that_does_not_restore() {
        assert!(!lives_through_a_killed_engine(false).await);
    }

    #[tokio::test]
    async fn two_engines_share_nothing_and_leave_nothing() {
        let (one, two) = tokio::join!(PrivateEngine::start(false), PrivateEngine::start(true));
        one.load_from_shared(&[&base_image()]);
        said(&one, &["network", "create", "besides"]);
        let network = ["run", "--detach", "--network", "besides", &base_image(), "sleep", "600"];
        said(&one, &network);
        assert_eq!(said(&two, &["images", "--quiet"]), "");
        assert_eq!(said(&two, &["ps", "--quiet"]), "");
        let gateway =
            ["network", "inspect", "--format", "{{(index .IPAM.Config 0).Gateway}}", "bridge"];
        assert_ne!(said(&one, &gateway), said(&two, &gateway));
        for engine in [one, two] {
            assert_eq!(engine.end(), [""; 0]);
        }
    }
}
