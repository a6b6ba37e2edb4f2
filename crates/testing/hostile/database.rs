//! What somebody can do who knows the login of sandboxes for the database, from within a sandbox.
//!
//! The worker's memory is closed to the agent; here the test gives the login away.

use std::fs;

use crate::{
    Notes,
    postgres::{Login, Session},
    reach::connect,
};

/// Statements with a name for each. What everybody may do is among them: it must hold nobody up.
const STATEMENTS: &[(&str, &str)] = &[
    ("ask who it is", "SELECT current_user <> ''"),
    ("read tasks", "SELECT id FROM public.tasks"),
    ("read the settings", "SELECT key FROM public.system_config"),
    ("read its own password", "SELECT password FROM public.sandbox_login"),
    ("end other runs", "UPDATE public.runs SET status = 'ended'"),
    ("drop tables", "DROP TABLE public.tasks"),
    ("take another run by a guess", "SELECT sandbox.start('OTHER', 1, '')"),
    ("report for another run by a guess", "SELECT count(*) FROM sandbox.heartbeat('OTHER', 1, 'guess', '{9,9,9,9,9,9}')"),
    ("ask for a token's fit", "SELECT sandbox.held('OTHER', 1, '')"),
    ("temporary table", "CREATE TEMP TABLE t ()"),
    ("function of its own", "CREATE FUNCTION public.f() RETURNS int LANGUAGE sql AS 'SELECT 1'"),
    ("become superuser", "ALTER ROLE CURRENT_USER SUPERUSER"),
    ("read a file", "SELECT pg_read_file('/etc/passwd')"),
    ("run a program", "COPY (SELECT 1) TO PROGRAM 'true'"),
    ("large object", "SELECT lo_create(0)"),
    (
        "end sessions of others",
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename <> current_user",
    ),
    ("wake everybody", "NOTIFY opentiger_tasks, 'made up'; NOTIFY opentiger_config, 'made up'"),
    // What programs of ours keep off each other with while they migrate.
    ("take the lock of the schema", "SELECT pg_advisory_lock(8030029660138596197)"),
    ("keep it", "SELECT pg_sleep(25)"),
];

/// Tries them; the test put login and address into the repository, and the id of another run.
pub(crate) fn run(notes: &mut Notes) {
    let told = fs::read_to_string("login").expect("the test tells the login");
    let [user, password, database, other_database, address, other_run] =
        told.split_whitespace().collect::<Vec<_>>()[..]
    else {
        panic!("not what the test tells: {told}")
    };
    let open = |database: &str, password: &str| {
        let stream = connect(address).map_err(|error| crate::sys::word(&error))?;
        Session::open(stream, &Login { user, password, database })
    };
    let word = |result: Result<_, String>| result.map_or_else(|refusal| refusal, |()| "done".into());
    notes.word("database: another password", &word(open(database, "a guess").map(drop)));
    notes.word("database: another system's", &word(open(other_database, password).map(drop)));
    let mut session = match open(database, password) {
        Ok(session) => session,
        Err(refusal) => return notes.word("database: its own", &refusal),
    };
    for (name, statement) in STATEMENTS {
        let result = session.run(&statement.replace("OTHER", other_run));
        let word = result.unwrap_or_else(|refusal| refusal);
        notes.word(&format!("database: {name}"), if word.is_empty() { "done" } else { &word });
    }
}
