//! Whether a service on loopback refuses whoever has no password. One that does not must not be relayed: a container would
//! be let in as anybody.
//!
//! It speaks as little of the protocols as it takes to be refused, and says goodbye at once.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use super::Relay;
use crate::rewrite::Service;

/// The longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Who a stranger says to be: the name that every server of Postgres is likely to know.
const STRANGER: &str = "postgres";
/// Version 3.0 of Postgres' protocol.
const POSTGRES_PROTOCOL: u32 = 3 << 16;

/// A service that lets in whoever connects from loopback.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{service} at `{address}` lets in whoever connects from this machine, without a password")]
pub struct ServiceOpenToLoopback {
    /// What speaks there.
    pub service: Service,
    /// Where.
    pub address: SocketAddr,
}

/// What a stranger was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reception {
    /// A password is wanted, or nobody without one is served.
    Refused,
    /// Nobody answered, or not in the service's own words: it is down, or speaks through TLS only.
    Unknown,
}

impl ServiceOpenToLoopback {
    /// What a person can do about it.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self.service {
            Service::Postgres => {
                "in `pg_hba.conf` replace `trust` by `scram-sha-256` in the lines for 127.0.0.1, ::1 and `all`, then `SELECT pg_reload_conf()`"
            }
            Service::Redis => {
                "set a password (`requirepass`, or `user default off` with a user of its own) and name it in REDIS_URL"
            }
            Service::Provider | Service::Proxy => "let it ask for a key",
        }
    }
}

/// Knocks at a relay's targets without a password. Providers are not asked: what they let in is not this instance's data.
///
/// # Errors
/// [`ServiceOpenToLoopback`], where one of them lets a stranger in.
pub async fn knock(relay: &Relay) -> Result<Reception, ServiceOpenToLoopback> {
    let mut said = Reception::Unknown;
    for address in &relay.targets {
        let asked = match relay.service {
            Service::Postgres => timeout(PATIENCE, is_open_postgres(*address)).await,
            Service::Redis => timeout(PATIENCE, is_open_redis(*address)).await,
            Service::Provider | Service::Proxy => return Ok(Reception::Refused),
        };
        match asked {
            Ok(Ok(Some(true))) => {
                return Err(ServiceOpenToLoopback { service: relay.service, address: *address });
            }
            Ok(Ok(Some(false))) => said = Reception::Refused,
            Ok(Ok(None) | Err(_)) | Err(_) => {}
        }
    }
    Ok(said)
}

/// The server answers a start with what it wants to know (`R` and a kind, of which 0 is nothing at all) or with an error.
async fn is_open_postgres(address: SocketAddr) -> io::Result<Option<bool>> {
    let mut stream = TcpStream::connect(address).await?;
    let parameters =
        format!("user\0{STRANGER}\0database\0{STRANGER}\0application_name\0openTiger\0\0");
    let length = u32::try_from(8 + parameters.len()).map_err(io::Error::other)?;
    let mut start = Vec::from(length.to_be_bytes());
    start.extend(POSTGRES_PROTOCOL.to_be_bytes());
    start.extend(parameters.as_bytes());
    stream.write_all(&start).await?;
    let kind = stream.read_u8().await?;
    let _length = stream.read_u32().await?;
    match kind {
        b'R' => Ok(Some(stream.read_u32().await? == 0)),
        b'E' => Ok(Some(false)),
        _ => Ok(None),
    }
}

/// An answer to `PING` other than that a password is wanted means that commands of strangers are taken, be it to refuse
/// this one.
async fn is_open_redis(address: SocketAddr) -> io::Result<Option<bool>> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"PING\r\n").await?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n") && answer.len() < 512 {
        match stream.read_u8().await {
            Ok(byte) => answer.push(byte),
            Err(_) => break,
        }
    }
    let refusals: [&[u8]; 3] = [b"-NOAUTH", b"-WRONGPASS", b"-DENIED"];
    Ok(match answer.first() {
        Some(b'-') => Some(!refusals.iter().any(|refusal| answer.starts_with(refusal))),
        Some(b'+') => Some(true),
        _ => None,
    })
}
