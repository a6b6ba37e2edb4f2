//! The provider's fixed hosts, scripted: what an agent's command line asks of a login's account there, whatever address
//! of the model it is told.
//!
//! The command line reaches it as a proxy ([`AccountHost::variables`]), and trusts the certificate authority that was
//! made for the test. What it asks for any other host goes to the same script. It listens on every address, for sandboxes
//! are not led to a proxy that listens on loopback alone.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

use crate::certificate::{AUTHORITY, certified};

/// Most bytes of a request's head.
const HEAD_BYTES: usize = 64 << 10;
/// The names that a certificate is made for.
const NAMES: &[&str] = &["api.anthropic.com", "platform.claude.com", "claude.ai"];

/// How the account's usage is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Usage {
    /// With so much of the five hours used, in percent.
    Used(u32),
    /// With so much of the week used that a family of models has, in percent, and little of all else.
    OfModel(&'static str, u32),
    /// With this status and nothing else.
    Refused(u16),
    /// Not at all.
    Hang,
}

/// The hosts; they end with this value.
#[derive(Debug)]
pub struct AccountHost {
    shared: Arc<Shared>,
    port: u16,
    _serving: JoinSet<()>,
}

#[derive(Debug)]
struct Shared {
    directory: TempDir,
    usage: Usage,
    connects: Mutex<Vec<String>>,
    requests: Mutex<Vec<String>>,
}

impl AccountHost {
    /// Starts hosts that answer like this.
    ///
    /// # Panics
    /// When they cannot be started.
    pub async fn start(usage: Usage) -> Self {
        let directory = TempDir::new().expect("a temporary directory can be made");
        let acceptor = TlsAcceptor::from(Arc::new(certified(directory.path(), NAMES)));
        let listener = TcpListener::bind("0.0.0.0:0").await.expect("a port is free");
        let port = listener.local_addr().expect("it is bound").port();
        let shared = Arc::new(Shared {
            directory,
            usage,
            connects: Mutex::default(),
            requests: Mutex::default(),
        });
        let mut serving = JoinSet::new();
        let for_connections = Arc::clone(&shared);
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, shared) = (acceptor.clone(), Arc::clone(&for_connections));
                connections.spawn(async move { serve(stream, &acceptor, &shared).await });
            }
        });
        Self { shared, port, _serving: serving }
    }

    /// Variables by which a command line comes here.
    #[must_use]
    pub fn variables(&self) -> BTreeMap<String, String> {
        let authority = self.shared.directory.path().join(AUTHORITY);
        BTreeMap::from([
            ("HTTPS_PROXY".to_owned(), format!("http://127.0.0.1:{}", self.port)),
            ("NODE_EXTRA_CA_CERTS".to_owned(), authority.to_string_lossy().into_owned()),
        ])
    }

    /// The hosts, with their ports, that somebody wanted to be led to, whether or not they then trusted them.
    ///
    /// # Panics
    /// Never; a thread that panicked leaves the list whole.
    #[must_use]
    pub fn connects(&self) -> Vec<String> {
        self.shared.connects.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The first line of every request so far.
    ///
    /// # Panics
    /// Never; a thread that panicked leaves the list whole.
    #[must_use]
    pub fn requests(&self) -> Vec<String> {
        self.shared.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn serve(mut stream: TcpStream, acceptor: &TlsAcceptor, shared: &Shared) {
    let Some(connect) = read_head(&mut stream).await else {
        return;
    };
    let host = connect.split_whitespace().nth(1).unwrap_or_default().to_owned();
    shared.connects.lock().unwrap_or_else(PoisonError::into_inner).push(host);
    stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.ok();
    let Ok(mut stream) = acceptor.accept(stream).await else {
        return;
    };
    while let Some(head) = read_head(&mut stream).await {
        let line = head.lines().next().unwrap_or_default().to_owned();
        shared.requests.lock().unwrap_or_else(PoisonError::into_inner).push(line.clone());
        let (status, body) = match &shared.usage {
            _ if !line.contains("/api/oauth/usage") => (200, "{}".to_owned()),
            Usage::Used(percent) => (200, limits(*percent)),
            Usage::OfModel(family, percent) => (200, limits_of(family, *percent)),
            Usage::Refused(status) => (*status, "{}".to_owned()),
            Usage::Hang => return std::future::pending().await,
        };
        let length = body.len();
        let head = format!(
            "HTTP/1.1 {status} Told\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
        );
        let body = if line.starts_with("HEAD ") { String::new() } else { body };
        if stream.write_all((head + &body).as_bytes()).await.is_err() {
            return;
        }
    }
}

fn limits(percent: u32) -> String {
    format!(
        r#"{{"five_hour":{{"utilization":{percent},"resets_at":"2099-01-01T00:00:00+00:00"}},"seven_day":{{"utilization":3,"resets_at":"2099-01-04T00:00:00+00:00"}}}}"#
    )
}

fn limits_of(family: &str, percent: u32) -> String {
    let rest = limits(1);
    let rest = rest.trim_start_matches('{');
    format!(
        r#"{{"seven_day_{family}":{{"utilization":{percent},"resets_at":"2099-01-02T00:00:00+00:00"}},{rest}"#
    )
}

/// The head of a request; its body, which none of these has to be understood for, is left to be dropped with the
/// connection.
async fn read_head<S: AsyncRead + Unpin>(stream: &mut S) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() > HEAD_BYTES {
            return None;
        }
        head.push(stream.read_u8().await.ok()?);
    }
    String::from_utf8(head).ok()
}
