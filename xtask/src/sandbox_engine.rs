//! The engine on which a demo or a measurement runs agents in containers: the user's own, or one that is started for it.

use std::{path::PathBuf, time::Instant};

use anyhow::{Context as _, Result};

use crate::{
    console::{Steps, line},
    engine::Engine,
    image::{self, Wanted},
    services::Environment,
    test_engine::TestEngine,
};

/// Where an engine answers that nobody named.
const USUAL: &str = "unix:///var/run/docker.sock";

/// An engine with the image of agents in it.
#[derive(Debug)]
pub(crate) enum SandboxEngine {
    /// The user's; its address where the user named one.
    Users(Option<String>),
    /// One of our own, which ends with this value.
    Own(Box<TestEngine>),
}

impl SandboxEngine {
    /// Finds the user's engine, or starts one, and builds the image where it is missing.
    pub(crate) async fn ready(steps: &mut Steps) -> Result<Self> {
        let begun = Instant::now();
        let engine = match Engine::of_user() {
            Ok(engine) => {
                line("the agent runs in a container of your Docker engine");
                tokio::task::block_in_place(|| image::ensure(&engine, &Wanted::default()))?;
                Self::Users(named_by_user())
            }
            // Whoever names an engine means that one.
            Err(error) if named_by_user().is_some() => return Err(error),
            Err(error) => {
                TestEngine::is_possible().map_err(|_| error)?;
                line("no Docker engine runs here; starting one for this demo alone");
                Self::Own(Box::new(TestEngine::start().await?))
            }
        };
        steps.add("engine and image", begun.elapsed());
        Ok(engine)
    }

    /// Tells the programs where it is.
    pub(crate) fn name_to(&self, environment: &mut Environment) {
        match self {
            Self::Users(None) => {}
            Self::Users(Some(host)) => environment.set("DOCKER_HOST", host),
            Self::Own(engine) => environment.set("DOCKER_HOST", engine.host()),
        }
    }

    /// The engine for the build's own errands.
    pub(crate) fn docker(&self) -> Result<Engine> {
        match self {
            Self::Users(_) => Engine::of_user(),
            Self::Own(engine) => Engine::at(&engine.host()),
        }
    }

    /// Its socket on this machine.
    pub(crate) fn socket(&self) -> Result<PathBuf> {
        let host = match self {
            Self::Users(host) => host.clone().unwrap_or_else(|| USUAL.to_owned()),
            Self::Own(engine) => engine.host(),
        };
        let path = host.strip_prefix("unix://");
        let path = path.with_context(|| format!("find a socket of this machine in `{host}`"))?;
        Ok(PathBuf::from(path))
    }

    /// Ends it where it is our own; nothing may be left in it.
    pub(crate) async fn end(self) -> Result<()> {
        match self {
            Self::Users(_) => Ok(()),
            Self::Own(engine) => engine.end().await.context("end the Docker engine"),
        }
    }
}

fn named_by_user() -> Option<String> {
    std::env::var_os("DOCKER_HOST")?.into_string().ok().filter(|host| !host.is_empty())
}
