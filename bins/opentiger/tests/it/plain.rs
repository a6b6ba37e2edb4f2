//! What needs no server: help, completion, and the answer to everything else where none runs.

use crate::world::World;

#[tokio::test]
async fn without_a_server_every_command_says_so_and_makes_nothing() {
    let world = World::without_database();
    for args in [
        &["task", "list"][..],
        &["task", "show", "@last"],
        &["task", "logs", "@last"],
        &["task", "add", "a title"],
        &["config", "get"],
        &["status"],
        &["status", "--json"],
    ] {
        let said = world.call(args).await.with_code(3);
        assert!(said.err.contains("does not run") && said.err.contains("hint: "), "{}", said.err);
    }
    let status = world.call(&["status", "--json"]).await;
    assert_eq!(status.json()["running"], false);
    assert!(!world.state_dir().is_dir(), "looking makes no state directory");
}

#[tokio::test]
async fn down_and_gc_without_anything_are_done() {
    let world = World::without_database();
    let said = world.call(&["down"]).await.done();
    assert_eq!(said.line(), "openTiger does not run");
    world.call(&["down", "--json"]).await.done().json();
    assert_eq!(world.call(&["gc", "--json"]).await.done().json()["freed_bytes"], 0);
    assert!(!world.state_dir().is_dir());
}

#[tokio::test]
async fn a_wrong_command_line_is_a_usage_error() {
    let world = World::without_database();
    for args in [
        &["task"][..],
        &["task", "list", "--status", "nearly"],
        &["task", "add"],
        &["task", "add", "t", "--timebox", "soon"],
        &["config", "set"],
        &["up", "--api", "http://127.0.0.1:1"],
        &["--api", "https://127.0.0.1:1", "task", "list"],
        &["--api", "http://key@127.0.0.1:1", "task", "list"],
        &["nonsense"],
    ] {
        world.call(args).await.with_code(2);
    }
}

#[tokio::test]
async fn a_bad_setting_is_a_usage_error_with_the_whole_report() {
    let mut world = World::without_database();
    world.set("CANCEL_GRACE_S", "soon");
    let said = world.call(&["up"]).await.with_code(2);
    assert!(said.err.contains("CANCEL_GRACE_S"), "{}", said.err);
}

#[tokio::test]
async fn completion_is_written_for_every_shell() {
    let world = World::without_database();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let said = world.call(&["completion", shell]).await.done();
        assert!(said.out.contains("opentiger") && said.out.contains("cancel"), "{shell}");
    }
}

#[tokio::test]
async fn the_script_for_bash_completes_commands() {
    let world = World::without_database();
    let script = world.call(&["completion", "bash"]).await.done().out;
    let probe = format!(
        "{script}\nCOMP_WORDS=(opentiger task can)\nCOMP_CWORD=2\n_opentiger opentiger can task\necho \"${{COMPREPLY[@]}}\""
    );
    let bash = testing::programs::installed_program("bash");
    let mut command = world.command(&bash.to_string_lossy(), world.state.path());
    let output = command.args(["--norc", "-c", &probe]).output().await.expect("bash runs");
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "cancel");
}
