//! Starts the build's own tools (cargo, npm, apt-get, git) and waits for them.
//!
//! The one place in the workspace's tooling that starts a program directly. Servers, agents and whatever else may
//! outlive a command go through the launcher.

use std::{
    ffi::{OsStr, OsString},
    fmt,
    io::{self, Read as _},
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Output, Stdio},
    time::Instant,
};

use anyhow::{Context as _, Result, bail};

use crate::workspace;

/// Variables that `cargo run` sets for the program it runs and that would leak into a nested cargo.
const CARGO_RUN_VARIABLES: &[&str] = &[
    "CARGO_MANIFEST_DIR",
    "CARGO_MANIFEST_PATH",
    "CARGO_PKG_AUTHORS",
    "CARGO_PKG_DESCRIPTION",
    "CARGO_PKG_HOMEPAGE",
    "CARGO_PKG_LICENSE",
    "CARGO_PKG_LICENSE_FILE",
    "CARGO_PKG_NAME",
    "CARGO_PKG_README",
    "CARGO_PKG_REPOSITORY",
    "CARGO_PKG_RUST_VERSION",
    "CARGO_PKG_VERSION",
    "CARGO_PKG_VERSION_MAJOR",
    "CARGO_PKG_VERSION_MINOR",
    "CARGO_PKG_VERSION_PATCH",
    "CARGO_PKG_VERSION_PRE",
    "LD_LIBRARY_PATH",
];

/// A program with its arguments, ready to run.
#[derive(Debug)]
pub(crate) struct Tool {
    command: Command,
}

impl Tool {
    /// A program by name or path.
    #[expect(
        clippy::disallowed_methods,
        reason = "build tools run in the foreground and end with this command"
    )]
    pub(crate) fn new(program: impl AsRef<OsStr>) -> Self {
        let mut command = Command::new(program);
        command.current_dir(workspace::root());
        Self { command }
    }

    /// Cargo itself, with the workspace as its directory.
    pub(crate) fn cargo() -> Self {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
        let mut tool = Self::new(cargo);
        for name in CARGO_RUN_VARIABLES {
            tool.command.env_remove(name);
        }
        tool
    }

    /// The same with more arguments.
    #[must_use]
    pub(crate) fn args<I: IntoIterator<Item = A>, A: AsRef<OsStr>>(mut self, args: I) -> Self {
        self.command.args(args);
        self
    }

    /// The same with a variable.
    #[must_use]
    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// The same in another directory.
    #[must_use]
    pub(crate) fn directory(mut self, directory: &Path) -> Self {
        self.command.current_dir(directory);
        self
    }

    /// Runs it on this terminal; anything but success is an error.
    pub(crate) fn run(mut self) -> Result<()> {
        let status = self.command.status().with_context(|| format!("run `{self}`"))?;
        check(&self, status)
    }

    /// Runs it on this terminal and hands back how it ended.
    pub(crate) fn status(mut self) -> Result<ExitStatus> {
        self.command.status().with_context(|| format!("run `{self}`"))
    }

    /// Runs it without a terminal and hands back what it wrote to standard output, without the last line end.
    pub(crate) fn output(mut self) -> Result<String> {
        let output =
            self.command.stdin(Stdio::null()).output().with_context(|| format!("run `{self}`"))?;
        self.text_of(output)
    }

    /// Runs it without a terminal to its end, and says when it wrote its first byte; anything but success is an error.
    pub(crate) fn first_byte(mut self) -> Result<Instant> {
        let (input, output) = (Stdio::null(), Stdio::piped());
        let child = self.command.stdin(input).stdout(output).stderr(Stdio::null()).spawn();
        let mut child = child.with_context(|| format!("run `{self}`"))?;
        let mut output = child.stdout.take().context("take its output")?;
        output.read_exact(&mut [0]).with_context(|| format!("read the output of `{self}`"))?;
        let first = Instant::now();
        io::copy(&mut output, &mut io::sink()).context("read its output")?;
        let status = child.wait().with_context(|| format!("wait for `{self}`"))?;
        check(&self, status)?;
        Ok(first)
    }

    fn text_of(&self, output: Output) -> Result<String> {
        let Output { status, stdout, stderr } = output;
        if !status.success() {
            let stderr = String::from_utf8_lossy(&stderr);
            bail!("`{self}` ended with {status}: {}", stderr.trim());
        }
        let text = String::from_utf8(stdout).with_context(|| format!("read output of `{self}`"))?;
        Ok(text.trim_end().to_owned())
    }
}

fn check(tool: &Tool, status: ExitStatus) -> Result<()> {
    if !status.success() {
        bail!("`{tool}` ended with {status}");
    }
    Ok(())
}

impl fmt::Display for Tool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let program = Path::new(self.command.get_program());
        let name = program.file_name().unwrap_or(program.as_os_str());
        write!(f, "{}", name.display())?;
        for argument in self.command.get_args() {
            write!(f, " {}", argument.display())?;
        }
        Ok(())
    }
}

/// The first file of that name in the directories of `PATH`.
#[must_use]
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(name)).find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_command_is_named_with_its_arguments_and_its_words() {
        let error = Tool::new("git").args(["no-such-command"]).output().unwrap_err();
        let text = format!("{error:#}");
        assert!(text.starts_with("`git no-such-command` ended with"), "{text}");
        assert!(text.contains("is not a git command"), "{text}");
    }

    #[test]
    fn a_missing_program_is_an_error_and_no_panic() {
        assert!(Tool::new("no-such-program-here").run().is_err());
        assert_eq!(find_program("no-such-program-here"), None);
    }
}
