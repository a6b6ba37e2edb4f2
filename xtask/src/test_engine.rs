//! The Docker engine of a test run: started for it, with the images that the tests need, and gone with it.
//!
//! It is nobody's engine but the tests': the machine's own is left alone, its firewall rules as well. Its images are kept
//! in this workspace's folder, so they are built once.

use std::{
    fs::{self, File},
    path::Path,
    time::Instant,
};

use anyhow::{Context as _, Result, bail};
use testing::engine::{EngineOptions, PrivateEngine, daemon};

use crate::{
    commands::Tool,
    console::{duration, error_line, line},
    engine::Engine,
    image::{self, Wanted},
    install, workspace,
};

/// What to do where there can be no engine.
const WITHOUT: &str = "`--without-docker` leaves the tests that need one out";

/// An engine that runs until this value is ended or dropped.
#[derive(Debug)]
pub(crate) struct TestEngine {
    engine: PrivateEngine,
    base: String,
    /// Two engines cannot have the same data; whoever comes second waits.
    _data: File,
}

impl TestEngine {
    /// Fails where an engine could not be started, before anything that takes time.
    pub(crate) fn is_possible() -> Result<()> {
        if !install::is_root()? {
            bail!(
                "the tests start Docker engines of their own, which needs root: run this as root; {WITHOUT}"
            );
        }
        if daemon().is_none() {
            bail!("there is no `dockerd`: install Docker's engine; {WITHOUT}");
        }
        Ok(())
    }

    /// Starts one with the images for the tests.
    pub(crate) async fn start() -> Result<Self> {
        let begun = Instant::now();
        let data = own_data()?;
        let kept_data = Some(workspace::local_dir().join("engine"));
        let engine = PrivateEngine::open(EngineOptions { live_restore: false, kept_data }).await;
        let engine = engine.with_context(|| "start a Docker engine of our own")?;
        let host = engine.host();
        let image =
            tokio::task::block_in_place(|| image::ensure(&Engine::at(&host)?, &Wanted::default()));
        let image = image.context("make the images")?;
        let took = duration(begun.elapsed());
        line(format!("a Docker engine of our own, with its images: ready in {took}"));
        Ok(Self { engine, base: image.base, _data: data })
    }

    /// Where it answers, as in `DOCKER_HOST`.
    pub(crate) fn host(&self) -> String {
        self.engine.host()
    }

    /// The variables by which tests find it.
    pub(crate) fn variables(&self, static_worker: &Path) -> Vec<(&'static str, String)> {
        vec![
            ("OPENTIGER_TEST_DOCKER_HOST", self.host()),
            ("OPENTIGER_TEST_BASE_IMAGE", self.base.clone()),
            ("OPENTIGER_TEST_WORKER_IMAGE", image::DEFAULT_TAG.to_owned()),
            ("OPENTIGER_TEST_STATIC_WORKER", static_worker.display().to_string()),
        ]
    }

    /// Ends it. What was left in it, and on the machine, is told and taken away.
    ///
    /// # Errors
    /// Something was left.
    pub(crate) async fn end(mut self) -> Result<()> {
        let docker = Engine::at(&self.engine.host());
        let mut left = docker.map_or_else(|_| Vec::new(), |docker| clear(&docker));
        self.engine.stop().await;
        left.extend(self.engine.end());
        testing::engine::clear_abandoned();
        if left.is_empty() {
            return Ok(());
        }
        error_line(format!("left behind:\n  {}", left.join("\n  ")));
        bail!("{} things were left in the Docker engine or on the machine", left.len());
    }
}

fn own_data() -> Result<File> {
    let path = workspace::local_dir().join("engine.lock");
    fs::create_dir_all(workspace::local_dir()).context("make the workspace's folder")?;
    let lock = File::create(&path).with_context(|| format!("open `{}`", path.display()))?;
    if lock.try_lock().is_err() {
        line("waiting for another test run to end its Docker engine");
        lock.lock().context("wait for another test run")?;
    }
    Ok(lock)
}

/// Removes what tests left in an engine, and names it.
fn clear(engine: &Engine) -> Vec<String> {
    const KINDS: &[(&str, &[&str], &[&str])] = &[
        ("container", &["ps", "--all", "--quiet"], &["rm", "--force", "--volumes"]),
        ("network", &["network", "ls", "--quiet", "--filter", "type=custom"], &["network", "rm"]),
        ("volume", &["volume", "ls", "--quiet"], &["volume", "rm", "--force"]),
    ];
    let mut left = Vec::new();
    for (kind, list, remove) in KINDS {
        let found = engine.docker().args(*list).output().unwrap_or_default();
        for id in found.lines() {
            let format = ["inspect", "--format", "{{.Name}} {{json .Config.Labels}}", id];
            let named = engine.docker().args(format).output().unwrap_or_default();
            left.push(format!("{kind} {id} {named}"));
            drop(engine.docker().args(*remove).args([id]).output());
        }
    }
    left
}

/// The tests that need Docker, as the runner names them.
pub(crate) fn names_of_docker_tests() -> Result<Vec<String>> {
    let list = Tool::cargo()
        .args(["nextest", "list", "--workspace", "--locked", "--message-format", "oneline"])
        .args(["--filterset", "test(docker)"])
        .output()
        .context("list the tests that need Docker")?;
    Ok(list.lines().map(str::to_owned).collect())
}
