//! Which process is meant, beyond doubt: pid, start time and boot.
//!
//! A pid alone is reused. Owns reading the three from `/proc`; it signals nothing.

use std::{fs, io};

use serde::{Deserialize, Serialize};

/// One process of this host, told apart from every other that has or had its pid.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProcessIdentity {
    /// The process id.
    pub pid: i32,
    /// When it started, in clock ticks since boot (field 22 of `/proc/<pid>/stat`).
    pub start_ticks: u64,
    /// The boot it belongs to.
    pub boot_id: String,
}

impl ProcessIdentity {
    /// The calling process.
    ///
    /// # Errors
    /// [`io::Error`] where `/proc` cannot be read.
    pub fn own() -> io::Result<Self> {
        let pid = i32::try_from(std::process::id()).map_err(io::Error::other)?;
        let missing = || io::Error::other("the own process is not in `/proc`");
        let start_ticks = start_ticks(pid)?.ok_or_else(missing)?;
        Ok(Self { pid, start_ticks, boot_id: boot_id()? })
    }

    /// Whether exactly this process is alive. A zombie is not.
    ///
    /// Where `/proc` cannot be read the answer is yes: a process is never taken for dead without evidence.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        match (boot_id(), start_ticks(self.pid)) {
            (Ok(boot), Ok(ticks)) => boot == self.boot_id && ticks == Some(self.start_ticks),
            (Err(_), _) | (_, Err(_)) => true,
        }
    }
}

/// The id of the present boot.
fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// When a process started; `None` where there is none with this pid, or only its zombie.
fn start_ticks(pid: i32) -> io::Result<Option<u64>> {
    let stat = match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => stat,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        // The process ended between the look-up and the read.
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    // The name, in parentheses, may hold anything; the fields after the last `)` are plain.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let mut fields = fields.split_whitespace();
    let state = fields.next();
    let ticks = fields.nth(18).and_then(|ticks| ticks.parse().ok());
    match (state, ticks) {
        (Some("Z" | "X" | "x"), _) => Ok(None),
        (Some(_), Some(ticks)) => Ok(Some(ticks)),
        (_, None) | (None, _) => Err(io::Error::other("unexpected form of `/proc/<pid>/stat`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_process_is_alive_and_another_life_of_its_pid_is_not() {
        let own = ProcessIdentity::own().unwrap();
        assert!(own.is_alive());
        let earlier = ProcessIdentity { start_ticks: own.start_ticks - 1, ..own.clone() };
        assert!(!earlier.is_alive());
        let other_boot = ProcessIdentity { boot_id: "another".to_owned(), ..own };
        assert!(!other_boot.is_alive());
    }
}
