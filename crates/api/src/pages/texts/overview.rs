//! Texts of the overview.

use core_types::auth::Language;

texts! {
    /// Texts of the overview.
    OverviewTexts {
        title: "Overview", "概要";
        counts: "Tasks by state", "状態別のタスク数";
        running: "Running now", "実行中のタスク";
        running_none: "Nothing runs at the moment.", "現在実行中のタスクはありません。";
        attention: "Needs you", "対応が必要";
        attention_none: "Nothing needs you.", "対応が必要なものはありません。";
        agents: "Agents", "エージェント";
        agents_none: "No agent is alive.", "稼働中のエージェントはありません。";
        agents_sandbox: "In sandbox mode each task runs in a container of its own, and no agent waits on the host.", "sandbox モードではタスクごとにコンテナで実行され、ホスト上で待機するエージェントはありません。";
        environment: "Execution environment", "実行環境";
        recent: "Latest results", "最近の結果";
        recent_none: "No task has come to an end yet.", "終了したタスクはまだありません。";
        first_title: "Queue your first task", "最初のタスクを作成しましょう";
        first_text: "Say what shall be done and in which repository. An agent works on a copy, and the result becomes a branch of its own.", "何をするか、どのリポジトリで行うかを指定してください。エージェントはコピー上で作業し、結果は専用のブランチになります。";
        first_button: "New task", "新しいタスク";
        charts: "Over time", "推移";
        chart_runs: "Runs that ended, last 24 hours", "終了した実行(過去 24 時間)";
        chart_wait: "Wait in the queue, median", "キューでの待ち時間(中央値)";
        chart_duration: "Duration of a run, median", "実行時間(中央値)";
        chart_tokens: "Tokens, last 14 days", "トークン(過去 14 日)";
        chart_cost: "Cost, last 14 days", "費用(過去 14 日)";
        chart_good: "succeeded", "成功";
        chart_bad: "failed", "失敗";
        agent_idle: "idle", "待機中";
        agent_busy: "busy", "作業中";
        agent_silent: "silent", "応答なし";
        blocked_tasks: "Blocked tasks", "ブロック中のタスク";
        gate_closed: "takes no tasks", "タスクを受け付けていません";
    }
}
