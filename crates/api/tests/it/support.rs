//! A server of its own for each test, and a client for it.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use agent_queue::queue::Queue;
use api::{
    logins::Checks,
    server::{Served, Server},
    state::ApiState,
};
use auth_probe::{checker::Checker, host::Host};
use bytes::Bytes;
use checkout::{git::GitCommand, mirror::Mirrors};
use core_config::{
    database::DatabaseSnapshot,
    load::{Loaded, load_lenient_database},
    settings::ProcessManager,
};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use launcher::process::ProcessLauncher;
use processes::control::Control;
use serde_json::{Value, json};
use store::{agents::HostId, config_rows::ConfigUpdate, pool::Store, wake::Channel};
use tempfile::TempDir;
use testing::{database::TestDatabase, repository::ScratchRepository, wait::wait_for};
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

/// A running server with everything behind it.
pub(crate) struct Api {
    pub(crate) database: TestDatabase,
    pub(crate) repository: ScratchRepository,
    pub(crate) address: SocketAddr,
    pub(crate) settings: watch::Sender<Arc<Loaded>>,
    pub(crate) stop: CancellationToken,
    pub(crate) serving: JoinSet<Served>,
    pub(crate) client: Client<HttpConnector, Full<Bytes>>,
    following: JoinSet<()>,
    pub(crate) state_dir: TempDir,
}

/// What the server answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) json: Value,
}

impl Api {
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Starts a server whose environment has these variables.
    pub(crate) async fn start_with(variables: &[(&str, &str)]) -> Self {
        let database = TestDatabase::new().await;
        let store = database.store.clone();
        Self::start_on(database, store, variables).await
    }

    /// Starts a server that has a Redis.
    pub(crate) async fn start_with_queue(queue: Queue) -> Self {
        let database = TestDatabase::new().await;
        let store = database.store.clone();
        Self::start_all(database, store, &[], Some(queue)).await
    }

    /// Starts a server that reaches the database in a way of its own.
    pub(crate) async fn start_on(
        database: TestDatabase,
        store: Store,
        variables: &[(&str, &str)],
    ) -> Self {
        Self::start_all(database, store, variables, None).await
    }

    async fn start_all(
        database: TestDatabase,
        store: Store,
        variables: &[(&str, &str)],
        queue: Option<Queue>,
    ) -> Self {
        let (settings, watched) = watch::channel(Arc::new(settings(variables, &[])));
        let stop = CancellationToken::new();
        let git = GitCommand::find(&testing::programs::search_path()).expect("git is installed");
        let state_dir = TempDir::new().expect("a directory can be made");
        let launcher = ProcessLauncher::new(state_dir.path().to_path_buf());
        let launcher = Arc::new(launcher.expect("the directory can be used"));
        let home = state_dir.path().to_string_lossy().into_owned();
        let seen = [("PATH", testing::programs::search_path()), ("HOME", home)];
        let seen: BTreeMap<String, String> =
            seen.map(|(name, value)| (name.to_owned(), value)).into();
        let scratch = state_dir.path().join("checks");
        let here = Host::new(Arc::<ProcessLauncher>::clone(&launcher), scratch, seen.clone());
        let checks = Checks {
            checker: Checker::new(Arc::new(here), None),
            sandboxes: None,
            environment: seen,
        };
        let processes = Control {
            store: store.clone(),
            launcher,
            host: HostId::new("here"),
            may_manage: watched.borrow().settings.process_manager == ProcessManager::On,
        };
        let state = ApiState::new(store, watched, Some(git), stop.clone())
            .with_processes(processes)
            .with_mirrors(Mirrors::new(state_dir.path().join("mirrors")))
            .with_checks(checks)
            .with_queue(queue);
        let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
        let server = Server::bind(any_port, state).await.expect("the loopback takes a listener");
        let address = server.address();
        let mut serving = JoinSet::new();
        serving.spawn(server.serve(Duration::from_secs(5)));
        let client = Client::builder(TokioExecutor::new()).build_http();
        let repository = ScratchRepository::with_one_commit();
        let following = JoinSet::new();
        Self {
            database,
            repository,
            address,
            settings,
            stop,
            serving,
            client,
            following,
            state_dir,
        }
    }

    /// Starts a server that follows the settings of its database, as the program does.
    pub(crate) async fn start_following(variables: &[(&str, &str)]) -> Self {
        let mut api = Self::start_with(variables).await;
        let (store, sender) = (api.database.store.clone(), api.settings.clone());
        sender.send_modify(|loaded| *loaded = Arc::new(loaded.after(&DatabaseSnapshot::default())));
        api.following.spawn(async move {
            let mut wakes = store.wakes(&[Channel::Config]);
            loop {
                wakes.next().await;
                let rows = store.config_rows().await.expect("the database answers");
                let rows = DatabaseSnapshot { revision: rows.revision, rows: rows.rows };
                sender.send_modify(|loaded| *loaded = Arc::new(loaded.after(&rows)));
            }
        });
        api
    }

    /// Makes these the rows of `system_config`, whatever the table of settings says of them.
    pub(crate) async fn write_rows(&self, rows: &[(&str, Value)]) {
        let store = &self.database.store;
        let present = store.config_rows().await.expect("the database answers").rows;
        let update = |value| ConfigUpdate { value, secret: true };
        let removed = present.into_keys().map(|key| (key, update(None)));
        let written =
            rows.iter().map(|(key, value)| ((*key).to_owned(), update(Some(value.clone()))));
        let updates = removed.chain(written).collect();
        store.set_config_rows(&updates, "psql", None).await.expect("the database answers");
    }

    /// What `GET /config` says once it says this.
    pub(crate) async fn config_until(&self, fits: impl Fn(&Value) -> bool) -> Value {
        wait_for("the settings to be in force", Duration::from_secs(10), async || {
            let config = self.get("/config").await.json;
            if fits(&config) { Ok(config) } else { Err(config.to_string()) }
        })
        .await
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> http::request::Builder {
        Request::builder().method(method).uri(self.url(path))
    }

    pub(crate) async fn send(&self, request: Request<Full<Bytes>>) -> Answer {
        let response = self.client.request(request).await.expect("the server answers");
        let (head, body) = response.into_parts();
        let bytes = body.collect().await.expect("the body arrives whole").to_bytes();
        let is_text = head
            .headers
            .get("content-type")
            .is_some_and(|kind| kind.to_str().is_ok_and(|kind| kind.starts_with("text/")));
        let json = if bytes.is_empty() {
            Value::Null
        } else if is_text {
            Value::from(String::from_utf8_lossy(&bytes))
        } else {
            serde_json::from_slice(&bytes).expect("the answer is JSON")
        };
        Answer { status: head.status, headers: head.headers, json }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        let request = self.request(Method::GET, path).body(Full::default());
        self.send(request.expect("the request is well-formed")).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.post_text(path, &body.to_string()).await
    }

    pub(crate) async fn post_text(&self, path: &str, body: &str) -> Answer {
        let request = self
            .request(Method::POST, path)
            .header("content-type", "application/json")
            .body(Full::from(body.to_owned()));
        self.send(request.expect("the request is well-formed")).await
    }

    /// The least body that makes a task.
    pub(crate) fn task(&self) -> Value {
        json!({
            "title": "fix the answer",
            "goal": "Let `answer` return 42.",
            "repository": { "mode": "local", "path": self.repository.path() },
        })
    }

    /// The same with some fields set or, by `null`, taken away.
    pub(crate) fn task_with(&self, changes: &Value) -> Value {
        let mut task = self.task();
        let fields = task.as_object_mut().expect("a task is an object");
        for (field, value) in changes.as_object().expect("changes are an object") {
            if value.is_null() {
                fields.remove(field);
            } else {
                fields.insert(field.clone(), value.clone());
            }
        }
        task
    }

    /// Makes a task and returns its id.
    pub(crate) async fn make(&self, changes: &Value) -> String {
        let made = self.post("/tasks", &self.task_with(changes)).await;
        assert_eq!(made.status, StatusCode::CREATED, "{:?}", made.json);
        made.text("id")
    }
}

impl Answer {
    #[track_caller]
    pub(crate) fn text(&self, field: &str) -> String {
        let value = self.json.get(field).and_then(Value::as_str);
        assert!(value.is_some(), "no text `{field}` in {}", self.json);
        value.unwrap_or_default().to_owned()
    }

    /// Status and code of an error, which must have the shape of all errors.
    #[track_caller]
    pub(crate) fn error(&self) -> (u16, String) {
        assert!(!self.text("error").is_empty());
        (self.status.as_u16(), self.text("code"))
    }

    /// The fields that are at fault.
    #[track_caller]
    pub(crate) fn fields(&self) -> Vec<String> {
        let details = self.json.get("details").and_then(Value::as_array);
        assert!(details.is_some(), "no details in {}", self.json);
        let details = details.map(Vec::as_slice).unwrap_or_default();
        details
            .iter()
            .map(|fault| {
                for part in ["field", "what", "allowed"] {
                    let text = fault.get(part).and_then(Value::as_str).unwrap_or_default();
                    assert!(!text.is_empty(), "no `{part}` in {fault}");
                }
                fault["field"].as_str().unwrap_or_default().to_owned()
            })
            .collect()
    }
}

/// Settings of an environment and of rows.
pub(crate) fn settings(variables: &[(&str, &str)], rows: &[(&str, Value)]) -> Loaded {
    let environment = [("OPENTIGER_STATE_DIR", "/srv/tiger")];
    let variables =
        environment.iter().chain(variables).map(|(key, value)| ((*key).into(), (*value).into()));
    let rows: BTreeMap<String, Value> =
        rows.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
    let snapshot = DatabaseSnapshot { revision: 3, rows };
    load_lenient_database(variables, Some(&snapshot)).expect("the environment is fit")
}
