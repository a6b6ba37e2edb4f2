//! What `ops/compose.yaml` promises. Only tests: nothing of ours starts it.

use serde_json::Value;

use crate::{commands::Tool, workspace};

/// Read by the parser that the API's fuzzer brings.
fn services() -> Value {
    let packages = std::env::var_os("OPENTIGER_TEST_SCHEMATHESIS");
    let packages =
        packages.expect("OPENTIGER_TEST_SCHEMATHESIS is set; `cargo xtask test` does it");
    let script = "import json, sys, yaml; print(json.dumps(yaml.safe_load(open(sys.argv[1]))))";
    let text = Tool::new("python3")
        .env("PYTHONPATH", packages)
        .args(["-c", script])
        .args([workspace::root().join("ops/compose.yaml")])
        .output()
        .unwrap();
    let file: Value = serde_json::from_str(&text).unwrap();
    file.get("services").unwrap().clone()
}

#[test]
fn the_servers_of_the_compose_file_listen_on_loopback_and_ask_for_a_password() {
    let services = services();
    for (service, port) in [("postgres", "5432"), ("redis", "6379")] {
        let service = services.get(service).unwrap();
        let ports = service.get("ports").and_then(Value::as_array).unwrap();
        assert_eq!(ports, &[Value::from(format!("127.0.0.1:{port}:{port}"))]);
        assert!(service.to_string().contains("${OPENTIGER_PASSWORD:?"), "{service}");
        assert!(service.get("healthcheck").is_some(), "`--wait` has nothing to wait for");
    }
    assert_eq!(services.as_object().unwrap().len(), 2);
}
