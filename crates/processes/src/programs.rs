//! What is launched for each name: program, arguments, environment, and what is kept of the output.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use core_config::{settings::Settings, table::setting};
use core_types::process::ProcessName;
use launcher::spec::{Input, LaunchSpec, OutputLimits, SecretValue, StopPolicy};

/// Settings that are the API's own business.
const NOT_HANDED_ON: &[&str] =
    &["OPENTIGER_API_LISTEN", "OPENTIGER_PROCESS_MANAGER", "API_KEYS", "API_SECRET"];
/// A process may run for months: its first lines and its last ones.
const OUTPUT: OutputLimits = OutputLimits { head_bytes: 64 << 10, tail_bytes: 4 << 20 };

/// Where the programs lie and which variables they get.
#[derive(Debug, Clone)]
pub struct Programs {
    /// The directory with the programs.
    directory: PathBuf,
    /// Where they start.
    state_dir: PathBuf,
    /// What may be written down.
    plain: BTreeMap<String, String>,
    /// What may not.
    secret: BTreeMap<String, SecretValue>,
}

/// A program that is not where it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("program `{}` not found", program.display())]
pub(crate) struct ProgramMissing {
    program: PathBuf,
    package: &'static str,
}

impl Programs {
    /// The programs of a directory, with the variables of a machine (`machine`, as they may be handed on) and every
    /// setting that is set in `variables`. The API's own keys and address stay behind.
    #[must_use]
    pub fn new(
        directory: PathBuf,
        state_dir: PathBuf,
        machine: BTreeMap<String, String>,
        variables: &BTreeMap<String, String>,
    ) -> Self {
        let mut programs = Self { directory, state_dir, plain: machine, secret: BTreeMap::new() };
        for (name, value) in variables {
            let declared = setting(name).filter(|_| !NOT_HANDED_ON.contains(&name.as_str()));
            match declared {
                Some(setting) if setting.kind.is_secret() => {
                    programs.secret.insert(name.clone(), SecretValue::new(value));
                }
                Some(_) => {
                    programs.plain.insert(name.clone(), value.clone());
                }
                None => {}
            }
        }
        let place = programs.state_dir.to_string_lossy().into_owned();
        programs.plain.insert("OPENTIGER_STATE_DIR".to_owned(), place);
        programs
    }

    /// What to launch for a name.
    pub(crate) fn spec(
        &self,
        name: ProcessName,
        labels: BTreeMap<String, String>,
        settings: &Settings,
    ) -> Result<LaunchSpec, ProgramMissing> {
        let package = package(name);
        let program = self.directory.join(package);
        if !program.is_file() {
            return Err(ProgramMissing { program, package });
        }
        let mut spec = LaunchSpec::new(program, &self.state_dir);
        spec.args = arguments(name);
        spec.env.clone_from(&self.plain);
        spec.output = OUTPUT;
        spec.stop = StopPolicy { grace: settings.process_stop_grace, ..StopPolicy::default() };
        spec.labels = labels;
        Ok(spec)
    }

    /// What a program is handed without a trace.
    pub(crate) fn input(&self) -> Input {
        Input { secret_env: self.secret.clone(), ..Input::default() }
    }
}

impl ProgramMissing {
    /// What to do about it.
    pub(crate) fn hint(&self) -> String {
        let directory = self.program.parent().unwrap_or(Path::new("/"));
        format!(
            "build it with `cargo build -p {}`, or put it into `{}`; it is started as soon as it is found",
            self.package,
            directory.display()
        )
    }
}

const fn package(name: ProcessName) -> &'static str {
    match name {
        ProcessName::Dispatcher => "dispatcher",
        ProcessName::Agent { .. } => "worker",
    }
}

fn arguments(name: ProcessName) -> Vec<String> {
    match name {
        ProcessName::Dispatcher => Vec::new(),
        ProcessName::Agent { role, .. } => {
            let name = name.to_string();
            ["resident", "--name", &name, "--role", role.as_str()].map(ToOwned::to_owned).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use core_config::load::load;

    use super::*;

    #[test]
    fn secrets_are_not_in_what_is_written_down_and_the_api_keeps_its_own() {
        let directory = std::env::temp_dir();
        let set = [
            ("DATABASE_URL", "postgres://u:hunter2@h/d"),
            ("REDIS_URL", "redis://:hunter2@h"),
            ("ANTHROPIC_API_KEY", "sk-hunter3"),
            ("OPENTIGER_API_LISTEN", "127.0.0.1:0"),
            ("OPENTIGER_LOG", "debug"),
            ("AWS_SECRET_ACCESS_KEY", "hunter4"),
            ("OPENTIGER_STATE_DIR", "/elsewhere"),
        ];
        let set = set.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let machine = [("PATH".to_owned(), "/bin".to_owned())].into();
        let programs = Programs::new(directory, "/srv/tiger".into(), machine, &set);
        let plain: Vec<&str> = programs.plain.keys().map(String::as_str).collect();
        assert_eq!(plain, ["OPENTIGER_LOG", "OPENTIGER_STATE_DIR", "PATH"]);
        assert_eq!(programs.plain["OPENTIGER_STATE_DIR"], "/srv/tiger");
        let secret: Vec<&str> = programs.secret.keys().map(String::as_str).collect();
        assert_eq!(secret, ["ANTHROPIC_API_KEY", "DATABASE_URL", "REDIS_URL"]);
        assert!(!format!("{programs:?}").contains("hunter"));
    }

    #[test]
    fn a_missing_program_is_told_with_the_command_that_builds_it() {
        let nothing = tempfile::tempdir().unwrap();
        let none = BTreeMap::new();
        let programs = Programs::new(nothing.path().into(), "/".into(), none.clone(), &none);
        let variables = [("OPENTIGER_STATE_DIR".into(), "/".into())];
        let settings = load(variables, None).unwrap().settings;
        let name = "tester-1".parse().unwrap();
        let missing = programs.spec(name, BTreeMap::new(), &settings).unwrap_err();
        assert!(missing.hint().contains("cargo build -p worker"), "{}", missing.hint());
    }
}
