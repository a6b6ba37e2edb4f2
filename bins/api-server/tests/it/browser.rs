//! The dashboard in a real Chromium, as people use it.
//!
//! Pictures of the pages are kept in `target/tmp/screenshots`.

mod chromium;

use serde_json::json;
use testing::{database::TestDatabase, repository::ScratchRepository};

use self::chromium::Browser;
use crate::program::{Program, json, post};

const HOSTILE: &str = "<img src=x onerror=\"window.pwned=1\"><script>window.pwned=1</script>\"'>";
/// A run that a test writes into the database.
const RUN: &str = "0191aaaabbbb7cccadddeeeeffff0001";
const KEY: &str = "the-right-key-0001";

/// A server with its database, and a task that is made already.
struct System {
    database: TestDatabase,
    server: Program,
    task: String,
    _repository: ScratchRepository,
}

impl System {
    async fn start() -> Self {
        let database = TestDatabase::new().await;
        let mut server = Program::start(&[], &[("DATABASE_URL", database.url.expose())]);
        let repository = ScratchRepository::with_one_commit();
        let path = repository.path().to_str().expect("the path is text");
        let task = json!({
            "title": HOSTILE, "goal": HOSTILE, "target_area": HOSTILE,
            "repository": { "mode": "local", "path": path },
        });
        let made = json(&post(&server.address(), "/tasks", &task.to_string()));
        let task = made["id"].as_str().expect("a task has an id").to_owned();
        Self { database, server, task, _repository: repository }
    }

    /// Lets the task run, for whoever looks.
    async fn begin_run(&self) {
        let task = self.task.trim_start_matches("task-");
        let sql = format!(
            "DELETE FROM ready WHERE task = '{task}';
             INSERT INTO runs (id, task, lease_number, host, status, created_at, started_at)
             VALUES ('{RUN}', '{task}', 1, 'here', 'running', now(), now());
             UPDATE tasks SET status = 'running', current_run = '{RUN}', lease_number = 1 WHERE id = '{task}';"
        );
        self.database.run(&sql).await;
    }

    /// Writes an event of that run.
    async fn say(&self, seq: i64, text: &str) {
        let event = json!({ "kind": "text", "text": text }).to_string().replace('\'', "''");
        let sql = format!(
            "INSERT INTO run_events (run, seq, at, kind, event) VALUES ('{RUN}', {seq}, now(), 'text', '{event}');
             NOTIFY opentiger_events;"
        );
        self.database.run(&sql).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_page_shows_what_it_is_for_runs_no_hostile_text_and_asks_nobody_else() {
    let mut system = System::start().await;
    system.begin_run().await;
    system.say(1, HOSTILE).await;
    let browser = Browser::start(&system.server.address()).await;
    let (task, run) = (format!("/ui/tasks/{}", system.task), format!("/ui/runs/run-{RUN}"));
    let pages = [
        ("overview", "/", "Overview"),
        ("tasks", "/ui/tasks", "Tasks"),
        ("board", "/ui/tasks?view=board", "Tasks"),
        ("new-task", "/ui/tasks/new", "New task"),
        ("task", &task, "<img src=x"),
        ("run", &run, "Run 1"),
        ("system", "/ui/system", "System"),
        ("switch", "/ui/system/switch?to=sandbox", "Switch to sandbox"),
        ("settings", "/ui/system/settings", "Settings"),
        ("setting", "/ui/system/settings/TASK_MAX_ATTEMPTS", "TASK_MAX_ATTEMPTS"),
        ("login", "/ui/login", "Sign in"),
    ];
    for (name, path, title) in pages {
        browser.open(path).await;
        let heading = browser.text("h1").await;
        assert!(heading.contains(title), "{path}: {heading}");
        browser.check_page(path).await;
        browser.picture(name).await;
    }
    browser.check_console(&[]).await;
    for (path, title) in [
        ("/ui/nowhere", "There is nothing here"),
        ("/ui/tasks/task-00000000000000000000000000000000", "There is nothing here"),
        ("/ui/tasks?status=strange", "This cannot be done as asked"),
        ("/ui/runs/x", "This cannot be done as asked"),
        ("/ui/system/settings/NO_SUCH_KEY", "There is nothing here"),
        ("/ui/system/processes/nobody", "There is nothing here"),
        ("/ui/system/switch?to=cloud", "This cannot be done as asked"),
    ] {
        browser.open(path).await;
        assert_eq!(browser.text("h1").await, title, "{path}");
        browser.check_page(path).await;
    }
    browser.picture("error").await;
    browser.check_console(&["status of 404", "status of 400"]).await;
    browser.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_grows_while_it_is_looked_at_and_can_be_searched() {
    let mut system = System::start().await;
    system.begin_run().await;
    system.say(1, "the first line").await;
    let browser = Browser::start(&system.server.address()).await;
    browser.open(&format!("/ui/runs/run-{RUN}")).await;
    browser.wait_for_text("#log", "the first line").await;
    system.say(2, HOSTILE).await;
    browser.wait_for_text("#log", "onerror").await;
    system.say(3, "the needle").await;
    browser.wait_for_text("#log", "the needle").await;
    browser.fill("#log-search", "NEEDLE").await;
    let seen = browser.text("#log").await;
    assert!(seen.contains("the needle") && !seen.contains("the first line"), "{seen}");
    assert_eq!(browser.text("#log-bar output").await, "1");
    browser.check_page("the run's page").await;
    browser.picture("log").await;
    browser.check_console(&[]).await;
    browser.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_are_sent_to_the_sandbox_and_back_while_a_task_runs() {
    let mut system = System::start().await;
    system.begin_run().await;
    let browser = Browser::start(&system.server.address()).await;
    for to in ["sandbox", "host"] {
        browser.open("/ui/system").await;
        browser.click(&format!("input[value={to}]")).await;
        browser.click("form[action='/ui/system/switch'] button").await;
        browser.wait_for_text("h1", &format!("Switch to {to}")).await;
        browser.wait_for_text("main", "Runs that are alive finish where they are: 1").await;
        browser.click("form[method=post] button:not(.quiet)").await;
        browser.wait_for_text(".said", "Switched.").await;
        assert!(browser.exists(&format!("input[value={to}]:checked")).await);
        browser.check_page(to).await;
    }
    browser.check_console(&[]).await;
    browser.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_access_control_people_sign_in_and_out() {
    let database = TestDatabase::new().await;
    let variables = [
        ("DATABASE_URL", database.url.expose()),
        ("API_KEYS", KEY),
        ("OPENTIGER_ALLOW_INSECURE_SYSTEM_CONTROL", "false"),
    ];
    let mut server = Program::start(&[], &variables);
    let browser = Browser::start(&server.address()).await;
    browser.open("/ui/tasks").await;
    assert_eq!(browser.text("h1").await, "Sign in");
    browser.fill("#key", "the-wrong-key-0001").await;
    browser.click("main button").await;
    browser.wait_for_text("[role=alert]", "none of this server's keys").await;
    browser.fill("#key", KEY).await;
    browser.click("main button").await;
    browser.wait_for_text("h1", "Tasks").await;
    assert_eq!(browser.script("return document.cookie").await, "", "no script sees the session");
    browser.open("/ui/system").await;
    browser.click("form[action='/ui/logout'] button").await;
    browser.wait_for_text("h1", "Sign in").await;
    browser.open("/ui/system").await;
    assert_eq!(browser.text("h1").await, "Sign in");
    browser.check_console(&["status of 401"]).await;
    browser.end().await;
}
