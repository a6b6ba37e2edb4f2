//! The data directory: made once, named when complete, and what it says about itself.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use core_types::secret::Secret;
use launcher::tool::Tool;
use rand::{Rng as _, distr::Alphanumeric};

use crate::{
    account::Account,
    binaries::Binaries,
    endpoint::write_private,
    error::{EmbeddedError, io_error, launch_error},
    postgres::{Durability, ROLE},
};

/// Length of the generated password: 190 bits.
const PASSWORD_LENGTH: usize = 32;
/// The file in the data directory that holds the password, so that neither is ever there without the other.
const PASSWORD_FILE: &str = "opentiger.password";
const INIT_TIMEOUT: Duration = Duration::from_secs(300);

/// A data directory, perhaps not made yet.
#[derive(Debug, Clone)]
pub(crate) struct Cluster {
    pub(crate) data_dir: PathBuf,
}

impl Cluster {
    /// The major version that made the data; none where there is no data yet.
    pub(crate) fn major(&self) -> Result<Option<u32>, EmbeddedError> {
        let path = self.data_dir.join("PG_VERSION");
        match fs::read_to_string(&path) {
            Ok(text) => text.trim().parse().map(Some).map_err(|_| {
                io_error("read", &path)(io::Error::new(io::ErrorKind::InvalidData, "not a number"))
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io_error("read", &path)(error)),
        }
    }

    pub(crate) fn password(&self) -> Result<Secret, EmbeddedError> {
        let path = self.data_dir.join(PASSWORD_FILE);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Secret::new(text.trim())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(EmbeddedError::PasswordLost { data_dir: self.data_dir.clone() })
            }
            Err(error) => Err(io_error("read", &path)(error)),
        }
    }

    /// Makes the data. It gets its name when it is complete; what an interrupted attempt left is removed.
    pub(crate) async fn make(
        &self,
        binaries: &Binaries,
        account: &Account,
        durability: Durability,
    ) -> Result<(), EmbeddedError> {
        let unfinished = self.data_dir.with_extension("init");
        remove(&unfinished)?;
        fs::create_dir(&unfinished).map_err(io_error("make directory", &unfinished))?;
        account.give(&unfinished)?;
        let password_file = self.data_dir.with_extension("password");
        let password = generate_password();
        write_private(&password_file, password.expose().as_bytes())?;
        account.give(&password_file)?;
        let made = initdb(binaries, account, durability, &unfinished, &password_file).await;
        fs::remove_file(&password_file).map_err(io_error("remove", &password_file))?;
        made?;
        let kept = unfinished.join(PASSWORD_FILE);
        write_private(&kept, password.expose().as_bytes())?;
        account.give(&kept)?;
        fs::rename(&unfinished, &self.data_dir).map_err(io_error("rename", &unfinished))
    }

    /// What the server says about itself.
    pub(crate) fn postmaster(&self) -> Option<Postmaster> {
        let text = fs::read_to_string(self.data_dir.join("postmaster.pid")).ok()?;
        Postmaster::parse(&text)
    }

    /// Removes what a server that was killed says about itself, unless a server is really there.
    ///
    /// PostgreSQL looks at the process number alone, and that may belong to another process by now.
    pub(crate) fn clear_stale(&self) -> Result<(), EmbeddedError> {
        let Some(postmaster) = self.postmaster() else {
            return Ok(());
        };
        if works_in(postmaster.pid, &self.data_dir) {
            let data_dir = self.data_dir.clone();
            return Err(EmbeddedError::DataInUse { data_dir, pid: postmaster.pid });
        }
        let path = self.data_dir.join("postmaster.pid");
        fs::remove_file(&path).map_err(io_error("remove", &path))
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

async fn initdb(
    binaries: &Binaries,
    account: &Account,
    durability: Durability,
    into: &Path,
    password_file: &Path,
) -> Result<(), EmbeddedError> {
    let text = |path: &Path| path.display().to_string();
    let mut args: Vec<String> = vec![
        "--pgdata".to_owned(),
        text(into),
        "--username".to_owned(),
        ROLE.to_owned(),
        "--pwfile".to_owned(),
        text(password_file),
    ];
    let locale = if cfg!(target_env = "gnu") { "--locale=C.UTF-8" } else { "--locale=C" };
    let fixed = ["--auth=scram-sha-256", "--encoding=UTF8", locale, "--no-instructions"];
    args.extend(fixed.map(str::to_owned));
    match durability {
        Durability::Full => args.push("--data-checksums".to_owned()),
        Durability::Test => args.push("--no-sync".to_owned()),
    }
    let mut tool = Tool::new(&binaries.initdb, "/");
    tool.args = args;
    tool.env = [("LC_ALL".to_owned(), "C".to_owned())].into();
    tool.timeout = INIT_TIMEOUT;
    tool.user = account.user;
    let output = tool.run().await.map_err(launch_error("run initdb"))?;
    if output.status == Some(0) {
        return Ok(());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    Err(EmbeddedError::InitFailed { detail: last_lines(&stderr) })
}

/// The last lines of a text on one line, for an error.
pub(crate) fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let tail = lines.iter().skip(lines.len().saturating_sub(5));
    let tail: Vec<&str> = tail.copied().collect();
    if tail.is_empty() { "it printed nothing".to_owned() } else { tail.join("; ") }
}

fn generate_password() -> Secret {
    let characters = rand::rng().sample_iter(Alphanumeric).take(PASSWORD_LENGTH);
    Secret::new(characters.map(char::from).collect::<String>())
}

fn remove(directory: &Path) -> Result<(), EmbeddedError> {
    match fs::remove_dir_all(directory) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(io_error("remove", directory)(error)),
    }
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

    #[test]
    fn passwords_need_no_escaping_and_differ() {
        let (one, other) = (generate_password(), generate_password());
        assert!(one.expose().bytes().all(|byte| byte.is_ascii_alphanumeric()));
        assert_eq!(one.expose().len(), PASSWORD_LENGTH);
        assert_ne!(one, other);
    }
}
