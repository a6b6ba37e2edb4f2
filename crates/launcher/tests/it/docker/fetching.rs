//! Images that come slowly, from a registry of our own.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use launcher::{
    container::ContainerSpec,
    docker::{DockerLauncher, ImageFetch},
    error::{LaunchError, PullFailure},
};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep},
};

use super::support::Boxes;

/// Engines and registries of a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
const LAYER_BYTES: usize = 4 << 20;

/// A registry with one image of one layer, of which it gives the first half until it is told to go on.
struct SlowRegistry {
    image: String,
    gate: watch::Sender<bool>,
    content: Arc<Content>,
    _serving: JoinSet<()>,
}

struct Content {
    manifest: Vec<u8>,
    config: Vec<u8>,
    layer: Vec<u8>,
    layers_asked_for: AtomicUsize,
}

impl SlowRegistry {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let content = Arc::new(Content::new(port));
        let gate = watch::Sender::new(false);
        let mut serving = JoinSet::new();
        let (served, told) = (Arc::clone(&content), gate.clone());
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(answer(stream, Arc::clone(&served), told.subscribe()));
            }
        });
        let image = format!("127.0.0.1:{port}/opentiger-test/slow:1");
        Self { image, gate, content, _serving: serving }
    }
}

impl Content {
    fn new(port: u16) -> Self {
        let layer = tar(&port.to_string().into_bytes().repeat(LAYER_BYTES / 5));
        let config = json!({
            "architecture": "amd64", "os": "linux", "config": {},
            "rootfs": { "type": "layers", "diff_ids": [digest(&layer)] },
        });
        let config = config.to_string().into_bytes();
        let part = |kind: &str, bytes: &[u8]| json!({ "mediaType": kind, "size": bytes.len(), "digest": digest(bytes) });
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": part("application/vnd.docker.container.image.v1+json", &config),
            "layers": [part("application/vnd.docker.image.rootfs.diff.tar", &layer)],
        });
        let manifest = manifest.to_string().into_bytes();
        Self { manifest, config, layer, layers_asked_for: AtomicUsize::new(0) }
    }
}

const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// An archive with one file.
fn tar(data: &[u8]) -> Vec<u8> {
    let mut header = vec![0_u8; 512];
    let mut put = |at: usize, text: &str| {
        header[at..at + text.len()].copy_from_slice(text.as_bytes());
    };
    put(0, "data");
    put(100, "0000644\0");
    put(108, "0000000\0");
    put(116, "0000000\0");
    put(124, &format!("{:011o}\0", data.len()));
    put(136, "00000000000\0");
    put(148, "        ");
    put(156, "0");
    put(257, "ustar\u{0}00");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut archive = [&header, data].concat();
    archive.resize(archive.len().next_multiple_of(512) + 1024, 0);
    archive
}

async fn answer(mut stream: TcpStream, content: Arc<Content>, mut gate: watch::Receiver<bool>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else { return };
        head.push(byte);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let mut words = head.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let is_layer = path.ends_with(&digest(&content.layer));
    let (kind, body): (&str, &[u8]) = if path.contains("/manifests/") {
        (MANIFEST, &content.manifest)
    } else if is_layer {
        ("application/octet-stream", &content.layer)
    } else if path.contains("/blobs/") {
        ("application/octet-stream", &content.config)
    } else {
        ("application/json", b"{}")
    };
    let start = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nDocker-Content-Digest: {}\r\n\
         Docker-Distribution-Api-Version: registry/2.0\r\nConnection: close\r\n\r\n",
        body.len(),
        digest(body)
    );
    stream.write_all(start.as_bytes()).await.ok();
    if method == "HEAD" {
        return;
    }
    let (first, rest) = body.split_at(if is_layer { body.len() / 2 } else { 0 });
    stream.write_all(first).await.ok();
    if is_layer {
        content.layers_asked_for.fetch_add(1, Ordering::Relaxed);
        gate.wait_for(|open| *open).await.ok();
    }
    stream.write_all(rest).await.ok();
    stream.shutdown().await.ok();
}

/// Looks until what is seen is `wanted`.
async fn look_until(
    launcher: &DockerLauncher,
    container: &ContainerSpec,
    wanted: impl Fn(&Result<ImageFetch, LaunchError>) -> bool,
) {
    let until = Instant::now() + PATIENCE;
    loop {
        let seen = launcher.fetch_image(container).await;
        if wanted(&seen) {
            return;
        }
        assert!(Instant::now() < until, "{seen:?}");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn an_image_arrives_however_often_and_shortly_it_is_looked_at() {
    let boxes = Boxes::new();
    let launcher = boxes.launcher();
    let registry = SlowRegistry::start().await;
    let container = ContainerSpec::new(&registry.image, "none");
    let begun = ImageFetch::UnderWay { done_bytes: 0, total_bytes: 0 };
    assert_eq!(launcher.fetch_image(&container).await.unwrap(), begun);
    let all = u64::try_from(registry.content.layer.len()).unwrap();
    look_until(&launcher, &container, |seen| {
        matches!(seen, Ok(ImageFetch::UnderWay { done_bytes, total_bytes })
            if *done_bytes > 0 && done_bytes < total_bytes && *total_bytes == all)
    })
    .await;
    registry.gate.send_replace(true);
    look_until(&launcher, &container, |seen| matches!(seen, Ok(ImageFetch::There))).await;
    assert_eq!(registry.content.layers_asked_for.load(Ordering::Relaxed), 1);
    boxes.docker(&["image", "rm", &registry.image]);
    assert_eq!(launcher.image(&registry.image).await.unwrap(), None);
}

#[tokio::test]
async fn a_fetch_that_failed_is_told_to_each_look() {
    let boxes = Boxes::new();
    let launcher = boxes.launcher();
    // Nobody listens there: ports below 1024 are given to nobody by chance.
    let container = ContainerSpec::new("127.0.0.1:1/opentiger-test/none:1", "none");
    let is_told = |seen: &Result<ImageFetch, LaunchError>| {
        let reason = PullFailure::Network { message: String::new() };
        matches!(seen, Err(LaunchError::ImageRefused { reason: told, .. })
            if std::mem::discriminant(told) == std::mem::discriminant(&reason))
    };
    look_until(&launcher, &container, is_told).await;
    let again = launcher.fetch_image(&container).await;
    assert!(is_told(&again), "{again:?}");
}
