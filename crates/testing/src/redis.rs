//! Real Redis servers for tests: each its own, on a port that stays its own while it is stopped, killed or started again.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    process::{Child, Command, Stdio},
    time::Duration,
};

use core_types::secret::Secret;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
};

use crate::{programs::installed_program, wait::wait_for};

const PASSWORD: &str = "testing";
/// Long enough for every wait here.
const LIMIT: Duration = Duration::from_secs(30);

/// A server of one test; killed with this value.
#[derive(Debug)]
pub struct TestRedis {
    port: u16,
    directory: TempDir,
    process: Option<Child>,
}

/// A connection that speaks the protocol's plain words, one question after another.
#[derive(Debug)]
pub struct Talk(BufReader<TcpStream>);

impl TestRedis {
    /// Starts a server without data on a free port and waits until it answers.
    ///
    /// # Panics
    /// When it cannot be started.
    pub async fn start() -> Self {
        let mut server = Self::absent();
        server.start_again().await;
        server
    }

    /// A place for a server that is not started yet.
    ///
    /// # Panics
    /// When there is no free port.
    #[must_use]
    pub fn absent() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        let port = listener.local_addr().expect("a bound socket has an address").port();
        let directory = TempDir::new().expect("a directory can be made");
        Self { port, directory, process: None }
    }

    /// How to connect, password included.
    #[must_use]
    pub fn url(&self) -> Secret {
        self.url_at(self.address())
    }

    /// How to connect where something stands in front of it.
    #[must_use]
    pub fn url_at(&self, address: SocketAddr) -> Secret {
        Secret::new(format!("redis://:{PASSWORD}@{address}"))
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// Starts it (again) on its port, without data, and waits until it answers.
    ///
    /// # Panics
    /// When it cannot be started.
    pub async fn start_again(&mut self) {
        self.kill();
        let port = self.port.to_string();
        #[expect(clippy::disallowed_methods, reason = "a test server is no part of the product")]
        let mut command = Command::new(installed_program("redis-server"));
        command.args(["--port", &port, "--bind", "127.0.0.1", "--requirepass", PASSWORD]);
        command.args(["--save", "", "--appendonly", "no"]).current_dir(self.directory.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.process = Some(command.spawn().expect("redis-server can be started"));
        wait_for("redis to answer", LIMIT, async || {
            let mut talk = Talk::to(&self.url()).await.map_err(|error| error.to_string())?;
            let answer = talk.say("PING").await;
            if answer == "+PONG" { Ok(()) } else { Err(answer) }
        })
        .await;
    }

    /// Kills it; nothing that it had is kept.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().ok();
            process.wait().ok();
        }
    }

    /// Stops its process: it takes connections and says nothing.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets its process go on.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// Says one thing on a connection of its own and gives the answer.
    ///
    /// # Panics
    /// When it does not answer.
    pub async fn say(&self, command: &str) -> String {
        Talk::to(&self.url()).await.expect("redis answers").say(command).await
    }

    fn signal(&self, signal: Signal) {
        let pid = self.process.as_ref().and_then(|process| i32::try_from(process.id()).ok());
        let pid = pid.and_then(Pid::from_raw).expect("the server was started");
        kill_process(pid, signal).expect("the server lives");
    }
}

impl Drop for TestRedis {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Talk {
    /// Connects to `redis://[:password@]host:port` and signs in.
    ///
    /// # Errors
    /// The server cannot be reached.
    pub async fn to(url: &Secret) -> io::Result<Self> {
        let text = url.expose().trim_start_matches("redis://");
        let (password, address) = text.rsplit_once('@').unwrap_or(("", text));
        let mut talk = Self(BufReader::new(TcpStream::connect(address).await?));
        if let Some(password) = password.strip_prefix(':') {
            talk.say(&format!("AUTH {password}")).await;
        }
        Ok(talk)
    }

    /// Says one thing and gives the answer: its line, or the whole text where the answer is one. Empty where the
    /// connection ended.
    pub async fn say(&mut self, command: &str) -> String {
        self.try_say(command).await.unwrap_or_default()
    }

    async fn try_say(&mut self, command: &str) -> io::Result<String> {
        self.0.write_all(format!("{command}\r\n").as_bytes()).await?;
        let mut line = String::new();
        self.0.read_line(&mut line).await?;
        let length = line.strip_prefix('$').and_then(|length| length.trim().parse::<usize>().ok());
        let Some(length) = length else {
            return Ok(line.trim_end().to_owned());
        };
        let mut text = vec![0; length + 2];
        self.0.read_exact(&mut text).await?;
        Ok(String::from_utf8_lossy(&text).trim_end().to_owned())
    }
}
