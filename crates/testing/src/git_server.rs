//! A forge of a test's own: the real `git http-backend` behind HTTPS on loopback, with a certificate authority that was
//! made for it, basic authentication, and faults on demand.

use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
};

use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpListener,
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

use crate::{
    certificate::{AUTHORITY, certified},
    programs::{installed_program, search_path},
    repository::{ScratchRepository, git_in},
};

/// The names that the certificate is made for.
const NAMES: &[&str] = &["127.0.0.1", "localhost"];
/// Most bytes of a request's head.
const HEAD_BYTES: usize = 64 << 10;

/// What the server does with the requests that come.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Behaviour {
    /// It serves.
    #[default]
    Serve,
    /// It answers with this status and header lines, and nothing else.
    Answer(u16, String),
    /// It reads the request and never answers.
    Hang,
    /// It closes the connection before it answers.
    HangUp,
    /// It carries a push through, and closes the connection in place of the answer.
    LoseAnswerOfPush,
    /// It sends so many bytes of the answer to a fetch, and then nothing.
    StallFetch(usize),
}

/// A server that ends with this value.
#[derive(Debug)]
pub struct GitServer {
    shared: Arc<Shared>,
    port: u16,
    _serving: JoinSet<()>,
}

#[derive(Debug)]
struct Shared {
    directory: TempDir,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    behaviour: Behaviour,
    /// `user:token` that is asked for.
    login: Option<String>,
    requests: Vec<String>,
}

/// A request, read whole.
struct Request {
    method: String,
    path: String,
    query: String,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl GitServer {
    /// Starts a server without repositories.
    ///
    /// # Panics
    /// When it cannot be started.
    pub async fn start() -> Self {
        let directory = TempDir::new().expect("a temporary directory can be made");
        fs::create_dir(directory.path().join("repositories")).expect("a directory can be made");
        let acceptor = TlsAcceptor::from(Arc::new(certified(directory.path(), NAMES)));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let port = listener.local_addr().expect("it is bound").port();
        let shared = Arc::new(Shared { directory, state: Mutex::default() });
        let mut serving = JoinSet::new();
        let for_connections = Arc::clone(&shared);
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, shared) = (acceptor.clone(), Arc::clone(&for_connections));
                connections.spawn(async move {
                    if let Ok(mut stream) = acceptor.accept(stream).await {
                        serve(&mut stream, &shared).await;
                        stream.shutdown().await.ok();
                    }
                });
                while connections.try_join_next().is_some() {}
            }
        });
        Self { shared, port, _serving: serving }
    }

    /// `127.0.0.1:port`.
    #[must_use]
    pub fn authority(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The address of a repository.
    #[must_use]
    pub fn url(&self, name: &str) -> String {
        format!("https://{}/{name}.git", self.authority())
    }

    /// The certificate authority that a client must trust.
    #[must_use]
    pub fn ca_file(&self) -> PathBuf {
        self.shared.directory.path().join(AUTHORITY)
    }

    /// Where a repository lies.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.shared.directory.path().join("repositories").join(format!("{name}.git"))
    }

    /// Serves a copy of a repository under a name.
    pub fn add(&self, name: &str, from: &ScratchRepository) {
        let (from, into) = (from.path().to_string_lossy(), self.path(name));
        let into = into.to_string_lossy();
        git_in(Path::new("/"), &["clone", "--quiet", "--bare", &from, &into]);
        git_in(Path::new(&*into), &["config", "http.receivepack", "true"]);
    }

    /// Runs git in a served repository.
    pub fn git(&self, name: &str, args: &[&str]) -> String {
        git_in(&self.path(name), args)
    }

    /// Asks everybody for this login from now on.
    pub fn require_login(&self, user: &str, token: &str) {
        self.state(|state| state.login = Some(format!("{user}:{token}")));
    }

    /// Behaves like this from now on.
    pub fn behave(&self, behaviour: Behaviour) {
        self.state(|state| state.behaviour = behaviour);
    }

    /// The requests so far, as `METHOD /path?query`.
    #[must_use]
    pub fn requests(&self) -> Vec<String> {
        self.state(|state| state.requests.clone())
    }

    fn state<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        self.shared.state(change)
    }
}

impl Shared {
    fn state<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Answers one request; the connection is closed after it.
async fn serve<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, shared: &Arc<Shared>) {
    let Some(request) = read_request(stream).await else {
        return;
    };
    let line = format!("{} {}?{}", request.method, request.path, request.query);
    let (behaviour, login) = shared.state(|state| {
        state.requests.push(line);
        (state.behaviour.clone(), state.login.clone())
    });
    let is_push = request.path.ends_with("/git-receive-pack");
    let is_fetch = request.path.ends_with("/git-upload-pack")
        && String::from_utf8_lossy(&request.body).contains("command=fetch");
    match behaviour {
        Behaviour::Answer(status, headers) => return answer(stream, status, &headers).await,
        Behaviour::Hang => return std::future::pending().await,
        Behaviour::HangUp => return,
        Behaviour::Serve | Behaviour::LoseAnswerOfPush | Behaviour::StallFetch(_) => {}
    }
    if login.is_some_and(|login| !is_logged_in(&request, &login)) {
        return answer(stream, 401, "WWW-Authenticate: Basic realm=\"test\"\r\n").await;
    }
    let root = shared.directory.path().join("repositories");
    let served = tokio::task::spawn_blocking(move || backend(&root, &request)).await;
    let response = served.expect("the backend does not panic");
    match behaviour {
        Behaviour::LoseAnswerOfPush if is_push => {}
        Behaviour::StallFetch(bytes) if is_fetch => {
            let part = response.get(..bytes).unwrap_or(&response);
            stream.write_all(part).await.ok();
            stream.flush().await.ok();
            std::future::pending().await
        }
        _ => {
            stream.write_all(&response).await.ok();
        }
    }
}

async fn answer<S: AsyncWrite + Unpin>(stream: &mut S, status: u16, headers: &str) {
    let head = format!(
        "HTTP/1.1 {status} As told\r\n{headers}Content-Length: 0\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.ok();
}

fn is_logged_in(request: &Request, login: &str) -> bool {
    let given = request.headers.get("authorization").and_then(|value| value.strip_prefix("Basic "));
    given.is_some_and(|given| base64(login.as_bytes()) == given)
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let group = |chunk: &[u8]| {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or_default());
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        let digit = |at: usize| {
            let value = (bits >> (18 - 6 * at)) as usize % 64;
            if at > chunk.len() {
                '='
            } else {
                char::from(DIGITS.get(value).copied().unwrap_or(b'='))
            }
        };
        (0..4).map(digit).collect::<String>()
    };
    bytes.chunks(3).map(group).collect()
}

async fn read_request<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S) -> Option<Request> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        if bytes.len() > HEAD_BYTES || stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let mut rest = bytes.split_off(end + 4);
    let head = String::from_utf8_lossy(&bytes).into_owned();
    let mut lines = head.lines();
    let mut first = lines.next()?.split(' ');
    let (method, target) = (first.next()?.to_owned(), first.next()?.to_owned());
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let header = |line: &str| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_ascii_lowercase(), value.trim().to_owned()))
    };
    let headers: BTreeMap<String, String> = lines.filter_map(header).collect();
    if headers.contains_key("expect") {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.ok()?;
    }
    let body = if headers.get("transfer-encoding").is_some_and(|value| value == "chunked") {
        while !rest.windows(5).any(|window| window == b"0\r\n\r\n") || dechunked(&rest).is_none() {
            if stream.read_buf(&mut rest).await.ok()? == 0 {
                return None;
            }
        }
        dechunked(&rest)?
    } else {
        let length = headers.get("content-length").and_then(|value| value.parse().ok());
        let length: usize = length.unwrap_or_default();
        while rest.len() < length {
            if stream.read_buf(&mut rest).await.ok()? == 0 {
                return None;
            }
        }
        rest
    };
    Some(Request { method, path: path.to_owned(), query: query.to_owned(), headers, body })
}

/// The content of a chunked body; none where it is not whole yet.
fn dechunked(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|window| window == b"\r\n")?;
        let size = std::str::from_utf8(rest.get(..end)?).ok()?;
        let size = usize::from_str_radix(size.trim(), 16).ok()?;
        let chunk = rest.get(end + 2..end + 2 + size)?;
        rest = rest.get(end + 2 + size + 2..)?;
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(chunk);
    }
}

/// Has git answer, and returns the whole HTTP answer.
fn backend(root: &Path, request: &Request) -> Vec<u8> {
    #[expect(clippy::disallowed_methods, reason = "the server of a test is none of our processes")]
    let mut command = std::process::Command::new(installed_program("git"));
    command
        .arg("http-backend")
        .env_clear()
        .env("PATH", search_path())
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_COUNT", "1")
        .env("GIT_CONFIG_KEY_0", "safe.directory")
        .env("GIT_CONFIG_VALUE_0", "*")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("REQUEST_METHOD", &request.method)
        .env("PATH_INFO", &request.path)
        .env("QUERY_STRING", &request.query)
        .env("REMOTE_ADDR", "127.0.0.1")
        .env("CONTENT_LENGTH", request.body.len().to_string());
    for (header, variable) in [
        ("content-type", "CONTENT_TYPE"),
        ("content-encoding", "HTTP_CONTENT_ENCODING"),
        ("git-protocol", "GIT_PROTOCOL"),
    ] {
        if let Some(value) = request.headers.get(header) {
            command.env(variable, value);
        }
    }
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    let mut child = child.expect("git can be started");
    let mut input = child.stdin.take().expect("its input is a pipe");
    let body = request.body.clone();
    let feeding = std::thread::spawn(move || input.write_all(&body).ok());
    let output = child.wait_with_output().expect("git can be waited for").stdout;
    feeding.join().ok();
    let end = output.windows(4).position(|window| window == b"\r\n\r\n");
    let (head, content) = output.split_at(end.map_or(0, |end| end + 4));
    let head = String::from_utf8_lossy(head).into_owned();
    let status = head.lines().find_map(|line| line.strip_prefix("Status: "));
    let status = status.unwrap_or(if end.is_some() { "200 OK" } else { "500 No answer" });
    let headers: Vec<&str> =
        head.lines().filter(|line| !line.is_empty() && !line.starts_with("Status:")).collect();
    let mut response = format!("HTTP/1.1 {status}\r\n").into_bytes();
    for header in headers {
        response.extend(format!("{header}\r\n").as_bytes());
    }
    response.extend(
        format!("Content-Length: {}\r\nConnection: close\r\n\r\n", content.len()).as_bytes(),
    );
    response.extend_from_slice(content);
    response
}
