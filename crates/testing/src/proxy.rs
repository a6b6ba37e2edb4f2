//! A TCP proxy on loopback that fails on demand: between a program and its database.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpSocket, TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::watch,
    task::JoinSet,
};

/// What the proxy does with bytes and connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mode {
    /// Whether it listens.
    accepts: bool,
    /// Whether bytes flow; while they do not, connections are accepted and stay silent.
    flows: bool,
    /// How long each piece waits before it is passed on.
    delay: Duration,
    /// Connections made under an older number are cut.
    generation: u64,
}

/// A proxy in front of one address. Everything ends when it is dropped.
#[derive(Debug)]
pub struct FaultProxy {
    address: SocketAddr,
    mode: watch::Sender<Mode>,
    open: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl FaultProxy {
    /// Starts a proxy in front of `target`, on a free port of 127.0.0.1.
    ///
    /// # Panics
    /// When no port is free.
    pub async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port is free");
        let address = listener.local_addr().expect("a bound socket has an address");
        let mode = Mode { accepts: true, flows: true, delay: Duration::ZERO, generation: 0 };
        let (mode, receiver) = watch::channel(mode);
        let open = Arc::new(AtomicUsize::new(0));
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(listener, target, receiver, Arc::clone(&open)));
        Self { address, mode, open, _tasks: tasks }
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets nothing through; connections stay open and silent, new ones are accepted and silent too.
    pub fn pause(&self) {
        self.mode.send_modify(|mode| mode.flows = false);
    }

    /// Ends [`pause`](Self::pause) and [`refuse`](Self::refuse).
    pub fn resume(&self) {
        self.mode.send_modify(|mode| (mode.flows, mode.accepts) = (true, true));
    }

    /// Resets every connection; new ones are fine.
    pub fn cut(&self) {
        self.mode.send_modify(|mode| mode.generation += 1);
    }

    /// Resets every connection and refuses new ones until [`resume`](Self::resume).
    pub fn refuse(&self) {
        self.mode.send_modify(|mode| {
            mode.accepts = false;
            mode.generation += 1;
        });
    }

    /// Holds every piece back for a while, both ways.
    pub fn delay(&self, delay: Duration) {
        self.mode.send_modify(|mode| mode.delay = delay);
    }

    /// How many connections are open.
    #[must_use]
    pub fn open_connections(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }
}

async fn serve(
    listener: TcpListener,
    target: SocketAddr,
    mut mode: watch::Receiver<Mode>,
    open: Arc<AtomicUsize>,
) {
    let address = listener.local_addr().expect("a bound socket has an address");
    let mut listener = Some(listener);
    let mut connections = JoinSet::new();
    loop {
        let accepts = mode.borrow_and_update().accepts;
        if !accepts {
            listener = None;
        } else if listener.is_none() {
            listener = listen_again(address).await.ok();
        }
        let accepted = async {
            match &listener {
                Some(listener) => listener.accept().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            // Cancel safe: no connection is lost by dropping `accept`.
            accepted = accepted => {
                if let Ok((client, _)) = accepted {
                    let guard = Open::count(&open);
                    connections.spawn(pass(client, target, mode.clone(), guard));
                }
            }
            // Cancel safe: a change stays unseen until `borrow_and_update`.
            changed = mode.changed() => {
                if changed.is_err() {
                    return;
                }
            }
            // Cancel safe; it only clears away what has ended.
            Some(_) = connections.join_next() => {}
        }
    }
}

/// The same port again: connections that were reset leave it free.
async fn listen_again(address: SocketAddr) -> io::Result<TcpListener> {
    loop {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        if socket.bind(address).is_ok() {
            return socket.listen(128);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

struct Open(Arc<AtomicUsize>);

impl Open {
    fn count(open: &Arc<AtomicUsize>) -> Self {
        open.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(open))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Passes bytes on both ways until both sides have ended or the connection is cut; then both get a reset.
async fn pass(
    mut client: TcpStream,
    target: SocketAddr,
    mut mode: watch::Receiver<Mode>,
    _open: Open,
) {
    let born = mode.borrow().generation;
    let Ok(mut server) = TcpStream::connect(target).await else {
        reset(&client);
        return;
    };
    let (one, other) = (mode.clone(), mode.clone());
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    let both = async {
        tokio::join!(one_way(from_client, to_server, one), one_way(from_server, to_client, other))
    };
    let was_cut = tokio::select! {
        // Not cancel safe and need not be: a cut loses bytes.
        _ = both => false,
        // Cancel safe: it only watches.
        _ = mode.wait_for(|mode| mode.generation != born) => true,
    };
    if was_cut {
        reset(&client);
        reset(&server);
    }
}

async fn one_way(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, mut mode: watch::Receiver<Mode>) {
    let mut buffer = vec![0; 16 << 10];
    loop {
        let read = from.read(&mut buffer).await.unwrap_or_default();
        let Ok(delay) = mode.wait_for(|mode| mode.flows).await.map(|mode| mode.delay) else {
            return;
        };
        tokio::time::sleep(delay).await;
        let piece = buffer.get(..read).unwrap_or_default();
        if piece.is_empty() || to.write_all(piece).await.is_err() {
            // The other side learns of the end; it may have more to say itself.
            to.shutdown().await.ok();
            return;
        }
    }
}

/// Makes the socket answer with a reset when it is dropped.
fn reset(stream: &TcpStream) {
    stream.set_zero_linger().ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn echo_server() -> (SocketAddr, JoinSet<()>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                connections.spawn(async move {
                    let (mut from, mut to) = stream.split();
                    tokio::io::copy(&mut from, &mut to).await.ok();
                });
            }
        });
        (address, tasks)
    }

    async fn round_trip(stream: &mut TcpStream) -> io::Result<[u8; 4]> {
        stream.write_all(b"ping").await?;
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).await?;
        Ok(answer)
    }

    #[tokio::test]
    async fn bytes_pass_both_ways_and_ends_are_passed_on() {
        let (target, _server) = echo_server().await;
        let proxy = FaultProxy::start(target).await;
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(&round_trip(&mut stream).await.unwrap(), b"ping");
        stream.shutdown().await.unwrap();
        assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn a_pause_holds_bytes_back_and_loses_none() {
        let (target, _server) = echo_server().await;
        let proxy = FaultProxy::start(target).await;
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        round_trip(&mut stream).await.unwrap();
        proxy.pause();
        let mut trip = Box::pin(round_trip(&mut stream));
        let early = tokio::time::timeout(Duration::from_millis(100), &mut trip).await;
        assert!(early.is_err(), "bytes came through a paused proxy");
        proxy.resume();
        assert_eq!(&trip.await.unwrap(), b"ping");
    }

    #[tokio::test]
    async fn a_cut_resets_connections_and_takes_new_ones() {
        let (target, _server) = echo_server().await;
        let proxy = FaultProxy::start(target).await;
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        round_trip(&mut stream).await.unwrap();
        proxy.cut();
        let error = stream.read(&mut [0]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        let mut again = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(&round_trip(&mut again).await.unwrap(), b"ping");
    }

    #[tokio::test]
    async fn a_refusal_lasts_until_the_proxy_resumes_on_the_same_port() {
        let (target, _server) = echo_server().await;
        let proxy = FaultProxy::start(target).await;
        proxy.refuse();
        crate::wait::wait_for("a refusal", Duration::from_secs(5), async || {
            match TcpStream::connect(proxy.address()).await {
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
        proxy.resume();
        let mut stream =
            crate::wait::wait_for("a connection", Duration::from_secs(5), async || {
                TcpStream::connect(proxy.address()).await
            })
            .await;
        assert_eq!(&round_trip(&mut stream).await.unwrap(), b"ping");
        assert_eq!(proxy.open_connections(), 1);
    }
}
