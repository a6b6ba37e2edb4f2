//! What stands in the way of a container, as a reason.

use core_types::auth::{AuthReason, CheckedBy};
use launcher::error::{EngineError, LaunchError};
use sandbox::{
    image::resolved,
    premises::{Obstacle, Surroundings},
    relay::RelayError,
    sandbox::SandboxError,
};
use telemetry::chain::error_chain;

use crate::finding::Finding;

pub(crate) fn reason(obstacle: &Obstacle) -> AuthReason {
    match obstacle {
        Obstacle::Engine(EngineError::Permission { .. }) => AuthReason::DockerPermissionDenied,
        Obstacle::Engine(
            EngineError::Unreachable { .. }
            | EngineError::HostUnsupported { .. }
            | EngineError::Refused { .. }
            | EngineError::Unexpected(_),
        ) => AuthReason::DockerUnavailable,
        Obstacle::NetworkMissing { .. } | Obstacle::Sandbox(SandboxError::NetworkCutOff { .. }) => {
            AuthReason::NetworkMissing
        }
        Obstacle::Image(error) => of_launch(error).unwrap_or(AuthReason::ImageInvalid),
        Obstacle::Fetching { .. } => AuthReason::ImageMissing,
        Obstacle::ImageForeign { .. } => AuthReason::ImageInvalid,
        Obstacle::Address(_) | Obstacle::Relay(_) => AuthReason::ServiceUnreachable,
        Obstacle::Open(_) => AuthReason::ServiceOpenToLoopback,
        Obstacle::Sandbox(SandboxError::WorkerMissing { .. }) | Obstacle::View(_) => {
            AuthReason::Unknown
        }
    }
}

/// What an engine that refuses a launch means; none where the launch itself is at fault.
pub(crate) fn of_launch(error: &LaunchError) -> Option<AuthReason> {
    Some(match error {
        LaunchError::EngineUnreachable { .. } => AuthReason::DockerUnavailable,
        LaunchError::EnginePermission { .. } => AuthReason::DockerPermissionDenied,
        LaunchError::ImageMissing { .. } | LaunchError::ImageRefused { .. } => {
            AuthReason::ImageMissing
        }
        LaunchError::InvalidSpec { field: "container.image", .. } => AuthReason::ImageInvalid,
        LaunchError::NetworkMissing { .. }
        | LaunchError::InvalidSpec { field: "container.network", .. } => AuthReason::NetworkMissing,
        LaunchError::MountDenied { .. } | LaunchError::DirectoryNotShared { .. } => {
            AuthReason::MountDenied
        }
        _ => return None,
    })
}

pub(crate) fn in_the_way(obstacle: &Obstacle) -> Finding {
    Finding::new(reason(obstacle), CheckedBy::Credentials).with_detail(text(obstacle))
}

/// Cause and remedy in one line.
pub(crate) fn text(obstacle: &Obstacle) -> String {
    format!("{}; {}", error_chain(obstacle), obstacle.hint())
}

/// The image has to be there, and made for this machine.
pub(crate) fn check_image(around: &Surroundings) -> Result<(), Obstacle> {
    if around.image.is_none() {
        let image = resolved(&around.settings.sandbox_docker_image).to_owned();
        return Err(LaunchError::ImageMissing { image }.into());
    }
    around.check_image()
}

pub(crate) fn relays_silent(around: &Surroundings) -> Obstacle {
    let address = around.relays.first().map(|relay| relay.listen);
    let address = address.unwrap_or_else(|| ([0, 0, 0, 0], 0).into());
    RelayError::Silent { address }.into()
}
