//! Having the image: what the policy allows, one pull at a time, and why one failed.
//!
//! A pull belongs to the launcher and not to who asked: it goes on when they stop waiting, and whoever asks next joins it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use bollard::{models::CreateImageInfo, query_parameters::CreateImageOptions};
use futures_util::StreamExt as _;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use super::{DockerLauncher, client::Client};
use crate::{
    container::{ContainerSpec, ImagePolicy},
    error::{EngineError, LaunchError, PullFailure},
};

/// A pull without any news for that long has failed. Registries are slow, and unpacking a large
/// layer says nothing for minutes on a slow disk.
const SILENCE: Duration = Duration::from_secs(300);
/// Between two lines about a pull in the log.
const NEWS: Duration = Duration::from_secs(5);
/// How long a pull that failed is told to who only looks, before a look begins another one.
const AGAIN: Duration = Duration::from_secs(60);

/// Whether an image is there, for who does not wait for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageFetch {
    /// It is there.
    There,
    /// It is being fetched.
    UnderWay {
        /// Bytes that have arrived.
        done_bytes: u64,
        /// Bytes of all layers whose size is known so far; 0 before the first.
        total_bytes: u64,
    },
}

/// The pulls of one launcher, by image.
#[derive(Debug, Default)]
pub(crate) struct Pulls(Mutex<BTreeMap<String, watch::Receiver<Pull>>>);

/// How a pull stands.
#[derive(Debug, Clone)]
enum Pull {
    UnderWay(Layers),
    Over { at: Instant, result: Result<(), NotPulled> },
}

/// Why a pull failed, for everybody who waits for it.
#[derive(Debug, Clone)]
enum NotPulled {
    Refused(PullFailure),
    BadName(String),
    Engine(Arc<EngineError>),
}

/// The layers that are fetched: bytes that arrived and bytes in all.
#[derive(Debug, Clone, Default)]
struct Layers(BTreeMap<String, (u64, u64)>);

impl DockerLauncher {
    /// Makes the image of a container be there, as its policy wants it: fetched, or fetched anew.
    ///
    /// # Errors
    /// See [`LaunchError`].
    pub async fn ensure_image(&self, container: &ContainerSpec) -> Result<(), LaunchError> {
        self.pulls.ensure(&self.site.client, &self.tasks, container).await
    }
}

impl Pulls {
    /// Makes an image be there, or says why it is not.
    pub(crate) async fn ensure(
        &self,
        client: &Arc<Client>,
        tasks: &TaskTracker,
        container: &ContainerSpec,
    ) -> Result<(), LaunchError> {
        let image = &container.image;
        let is_there = has(client, image).await?;
        if !may_pull(container, is_there)? {
            return Ok(());
        }
        let mut pull = self.join(client, tasks, image);
        let result = match pull.wait_for(|pull| matches!(pull, Pull::Over { .. })).await.as_deref()
        {
            Ok(Pull::Over { result, .. }) => result.clone(),
            Ok(Pull::UnderWay(_)) | Err(_) => Err(NotPulled::broken_off()),
        };
        match result.map_err(|failed| failed.of(image)) {
            Err(LaunchError::ImageRefused { reason, .. }) if is_there => {
                let error = &reason as &(dyn std::error::Error + 'static);
                tracing::warn!(image.name = image, error, "image not renewed, the old one is used");
                Ok(())
            }
            done => done,
        }
    }

    /// Begins to fetch an image that is not there, unless somebody does, and does not wait for it.
    pub(crate) async fn look(
        &self,
        client: &Arc<Client>,
        tasks: &TaskTracker,
        container: &ContainerSpec,
    ) -> Result<ImageFetch, LaunchError> {
        let image = &container.image;
        if has(client, image).await? {
            return Ok(ImageFetch::There);
        }
        may_pull(container, false)?;
        if let Some(Pull::Over { at, result: Err(failed) }) = self.last(image)
            && at.elapsed() < AGAIN
        {
            return Err(failed.of(image));
        }
        let pull = self.join(client, tasks, image);
        let layers = match &*pull.borrow() {
            Pull::UnderWay(layers) => layers.clone(),
            Pull::Over { .. } => Layers::default(),
        };
        let (done_bytes, total_bytes) = layers.sum();
        Ok(ImageFetch::UnderWay { done_bytes, total_bytes })
    }

    /// The pull that is under way, or a new one.
    fn join(
        &self,
        client: &Arc<Client>,
        tasks: &TaskTracker,
        image: &str,
    ) -> watch::Receiver<Pull> {
        let mut pulls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // The sender of one that broke off is gone.
        let is_alive = |pull: &watch::Receiver<Pull>| {
            matches!(*pull.borrow(), Pull::UnderWay(_)) && pull.has_changed().is_ok()
        };
        if let Some(pull) = pulls.get(image).filter(|pull| is_alive(pull)) {
            return pull.clone();
        }
        pulls.retain(|_, pull| is_alive(pull));
        let (tell, told) = watch::channel(Pull::UnderWay(Layers::default()));
        pulls.insert(image.to_owned(), told.clone());
        drop(pulls);
        let (client, image) = (Arc::clone(client), image.to_owned());
        tasks.spawn(async move {
            let result = pull(&client, &image, &tell).await;
            tell.send_replace(Pull::Over { at: Instant::now(), result });
        });
        told
    }

    fn last(&self, image: &str) -> Option<Pull> {
        let pulls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pulls.get(image).map(|pull| pull.borrow().clone())
    }
}

impl Layers {
    /// What the engine tells of a layer: how much of it has come, then how much is unpacked.
    fn note(&mut self, news: &CreateImageInfo) {
        let Some(layer) = &news.id else { return };
        let bytes = |count: Option<i64>| count.and_then(|count| u64::try_from(count).ok());
        let detail = news.progress_detail.as_ref();
        let (current, total) =
            (detail.and_then(|it| bytes(it.current)), detail.and_then(|it| bytes(it.total)));
        match (news.status.as_deref(), current, total) {
            (Some("Downloading"), Some(current), Some(total)) => {
                self.0.insert(layer.clone(), (current.min(total), total));
            }
            (Some("Download complete" | "Extracting" | "Pull complete"), ..) => {
                if let Some((current, total)) = self.0.get_mut(layer) {
                    *current = *total;
                }
            }
            _ => {}
        }
    }

    fn sum(&self) -> (u64, u64) {
        let add = |(done, all): (u64, u64), (current, total): &(u64, u64)| {
            (done.saturating_add(*current), all.saturating_add(*total))
        };
        self.0.values().fold((0, 0), add)
    }
}

impl NotPulled {
    fn broken_off() -> Self {
        Self::Refused(PullFailure::Refused { message: "the pull broke off".to_owned() })
    }

    fn of(self, image: &str) -> LaunchError {
        match self {
            Self::Refused(reason) => LaunchError::ImageRefused { image: image.to_owned(), reason },
            Self::BadName(why) => LaunchError::InvalidSpec { field: "container.image", why },
            Self::Engine(error) => error.again().refusing("pull the image"),
        }
    }
}

/// Whether an image is to be pulled.
fn may_pull(container: &ContainerSpec, is_there: bool) -> Result<bool, LaunchError> {
    // An id is no name that a registry knows.
    let pullable = container.pull != ImagePolicy::Never && !is_id(&container.image);
    match (is_there, pullable) {
        (false, false) => Err(LaunchError::ImageMissing { image: container.image.clone() }),
        (false, true) => Ok(true),
        (true, pullable) => Ok(pullable && container.pull == ImagePolicy::Always),
    }
}

async fn has(client: &Client, image: &str) -> Result<bool, LaunchError> {
    match client.image(image).await {
        Ok(found) => Ok(found.is_some()),
        Err(EngineError::Refused { status: 400, message }) => {
            Err(LaunchError::InvalidSpec { field: "container.image", why: message })
        }
        Err(error) => Err(error.refusing("look for the image")),
    }
}

async fn pull(client: &Client, image: &str, tell: &watch::Sender<Pull>) -> Result<(), NotPulled> {
    let (name, tag) = split(image);
    let options = CreateImageOptions {
        from_image: Some(name.to_owned()),
        tag: Some(tag.to_owned()),
        ..CreateImageOptions::default()
    };
    let engine = |error| NotPulled::Engine(Arc::new(error));
    let docker = client.docker().await.map_err(engine)?;
    tracing::info!(image.name = image, "pulling image");
    let mut news = docker.create_image(Some(options), None, None);
    let mut told = Instant::now();
    let mut layers = Layers::default();
    loop {
        let item = match tokio::time::timeout(SILENCE, news.next()).await {
            Err(_elapsed) => {
                return Err(NotPulled::Refused(PullFailure::Stalled {
                    seconds: SILENCE.as_secs(),
                }));
            }
            Ok(None) => break,
            Ok(Some(Err(error))) => {
                return Err(match client.error(error) {
                    EngineError::Refused { status: 400, message } => NotPulled::BadName(message),
                    EngineError::Refused { status, message } => {
                        NotPulled::Refused(reason(status, message))
                    }
                    other => engine(other),
                });
            }
            Ok(Some(Ok(item))) => item,
        };
        layers.note(&item);
        tell.send_replace(Pull::UnderWay(layers.clone()));
        if told.elapsed() >= NEWS {
            told = Instant::now();
            let (done_bytes, total_bytes) = layers.sum();
            tracing::info!(
                image.name = image,
                image.done_bytes = done_bytes,
                image.total_bytes = total_bytes,
                "pulling image"
            );
        }
    }
    tracing::info!(image.name = image, "image pulled");
    // An engine that died in the middle ends the stream without an error.
    match client.image(image).await.map_err(engine)? {
        Some(_) => Ok(()),
        None => Err(NotPulled::Refused(PullFailure::NotFound)),
    }
}

/// Name and tag or digest, as the engine wants them apart.
fn split(image: &str) -> (&str, &str) {
    if let Some((name, digest)) = image.split_once('@') {
        return (name, digest);
    }
    match image.rsplit_once(':') {
        // Otherwise it is the port of a registry.
        Some((name, tag)) if !tag.contains('/') => (name, tag),
        Some(_) | None => (image, "latest"),
    }
}

fn is_id(image: &str) -> bool {
    image.starts_with("sha256:")
}

/// Why a pull failed. The engine has words for it and no code; these are the words of moby and
/// containerd for what registries answer.
fn reason(status: u16, message: String) -> PullFailure {
    let text = message.to_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if says(&["toomanyrequests", "too many requests", "rate limit"]) {
        PullFailure::RateLimited
    } else if says(&["unauthorized", "denied", "authentication required", "no basic auth"]) {
        PullFailure::Unauthorized
    } else if says(&["no space left"]) {
        PullFailure::DiskFull
    } else if says(&[
        "no such host",
        "connection refused",
        "timeout",
        "timed out",
        "dial tcp",
        "unreachable",
        "tls",
        "x509",
        "eof",
        "request canceled",
        "server gave http response",
        "temporary failure",
    ]) {
        PullFailure::Network { message }
    } else if status == 404 || says(&["not found", "manifest unknown", "name unknown"]) {
        PullFailure::NotFound
    } else {
        PullFailure::Refused { message }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_of_a_registry_is_no_tag() {
        assert_eq!(split("debian"), ("debian", "latest"));
        assert_eq!(split("debian:12"), ("debian", "12"));
        assert_eq!(split("localhost:5000/a/b"), ("localhost:5000/a/b", "latest"));
        assert_eq!(split("localhost:5000/a/b:1"), ("localhost:5000/a/b", "1"));
        assert_eq!(split("a/b@sha256:12"), ("a/b", "sha256:12"));
    }

    #[test]
    fn layers_add_up_to_what_has_come() {
        let news = |id: &str, status: &str, detail: Option<(i64, i64)>| CreateImageInfo {
            id: Some(id.to_owned()),
            status: Some(status.to_owned()),
            progress_detail: detail.map(|(current, total)| bollard::models::ProgressDetail {
                current: Some(current),
                total: Some(total),
            }),
            ..CreateImageInfo::default()
        };
        let mut layers = Layers::default();
        layers.note(&news("a", "Pulling fs layer", None));
        assert_eq!(layers.sum(), (0, 0));
        layers.note(&news("a", "Downloading", Some((3, 10))));
        layers.note(&news("b", "Downloading", Some((1, 5))));
        assert_eq!(layers.sum(), (4, 15));
        // What is unpacked has its own numbers.
        layers.note(&news("a", "Extracting", Some((2, 40))));
        assert_eq!(layers.sum(), (11, 15));
    }

    #[test]
    fn words_of_engines_have_a_meaning() {
        let said = |text: &str| reason(500, text.to_owned());
        let denied = "pull access denied for x, repository does not exist or may require 'docker \
                      login': denied: requested access to the resource is denied";
        assert_eq!(said(denied), PullFailure::Unauthorized);
        assert_eq!(
            said("manifest for debian:none not found: manifest unknown"),
            PullFailure::NotFound
        );
        let lookup = "Get \"https://registry-1.docker.io/v2/\": dial tcp: lookup registry-1.docker.io: no such host";
        assert!(matches!(said(lookup), PullFailure::Network { .. }));
        assert_eq!(
            said("toomanyrequests: You have reached your pull rate limit"),
            PullFailure::RateLimited
        );
        assert_eq!(said("write /x: no space left on device"), PullFailure::DiskFull);
        assert!(matches!(said("odd"), PullFailure::Refused { .. }));
    }
}
