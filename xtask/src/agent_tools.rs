//! The agents' command lines, pinned in `ops/agents` and installed into `.opentiger/tools` of this workspace.
//!
//! npm checks every package against the hash in the lock file. No script of a package runs: the command line is one
//! native program, and this module links it itself.

use std::{
    fs::{self, File},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::{commands::Tool, console::line, workspace};

const PACKAGE: &str = "@anthropic-ai/claude-code";

/// The installed command lines.
#[derive(Debug, Clone)]
pub(crate) struct AgentTools {
    /// The program of Claude Code.
    pub claude: PathBuf,
}

/// Whether the pinned versions are installed.
#[must_use]
pub(crate) fn are_current() -> bool {
    let stamp = fs::read_to_string(directory().join("stamp")).ok();
    let hash = lock_hash().ok();
    hash.is_some() && stamp == hash && claude_program().is_file()
}

/// Installs the pinned versions where they are not there yet.
pub(crate) fn ensure() -> Result<AgentTools> {
    // Looked at without the lock as well: what is installed can be used where nothing can be written.
    if !are_current() {
        install_under_lock()?;
    }
    Ok(AgentTools { claude: claude_program() })
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
    link_claude(&directory)?;
    fs::write(directory.join("stamp"), lock_hash()?).context("note what is installed")
}

/// Links the program of the platform package that runs here: an old npm installs more than one of them.
fn link_claude(directory: &Path) -> Result<()> {
    let version = pinned_version()?;
    let packages = directory.join("node_modules/@anthropic-ai");
    let mut tried = Vec::new();
    for entry in
        fs::read_dir(&packages).with_context(|| format!("read `{}`", packages.display()))?
    {
        let program = entry?.path().join("claude");
        if !program.is_file() {
            continue;
        }
        match Tool::new(&program).args(["--version"]).output() {
            Ok(text) if text.starts_with(&version) => {
                return replace_link(&program, &claude_program());
            }
            Ok(text) => tried.push(format!("`{}` says `{text}`", program.display())),
            Err(error) => tried.push(format!("{error:#}")),
        }
    }
    bail!("no program of {PACKAGE} {version} runs on this machine: {}", tried.join("; "))
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

fn claude_program() -> PathBuf {
    directory().join("bin/claude")
}

fn pins() -> PathBuf {
    workspace::root().join("ops/agents")
}

fn lock_hash() -> Result<String> {
    let lock = fs::read(pins().join("package-lock.json")).context("read the agents' lock file")?;
    Ok(Sha256::digest(&lock).iter().map(|byte| format!("{byte:02x}")).collect())
}

fn pinned_version() -> Result<String> {
    let text = fs::read_to_string(pins().join("package.json")).context("read the agents' pins")?;
    let pins: Value = serde_json::from_str(&text).context("read the agents' pins")?;
    let version = pins.get("dependencies").and_then(|all| all.get(PACKAGE)).and_then(Value::as_str);
    Ok(version.with_context(|| format!("find {PACKAGE} in the agents' pins"))?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_are_exact_and_the_lock_holds_their_hash() {
        let version = pinned_version().unwrap();
        assert!(
            version.chars().all(|c| c.is_ascii_digit() || c == '.'),
            "{version} is no exact version"
        );
        let text = fs::read_to_string(pins().join("package-lock.json")).unwrap();
        let lock: Value = serde_json::from_str(&text).unwrap();
        let packages = lock.get("packages").and_then(Value::as_object).unwrap();
        for (name, package) in packages.iter().filter(|(name, _)| !name.is_empty()) {
            let integrity = package.get("integrity").and_then(Value::as_str).unwrap_or_default();
            assert!(integrity.starts_with("sha512-"), "{name} has no hash");
            assert_eq!(
                package.get("version").and_then(Value::as_str),
                Some(version.as_str()),
                "{name}"
            );
        }
    }
}
