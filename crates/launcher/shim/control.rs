//! Requests from outside: lines in the fifo `ctl`, and signals to the shim itself.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _},
    os::{fd::AsRawFd as _, unix::fs::OpenOptionsExt as _},
    time::Duration,
};

use crate::{
    record::{self, quoted_bytes},
    sys,
};

/// The longest line that is taken.
const MAX_LINE: usize = 4 << 10;

/// What somebody asks for.
pub(crate) enum Request {
    Renew,
    /// The cause as JSON, and the grace if the asker named one.
    Stop {
        cause: String,
        grace: Option<Duration>,
    },
}

pub(crate) struct Control {
    fifo: File,
    signals: i32,
    /// Whether this is the first process of a container.
    is_first: bool,
    line: Vec<u8>,
}

impl Control {
    /// Makes the fifo and takes over the signals.
    pub(crate) fn open() -> io::Result<Self> {
        let signals = [
            sys::SIGCHLD,
            sys::SIGTERM,
            sys::SIGINT,
            sys::SIGQUIT,
            sys::SIGHUP,
            sys::SIGUSR1,
            sys::SIGUSR2,
            // A limit of file size is inherited; beyond it a write must fail, not kill.
            sys::SIGXFSZ,
        ];
        let signals = sys::signal_descriptor(&signals)?;
        match sys::mkfifo(c"ctl") {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        record::open_fifo("ctl")?;
        // Reading and writing, so that the fifo never ends when a writer leaves.
        let mut options = OpenOptions::new();
        let fifo = options.read(true).write(true).custom_flags(sys::O_NONBLOCK).open("ctl")?;
        Ok(Self { fifo, signals, is_first: std::process::id() == 1, line: Vec::new() })
    }

    /// The descriptors to wait for.
    pub(crate) fn descriptors(&self) -> [i32; 2] {
        [self.fifo.as_raw_fd(), self.signals]
    }

    /// All requests that are there.
    pub(crate) fn take(&mut self) -> Vec<Request> {
        let mut requests = self.take_signals();
        let mut buffer = [0; MAX_LINE];
        // One read a turn: a flood of requests must not keep the output from being drained.
        let count = self.fifo.read(&mut buffer).unwrap_or(0);
        for byte in buffer.iter().take(count) {
            if *byte == b'\n' {
                requests.extend(parse(&std::mem::take(&mut self.line)));
            } else if self.line.len() < MAX_LINE {
                self.line.push(*byte);
            }
        }
        requests
    }

    fn take_signals(&self) -> Vec<Request> {
        let mut requests = Vec::new();
        let mut info = [0; 128];
        while sys::read(self.signals, &mut info).is_ok_and(|count| count == info.len()) {
            let word = |at: usize| {
                let bytes = info.get(at..at + 4).and_then(|word| word.try_into().ok());
                bytes.map_or(0, u32::from_le_bytes)
            };
            let (signal, sender) = (word(0) as i32, word(12));
            // The first process of a container hears the engine, which has no number there. Who
            // has one is inside, and what is inside does not end its own launch by a signal.
            if self.is_first && sender != 0 {
                continue;
            }
            if matches!(signal, sys::SIGTERM | sys::SIGINT | sys::SIGQUIT) {
                let cause = format!("{{\"engine_or_operator\":{{\"signal\":{signal}}}}}");
                requests.push(Request::Stop { cause, grace: None });
            }
        }
        requests
    }
}

fn parse(line: &[u8]) -> Option<Request> {
    if line == b"renew" {
        return Some(Request::Renew);
    }
    let rest = line.strip_prefix(b"stop ")?;
    let space = rest.iter().position(|byte| *byte == b' ')?;
    let (millis, reason) = rest.split_at(space);
    let millis: u64 = std::str::from_utf8(millis).ok()?.parse().ok()?;
    let reason = quoted_bytes(reason.get(1..).unwrap_or_default());
    let cause = format!("{{\"requested\":{{\"reason\":{reason}}}}}");
    Some(Request::Stop { cause, grace: Some(Duration::from_millis(millis)) })
}
