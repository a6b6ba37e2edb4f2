//! A small HTTP client for the API on this machine: JSON in and out, and server-sent events.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{Client as HyperClient, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::Value;

/// The longest a single answer may take. Events have no such limit.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// A client of one server.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    base: String,
    http: HyperClient<HttpConnector, Full<Bytes>>,
}

impl Client {
    /// A client of the server at `base`, such as `http://127.0.0.1:4301`.
    #[must_use]
    pub(crate) fn new(base: impl Into<String>) -> Self {
        Self { base: base.into(), http: HyperClient::builder(TokioExecutor::new()).build_http() }
    }

    /// The address of the server.
    #[must_use]
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// Asks for a resource; anything but success is an error that holds the server's words.
    pub(crate) async fn get(&self, path: &str) -> Result<Value> {
        let (status, body) = self.try_get(path).await?;
        refuse_failure(Method::GET, path, status, &body)?;
        Ok(body)
    }

    /// Asks for a resource and hands back whatever the server says.
    pub(crate) async fn try_get(&self, path: &str) -> Result<(StatusCode, Value)> {
        let request = self.request(Method::GET, path).body(Full::default())?;
        self.answer(request).await.with_context(|| format!("GET {path}"))
    }

    /// Sends a JSON document; anything but success is an error that holds the server's words.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        let request = self
            .request(Method::POST, path)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::from(body.to_string()))?;
        let (status, body) = self.answer(request).await.with_context(|| format!("POST {path}"))?;
        refuse_failure(Method::POST, path, status, &body)?;
        Ok(body)
    }

    /// Opens a stream of server-sent events.
    pub(crate) async fn events(&self, path: &str) -> Result<Events> {
        let request = self
            .request(Method::GET, path)
            .header(header::ACCEPT, "text/event-stream")
            .body(Full::default())?;
        let response = tokio::time::timeout(ANSWER_LIMIT, self.http.request(request))
            .await
            .with_context(|| format!("GET {path}"))??;
        if !response.status().is_success() {
            bail!("GET {path} was answered with {}", response.status());
        }
        Ok(Events { body: response.into_body(), buffer: Vec::new() })
    }

    fn request(&self, method: Method, path: &str) -> http::request::Builder {
        Request::builder().method(method).uri(format!("{}{path}", self.base))
    }

    async fn answer(&self, request: Request<Full<Bytes>>) -> Result<(StatusCode, Value)> {
        let exchange = async {
            let response = self.http.request(request).await?;
            read(response).await
        };
        tokio::time::timeout(ANSWER_LIMIT, exchange).await.context("wait for the answer")?
    }
}

async fn read(response: Response<Incoming>) -> Result<(StatusCode, Value)> {
    let status = response.status();
    let bytes = response.into_body().collect().await?.to_bytes();
    let body = serde_json::from_slice(&bytes)
        .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()));
    Ok((status, body))
}

fn refuse_failure(method: Method, path: &str, status: StatusCode, body: &Value) -> Result<()> {
    if !status.is_success() {
        bail!("{method} {path} was answered with {status}: {body}");
    }
    Ok(())
}

/// One server-sent event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ServerEvent {
    /// The id to resume from.
    pub id: Option<String>,
    /// The event's name.
    pub name: Option<String>,
    /// Its data, lines joined.
    pub data: String,
}

/// An open stream of server-sent events.
#[derive(Debug)]
pub(crate) struct Events {
    body: Incoming,
    buffer: Vec<u8>,
}

impl Events {
    /// The next event; nothing more when the server ended the stream.
    pub(crate) async fn next(&mut self) -> Result<Option<ServerEvent>> {
        loop {
            if let Some(event) = take_event(&mut self.buffer) {
                return Ok(Some(event));
            }
            let Some(frame) = self.body.frame().await else {
                return Ok(None);
            };
            if let Ok(data) = frame.context("read the events")?.into_data() {
                self.buffer.extend_from_slice(&data);
            }
        }
    }
}

/// Takes the first whole event out of the buffer; comments (the server's sign of life) are skipped.
fn take_event(buffer: &mut Vec<u8>) -> Option<ServerEvent> {
    loop {
        let end = buffer.windows(2).position(|pair| pair == b"\n\n")?;
        let block: Vec<u8> = buffer.drain(..end + 2).collect();
        let event = parse_event(&String::from_utf8_lossy(&block));
        if event.is_some() {
            return event;
        }
    }
}

fn parse_event(block: &str) -> Option<ServerEvent> {
    let mut event = ServerEvent::default();
    let mut data: Vec<&str> = Vec::new();
    for line in block.lines() {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "id" => event.id = Some(value.to_owned()),
            "event" => event.name = Some(value.to_owned()),
            "data" => data.push(value),
            _ => {}
        }
    }
    event.data = data.join("\n");
    (!data.is_empty()).then_some(event)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_out_whole_and_comments_are_skipped() {
        let mut buffer =
            b": alive\n\nid: 7\nevent: run\ndata: {\"a\":1}\ndata: b\n\nid: 8\nda".to_vec();
        let event = take_event(&mut buffer).unwrap();
        assert_eq!(event.id.as_deref(), Some("7"));
        assert_eq!(event.name.as_deref(), Some("run"));
        assert_eq!(event.data, "{\"a\":1}\nb");
        assert_eq!(take_event(&mut buffer), None);
        buffer.extend_from_slice(b"ta: c\n\n");
        assert_eq!(take_event(&mut buffer).unwrap().data, "c");
    }
}
