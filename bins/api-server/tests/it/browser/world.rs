//! A server with its database, and in it what an evening of work leaves.

use serde_json::{Value, json};
use testing::{database::TestDatabase, repository::ScratchRepository};

use crate::program::{Program, json, send};

pub(super) const HOSTILE: &str =
    "<img src=x onerror=\"window.pwned=1\"><script>window.pwned=1</script>\"'>";
/// A run that goes on.
pub(super) const RUN: &str = "0191aaaabbbb7cccadddeeeeffff0001";
/// A run that is over, with a commit.
pub(super) const OVER: &str = "0191aaaabbbb7cccadddeeeeffff0002";
/// An agent that is there.
pub(super) const AGENT: &str = "0191aaaabbbb7cccadddeeeeffff0003";

/// A server with its database, and a task that is made already.
pub(super) struct World {
    pub(super) database: TestDatabase,
    pub(super) server: Program,
    /// The task whose every text is hostile.
    pub(super) task: String,
    pub(super) repository: ScratchRepository,
}

impl World {
    pub(super) async fn start(variables: &[(&str, &str)]) -> Self {
        Self::begin(variables, "").await
    }

    /// The same for those who have this key alone.
    pub(super) async fn start_with_key(key: &str) -> Self {
        let variables = [("API_KEYS", key), ("OPENTIGER_ALLOW_INSECURE_SYSTEM_CONTROL", "false")];
        Self::begin(&variables, &format!("x-api-key: {key}\r\n")).await
    }

    async fn begin(variables: &[(&str, &str)], headers: &str) -> Self {
        let database = TestDatabase::new().await;
        // Processes are looked at, and none is started.
        database.run("INSERT INTO process_wishes (name, wanted, changed_at)
            SELECT name, 'stopped', now() FROM unnest(ARRAY['dispatcher', 'worker-1', 'tester-1', 'docser-1']) AS name").await;
        let mut server = serve(&database, variables);
        let repository = ScratchRepository::with_one_commit();
        let task = json!({
            "title": HOSTILE, "goal": HOSTILE, "target_area": HOSTILE, "context": { "note": HOSTILE },
            "repository": { "mode": "local", "path": repository.path() }, "max_attempts": 3,
            "verification": [["echo", HOSTILE]],
        });
        let made = json(&send("POST", &server.address(), "/tasks", headers, &task.to_string()));
        let task = made["id"].as_str().expect("a task has an id").to_owned();
        Self { database, server, task, repository }
    }

    /// Lets the task run, for whoever looks.
    pub(super) async fn begin_run(&self) {
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
    pub(super) async fn say(&self, seq: i64, text: &str) {
        self.tell(RUN, seq, &json!({ "kind": "text", "text": text })).await;
    }

    async fn tell(&self, run: &str, seq: i64, event: &Value) {
        let text = event.to_string().replace('\'', "''");
        let kind = event["kind"].as_str().expect("an event has a kind");
        let sql = format!(
            "INSERT INTO run_events (run, seq, at, kind, event) VALUES ('{run}', {seq}, now(), '{kind}', '{text}');
             NOTIFY opentiger_events;"
        );
        self.database.run(&sql).await;
    }

    /// Adds what is on pages after some work: tasks that stand in every way, a run with a commit, agents, a provider
    /// that takes no runs for now.
    pub(super) async fn work(&self) {
        let base = self.repository.head();
        self.repository.write("src/lib.rs", "pub fn answer() -> u32 {\n    42\n}\n");
        let commit = self.repository.commit_all(HOSTILE);
        let path = self.repository.path().to_str().expect("the path is text");
        let hostile = HOSTILE.replace('\'', "''");
        let sql = format!(
            "INSERT INTO tasks (id, title, goal, role, priority, risk, repository, verification, executor, max_attempts,
                 created_by, rank, status, block_reason, reason, attempts, created_at, updated_at, finished_at)
             SELECT gen_random_uuid(), s.title, 'g', 'worker', 0, 'low', '{{\"mode\": \"local\", \"path\": \"{path}\"}}', '[]',
                 'claude_code', 3, 'test', 0, s.status, s.block, s.reason, 1, now(), now(),
                 CASE WHEN s.status IN ('done', 'failed', 'cancelled') THEN now() END
             FROM (VALUES ('Done task', 'done', NULL, NULL), ('Failed task', 'failed', NULL, 'the verification failed'),
                 ('Cancelled task', 'cancelled', NULL, NULL), ('Queued task', 'queued', NULL, NULL),
                 ('Blocked task', 'blocked', 'attempts_exhausted', '{hostile}')) AS s (title, status, block, reason);
             INSERT INTO runs (id, task, lease_number, host, status, outcome, message, hint, commit_id, branch, base_commit,
                 input_tokens, output_tokens, cost_microusd, turns, session, created_at, started_at, ended_at, ending)
             SELECT '{OVER}', id, 1, 'here', 'ended', 'succeeded', '{hostile}', '{hostile}', '{commit}', 'opentiger/t-1', '{base}',
                 1234567, 4321, 1230000, 17, 's-1', now() - interval '9 minutes', now() - interval '9 minutes', now(), '{{}}'
             FROM tasks WHERE title = 'Done task';
             INSERT INTO spend (day, executor, input_tokens, output_tokens, cost_microusd)
             VALUES (current_date, 'claude_code', 1234567, 4321, 1230000);
             INSERT INTO agents (id, name, role, host, pid, start_ticks, boot_id, version, idle_since, registered_at, last_beat)
             VALUES ('{AGENT}', 'worker-1', 'worker', 'here', 1, 1, 'b', '0', now(), now(), now() + interval '1 hour');
             UPDATE executor_gates SET state = 'closed', cause = 'quota', message = '{hostile}', hint = '{hostile}',
                 closed_at = now(), retry_at = now() + interval '1 hour', closures = 1
             WHERE environment = 'host' AND executor = 'claude_code';
             INSERT INTO account_quotas (environment, executor, provider, windows, told_at)
             VALUES ('host', 'claude_code', '', '[{{\"name\": \"five_hour\", \"used_percent\": 87.5, \"resets_at\": null}}]', now());"
        );
        self.database.run(&sql).await;
        let phases = ["preparing", "agent", "verifying"]
            .map(|name| json!({ "kind": "phase", "name": name }));
        let verified = |passed, status| {
            json!({ "kind": "verification", "command": ["echo", HOSTILE], "passed": passed, "status": status,
                "output": HOSTILE })
        };
        let events = phases
            .into_iter()
            .chain([verified(false, "exit code 1"), verified(true, "exit code 0")]);
        for (seq, event) in (1..).zip(events) {
            self.tell(OVER, seq, &event).await;
        }
    }
}

/// Starts a server for a database, on another's address where the variables name one.
pub(super) fn serve(database: &TestDatabase, variables: &[(&str, &str)]) -> Program {
    let own = [("DATABASE_URL", database.url.expose())];
    let variables: Vec<(&str, &str)> = own.into_iter().chain(variables.iter().copied()).collect();
    Program::start(&[], &variables)
}
