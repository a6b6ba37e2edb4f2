//! Whether the engine shares directories and kernel with this machine: tried, not guessed.

use std::{io, path::Path, sync::Arc, time::Duration};

use bollard::{
    models::{ContainerCreateBody, HostConfig},
    query_parameters::{
        CreateContainerOptions, CreateImageOptions, InspectContainerOptions, RemoveImageOptions,
        StartContainerOptions,
    },
};
use futures_util::StreamExt as _;
use tokio::sync::OnceCell;

use super::{
    DockerLauncher,
    container::{self, LAUNCH_LABEL},
    start,
};
use crate::{
    error::{EngineError, ProbeError},
    id::LaunchId,
    launch::{
        aside,
        directory::{Directory, random_name},
        procfs,
        records::Identity,
    },
    launcher::{Capabilities, CgroupSupport},
};

/// How long the trial may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Two blocks of zeros: an archive with nothing in it, hence an image with nothing in it.
static EMPTY_ARCHIVE: &[u8] = &[0; 1024];

/// What the id begins with by which [`super::reap`] finds the container of a trial that a crash left.
const TRIAL: &str = "probe-";

/// The label of its image, with the id of the store. Not [`INSTANCE_LABEL`](container::INSTANCE_LABEL): whoever makes an
/// image of a container keeps that one in it.
pub(super) const TRIAL_LABEL: &str = "opentiger.trial";

/// Whether a container is that of a trial, and no launch's.
pub(super) fn is_trial(id: &LaunchId) -> bool {
    id.as_str().starts_with(TRIAL)
}

/// The answer, once it is yes: an engine does not move away.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shared(Arc<OnceCell<()>>);

impl DockerLauncher {
    pub(super) async fn look_at_engine(&self) -> Result<Capabilities, ProbeError> {
        let info = self.site.client.ask_info().await.map_err(ProbeError::Engine)?;
        let store = Arc::clone(&self.site.store);
        let unusable = |path, source| ProbeError::ShimUnusable { path, source };
        let shim = tokio::task::spawn_blocking(move || store.shim()).await;
        let shim = shim
            .map_err(|error| (self.state_dir().to_owned(), io::Error::other(error)))
            .flatten()
            .map_err(|(path, source)| unusable(path, source))?;
        let shared_directory = self.shared.0.initialized() || self.try_sharing(&shim).await?;
        if shared_directory {
            self.shared.0.set(()).ok();
        }
        Ok(Capabilities {
            cgroup: if info.cgroup_version == 2 { CgroupSupport::V2 } else { CgroupSupport::V1 },
            limit_memory: info.limit_memory,
            limit_cpu: info.limit_cpu,
            limit_processes: info.limit_processes,
            other_users: true,
            shared_directory,
        })
    }

    /// Lets a shim run in a container of nothing but itself, and looks at what it left here.
    async fn try_sharing(&self, shim: &Path) -> Result<bool, ProbeError> {
        let (client, launches) = (&self.site.client, self.site.store.launches());
        let trial = random_name().map(|random| format!(".new-probe-{random}"));
        let trial =
            trial.map_err(|error| ProbeError::Engine(EngineError::Unexpected(error.into())))?;
        let directory = launches.join(&trial);
        let unusable = |source| ProbeError::ShimUnusable { path: directory.clone(), source };
        let made = directory.clone();
        aside(move || {
            use std::os::unix::fs::PermissionsExt as _;
            std::fs::create_dir(&made)?;
            std::fs::set_permissions(&made, std::fs::Permissions::from_mode(0o777))
        })
        .await
        .map_err(unusable)?;
        let random = trial.trim_start_matches(".new-probe-");
        let name = format!("opentiger-{TRIAL}{random}");
        let tried =
            match tokio::time::timeout(PATIENCE, self.run_trial(&name, shim, &directory)).await {
                Ok(tried) => tried,
                Err(elapsed) => {
                    let host = client.host().to_owned();
                    Err(EngineError::Unreachable { host, source: Box::new(elapsed) })
                }
            };
        start::remove(client, &name).await.ok();
        let looked = directory.clone();
        let seen = aside(move || {
            let found = Directory::open(&looked)?.map(|found| {
                let shim: Option<Identity> = found.read_if_there("shim.json")?;
                Ok::<_, io::Error>(shim.is_some_and(|shim| shim.boot_id == procfs::boot_id()))
            });
            crate::removal::remove_tree(&looked)?;
            found.transpose()
        });
        let seen = seen.await.map_err(unusable)?.unwrap_or(false);
        match tried {
            Ok(()) => Ok(seen),
            // It does not mount what it does not see.
            Err(EngineError::Refused { message, .. }) if message.contains("mount") => {
                tracing::warn!(engine.answer = message, "engine does not mount launch directories");
                Ok(false)
            }
            Err(error) => Err(ProbeError::Engine(error)),
        }
    }

    async fn run_trial(
        &self,
        name: &str,
        shim: &Path,
        directory: &Path,
    ) -> Result<(), EngineError> {
        let client = &self.site.client;
        let docker = client.docker().await?;
        let instance = self.store_id();
        let options = CreateImageOptions {
            from_src: Some("-".to_owned()),
            changes: vec![format!("LABEL {TRIAL_LABEL}={instance}")],
            ..CreateImageOptions::default()
        };
        let archive = bollard::body_full(EMPTY_ARCHIVE.into());
        let mut news = docker.create_image(Some(options), Some(archive), None);
        let mut image = None;
        while let Some(item) = news.next().await {
            image = item.map_err(|error| client.error(error))?.status.or(image);
        }
        let nothing = || EngineError::Unexpected("the import of an image gave no id".into());
        let image = image.filter(|id| id.starts_with("sha256:")).ok_or_else(nothing)?;
        let mut labels = container::own_labels(&self.site.store);
        let id = name.trim_start_matches("opentiger-").to_owned();
        labels.insert(LAUNCH_LABEL.to_owned(), id);
        let request = ContainerCreateBody {
            image: Some(image.clone()),
            entrypoint: Some(container::entrypoint(shim)),
            user: Some("0:0".to_owned()),
            labels: Some(labels),
            host_config: Some(HostConfig {
                network_mode: Some("none".to_owned()),
                ..container::hardened(container::own_mounts(shim, directory))
            }),
            ..ContainerCreateBody::default()
        };
        let options = CreateContainerOptions {
            name: Some(name.to_owned()),
            ..CreateContainerOptions::default()
        };
        let ran = async {
            docker.create_container(Some(options), request).await?;
            docker.start_container(name, None::<StartContainerOptions>).await?;
            // Without input it ends at once.
            loop {
                let found = docker.inspect_container(name, None::<InspectContainerOptions>).await?;
                if found.state.is_some_and(|state| state.running == Some(false)) {
                    return Ok(());
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let ran = ran.await.map_err(|error| client.error(error));
        start::remove(client, name).await?;
        let options = RemoveImageOptions { force: true, ..RemoveImageOptions::default() };
        // Another probe may have imported the same nothing, which is the same image.
        docker.remove_image(&image, Some(options), None).await.ok();
        ran
    }
}
