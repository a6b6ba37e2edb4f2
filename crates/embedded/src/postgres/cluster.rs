//! The data directory, and what it says about itself.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use core_types::secret::Secret;

use crate::{
    error::{EmbeddedError, io_error},
    files::read_plain,
};

/// The file in the data directory that holds the password, so that neither is ever there without the other.
pub(crate) const PASSWORD_FILE: &str = "opentiger.password";

/// A data directory, perhaps not made yet.
#[derive(Debug, Clone)]
pub(crate) struct Cluster {
    pub(crate) data_dir: PathBuf,
}

impl Cluster {
    /// The major version that made the data; none where there is no data yet.
    pub(crate) fn major(&self) -> Result<Option<u32>, EmbeddedError> {
        let path = self.data_dir.join("PG_VERSION");
        match read_plain(&path) {
            Ok(text) => text.trim().parse().map(Some).map_err(|_| {
                io_error("read", &path)(io::Error::new(io::ErrorKind::InvalidData, "not a number"))
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io_error("read", &path)(error)),
        }
    }

    pub(crate) fn password(&self) -> Result<Secret, EmbeddedError> {
        let path = self.data_dir.join(PASSWORD_FILE);
        match read_plain(&path) {
            Ok(text) => Ok(Secret::new(text.trim())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(EmbeddedError::PasswordLost { data_dir: self.data_dir.clone() })
            }
            Err(error) => Err(io_error("read", &path)(error)),
        }
    }

    /// What the server says about itself.
    pub(crate) fn postmaster(&self) -> Option<Postmaster> {
        Postmaster::parse(&read_plain(&self.postmaster_file()).ok()?)
    }

    /// Removes what a server that was killed says about itself, unless a server is really there.
    ///
    /// PostgreSQL looks at the process number alone, and that may belong to another process by now. It refuses a file
    /// that a power cut has emptied, too.
    pub(crate) fn clear_stale(&self) -> Result<(), EmbeddedError> {
        let path = self.postmaster_file();
        let text = match read_plain(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(io_error("read", &path)(error)),
        };
        let worker = match Postmaster::parse(&text) {
            Some(postmaster) => Some(postmaster.pid).filter(|pid| works_in(*pid, &self.data_dir)),
            None => server_in(&self.data_dir),
        };
        match worker {
            Some(pid) => Err(EmbeddedError::DataInUse { data_dir: self.data_dir.clone(), pid }),
            None => fs::remove_file(&path).map_err(io_error("remove", &path)),
        }
    }

    fn postmaster_file(&self) -> PathBuf {
        self.data_dir.join("postmaster.pid")
    }
}

/// The content of `postmaster.pid`, as far as it is of use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Postmaster {
    pub(crate) pid: i32,
    pub(crate) port: Option<u16>,
    pub(crate) ready: bool,
}

impl Postmaster {
    /// Line 1 is the process, line 4 the port, line 8 the state (the server's `miscadmin.h` numbers them so).
    fn parse(text: &str) -> Option<Self> {
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        let pid = lines.first()?.parse().ok()?;
        let port = lines.get(3).and_then(|line| line.parse().ok());
        Some(Self { pid, port, ready: lines.get(7) == Some(&"ready") })
    }
}

/// Whether a process has the data directory as its current one, as every PostgreSQL server has.
fn works_in(pid: i32, data_dir: &Path) -> bool {
    let here = data_dir.canonicalize().ok();
    here.is_some() && fs::read_link(format!("/proc/{pid}/cwd")).ok() == here
}

/// A PostgreSQL process that works in the data directory.
fn server_in(data_dir: &Path) -> Option<i32> {
    let is_server = |pid: i32| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm"));
        name.is_ok_and(|name| name.trim() == "postgres") && works_in(pid, data_dir)
    };
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let mut pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.find(|pid| is_server(*pid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_starting_server_is_not_ready() {
        let starting = "17\n/data\n1700000000\n5433\n\n127.0.0.1\n  12345  0\nstarting\n";
        let expected = Postmaster { pid: 17, port: Some(5433), ready: false };
        assert_eq!(Postmaster::parse(starting), Some(expected));
        let ready = starting.replace("starting", "ready   ");
        assert_eq!(Postmaster::parse(&ready), Some(Postmaster { ready: true, ..expected }));
        assert_eq!(Postmaster::parse(""), None);
    }
}
