//! Starting a container with a shim that waits, and talking to it through the engine.

use std::{io, path::Path, pin::Pin, time::Duration};

use bollard::{
    container::{AttachContainerResults, LogOutput},
    errors::Error,
    models::ContainerCreateBody,
    query_parameters::{
        AttachContainerOptions, CreateContainerOptions, RemoveContainerOptions,
        StartContainerOptions,
    },
};
use futures_util::{Stream, StreamExt as _};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};

use super::client::{Client, within};
use crate::{
    container::ContainerSpec,
    error::{EngineError, LaunchError},
    launch::answers::{First, Second},
};

/// How long a shim may take for an answer. One that takes longer stands still or waits for a disk
/// that does not answer; then the caller is told instead of held up.
const PATIENCE: Duration = Duration::from_secs(60);
/// The longest line that a shim says.
const MAX_LINE: usize = 16 << 10;

/// A shim that waits for its input. Dropping it is the end of the input: nothing is started.
pub(crate) struct WaitingShim {
    input: Pin<Box<dyn AsyncWrite + Send>>,
    output: Pin<Box<dyn Stream<Item = Result<LogOutput, Error>> + Send>>,
    /// Read and not a whole line yet.
    rest: Vec<u8>,
}

/// Makes a container and starts it with its shim waiting. `None`: another shim has the launch.
pub(crate) async fn start(
    client: &Client,
    name: &str,
    request: ContainerCreateBody,
    container: &ContainerSpec,
    shim: &Path,
) -> Result<Option<WaitingShim>, LaunchError> {
    let explain = |error| explain(client.error(error), container, shim);
    let docker = client.docker().await.map_err(|error| error.refusing("start the container"))?;
    let options =
        CreateContainerOptions { name: Some(name.to_owned()), ..CreateContainerOptions::default() };
    docker.create_container(Some(options), request).await.map_err(explain)?;
    let options = AttachContainerOptions {
        stream: true,
        stdin: true,
        stdout: true,
        ..AttachContainerOptions::default()
    };
    // Before the start, so that no answer is missed.
    let AttachContainerResults { output, input } =
        docker.attach_container(name, Some(options)).await.map_err(explain)?;
    docker.start_container(name, None::<StartContainerOptions>).await.map_err(explain)?;
    let mut waiting = WaitingShim { input, output, rest: Vec::new() };
    let unusable = |source| LaunchError::ShimUnusable { path: shim.to_owned(), source };
    let Ok(line) = tokio::time::timeout(PATIENCE, waiting.line()).await else {
        let what = format!("start the shim: no answer for {} s", PATIENCE.as_secs());
        return Err(LaunchError::ResourceExhausted { what });
    };
    match First::parse(&line) {
        First::Ready => Ok(Some(waiting)),
        First::Taken => Ok(None),
        First::Unable(error) if error.kind() == io::ErrorKind::StorageFull => {
            Err(LaunchError::ResourceExhausted { what: error.to_string() })
        }
        First::Unable(error) => Err(unusable(error)),
        First::Nonsense => Err(unusable(io::Error::other("the shim ended without an answer"))),
    }
}

/// Removes a container with whatever runs in it. Idempotent.
pub(crate) async fn remove(client: &Client, name: &str) -> Result<(), EngineError> {
    let options = RemoveContainerOptions { force: true, v: true, link: false };
    let docker = client.docker().await?;
    let removed = within(PATIENCE, client.host(), docker.remove_container(name, Some(options)));
    match removed.await?.map_err(|error| client.error(error)) {
        Err(error) if error.is_not_found() => Ok(()),
        // Somebody else is removing it. What counts is that it is gone.
        Err(EngineError::Refused { status: 409, message }) => {
            wait_until_gone(client, name, message).await
        }
        done => done,
    }
}

async fn wait_until_gone(client: &Client, name: &str, message: String) -> Result<(), EngineError> {
    for _ in 0..100 {
        if client.container(name).await?.is_none() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Err(EngineError::Refused { status: 409, message })
}

impl WaitingShim {
    /// Hands over the input and waits until the command runs or does not.
    ///
    /// # Cancel safety
    /// Dropping it before the whole frame is written starts nothing.
    pub(crate) async fn begin(mut self, frame: Vec<u8>) -> Second {
        let said = tokio::time::timeout(PATIENCE, async {
            // A shim that is gone reads nothing; then it says nothing either.
            let sent = self.input.write_all(&frame).await;
            if sent.is_ok() {
                self.input.flush().await.ok();
            }
            drop(frame);
            self.line().await
        });
        Second::parse(&said.await.unwrap_or_default())
    }

    /// The next line that it says; what there is of it where it ends or the engine goes away.
    async fn line(&mut self) -> String {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                return String::from_utf8_lossy(&line).trim().to_owned();
            }
            match self.output.next().await {
                Some(Ok(chunk)) if self.rest.len() < MAX_LINE => {
                    self.rest.extend_from_slice(&chunk.into_bytes());
                }
                Some(Ok(_) | Err(_)) | None => return String::new(),
            }
        }
    }
}

/// Why the engine made or started no container, by what the caller can do. The engine has words for
/// it and few codes; these are moby's and runc's.
fn explain(error: EngineError, container: &ContainerSpec, shim: &Path) -> LaunchError {
    let EngineError::Refused { status, message } = error else {
        return error.refusing("start the container");
    };
    let text = message.to_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if status == 404 && says(&["no such image"]) {
        return LaunchError::ImageMissing { image: container.image.clone() };
    }
    if says(&["network"]) && says(&["not found"]) {
        return LaunchError::NetworkMissing { network: container.network.clone() };
    }
    if says(&["invalid reference format"]) {
        return LaunchError::InvalidSpec { field: "container.image", why: message };
    }
    let exhausted = [
        "no space left",
        "cannot allocate memory",
        "out of memory",
        "resource temporarily unavailable",
        "too many open files",
        "no available ip",
        "could not find an available",
    ];
    if says(&exhausted) {
        return LaunchError::ResourceExhausted { what: format!("start the container: {message}") };
    }
    if says(&["minimum memory limit", "memory limit"]) {
        return LaunchError::LimitUnsupported { limit: "memory_bytes", why: message };
    }
    if says(&["mount", "not shared from the host"]) {
        let named = |path: &&crate::container::Mount| {
            text.contains(&path.source.to_string_lossy().to_lowercase())
                || text.contains(&path.target.to_string_lossy().to_lowercase())
        };
        let path = container.mounts.iter().find(named).map(|mount| mount.source.clone());
        let path = path.unwrap_or_else(|| shim.parent().unwrap_or(shim).to_owned());
        return LaunchError::MountDenied { path, why: message };
    }
    if says(&["exec format error", "shim-"]) {
        let source = io::Error::other(message);
        return LaunchError::ShimUnusable { path: shim.to_owned(), source };
    }
    EngineError::Refused { status, message }.refusing("start the container")
}
