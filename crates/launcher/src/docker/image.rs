//! Having the image: what the policy allows, one pull at a time, and why one failed.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::{Duration, Instant},
};

use bollard::query_parameters::CreateImageOptions;
use futures_util::StreamExt as _;

use super::client::Client;
use crate::{
    container::{ContainerSpec, ImagePolicy},
    error::{EngineError, LaunchError, PullFailure},
};

/// A pull without any news for that long has failed. Registries are slow, and unpacking a large
/// layer says nothing for minutes on a slow disk.
const SILENCE: Duration = Duration::from_secs(300);
/// Between two lines about a pull in the log.
const NEWS: Duration = Duration::from_secs(5);

/// When an image was pulled last, held by whoever pulls it.
type Turn = Arc<tokio::sync::Mutex<Option<Instant>>>;

/// The pulls of one launcher.
#[derive(Debug, Default)]
pub(crate) struct Pulls(Mutex<BTreeMap<String, Weak<tokio::sync::Mutex<Option<Instant>>>>>);

impl Pulls {
    /// Makes an image be there, or says why it is not.
    pub(crate) async fn ensure(
        &self,
        client: &Client,
        container: &ContainerSpec,
    ) -> Result<(), LaunchError> {
        let image = &container.image;
        let is_there = has(client, image).await?;
        let missing = || LaunchError::ImageMissing { image: image.clone() };
        match container.pull {
            ImagePolicy::Never | ImagePolicy::IfMissing if is_there => Ok(()),
            ImagePolicy::Never => Err(missing()),
            // An id is no name that a registry knows.
            ImagePolicy::IfMissing | ImagePolicy::Always if is_id(image) => {
                if is_there {
                    Ok(())
                } else {
                    Err(missing())
                }
            }
            ImagePolicy::IfMissing => self.pull_once(client, image, false).await,
            ImagePolicy::Always => match self.pull_once(client, image, true).await {
                Err(LaunchError::ImageRefused { reason, .. }) if is_there => {
                    let error = &reason as &(dyn std::error::Error + 'static);
                    tracing::warn!(
                        image.name = image,
                        error,
                        "image not renewed, the old one is used"
                    );
                    Ok(())
                }
                done => done,
            },
        }
    }

    /// Pulls unless somebody else just did.
    async fn pull_once(&self, client: &Client, image: &str, anew: bool) -> Result<(), LaunchError> {
        let asked = Instant::now();
        let turn = self.turn(image);
        let mut last = turn.lock().await;
        if last.is_some_and(|at| at >= asked) || (!anew && has(client, image).await?) {
            return Ok(());
        }
        pull(client, image).await?;
        *last = Some(Instant::now());
        Ok(())
    }

    fn turn(&self, image: &str) -> Turn {
        let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|_, turn| turn.strong_count() > 0);
        if let Some(turn) = turns.get(image).and_then(Weak::upgrade) {
            return turn;
        }
        let turn = Turn::default();
        turns.insert(image.to_owned(), Arc::downgrade(&turn));
        turn
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

async fn pull(client: &Client, image: &str) -> Result<(), LaunchError> {
    let refused = |reason| LaunchError::ImageRefused { image: image.to_owned(), reason };
    let (name, tag) = split(image);
    let options = CreateImageOptions {
        from_image: Some(name.to_owned()),
        tag: Some(tag.to_owned()),
        ..CreateImageOptions::default()
    };
    let docker = client.docker().await.map_err(|error| error.refusing("pull the image"))?;
    tracing::info!(image.name = image, "pulling image");
    let mut news = docker.create_image(Some(options), None, None);
    let mut told = Instant::now();
    loop {
        match tokio::time::timeout(SILENCE, news.next()).await {
            Err(_elapsed) => {
                return Err(refused(PullFailure::Stalled { seconds: SILENCE.as_secs() }));
            }
            Ok(None) => break,
            Ok(Some(Ok(item))) if told.elapsed() >= NEWS => {
                told = Instant::now();
                let progress = item.progress_detail.unwrap_or_default();
                tracing::info!(
                    image.name = image,
                    layer.id = item.id,
                    pull.status = item.status,
                    layer.done_bytes = progress.current,
                    layer.total_bytes = progress.total,
                    "pulling image"
                );
            }
            Ok(Some(Ok(_))) => {}
            Ok(Some(Err(error))) => {
                return Err(match client.error(error) {
                    EngineError::Refused { status: 400, message } => {
                        LaunchError::InvalidSpec { field: "container.image", why: message }
                    }
                    EngineError::Refused { status, message } => refused(reason(status, message)),
                    other => other.refusing("pull the image"),
                });
            }
        }
    }
    tracing::info!(image.name = image, "image pulled");
    // An engine that died in the middle ends the stream without an error.
    if has(client, image).await? { Ok(()) } else { Err(refused(PullFailure::NotFound)) }
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
