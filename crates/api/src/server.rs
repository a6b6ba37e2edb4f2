//! The listener: binds an address that strangers cannot use, serves, and stops in order.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{net::TcpListener, task::JoinSet};

use crate::{
    connections::{self, Limits},
    router::router,
    state::ApiState,
};

/// A server that listens and does not answer yet.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    state: ApiState,
}

/// Why the server cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Other machines could reach the address, and no caller can prove who they are.
    #[error(
        "`{address}` can be reached from other machines, and neither `API_KEYS` nor `API_SECRET` is set"
    )]
    Unprotected {
        /// The address as it was given.
        address: SocketAddr,
    },
    /// Something listens there already.
    #[error("`{address}` is in use")]
    InUse {
        /// The address as it was given.
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    /// The system refuses for another reason.
    #[error("cannot listen on `{address}`")]
    Refused {
        /// The address as it was given.
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
}

impl BindError {
    /// What to do about it.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Unprotected { .. } => {
                "set `API_KEYS` or `API_SECRET`, or set `OPENTIGER_API_LISTEN` to a loopback address"
            }
            Self::InUse { .. } => {
                "stop the other program, or set `OPENTIGER_API_LISTEN` to another port (0 takes any free one)"
            }
            Self::Refused { .. } => "set `OPENTIGER_API_LISTEN` to an address of this machine",
        }
    }
}

/// How serving ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Served {
    /// Every request was answered and every change made.
    Gracefully,
    /// The time was up before that.
    TimeUp {
        /// Changes that still ran.
        changes_left: usize,
    },
}

impl Server {
    /// Listens on an address. Port 0 takes any free one.
    ///
    /// # Errors
    /// [`BindError`]; without any key an address that is not of the loopback is refused before the system is asked.
    pub async fn bind(address: SocketAddr, state: ApiState) -> Result<Self, BindError> {
        if !address.ip().is_loopback() && state.settings().settings.knows_no_caller() {
            return Err(BindError::Unprotected { address });
        }
        let refused = |source: io::Error| match source.kind() {
            io::ErrorKind::AddrInUse => BindError::InUse { address, source },
            _ => BindError::Refused { address, source },
        };
        let listener = TcpListener::bind(address).await.map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        Ok(Self { listener, address, state })
    }

    /// The address it listens on, with the port that the system chose.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers requests until the state's token says stop, then ends streams and waits for the rest, `grace` at most.
    pub async fn serve(self, grace: Duration) -> Served {
        let Self { listener, address: _, state } = self;
        let stop = state.stop.clone();
        let mut background = JoinSet::new();
        background.spawn(state.hub.clone().listen(
            state.store.clone(),
            state.queue.clone(),
            stop.clone(),
        ));
        let changes = state.changes.clone();
        let drained = async {
            connections::serve(listener, router(state), Limits::SERVER, stop.clone()).await;
            changes.close();
            changes.wait().await;
        };
        let time_up = async {
            stop.cancelled().await;
            tokio::time::sleep(grace).await;
        };
        // Losing the race drops the other side: connections are cut, which is what the grace is for.
        tokio::select! {
            () = drained => Served::Gracefully,
            () = time_up => Served::TimeUp { changes_left: changes.len() },
        }
    }
}
