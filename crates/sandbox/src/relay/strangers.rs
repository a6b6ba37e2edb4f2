//! Whether a service on loopback refuses whoever has no password. One that does not must not be relayed: a container would
//! be let in as anybody.
//!
//! It speaks as little of the protocols as it takes to be refused, and says goodbye at once. A Postgres decides by user and
//! database, so it is asked under every name that a container knows or guesses; under others it may still trust somebody.

use std::{collections::BTreeSet, io, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use super::Relay;
use crate::rewrite::{Service, postgres::Names};

/// The longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// The user and the database that every server of Postgres is likely to know.
const EVERYWHERE: &str = "postgres";
/// Version 3.0 of Postgres' protocol.
const POSTGRES_PROTOCOL: u32 = 3 << 16;

/// The first of the codes with which Postgres refuses a login.
const INVALID_AUTHORIZATION: &[u8] = b"28";
/// The longest refusal of Postgres that is read, in bytes.
const LONGEST_REFUSAL: usize = 4096;

/// The names under which a stranger knocks at a Postgres.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Callers {
    users: BTreeSet<String>,
    databases: BTreeSet<String>,
}

/// What a stranger asks Postgres for.
#[derive(Debug, Clone, Copy)]
enum Wanted<'a> {
    Database(&'a str),
    /// All that the server writes, which has lines of its own in `pg_hba.conf`.
    Replication,
}

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
                "in `pg_hba.conf` replace `trust` by `scram-sha-256` in every `host` line for 127.0.0.1, ::1 and `all`, those of single users and databases and of `replication` among them, then `SELECT pg_reload_conf()`"
            }
            Service::Redis => {
                "set a password (`requirepass`, or `user default off` with a user of its own) and name it in REDIS_URL"
            }
            Service::Provider | Service::Proxy => "let it ask for a key",
        }
    }
}

impl Default for Callers {
    fn default() -> Self {
        let everywhere = || BTreeSet::from([EVERYWHERE.to_owned()]);
        Self { users: everywhere(), databases: everywhere() }
    }
}

impl Callers {
    /// Those of an installation: whom its own address names, and the user of its sandboxes.
    #[must_use]
    pub fn of(owners: Names, of_sandboxes: &str) -> Self {
        let Self { mut users, mut databases } = Self::default();
        users.insert(of_sandboxes.to_owned());
        databases.extend(owners.database.or_else(|| owners.user.clone()));
        users.extend(owners.user);
        Self { users, databases }
    }

    fn calls(&self) -> impl Iterator<Item = (&str, Wanted<'_>)> {
        let wanted = self.databases.iter().map(|name| Wanted::Database(name));
        let wanted: Vec<_> = wanted.chain([Wanted::Replication]).collect();
        self.users.iter().flat_map(move |user| {
            wanted.clone().into_iter().map(move |wanted| (user.as_str(), wanted))
        })
    }
}

/// Knocks at a relay's targets without a password. Providers are not asked: what they let in is not this instance's data.
///
/// # Errors
/// [`ServiceOpenToLoopback`], where one of them lets a stranger in.
pub async fn knock(relay: &Relay, callers: &Callers) -> Result<Reception, ServiceOpenToLoopback> {
    let mut said = Reception::Unknown;
    for address in &relay.targets {
        let asked = match relay.service {
            Service::Postgres => timeout(PATIENCE, is_open_postgres(*address, callers)).await,
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

async fn is_open_postgres(address: SocketAddr, callers: &Callers) -> io::Result<Option<bool>> {
    let mut said = Some(false);
    for (user, wanted) in callers.calls() {
        match start_postgres(address, user, wanted).await? {
            Some(true) => return Ok(Some(true)),
            Some(false) => {}
            None => said = None,
        }
    }
    Ok(said)
}

/// The server answers a start with what it wants to know (`R` and a kind, of which 0 is nothing at all) or with an error,
/// which need not be about who asks.
async fn start_postgres(
    address: SocketAddr,
    user: &str,
    wanted: Wanted<'_>,
) -> io::Result<Option<bool>> {
    let mut stream = TcpStream::connect(address).await?;
    let wanted = match wanted {
        Wanted::Database(name) => format!("database\0{name}"),
        Wanted::Replication => "replication\0true".to_owned(),
    };
    let parameters = format!("user\0{user}\0{wanted}\0application_name\0openTiger\0\0");
    let length = u32::try_from(8 + parameters.len()).map_err(io::Error::other)?;
    let mut start = Vec::from(length.to_be_bytes());
    start.extend(POSTGRES_PROTOCOL.to_be_bytes());
    start.extend(parameters.as_bytes());
    stream.write_all(&start).await?;
    let kind = stream.read_u8().await?;
    let length = stream.read_u32().await?;
    match kind {
        b'R' => Ok(Some(stream.read_u32().await? == 0)),
        b'E' => {
            let length = usize::try_from(length).unwrap_or(usize::MAX).saturating_sub(4);
            let mut fields = vec![0; length.min(LONGEST_REFUSAL)];
            stream.read_exact(&mut fields).await?;
            Ok(is_refusal(&fields).then_some(false))
        }
        _ => Ok(None),
    }
}

/// The fields of an error end with a zero each and begin with a letter, of which `C` is the code.
fn is_refusal(fields: &[u8]) -> bool {
    let mut codes = fields.split(|byte| *byte == 0).filter_map(|field| field.strip_prefix(b"C"));
    codes.any(|code| code.starts_with(INVALID_AUTHORIZATION))
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
