//! A whole openTiger on this machine: its programs in the order in which they need each other, until all are ready.

use std::{
    fs::File,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use client::{address::BaseUrl, client::Client, credentials::Credentials};
use embedded::{
    options::{Durability, EmbeddedOptions},
    postgres::{EmbeddedPostgres, ensure_postgres},
};

use crate::{
    binaries::Binaries,
    console::Steps,
    services::{Environment, Service},
    stack::Stack,
};

/// The packages whose programs make up a system.
pub(crate) const PROGRAMS: &[&str] = &["api-server", "dispatcher", "worker"];
/// The resident agent's name.
pub(crate) const AGENT: &str = "worker-1";
/// How long everything may take to be ready; making the private Postgres for the first time is part of it.
const READY_LIMIT: Duration = Duration::from_secs(90);
const POLL: Duration = Duration::from_millis(25);

/// What a system is started from.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// Where the programs are.
    pub binaries: Binaries,
    /// The variables of each program.
    pub environment: Environment,
    /// Where the system keeps its data.
    pub state_dir: PathBuf,
}

impl Plan {
    /// A plan with a listen address that is free; one that the user chose is kept, and must be free.
    pub(crate) fn new(binaries: Binaries, mut environment: Environment) -> Result<Self> {
        let settings = environment.settings()?;
        let listen = settings.api_listen;
        if environment.has("OPENTIGER_API_LISTEN") {
            TcpListener::bind(listen)
                .with_context(|| format!("listen on {listen}, as OPENTIGER_API_LISTEN says"))?;
        } else {
            environment.set("OPENTIGER_API_LISTEN", free_address(listen)?.to_string());
        }
        Ok(Self { binaries, environment, state_dir: settings.state_dir.clone() })
    }

    /// A client of the system's API.
    pub(crate) fn client(&self) -> Result<Client> {
        let base = BaseUrl::of_listener(self.environment.settings()?.api_listen);
        Ok(Client::new(base, Credentials::None))
    }

    /// Takes the state directory for this command alone, until the file is dropped.
    pub(crate) fn lock(&self) -> Result<File> {
        let path = self.state_dir.join("up.lock");
        let file = File::create(&path).with_context(|| format!("open `{}`", path.display()))?;
        if file.try_lock().is_err() {
            bail!("another `cargo xtask` runs a system in `{}`", self.state_dir.display());
        }
        Ok(file)
    }

    fn service(&self, program: &str) -> Result<Service> {
        Ok(Service::new(program, self.binaries.program(program)?, &self.environment))
    }
}

/// The wanted address where it is free, else any free port.
fn free_address(wanted: SocketAddr) -> Result<SocketAddr> {
    let listener =
        TcpListener::bind(wanted).or_else(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
    Ok(listener.context("find a free port")?.local_addr()?)
}

/// Starts everything and waits until it is ready.
pub(crate) async fn start(stack: &mut Stack, plan: &Plan, steps: &mut Steps) -> Result<Client> {
    if !plan.environment.has("DATABASE_URL") {
        let started = Instant::now();
        let postgres = private_postgres(stack, &plan.environment, Durability::Full).await?;
        stack.keep_alive(&postgres);
        steps.add("postgres", started.elapsed());
    }
    let started = Instant::now();
    // This command starts the programs itself, and ends them with it.
    let mut server = plan.service("api-server")?;
    server.environment.set("OPENTIGER_PROCESS_MANAGER", "off");
    stack.start(&server).await?;
    stack.start(&plan.service("dispatcher")?).await?;
    let worker = Service { name: AGENT.to_owned(), ..plan.service("worker")? };
    stack.start(&worker.args(&["resident", "--name", AGENT, "--role", "worker"])).await?;
    let client = plan.client()?;
    wait_until_ready(stack, &client).await?;
    steps.add("services ready", started.elapsed());
    Ok(client)
}

/// The private Postgres of a state directory, started where it does not run.
pub(crate) async fn private_postgres(
    stack: &Stack,
    environment: &Environment,
    durability: Durability,
) -> Result<EmbeddedPostgres> {
    let settings = environment.settings()?;
    let path = environment.plain.get("PATH").cloned().unwrap_or_default();
    let launcher = stack.launcher().clone();
    let mut options = EmbeddedOptions::new(settings.state_dir.clone(), path, launcher);
    options.bin_dir.clone_from(&settings.postgres_bin_dir);
    options.durability = durability;
    ensure_postgres(options).await.context("start the private Postgres")
}

async fn wait_until_ready(stack: &Stack, client: &Client) -> Result<()> {
    let deadline = Instant::now() + READY_LIMIT;
    loop {
        let Some(lacking) = stack.guard(lacking(client)).await? else {
            return Ok(());
        };
        if Instant::now() > deadline {
            let Lacking { what, program } = lacking;
            let tail = stack.tail_text(program).await;
            bail!(
                "not ready after {} s: {what}; last lines of `{program}`:\n{tail}",
                READY_LIMIT.as_secs()
            );
        }
        tokio::time::sleep(POLL).await;
    }
}

/// What a system still lacks, and which program is to blame.
#[derive(Debug)]
struct Lacking {
    what: String,
    program: &'static str,
}

async fn lacking(client: &Client) -> Result<Option<Lacking>> {
    let readiness = match client.readiness().await {
        Ok(readiness) => readiness,
        Err(error) => {
            let what = format!("the API does not answer ({:#})", anyhow::Error::from(error));
            return Ok(Some(Lacking { what, program: "api-server" }));
        }
    };
    if readiness.ready {
        return Ok(None);
    }
    let program = readiness.missing().next().map_or("api-server", |check| responsible(&check.name));
    let messages: Vec<&str> = readiness.missing().map(|check| check.message.as_str()).collect();
    let what = match messages.is_empty() {
        true => readiness.answer.to_string(),
        false => messages.join("; "),
    };
    Ok(Some(Lacking { what, program }))
}

/// The program that has to repair a check of the API's readiness.
fn responsible(check: &str) -> &'static str {
    match check {
        "dispatcher" => "dispatcher",
        "agent" => AGENT,
        _ => "api-server",
    }
}

/// The folder of one purpose within the user's state directory, such as `demo`.
pub(crate) fn purpose_directory(purpose: &str) -> Result<PathBuf> {
    let base: &Path = &Environment::of_machine().settings()?.state_dir.clone();
    Ok(base.join(purpose))
}
