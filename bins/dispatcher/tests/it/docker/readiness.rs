//! Whether an agent could run in a sandbox, as the server tells it: asked of the real api-server, about a real engine.

use model_stub::{
    script::{Script, Scripts, Turn},
    server::ModelStub,
};
use serde_json::{Value, json};
use testing::{
    engine::{shared_host, worker_image},
    wait::wait_for,
};
use tokio::task::JoinSet;

use super::{
    door::{Door, Hold},
    support::{Network, Sandboxed, Setup},
};
use crate::system::{DEADLINE, Part, text_at};

const CLAUDE: &str = "/system/claude/auth?environment=sandbox";
const REFRESHED: &str = "/system/claude/auth?environment=sandbox&refresh=true";
/// Callers at the same time.
const CALLERS: usize = 50;

/// A system that looks through a door at its engine, with image and network as settings that can change.
async fn start(door: &Door) -> Sandboxed {
    let it = Setup::on(Network::new(&shared_host(), &[]))
        .with("DOCKER_HOST", door.host())
        .with("OPENCODE_MODEL", "anthropic/claude-sonnet-4-5")
        .without("SANDBOX_DOCKER_IMAGE")
        .without("SANDBOX_DOCKER_NETWORK")
        // What a check asks names no script.
        .script("demo", [Turn::text("ready")])
        .start()
        .await;
    whole(&it).await;
    it
}

/// Image and network as they should be.
async fn whole(it: &Sandboxed) {
    let network = json!(it.network.name);
    it.set(&[
        ("SANDBOX_DOCKER_IMAGE", json!(worker_image())),
        ("SANDBOX_DOCKER_NETWORK", network.clone()),
    ])
    .await;
    wait_for("the settings to be taken up", DEADLINE, async || {
        let (_, config) = it.system.http.get("/config").await?;
        if config.to_string().contains(&it.network.name) { Ok(()) } else { Err(it.system.logs()) }
    })
    .await;
}

/// Waits until a check finds this; tells what it says.
async fn finds(it: &Sandboxed, reason: &str) -> Value {
    let found = wait_for(&format!("a check to find {reason}"), DEADLINE, async || {
        let (status, found) = it.system.http.get(REFRESHED).await?;
        assert_eq!(status, 200, "{found}");
        if text_at(&found, "/reason") == reason {
            Ok(found)
        } else {
            Err(format!("{found}\n{}", it.system.logs()))
        }
    })
    .await;
    assert_eq!(found["authenticated"], json!(reason == "ready"), "{found}");
    assert_eq!(found["executionEnvironment"], json!("sandbox"), "{found}");
    assert_eq!(found["hint"].is_null(), reason == "ready", "{found}");
    found
}

/// The checks of readiness that are not well, each of which says why and what to do.
fn bad_ones(readiness: &Value) -> Vec<(String, String)> {
    let checks = readiness.pointer("/checks").and_then(Value::as_array).cloned();
    let checks = checks.expect("it has checks");
    assert!(checks.iter().any(|check| check["name"] == "sandbox_relay"), "{readiness}");
    let bad = checks.iter().filter(|check| check["state"] != "ok").map(|check| {
        assert!(!text_at(check, "/cause").is_empty() && !text_at(check, "/fix").is_empty());
        (text_at(check, "/name"), text_at(check, "/state"))
    });
    bad.collect()
}

/// Fifty ask at once, and others are answered while they wait.
async fn one_check_for_all(it: &Sandboxed, door: &Door) {
    door.hold(Hold::Until("/start"));
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let http = it.system.http.clone();
        callers.spawn(async move { http.get(CLAUDE).await.expect("it answers") });
    }
    door.wait_held(|| it.system.logs()).await;
    for path in ["/tasks", "/health", "/config", "/system/gates"] {
        let (status, answer) = it.system.http.get(path).await.expect("it answers");
        assert_eq!(status, 200, "{path} {answer}");
    }
    assert!(callers.try_join_next().is_none(), "the check has not even begun");
    door.hold(Hold::Nowhere);
    let answers = callers.join_all().await;
    for (status, found) in &answers {
        assert_eq!((*status, text_at(found, "/reason").as_str()), (200, "ready"), "{found}");
    }
    let made = answers.iter().filter(|(_, found)| found["cached"] == json!(false)).count();
    assert_eq!((made, it.model.requests().len()), (1, 1));
}

#[tokio::test]
async fn what_stands_in_the_way_of_a_sandbox_is_told_by_the_server_and_one_check_serves_all() {
    let door = Door::before(&shared_host());
    let it = start(&door).await;
    it.system.wait_ready(200).await;
    one_check_for_all(&it, &door).await;

    let host = it.system.http.post("/system/self-test?environment=host", &json!({})).await;
    let (status, refused) = host.expect("it answers");
    assert_eq!(status, 400, "{refused}");
    assert!(refused.to_string().contains("the check of the login starts the same program"));
    let (status, tested) =
        it.system.http.post("/system/self-test", &json!({})).await.expect("it answers");
    assert_eq!((status, text_at(&tested, "/items/0/state").as_str()), (200, "passed"), "{tested}");
    assert_eq!(it.model.requests().len(), 1, "it asks no provider");
    let found = finds(&it, "ready").await;
    assert_eq!(
        (text_at(&found, "/checkedBy"), &found["available"]),
        ("prompt".into(), &json!(true))
    );
    let (code, told) = it.doctor(&["--self-test", "--json"]).await;
    let told: Value = serde_json::from_str(&told).expect("it is JSON");
    assert_eq!((code, &told["running"], &told["ready"]), (Some(0), &json!(true), &json!(true)));
    let live_restore = ("docker_live_restore".to_owned(), "warn".to_owned());
    assert_eq!(bad_ones(&told), [live_restore]);
    assert!(told.to_string().contains("did a scripted task in"), "{told}");

    it.set(&[("SANDBOX_DOCKER_IMAGE", json!("opentiger-none:1"))]).await;
    let found = finds(&it, "image_missing").await;
    assert!(text_at(&found, "/detail").contains("opentiger-none:1"), "{found}");
    let (code, told) = it.doctor(&[]).await;
    let line = |name: &str| told.lines().find(|line| line.contains(name)).unwrap_or_default();
    assert_eq!(code, Some(1), "{told}");
    assert!(line("sandbox_image").starts_with("FAIL"), "{told}");
    assert!(line("claude_auth").contains("`opentiger-none:1`"), "{told}");
    for line in
        told.lines().filter(|line| ["FAIL", "?", "warn"].iter().any(|sign| line.starts_with(sign)))
    {
        assert!(line.contains("  fix: "), "{line}");
    }
    it.set(&[
        ("SANDBOX_DOCKER_IMAGE", json!(worker_image())),
        ("SANDBOX_DOCKER_NETWORK", json!("opentiger-no-such-network")),
    ])
    .await;
    let found = finds(&it, "network_missing").await;
    assert!(text_at(&found, "/detail").contains("opentiger-no-such-network"), "{found}");
    // Its socket is gone.
    drop(door);
    finds(&it, "docker_unavailable").await;
    let (status, found) = it.system.http.get("/system/readiness").await.expect("it answers");
    assert_eq!(status, 200, "{found}");
    let bad = bad_ones(&found);
    let state = |name: &str| bad.iter().find(|check| check.0 == name).map(|check| &*check.1);
    assert_eq!((&found["ready"], state("docker_engine")), (&json!(false), Some("fail")));
    assert_eq!(state("sandbox_image"), Some("unknown"), "what cannot be seen is not known");
    assert_eq!(it.network.containers(), [""; 0]);
}

#[tokio::test]
async fn a_check_whose_server_was_killed_ends_and_its_container_goes_with_the_next_server() {
    let door = Door::before(&shared_host());
    let mut it = start(&door).await;
    let scripts = Scripts::builtin().with("demo", Script::of([Turn::Hang]));
    let silent = ModelStub::start(scripts).await.expect("the stub can listen on loopback");
    it.system.set_variable("ANTHROPIC_BASE_URL", silent.base_url());
    it.system.kill(Part::ApiServer);
    it.system.spawn(Part::ApiServer);
    it.system.wait_ready(200).await;
    let http = it.system.http.clone();
    let mut asking = JoinSet::new();
    asking.spawn(async move { http.get(REFRESHED).await });
    wait_for("the model to be asked", DEADLINE, async || {
        if silent.requests().is_empty() { Err(it.system.logs()) } else { Ok(()) }
    })
    .await;
    let containers = it.network.containers();
    assert_eq!(containers.len(), 1, "{}", it.system.logs());
    it.system.kill(Part::ApiServer);
    assert!(asking.join_next().await.expect("it was asked").expect("no panic").is_err());
    assert_eq!(it.network.containers(), containers, "it outlives its server");
    it.system.spawn(Part::ApiServer);
    wait_for("the container to be removed", DEADLINE, async || {
        let left = it.network.containers();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}\n{}", it.system.logs())) }
    })
    .await;
    it.wait_clean().await;
}
