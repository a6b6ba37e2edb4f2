//! The login that the sandboxes of a database share: made by whoever launches them, able to call what they need and
//! nothing else that this database can forbid.
//!
//! Its password lies in a table that only the owner can read; the server is given a verifier and never sees it. What it
//! may do is asked of the server each time: a right that somebody grants later is found. What no owner of one database
//! can forbid stays: reading the catalogues, notifications without content, session locks (on which nothing rests), and
//! other databases of the server whose own rights let everybody in; those are named, for somebody to close.
//!
//! Nor can it be forbidden that a login changes its own password and settings, and ends the sessions of others that use
//! it. So each look compares both with what was made, and puts them right: the same password again, for workers that
//! run have no other.

use core_types::secret::Secret;
use deadpool_postgres::{GenericClient as _, Transaction};
use tokio::time::timeout;
use tokio_postgres::{NoTls, Row, config::TargetSessionAttrs, error::SqlState};

use super::random_hex;
use crate::{
    connections::{CONNECT_TIMEOUT, Connection},
    error::StoreError,
    pool::Store,
    row::get,
};

/// The functions that the login may call.
const FUNCTIONS: &str = "sandbox.start(uuid, bigint, text),
    sandbox.heartbeat(uuid, bigint, text, bigint[]),
    sandbox.events(uuid, bigint, text, bigint[], timestamptz[], text[], json[]),
    sandbox.report(uuid, bigint, text, text, text, text, timestamptz, bigint[], text, text, text, bigint, bigint, bigint,
        bigint)";
/// What makes, fills or reads large objects, which anybody may own and no quota counts.
const LARGE_OBJECTS: &str =
    "('lo_creat', 'lo_create', 'lo_from_bytea', 'lo_open', 'lo_put', 'lo_get', 'lowrite',
    'loread', 'lo_truncate', 'lo_truncate64', 'lo_unlink', 'lo_import', 'lo_export')";
/// The settings of the login that it could change itself, sorted, as the catalogue has them.
const SETTINGS: [&str; 3] =
    ["idle_in_transaction_session_timeout=10s", "search_path=pg_catalog", "statement_timeout=30s"];

/// The login of all sandboxes of a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SandboxLogin {
    /// Its name, one for each database of a server.
    pub name: String,
    /// Its password.
    pub password: Secret,
    /// Other databases of the same server that let it in as they let in everybody.
    pub other_databases: Vec<String>,
}

/// Why there is no such login.
#[derive(Debug, thiserror::Error)]
pub enum SandboxLoginError {
    /// The login of `DATABASE_URL` may not make it, or may not take rights from everybody.
    #[error("the database's login may not make a login for sandboxes")]
    NotAllowed {
        /// What the server said.
        #[source]
        source: StoreError,
    },
    /// It is there, and could do what a sandbox must not.
    #[error("the login for sandboxes `{name}` could {}", .could.join(" and "))]
    CouldDoMore {
        /// Its name.
        name: String,
        /// What it could do.
        could: Vec<&'static str>,
    },
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl SandboxLoginError {
    /// What to do about it.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::NotAllowed { .. } => {
                "let DATABASE_URL's user own the database and the schema of its tables, and run as an administrator: ALTER ROLE <user> CREATEROLE"
            }
            Self::CouldDoMore { .. } => {
                "as an administrator of the server and in this database, take from PUBLIC: TEMPORARY and CONNECT on the database, CREATE on its schemas, EXECUTE on pg_catalog's functions for large objects (lo_*, loread, lowrite); and take from the login every other right and membership"
            }
            Self::Store(_) => "see the server's log",
        }
    }
}

/// The name of the login, what is stored, and what is there. Served by the catalogues' indexes.
const LOOK: &str = "
    SELECT 'opentiger_sandbox_' || d.oid AS name, quote_ident(d.datname) AS database, current_schema()::text AS schema,
        s.role AS stored, s.password, r.oid IS NOT NULL AS made,
        (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) AS superuser
    FROM pg_database d LEFT JOIN sandbox_login s ON true
    LEFT JOIN pg_roles r ON r.rolname = 'opentiger_sandbox_' || d.oid
    WHERE d.datname = current_database()";

/// What the login `$1` may do.
const RIGHTS: &str = "
    SELECT r.rolcanlogin AND has_database_privilege(r.oid, d.oid, 'CONNECT')
            AND has_schema_privilege(r.oid, 'sandbox', 'USAGE') AS usable,
        r.rolsuper OR r.rolcreaterole OR r.rolcreatedb OR r.rolreplication OR r.rolbypassrls OR r.rolconnlimit < 0
            OR EXISTS (SELECT FROM pg_auth_members m WHERE m.member = r.oid) AS privileged,
        has_database_privilege(r.oid, d.oid, 'TEMP') AS temporary,
        has_database_privilege(r.oid, d.oid, 'CREATE') OR EXISTS (
            SELECT FROM pg_namespace n WHERE n.nspname !~ '^pg_(toast_)?temp_' AND has_schema_privilege(r.oid, n.oid, 'CREATE')
        ) AS creates,
        EXISTS (
            SELECT FROM pg_class c WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p', 'v', 'S')
                AND has_table_privilege(r.oid, c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')
        ) AS tables,
        EXISTS (
            SELECT FROM pg_proc p WHERE p.pronamespace = current_schema()::regnamespace
                AND has_function_privilege(r.oid, p.oid, 'EXECUTE')
        ) AS functions,
        EXISTS (
            SELECT FROM pg_proc p WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.proname IN LARGE_OBJECTS
                AND has_function_privilege(r.oid, p.oid, 'EXECUTE')
        ) AS large_objects,
        ARRAY(
            SELECT o.datname::text FROM pg_database o WHERE o.oid <> d.oid AND o.datallowconn
                AND has_database_privilege(r.oid, o.oid, 'CONNECT') ORDER BY 1
        ) AS others,
        ARRAY(
            SELECT one FROM pg_db_role_setting s CROSS JOIN unnest(s.setconfig) AS one
            WHERE s.setrole = r.oid AND s.setdatabase IN (0, d.oid)
                AND split_part(one, '=', 1) IN (SELECT name FROM pg_settings WHERE context = 'user')
        ) AS settings
    FROM pg_roles r, pg_database d WHERE r.rolname = $1 AND d.datname = current_database()";

/// Where the database as the login's owner sees it stands.
struct Look {
    name: String,
    database: String,
    schema: String,
    /// The password of a login of this name, where it is known.
    password: Option<Secret>,
    made: bool,
    superuser: bool,
}

impl Look {
    async fn take(client: &impl crate::connections::Statements) -> Result<Self, StoreError> {
        let rows = client.query_cached(LOOK, &[]).await?;
        let row = rows.first().ok_or_else(|| StoreError::raced("a database that is renamed"))?;
        let name: String = get(row, "name")?;
        let stored: Option<String> = get(row, "stored")?;
        let password: Option<String> = get(row, "password")?;
        Ok(Self {
            // A copy of another database brings that one's row along.
            password: password.filter(|_| stored.as_ref() == Some(&name)).map(Secret::new),
            name,
            database: get(row, "database")?,
            schema: get(row, "schema")?,
            made: get(row, "made")?,
            superuser: get(row, "superuser")?,
        })
    }

    /// The login as it stands; none where it is not there, not usable or set up in another way.
    async fn login(
        self,
        client: &impl crate::connections::Statements,
    ) -> Result<Option<SandboxLogin>, SandboxLoginError> {
        let Some(password) = self.password else {
            return Ok(None);
        };
        let sql = RIGHTS.replace("LARGE_OBJECTS", LARGE_OBJECTS);
        let rows = client.query_cached(&sql, &[&self.name]).await.map_err(StoreError::from)?;
        let Some(row) = rows.first().filter(|row| matches!(get(row, "usable"), Ok(true))) else {
            return Ok(None);
        };
        let could = too_much(row)?;
        let mut settings: Vec<String> = get(row, "settings")?;
        settings.sort_unstable();
        if could.is_empty() {
            if settings != SETTINGS {
                return Ok(None);
            }
            let other_databases = get(row, "others")?;
            Ok(Some(SandboxLogin { name: self.name, password, other_databases }))
        } else {
            Err(SandboxLoginError::CouldDoMore { name: self.name, could })
        }
    }
}

fn too_much(row: &Row) -> Result<Vec<&'static str>, StoreError> {
    let mut could = Vec::new();
    for (column, what) in [
        ("privileged", "do what its attributes or memberships allow"),
        ("temporary", "make temporary tables"),
        ("creates", "create objects"),
        ("tables", "use openTiger's tables"),
        ("functions", "call openTiger's other functions"),
        ("large_objects", "make large objects"),
    ] {
        if get(row, column)? {
            could.push(what);
        }
    }
    Ok(could)
}

impl Store {
    /// The login for this database's sandboxes, made where it is not there. Any number of dispatchers may ask at once; a
    /// login that can be used is never changed, and one that changed itself is put right.
    ///
    /// Making it takes from everybody what a database gives everybody: to connect to this one, temporary tables, objects
    /// in its schemas and, where the owner may say so, large objects. Superusers, owners and whoever was granted these by
    /// name keep them.
    ///
    /// # Errors
    /// [`SandboxLoginError`], which says what to grant.
    pub async fn ensure_sandbox_login(&self) -> Result<SandboxLogin, SandboxLoginError> {
        let connection = self.connection().await?;
        let found = Look::take(&connection).await?.login(&connection).await;
        if let Ok(Some(login)) = found
            && self.takes_password(&login).await
        {
            return Ok(login);
        }
        make(connection).await.map_err(|error| match error {
            SandboxLoginError::Store(source) if is_denied(&source) => {
                SandboxLoginError::NotAllowed { source }
            }
            other => other,
        })
    }

    /// Whether the server takes the login's password; true where that cannot be told. It looks at the password before
    /// it counts the login's connections.
    async fn takes_password(&self, login: &SandboxLogin) -> bool {
        let mut config = self.config().clone();
        config
            .user(&login.name)
            .password(login.password.expose())
            .target_session_attrs(TargetSessionAttrs::Any);
        match timeout(CONNECT_TIMEOUT, config.connect(NoTls)).await {
            Ok(Err(error)) => error.code() != Some(&SqlState::INVALID_PASSWORD),
            Ok(Ok(_)) | Err(_) => true,
        }
    }
}

async fn make(mut connection: Connection) -> Result<SandboxLogin, SandboxLoginError> {
    let tx = connection.transaction().await.map_err(StoreError::from)?;
    // A lock that only the owner can take.
    run(&tx, "LOCK TABLE sandbox_login IN EXCLUSIVE MODE").await?;
    let look = Look::take(&tx).await?;
    let name = look.name.clone();
    let password = set_password(&tx, &look).await?;
    take_rights(&tx, &look).await?;
    let made = Look { password: Some(password), ..look }.login(&tx).await?;
    let login = made.ok_or_else(|| {
        let could = vec!["not connect or not call its functions"];
        SandboxLoginError::CouldDoMore { name, could }
    })?;
    tx.commit().await.map_err(StoreError::from)?;
    Ok(login)
}

/// Makes the login, or gives one that is there its password again, and a new one where nobody knows it.
async fn set_password(tx: &Transaction<'_>, look: &Look) -> Result<Secret, StoreError> {
    let known = look.password.clone().filter(|_| look.made);
    let password = known.map_or_else(random_hex, Ok)?;
    let verb = if look.made { "ALTER" } else { "CREATE" };
    // Only who has an attribute may so much as take it from a login that is there.
    let attributes = if look.made && !look.superuser { "" } else { "NOCREATEDB NOCREATEROLE" };
    // The server's log may hold statements.
    let verifier = postgres_protocol::password::scram_sha_256(password.expose().as_bytes());
    let name = &look.name;
    let limit = "greatest(4, current_setting('max_connections')::int / 2)";
    let row = tx.query_one(&format!("SELECT {limit} AS most"), &[]).await?;
    let most: i32 = get(&row, "most")?;
    run(
        tx,
        &format!(
            "{verb} ROLE {name} LOGIN {attributes} NOINHERIT CONNECTION LIMIT {most} PASSWORD '{verifier}'"
        ),
    )
    .await?;
    tx.execute(
        "INSERT INTO sandbox_login (role, password) VALUES ($1, $2)
         ON CONFLICT (only_row) DO UPDATE SET role = excluded.role, password = excluded.password",
        &[name, &password.expose()],
    )
    .await?;
    Ok(password)
}

/// Gives the login what it needs, and takes from everybody what it must not have.
async fn take_rights(tx: &Transaction<'_>, look: &Look) -> Result<(), StoreError> {
    let Look { name, database, schema, superuser, .. } = look;
    run(
        tx,
        &format!(
            "ALTER ROLE {name} RESET ALL;
             ALTER ROLE {name} IN DATABASE {database} RESET ALL;
             ALTER ROLE {name} SET search_path = pg_catalog;
             ALTER ROLE {name} SET statement_timeout = '30s';
             ALTER ROLE {name} SET idle_in_transaction_session_timeout = '10s';
             REVOKE CONNECT, TEMPORARY ON DATABASE {database} FROM PUBLIC;
             GRANT CONNECT ON DATABASE {database} TO {name};
             GRANT USAGE ON SCHEMA sandbox TO {name};
             GRANT EXECUTE ON FUNCTION {FUNCTIONS} TO {name};
             REVOKE EXECUTE ON ALL ROUTINES IN SCHEMA \"{schema}\" FROM PUBLIC;"
        ),
    )
    .await?;
    let creates =
        "SELECT has_schema_privilege($1::text, current_schema()::text, 'CREATE') AS creates";
    if get(&tx.query_one(creates, &[name]).await?, "creates")? {
        run(tx, &format!("REVOKE CREATE ON SCHEMA \"{schema}\" FROM PUBLIC")).await?;
    }
    if !superuser {
        // So that the owner may end its sessions.
        return run(tx, &format!("GRANT {name} TO CURRENT_USER")).await;
    }
    run(tx, &format!("ALTER ROLE {name} SET temp_file_limit = '64MB'")).await?;
    run(
        tx,
        &format!(
            "DO $do$ DECLARE one regprocedure; BEGIN
                 FOR one IN SELECT p.oid::regprocedure FROM pg_proc p
                     WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.proname IN {LARGE_OBJECTS}
                 LOOP EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', one); END LOOP;
             END $do$"
        ),
    )
    .await
}

async fn run(tx: &Transaction<'_>, sql: &str) -> Result<(), StoreError> {
    Ok(tx.batch_execute(sql).await?)
}

fn is_denied(error: &StoreError) -> bool {
    match error {
        StoreError::Refused { source } => source.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE),
        StoreError::Unavailable { .. }
        | StoreError::ReadOnly { .. }
        | StoreError::Contended { .. }
        | StoreError::WrongSchema { .. }
        | StoreError::Corrupt { .. } => false,
    }
}
