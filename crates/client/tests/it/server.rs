//! A server that answers each connection with the bytes that a test gives it, and keeps what it was asked.

use std::sync::{Arc, Mutex};

use client::{address::BaseUrl, client::Client, credentials::Credentials};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// Gone with the test.
pub(crate) struct Server {
    pub(crate) base: BaseUrl,
    asked: Arc<Mutex<Vec<String>>>,
    _task: JoinSet<()>,
}

impl Server {
    /// Answers the first connection with the first text, and so on; each connection is then closed.
    pub(crate) async fn answering(answers: Vec<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("the loopback has a port");
        let base = BaseUrl::of_listener(listener.local_addr().expect("it is bound"));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&asked);
        let mut task = JoinSet::new();
        task.spawn(async move {
            for answer in answers {
                let (mut stream, _) = listener.accept().await.expect("a client comes");
                let head = read_head(&mut stream).await;
                sink.lock().expect("no test panics with it").push(head);
                // A client that left early is no fault of the server.
                stream.write_all(answer.as_bytes()).await.ok();
                stream.shutdown().await.ok();
            }
        });
        Self { base, asked, _task: task }
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(self.base.clone(), Credentials::None)
    }

    /// The heads of the requests so far, in lower case.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("no test panics with it").clone()
    }
}

async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).await.is_ok_and(|read| read > 0) {
        head.extend_from_slice(&byte);
    }
    String::from_utf8_lossy(&head).to_lowercase()
}

/// A whole answer.
pub(crate) fn answer(status: &str, headers: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
}

/// The beginning of a stream of events that breaks off after `body`.
pub(crate) fn cut_stream(body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n{length:x}\r\n{body}\r\n"
    )
}
