//! What sandboxes need, part by part: from the engine to what a container sees, each with what was found and what to do.

use std::{sync::Arc, time::Duration};

use core_config::settings::Settings;
use core_types::{
    auth::{AuthReason, Language},
    readiness::CheckState,
    sandbox::look::{DatabaseLook, LookReport, ProgramFault},
    task::{ExecutionEnvironment, ExecutorKind},
};
use launcher::docker::{EngineInfo, ImageInfo, NetworkInfo};
use sandbox::{
    addresses::ProxyWithheld,
    disk,
    image::resolved,
    premises::{Obstacle, Surroundings, made_for_another},
    rewrite::Service,
};
use store::sandbox::login::SandboxLogin;
use telemetry::chain::error_chain;
use tokio::time::{Instant, timeout};

use super::{Sandboxed, Shared, looking, obstacles};
use crate::{finding::Finding, part::Part};

/// Longest inspection; it stays below what a request of the API may take.
const INSPECT_WITHIN: Duration = Duration::from_secs(25);
/// The parts that take a container, in the order in which they are told.
const INSIDE: [&str; 4] = ["sandbox_container", "sandbox_relay", CLAUDE_CLI, OPENCODE_CLI];
const CLAUDE_CLI: &str = "claude_cli";
const OPENCODE_CLI: &str = "opencode_cli";
/// What an engine that was restarted does to containers.
const LIVE_RESTORE_FIX: &str =
    "set `\"live-restore\": true` in /etc/docker/daemon.json, then `systemctl reload docker`";

/// The database's login for sandboxes, or cause and remedy; none without a database.
type Login = Option<Result<SandboxLogin, (String, String)>>;

impl Sandboxed {
    /// Looks at everything that a sandbox needs but logins, in less than half a minute.
    ///
    /// # Cancel safety
    /// Dropped, what it started ends by its limit of time.
    pub async fn inspect(&self) -> Vec<Part> {
        let inspected = timeout(INSPECT_WITHIN, self.shared.inspect());
        inspected.await.unwrap_or_else(|_| {
            let cause = format!("not found out within {} s", INSPECT_WITHIN.as_secs());
            let fix = "see to the machine's load and to the engine, then look again";
            vec![Part::bad("docker_engine", CheckState::Unknown, cause, fix)]
        })
    }
}

impl Shared {
    async fn inspect(self: &Arc<Self>) -> Vec<Part> {
        let (asked, loaded) = (Instant::now(), self.loaded());
        let settings = &loaded.settings;
        let (engine, login) = tokio::join!(self.engine(), self.login());
        let mut parts = vec![of_engine(&engine, self.premises.launcher.host())];
        parts.extend(engine.as_ref().ok().map(live_restore));
        parts.extend(self.disk(settings));
        if engine.is_err() {
            let blind = ["sandbox_image", "sandbox_network"].into_iter().chain(INSIDE);
            parts.extend(blind.map(|name| not_seen(name, "docker_engine")));
            parts.push(of_login(&login, None));
            return parts;
        }
        let (image, network) =
            tokio::join!(self.premises.image(settings), self.premises.network(settings));
        parts.push(of_image(&image, settings));
        parts.push(of_network(&network));
        let made = login.as_ref().and_then(|login| login.as_ref().ok());
        let around = match self.surveyed(settings, made).await {
            Ok(around) => around,
            Err(obstacle) => {
                let first = blamed(&obstacle);
                if first == "sandbox_relay" || first == "sandbox_worker" {
                    parts.push(failed(first, &obstacle));
                }
                let blind = INSIDE.into_iter().filter(|name| *name != first);
                parts.extend(blind.map(|name| not_seen(name, first)));
                parts.push(of_login(&login, None));
                return parts;
            }
        };
        parts.extend(around.addresses.withheld.iter().map(|proxy| {
            Part::bad("sandbox_proxy", CheckState::Warn, proxy.to_string(), ProxyWithheld::HINT)
        }));
        let (relays, claude, opencode) = tokio::join!(
            self.relays(&around),
            self.look(ExecutorKind::ClaudeCode, &around, asked),
            self.look(ExecutorKind::Opencode, &around, asked),
        );
        parts.push(of_containers([&claude, &opencode]));
        let database =
            [&claude, &opencode].into_iter().flatten().find_map(|look| look.database.as_ref());
        parts.push(of_relays(&relays, &around, database));
        parts.push(of_login(&login, database.and_then(|seen| seen.as_ref().ok())));
        for (executor, look) in
            [(ExecutorKind::ClaudeCode, claude), (ExecutorKind::Opencode, opencode)]
        {
            parts.push(of_cli(executor, look.as_ref().ok(), settings));
        }
        parts
    }

    async fn surveyed(
        &self,
        settings: &Arc<Settings>,
        login: Option<&SandboxLogin>,
    ) -> Result<Surroundings, Obstacle> {
        let around = self.premises.survey(settings, self.lent(login)).await?;
        obstacles::check_image(&around)?;
        self.premises.sandbox(&around).check()?;
        Ok(around)
    }

    /// Said where runs would be held back for want of space.
    fn disk(&self, settings: &Settings) -> Option<Part> {
        let error = disk::free(&self.premises.state_dir, settings.sandbox_disk_reserve).err()?;
        let (cause, fix) = (error_chain(&error).to_string(), error.hint());
        Some(Part::bad("sandbox_disk", CheckState::Fail, cause, fix))
    }
}

fn failed(name: &'static str, obstacle: &Obstacle) -> Part {
    Part::bad(name, CheckState::Fail, error_chain(obstacle).to_string(), obstacle.hint())
}

/// The part that an obstacle is about.
const fn blamed(obstacle: &Obstacle) -> &'static str {
    match obstacle {
        Obstacle::Engine(_) => "docker_engine",
        Obstacle::NetworkMissing { .. }
        | Obstacle::Sandbox(sandbox::sandbox::SandboxError::NetworkCutOff { .. }) => {
            "sandbox_network"
        }
        Obstacle::Sandbox(sandbox::sandbox::SandboxError::WorkerMissing { .. }) => "sandbox_worker",
        Obstacle::Image(_) | Obstacle::Fetching { .. } | Obstacle::ImageForeign { .. } => {
            "sandbox_image"
        }
        Obstacle::Address(_) | Obstacle::Relay(_) | Obstacle::Open(_) | Obstacle::View(_) => {
            "sandbox_relay"
        }
    }
}

fn not_seen(name: &'static str, first: &str) -> Part {
    let cause = format!("not looked at, because `{first}` fails");
    Part::bad(name, CheckState::Unknown, cause, format!("see to `{first}` first"))
}

fn of_engine(engine: &Result<EngineInfo, Obstacle>, host: &str) -> Part {
    match engine {
        Ok(engine) => {
            let rootless = if engine.rootless { ", rootless" } else { "" };
            Part::ok("docker_engine", format!("Docker {} at `{host}`{rootless}", engine.version))
        }
        Err(obstacle) => failed("docker_engine", obstacle),
    }
}

fn live_restore(engine: &EngineInfo) -> Part {
    if engine.live_restore {
        return Part::ok("docker_live_restore", "sandboxes go on while the engine is restarted");
    }
    let cause = "a restart of the engine ends every sandbox that runs";
    Part::bad("docker_live_restore", CheckState::Warn, cause, LIVE_RESTORE_FIX)
}

fn of_image(image: &Result<Option<ImageInfo>, Obstacle>, settings: &Settings) -> Part {
    let name = resolved(&settings.sandbox_docker_image);
    match image {
        Ok(Some(image)) => {
            let of = |why| {
                Part::bad("sandbox_image", CheckState::Fail, why, hint(AuthReason::ImageInvalid))
            };
            match made_for_another(image) {
                Some(why) => of(format!("`{name}` is {why}")),
                None => Part::ok("sandbox_image", shown(name, image)),
            }
        }
        Ok(None) => Part::bad(
            "sandbox_image",
            CheckState::Fail,
            format!("image `{name}` not found"),
            hint(AuthReason::ImageMissing),
        ),
        Err(obstacle) => failed("sandbox_image", obstacle),
    }
}

/// By digest where a registry has it, by id where it was built here.
fn shown(name: &str, image: &ImageInfo) -> String {
    let (kind, digest) = match &image.digest {
        Some(digest) => ("digest", digest),
        None => ("id", &image.id),
    };
    let megabytes = image.size_bytes / 1_000_000;
    format!("`{name}`, {kind} {digest}, {}/{}, {megabytes} MB", image.os, image.architecture)
}

fn of_network(network: &Result<NetworkInfo, Obstacle>) -> Part {
    let network = match network {
        Ok(network) => network,
        Err(obstacle) => return failed("sandbox_network", obstacle),
    };
    let gateway = network.gateways.first().map(|gateway| format!(", gateway {gateway}"));
    let found = format!("`{}`, {}{}", network.name, network.driver, gateway.unwrap_or_default());
    if network.name == "none" || network.driver == "null" {
        let fix = "set SANDBOX_DOCKER_NETWORK to a network with a way out, such as `bridge`";
        return Part::bad(
            "sandbox_network",
            CheckState::Fail,
            format!("{found}: it leads nowhere"),
            fix,
        );
    }
    if network.internal {
        let fix = "make a network without `--internal`, unless the provider is on this machine";
        let cause =
            format!("{found}: it is internal, so that only this machine is reached from it");
        return Part::bad("sandbox_network", CheckState::Warn, cause, fix);
    }
    Part::ok("sandbox_network", found)
}

/// Whether containers start and see what they need.
fn of_containers(looks: [&Result<LookReport, Finding>; 2]) -> Part {
    let name = "sandbox_container";
    for look in looks {
        match look {
            Ok(look) => {
                if let Err(finding) = looking::judge_image(look) {
                    return of_finding(name, &finding);
                }
            }
            Err(finding) => return of_finding(name, finding),
        }
    }
    Part::ok(name, "a container starts, sees its mounts and writes where it must")
}

fn of_finding(name: &'static str, finding: &Finding) -> Part {
    let state = match finding.reason {
        AuthReason::Unknown | AuthReason::Timeout => CheckState::Unknown,
        _ => CheckState::Fail,
    };
    let message = finding.reason.message(ExecutorKind::ClaudeCode, Language::English);
    let detail = finding.detail.as_ref().map(|detail| format!(" ({detail})")).unwrap_or_default();
    Part::bad(name, state, format!("{message}{detail}"), hint(finding.reason))
}

fn hint(reason: AuthReason) -> &'static str {
    let sandbox = ExecutionEnvironment::Sandbox;
    reason.hint(ExecutorKind::ClaudeCode, sandbox, Language::English).unwrap_or_default()
}

/// Whether a container connects to the database, through a relay or by itself.
fn of_relays(
    relays: &Result<(), Obstacle>,
    around: &Surroundings,
    database: Option<&Result<DatabaseLook, String>>,
) -> Part {
    let name = "sandbox_relay";
    if let Err(obstacle) = relays {
        return failed(name, obstacle);
    }
    let relay = around.relays.iter().find(|relay| relay.service == Service::Postgres);
    let way = relay
        .map_or("by itself".to_owned(), |relay| format!("through the relay on {}", relay.listen));
    match database {
        Some(Ok(look)) => {
            Part::ok(name, format!("a container reached the database {way} in {} ms", look.took_ms))
        }
        Some(Err(why)) => Part::bad(
            name,
            CheckState::Fail,
            format!("a container did not reach the database {way}: {why}"),
            "see whether a firewall stands between the network and its gateway, and whether the database takes the login",
        ),
        None => Part::bad(
            name,
            CheckState::Unknown,
            "no container tried to reach the database",
            "see to `sandbox_container` and `sandbox_database` first",
        ),
    }
}

/// Whether the limited login is there, may do what it must, and nothing else.
fn of_login(login: &Login, seen: Option<&DatabaseLook>) -> Part {
    let name = "sandbox_database";
    let others = match login {
        None => {
            let fix = "`opentiger up`, then look again";
            return Part::bad(name, CheckState::Unknown, "the database was not looked at", fix);
        }
        Some(Err((cause, fix))) => return Part::bad(name, CheckState::Fail, cause, fix),
        Some(Ok(login)) => &login.other_databases,
    };
    let told = match seen {
        Some(DatabaseLook { answers: true, closed: true, .. }) => {
            "calls its functions from a container and is refused the tables"
        }
        Some(DatabaseLook { answers, .. }) => {
            let what = if *answers { "can read the tables" } else { "cannot call its functions" };
            let cause = format!("the login for sandboxes {what}");
            let fix =
                "make DATABASE_URL's user the owner of database and schema, then restart openTiger";
            return Part::bad(name, CheckState::Fail, cause, fix);
        }
        None => {
            let cause = "the login for sandboxes is there, and no container tried it";
            return Part::bad(name, CheckState::Unknown, cause, "see to `sandbox_relay` first");
        }
    };
    let others = match others.as_slice() {
        [] => String::new(),
        others => {
            format!("; other databases of the server let in everybody: {}", others.join(", "))
        }
    };
    Part::ok(name, format!("the login for sandboxes {told}{others}"))
}

/// A program that no task asks for may be missing; which one tasks ask for is a setting, and a task's own choice.
fn of_cli(executor: ExecutorKind, look: Option<&LookReport>, settings: &Settings) -> Part {
    let inside = super::inside(&settings.into());
    let (name, command) = match executor {
        ExecutorKind::ClaudeCode => (CLAUDE_CLI, inside.claude_code.command),
        ExecutorKind::Opencode => (OPENCODE_CLI, inside.opencode.command),
    };
    let weight =
        if executor == settings.llm_executor { CheckState::Fail } else { CheckState::Warn };
    let fix = |reason: AuthReason| {
        let hint = reason.hint(executor, ExecutionEnvironment::Sandbox, Language::English);
        hint.unwrap_or_default()
    };
    match look.and_then(|look| look.programs.get(&command)) {
        Some(Ok(version)) => Part::ok(name, format!("{version}, in the image")),
        Some(Err(ProgramFault::Missing)) => {
            let cause = format!("the image has no program `{command}`");
            Part::bad(name, weight, cause, fix(AuthReason::CliMissing))
        }
        Some(Err(ProgramFault::Useless(why))) => {
            let cause = format!("in the image: {why}");
            Part::bad(name, weight, cause, fix(AuthReason::CliIncompatible))
        }
        None => not_seen(name, "sandbox_container"),
    }
}
