//! A broken login stops the queue, not the tasks in it, and a changed setting lets them go on.

use std::{collections::BTreeMap, time::Duration};

use model_stub::{script::Scripts, server::ModelStub};
use serde_json::{Value, json};
use store::config_rows::ConfigUpdate;
use testing::wait::wait_for;

use crate::system::{DEADLINE, Part, System, text_at};

/// How many tasks are queued.
const TASKS: usize = 20;
/// Longest wait for all of them to be done by the real command line.
const ALL_DONE: Duration = Duration::from_secs(150);

/// A provider that does to every request what this script says.
async fn provider(script: &str) -> ModelStub {
    let scripts = Scripts::builtin().with_default(script).expect("the script is built in");
    ModelStub::start(scripts).await.expect("the stub can listen on loopback")
}

async fn set_provider(system: &System, provider: &ModelStub) {
    let value = Some(json!(provider.base_url()));
    let update = ConfigUpdate { value, secret: false };
    let updates = BTreeMap::from([("ANTHROPIC_BASE_URL".to_owned(), update)]);
    let store = &system.database.as_ref().expect("it runs on a test database").store;
    store.set_config_rows(&updates, "a test", None).await.expect("the row is written");
}

async fn gate(system: &System) -> Result<Value, String> {
    let (_, gates) = system.http.get("/system/gates").await?;
    let items = gates.pointer("/items").and_then(Value::as_array).cloned().unwrap_or_default();
    let of = |gate: &Value| {
        text_at(gate, "/executor") == "claude_code" && text_at(gate, "/environment") == "host"
    };
    items.into_iter().find(of).ok_or_else(|| gates.to_string())
}

async fn count(system: &System, status: &str) -> Result<u64, String> {
    let (_, counts) = system.http.get("/tasks/summary").await?;
    counts.pointer(&format!("/{status}")).and_then(Value::as_u64).ok_or_else(|| counts.to_string())
}

#[tokio::test]
async fn a_refused_key_burns_no_task_and_all_get_done_once_it_is_mended() {
    let (refuses, answers) = (provider("refused-key").await, provider("demo").await);
    let claude = testing::programs::claude_path().to_string_lossy().into_owned();
    let mut system = System::start([
        ("CLAUDE_CODE_COMMAND".to_owned(), claude),
        ("ANTHROPIC_API_KEY".to_owned(), "sk-ant-test-0000000000".to_owned()),
    ])
    .await;
    set_provider(&system, &refuses).await;
    // Both begin with the new setting.
    for part in [Part::Dispatcher, Part::Worker] {
        system.kill(part);
        system.spawn(part);
    }
    system.wait_ready(200).await;
    let mut tasks = Vec::new();
    for n in 0..TASKS {
        let goal = format!("[file: HELLO-{n}.md] write the greeting");
        tasks.push(system.queue(&goal, json!({ "max_attempts": 1 })).await);
    }

    let closed = wait_for("the gate to close", DEADLINE, async || {
        let gate = gate(&system).await?;
        if text_at(&gate, "/state") == "closed" {
            Ok(gate)
        } else {
            Err(format!("{gate}\n{}", system.logs()))
        }
    })
    .await;
    assert_eq!(text_at(&closed, "/cause"), "login");
    assert!(text_at(&closed, "/hint").contains("ANTHROPIC_API_KEY"), "{closed}");
    let last = system.task(tasks.last().expect("tasks are queued")).await.expect("it is there");
    assert_eq!(text_at(&last, "/waiting/kind"), "login");
    assert_eq!(count(&system, "queued").await, Ok(u64::try_from(TASKS).unwrap()));
    let mut runs = 0;
    for task in &tasks {
        let shown = system.task(task).await.expect("it is there");
        assert_eq!(shown.pointer("/attempts"), Some(&json!(0)), "{shown}");
        runs += system.runs(task).await.len();
    }
    assert_eq!(runs, 1, "one run found it out for all");

    set_provider(&system, &answers).await;
    wait_for("all tasks to be done", ALL_DONE, async || {
        let done = count(&system, "done").await?;
        if done == u64::try_from(TASKS).unwrap() {
            Ok(())
        } else {
            Err(format!("{done} done\n{}", system.logs()))
        }
    })
    .await;
    for task in &tasks {
        let shown = system.task(task).await.expect("it is there");
        assert_eq!(shown.pointer("/attempts"), Some(&json!(1)), "{shown}");
    }
    assert_eq!(text_at(&gate(&system).await.expect("api-server answers"), "/state"), "open");
}
