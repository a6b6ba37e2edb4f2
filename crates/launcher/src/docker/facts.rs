//! What the engine knows of itself, of images, networks and containers.

use std::{collections::BTreeMap, net::IpAddr};

use bollard::{
    models::{ContainerStateStatusEnum, NetworkInspect, SystemInfo, SystemInfoCgroupVersionEnum},
    query_parameters::{InspectContainerOptions, InspectNetworkOptions},
};

use super::{DockerLauncher, client::Client, container};
use crate::{error::EngineError, id::LaunchId};

/// An engine as it describes itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineInfo {
    /// The engine's own id, which stays over restarts.
    pub id: String,
    /// Its version, such as `20.10.24`.
    pub version: String,
    /// The release of the kernel that it runs on, as `uname -r` says it.
    pub kernel: String,
    /// Whether containers go on while it is restarted.
    pub live_restore: bool,
    /// Whether it runs without root.
    pub rootless: bool,
    /// The version of the kernel's cgroup interface that it uses: 1 or 2.
    pub cgroup_version: u8,
    /// Where it keeps images and containers.
    pub root_dir: String,
    /// Whether it honours limits of memory.
    pub limit_memory: bool,
    /// Whether it honours limits of processor time.
    pub limit_cpu: bool,
    /// Whether it honours limits of processes.
    pub limit_processes: bool,
}

/// An image that the engine has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageInfo {
    /// The id of its configuration, `sha256:…`.
    pub id: String,
    /// The digest under which a registry has it, `sha256:…`; `None` for one that was built here.
    pub digest: Option<String>,
    /// Bytes on the engine's disk.
    pub size_bytes: u64,
    /// Such as `amd64`.
    pub architecture: String,
    /// Such as `linux`.
    pub os: String,
    /// The variables that it sets for whatever runs in it. A launch gets none of them by itself.
    pub env: BTreeMap<String, String>,
}

/// A network of the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkInfo {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Such as `bridge`.
    pub driver: String,
    /// The engine's own addresses in it.
    pub gateways: Vec<IpAddr>,
    /// The addresses that containers get, as `address/prefix`.
    pub subnets: Vec<String>,
    /// Whether it leads nowhere else.
    pub internal: bool,
}

/// A container as far as a launch is concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Container {
    pub(crate) life: Life,
    /// Whether it was paused.
    pub(crate) is_paused: bool,
    /// Its addresses on each network, if it runs.
    pub(crate) networks: BTreeMap<String, Vec<IpAddr>>,
}

/// Where in its life a container is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    /// There is none.
    Absent,
    /// It was never started.
    Created,
    /// It runs, or is paused.
    Running,
    /// It has ended.
    Ended { code: i64, out_of_memory: bool },
}

impl Client {
    /// An image by name, digest or id; `None` if the engine does not have it.
    pub(crate) async fn image(&self, reference: &str) -> Result<Option<ImageInfo>, EngineError> {
        let found = self.docker().await?.inspect_image(reference).await;
        let Some(image) = if_there(found.map_err(|error| self.error(error)))? else {
            return Ok(None);
        };
        let digests = image.repo_digests.unwrap_or_default();
        let env = image.config.and_then(|config| config.env).unwrap_or_default();
        let own = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        let digest = digests.first().and_then(|digest| digest.split_once('@'));
        Ok(Some(ImageInfo {
            id: image.id.unwrap_or_default(),
            digest: digest.map(|(_, digest)| digest.to_owned()),
            size_bytes: image.size.and_then(|size| u64::try_from(size).ok()).unwrap_or(0),
            architecture: image.architecture.unwrap_or_default(),
            os: image.os.unwrap_or_default(),
            env: env.iter().filter_map(|one| one.split_once('=')).map(own).collect(),
        }))
    }

    /// A network by name; `None` if the engine does not have it.
    pub(crate) async fn network(&self, name: &str) -> Result<Option<NetworkInfo>, EngineError> {
        let docker = self.docker().await?;
        let found = docker.inspect_network(name, None::<InspectNetworkOptions>).await;
        let found = if_there(found.map_err(|error| self.error(error)))?;
        // The engine also finds a network by the beginning of its id.
        Ok(found.map(NetworkInfo::from).filter(|network| network.name == name))
    }

    /// A container by name; `None` if the engine does not have it.
    pub(crate) async fn container(&self, name: &str) -> Result<Option<Container>, EngineError> {
        let docker = self.docker().await?;
        let found = docker.inspect_container(name, None::<InspectContainerOptions>).await;
        let Some(found) = if_there(found.map_err(|error| self.error(error)))? else {
            return Ok(None);
        };
        let state = found.state.unwrap_or_default();
        use ContainerStateStatusEnum as Status;
        let life = match state.status.unwrap_or(Status::EMPTY) {
            Status::CREATED => Life::Created,
            Status::RUNNING | Status::PAUSED | Status::RESTARTING | Status::STOPPING => {
                Life::Running
            }
            // One that is being removed may be running still.
            Status::REMOVING | Status::EMPTY if state.running == Some(true) => Life::Running,
            Status::EXITED | Status::DEAD | Status::REMOVING | Status::EMPTY => Life::Ended {
                code: state.exit_code.unwrap_or(UNKNOWN_CODE),
                out_of_memory: state.oom_killed == Some(true),
            },
        };
        let networks = found.network_settings.and_then(|settings| settings.networks);
        let networks = networks.unwrap_or_default().into_iter().map(|(name, endpoint)| {
            let addresses = [endpoint.ip_address, endpoint.global_ipv6_address];
            let known = addresses.into_iter().flatten().filter_map(|text| text.parse().ok());
            (name, known.collect())
        });
        Ok(Some(Container {
            life,
            is_paused: state.paused == Some(true),
            networks: networks.collect(),
        }))
    }
}

impl DockerLauncher {
    /// The addresses of a launch's container: known from `create` on, none once it has ended.
    ///
    /// # Errors
    /// When the engine gives no usable answer.
    pub async fn addresses(&self, id: &LaunchId) -> Result<Vec<IpAddr>, EngineError> {
        Ok(self.networks_of(id).await?.into_values().flatten().collect())
    }

    /// The same by the names of its networks.
    ///
    /// # Errors
    /// When the engine gives no usable answer.
    pub async fn networks_of(
        &self,
        id: &LaunchId,
    ) -> Result<BTreeMap<String, Vec<IpAddr>>, EngineError> {
        let found = self.site.client.container(&container::name(&self.site.store, id)).await?;
        Ok(found.map(|found| found.networks).unwrap_or_default())
    }
}

/// What the engine writes where it does not know a code, after a crash of its own.
pub(crate) const UNKNOWN_CODE: i64 = 255;

fn if_there<T>(found: Result<T, EngineError>) -> Result<Option<T>, EngineError> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

impl From<SystemInfo> for EngineInfo {
    fn from(info: SystemInfo) -> Self {
        let security = info.security_options.unwrap_or_default();
        let is_v2 = info.cgroup_version == Some(SystemInfoCgroupVersionEnum::_2);
        Self {
            id: info.id.unwrap_or_default(),
            version: info.server_version.unwrap_or_default(),
            kernel: info.kernel_version.unwrap_or_default(),
            live_restore: info.live_restore_enabled == Some(true),
            rootless: security.iter().any(|option| option.contains("name=rootless")),
            cgroup_version: if is_v2 { 2 } else { 1 },
            root_dir: info.docker_root_dir.unwrap_or_default(),
            limit_memory: info.memory_limit == Some(true),
            limit_cpu: info.cpu_cfs_quota == Some(true),
            limit_processes: info.pids_limit == Some(true),
        }
    }
}

impl From<NetworkInspect> for NetworkInfo {
    fn from(network: NetworkInspect) -> Self {
        let ranges = network.ipam.and_then(|ipam| ipam.config).unwrap_or_default();
        let gateways = ranges.iter().filter_map(|range| range.gateway.as_ref());
        // Written with a prefix for some drivers.
        let address = |text: &String| text.split('/').next().and_then(|text| text.parse().ok());
        Self {
            id: network.id.unwrap_or_default(),
            name: network.name.unwrap_or_default(),
            driver: network.driver.unwrap_or_default(),
            gateways: gateways.filter_map(address).collect(),
            subnets: ranges.iter().filter_map(|range| range.subnet.clone()).collect(),
            internal: network.internal == Some(true),
        }
    }
}
