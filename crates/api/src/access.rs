//! Who may ask what: one layer around every route, and one table from operation to right.
//!
//! A caller is whoever holds a key or the token, somebody on this machine, or a stranger. On this machine is who comes
//! from a loopback address, asks for a name of the loopback, through no proxy, and from no page of another site; what
//! headers say of other addresses counts for nothing. Which right an operation needs stands in [`rights`].
//!
//! With a key everything is allowed. Callers on this machine may read and work without one, and control the system
//! unless `OPENTIGER_ALLOW_INSECURE_SYSTEM_CONTROL` is `false`; where that is so and there is a key, they need it for
//! everything, for then somebody on this machine is not trusted. A wrong key is refused wherever it comes from. A browser
//! that signed in with a key counts as holding it, in requests that no page of another origin made.
//!
//! Which keys of the settings a change may touch is decided where it is made: see [`rights::Right::Host`].

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    extract::{MatchedPath, Request, State},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use core_config::load::Loaded;
use core_types::secret::Secret;
use http::HeaderMap;
use tokio::sync::watch;

use crate::access::{
    caller::Caller,
    hosts::{Hosts, came_through_a_proxy, is_foreign, is_loopback, named_host},
    keys::{Keys, carries_one},
    limits::{Left, Meter, Peer},
    refusal::{Refusal, announce},
    rights::Right,
    routes::{Asked, Routes},
    sessions::Sessions,
};

pub(crate) mod caller;
pub(crate) mod limits;
pub(crate) mod refusal;
pub(crate) mod rights;
pub(crate) mod routes;
pub(crate) mod sessions;

mod hosts;
mod keys;

/// How many wrong keys one address may send in a minute.
const WRONG_KEYS_PER_MINUTE: u32 = 10;

/// The two ends of the connection a request came on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ends {
    /// Who connected.
    pub(crate) peer: SocketAddr,
    /// The address of this machine it connected to.
    pub(crate) local: SocketAddr,
}

/// How who asks stands with this server, for the pages that show it.
#[derive(Debug, Clone)]
pub(crate) struct Standing {
    pub(crate) caller: Caller,
    /// Whether the caller may see what the system does.
    pub(crate) may_read: bool,
    /// Whether the caller may change how the system runs.
    pub(crate) may_control: bool,
    /// Whether there is a key to sign in with.
    pub(crate) keys_exist: bool,
    /// What forms of the caller have to carry.
    pub(crate) form_token: String,
}

/// Decides of each request whether it is answered.
#[derive(Debug)]
pub(crate) struct Gate {
    routes: Routes,
    keys: Keys,
    sessions: Sessions,
    hosts: Hosts,
    /// `OPENTIGER_ALLOW_INSECURE_SYSTEM_CONTROL`.
    local_control: bool,
    settings: watch::Receiver<Arc<Loaded>>,
    requests: Meter,
    wrong_keys: Meter,
}

impl Gate {
    /// A gate in front of these routes. Who may enter is read once: it comes from the environment.
    pub(crate) fn new(routes: Routes, settings: watch::Receiver<Arc<Loaded>>) -> Self {
        let in_force = Arc::clone(&settings.borrow().settings);
        Self {
            routes,
            keys: Keys::of(&in_force),
            sessions: Sessions::new(),
            hosts: Hosts::new(&in_force.api_hosts),
            local_control: in_force.allow_insecure_system_control,
            settings,
            requests: Meter::default(),
            wrong_keys: Meter::default(),
        }
    }

    fn admit(&self, request: &Request, now: Instant) -> Result<(Standing, Option<Left>), Refusal> {
        let ends = *request.extensions().get::<Ends>().ok_or(Refusal::Unknown)?;
        let path = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
        let asked = self.routes.asked(path, request.method());
        let left = self.count(asked, ends.peer.ip(), now)?;
        let headers = request.headers();
        let host = named_host(request.uri(), headers)
            .filter(|host| self.hosts.include(host, ends.local))
            .ok_or(Refusal::Host)?;
        let is_here = ends.peer.ip().to_canonical().is_loopback()
            && is_loopback(host.host())
            && !came_through_a_proxy(headers);
        let foreign = is_foreign(headers, &host);
        if asked.page && foreign && !request.method().is_safe() {
            return Err(Refusal::Origin);
        }
        let proved = match asked.right {
            Right::Open => None,
            Right::Read | Right::Work | Right::Control | Right::Host => {
                self.identify(headers, ends.peer.ip(), now)?
            }
        };
        let open = Some(()).filter(|()| proved.is_none() && !foreign);
        let session = open.and_then(|()| self.sessions.find(headers, now));
        let form_token = self.sessions.form_token(headers, session.is_some());
        let caller = proved.or(session).unwrap_or(match is_here && !foreign {
            true => Caller::Local,
            false => Caller::Stranger,
        });
        match self.decide(asked.right, &caller) {
            Err(Refusal::NoKey) if is_here && foreign => Err(Refusal::Origin),
            Err(refusal) => Err(refusal),
            Ok(()) => {
                let may_read = self.decide(Right::Read, &caller).is_ok();
                let may_control = self.decide(Right::Control, &caller).is_ok();
                let keys_exist = self.keys.exist();
                Ok((Standing { caller, may_read, may_control, keys_exist, form_token }, left))
            }
        }
    }

    /// Begins a session for whoever names a key or the token; gives the cookie's value.
    pub(crate) fn sign_in(&self, key: &str, ends: Ends, now: Instant) -> Result<Secret, Refusal> {
        let peer = Peer::of(ends.peer.ip());
        let allowance = peer.allowance(WRONG_KEYS_PER_MINUTE);
        self.wrong_keys.look(peer, allowance, now).map_err(Refusal::TooManyWrongKeys)?;
        let caller = self.keys.of_text(key).map_err(|_| {
            // That there was room was found right before, and this counts for the next one.
            self.wrong_keys.take(peer, allowance, now).ok();
            Refusal::WrongKey
        })?;
        tracing::info!(caller = %caller.who(), "browser signed in");
        Ok(self.sessions.begin(caller, now))
    }

    /// Ends the session of a request, if it has one.
    pub(crate) fn sign_out(&self, headers: &HeaderMap) {
        self.sessions.end(headers);
    }

    /// Counts a request towards the limit of its address.
    fn count(&self, asked: Asked, peer: IpAddr, now: Instant) -> Result<Option<Left>, Refusal> {
        let per_minute = self.settings.borrow().settings.api_rate_limit;
        let Some(per_minute) = per_minute.filter(|_| asked.counted) else {
            return Ok(None);
        };
        let peer = Peer::of(peer);
        let left = self.requests.take(peer, peer.allowance(per_minute), now);
        left.map(Some).map_err(Refusal::TooManyRequests)
    }

    /// Who proves who they are. After too many wrong keys the right one is not looked at either: else it could be
    /// found by trying.
    fn identify(
        &self,
        headers: &HeaderMap,
        peer: IpAddr,
        now: Instant,
    ) -> Result<Option<Caller>, Refusal> {
        if !carries_one(headers) {
            return Ok(None);
        }
        let peer = Peer::of(peer);
        let allowance = peer.allowance(WRONG_KEYS_PER_MINUTE);
        self.wrong_keys.look(peer, allowance, now).map_err(Refusal::TooManyWrongKeys)?;
        self.keys.identify(headers).map_err(|_| {
            // That there was room was found right before, and this counts for the next one.
            self.wrong_keys.take(peer, allowance, now).ok();
            Refusal::WrongKey
        })
    }

    fn decide(&self, right: Right, caller: &Caller) -> Result<(), Refusal> {
        let closed = !self.local_control && self.keys.exist();
        match (caller, right) {
            (_, Right::Open) | (Caller::ApiKey { .. } | Caller::Bearer, _) => Ok(()),
            (Caller::Stranger, _) => Err(Refusal::NoKey),
            (Caller::Local, _) if closed => Err(Refusal::NoKey),
            (Caller::Local, Right::Read | Right::Work) => Ok(()),
            (Caller::Local, Right::Control) if self.local_control => Ok(()),
            (Caller::Local, Right::Control) => Err(Refusal::Control),
            (Caller::Local, Right::Host) => Err(Refusal::HostReach),
        }
    }
}

/// Answers a request, or refuses it before anything else sees it.
pub(crate) async fn guard(
    State(gate): State<Arc<Gate>>,
    mut request: Request,
    next: Next,
) -> Response {
    match gate.admit(&request, Instant::now()) {
        Ok((standing, left)) => {
            tracing::debug!(caller = %standing.caller.who(), "request admitted");
            request.extensions_mut().insert(standing.caller.clone());
            request.extensions_mut().insert(standing);
            request.extensions_mut().insert(Arc::clone(&gate));
            let mut response = next.run(request).await;
            if let Some(left) = left {
                announce(response.headers_mut(), left.limit, left.remaining, left.full_in);
            }
            response
        }
        Err(refusal) => {
            let peer = request.extensions().get::<Ends>().map(|ends| ends.peer);
            tracing::info!(http.peer = ?peer, reason = refusal.code(), "request refused");
            refusal.into_response()
        }
    }
}

/// Whole seconds, rounded up: who comes back after them is not too early.
fn seconds(span: Duration) -> u64 {
    span.as_secs() + u64::from(span.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use axum::{Router, body::Body, middleware::from_fn_with_state, routing::any};
    use tower::ServiceExt as _;

    use super::*;
    use crate::{access::routes::operations, openapi::bare_document};

    const HERE: &str = "127.0.0.1:5000";
    const FAR: &str = "10.0.0.9:5000";
    const KEY: (&str, &str) = ("x-api-key", "the-right-key-0001");
    const TOKEN: (&str, &str) = ("authorization", "Bearer the-right-token-2");

    /// A kind of caller: its name, the address it comes from, the name it asks for, and what else it sends.
    type Kind = (&'static str, &'static str, &'static str, &'static [(&'static str, &'static str)]);

    const KINDS: &[Kind] = &[
        ("key", FAR, "10.0.0.7", &[KEY]),
        ("key", HERE, "localhost", &[KEY, ("origin", "https://evil.example")]),
        ("token", FAR, "tiger.example", &[TOKEN]),
        ("token", HERE, "localhost", &[TOKEN]),
        ("wrong", HERE, "localhost", &[("x-api-key", "the-right-key-0002")]),
        ("wrong", FAR, "10.0.0.7", &[("authorization", "Bearer the-right-key-0001")]),
        ("wrong", HERE, "localhost", &[("authorization", "Basic dTpw")]),
        ("local", HERE, "localhost:4301", &[]),
        ("local", "[::1]:5000", "[::1]:4301", &[]),
        ("local", HERE, "127.0.0.1:4301", &[("origin", "http://127.0.0.1:4301")]),
        ("foreign page", HERE, "localhost", &[("origin", "https://evil.example")]),
        ("foreign page", HERE, "localhost", &[("origin", "null")]),
        ("foreign page", HERE, "localhost", &[("sec-fetch-site", "cross-site")]),
        ("stranger", FAR, "10.0.0.7", &[]),
        ("stranger", FAR, "localhost", &[]),
        ("stranger", FAR, "localhost", &[("x-forwarded-for", "127.0.0.1")]),
        (
            "stranger",
            FAR,
            "localhost",
            &[("x-real-ip", "127.0.0.1"), ("forwarded", "for=127.0.0.1")],
        ),
        ("stranger", HERE, "localhost", &[("x-forwarded-for", "127.0.0.1")]),
        ("stranger", HERE, "localhost", &[("via", "1.1 proxy")]),
        ("stranger", HERE, "tiger.example", &[]),
        ("rebound name", HERE, "evil.example", &[]),
        ("rebound name", FAR, "evil.example", &[KEY]),
    ];

    /// What an installation set: whether there are keys, and whether local control is allowed.
    const INSTALLATIONS: [(bool, bool); 4] =
        [(false, true), (true, true), (false, false), (true, false)];

    fn settings(with_keys: bool, local_control: bool) -> watch::Receiver<Arc<Loaded>> {
        let keys = [("API_KEYS", ", the-right-key-0001"), ("API_SECRET", "the-right-token-2")];
        let others = [
            ("OPENTIGER_STATE_DIR", "/srv"),
            ("OPENTIGER_API_HOSTS", "tiger.example"),
            ("API_RATE_LIMIT_PER_MINUTE", "0"),
            (
                "OPENTIGER_ALLOW_INSECURE_SYSTEM_CONTROL",
                if local_control { "true" } else { "false" },
            ),
        ];
        let variables = others.iter().chain(keys.iter().filter(|_| with_keys));
        let variables = variables.map(|(key, value)| ((*key).into(), (*value).into()));
        let loaded = core_config::load::load(variables, None).expect("the variables are fit");
        watch::channel(Arc::new(loaded)).1
    }

    /// What is to become of a request; written down apart from the code that decides it.
    fn expected(right: Right, caller: &str, (with_keys, local_control): (bool, bool)) -> u16 {
        match (caller, right) {
            ("rebound name", _) => 403,
            (_, Right::Open) => 200,
            ("key" | "token", _) if with_keys => 200,
            ("key" | "token" | "wrong", _) => 401,
            ("stranger", _) => 401,
            ("foreign page", _) => 403,
            ("local", _) if with_keys && !local_control => 401,
            ("local", Right::Read | Right::Work) => 200,
            ("local", Right::Control) => {
                if local_control {
                    200
                } else {
                    403
                }
            }
            ("local", Right::Host) => 403,
            (other, _) => panic!("nothing is expected of `{other}`"),
        }
    }

    /// The gate before a handler that answers everything.
    fn gated(installation: (bool, bool)) -> Router {
        let gate = Gate::new(Routes::of(bare_document()), settings(installation.0, installation.1));
        let mut paths: Vec<String> =
            operations(&mut bare_document()).map(|(path, ..)| path).collect();
        paths.dedup();
        let router =
            paths.iter().fold(Router::new(), |router, path| router.route(path, any(async || "in")));
        router.fallback(async || "in").layer(from_fn_with_state(Arc::new(gate), guard))
    }

    async fn ask(
        router: &Router,
        method: &http::Method,
        path: &str,
        (_, peer, host, headers): &Kind,
        number: u16,
    ) -> Response {
        let mut request = http::Request::builder().method(method).uri(path).header("host", *host);
        for (name, value) in *headers {
            request = request.header(*name, *value);
        }
        let mut peer: SocketAddr = peer.parse().unwrap();
        if let IpAddr::V4(far) = peer.ip()
            && !far.is_loopback()
        {
            // Each time from another address, so that wrong keys do not add up.
            peer.set_ip(Ipv4Addr::from_bits(far.to_bits() + u32::from(number)).into());
        }
        let ends = Ends { peer, local: "10.0.0.7:4301".parse().unwrap() };
        let request = request.extension(ends).body(Body::empty()).unwrap();
        router.clone().oneshot(request).await.unwrap()
    }

    #[tokio::test]
    async fn every_route_admits_every_kind_of_caller_exactly_as_its_right_says() {
        let mut asked = 0_u16;
        for installation in INSTALLATIONS {
            for kind in KINDS {
                let router = gated(installation);
                for (path, method, operation) in operations(&mut bare_document()) {
                    let right = rights::right_for(operation.operation_id.as_deref().unwrap());
                    let response = ask(&router, &method, &path, kind, asked).await;
                    let status = response.status().as_u16();
                    assert_eq!(
                        status,
                        expected(right, kind.0, installation),
                        "{method} {path} ({right}) by {kind:?} where keys and local control are {installation:?}"
                    );
                    assert_eq!(response.headers().contains_key("www-authenticate"), status == 401);
                    assert!(
                        status == 200 || response.headers()["content-type"] == "application/json"
                    );
                    asked += 1;
                }
            }
        }
        assert!(asked >= 4 * 22 * 15, "only {asked} requests were made");
    }
}
