//! Whom a relay serves: the addresses of this instance's containers on one network.
//!
//! A directory with one file for each container, so that several dispatchers of one instance cannot undo each other's
//! entries. A file appears and changes by being renamed; relays look at each connection.

use std::{
    collections::BTreeSet,
    fs, io,
    io::Write as _,
    net::IpAddr,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use launcher::id::LaunchId;
use tokio::time::{Instant, sleep};

/// How long a connection from an unknown address waits: a container may connect before its entry is written.
const PATIENCE: Duration = Duration::from_secs(3);
/// How often a waiting connection looks.
const LOOKS: Duration = Duration::from_millis(25);
/// The largest entry that is read, in bytes; an address takes up to 40.
const LARGEST: u64 = 4096;

/// How the launch ids of checks begin. Dispatchers know nothing of those, and leave young ones alone.
pub const CHECK_PREFIX: &str = "check-";
/// No check lasts so long.
const CHECK_AGE: Duration = Duration::from_secs(120);

/// The clients of the relays on one network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clients {
    directory: PathBuf,
}

impl Clients {
    /// Those of a network, below the state directory.
    #[must_use]
    pub fn of_network(state_dir: &Path, network: &str) -> Self {
        Self::at(state_dir.join("sandbox/relay").join(network))
    }

    /// Those of every network that there were relays on, which a changed setting leaves behind.
    ///
    /// # Errors
    /// The system's error, where the directory of them all cannot be read.
    pub fn of_every_network(state_dir: &Path) -> io::Result<Vec<Self>> {
        let networks = match fs::read_dir(state_dir.join("sandbox/relay")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            networks => networks?,
        };
        networks.map(|network| Ok(Self::at(network?.path()))).collect()
    }

    /// Those in a directory.
    #[must_use]
    pub const fn at(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// The directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Lets a container's addresses in. To be called when they are known, before its command starts.
    ///
    /// # Errors
    /// The system's error, where the entry cannot be written.
    pub fn admit(&self, container: &LaunchId, addresses: &[IpAddr]) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
        let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(&self.directory)?;
        for address in addresses {
            writeln!(file, "{address}")?;
        }
        let place = self.directory.join(container.as_str());
        file.persist(place).map(drop).map_err(|error| error.error)
    }

    /// Forgets a container. One that is not there is fine.
    ///
    /// # Errors
    /// The system's error, where the entry cannot be removed.
    pub fn dismiss(&self, container: &LaunchId) -> io::Result<()> {
        match fs::remove_file(self.directory.join(container.as_str())) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Forgets these containers, as after a crash, but for those of checks under way.
    ///
    /// # Errors
    /// The system's error, where an entry cannot be removed.
    pub fn sweep(&self, gone: &BTreeSet<LaunchId>) -> io::Result<()> {
        gone.iter().filter(|id| !self.is_check_under_way(id)).try_for_each(|id| self.dismiss(id))
    }

    fn is_check_under_way(&self, id: &LaunchId) -> bool {
        let written = || {
            let found = fs::symlink_metadata(self.directory.join(id.as_str())).ok()?;
            found.modified().ok()?.elapsed().ok()
        };
        id.as_str().starts_with(CHECK_PREFIX) && written().is_some_and(|age| age < CHECK_AGE)
    }

    /// The containers that are let in.
    ///
    /// # Errors
    /// The system's error, where the directory cannot be read.
    pub fn entries(&self) -> io::Result<Vec<LaunchId>> {
        let entries = match fs::read_dir(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        Ok(names.filter_map(|name| name.parse().ok()).collect())
    }

    /// Whether an address is one of theirs, now.
    #[must_use]
    pub fn includes(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let entries = self.entries().unwrap_or_default();
        entries.iter().any(|id| read(&self.directory.join(id.as_str())).contains(&address))
    }

    /// Whether an address is one of theirs, now or in a moment.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn will_include(&self, address: IpAddr) -> bool {
        let until = Instant::now() + PATIENCE;
        loop {
            if self.includes(address) {
                return true;
            }
            if Instant::now() >= until {
                return false;
            }
            sleep(LOOKS).await;
        }
    }
}

fn read(path: &Path) -> Vec<IpAddr> {
    let small =
        fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file() && meta.len() <= LARGEST);
    let text = if small { fs::read_to_string(path).unwrap_or_default() } else { String::new() };
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_come_and_go() {
        let state = tempfile::tempdir().unwrap();
        let clients = Clients::of_network(state.path(), "bridge");
        let id = |text: &str| text.parse::<LaunchId>().unwrap();
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        assert!(!clients.includes(address("172.17.0.2")));
        clients.admit(&id("r-1"), &[address("172.17.0.2"), address("fd00::2")]).unwrap();
        clients.admit(&id("r-2"), &[address("172.17.0.3")]).unwrap();
        assert!(clients.includes(address("172.17.0.2")));
        assert!(clients.includes(address("::ffff:172.17.0.2")));
        assert!(!clients.includes(address("172.17.0.4")));
        clients.dismiss(&id("r-1")).unwrap();
        clients.dismiss(&id("r-1")).unwrap();
        assert!(!clients.includes(address("172.17.0.2")));
        let other = Clients::of_network(state.path(), "other");
        other.admit(&id("r-4"), &[address("172.18.0.2")]).unwrap();
        assert_eq!(Clients::of_every_network(state.path()).unwrap().len(), 2);
        for check in ["check-old", "check-young"] {
            clients.admit(&id(check), &[address("172.17.0.9")]).unwrap();
        }
        let old = fs::File::options().write(true).open(clients.directory().join("check-old"));
        old.unwrap().set_modified(std::time::SystemTime::now() - 2 * CHECK_AGE).unwrap();
        clients.admit(&id("r-5"), &[address("172.17.0.5")]).unwrap();
        let gone = ["r-2", "check-old", "check-young", "r-6"];
        clients.sweep(&gone.map(id).into()).unwrap();
        assert_eq!(other.entries().unwrap(), [id("r-4")]);
        let kept: BTreeSet<LaunchId> = clients.entries().unwrap().into_iter().collect();
        assert_eq!(kept, ["check-young", "r-5"].map(id).into());
    }
}
