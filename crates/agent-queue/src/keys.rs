//! Names in Redis: everything of one installation lies under a prefix of its own.

use core_types::ids::AgentId;
use uuid::Uuid;

use crate::{queue::InstanceId, subscription::Topic};

/// Makes the names of one installation.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    prefix: String,
    /// Tells this process from others.
    process: String,
}

impl Keys {
    pub(crate) fn new(instance: &InstanceId) -> Self {
        let process = Uuid::now_v7().simple().to_string();
        Self { prefix: format!("opentiger:{}", instance.as_str()), process }
    }

    /// The list that an agent takes its runs from.
    pub(crate) fn inbox(&self, agent: AgentId) -> String {
        format!("{}:inbox:{agent}", self.prefix)
    }

    /// The channel that says "look".
    pub(crate) fn wake(&self, topic: Topic) -> String {
        format!("{}:wake:{}", self.prefix, topic.word())
    }

    /// The channel that says how far a run's events go.
    pub(crate) fn events(&self) -> String {
        format!("{}:events", self.prefix)
    }

    /// The channel on which a process hears itself.
    pub(crate) fn echo(&self) -> String {
        format!("{}:echo:{}", self.prefix, self.process)
    }
}
