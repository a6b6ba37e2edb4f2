//! Containers of this store whose launch directory is gone.

use std::collections::HashMap;

use bollard::query_parameters::ListContainersOptions;

use super::{
    DockerLauncher,
    container::{INSTANCE_LABEL, LAUNCH_LABEL},
    start,
};
use crate::{
    error::EngineError,
    id::LaunchId,
    launcher::{ReapPolicy, ReapReport},
};

impl DockerLauncher {
    /// Removes containers that no launch directory belongs to: nobody could find them any more. The
    /// directory is made before the container and removed after it, so such a one is no launch in
    /// the making. Only containers with this store's label are looked at.
    pub(super) async fn reap_homeless(&self, policy: &ReapPolicy, report: &mut ReapReport) {
        let homeless = match self.homeless().await {
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
    }

    async fn homeless(&self) -> Result<Vec<(String, LaunchId)>, EngineError> {
        let client = &self.site.client;
        let docker = client.docker().await?;
        let label = format!("{INSTANCE_LABEL}={}", self.store_id());
        let options = ListContainersOptions {
            all: true,
            filters: Some(HashMap::from([("label".to_owned(), vec![label])])),
            ..ListContainersOptions::default()
        };
        let found = docker.list_containers(Some(options)).await;
        let found = found.map_err(|error| client.error(error))?;
        let ours = found.into_iter().filter_map(|container| {
            let id = container.labels?.get(LAUNCH_LABEL)?.parse::<LaunchId>().ok()?;
            Some((container.id?, id))
        });
        Ok(ours.filter(|(_, id)| !self.launch_dir(id).is_dir()).collect())
    }
}
