//! The way from a sandbox to services that listen on this machine's loopback alone: which relays are needed, and what one is.
//!
//! A relay is a process of its own for one address: it listens on the gateway of the sandboxes' network, serves the
//! instance's own containers and nobody else, and leads to the planned targets and nowhere else. Planning looks at this
//! machine's sockets and opens none; [`serve`] is the process, [`keep`] starts it and keeps it alive, [`clients`] says
//! whom it serves, [`own_api`] where it must not lead, [`strangers`] asks whether what is relayed refuses whoever has no password.

pub mod clients;
pub mod keep;
pub mod listeners;
pub mod own_api;
pub mod serve;
pub mod strangers;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{IpAddr, SocketAddr, TcpListener},
};

use self::listeners::{Holder, Listeners};
use crate::rewrite::{Service, Target};

/// One address that is relayed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relay {
    /// The sandboxes' network.
    pub network: String,
    /// Where it listens: the network's gateway, and the port that the service has on loopback.
    pub listen: SocketAddr,
    /// Where it leads, tried in this order.
    pub targets: Vec<SocketAddr>,
    /// What speaks there.
    pub service: Service,
}

/// The network that sandboxes are on, as the engine tells it.
#[derive(Debug, Clone, Copy)]
pub struct Network<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its gateways, the usual one first.
    pub gateways: &'a [IpAddr],
    /// Whether its engine runs in this machine's own network: neither rootless nor elsewhere nor in a machine of its own.
    pub engine_is_here: bool,
}

impl Network<'_> {
    /// The number of the host as sandboxes on the network reach it, where that is known: elsewhere the engine itself gives
    /// the name a meaning, or there is none.
    #[must_use]
    pub fn host(&self) -> Option<IpAddr> {
        let gateway = self.gateways.iter().copied().find(|gateway| !gateway.is_unspecified());
        gateway.filter(|_| self.engine_is_here)
    }
}

/// Why sandboxes cannot be led to a service.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// The network's gateway is no address of this machine, so that nothing here can listen on it.
    #[error(
        "network `{network}` has no gateway on this machine, so that {service} on loopback cannot be reached from it"
    )]
    NoRelay {
        /// The network.
        network: String,
        /// What would be relayed.
        service: Service,
    },
    /// The address is openTiger's own API.
    #[error("the address of {service} is that of openTiger's own API, which no sandbox may reach")]
    OwnApi {
        /// Whose address was given so.
        service: Service,
    },
    /// A proxy listens where only this machine reaches it. It would lead a sandbox to every service of this machine, as one
    /// who asks from here.
    #[error(
        "the proxy at `{address}` listens on loopback only, and is not relayed: it would lead sandboxes to everything on this machine"
    )]
    ProxyOnLoopback {
        /// Where it listens.
        address: SocketAddr,
    },
    /// Two services have the same port at different addresses of loopback, and the gateway has it once.
    #[error("port {port} is that of two services on loopback, at `{one}` and at `{other}`")]
    SharedPort {
        /// The port.
        port: u16,
        /// The one.
        one: IpAddr,
        /// The other.
        other: IpAddr,
    },
    /// Somebody else listens on the relay's address.
    #[error("`{address}` is taken by {holder}")]
    AddressTaken {
        /// The address.
        address: SocketAddr,
        /// Who holds it.
        holder: Holder,
    },
    /// The relay's address cannot be listened on.
    #[error("listen on `{address}`")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
    /// This machine's sockets, or the list of clients, cannot be read or written.
    #[error("{what}")]
    Io {
        /// What was tried, as a verb phrase.
        what: &'static str,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
    /// The relay cannot be launched.
    #[error("launch the relay on `{address}`")]
    Launch {
        /// Its address.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: Box<launcher::error::LaunchError>,
    },
    /// Running relays cannot be found.
    #[error("look for running relays")]
    Discover(#[source] launcher::error::LauncherError),
    /// The relay ended before it listened.
    #[error("the relay on `{address}` ended as soon as it was started{}", quoted(said))]
    Ended {
        /// Its address.
        address: SocketAddr,
        /// The end of what it printed, on one line.
        said: String,
    },
    /// The relay runs and serves nobody.
    #[error("the relay on `{address}` does not answer")]
    Silent {
        /// Its address.
        address: SocketAddr,
    },
}

/// The relays that sandboxes on a network need in order to reach targets on this machine's loopback.
///
/// In the order of their ports. None where a service listens on the gateway itself, and never one to a proxy.
///
/// `own_api` is where openTiger's API listens or is about to, see [`own_api::addresses`].
///
/// # Errors
/// See [`RelayError`].
pub fn plan(
    network: Network<'_>,
    targets: &BTreeSet<Target>,
    own_api: &[SocketAddr],
) -> Result<Vec<Relay>, RelayError> {
    let listeners = Listeners::read()
        .map_err(|source| RelayError::Io { what: "read the sockets of this machine", source })?;
    plan_among(network, targets, own_api, &listeners)
}

fn plan_among(
    network: Network<'_>,
    targets: &BTreeSet<Target>,
    own_api: &[SocketAddr],
    listeners: &Listeners,
) -> Result<Vec<Relay>, RelayError> {
    let mut relays = Vec::new();
    for (port, (service, addresses)) in by_port(targets)? {
        if own_api.iter().any(|api| is_reached_by(*api, port, &addresses)) {
            return Err(RelayError::OwnApi { service });
        }
        let Some(gateway) = network.host().filter(|gateway| is_own(*gateway)) else {
            return Err(RelayError::NoRelay { network: network.name.to_owned(), service });
        };
        let listen = SocketAddr::new(gateway, port);
        let targets: Vec<SocketAddr> =
            addresses.into_iter().map(|address| SocketAddr::new(address, port)).collect();
        let is_reached = targets.iter().any(|target| listeners.is_one_service(*target, listen));
        if let (Service::Proxy, false, Some(address)) = (service, is_reached, targets.first()) {
            return Err(RelayError::ProxyOnLoopback { address: *address });
        }
        if !is_reached {
            relays.push(Relay { network: network.name.to_owned(), listen, targets, service });
        }
    }
    Ok(relays)
}

impl RelayError {
    /// What a person can do about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::NoRelay { .. } => {
                "where the network should have its gateway here, restart the engine, which makes it anew, or set SANDBOX_DOCKER_NETWORK to another network (`docker network create`); else let the service listen on an address that containers reach and name that in the setting"
            }
            Self::OwnApi { .. } => {
                "name the provider's, Postgres' or Redis' own port in the setting"
            }
            Self::ProxyOnLoopback { .. } => {
                "let the proxy listen on the gateway of the sandboxes' network too (`docker network inspect`), or start openTiger without HTTP_PROXY and HTTPS_PROXY, or with NO_PROXY=*"
            }
            Self::SharedPort { .. } => "give one of the services another port",
            Self::AddressTaken { .. } => {
                "end what holds the address, or set SANDBOX_DOCKER_NETWORK to a network of this instance's own (`docker network create`)"
            }
            Self::Listen { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                "ports below 1024 need root or CAP_NET_BIND_SERVICE; give the service a higher one"
            }
            Self::Listen { .. } => {
                "see what uses the address (`ss -tan`), or set SANDBOX_DOCKER_NETWORK to a network of this instance's own (`docker network create`)"
            }
            Self::Io { .. } => "check that `/proc` and the state directory can be read and written",
            Self::Launch { .. } | Self::Discover(_) => {
                "check that the program `worker` is whole and that the state directory can be read and written"
            }
            Self::Ended { .. } | Self::Silent { .. } => {
                "check that the program `worker` is whole and of this version; it is tried again by itself"
            }
        }
    }
}

fn quoted(said: &str) -> String {
    if said.is_empty() { String::new() } else { format!(": {said}") }
}

type ByPort = BTreeMap<u16, (Service, Vec<IpAddr>)>;

/// The targets of each port; `localhost` fits whatever else is named there.
fn by_port(targets: &BTreeSet<Target>) -> Result<ByPort, RelayError> {
    let mut ports = ByPort::new();
    // By number first: a name leads to nothing that a number does not, and is tried after it.
    let ordered = targets.iter().filter(|t| t.address.is_some());
    for target in ordered.chain(targets.iter().filter(|t| t.address.is_none())) {
        let (service, known) = ports.entry(target.port).or_insert((target.service, Vec::new()));
        if target.service == Service::Proxy {
            *service = Service::Proxy;
        }
        let by_name = target.address.is_none();
        for address in target.addresses() {
            match known.first() {
                Some(&one) if one != address && !by_name => {
                    return Err(RelayError::SharedPort { port: target.port, one, other: address });
                }
                Some(_) if by_name && known.len() == 1 && known.contains(&address) => {}
                _ if known.contains(&address) => {}
                _ => known.push(address),
            }
        }
    }
    Ok(ports)
}

/// Whether a server that listens at `listening` is what one of the addresses leads to.
fn is_reached_by(listening: SocketAddr, port: u16, addresses: &[IpAddr]) -> bool {
    let here = listening.ip().is_unspecified() || addresses.contains(&listening.ip());
    listening.port() == port && here
}

/// Whether an address is this machine's, which the kernel tells by letting somebody listen on it.
fn is_own(address: IpAddr) -> bool {
    TcpListener::bind(SocketAddr::new(address, 0)).is_ok()
}
