-- A copy of a repository that is not made in time has an outcome of its own.
ALTER TABLE runs DROP CONSTRAINT runs_outcome_check;
ALTER TABLE runs ADD CONSTRAINT runs_outcome_check CHECK (outcome IN ('succeeded', 'no_change', 'nothing_done',
    'verification_failed', 'agent_failed', 'tools_denied', 'login_required', 'key_rejected', 'quota_exceeded',
    'provider_overloaded', 'idle_timeout', 'timed_out', 'limit_reached', 'out_of_memory', 'cancelled',
    'launch_failed', 'checkout_failed', 'collect_failed', 'worker_lost', 'interrupted', 'repository_missing',
    'repository_denied', 'host_not_trusted', 'base_branch_missing', 'remote_unreachable', 'remote_hung_up',
    'push_refused', 'branch_taken', 'repository_too_large', 'disk_full', 'host_failed', 'disk_limit',
    'checkout_timed_out'));
