use launcher::{
    docker::{INSTANCE_LABEL, LAUNCH_LABEL, SPEC_LABEL},
    handle::StopRequest,
    launcher::{CgroupSupport, Launcher as _, ReapPolicy},
    spec::{Input, SecretValue},
};

use super::{
    recovery::ALL,
    support::{Boxes, image, shell},
};
use crate::support::{read_all, wait_for};

#[tokio::test]
async fn engine_images_and_networks_are_described() {
    let boxes = Boxes::new();
    let launcher = boxes.launcher();
    let engine = launcher.engine().await.unwrap();
    assert!(!engine.id.is_empty() && !engine.version.is_empty() && !engine.root_dir.is_empty());
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    assert_eq!(engine.kernel, kernel.trim(), "the engine of these tests is here");
    let image = launcher.image(&image()).await.unwrap().unwrap();
    assert!(image.id.starts_with("sha256:") && image.size_bytes > 0, "{image:?}");
    assert_eq!(launcher.image("opentiger-none:1").await.unwrap(), None);
    let name = boxes.network();
    let network = launcher.network(&name).await.unwrap().unwrap();
    assert_eq!((network.driver.as_str(), network.internal), ("bridge", false));
    assert_eq!((network.gateways.len(), network.subnets.len()), (1, 1), "{network:?}");
    // The beginning of an id is no name.
    assert_eq!(launcher.network(network.id.get(..12).unwrap()).await.unwrap(), None);
    assert_eq!(launcher.network("opentiger-none").await.unwrap(), None);
}

#[tokio::test]
async fn sharing_with_the_engine_is_tried() {
    let boxes = Boxes::new();
    let launcher = boxes.launcher();
    let capabilities = launcher.probe().await.unwrap();
    assert!(capabilities.shared_directory && capabilities.other_users, "{capabilities:?}");
    assert_ne!(capabilities.cgroup, CgroupSupport::None);
    assert_eq!(launcher.probe().await.unwrap(), capabilities);
    // Nothing of the trial is left.
    let label = format!("label={INSTANCE_LABEL}={}", launcher.store_id());
    assert_eq!(boxes.docker(&["ps", "-aq", "--filter", &label]), "");
    let launches = boxes.path().join("state/containers");
    let trials = format!("label=opentiger.trial={}", launcher.store_id());
    assert_eq!(boxes.docker(&["images", "-aq", "--filter", &trials]), "");
    let left: Vec<_> = std::fs::read_dir(launches).unwrap().flatten().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[tokio::test]
async fn what_a_cut_off_trial_left_is_reaped() {
    let boxes = Boxes::new();
    let launcher = boxes.launcher();
    let instance = format!("{INSTANCE_LABEL}={}", launcher.store_id());
    let (filter, trial) = (format!("label={instance}"), "opentiger.launch=probe-0011");
    // As they are between the steps of a trial.
    let of_image = format!("opentiger.trial={}", launcher.store_id());
    let label = format!("LABEL {of_image}");
    let archive = boxes.path().join("empty.tar");
    std::fs::write(&archive, [0; 1024]).unwrap();
    let image = boxes.docker(&["import", "--change", &label, archive.to_str().unwrap()]);
    boxes.docker(&["create", "--label", &instance, "--label", trial, image.trim(), "/no"]);
    let young = ReapPolicy { keep_unassigned: std::time::Duration::from_secs(60), ..ALL };
    launcher.reap(&young).await.unwrap();
    assert_ne!(boxes.docker(&["ps", "-aq", "--filter", &filter]), "", "it may be under way");
    launcher.reap(&ALL).await.unwrap();
    assert_eq!(boxes.docker(&["ps", "-aq", "--filter", &filter]), "");
    let filter = format!("label={of_image}");
    assert_eq!(boxes.docker(&["images", "-aq", "--filter", &filter]), "");
}

#[tokio::test]
async fn addresses_are_known_before_the_assignment() {
    let boxes = Boxes::new();
    let launcher = boxes.launcher();
    let mut spec = shell("cat /etc/hosts; exec sleep 600");
    let container = spec.container.as_mut().unwrap();
    container.network = boxes.network();
    container.hosts.insert("host.docker.internal".to_owned(), "192.0.2.7".parse().unwrap());
    let id = "addressed".parse().unwrap();
    let created = launcher.create(&id, &spec).await.unwrap();
    let addresses = launcher.addresses(&id).await.unwrap();
    assert_eq!(addresses.len(), 1, "{addresses:?}");
    let handle = launcher.assign(created, Input::default()).await.unwrap().into_handle();
    assert_eq!(launcher.addresses(&id).await.unwrap(), addresses);
    let log = boxes.launch_dir("addressed").join("out.log");
    wait_for("the output", || {
        String::from_utf8_lossy(&std::fs::read(&log).ok()?)
            .contains("docker.internal")
            .then_some(())
    })
    .await;
    handle.stop(StopRequest::new("enough", std::time::Duration::ZERO)).await;
    let ended = launcher.addresses(&id).await.unwrap();
    assert!(ended.is_empty(), "{ended:?}");
    let hosts = String::from_utf8(read_all(&handle).await.0).unwrap();
    assert!(hosts.contains("192.0.2.7\thost.docker.internal"), "{hosts}");
    boxes.clear().await;
}

#[tokio::test]
async fn secrets_are_nowhere_but_in_the_command() {
    let boxes = Boxes::new();
    let launcher = boxes.launcher();
    let spec = shell("read line; echo ${#line} ${#KEY}; exec sleep 600");
    let secret_env = [("KEY".to_owned(), SecretValue::new("tiger-env"))].into();
    let assignment = Some(serde_json::json!({ "run": "r-1" }));
    let input = Input { stdin: b"tiger-stdin\n".to_vec(), secret_env, assignment };
    let launched = launcher.launch(&"secret".parse().unwrap(), &spec, input).await.unwrap();
    let handle = launched.into_handle();
    let name = boxes.container("secret");
    let inspected = boxes.docker(&["inspect", &name]);
    assert!(inspected.contains(launcher.store_id()) && inspected.contains(&spec.hash()));
    assert!(inspected.contains(LAUNCH_LABEL) && inspected.contains(SPEC_LABEL));
    let first = ["exec", "-u", "0", &name, "sh", "-c"];
    let seen = boxes.docker(&[&first[..], &["tr '\\0' ' ' < /proc/1/cmdline"]].concat());
    assert!(seen.contains("/run/opentiger/launch"), "{seen}");
    let environ = boxes.docker(&[&first[..], &["cat /proc/1/environ"]].concat());
    let mut files = String::new();
    for entry in std::fs::read_dir(boxes.launch_dir("secret")).unwrap().flatten() {
        if entry.file_type().unwrap().is_file() {
            files.push_str(&String::from_utf8_lossy(&std::fs::read(entry.path()).unwrap()));
        }
    }
    assert!(files.contains("r-1"));
    for text in [inspected, seen, environ, files] {
        assert!(!text.contains("tiger-env") && !text.contains("tiger-stdin"), "{text}");
    }
    handle.stop(StopRequest::new("enough", std::time::Duration::ZERO)).await;
    assert_eq!(read_all(&handle).await.0, b"11 9\n");
    boxes.clear().await;
}
