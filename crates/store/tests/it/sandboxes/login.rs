//! The login of all sandboxes: made once, put right, and good for its functions alone.

use std::time::Duration;

use core_types::{
    outcome::{RunOutcome, RunReport},
    secret::Secret,
    task::TaskStatus,
};
use store::sandbox::login::{SandboxLogin, SandboxLoginError};
use tokio::task::JoinSet;

use super::{Box, success, url_of};
use crate::world::{World, connect, plain_task};

#[tokio::test]
async fn login_can_call_its_functions_and_nothing_else() {
    let sandbox = Box::new().await;
    let mut driver = JoinSet::new();
    let hostile = sandbox.hostile(&mut driver).await;
    let schema: String =
        sandbox.world.sql.query_one("SELECT current_schema()", &[]).await.unwrap().get(0);
    let tables = sandbox
        .world
        .sql
        .query("SELECT tablename FROM pg_tables WHERE schemaname = current_schema()", &[])
        .await
        .unwrap();
    assert!(tables.len() > 10);
    let mut denied: Vec<String> = Vec::new();
    for table in &tables {
        let table: String = table.get(0);
        denied.push(format!("SELECT FROM {schema}.{table}"));
        denied.push(format!("DELETE FROM {schema}.{table}"));
    }
    denied.extend(
        [
            "CREATE TEMP TABLE t ()",
            "CREATE TABLE public.t ()",
            "CREATE SCHEMA s",
            "CREATE FUNCTION public.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
            "SELECT lo_create(0)",
            "SELECT lo_creat(-1)",
            "SELECT lo_from_bytea(0, 'x')",
            "SELECT sandbox.held('00000000-0000-0000-0000-000000000000', 1, '')",
            "SELECT sandbox.note_usage('00000000-0000-0000-0000-000000000000', '{0,0,0,0,0,0}')",
            "SELECT pg_read_file('/etc/passwd')",
            "COPY (SELECT 1) TO '/tmp/x'",
            "COPY (SELECT 1) TO PROGRAM 'true'",
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename <> current_user",
            "CREATE ROLE r",
            "ALTER ROLE CURRENT_USER SUPERUSER",
            "SET ROLE pg_monitor",
            "CREATE EXTENSION dblink",
            "SET temp_file_limit = -1",
            "CREATE PUBLICATION p",
        ]
        .map(str::to_owned),
    );
    for statement in denied {
        let result = hostile.batch_execute(&statement).await;
        assert!(result.is_err(), "{statement}");
    }
    // What cannot be forbidden holds nobody up: nothing of a run rests on a lock that anybody can take.
    for lock in [0x6f70_656e_5469_6765_i64, 0, 1] {
        hostile.batch_execute(&format!("SELECT pg_advisory_lock({lock})")).await.unwrap();
    }
    let worker = sandbox.started().await;
    worker.report(&success()).await.unwrap();
    let store = &sandbox.world.store;
    let finished = store.finish_run(sandbox.key, &RunReport::new(RunOutcome::NoChange)).await;
    assert_eq!(finished.unwrap().task_state.status(), TaskStatus::Done);
    sandbox.world.task(plain_task()).await;
}

#[tokio::test]
async fn other_database_that_lets_nobody_in_is_closed_and_others_are_named() {
    let (one, other) = (Box::new().await, Box::new().await);
    let name = |url: &Secret| url.expose().rsplit('/').next().unwrap().to_owned();
    let (own, foreign) = (name(&one.url), name(&other.url));
    let across = one.url.expose().replace(&own, &foreign);
    assert_ne!(across, one.url.expose());
    let error = tokio_postgres::connect(&across, tokio_postgres::NoTls).await.err();
    assert_eq!(error.unwrap().code().unwrap().code(), "42501");
    let login = one.world.store.ensure_sandbox_login().await.unwrap();
    assert!(!login.other_databases.contains(&foreign) && !login.other_databases.contains(&own));
    assert!(login.other_databases.contains(&"template1".to_owned()), "{login:?}");
}

#[tokio::test]
async fn login_is_made_once_whoever_asks_and_its_password_is_no_ones_to_read() {
    let world = World::new().await;
    let mut asking = JoinSet::new();
    for _ in 0..4 {
        let store = world.another_store().await;
        asking.spawn(async move { store.ensure_sandbox_login().await.unwrap() });
    }
    let logins = asking.join_all().await;
    let same = |pair: &[SandboxLogin]| {
        (&pair[0].name, &pair[0].password) == (&pair[1].name, &pair[1].password)
    };
    assert!(logins.windows(2).all(same), "{logins:?}");
    // A dump that was brought into another server has the row and not the role.
    let name = &logins[0].name;
    world.sql.batch_execute(&format!("DROP OWNED BY {name}; DROP ROLE {name}")).await.unwrap();
    let anew = world.store.ensure_sandbox_login().await.unwrap();
    let mut driver = JoinSet::new();
    connect(url_of(&anew, &world.url).expose(), &mut driver).await;
    // And a row that was lost brings another password.
    world.sql.batch_execute("DELETE FROM sandbox_login").await.unwrap();
    let other = world.store.ensure_sandbox_login().await.unwrap();
    assert_ne!(other.password, anew.password);
    connect(url_of(&other, &world.url).expose(), &mut driver).await;
}

#[tokio::test]
async fn right_that_somebody_grants_later_is_found() {
    let sandbox = Box::new().await;
    let sql = &sandbox.world.sql;
    let login = sandbox.world.store.ensure_sandbox_login().await.unwrap();
    sql.batch_execute(&format!("GRANT SELECT ON tasks TO {}", login.name)).await.unwrap();
    let error = sandbox.world.store.ensure_sandbox_login().await.unwrap_err();
    assert!(error.to_string().contains("use openTiger's tables"), "{error}");
    sql.batch_execute(&format!("REVOKE SELECT ON tasks FROM {}", login.name)).await.unwrap();
    let again = sandbox.world.store.ensure_sandbox_login().await.unwrap();
    assert_eq!(again.password, login.password);
}

#[tokio::test]
async fn login_that_changes_itself_is_put_right() {
    let sandbox = Box::new().await;
    let login = sandbox.world.store.ensure_sandbox_login().await.unwrap();
    let (own, mut driver) = (&login.name, JoinSet::new());
    let database = sandbox.url.expose().rsplit('/').next().unwrap();
    for change in [
        format!("ALTER ROLE {own} PASSWORD 'mine'"),
        format!("ALTER ROLE {own} PASSWORD NULL"),
        format!("ALTER ROLE {own} SET default_transaction_read_only = on"),
        format!("ALTER ROLE {own} IN DATABASE {database} SET default_transaction_read_only = on"),
        format!("ALTER ROLE {own} SET statement_timeout = '1ms'"),
        format!("ALTER ROLE {own} RESET ALL"),
        "DROP OWNED BY CURRENT_USER".to_owned(),
    ] {
        let hostile = sandbox.hostile(&mut driver).await;
        hostile.batch_execute(&change).await.unwrap();
        let again = sandbox.world.store.ensure_sandbox_login().await.unwrap();
        assert_eq!(again.password, login.password, "{change}: workers that run have no other");
        let fresh = sandbox.hostile(&mut driver).await;
        let settings = "SELECT concat_ws(' ', current_setting('default_transaction_read_only'),
            current_setting('statement_timeout'), current_setting('search_path'))";
        let settings: String = fresh.query_one(settings, &[]).await.unwrap().get(0);
        assert_eq!(settings, "off 30s pg_catalog", "{change}");
    }
    sandbox.started().await;
}

#[tokio::test]
async fn owner_that_may_make_no_roles_is_told_what_to_grant() {
    let world = World::new().await;
    let name: String = world.sql.query_one("SELECT current_database()", &[]).await.unwrap().get(0);
    // An owner of everything in its database, and of nothing else.
    let owner = format!("{name}_owner");
    let hand_over = format!(
        "CREATE ROLE {owner} LOGIN PASSWORD 'x'; ALTER DATABASE {name} OWNER TO {owner};
         ALTER SCHEMA sandbox OWNER TO {owner};
         DO $$ DECLARE one record; BEGIN
             FOR one IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' LOOP
                 EXECUTE format('ALTER TABLE public.%I OWNER TO {owner}', one.tablename); END LOOP;
             FOR one IN SELECT oid::regprocedure AS f FROM pg_proc WHERE pronamespace IN ('sandbox'::regnamespace, 'public'::regnamespace) LOOP
                 EXECUTE format('ALTER FUNCTION %s OWNER TO {owner}', one.f); END LOOP;
         END $$"
    );
    world.sql.batch_execute(&hand_over).await.unwrap();
    let (_, rest) = world.url.expose().split_once('@').unwrap();
    let url = Secret::new(format!("postgres://{owner}:x@{rest}"));
    let store = store::pool::Store::connect(&url, store::pool::PoolOptions::new("owner"));
    let store = store.await.unwrap();
    let error = store.ensure_sandbox_login().await.unwrap_err();
    assert!(matches!(error, SandboxLoginError::NotAllowed { .. }), "{error:?}");
    assert!(error.hint().contains("CREATEROLE"));
    world.sql.batch_execute(&format!("ALTER ROLE {owner} CREATEROLE")).await.unwrap();
    let error = store.ensure_sandbox_login().await.unwrap_err();
    assert!(error.to_string().contains("make large objects"), "{error}");
    assert!(error.hint().contains("lo_*"));
    let close = "DO $$ DECLARE one regprocedure; BEGIN
         FOR one IN SELECT oid::regprocedure FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace
             AND (proname ~ '^lo_' OR proname IN ('loread', 'lowrite')) LOOP
             EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', one); END LOOP; END $$";
    world.sql.batch_execute(close).await.unwrap();
    let login = store.ensure_sandbox_login().await.unwrap();
    let mut driver = JoinSet::new();
    let hostile = connect(url_of(&login, &url).expose(), &mut driver).await;
    hostile.batch_execute("BEGIN; SELECT 1").await.unwrap();
    let ended = store.end_lingering_sandboxes(Duration::ZERO).await.unwrap();
    assert_eq!(ended, 1, "the owner need not be a superuser");
    drop((store, hostile));
    driver.join_all().await;
    let give_back = format!(
        "REASSIGN OWNED BY {owner} TO CURRENT_USER; DROP OWNED BY {owner};
         ALTER DATABASE {name} OWNER TO CURRENT_USER; DROP OWNED BY {0}; DROP ROLE {0}; DROP ROLE {owner}",
        login.name
    );
    world.sql.batch_execute(&give_back).await.unwrap();
}
