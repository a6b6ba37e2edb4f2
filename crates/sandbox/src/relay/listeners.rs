//! Who listens on this machine: its TCP sockets, and the processes that hold them. It reads `/proc` and changes nothing.

use std::{
    fmt, fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

/// The state of a listening socket in the kernel's tables.
const LISTEN: &str = "0A";

/// The listening sockets of this machine, as they were at one moment.
#[derive(Debug, Clone, Default)]
pub struct Listeners(Vec<Listener>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Listener {
    address: SocketAddr,
    user: u32,
    inode: u64,
}

/// Who holds an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The process, where it may be seen: that takes root, or the same user.
    pub process: Option<u32>,
    /// The process's name.
    pub program: Option<String>,
    /// The user whose socket it is.
    pub user: u32,
}

impl Listeners {
    /// Reads the kernel's tables.
    ///
    /// # Errors
    /// Where the table of IPv4 cannot be read; a machine need not have IPv6.
    pub fn read() -> io::Result<Self> {
        let mut all = table(&fs::read_to_string("/proc/net/tcp")?);
        all.extend(table(&fs::read_to_string("/proc/net/tcp6").unwrap_or_default()));
        Ok(Self(all))
    }

    /// Who gets connections to an address: the socket of exactly that one, or one of all addresses.
    fn serving(&self, address: SocketAddr) -> Option<&Listener> {
        let same_port = || self.0.iter().filter(move |l| l.address.port() == address.port());
        let exact = same_port().find(|listener| listener.address.ip() == address.ip());
        exact.or_else(|| {
            same_port().find(|listener| match listener.address.ip() {
                IpAddr::V4(ip) => ip.is_unspecified() && address.is_ipv4(),
                IpAddr::V6(ip) => ip.is_unspecified(),
            })
        })
    }

    /// Whether the service at one address is that at the other: the same socket, or two of the same process. Of sockets
    /// whose processes may not be seen, those of one other user are one service: a relay's process, ours or that of another
    /// instance of this user, can be seen.
    pub(super) fn is_one_service(&self, one: SocketAddr, other: SocketAddr) -> bool {
        match (self.serving(one), self.serving(other)) {
            (Some(one), Some(other)) => are_one(one, other, |it| process_of(it.inode)),
            (Some(_) | None, _) => false,
        }
    }

    /// Who would be in the way of listening on an address.
    #[must_use]
    pub fn holder(&self, address: SocketAddr) -> Option<Holder> {
        let listener = self.serving(address)?;
        let process = process_of(listener.inode);
        let name = |pid: u32| fs::read_to_string(format!("/proc/{pid}/comm")).ok();
        let program = process.and_then(name).map(|name| name.trim().to_owned());
        Some(Holder { process, program, user: listener.user })
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.program, self.process) {
            (Some(program), Some(pid)) => write!(f, "`{program}` (process {pid})"),
            (None, Some(pid)) => write!(f, "process {pid}"),
            (_, None) => write!(f, "a process of user {}", self.user),
        }
    }
}

fn are_one(one: &Listener, other: &Listener, process: impl Fn(&Listener) -> Option<u32>) -> bool {
    let by_process = || match (process(one), process(other)) {
        (Some(one), Some(other)) => one == other,
        (None, None) => one.user == other.user,
        (Some(_), None) | (None, Some(_)) => false,
    };
    one.inode == other.inode || by_process()
}

/// The process that has a socket among its open files, as far as those may be read.
fn process_of(inode: u64) -> Option<u32> {
    let wanted = format!("socket:[{inode}]");
    let holds = |pid: u32| {
        let files = fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
        let mut links = files.flatten().filter_map(|file| fs::read_link(file.path()).ok());
        links.any(|link| link.as_os_str() == wanted.as_str()).then_some(pid)
    };
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let mut pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.find_map(holds)
}

/// `  0: 0100007F:1538 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000  0 12345 …`
fn table(text: &str) -> Vec<Listener> {
    text.lines().skip(1).filter_map(line).collect()
}

fn line(text: &str) -> Option<Listener> {
    let fields: Vec<&str> = text.split_ascii_whitespace().collect();
    let [_, local, _, state, _, _, _, user, _, inode, ..] = *fields.as_slice() else {
        return None;
    };
    let (address, port) = local.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let address = SocketAddr::new(ip(address)?, port);
    let listener = Listener { address, user: user.parse().ok()?, inode: inode.parse().ok()? };
    (state == LISTEN).then_some(listener)
}

/// Words of 32 bits, each in the machine's own order of bytes.
fn ip(hex: &str) -> Option<IpAddr> {
    let word = |index: usize| {
        let digits = hex.get(index * 8..index * 8 + 8)?;
        u32::from_str_radix(digits, 16).ok().map(u32::to_ne_bytes)
    };
    match hex.len() {
        8 => word(0).map(|bytes| Ipv4Addr::from(bytes).into()),
        32 => {
            let words: Vec<[u8; 4]> = (0..4).map(word).collect::<Option<_>>()?;
            let bytes: [u8; 16] = words.concat().try_into().ok()?;
            let address = Ipv6Addr::from(bytes);
            Some(address.to_ipv4_mapped().map_or(IpAddr::V6(address), IpAddr::V4))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_listening_socket_is_found_with_its_process() {
        for place in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(socket) = TcpListener::bind(place) else { continue };
            let address = socket.local_addr().unwrap();
            let listeners = Listeners::read().unwrap();
            let holder = listeners.holder(address).unwrap();
            assert_eq!(holder.process, Some(std::process::id()), "{place}");
            let elsewhere = SocketAddr::new("127.0.0.9".parse().unwrap(), address.port());
            assert_eq!(listeners.holder(elsewhere), None);
            assert!(!listeners.is_one_service(address, elsewhere));
        }
    }

    #[test]
    fn one_socket_for_all_addresses_is_one_service() {
        let socket = TcpListener::bind("0.0.0.0:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let at = |ip: &str| SocketAddr::new(ip.parse().unwrap(), port);
        let listeners = Listeners::read().unwrap();
        assert!(listeners.is_one_service(at("127.0.0.1"), at("127.0.0.2")));
    }

    #[test]
    fn two_sockets_of_one_process_are_one_service() {
        let one = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let one = TcpListener::bind(one).unwrap();
        let address = one.local_addr().unwrap();
        let other = SocketAddr::new("127.0.0.2".parse().unwrap(), address.port());
        let _other = TcpListener::bind(other).unwrap();
        assert!(Listeners::read().unwrap().is_one_service(address, other));
    }

    #[test]
    fn sockets_of_processes_that_may_not_be_seen_are_one_service_if_their_user_is_one() {
        let listener =
            |inode, user| Listener { address: "127.0.0.1:1".parse().unwrap(), user, inode };
        let seen = |listener: &Listener| u32::try_from(listener.inode).ok().filter(|pid| *pid > 9);
        let (unseen, also, strange) = (listener(1, 70), listener(2, 70), listener(3, 71));
        assert!(are_one(&unseen, &also, seen));
        assert!(!are_one(&unseen, &strange, seen));
        // The one is seen, so a socket of its process would be too.
        assert!(!are_one(&listener(10, 70), &also, seen));
        assert!(!are_one(&listener(10, 70), &listener(11, 70), seen));
        assert!(are_one(&listener(10, 70), &listener(10, 70), seen));
    }

    #[test]
    fn tables_of_the_kernel_are_read() {
        let text = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   0: 0100007F:1538 00000000:0000 0A 00000000:00000000 00:00000000 00000000    70        0 123 1 0 100 0 0 10 0\n   1: 0100007F:1538 0100007F:9999 01 00000000:00000000 00:00000000 00000000    70        0 124 1 0\n";
        let expected =
            Listener { address: "127.0.0.1:5432".parse().unwrap(), user: 70, inode: 123 };
        assert_eq!(table(text), [expected]);
        assert_eq!(ip("00000000000000000000000001000000"), Some(Ipv6Addr::LOCALHOST.into()));
        assert_eq!(ip("0000000000000000FFFF00000100007F"), Some(Ipv4Addr::LOCALHOST.into()));
    }
}
