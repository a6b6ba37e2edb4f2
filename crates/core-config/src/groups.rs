//! Which settings belong together, for pages that show them.
//!
//! A key is sorted by how its name begins, so that a new one finds its place by being named like its neighbours.

use core_types::words;

words! {
    /// Settings that belong together.
    Group, "group of settings" {
        /// Who may enter, and how often.
        Access = "access",
        /// Where data lies, and what is logged.
        Storage = "storage",
        /// Where and how many agents work.
        Execution = "execution",
        /// The command line `claude` and its provider.
        ClaudeCode = "claude code",
        /// The command line `opencode` and its providers.
        Opencode = "opencode",
        /// The containers agents work in.
        Sandbox = "sandbox",
        /// What a task may take, and what happens when it fails.
        Tasks = "tasks",
        /// Where code comes from and goes to.
        Repositories = "repositories",
        /// Everything else.
        Other = "other",
    }
}

/// How names begin, with their group; the first that fits counts.
const BEGINNINGS: &[(&str, Group)] = &[
    ("API_", Group::Access),
    ("OPENTIGER_API_", Group::Access),
    ("OPENTIGER_ALLOW_INSECURE_", Group::Access),
    ("CLAUDE_AUTH_DIR", Group::Sandbox),
    ("CLAUDE_CONFIG_DIR", Group::Sandbox),
    ("CLAUDE_", Group::ClaudeCode),
    ("ANTHROPIC_", Group::ClaudeCode),
    ("OPENTIGER_CLAUDE_", Group::ClaudeCode),
    ("OPENCODE_", Group::Opencode),
    ("OPENTIGER_OPENCODE_", Group::Opencode),
    ("GEMINI_", Group::Opencode),
    ("OPENAI_", Group::Opencode),
    ("XAI_", Group::Opencode),
    ("DEEPSEEK_", Group::Opencode),
    ("SANDBOX_", Group::Sandbox),
    ("DOCKER_", Group::Sandbox),
    ("DATABASE_", Group::Storage),
    ("POSTGRES_", Group::Storage),
    ("REDIS_", Group::Storage),
    ("OPENTIGER_STATE_", Group::Storage),
    ("OPENTIGER_LOG", Group::Storage),
    ("OPENTIGER_EMBEDDED", Group::Storage),
    ("OPENTIGER_DOWNLOADS", Group::Storage),
    ("EXECUTION_", Group::Execution),
    ("MAX_CONCURRENT_", Group::Execution),
    ("LLM_", Group::Execution),
    ("DISPATCHER_", Group::Execution),
    ("WORKER_", Group::Execution),
    ("TESTER_", Group::Execution),
    ("DOCSER_", Group::Execution),
    ("TASK_", Group::Tasks),
    ("DAILY_", Group::Tasks),
    ("AGENT_", Group::Tasks),
    ("VERIFICATION_", Group::Tasks),
    ("CANCEL_", Group::Tasks),
    ("QUOTA_", Group::Tasks),
    ("BASE_BRANCH", Group::Repositories),
    ("LOCAL_REPO_", Group::Repositories),
    ("REPO_", Group::Repositories),
    ("GIT_", Group::Repositories),
];

/// The group of a key.
#[must_use]
pub fn group(key: &str) -> Group {
    let fits = |(beginning, _): &&(&str, Group)| key.starts_with(beginning);
    BEGINNINGS.iter().find(fits).map_or(Group::Other, |(_, group)| *group)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_sorted_by_how_its_name_begins() {
        assert_eq!(group("API_KEYS"), Group::Access);
        assert_eq!(group("CLAUDE_CODE_MODEL"), Group::ClaudeCode);
        assert_eq!(group("CLAUDE_AUTH_DIR"), Group::Sandbox);
        assert_eq!(group("NO_SUCH_KEY"), Group::Other);
    }
}
