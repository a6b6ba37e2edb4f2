//! The agents' command lines, pinned in `ops/agents` and installed into `.opentiger/tools` of this workspace.
//!
//! npm checks every package against the hash in the lock file. No script of a package runs: each command line is
//! one native program, and this module links it itself.

use std::{
    fs::{self, File},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::{commands::Tool, console::line, workspace};

/// A command line whose program lies in a package for each platform.
struct Pinned {
    /// The package that is pinned.
    package: &'static str,
    /// The directory of `node_modules` in which its platforms' packages are.
    platforms: &'static str,
    /// How their names begin.
    prefix: &'static str,
    /// The program's path in such a package, and its name.
    program: &'static str,
    name: &'static str,
}

const CLAUDE: Pinned = Pinned {
    package: "@anthropic-ai/claude-code",
    platforms: "@anthropic-ai",
    prefix: "claude-code-",
    program: "claude",
    name: "claude",
};
/// Its platforms' packages are pinned themselves: the package that names all of them cannot be locked where a registry
/// has not all of them.
const OPENCODE: Pinned = Pinned {
    package: "opencode-linux-x64",
    platforms: "",
    prefix: "opencode-",
    program: "bin/opencode",
    name: "opencode",
};

/// The installed command lines.
#[derive(Debug, Clone)]
pub(crate) struct AgentTools {
    /// The program of Claude Code.
    pub claude: PathBuf,
    /// The program of opencode; none where no pinned one is for this platform.
    pub opencode: Option<PathBuf>,
}

impl AgentTools {
    /// The settings that name them.
    pub(crate) fn settings(&self) -> Vec<(&'static str, &Path)> {
        let opencode = self.opencode.iter().map(|program| ("OPENCODE_COMMAND", program.as_path()));
        std::iter::once(("CLAUDE_CODE_COMMAND", self.claude.as_path())).chain(opencode).collect()
    }
}

/// Whether the pinned versions are installed.
#[must_use]
pub(crate) fn are_current() -> bool {
    let stamp = fs::read_to_string(directory().join("stamp")).ok();
    let hash = lock_hash().ok();
    hash.is_some() && stamp == hash && CLAUDE.link().is_file()
}

/// Installs the pinned versions where they are not there yet.
pub(crate) fn ensure() -> Result<AgentTools> {
    // Looked at without the lock as well: what is installed can be used where nothing can be written.
    if !are_current() {
        install_under_lock()?;
    }
    let opencode = Some(OPENCODE.link()).filter(|program| program.is_file());
    Ok(AgentTools { claude: CLAUDE.link(), opencode })
}

fn install_under_lock() -> Result<()> {
    let folder = workspace::local_dir();
    fs::create_dir_all(&folder).with_context(|| format!("make `{}`", folder.display()))?;
    let lock = File::create(folder.join("tools.lock")).context("open the tools' lock")?;
    lock.lock().context("wait for another installation of the tools")?;
    if are_current() {
        return Ok(());
    }
    install()
}

fn install() -> Result<()> {
    let directory = directory();
    line(format!("installing the agents' command lines into `{}`", directory.display()));
    fs::create_dir_all(directory.join("bin")).context("make the tools' directory")?;
    for name in ["package.json", "package-lock.json"] {
        fs::copy(pins().join(name), directory.join(name))
            .with_context(|| format!("copy `{name}`"))?;
    }
    Tool::new("npm")
        .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier"])
        .args(["--loglevel=error"])
        .directory(&directory)
        .run()
        .context("install the agents' command lines; needs npm 7 or newer and the registry")?;
    CLAUDE.link_program(&directory)?;
    if let Err(error) = OPENCODE.link_program(&directory) {
        line(format!("opencode is not installed, set OPENCODE_COMMAND to use it: {error:#}"));
    }
    fs::write(directory.join("stamp"), lock_hash()?).context("note what is installed")
}

impl Pinned {
    /// Links the program of the platform package that runs here: npm may install more than one of them.
    fn link_program(&self, directory: &Path) -> Result<()> {
        let version = self.version()?;
        let packages = directory.join("node_modules").join(self.platforms);
        let entries =
            fs::read_dir(&packages).with_context(|| format!("read `{}`", packages.display()))?;
        let mut tried = Vec::new();
        for entry in entries {
            let entry = entry.with_context(|| format!("read `{}`", packages.display()))?;
            let program = entry.path().join(self.program);
            let of_platform = entry.file_name().to_string_lossy().starts_with(self.prefix);
            if !of_platform || !program.is_file() {
                continue;
            }
            match Tool::new(&program).args(["--version"]).output() {
                Ok(text) if text.starts_with(&version) => {
                    return replace_link(&program, &self.link());
                }
                Ok(text) => tried.push(format!("`{}` says `{text}`", program.display())),
                Err(error) => tried.push(format!("{error:#}")),
            }
        }
        let tried = tried.join("; ");
        bail!("no program of {} {version} runs on this machine: {tried}", self.package)
    }

    /// Where the program is linked.
    fn link(&self) -> PathBuf {
        directory().join("bin").join(self.name)
    }

    fn version(&self) -> Result<String> {
        let text =
            fs::read_to_string(pins().join("package.json")).context("read the agents' pins")?;
        let pins: Value = serde_json::from_str(&text).context("read the agents' pins")?;
        let version = ["dependencies", "optionalDependencies"]
            .iter()
            .find_map(|kind| pins.get(kind)?.get(self.package)?.as_str());
        let version = version.with_context(|| format!("find {} in the agents' pins", self.package));
        Ok(version?.to_owned())
    }
}

/// Points the link at the program, by a path that stays right when the workspace is moved.
fn replace_link(program: &Path, link: &Path) -> Result<()> {
    let target = program.strip_prefix(directory()).context("name the program within its folder")?;
    let fresh = link.with_extension("new");
    drop(fs::remove_file(&fresh));
    symlink(Path::new("..").join(target), &fresh)
        .with_context(|| format!("link `{}`", fresh.display()))?;
    fs::rename(&fresh, link).with_context(|| format!("link `{}`", link.display()))
}

fn directory() -> PathBuf {
    workspace::local_dir().join("tools")
}

fn pins() -> PathBuf {
    workspace::root().join("ops/agents")
}

fn lock_hash() -> Result<String> {
    let lock = fs::read(pins().join("package-lock.json")).context("read the agents' lock file")?;
    Ok(Sha256::digest(&lock).iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_are_exact_and_the_lock_holds_their_hash() {
        let pinned = [CLAUDE, OPENCODE];
        let versions = pinned.map(|pinned| (pinned.package, pinned.version().unwrap()));
        for (package, version) in &versions {
            let exact = version.chars().all(|c| c.is_ascii_digit() || c == '.');
            assert!(exact, "{version} is no exact version of {package}");
        }
        let text = fs::read_to_string(pins().join("package-lock.json")).unwrap();
        let lock: Value = serde_json::from_str(&text).unwrap();
        let packages = lock.get("packages").and_then(Value::as_object).unwrap();
        for (name, package) in packages.iter().filter(|(name, _)| !name.is_empty()) {
            let integrity = package.get("integrity").and_then(Value::as_str).unwrap_or_default();
            assert!(integrity.starts_with("sha512-"), "{name} has no hash");
            let of_claude = name.contains("claude-code");
            let (_, version) = &versions[usize::from(!of_claude)];
            assert_eq!(package.get("version").and_then(Value::as_str), Some(&**version), "{name}");
        }
    }
}
