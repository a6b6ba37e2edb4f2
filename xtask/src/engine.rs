//! A Docker engine, spoken to by the `docker` command line.
//!
//! The product speaks to the engine itself; these are the build's own errands.

use anyhow::{Context as _, Result, bail};

use crate::commands::{Tool, find_program};

/// An engine that answers.
#[derive(Debug, Clone)]
pub(crate) struct Engine {
    /// As in `DOCKER_HOST`; none is what the command line takes by itself.
    host: Option<String>,
    /// Whether containers of a build share this machine's network: an engine without rules of its own has no way out.
    shares_network: bool,
}

impl Engine {
    /// The engine that this user's `docker` speaks to.
    pub(crate) fn of_user() -> Result<Self> {
        Self { host: None, shares_network: false }.that_answers()
    }

    /// An engine without rules of its own, for tests.
    pub(crate) fn at(host: &str) -> Result<Self> {
        Self { host: Some(host.to_owned()), shares_network: true }.that_answers()
    }

    fn that_answers(self) -> Result<Self> {
        if find_program("docker").is_none() {
            bail!(
                "there is no `docker` in PATH: install Docker (on Debian and Ubuntu: `apt-get install docker.io`)"
            );
        }
        let version = self.docker().args(["version", "--format", "{{.Server.Version}}"]).output();
        version.context(
            "speak to the Docker engine; start it (`systemctl start docker`), and be root or in its group `docker`",
        )?;
        Ok(self)
    }

    /// The command line, before its arguments.
    pub(crate) fn docker(&self) -> Tool {
        let tool = Tool::new("docker");
        match &self.host {
            Some(host) => tool.args(["--host", host]),
            None => tool,
        }
    }

    /// The arguments by which a build reaches the network.
    pub(crate) const fn build_network(&self) -> &'static [&'static str] {
        if self.shares_network { &["--network", "host"] } else { &[] }
    }

    /// Whether an image is there.
    pub(crate) fn has_image(&self, name: &str) -> bool {
        self.inspect(name, "{{.Id}}").is_ok()
    }

    /// How many bytes an image has.
    pub(crate) fn image_bytes(&self, name: &str) -> Result<u64> {
        self.inspect(name, "{{.Size}}")?.parse().context("read the size of an image")
    }

    /// A label of an image; none where either is missing.
    pub(crate) fn image_label(&self, name: &str, label: &str) -> Option<String> {
        let format = format!("{{{{index .Config.Labels {label:?}}}}}");
        self.inspect(name, &format).ok().filter(|value| !value.is_empty())
    }

    fn inspect(&self, name: &str, format: &str) -> Result<String> {
        self.docker().args(["image", "inspect", "--format", format, name]).output()
    }
}

#[cfg(test)]
impl Engine {
    /// The engine that `cargo xtask test` started.
    pub(crate) fn of_tests() -> Self {
        let host =
            std::env::var_os("OPENTIGER_TEST_DOCKER_HOST").and_then(|it| it.into_string().ok());
        let host = host.expect("OPENTIGER_TEST_DOCKER_HOST is set; `cargo xtask test` does it");
        Self { host: Some(host), shares_network: true }
    }

    /// The name of the image that was built for the tests.
    pub(crate) fn worker_image_of_tests() -> String {
        let name = std::env::var_os("OPENTIGER_TEST_WORKER_IMAGE");
        let name = name.and_then(|it| it.into_string().ok());
        name.expect("OPENTIGER_TEST_WORKER_IMAGE is set; `cargo xtask test` does it")
    }
}
