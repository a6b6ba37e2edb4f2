//! An `sshd` of a test's own on loopback, with keys that were made for it, and the client's configuration for it.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    time::Duration,
};

use tempfile::TempDir;

use crate::{
    programs::{installed_program, search_path},
    repository::set_mode,
    wait::wait_for,
};

/// A server that ends with this value.
#[derive(Debug)]
pub struct SshServer {
    directory: TempDir,
    port: u16,
    server: Child,
}

impl SshServer {
    /// Starts a server that lets the user of this process in by a key.
    ///
    /// # Panics
    /// When it cannot be started.
    pub async fn start() -> Self {
        let directory = TempDir::new().expect("a temporary directory can be made");
        let place = directory.path();
        for key in ["host", "user"] {
            let file = place.join(key);
            run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", &text(&file)]);
        }
        fs::copy(place.join("user.pub"), place.join("authorized")).expect("a file can be copied");
        set_mode(&place.join("authorized"), 0o600);
        if rustix::process::geteuid().is_root() {
            fs::create_dir_all("/run/sshd").expect("sshd of root needs this directory");
        }
        let port = free_port();
        let config = format!(
            "ListenAddress 127.0.0.1\nPort {port}\nHostKey {host}\nAuthorizedKeysFile {keys}\n\
             PidFile none\nStrictModes no\nUsePAM no\nPasswordAuthentication no\n\
             KbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\n\
             AcceptEnv GIT_PROTOCOL\nSetEnv PATH={path}\n",
            host = place.join("host").display(),
            keys = place.join("authorized").display(),
            path = search_path(),
        );
        fs::write(place.join("sshd_config"), config).expect("a file can be written");
        let server = start(place);
        let server = Self { directory, port, server };
        server.write_client_config(&format!(
            "  IdentityFile {}\n  IdentitiesOnly yes\n  IdentityAgent none\n",
            server.directory.path().join("user").display()
        ));
        wait_for("sshd to listen", Duration::from_secs(20), async || {
            TcpStream::connect(("127.0.0.1", port)).map(drop).map_err(|error| error.to_string())
        })
        .await;
        server
    }

    /// The port it listens on.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// A configuration file for ssh with which a client gets in, once it trusts the server's key.
    #[must_use]
    pub fn client_config(&self) -> PathBuf {
        self.directory.path().join("ssh_config")
    }

    /// Where that configuration keeps the keys of hosts.
    #[must_use]
    pub fn known_hosts(&self) -> PathBuf {
        self.directory.path().join("known_hosts")
    }

    /// Lets clients know the server's key.
    pub fn make_known(&self) {
        let key = fs::read_to_string(self.directory.path().join("host.pub"));
        let line = format!("[127.0.0.1]:{} {}", self.port, key.expect("the key is there"));
        fs::write(self.known_hosts(), line).expect("a file can be written");
    }

    fn write_client_config(&self, identity: &str) {
        let config = format!(
            "Host *\n  Port {port}\n  UserKnownHostsFile {known}\n  GlobalKnownHostsFile /dev/null\n{identity}",
            port = self.port,
            known = self.known_hosts().display(),
        );
        fs::write(self.client_config(), config).expect("a file can be written");
    }

    /// Lets the client's configuration name no key, so that only an agent has one.
    pub fn use_agent_alone(&self) {
        self.write_client_config("  IdentityFile none\n  ForwardAgent yes\n");
    }

    /// Starts an agent that has the user's key.
    ///
    /// # Panics
    /// When it cannot be started.
    pub async fn start_agent(&self) -> SshAgent {
        let socket = self.directory.path().join("agent");
        #[expect(
            clippy::disallowed_methods,
            reason = "the test stands in for the user's own shell"
        )]
        let mut command = std::process::Command::new(installed_program("ssh-agent"));
        command.args(["-D", "-a", &text(&socket)]).stdin(Stdio::null()).stdout(Stdio::null());
        let agent = SshAgent { agent: command.spawn().expect("ssh-agent can be started"), socket };
        wait_for("ssh-agent to listen", Duration::from_secs(20), async || {
            UnixStream::connect(&agent.socket).map(drop).map_err(|error| error.to_string())
        })
        .await;
        let key = self.directory.path().join("user");
        #[expect(
            clippy::disallowed_methods,
            reason = "the test stands in for the user's own shell"
        )]
        let mut command = std::process::Command::new(installed_program("ssh-add"));
        let added = command.arg("-q").arg(key).env("SSH_AUTH_SOCK", &agent.socket).status();
        assert!(added.is_ok_and(|status| status.success()), "ssh-add failed");
        agent
    }

    /// Lets nobody in any more.
    pub fn lock_out(&self) {
        fs::write(self.directory.path().join("authorized"), "").expect("a file can be written");
    }
}

/// An agent with a key that ends with this value.
#[derive(Debug)]
pub struct SshAgent {
    agent: Child,
    socket: PathBuf,
}

impl SshAgent {
    /// What `SSH_AUTH_SOCK` shall say.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }
}

impl Drop for SshAgent {
    fn drop(&mut self) {
        self.agent.kill().ok();
        self.agent.wait().ok();
    }
}

impl Drop for SshServer {
    fn drop(&mut self) {
        self.server.kill().ok();
        self.server.wait().ok();
    }
}

fn start(place: &Path) -> Child {
    let found = PathBuf::from("/usr/sbin/sshd");
    let program = if found.is_file() { found } else { installed_program("sshd") };
    #[expect(clippy::disallowed_methods, reason = "the server of a test is none of our processes")]
    let mut command = std::process::Command::new(program);
    command
        .args(["-D", "-e", "-f", &text(&place.join("sshd_config"))])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(fs::File::create(place.join("sshd.log")).expect("a file can be made"));
    command.spawn().expect("sshd can be started")
}

fn run(program: &str, args: &[&str]) {
    #[expect(clippy::disallowed_methods, reason = "the test stands in for the user's own shell")]
    let mut command = std::process::Command::new(installed_program(program));
    let status = command.args(args).status();
    assert!(status.is_ok_and(|status| status.success()), "{program} failed");
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// A port that nobody listens on now.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    listener.local_addr().expect("it is bound").port()
}
