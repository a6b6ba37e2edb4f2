//! Rows that a test needs and does not look at: a task, an agent, a claim with room for both. What a test is about it says
//! itself, in place of what stands here.

use std::time::Duration;

use core_types::{
    ids::{AgentId, TaskId},
    provider::Provider,
    repository::Repository,
    task::{ExecutorKind, RiskLevel, Role},
    usage::SpendLimits,
};
use store::{
    agents::{HostId, NewAgent, ProcessIdentity},
    dispatch::claim::ClaimRequest,
    tasks::NewTask,
};

/// A task for a worker, without dependencies and area, of a repository that is not there.
#[must_use]
pub fn task() -> NewTask {
    NewTask {
        id: TaskId::generate(),
        title: "a task of a test".to_owned(),
        goal: "none".to_owned(),
        context: None,
        role: Role::Worker,
        priority: 0,
        risk: RiskLevel::Medium,
        dependencies: Vec::new(),
        target_area: None,
        repository: Repository::Local { path: "/nowhere".to_owned() },
        base_branch: None,
        verification: Vec::new(),
        timebox: None,
        executor: ExecutorKind::ClaudeCode,
        model: None,
        max_attempts: 3,
        token_limit: None,
        cost_limit_microusd: None,
        created_by: "test".to_owned(),
    }
}

/// A worker whose process nobody can find.
#[must_use]
pub fn agent() -> NewAgent {
    NewAgent {
        id: AgentId::generate(),
        name: "worker-1".to_owned(),
        role: Role::Worker,
        host: HostId::new("test-host"),
        process: ProcessIdentity { pid: 4711, start_ticks: 1234, boot_id: "boot".to_owned() },
        version: "test".to_owned(),
    }
}

/// A claim of so many runs at the most, with room for everything.
#[must_use]
pub fn claim(limit: u32) -> ClaimRequest {
    ClaimRequest {
        limit,
        lease: Duration::from_secs(30),
        max_running: 100_000,
        spend: SpendLimits::default(),
        default_provider: Provider::default(),
    }
}
