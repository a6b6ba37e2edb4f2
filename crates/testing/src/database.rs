//! A database for each test: cloned from a migrated template in some 60 ms, dropped at its end.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use core_types::secret::Secret;
use store::pool::{PoolOptions, Store};
use tokio::sync::OnceCell;
use tokio_postgres::{Client, NoTls};

use crate::{owner::Owner, server};

/// Keeps two processes from making the template at once.
const LOCK: i64 = 0x7465_6d70_6c61_7465;
/// What the names of all databases of tests begin with.
const PREFIX: &str = "ot_test_";

/// A migrated database of one test. Dropped with this value, also when the test panics; what a killed test process
/// leaves is dropped by the next one.
#[derive(Debug)]
pub struct TestDatabase {
    /// How to connect.
    pub url: Secret,
    /// A connected handle.
    pub store: Store,
    name: String,
}

impl TestDatabase {
    /// Makes a database with the present schema.
    ///
    /// # Panics
    /// When there is no server, or it refuses.
    pub async fn new() -> Self {
        let (name, url) = clone_of(template().await).await;
        let options = PoolOptions::new("test");
        let store = Store::connect(&url, options).await.expect("the new database is there");
        Self { url, store, name }
    }

    /// Makes a database without any table, and returns it with its owner: nothing is in its `store` yet.
    ///
    /// # Panics
    /// When there is no server, or it refuses.
    pub async fn unmigrated() -> Self {
        sweep_once().await;
        let (name, url) = clone_of("template0").await;
        let options = PoolOptions::new("test");
        let store = Store::connect(&url, options).await.expect("the new database is there");
        Self { url, store, name }
    }

    /// Runs SQL behind the store's back: for states that it does not make by itself.
    ///
    /// # Panics
    /// When the server refuses it.
    pub async fn run(&self, sql: &str) {
        Admin::connect(&self.url).await.run(sql).await;
    }

    /// Host and port of the server, for a proxy in front of it.
    ///
    /// # Panics
    /// When the server is not reached through TCP on an address in numbers or `localhost`.
    #[must_use]
    pub fn server_address(&self) -> std::net::SocketAddr {
        let (host, port) = host_and_port(&self.url);
        let host = if host == "localhost" { "127.0.0.1".to_owned() } else { host };
        format!("{host}:{port}").parse().expect("the test server has an address in numbers")
    }

    /// The same URL with another host and port: through a proxy.
    ///
    /// # Panics
    /// When the URL has no host and port.
    #[must_use]
    pub fn url_through(&self, address: std::net::SocketAddr) -> Secret {
        let (host, port) = host_and_port(&self.url);
        let (before, after) = self
            .url
            .expose()
            .split_once(&format!("{host}:{port}"))
            .expect("a test url names host and port");
        Secret::new(format!("{before}{address}{after}"))
    }
}

impl Drop for TestDatabase {
    /// Drops the database from a thread of its own: the test's runtime cannot wait here.
    fn drop(&mut self) {
        let name = self.name.clone();
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime can be made").block_on(async {
                let admin = Admin::connect(server::url()).await;
                admin.drop(&name).await;
            });
        });
        // A failure leaves the database for the next process to sweep; a second panic would hide the first.
        dropping.join().ok();
    }
}

/// The name of a migrated template, made once for each schema.
async fn template() -> &'static str {
    static TEMPLATE: OnceCell<String> = OnceCell::const_new();
    TEMPLATE
        .get_or_init(|| async {
            sweep_once().await;
            make_template().await
        })
        .await
}

async fn make_template() -> String {
    let name = format!("{PREFIX}template_{}", Store::schema_fingerprint());
    let admin = Admin::connect(server::url()).await;
    admin.run(&format!("SELECT pg_advisory_lock({LOCK})")).await;
    if admin.databases_like(&name).await.is_empty() {
        let unfinished = format!("{name}_new");
        admin.run(&format!("DROP DATABASE IF EXISTS {unfinished} WITH (FORCE)")).await;
        admin.run(&format!("CREATE DATABASE {unfinished}")).await;
        let url = with_database(server::url(), &unfinished);
        let store = Store::connect(&url, PoolOptions::new("template")).await;
        store.expect("the new database is there").migrate().await.expect("migrations are right");
        admin.wait_until_unused(&unfinished).await;
        admin.run(&format!("ALTER DATABASE {unfinished} RENAME TO {name}")).await;
    }
    // Closing the connection frees the lock.
    name
}

async fn clone_of(template: &str) -> (String, Secret) {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let name = format!("{PREFIX}{}_{number}", Owner::this().text());
    let admin = Admin::connect(server::url()).await;
    admin.run(&format!("CREATE DATABASE {name} TEMPLATE {template} STRATEGY wal_log")).await;
    let url = with_database(server::url(), &name);
    (name, url)
}

/// Drops what killed test processes of this machine left.
async fn sweep_once() {
    static SWEPT: OnceCell<()> = OnceCell::const_new();
    SWEPT.get_or_init(sweep).await;
}

async fn sweep() {
    let admin = Admin::connect(server::url()).await;
    for name in admin.databases_like(&format!("{PREFIX}%")).await {
        let owner = name.strip_prefix(PREFIX).and_then(Owner::parse);
        if owner.is_some_and(|owner| owner.is_dead()) {
            admin.drop(&name).await;
        }
    }
}

/// A connection to the maintenance database.
struct Admin {
    client: Client,
    _connection: tokio::task::JoinSet<()>,
}

impl Admin {
    async fn connect(url: &Secret) -> Self {
        let mut attempts = 0;
        let (client, connection) = loop {
            match tokio_postgres::connect(url.expose(), NoTls).await {
                Ok(connected) => break connected,
                // A machine that is busy with other tests may not get through with the exchange in the server's time.
                Err(_) if attempts < 5 => {
                    attempts += 1;
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
                Err(error) => panic!("the test database server does not answer: {error:?}"),
            }
        };
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(async move {
            connection.await.ok();
        });
        Self { client, _connection: tasks }
    }

    async fn run(&self, statement: &str) {
        let result = self.client.batch_execute(statement).await;
        result.unwrap_or_else(|error| panic!("`{statement}` failed: {error:?}"));
    }

    /// Drops a database and the login that its sandboxes had, which belongs to the server.
    async fn drop(&self, name: &str) {
        let statement = "SELECT oid::text FROM pg_database WHERE datname = $1";
        let oid = self.client.query_opt(statement, &[&name]).await;
        self.run(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await;
        if let Ok(Some(row)) = oid {
            let oid: String = row.get(0);
            // Roles belong to the whole server, and two tests that drop theirs may meet there. Few tests have one.
            let drop_role = format!("DROP ROLE IF EXISTS opentiger_sandbox_{oid}");
            for _ in 0..20 {
                if self.client.batch_execute(&drop_role).await.is_ok() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            self.run(&drop_role).await;
        }
    }

    async fn databases_like(&self, pattern: &str) -> Vec<String> {
        let statement = "SELECT datname FROM pg_database WHERE datname LIKE $1";
        let rows = self.client.query(statement, &[&pattern]).await;
        let rows = rows.unwrap_or_else(|error| panic!("databases cannot be listed: {error:?}"));
        rows.iter().map(|row| row.get(0)).collect()
    }

    /// A database can be renamed only when nobody is connected; the server notices a closed connection a little later.
    async fn wait_until_unused(&self, name: &str) {
        let statement = "SELECT count(*) FROM pg_stat_activity WHERE datname = $1";
        crate::wait::wait_for("connections to end", Duration::from_secs(20), async || {
            let row = self.client.query_one(statement, &[&name]).await;
            let open: i64 = row.map_err(|error| error.to_string())?.get(0);
            if open == 0 { Ok(()) } else { Err(format!("{open} open")) }
        })
        .await;
    }
}

/// The same URL with another database.
fn with_database(url: &Secret, database: &str) -> Secret {
    let url = url.expose();
    let (address, options) = url.split_once('?').map_or((url, None), |(a, o)| (a, Some(o)));
    let (scheme, rest) = address.split_once("://").expect("a test url begins with a scheme");
    let authority = rest.split('/').next().unwrap_or_default();
    let options = options.map(|options| format!("?{options}")).unwrap_or_default();
    Secret::new(format!("{scheme}://{authority}/{database}{options}"))
}

fn host_and_port(url: &Secret) -> (String, String) {
    let text = url.expose();
    let (_, rest) = text.split_once("://").expect("a test url begins with a scheme");
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let address = authority.rsplit('@').next().unwrap_or_default();
    let (host, port) = address.rsplit_once(':').expect("a test url names a port");
    (host.to_owned(), port.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_database_of_a_url_changes() {
        let url = Secret::new("postgres://ot:p%2Fw@127.0.0.1:54399/postgres?connect_timeout=3");
        let changed = with_database(&url, "other");
        assert_eq!(changed.expose(), "postgres://ot:p%2Fw@127.0.0.1:54399/other?connect_timeout=3");
        assert_eq!(host_and_port(&url), ("127.0.0.1".to_owned(), "54399".to_owned()));
    }

    async fn is_there(name: &str) -> bool {
        !Admin::connect(server::url()).await.databases_like(name).await.is_empty()
    }

    #[tokio::test]
    async fn databases_have_the_present_schema_and_nothing_in_common() {
        let (one, other) = tokio::join!(TestDatabase::new(), TestDatabase::new());
        assert_ne!(one.name, other.name);
        let newest = Store::newest_schema_version();
        assert_eq!(one.store.schema_version().await.unwrap(), Some(newest));
        let empty = TestDatabase::unmigrated().await;
        assert_eq!(empty.store.schema_version().await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_database_is_gone_after_its_test_even_one_that_panics() {
        let quiet = TestDatabase::new().await;
        let name = quiet.name.clone();
        assert!(is_there(&name).await);
        drop(quiet);
        assert!(!is_there(&name).await);
        let loud = TestDatabase::new().await;
        let name = loud.name.clone();
        let panicking = std::thread::spawn(move || {
            let _held = loud;
            panic!("on purpose");
        });
        assert!(panicking.join().is_err());
        assert!(!is_there(&name).await);
    }

    #[tokio::test]
    async fn what_killed_processes_left_is_swept_and_what_lives_stays() {
        let alive = TestDatabase::unmigrated().await;
        let mut dead = Owner::this();
        dead.start = 1;
        let name = format!("{PREFIX}{}_0", dead.text());
        let admin = Admin::connect(server::url()).await;
        admin.run(&format!("CREATE DATABASE {name}")).await;
        sweep().await;
        assert!(!is_there(&name).await);
        assert!(is_there(&alive.name).await);
    }

    #[tokio::test]
    async fn a_database_is_reached_through_a_proxy() {
        let database = TestDatabase::new().await;
        let proxy = crate::proxy::FaultProxy::start(database.server_address()).await;
        let url = database.url_through(proxy.address());
        let store = Store::connect(&url, PoolOptions::new("test")).await.unwrap();
        store.ping().await.unwrap();
        assert!(proxy.open_connections() > 0);
        proxy.refuse();
        assert!(store.ping().await.is_err());
    }
}
