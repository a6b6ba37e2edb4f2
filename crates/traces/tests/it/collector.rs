//! A small collector of traces: takes OTLP's JSON as strictly as its definition, and answers as it is told.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::{net::TcpListener, sync::watch, task::JoinSet};

/// A span as it arrived.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Span {
    pub(crate) trace_id: String,
    pub(crate) span_id: String,
    pub(crate) parent_span_id: Option<String>,
    pub(crate) name: String,
    pub(crate) start_time_unix_nano: String,
    pub(crate) end_time_unix_nano: String,
    pub(crate) attributes: Vec<Attribute>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Attribute {
    pub(crate) key: String,
    pub(crate) value: serde_json::Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Export {
    resource_spans: Vec<ResourceSpans>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ResourceSpans {
    resource: Resource,
    scope_spans: Vec<ScopeSpans>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Resource {
    attributes: Vec<Attribute>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ScopeSpans {
    #[serde(rename = "scope")]
    _scope: serde_json::Value,
    spans: Vec<Span>,
}

/// Ends with the value.
pub(crate) struct Collector {
    address: SocketAddr,
    pub(crate) status: watch::Sender<StatusCode>,
    arrived: Arc<Mutex<Arrived>>,
    _serving: JoinSet<()>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Arrived {
    pub(crate) posts: usize,
    pub(crate) headers: HeaderMap,
    /// Of the posts that were taken.
    pub(crate) spans: Vec<Span>,
}

impl Collector {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (status, told) = watch::channel(StatusCode::OK);
        let arrived: Arc<Mutex<Arrived>> = Arc::default();
        let kept = Arc::clone(&arrived);
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
        Self { address, status, arrived, _serving: serving }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn arrived(&self) -> Arrived {
        self.arrived.lock().unwrap().clone()
    }
}

async fn answer(
    request: Request<Incoming>,
    kept: Arc<Mutex<Arrived>>,
    told: watch::Receiver<StatusCode>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    let status = *told.borrow();
    let mut response = Response::new(Full::from("{}"));
    let mut kept = kept.lock().unwrap();
    kept.posts += 1;
    kept.headers = head.headers.clone();
    let is_ours = head.method == Method::POST
        && head.uri.path() == "/v1/traces"
        && head.headers["content-type"] == "application/json";
    let export = serde_json::from_slice::<Export>(&bytes);
    *response.status_mut() = match export {
        Ok(export) if is_ours && status.is_success() => {
            for resource in export.resource_spans {
                assert!(resource.resource.attributes.iter().any(|one| one.key == "service.name"));
                kept.spans.extend(resource.scope_spans.into_iter().flat_map(|scope| scope.spans));
            }
            status
        }
        Ok(_) if is_ours => status,
        Ok(_) | Err(_) => StatusCode::BAD_REQUEST,
    };
    Ok(response)
}
