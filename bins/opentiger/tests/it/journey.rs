//! From nothing to a change in the user's own work tree, by the real agent against a scripted model.

use model_stub::{script::Scripts, server::ModelStub};
use serde_json::Value;

use crate::world::World;

async fn with_the_real_agent() -> (World, ModelStub) {
    let stub = ModelStub::start(Scripts::builtin()).await.expect("the stub can listen on loopback");
    let mut world = World::new().await;
    world.set("CLAUDE_CODE_COMMAND", &testing::programs::claude_path().to_string_lossy());
    world.set("ANTHROPIC_BASE_URL", &stub.base_url());
    world.set("ANTHROPIC_API_KEY", "sk-ant-test-0000000000");
    (world, stub)
}

#[tokio::test]
async fn a_task_goes_from_its_title_to_the_user_s_index() {
    let (world, _stub) = with_the_real_agent().await;
    let up = world.up().await;
    assert!(up.out.contains("is ready") && up.out.contains("opentiger task add"), "{}", up.out);
    let status = world.call(&["status"]).await.done();
    assert!(
        status.out.contains("openTiger is ready") && status.out.contains("worker-1"),
        "{}",
        status.out
    );

    let before = world.repository.fingerprint();
    let goal = "[script: demo] [file: HELLO.md] write the greeting";
    let args =
        ["task", "add", "Say hello", "--goal-file", "-", "--verify", "test -f HELLO.md", "-f"];
    let followed = world.call_with(&args, goal).await.done();
    for part in ["agent", "verify", "passed", "commit", "ended", "done"] {
        assert!(followed.out.contains(part), "{part} in: {}", followed.out);
    }
    let id = followed.err.lines().next().unwrap_or_default().to_owned();
    assert!(id.starts_with("task-"), "{}", followed.err);
    assert_eq!(world.repository.fingerprint(), before, "the work tree is the user's");

    let short: String = id.chars().skip(id.len() - 8).collect();
    let shown = world.call(&["task", "show", &short]).await.done();
    for part in [id.as_str(), "Say hello", "succeeded", "test -f HELLO.md", "task apply"] {
        assert!(shown.out.contains(part), "{part} in: {}", shown.out);
    }
    let listed = world.call(&["task", "list", "--status", "done"]).await.done();
    assert!(listed.out.contains(&short) && listed.out.contains("Say hello"), "{}", listed.out);

    let diff = world.call(&["task", "diff", "@last"]).await.done();
    assert!(diff.out.contains("+++ b/HELLO.md"), "{}", diff.out);
    let stat = world.call(&["task", "diff", "@last", "--stat"]).await.done();
    assert!(stat.out.contains("HELLO.md |"), "{}", stat.out);

    let checked = world.call(&["task", "apply", "@last", "--check"]).await.done();
    assert!(checked.out.contains("can be applied"), "{}", checked.out);
    assert_eq!(world.repository.fingerprint(), before, "a check touches nothing");
    let head = world.repository.head();
    world.call(&["task", "apply", "@last"]).await.done();
    assert_eq!(world.repository.head(), head, "nothing is committed");
    assert_eq!(world.repository.git(&["diff", "--cached", "--name-only"]).trim(), "HELLO.md");
    assert!(world.repository.join("HELLO.md").is_file());
    let again = world.call(&["task", "apply", "@last"]).await.with_code(6);
    assert!(
        again.err.contains("not committed") && again.err.contains("--allow-dirty"),
        "{}",
        again.err
    );

    programs_get_json(&world, &id).await;
    let down = world.call(&["down"]).await.done();
    assert!(down.out.contains("stopped"), "{}", down.out);
    assert_eq!(world.alive().await, Vec::<String>::new());
}

/// Every command that a program may call writes one JSON value, and nothing else.
async fn programs_get_json(world: &World, id: &str) {
    for args in [
        &["task", "show", id, "--json"][..],
        &["task", "list", "--json"],
        &["task", "list", "--all", "--role", "worker", "--json"],
        &["task", "diff", id, "--json"],
        &["task", "diff", id, "--stat", "--json"],
        &["task", "apply", id, "--check", "--allow-dirty", "--json"],
        &["status", "--json"],
        &["config", "get", "--json"],
        &["config", "get", "CANCEL_GRACE_S", "--json"],
        &["gc", "--dry-run", "--json"],
        &["up", "--json"],
    ] {
        let said = world.call(args).await;
        assert!(said.json().is_object(), "{args:?}: {}", said.out);
    }
    let log = world.call(&["task", "logs", id, "--json"]).await.done();
    let kinds: Vec<Value> = log
        .out
        .lines()
        .map(|line| {
            serde_json::from_str::<Value>(line).expect("each line is JSON")["event"]["kind"].clone()
        })
        .collect();
    assert_eq!(kinds.first(), Some(&Value::from("phase")));
    assert_eq!(kinds.last(), Some(&Value::from("ended")));
    let followed = world.call(&["task", "logs", id, "-f", "--json"]).await.done();
    assert_eq!(followed.out, log.out, "an ended run is followed from its beginning to its end");
}

#[tokio::test]
async fn a_change_that_does_not_merge_touches_nothing() {
    let (world, _stub) = with_the_real_agent().await;
    world.up().await;
    let goal = "[script: demo] [file: README.md] change it";
    let args = ["task", "add", "Change the readme", "--goal", goal, "--follow"];
    world.call(&args).await.done();
    world.repository.write("README.md", "# Something else altogether\n");
    world.repository.commit_all("meanwhile");
    let before = world.repository.fingerprint();
    let said = world.call(&["task", "apply", "@last"]).await.with_code(6);
    assert!(
        said.err.contains("does not merge cleanly") && said.err.contains("git merge"),
        "{}",
        said.err
    );
    assert_eq!(world.repository.fingerprint(), before);
    let outside = tempfile::tempdir().expect("a directory can be made");
    world.call_in(outside.path(), &["task", "apply", "@last"], "").await.with_code(2);
}
