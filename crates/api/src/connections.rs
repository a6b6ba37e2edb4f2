//! Connections: how many there may be at once, how long the head of a request may take, and how they end.
//!
//! What is asked and answered on them is not known here.

use std::{
    convert::Infallible,
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{Router, body::Body};
use bytes::Bytes;
use hyper::{
    body::{Frame, Incoming, SizeHint},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::sleep,
};
use tokio_util::{
    sync::CancellationToken,
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};
use tower::ServiceExt as _;

use crate::{access::Ends, crowd::Crowd};

/// How long a connection without a request may still take to end after the server is asked to stop.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// The pause after the system refused to accept, which it does for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// What connections are allowed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// How many there may be; further ones wait until one ends.
    pub(crate) connections: usize,
    /// How many one address of another machine may have; further ones are closed at once.
    pub(crate) of_one_peer: usize,
    /// How long the head of a request may take, from the connection's beginning or the end of the request before.
    pub(crate) head: Duration,
}

impl Limits {
    pub(crate) const SERVER: Self =
        Self { connections: 1024, of_one_peer: 64, head: Duration::from_secs(10) };
}

/// Answers requests until the token says stop, then waits for those that are under way.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    stop: CancellationToken,
) {
    let room = Arc::new(Semaphore::new(limits.connections));
    let crowd = Crowd::new(limits.of_one_peer);
    let mut open = JoinSet::new();
    // A connection that is lost by dropping the wait was never answered, and none is any more.
    while let Some((stream, place)) = stop.run_until_cancelled(next(&listener, &room)).await {
        while open.try_join_next().is_some() {}
        let Some(member) = stream.peer_addr().ok().and_then(|peer| crowd.admit(peer.ip())) else {
            tracing::debug!("connection closed, its peer is gone or has too many");
            continue;
        };
        let talk = converse(stream, router.clone(), limits.head, stop.clone());
        open.spawn(async move {
            talk.await;
            drop((place, member));
        });
    }
    drop(listener);
    while open.join_next().await.is_some() {}
}

async fn next(listener: &TcpListener, room: &Arc<Semaphore>) -> (TcpStream, OwnedSemaphorePermit) {
    let place = Arc::clone(room).acquire_owned().await.expect("nobody closes the semaphore");
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return (stream, place),
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                tracing::warn!(error = %error, "connection not accepted");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
    )
}

/// Answers the requests of one connection.
async fn converse(stream: TcpStream, router: Router, head: Duration, stop: CancellationToken) {
    // Small writes of a stream of events must not wait for an acknowledgement.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(error = %error, "connection without nodelay");
    }
    let (Ok(peer), Ok(local)) = (stream.peer_addr(), stream.local_addr()) else {
        tracing::debug!("connection ended before its first request");
        return;
    };
    let ends = Ends { peer, local };
    let requests = TaskTracker::new();
    requests.close();
    let answer = service_fn(|mut request: http::Request<Incoming>| {
        request.extensions_mut().insert(ends);
        let (router, under_way) = (router.clone(), requests.token());
        async move {
            let response = router.oneshot(request).await?;
            Ok::<_, Infallible>(response.map(|body| Answer { body, _under_way: under_way }))
        }
    });
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(head)
            .serve_connection(TokioIo::new(stream), answer)
    );
    // The connection goes on where it was, whichever arm wins.
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            // Cutting a connection without a request loses half a head at most.
            tokio::select! {
                ended = connection.as_mut() => ended,
                () = quiet(&requests) => Ok(()),
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error = %error, "connection ended early");
    }
}

/// Waits until no request has been under way for a moment.
async fn quiet(requests: &TaskTracker) {
    loop {
        requests.wait().await;
        sleep(LAST_WORDS).await;
        if requests.is_empty() {
            return;
        }
    }
}

/// The body of an answer; the request counts as under way until it is gone.
struct Answer {
    body: Body,
    _under_way: TaskTrackerToken,
}

impl hyper::body::Body for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        time::timeout,
    };

    use super::*;

    const SOON: Duration = Duration::from_secs(5);
    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";

    struct Running {
        address: std::net::SocketAddr,
        stop: CancellationToken,
        serving: JoinSet<()>,
    }

    async fn start(limits: Limits) -> Running {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().route("/", get(async || "here"));
        let stop = CancellationToken::new();
        let mut serving = JoinSet::new();
        serving.spawn(serve(listener, router, limits, stop.clone()));
        Running { address, stop, serving }
    }

    async fn rest(stream: &mut TcpStream) -> String {
        let mut text = String::new();
        let read = timeout(SOON, stream.read_to_string(&mut text)).await;
        read.expect("the server closes the connection").unwrap();
        text
    }

    #[tokio::test]
    async fn half_a_head_is_given_up_after_its_time() {
        let limits = Limits { head: Duration::from_millis(100), ..Limits::SERVER };
        let running = start(limits).await;
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        stream.write_all(b"GET / HTT").await.unwrap();
        assert!(!rest(&mut stream).await.contains("here"));
    }

    #[tokio::test]
    async fn half_a_head_does_not_hold_up_the_stop() {
        let mut running = start(Limits { head: 10 * SOON, ..Limits::SERVER }).await;
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        stream.write_all(b"GET / HTT").await.unwrap();
        running.stop.cancel();
        timeout(SOON, running.serving.join_next()).await.expect("it stops in time");
    }

    #[tokio::test]
    async fn one_connection_too_many_waits_for_its_turn() {
        let running = start(Limits { connections: 1, head: 10 * SOON, ..Limits::SERVER }).await;
        let first = TcpStream::connect(running.address).await.unwrap();
        let mut second = TcpStream::connect(running.address).await.unwrap();
        second.write_all(REQUEST).await.unwrap();
        let answered = timeout(Duration::from_millis(100), second.readable()).await;
        assert!(answered.is_err(), "the first connection takes the only place");
        drop(first);
        assert!(rest(&mut second).await.ends_with("here"));
    }
}
