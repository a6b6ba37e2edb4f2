//! The server: takes requests, finds their script and turn, answers.

use std::{
    collections::HashMap,
    convert::Infallible,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    Json, Router,
    body::Body,
    extract::{DefaultBodyLimit, Request, State},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use http::{HeaderMap, Method, StatusCode, header};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    answer::{Message, error_body, failure_body, failure_headers, limit_headers},
    conversation::Conversation,
    record::{self, Record, Recorded},
    script::{Answer, Failure, Script, Scripts, Turn},
};

/// Longest request: 64 MiB. The provider's own limit is half of it.
const BODY_LIMIT: usize = 64 * 1024 * 1024;
/// How long open answers may take to end when the server stops.
const STOP_LIMIT: Duration = Duration::from_secs(2);

/// Why the server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address is reachable from outside.
    #[error(
        "`{address}` is no loopback address; the scripted model takes any key and listens on loopback only"
    )]
    NotLoopback {
        /// The address.
        address: SocketAddr,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on `{address}`")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// A running scripted model. It ends when this is dropped.
#[derive(Debug)]
pub struct ModelStub {
    address: SocketAddr,
    state: Arc<Shared>,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl ModelStub {
    /// Starts on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(scripts: impl Into<Scripts>) -> Result<Self, StartError> {
        Self::listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), scripts).await
    }

    /// Starts on an address; port 0 takes a free one.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn listen(
        address: SocketAddr,
        scripts: impl Into<Scripts>,
    ) -> Result<Self, StartError> {
        if !address.ip().is_loopback() {
            return Err(StartError::NotLoopback { address });
        }
        let listen = |source| StartError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let state = Arc::new(Shared::new(scripts.into()));
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(listener, Arc::clone(&state), stop.clone()));
        Ok(Self { address, state, stop, tasks })
    }

    /// The address for `ANTHROPIC_BASE_URL`.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The requests so far, the latest thousand.
    #[must_use]
    pub fn requests(&self) -> Vec<Recorded> {
        self.state.record.all()
    }

    /// Lets in only whoever shows this access token from now on; everybody else is told that theirs has expired.
    pub fn let_in_only(&self, token: impl Into<String>) {
        *self.state.token.lock().unwrap_or_else(PoisonError::into_inner) = Some(token.into());
    }

    /// How many requests showed another token than the one that lets in.
    #[must_use]
    pub fn turned_away(&self) -> u64 {
        self.state.turned_away.load(Ordering::Relaxed)
    }

    /// Stops; answers that hang are cut.
    pub async fn stop(mut self) {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
    }
}

impl Drop for ModelStub {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// What all requests share.
#[derive(Debug)]
struct Shared {
    scripts: Scripts,
    record: Record,
    answers: AtomicU64,
    /// The only access token that lets in, where one was named.
    token: Mutex<Option<String>>,
    turned_away: AtomicU64,
    /// How often a session failed at a turn that fails only some times.
    failures: Mutex<HashMap<(String, usize), u32>>,
}

impl Shared {
    fn new(scripts: Scripts) -> Self {
        Self {
            scripts,
            record: Record::default(),
            // Ids stay unlike over a restart, since agents continue conversations.
            answers: AtomicU64::new(Timestamp::now().as_millisecond().unsigned_abs()),
            token: Mutex::default(),
            turned_away: AtomicU64::new(0),
            failures: Mutex::default(),
        }
    }

    fn lets_in(&self, headers: &HeaderMap) -> bool {
        let token = self.token.lock().unwrap_or_else(PoisonError::into_inner);
        let shown = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let shown = shown.and_then(|value| value.strip_prefix("Bearer "));
        let is_let_in = token.as_deref().is_none_or(|token| shown == Some(token));
        if !is_let_in {
            self.turned_away.fetch_add(1, Ordering::Relaxed);
        }
        is_let_in
    }

    /// The turn that is due, or `None` where the script is over.
    ///
    /// A turn that fails only some times has been said when it failed that often; the session is told by the CLI.
    fn turn(&self, script: &Script, said: usize, session: &str) -> Option<Turn> {
        let mut due = said;
        for (index, turn) in script.turns.iter().enumerate() {
            match turn {
                Turn::Fail(Failure { times: Some(times), .. }) => {
                    if due == 0 && self.fails_again(session, index, *times) {
                        return Some(turn.clone());
                    }
                }
                Turn::Answer(_) | Turn::Fail(_) | Turn::Hang if due == 0 => {
                    return Some(turn.clone());
                }
                Turn::Answer(_) | Turn::Fail(_) | Turn::Hang => due = due.saturating_sub(1),
            }
        }
        script.turns.last().filter(|_| script.repeat_last).cloned()
    }

    fn fails_again(&self, session: &str, index: usize, times: u32) -> bool {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let so_far = failures.entry((session.to_owned(), index)).or_default();
        *so_far = so_far.saturating_add(1);
        *so_far <= times
    }
}

async fn serve(listener: TcpListener, state: Arc<Shared>, stop: CancellationToken) {
    let router =
        Router::new().fallback(handle).layer(DefaultBodyLimit::max(BODY_LIMIT)).with_state(state);
    let server =
        axum::serve(listener, router).with_graceful_shutdown(stop.clone().cancelled_owned());
    let server = async { drop(server.await) };
    // An answer that hangs would keep a graceful stop waiting for ever.
    let limit = async {
        stop.cancelled().await;
        tokio::time::sleep(STOP_LIMIT).await;
    };
    // Both arms only end the server, so neither loses anything when dropped.
    tokio::select! {
        () = server => {}
        () = limit => {}
    }
}

async fn handle(State(state): State<Arc<Shared>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, BODY_LIMIT).await else {
        return failed(StatusCode::PAYLOAD_TOO_LARGE, "request_too_large", "request is too long");
    };
    let body: Option<Value> = serde_json::from_slice(&body).ok();
    let path = parts.uri.path().to_owned();
    let asked = Asked { method: parts.method, path, headers: parts.headers, body };
    route(&state, asked).await
}

/// A request, read.
#[derive(Debug)]
struct Asked {
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Option<Value>,
}

async fn route(state: &Shared, asked: Asked) -> Response {
    let conversation = asked.body.as_ref().map(Conversation::read);
    state.record.add(Recorded {
        method: asked.method.to_string(),
        path: asked.path.clone(),
        headers: record::headers(&asked.headers),
        body: asked.body.clone(),
        script: conversation.as_ref().and_then(|conversation| conversation.script.clone()),
    });
    match (asked.method.as_str(), asked.path.as_str()) {
        ("POST", "/v1/messages") if !state.lets_in(&asked.headers) => {
            failed(StatusCode::UNAUTHORIZED, "authentication_error", "OAuth token has expired.")
        }
        ("POST", "/v1/messages") => match conversation {
            Some(conversation) => messages(state, &asked.headers, &conversation).await,
            None => failed(StatusCode::BAD_REQUEST, "invalid_request_error", "body is no JSON"),
        },
        ("POST", "/v1/messages/count_tokens") => {
            let length = asked.body.map(|body| body.to_string().len()).unwrap_or_default();
            // About four characters are a token.
            Json(json!({"input_tokens": length / 4})).into_response()
        }
        ("GET", "/v1/models") => Json(models()).into_response(),
        // Every call of the CLI besides these is optional: it goes on when told that there is no such thing.
        ("HEAD", _) => StatusCode::OK.into_response(),
        _ => {
            failed(StatusCode::NOT_FOUND, "not_found_error", "the scripted model has no such path")
        }
    }
}

async fn messages(state: &Shared, headers: &HeaderMap, conversation: &Conversation) -> Response {
    if !conversation.is_work && conversation.script.is_none() {
        return answer(state, &side_answer(), conversation);
    }
    let script = match state.scripts.choose(conversation.script.as_deref()) {
        Ok(script) => script,
        Err(error) => {
            return failed(StatusCode::BAD_REQUEST, "invalid_request_error", &error.to_string());
        }
    };
    let session = ["x-claude-code-session-id", "x-session-id"]
        .iter()
        .find_map(|name| headers.get(*name)?.to_str().ok());
    match state.turn(script, conversation.said, session.unwrap_or_default()) {
        Some(Turn::Answer(said)) => answer(state, &said, conversation),
        Some(Turn::Fail(failure)) => fail(&failure),
        Some(Turn::Hang) => std::future::pending().await,
        None => answer(state, &last_answer(), conversation),
    }
}

/// For requests that are no work of the agent's, such as the title of a session.
fn side_answer() -> Answer {
    Answer { text: Some("Scripted session".to_owned()), ..Answer::default() }
}

/// What is said when a script is over.
fn last_answer() -> Answer {
    Answer { text: Some("Done.".to_owned()), ..Answer::default() }
}

fn answer(state: &Shared, said: &Answer, conversation: &Conversation) -> Response {
    let number = state.answers.fetch_add(1, Ordering::Relaxed);
    let message = Message::new(said, conversation, number);
    let mut response = if conversation.stream {
        let body = Body::from_stream(streamed(message.events(), said.part_delay_ms));
        ([(header::CONTENT_TYPE, "text/event-stream")], body).into_response()
    } else {
        Json(message.whole()).into_response()
    };
    response.headers_mut().extend(limit_headers(said.limit.as_ref(), Timestamp::now()));
    response
}

fn streamed(events: Vec<String>, delay_ms: u64) -> impl Stream<Item = Result<Bytes, Infallible>> {
    futures_util::stream::iter(events).then(move |event| async move {
        if delay_ms > 0 {
            tokio::time::sleep(Duration::from_millis(delay_ms)).await;
        }
        Ok(Bytes::from(event))
    })
}

fn fail(failure: &Failure) -> Response {
    let status = StatusCode::from_u16(failure.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = failure_headers(failure, Timestamp::now());
    (status, headers, Json(failure_body(failure))).into_response()
}

fn failed(status: StatusCode, kind: &str, message: &str) -> Response {
    (status, Json(error_body(kind, message))).into_response()
}

fn models() -> Value {
    json!({
        "data": [{
            "type": "model",
            "id": "scripted",
            "display_name": "Scripted model",
            "created_at": "2026-01-01T00:00:00Z",
        }],
        "has_more": false,
        "first_id": "scripted",
        "last_id": "scripted",
    })
}
