//! Puts on the machine what running and testing needs: Postgres' server programs, git, certificates, node with npm;
//! for the tests also the servers and tools that they talk to.
//!
//! Only through the packages of Debian and Ubuntu; on any other system it says what to install and stops. It never
//! raises its own rights without a yes, and never asks where nobody can answer.

use std::{
    io::{self, IsTerminal as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    agent_tools, browser_tools,
    commands::{Tool, find_program},
    console::{confirm, line},
    fuzz_tools,
};

const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";
/// Debian's packages make and start a system-wide cluster unless this folder says otherwise.
const CLUSTER_SETTINGS: &str = "/etc/postgresql-common/createcluster.d/opentiger.conf";
const NO_SYSTEM_CLUSTER: &str = "create_main_cluster = false\n";

/// One thing the machine lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Missing {
    what: &'static str,
    packages: &'static [&'static str],
}

const POSTGRES: Missing = Missing {
    what: "PostgreSQL's server programs (15 or newer; set POSTGRES_BIN_DIR where they are elsewhere)",
    packages: &["postgresql"],
};
const GIT: Missing = Missing { what: "git", packages: &["git"] };
const NODE_AND_NPM: Missing =
    Missing { what: "npm (7 or newer) and the node it needs", packages: &["nodejs", "npm"] };
const NPM: Missing = Missing { what: "npm (7 or newer)", packages: &["npm"] };
const CERTIFICATE_AUTHORITIES: Missing =
    Missing { what: "certificate authorities", packages: &["ca-certificates"] };

const PYTHON: Missing = Missing { what: "python3 with pip", packages: &["python3", "python3-pip"] };
const REDIS: Missing = Missing { what: "redis-server", packages: &["redis-server"] };
const SSH_SERVER: Missing =
    Missing { what: "the programs of OpenSSH", packages: &["openssh-server", "openssh-client"] };
const CURL: Missing = Missing { what: "curl", packages: &["curl"] };
const CHROMIUM: Missing =
    Missing { what: "Chromium with its driver", packages: &["chromium", "chromium-driver"] };
const OPENSSL: Missing = Missing { what: "openssl", packages: &["openssl"] };

const DOCKER: Missing = Missing { what: "Docker's engine", packages: &["docker.io"] };
/// Debian has the command line in a package of its own since its release 13.
const DOCKER_COMMAND: Missing =
    Missing { what: "Docker's command line", packages: &["docker-cli"] };
const IPTABLES: Missing = Missing { what: "iptables", packages: &["iptables"] };
const DEBOOTSTRAP: Missing =
    Missing { what: "debootstrap", packages: &["debootstrap", "debian-archive-keyring"] };
const IPROUTE: Missing = Missing { what: "ip", packages: &["iproute2"] };

/// Programs that only tests start, each with what brings it.
const FOR_TESTS: &[(&str, Missing)] = &[
    ("redis-server", REDIS),
    ("sshd", SSH_SERVER),
    ("ssh", SSH_SERVER),
    ("openssl", OPENSSL),
    ("curl", CURL),
    ("chromium", CHROMIUM),
    ("chromedriver", CHROMIUM),
];

/// Programs that only tests with Docker start. Nothing here starts the machine's own engine.
const FOR_DOCKER_TESTS: &[(&str, Missing)] =
    &[("dockerd", DOCKER), ("iptables", IPTABLES), ("debootstrap", DEBOOTSTRAP), ("ip", IPROUTE)];

/// What shall be possible on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Running openTiger.
    Running,
    /// Running its tests as well, with those that need Docker or without.
    Testing {
        /// With them.
        docker: bool,
    },
}

/// Installs whatever is missing; does nothing, and says nothing, where all is there.
pub(crate) fn ensure(purpose: Purpose, yes: bool) -> Result<()> {
    let missing = missing(purpose);
    if missing.is_empty() {
        return Ok(());
    }
    let list: Vec<&str> = missing.iter().map(|one| one.what).collect();
    line(format!("missing on this machine: {}", list.join(", ")));
    install(&missing, yes)?;
    let still = self::missing(purpose);
    if let Some(one) = still.first() {
        bail!("{} is still missing after its package was installed", one.what);
    }
    Ok(())
}

fn missing(purpose: Purpose) -> Vec<Missing> {
    let mut missing = match purpose {
        Purpose::Running => Vec::new(),
        Purpose::Testing { docker } => missing_for_tests(docker),
    };
    if postgres_directory().is_none() {
        missing.push(POSTGRES);
    }
    if find_program("git").is_none() {
        missing.push(GIT);
    }
    let testing = matches!(purpose, Purpose::Testing { .. });
    if !agent_tools::are_current() || (testing && !browser_tools::CHECKER.is_current()) {
        match (find_program("npm"), find_program("node")) {
            (Some(_), Some(_)) => {}
            (None, Some(_)) => missing.push(NPM),
            (_, None) => missing.push(NODE_AND_NPM),
        }
        if has_apt() && !Path::new(CERTIFICATES).is_file() {
            missing.push(CERTIFICATE_AUTHORITIES);
        }
    }
    missing
}

fn missing_for_tests(docker: bool) -> Vec<Missing> {
    let mut missing: Vec<Missing> = Vec::new();
    let with_docker: &[(&str, Missing)] = if docker { FOR_DOCKER_TESTS } else { &[] };
    for (program, what) in FOR_TESTS.iter().chain(with_docker) {
        if !has_program(program) && !missing.contains(what) {
            missing.push(*what);
        }
    }
    if docker && !has_program("docker") && has_docker_command_apart() {
        missing.push(DOCKER_COMMAND);
    }
    if !fuzz_tools::FUZZER.is_current() && !fuzz_tools::has_pip() {
        missing.push(PYTHON);
    }
    missing
}

/// Whether this is a Debian whose package of the engine has no command line.
fn has_docker_command_apart() -> bool {
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let value = |key: &str| {
        let line = release.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        line.map(|text| text.trim_matches('"').to_owned())
    };
    let number = value("VERSION_ID").and_then(|text| text.parse::<u32>().ok());
    value("ID").as_deref() == Some("debian") && number.is_none_or(|number| number >= 13)
}

/// Whether a program is in `PATH`, or where Debian puts what only root is expected to start.
pub(crate) fn has_program(name: &str) -> bool {
    let administrators = ["/usr/sbin", "/usr/local/sbin"];
    find_program(name).is_some()
        || administrators.iter().any(|directory| Path::new(directory).join(name).is_file())
}

/// The folder with `postgres` and `initdb`, looked for where [`embedded`] looks.
fn postgres_directory() -> Option<PathBuf> {
    let configured = std::env::var_os("POSTGRES_BIN_DIR").map(PathBuf::from);
    let path = find_program("postgres").and_then(|file| Some(file.parent()?.to_owned()));
    let packaged = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let packaged = packaged.filter_map(Result::ok).map(|entry| entry.path().join("bin"));
    let is_complete = |directory: &PathBuf| {
        ["postgres", "initdb"].iter().all(|name| directory.join(name).is_file())
    };
    configured.into_iter().chain(path).chain(packaged).find(is_complete)
}

fn has_apt() -> bool {
    find_program("apt-get").is_some()
}

fn install(missing: &[Missing], yes: bool) -> Result<()> {
    if !has_apt() {
        let list: Vec<&str> = missing.iter().map(|one| one.what).collect();
        bail!("this system has no apt-get: install {} and try again", list.join(", "));
    }
    let commands = Commands::new(missing, &rights()?);
    if commands.needs_consent && !yes {
        ask(&commands)?;
    }
    commands.run()
}

/// Who runs this, as far as installing is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rights {
    Root,
    Sudo,
    None,
}

fn rights() -> Result<Rights> {
    let user = Tool::new("id").args(["-u"]).output().context("find out who runs this")?;
    let sudo = find_program("sudo").is_some();
    Ok(match (user.as_str(), sudo) {
        ("0", _) => Rights::Root,
        (_, true) => Rights::Sudo,
        (_, false) => Rights::None,
    })
}

/// Whether this runs as root.
pub(crate) fn is_root() -> Result<bool> {
    Ok(rights()? == Rights::Root)
}

/// The commands that install, each as its arguments.
#[derive(Debug)]
struct Commands {
    list: Vec<Vec<String>>,
    needs_consent: bool,
    possible: bool,
}

impl Commands {
    fn new(missing: &[Missing], rights: &Rights) -> Self {
        let prefix: &[&str] = match rights {
            Rights::Root => &[],
            Rights::Sudo | Rights::None => &["sudo"],
        };
        let command =
            |args: &[&str]| prefix.iter().chain(args).map(|one| (*one).to_owned()).collect();
        let mut list: Vec<Vec<String>> = Vec::new();
        if missing.contains(&POSTGRES) && !Path::new(CLUSTER_SETTINGS).is_file() {
            let script = format!(
                "mkdir -p \"$(dirname {CLUSTER_SETTINGS})\" && printf '{}' > {CLUSTER_SETTINGS}",
                NO_SYSTEM_CLUSTER.escape_default()
            );
            list.push(command(&["sh", "-c", &script]));
        }
        list.push(command(&["apt-get", "update"]));
        let mut apt = vec![
            "env",
            "DEBIAN_FRONTEND=noninteractive",
            "apt-get",
            "install",
            "-y",
            "--no-install-recommends",
        ];
        apt.extend(missing.iter().flat_map(|one| one.packages));
        list.push(command(&apt));
        Self { list, needs_consent: *rights != Rights::Root, possible: *rights != Rights::None }
    }

    fn run(&self) -> Result<()> {
        if !self.possible {
            bail!("there is no sudo; run this as root and try again:\n{}", self.text());
        }
        for command in &self.list {
            let (program, args) = command.split_first().context("take the program of a command")?;
            Tool::new(program).args(args).run().context("install what is missing")?;
        }
        Ok(())
    }

    fn text(&self) -> String {
        let lines: Vec<String> = self.list.iter().map(|command| command_line(command)).collect();
        lines.join("\n")
    }
}

fn ask(commands: &Commands) -> Result<()> {
    if !io::stdin().is_terminal() {
        bail!("nobody to ask here; run these, or try again with --yes:\n{}", commands.text());
    }
    line(format!("these commands install it:\n{}", commands.text()));
    if !confirm("run them now?")? {
        bail!("not installed; run the commands above yourself, then try again");
    }
    Ok(())
}

fn command_line(command: &[String]) -> String {
    let words: Vec<String> = command.iter().map(|word| shell_word(word)).collect();
    format!("  {}", words.join(" "))
}

/// A word as a shell reads it back.
fn shell_word(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_shown_commands_that_a_shell_reads_back() {
        let commands = Commands::new(&[GIT, NPM], &Rights::Sudo);
        assert!(commands.needs_consent && commands.possible);
        assert_eq!(
            commands.text(),
            "  sudo apt-get update\n  sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y \
             --no-install-recommends git npm"
        );
        assert_eq!(shell_word("it's"), r"'it'\''s'");
    }

    #[test]
    fn root_needs_no_sudo_and_no_consent() {
        let commands = Commands::new(&[GIT], &Rights::Root);
        assert!(!commands.needs_consent);
        assert_eq!(
            commands.list.first().and_then(|one| one.first()).map(String::as_str),
            Some("apt-get")
        );
    }

    #[test]
    fn without_sudo_nothing_runs_and_the_commands_are_shown() {
        let error = Commands::new(&[GIT], &Rights::None).run().unwrap_err();
        assert!(error.to_string().contains("apt-get install"), "{error}");
    }
}
