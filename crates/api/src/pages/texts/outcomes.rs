//! How runs stand and what came of them, in words.

use core_types::{auth::Language, outcome::RunOutcome, task::RunStatus};

texts! {
    /// Texts about runs as they stand.
    RunWords {
        launching: "Starting", "起動中";
        running: "Running", "実行中";
        collecting: "Collecting the result", "結果を回収中";
        ended: "Ended", "終了";
        succeeded: "Succeeded", "成功";
        no_change: "Nothing to change", "変更なし";
        nothing_done: "Nothing was done", "何も行われなかった";
        verification_failed: "Verification failed", "検証に失敗";
        agent_failed: "The agent failed", "エージェントの失敗";
        tools_denied: "A tool was denied", "ツールの使用を拒否";
        login_required: "Login required", "ログインが必要";
        key_rejected: "The key was refused", "キーが拒否された";
        quota_exceeded: "Provider’s limit reached", "プロバイダーの上限に到達";
        provider_overloaded: "Provider overloaded", "プロバイダーが過負荷";
        idle_timeout: "Silent for too long", "応答が途絶えた";
        timed_out: "Out of time", "時間切れ";
        limit_reached: "Limit reached", "上限に到達";
        out_of_memory: "Out of memory", "メモリ不足";
        disk_limit: "Used too much disk", "ディスクの使いすぎ";
        cancelled: "Cancelled", "キャンセル";
        launch_failed: "Could not be started", "起動に失敗";
        checkout_failed: "Checkout failed", "チェックアウトに失敗";
        checkout_timed_out: "Checkout took too long", "チェックアウトが時間切れ";
        collect_failed: "Result not collected", "結果の回収に失敗";
        repository_missing: "Repository not found", "リポジトリが見つからない";
        repository_denied: "Repository refused the login", "リポジトリへのログインを拒否";
        host_not_trusted: "Repository’s host not trusted", "リポジトリのホストを信頼できない";
        base_branch_missing: "Base branch missing", "ベースブランチがない";
        remote_unreachable: "Repository unreachable", "リポジトリに接続できない";
        remote_hung_up: "Repository hung up", "リポジトリとの接続が切れた";
        push_refused: "Push refused", "プッシュを拒否された";
        branch_taken: "Branch taken", "ブランチが使用済み";
        repository_too_large: "Repository too large", "リポジトリが大きすぎる";
        disk_full: "Disk full", "ディスクがいっぱい";
        host_failed: "The host failed", "ホストの失敗";
        worker_lost: "The worker was lost", "ワーカーが失われた";
        interrupted: "Interrupted", "中断";
    }
}

impl RunWords {
    /// How a run stands, or what came of it.
    pub(crate) const fn run(&self, status: RunStatus, outcome: Option<RunOutcome>) -> &'static str {
        match (status, outcome) {
            (RunStatus::Ended, Some(outcome)) => self.outcome(outcome),
            (RunStatus::Ended, None) => self.worker_lost,
            (status, _) => self.status(status),
        }
    }

    pub(crate) const fn status(&self, status: RunStatus) -> &'static str {
        match status {
            RunStatus::Launching => self.launching,
            RunStatus::Running => self.running,
            RunStatus::Collecting => self.collecting,
            RunStatus::Ended => self.ended,
        }
    }

    pub(crate) const fn outcome(&self, outcome: RunOutcome) -> &'static str {
        match outcome {
            RunOutcome::Succeeded => self.succeeded,
            RunOutcome::NoChange => self.no_change,
            RunOutcome::NothingDone => self.nothing_done,
            RunOutcome::VerificationFailed => self.verification_failed,
            RunOutcome::AgentFailed => self.agent_failed,
            RunOutcome::ToolsDenied => self.tools_denied,
            RunOutcome::LoginRequired => self.login_required,
            RunOutcome::KeyRejected => self.key_rejected,
            RunOutcome::QuotaExceeded => self.quota_exceeded,
            RunOutcome::ProviderOverloaded => self.provider_overloaded,
            RunOutcome::IdleTimeout => self.idle_timeout,
            RunOutcome::TimedOut => self.timed_out,
            RunOutcome::LimitReached => self.limit_reached,
            RunOutcome::OutOfMemory => self.out_of_memory,
            RunOutcome::DiskLimit => self.disk_limit,
            RunOutcome::Cancelled => self.cancelled,
            RunOutcome::LaunchFailed => self.launch_failed,
            RunOutcome::CheckoutFailed => self.checkout_failed,
            RunOutcome::CheckoutTimedOut => self.checkout_timed_out,
            RunOutcome::CollectFailed => self.collect_failed,
            RunOutcome::RepositoryMissing => self.repository_missing,
            RunOutcome::RepositoryDenied => self.repository_denied,
            RunOutcome::HostNotTrusted => self.host_not_trusted,
            RunOutcome::BaseBranchMissing => self.base_branch_missing,
            RunOutcome::RemoteUnreachable => self.remote_unreachable,
            RunOutcome::RemoteHungUp => self.remote_hung_up,
            RunOutcome::PushRefused => self.push_refused,
            RunOutcome::BranchTaken => self.branch_taken,
            RunOutcome::RepositoryTooLarge => self.repository_too_large,
            RunOutcome::DiskFull => self.disk_full,
            RunOutcome::HostFailed => self.host_failed,
            RunOutcome::WorkerLost => self.worker_lost,
            RunOutcome::Interrupted => self.interrupted,
        }
    }
}
