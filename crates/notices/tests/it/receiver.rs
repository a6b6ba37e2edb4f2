//! A receiver of notices on the loopback, which answers as it is told.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{net::TcpListener, sync::watch, task::JoinSet};

/// What came.
#[derive(Debug, Clone)]
pub(crate) struct Arrival {
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

/// A receiver; ends with the value.
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    pub(crate) status: watch::Sender<StatusCode>,
    arrivals: Arc<Mutex<Vec<Arrival>>>,
    _serving: JoinSet<()>,
}

impl Receiver {
    pub(crate) async fn start() -> Self {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    pub(crate) async fn start_at(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (status, told) = watch::channel(StatusCode::NO_CONTENT);
        let arrivals: Arc<Mutex<Vec<Arrival>>> = Arc::default();
        let kept = Arc::clone(&arrivals);
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (kept, told) = (Arc::clone(&kept), told.clone());
                let answer =
                    service_fn(move |request| answer(request, Arc::clone(&kept), told.clone()));
                connections.spawn(async move {
                    let http = hyper::server::conn::http1::Builder::new();
                    http.serve_connection(TokioIo::new(stream), answer).await.ok();
                });
            }
        });
        Self { address, status, arrivals, _serving: serving }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/hook?token=hunter2", self.address)
    }

    pub(crate) fn arrivals(&self) -> Vec<Arrival> {
        self.arrivals.lock().unwrap().clone()
    }
}

impl Arrival {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

async fn answer(
    request: Request<Incoming>,
    kept: Arc<Mutex<Vec<Arrival>>>,
    told: watch::Receiver<StatusCode>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    kept.lock().unwrap().push(Arrival { headers: head.headers, text });
    let mut response = Response::new(Full::default());
    *response.status_mut() = *told.borrow();
    if response.status().is_redirection() {
        response.headers_mut().insert("location", "/elsewhere".parse().unwrap());
    }
    Ok(response)
}
