//! The built program, started with an environment of its own.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    process::{Child, ChildStdout, Command, Stdio},
    sync::{Arc, Mutex},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A started program; killed when dropped.
pub(crate) struct Program {
    child: Child,
    output: BufReader<ChildStdout>,
    errors: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
    address: Option<String>,
    _state: TempDir,
}

impl Program {
    /// Starts it with these variables; any port and a state directory of its own where they name none.
    pub(crate) fn start(arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        Self::start_as(None, arguments, variables)
    }

    /// Starts it as a user that is not root.
    pub(crate) fn start_unprivileged(variables: &[(&str, &str)]) -> Self {
        Self::start_as(unprivileged(), &[], variables)
    }

    fn start_as(user: Option<u32>, arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let state = reachable_directory();
        // Whoever brings a database wants no server besides.
        let has_database = variables.iter().any(|(name, _)| *name == "DATABASE_URL");
        let servers = if has_database { "never" } else { "auto" };
        let mut command = command(env!("CARGO_BIN_EXE_api-server"), user);
        command
            .args(arguments)
            .env_clear()
            .env("PATH", testing::programs::search_path())
            .env("OPENTIGER_STATE_DIR", state.path())
            .env("OPENTIGER_API_LISTEN", "127.0.0.1:0")
            .env("OPENTIGER_PROCESS_MANAGER", "off")
            .env("OPENTIGER_EMBEDDED", servers)
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        std::os::unix::fs::chown(state.path(), user, None).expect("the directory is ours");
        let mut child = command.spawn().expect("the program is built and can be reached");
        let output = BufReader::new(child.stdout.take().expect("standard output is a pipe"));
        let source = BufReader::new(child.stderr.take().expect("standard error is a pipe"));
        let errors = Arc::new(Mutex::new(String::new()));
        let sink = Arc::clone(&errors);
        let reader = std::thread::spawn(move || {
            for line in source.lines().map_while(Result::ok) {
                sink.lock().expect("no reader panics").extend([line.as_str(), "\n"]);
            }
        });
        Self { child, output, errors, reader: Some(reader), address: None, _state: state }
    }

    /// What another program of the same user is told when it asks for this one's environment: exit code and complaint.
    pub(crate) fn environment_as_its_user(&self) -> (Option<i32>, String) {
        let mut command = command("cat", unprivileged());
        command.arg(format!("/proc/{}/environ", self.child.id())).env("LC_ALL", "C");
        let output = command.stdin(Stdio::null()).output().expect("`cat` is installed");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// Where it listens, as it says itself.
    pub(crate) fn address(&mut self) -> String {
        if let Some(address) = &self.address {
            return address.clone();
        }
        let mut line = String::new();
        self.output.read_line(&mut line).expect("standard output can be read");
        let address = line.trim().strip_prefix("api-server listens on http://");
        let address = address.map(ToOwned::to_owned);
        assert!(address.is_some(), "it said `{line}` and: {}", self.said());
        self.address = address;
        self.address.clone().unwrap_or_default()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.expect("a child has a pid"), signal).expect("the child is not reaped yet");
    }

    /// Waits for its end; no code where a signal ended it.
    pub(crate) fn exit_code(&mut self) -> Option<i32> {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("the child can be waited for") {
                return status.code();
            }
            assert!(began.elapsed() < PATIENCE, "it does not end: {}", self.said());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// What else it wrote to standard output, after its end.
    pub(crate) fn output(&mut self) -> String {
        let mut rest = String::new();
        self.output.read_to_string(&mut rest).expect("standard output can be read");
        rest
    }

    /// All it wrote to standard error, after its end.
    pub(crate) fn errors(&mut self) -> String {
        if let Some(reader) = self.reader.take() {
            reader.join().expect("the reader does not panic");
        }
        self.said()
    }

    /// Waits until it wrote a text to standard error.
    pub(crate) fn wait_for_error(&self, text: &str) {
        let began = Instant::now();
        while !self.said().contains(text) {
            assert!(began.elapsed() < PATIENCE, "`{text}` does not come: {}", self.said());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn said(&self) -> String {
        self.errors.lock().expect("no reader panics").clone()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already, which is as good.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A user that is nobody in particular, where this process may choose one; else it is none of root's already.
fn unprivileged() -> Option<u32> {
    rustix::process::geteuid().is_root().then_some(65534)
}

#[expect(
    clippy::disallowed_methods,
    reason = "the program under test, started as its users start it"
)]
fn command(program: &str, user: Option<u32>) -> Command {
    let mut command = Command::new(program);
    if let Some(id) = user {
        command.uid(id).gid(id);
    }
    command
}

/// A directory that a server of another user can reach into.
pub(crate) fn reachable_directory() -> TempDir {
    let directory = TempDir::new().expect("a directory can be made");
    let permissions = std::fs::Permissions::from_mode(0o711);
    std::fs::set_permissions(directory.path(), permissions).expect("the directory is ours");
    directory
}

/// The whole answer to a request, head and body.
pub(crate) fn get(address: &str, path: &str) -> String {
    get_with(address, path, "")
}

/// The same with more lines of the head, each with its end.
pub(crate) fn get_with(address: &str, path: &str, headers: &str) -> String {
    exchange(
        address,
        &format!("GET {path} HTTP/1.1\r\nhost: {address}\r\n{headers}connection: close\r\n\r\n"),
    )
}

/// The JSON body of an answer, which must be a success.
#[track_caller]
pub(crate) fn json(answer: &str) -> serde_json::Value {
    let (head, body) = answer.split_once("\r\n\r\n").expect("the head ends");
    assert!(head.starts_with("HTTP/1.1 2"), "{answer}");
    serde_json::from_str(body).expect("the body is JSON")
}

/// A change of settings.
pub(crate) fn patch_config(address: &str, updates: &serde_json::Value) -> String {
    let body = serde_json::json!({ "updates": updates }).to_string();
    send("PATCH", address, "/config", "", &body)
}

/// The same with a JSON body.
pub(crate) fn post(address: &str, path: &str, body: &str) -> String {
    send("POST", address, path, "", body)
}

/// The same with another method and more lines of the head, each with its end.
pub(crate) fn send(method: &str, address: &str, path: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    exchange(
        address,
        &format!(
            "{method} {path} HTTP/1.1\r\nhost: {address}\r\n{headers}connection: close\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        ),
    )
}

/// A connection on which the server waits for the rest of a body.
pub(crate) fn half_a_request(address: &str) -> TcpStream {
    let mut stream = connect(address);
    let head = format!(
        "POST /tasks HTTP/1.1\r\nhost: {address}\r\nexpect: 100-continue\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).expect("the server listens");
    // The server asks for the body once a handler waits for it.
    let mut asked = [0; 12];
    stream.read_exact(&mut asked).expect("the server answers");
    assert_eq!(asked, *b"HTTP/1.1 100");
    stream
}

fn exchange(address: &str, request: &str) -> String {
    let mut stream = connect(address);
    stream.write_all(request.as_bytes()).expect("the server listens");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("the server answers");
    answer
}

fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).expect("the server listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("the time is not zero");
    stream
}
