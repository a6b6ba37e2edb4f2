//! Asks a server on loopback which process it is, in the few words of its protocol that this takes.

use std::{net::Ipv4Addr, time::Duration};

use core_types::secret::Secret;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

/// How long the answer may take; a server that loads its data answers, too.
const PATIENCE: Duration = Duration::from_secs(2);
/// More than `INFO server` ever says.
const MOST: usize = 64 << 10;

/// The process that listens there, once it takes commands.
pub(crate) async fn process_at(port: u16, password: &Secret) -> Option<i32> {
    timeout(PATIENCE, ask(port, password)).await.ok()?
}

async fn ask(port: u16, password: &Secret) -> Option<i32> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.ok()?;
    let question = format!("AUTH {}\r\nINFO server\r\nPING\r\nQUIT\r\n", password.expose());
    stream.write_all(question.as_bytes()).await.ok()?;
    let mut answer = Vec::new();
    let mut limited = stream.take(MOST as u64);
    limited.read_to_end(&mut answer).await.ok()?;
    understand(&String::from_utf8_lossy(&answer))
}

fn understand(answer: &str) -> Option<i32> {
    let mut lines = answer.lines();
    if lines.next() != Some("+OK") || !lines.clone().any(|line| line == "+PONG") {
        return None;
    }
    lines.find_map(|line| line.strip_prefix("process_id:"))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_server_that_takes_commands_is_ready() {
        let ready = "+OK\r\n$40\r\n# Server\r\nprocess_id:17\r\nuptime:1\r\n\r\n+PONG\r\n+OK\r\n";
        assert_eq!(understand(ready), Some(17));
        assert_eq!(understand(&ready.replace("+PONG", "-LOADING Redis is loading")), None);
        assert_eq!(understand(&ready.replacen("+OK", "-WRONGPASS no", 1)), None);
    }
}
