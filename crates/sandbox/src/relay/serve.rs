//! The relay's own work: connections from known addresses on one side, the planned targets on the other.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rustix::net::sockopt;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpSocket, TcpStream},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{RelayError, clients::Clients, listeners::Listeners};
use crate::rewrite::Service;

/// An idle connection is asked whether its other end is still there, after this time and then as often; a container that
/// was killed, or a service whose machine is gone, keeps no place for long.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// So many questions without an answer end a connection.
const UNANSWERED: u32 = 4;
/// Connections at once, those of strangers that still wait included.
const IN_ALL: usize = 1024;
/// The longest wait for a target to take a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// The pause after this machine ran out of descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// A relay that listens.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    targets: Vec<SocketAddr>,
    clients: Clients,
    per_client: usize,
    open: Arc<Open>,
}

/// The connections of each address.
#[derive(Debug, Default)]
struct Open(Mutex<HashMap<IpAddr, usize>>);

/// One connection's place among those of its address.
#[derive(Debug)]
struct Place {
    open: Arc<Open>,
    address: IpAddr,
}

impl Server {
    /// Begins to listen. Connections wait from now on, and are served by [`Self::serve`]. A container may have
    /// `per_client` connections at once, see [`per_client`].
    ///
    /// # Errors
    /// [`RelayError::AddressTaken`] names who holds the address, [`RelayError::Listen`] is any other failure.
    pub async fn listen(
        listen: SocketAddr,
        targets: Vec<SocketAddr>,
        clients: Clients,
        per_client: usize,
    ) -> Result<Self, RelayError> {
        let listener = TcpListener::bind(listen).await.map_err(|source| refused(listen, source))?;
        Ok(Self { listener, targets, clients, per_client, open: Arc::default() })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The system's error.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until it is stopped, and ends every connection then.
    pub async fn serve(self, stop: CancellationToken) {
        let mut connections = JoinSet::new();
        loop {
            // Every arm waits for something that is kept when the arm is dropped.
            tokio::select! {
                () = stop.cancelled() => break,
                Some(ended) = connections.join_next(), if !connections.is_empty() => {
                    if let Err(error) = ended {
                        tracing::error!(%error, "connection ended in a panic");
                    }
                }
                taken = self.listener.accept(), if connections.len() < IN_ALL => match taken {
                    Ok((stream, peer)) => self.take(stream, peer.ip().to_canonical(), &mut connections),
                    Err(error) => {
                        tracing::warn!(%error, "connection not taken");
                        sleep(PAUSE).await;
                    }
                }
            }
        }
        connections.shutdown().await;
    }

    fn take(&self, stream: TcpStream, peer: IpAddr, connections: &mut JoinSet<()>) {
        let Some(place) = Place::take(&self.open, peer, self.per_client) else {
            tracing::warn!(client.address = %peer, "client has too many connections");
            return;
        };
        let (clients, targets) = (self.clients.clone(), self.targets.clone());
        connections.spawn(async move {
            if clients.will_include(peer).await {
                relay(stream, &targets).await;
            } else {
                tracing::warn!(client.address = %peer, "connection of a stranger refused");
            }
            drop(place);
        });
    }
}

impl Place {
    fn take(open: &Arc<Open>, address: IpAddr, most: usize) -> Option<Self> {
        let mut counts = open.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(address).or_default();
        let free = *count < most;
        *count += usize::from(free);
        free.then(|| Self { open: Arc::clone(open), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.open.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.address) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}

/// Whether this process could listen on an address now. It does not listen itself, so nobody who begins to in this moment
/// is kept from it.
///
/// # Errors
/// As [`Server::listen`].
pub fn may_listen(address: SocketAddr) -> Result<(), RelayError> {
    let tried = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        socket.bind(address)
    };
    tried().map_err(|source| refused(address, source))
}

fn refused(address: SocketAddr, source: io::Error) -> RelayError {
    let holder = match source.kind() {
        io::ErrorKind::AddrInUse => Listeners::read().ok().and_then(|all| all.holder(address)),
        _ => None,
    };
    match holder {
        Some(holder) => RelayError::AddressTaken { address, holder },
        None => RelayError::Listen { address, source },
    }
}

async fn relay(mut client: TcpStream, targets: &[SocketAddr]) {
    let Some(mut server) = connect(targets).await else {
        tracing::warn!("no target takes connections");
        return;
    };
    // What travels here are questions and answers, which must not wait for each other.
    let set_up = [&client, &server].into_iter().try_for_each(set_up);
    if set_up.is_ok()
        && let Err(error) = copy_bidirectional(&mut client, &mut server).await
    {
        tracing::debug!(%error, "connection broken off");
    }
}

fn set_up(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, KEEP_ALIVE)?;
    sockopt::set_tcp_keepintvl(stream, KEEP_ALIVE)?;
    Ok(sockopt::set_tcp_keepcnt(stream, UNANSWERED)?)
}

/// Connections that one container may have at once to a service.
///
/// All containers share one login of the database and one of Redis, whose connections are limited; a worker needs two. A
/// command line asks its provider as often as it likes, for nobody shares that.
#[must_use]
pub const fn per_client(service: Service) -> usize {
    match service {
        Service::Postgres | Service::Redis => 8,
        Service::Provider | Service::Proxy => 64,
    }
}

async fn connect(targets: &[SocketAddr]) -> Option<TcpStream> {
    for target in targets {
        if let Ok(Ok(stream)) = timeout(CONNECT, TcpStream::connect(target)).await {
            return Some(stream);
        }
    }
    None
}
