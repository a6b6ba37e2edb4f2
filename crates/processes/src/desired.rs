//! Whether a process shall run: the settings, and over them what somebody wished.

use core_config::{load::Loaded, settings::Settings};
use core_types::{
    process::{ProcessName, Wanted},
    task::{ExecutionEnvironment, Role},
};

/// What shall become of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Desired {
    /// It shall run.
    Running,
    /// It would run, but the environment has no place for it; one that runs ends when it has nothing to do.
    Skipped,
    /// It shall not run.
    Stopped(Manner),
}

/// How a process that shall not run comes to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// It is asked at once; a run in hand is given back.
    Now,
    /// An agent is left alone until its run is over.
    WhenIdle,
}

/// What shall become of a process of which somebody wants this.
pub(crate) fn desired(name: ProcessName, wanted: Wanted, settings: &Settings) -> Desired {
    let wants = match wanted {
        Wanted::Running => true,
        Wanted::Settings if settings_want(name, settings) => true,
        Wanted::Settings => return Desired::Stopped(Manner::WhenIdle),
        Wanted::Stopped => return Desired::Stopped(Manner::Now),
    };
    match why_skipped(name, settings) {
        Some(_) if wants => Desired::Skipped,
        Some(_) | None => Desired::Running,
    }
}

/// Whether a faulty row keeps it from being known what shall become of a process: until that is mended it stays as it is.
pub(crate) fn is_undecided(name: ProcessName, wanted: Wanted, loaded: &Loaded) -> bool {
    let by_settings = match name {
        ProcessName::Dispatcher => "DISPATCHER_ENABLED",
        ProcessName::Agent { role: Role::Worker, .. } => "WORKER_COUNT",
        ProcessName::Agent { role: Role::Tester, .. } => "TESTER_COUNT",
        ProcessName::Agent { role: Role::Docser, .. } => "DOCSER_COUNT",
    };
    let keys: &[&str] = match (name, wanted) {
        (_, Wanted::Stopped) | (ProcessName::Dispatcher, Wanted::Running) => &[],
        (ProcessName::Dispatcher, Wanted::Settings) => &[by_settings],
        (ProcessName::Agent { .. }, Wanted::Running) => &["EXECUTION_ENVIRONMENT"],
        (ProcessName::Agent { .. }, Wanted::Settings) => &["EXECUTION_ENVIRONMENT", by_settings],
    };
    loaded.known(keys).is_err()
}

/// Whether the settings want a process, if there is a place for it.
pub(crate) fn settings_want(name: ProcessName, settings: &Settings) -> bool {
    match name {
        ProcessName::Dispatcher => settings.dispatcher_enabled,
        ProcessName::Agent { role, number } => {
            let count = match role {
                Role::Worker => settings.worker_count,
                Role::Tester => settings.tester_count,
                Role::Docser => settings.docser_count,
            };
            number.get() <= count
        }
    }
}

/// Why there is no place for a process now (E5).
pub(crate) fn why_skipped(name: ProcessName, settings: &Settings) -> Option<&'static str> {
    match (name, settings.execution_environment) {
        (ProcessName::Agent { .. }, ExecutionEnvironment::Sandbox) => Some(
            "`EXECUTION_ENVIRONMENT` is `sandbox`: each task runs in a container of its own, and no agent on the host",
        ),
        (ProcessName::Agent { .. }, ExecutionEnvironment::Host) | (ProcessName::Dispatcher, _) => {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use core_config::load::load;

    use super::*;

    fn settings(variables: &[(&str, &str)]) -> std::sync::Arc<Settings> {
        let place = [("OPENTIGER_STATE_DIR", "/srv/tiger"), ("WORKER_COUNT", "2")];
        let variables = place.iter().chain(variables);
        let variables = variables.map(|(name, value)| ((*name).into(), (*value).into()));
        load(variables, None).unwrap().settings
    }

    fn of(name: &str, wanted: Wanted, variables: &[(&str, &str)]) -> Desired {
        desired(name.parse().unwrap(), wanted, &settings(variables))
    }

    #[test]
    fn settings_say_what_runs_where_nobody_wishes_otherwise() {
        assert_eq!(of("dispatcher", Wanted::Settings, &[]), Desired::Running);
        assert_eq!(of("worker-2", Wanted::Settings, &[]), Desired::Running);
        let idle = Desired::Stopped(Manner::WhenIdle);
        assert_eq!(of("worker-3", Wanted::Settings, &[]), idle);
        assert_eq!(of("dispatcher", Wanted::Settings, &[("DISPATCHER_ENABLED", "false")]), idle);
    }

    #[test]
    fn a_wish_overrides_the_settings() {
        assert_eq!(of("worker-3", Wanted::Running, &[]), Desired::Running);
        assert_eq!(of("worker-1", Wanted::Stopped, &[]), Desired::Stopped(Manner::Now));
    }

    #[test]
    fn no_agent_has_a_place_in_the_sandbox_environment() {
        let sandbox = [("EXECUTION_ENVIRONMENT", "sandbox")];
        for wanted in [Wanted::Settings, Wanted::Running] {
            assert_eq!(of("worker-1", wanted, &sandbox), Desired::Skipped);
            assert_eq!(of("dispatcher", wanted, &sandbox), Desired::Running);
        }
        assert_eq!(of("worker-1", Wanted::Stopped, &sandbox), Desired::Stopped(Manner::Now));
    }
}
