//! Where a server listens: the file in which it says so, and addresses as people give them.
//!
//! The file lies in the state directory while the server runs. A server that is killed leaves it behind; therefore it
//! names the process, and whoever reads it asks whether that process lives.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::error::{AddressFileError, ClientError};

/// The variable that names the server's address.
pub const ADDRESS_VARIABLE: &str = "OPENTIGER_API_URL";
/// The file's name in the state directory.
const FILE: &str = "api.json";

/// What a server says of itself while it listens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressFile {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its process.
    pub pid: i32,
    /// When that process was started, in ticks since the boot.
    pub start_ticks: u64,
    /// The boot of the machine.
    pub boot_id: String,
    /// Its version.
    pub version: String,
}

/// The file of a server that listens; removed when this value is dropped.
#[derive(Debug)]
pub struct Announced {
    path: PathBuf,
    file: AddressFile,
}

impl AddressFile {
    /// The path of the file in a state directory.
    #[must_use]
    pub fn path(state_dir: &Path) -> PathBuf {
        state_dir.join(FILE)
    }

    /// Reads the file of a state directory. One that is not there, or is damaged, is none.
    ///
    /// # Errors
    /// The file is there and cannot be read.
    pub fn read(state_dir: &Path) -> Result<Option<Self>, AddressFileError> {
        let path = Self::path(state_dir);
        match fs::read(&path) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(AddressFileError { what: "read", path, source }),
        }
    }

    /// Writes the file into a state directory, over that of a server that was there before.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn announce(self, state_dir: &Path) -> Result<Announced, AddressFileError> {
        let path = Self::path(state_dir);
        let failed = |source| AddressFileError { what: "write", path: path.clone(), source };
        // A name of this process's own: two servers that start at once do not write into one file.
        let draft = path.with_extension(format!("json.{}", self.pid));
        let text = serde_json::to_vec(&self).map_err(io::Error::from).map_err(failed)?;
        fs::write(&draft, text).map_err(failed)?;
        fs::rename(&draft, &path).map_err(failed)?;
        Ok(Announced { path, file: self })
    }
}

impl Drop for Announced {
    fn drop(&mut self) {
        let directory = self.path.parent().unwrap_or(Path::new("/"));
        // One that a later server wrote is that server's.
        if matches!(AddressFile::read(directory), Ok(Some(found)) if found == self.file) {
            fs::remove_file(&self.path).ok();
        }
    }
}

/// The base of every URL of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseUrl(String);

impl BaseUrl {
    /// Reads an address as people give it: `http://host:port`, or `host:port` alone.
    ///
    /// # Errors
    /// [`ClientError::Address`] says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, ClientError> {
        let refused = |why| ClientError::Address { text: text.to_owned(), why };
        let whole = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let url = url::Url::parse(&whole).map_err(|_| refused("expected `http://host:port`"))?;
        if url.scheme() != "http" {
            return Err(refused("only `http` is spoken; reach a remote server through a tunnel"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(refused("a key does not belong in it; set `OPENTIGER_API_KEY`"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(refused("it has a query or a fragment"));
        }
        if url.host_str().is_none_or(str::is_empty) {
            return Err(refused("it names no host"));
        }
        Ok(Self(url.as_str().trim_end_matches('/').to_owned()))
    }

    /// The server that listens there; where that is every address of the machine, the loopback one.
    #[must_use]
    pub fn of_listener(address: SocketAddr) -> Self {
        let ip = match address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
            ip => ip,
        };
        Self(format!("http://{}", SocketAddr::new(ip, address.port())))
    }

    /// As text, without a slash at the end.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(pid: i32) -> AddressFile {
        AddressFile {
            address: "127.0.0.1:4301".parse().unwrap(),
            pid,
            start_ticks: 5,
            boot_id: "b".to_owned(),
            version: "0".to_owned(),
        }
    }

    #[test]
    fn the_file_is_there_while_the_server_is() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(AddressFile::read(directory.path()).unwrap(), None);
        let announced = file(1).announce(directory.path()).unwrap();
        assert_eq!(AddressFile::read(directory.path()).unwrap(), Some(file(1)));
        drop(announced);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn the_file_of_a_later_server_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let early = file(1).announce(directory.path()).unwrap();
        let late = file(2).announce(directory.path()).unwrap();
        drop(early);
        assert_eq!(AddressFile::read(directory.path()).unwrap(), Some(file(2)));
        drop(late);
    }

    #[test]
    fn a_damaged_file_is_none() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(AddressFile::path(directory.path()), "{\"address\":").unwrap();
        assert_eq!(AddressFile::read(directory.path()).unwrap(), None);
    }

    #[test]
    fn addresses_are_taken_with_and_without_their_scheme() {
        for (text, base) in [
            ("http://127.0.0.1:4301/", "http://127.0.0.1:4301"),
            ("127.0.0.1:4301", "http://127.0.0.1:4301"),
            ("localhost:80", "http://localhost"),
            ("http://[::1]:4301", "http://[::1]:4301"),
        ] {
            assert_eq!(BaseUrl::parse(text).unwrap().as_str(), base, "{text}");
        }
        for text in ["https://h:1", "http://k:s@h:1", "http://h:1/?a=b", "ftp://h", "", "http://"] {
            assert!(BaseUrl::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_server_on_every_address_is_reached_on_the_loopback() {
        let base = |text: &str| BaseUrl::of_listener(text.parse().unwrap());
        assert_eq!(base("0.0.0.0:1").as_str(), "http://127.0.0.1:1");
        assert_eq!(base("[::]:1").as_str(), "http://[::1]:1");
        assert_eq!(base("127.0.0.2:1").as_str(), "http://127.0.0.2:1");
    }
}
