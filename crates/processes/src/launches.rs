//! How launches are named and labelled, so that each can be found again and told to which start it belongs.

use std::collections::BTreeMap;

use core_types::{label as labelled, process::ProcessName};
use launcher::{
    id::{LaunchId, LaunchIdError},
    launcher::Discovered,
};

/// Which database it is a process of.
const LABEL_INSTANCE: &str = "opentiger.instance";
/// Which start of that name it is.
const LABEL_GENERATION: &str = "opentiger.generation";

/// One start of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Start {
    pub(crate) name: ProcessName,
    pub(crate) generation: u64,
}

impl Start {
    /// The launch id: 52 bytes at most.
    pub(crate) fn id(self, instance: &str) -> Result<LaunchId, LaunchIdError> {
        format!("process.{instance}.{}.{}", self.name, self.generation).parse()
    }

    pub(crate) fn labels(self, instance: &str) -> BTreeMap<String, String> {
        [
            (labelled::PROCESS, self.name.to_string()),
            (LABEL_INSTANCE, instance.to_owned()),
            (LABEL_GENERATION, self.generation.to_string()),
        ]
        .map(|(label, value)| (label.to_owned(), value))
        .into()
    }

    /// Which start a launch is, if it is one of this database's.
    pub(crate) fn of(found: &Discovered, instance: &str) -> Option<Self> {
        let label = |label: &str| found.labels.get(label);
        if label(LABEL_INSTANCE)? != instance {
            return None;
        }
        let name = label(labelled::PROCESS)?.parse().ok()?;
        Some(Self { name, generation: label(LABEL_GENERATION)?.parse().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_name_makes_a_launch_id() {
        let name = "worker-64".parse().unwrap();
        let start = Start { name, generation: u64::MAX };
        assert!(start.id("0123456789ab").is_ok());
    }
}
