//! What `doctor` says of a fresh machine and of a running system without a login.

use serde_json::Value;

use crate::world::World;

fn check<'a>(value: &'a Value, name: &str) -> &'a Value {
    let mut checks = value["checks"].as_array().into_iter().flatten();
    checks.find(|check| check["name"] == name).unwrap_or(&Value::Null)
}

#[tokio::test]
async fn fresh_machine_is_told_what_to_do_first_and_nothing_is_left_there() {
    let mut world = World::without_database();
    world.set("CLAUDE_CODE_COMMAND", "no-such-claude");
    let said = world.call(&["doctor"]).await.with_code(1);
    assert!(said.out.contains("fix: `opentiger up`"), "{}", said.out);
    let value = world.call(&["doctor", "--json"]).await.with_code(1).json();
    assert_eq!((&value["running"], &value["ready"]), (&false.into(), &false.into()));
    assert_eq!(check(&value, "git")["state"], "ok");
    let claude = check(&value, "claude_auth");
    assert_eq!(claude["state"], "fail");
    assert!(claude["fix"].as_str().unwrap().contains("npm install"), "{claude}");
    assert!(!world.state_dir().try_exists().unwrap());
}

#[tokio::test]
async fn running_system_without_a_login_fails_with_how_to_log_in() {
    let world = World::new().await;
    world.up().await;
    let value = world.call(&["doctor", "--json"]).await.with_code(1).json();
    assert_eq!((&value["running"], &value["ready"]), (&true.into(), &false.into()));
    for name in ["database", "schema", "dispatcher", "agent", "git", "services"] {
        assert_eq!(check(&value, name)["state"], "ok", "{value}");
    }
    let claude = check(&value, "claude_auth");
    assert_eq!(claude["state"], "fail");
    assert!(claude["fix"].as_str().unwrap().contains("/login"), "{claude}");
    let said = world.call(&["doctor"]).await.with_code(1);
    let lines = said.out.lines().filter(|line| line.starts_with("FAIL"));
    assert!(lines.clone().count() > 0 && lines.clone().all(|line| line.contains("fix: ")));
    world.call(&["down"]).await.done();
}

#[tokio::test]
async fn machine_without_an_engine_is_told_so_where_agents_shall_run_in_sandboxes() {
    let mut world = World::without_database();
    world.set("EXECUTION_ENVIRONMENT", "sandbox");
    world.set("DOCKER_HOST", "unix:///nowhere/docker.sock");
    let value = world.call(&["doctor", "--json"]).await.with_code(1).json();
    assert_eq!(check(&value, "docker_engine")["state"], "fail");
    let fix = check(&value, "docker_engine")["fix"].as_str().unwrap();
    assert!(fix.contains("systemctl start docker"), "{fix}");
    for name in ["sandbox_image", "sandbox_network", "sandbox_relay", "claude_cli"] {
        assert_eq!(check(&value, name)["state"], "unknown", "{value}");
    }
    let claude = check(&value, "claude_auth");
    assert_eq!(claude["state"], "fail");
    assert!(claude["cause"].as_str().unwrap().contains("no Docker daemon answers"), "{claude}");
    assert!(!world.state_dir().try_exists().unwrap());
}
