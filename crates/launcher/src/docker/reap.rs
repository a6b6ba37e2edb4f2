//! Containers of this store whose launch directory is gone, and what trials of the engine left.

use std::{collections::HashMap, time::Duration};

use bollard::query_parameters::{ListContainersOptions, ListImagesOptions, RemoveImageOptions};
use jiff::Timestamp;

use super::{
    DockerLauncher,
    container::{INSTANCE_LABEL, LAUNCH_LABEL},
    probe, start,
};
use crate::{
    error::EngineError,
    id::LaunchId,
    launcher::{ReapPolicy, ReapReport},
};

/// No trial of an engine lasts so long.
const TRIAL: Duration = Duration::from_secs(300);

impl DockerLauncher {
    /// Removes containers that no launch directory belongs to: nobody could find them any more. The
    /// directory is made before the container and removed after it, so such a one is no launch in
    /// the making. Only containers with this store's label are looked at.
    pub(super) async fn reap_homeless(&self, policy: &ReapPolicy, report: &mut ReapReport) {
        let trials = policy.keep_unassigned.min(TRIAL);
        let homeless = match self.homeless(trials).await {
            Ok(homeless) => homeless,
            Err(error) => {
                let error = &error as &(dyn std::error::Error + 'static);
                tracing::warn!(error, "engine cannot be asked for containers without a launch");
                return;
            }
        };
        for (name, id) in homeless {
            if policy.dry_run || start::remove(&self.site.client, &name).await.is_ok() {
                report.removed.push(id);
            } else {
                report.failed.push(id);
            }
        }
        if !policy.dry_run
            && let Err(error) = self.remove_trial_images(trials).await
        {
            let error = &error as &(dyn std::error::Error + 'static);
            tracing::warn!(error, "images of trials not removed");
        }
    }

    /// The empty images that trials were made with.
    async fn remove_trial_images(&self, trials: Duration) -> Result<(), EngineError> {
        let client = &self.site.client;
        let docker = client.docker().await?;
        let options = ListImagesOptions {
            filters: Some(self.labelled(probe::TRIAL_LABEL)),
            ..ListImagesOptions::default()
        };
        let found = docker.list_images(Some(options)).await;
        for image in found.map_err(|error| client.error(error))? {
            if is_older(Some(image.created), trials) {
                let options = RemoveImageOptions { force: true, ..RemoveImageOptions::default() };
                let removed = docker.remove_image(&image.id, Some(options), None).await;
                removed.map_err(|error| client.error(error))?;
            }
        }
        Ok(())
    }

    fn labelled(&self, label: &str) -> HashMap<String, Vec<String>> {
        HashMap::from([("label".to_owned(), vec![format!("{label}={}", self.store_id())])])
    }

    async fn homeless(&self, trials: Duration) -> Result<Vec<(String, LaunchId)>, EngineError> {
        let client = &self.site.client;
        let docker = client.docker().await?;
        let options = ListContainersOptions {
            all: true,
            filters: Some(self.labelled(INSTANCE_LABEL)),
            ..ListContainersOptions::default()
        };
        let found = docker.list_containers(Some(options)).await;
        let found = found.map_err(|error| client.error(error))?;
        let ours = found.into_iter().filter_map(|container| {
            let id = container.labels?.get(LAUNCH_LABEL)?.parse::<LaunchId>().ok()?;
            // A trial has no launch directory while it lasts, either.
            let is_over = !probe::is_trial(&id) || is_older(container.created, trials);
            Some((container.id?, id)).filter(|_| is_over)
        });
        Ok(ours.filter(|(_, id)| !self.launch_dir(id).is_dir()).collect())
    }
}

/// Whether something that the engine says was made then, in seconds, is older than that.
fn is_older(created: Option<i64>, age: Duration) -> bool {
    let created = created.and_then(|seconds| Timestamp::from_second(seconds).ok());
    let passed = created.map(|created| Timestamp::now().duration_since(created));
    passed.and_then(|passed| Duration::try_from(passed).ok()).is_some_and(|passed| passed >= age)
}
