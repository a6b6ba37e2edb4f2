//! What of this machine a run needs besides a login: programs with their versions, and space on the disk.

use std::{collections::BTreeMap, io, path::Path, time::Duration};

use launcher::tool::{Tool, ToolError};
use telemetry::chain::error_chain;

use crate::credentials;

/// Longest time for a program to tell its version.
const VERSION_WITHIN: Duration = Duration::from_secs(10);

/// Space on a disk, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskSpace {
    /// What a user without privileges may still write.
    pub free: u64,
    /// Its size.
    pub total: u64,
}

/// What space on a disk is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpaceLevel {
    /// Runs have room.
    Enough,
    /// People should know: less than 5 GiB.
    Little,
    /// Runs are about to fail: less than 512 MiB.
    None,
}

impl DiskSpace {
    /// What it is good for.
    #[must_use]
    pub const fn level(self) -> SpaceLevel {
        match self.free {
            ..0x2000_0000 => SpaceLevel::None,
            0x2000_0000..0x1_4000_0000 => SpaceLevel::Little,
            0x1_4000_0000.. => SpaceLevel::Enough,
        }
    }
}

/// What a program says of its version: the first line of what `--version` prints.
///
/// # Errors
/// What is wrong, in one line: it is not there, cannot be started, or prints nothing.
pub async fn version(
    command: &str,
    environment: &BTreeMap<String, String>,
) -> Result<String, String> {
    let path = environment.get("PATH").map(String::as_str).unwrap_or_default();
    let program = credentials::program(command, path)
        .map_err(|finding| finding.detail.unwrap_or_default())?;
    let tool = Tool {
        args: vec!["--version".to_owned()],
        env: environment.clone(),
        timeout: VERSION_WITHIN,
        output_limit: 4 << 10,
        ..Tool::new(&program, "/")
    };
    let output = tool.run().await.map_err(|error: ToolError| error_chain(&error).to_string())?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().map(str::trim).find(|line| !line.is_empty());
    match line {
        Some(line) if output.status == Some(0) => Ok(core_types::event::cut_text(line, 200)),
        Some(_) | None => Err(format!("`{} --version` does not work", program.display())),
    }
}

/// The space on the disk that a path is on.
///
/// # Errors
/// The system's error, where the path is not there.
pub fn disk_space(path: &Path) -> io::Result<DiskSpace> {
    let found = rustix::fs::statvfs(path)?;
    let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
    Ok(DiskSpace { free: bytes(found.f_bavail), total: bytes(found.f_blocks) })
}
