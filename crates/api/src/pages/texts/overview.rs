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
        window: "Time shown", "表示期間";
        window_day: "24 hours", "24 時間";
        window_week: "7 days", "7 日";
        window_month: "30 days", "30 日";
        chart_runs: "Runs that ended", "終了した実行";
        chart_wait: "Wait until a task was taken", "タスクが開始されるまでの待ち時間";
        chart_duration: "Duration of a run", "実行時間";
        chart_tokens: "Tokens", "トークン";
        chart_cost: "Cost", "費用";
        chart_good: "succeeded", "成功";
        chart_bad: "failed", "失敗";
        half_within: "half of them", "半数";
        most_within: "nine of ten", "9 割";
        latest: "last:", "最新:";
        per_hour: "per hour, UTC", "1 時間ごと(UTC)";
        per_six_hours: "per six hours, UTC", "6 時間ごと(UTC)";
        per_day: "per day, UTC", "1 日ごと(UTC)";
        time: "Time", "時刻";
        as_table: "As a table", "表で見る";
        nothing_charted: "Nothing happened in this time.", "この期間のデータはありません。";
        charts_unknown: "The database does not tell at the moment.", "現在データを取得できません。";
        charts_note: "Waits count from when a task could be taken: what it depends on is done, its area is free, it does not cool down.", "待ち時間は、依存タスクの完了・対象領域の空き・待機時間の終了により開始可能になった時点から数えます。";
        in_sandboxes: "in sandboxes", "sandbox";
        on_hosts: "on hosts", "host";
        run: "Run", "実行";
        all_runs: "All runs", "すべての実行";
        all_agents: "All agents", "すべてのエージェント";
        stop_all: "Stop everything…", "すべて停止…";
        stop_ask: "Stop the dispatcher and every agent? They stay stopped until you let them run again. An agent gives its run back, which costs no attempt; runs in sandboxes go on and are collected later.", "ディスパッチャーとすべてのエージェントを停止しますか?再開するまで停止したままです。エージェントが実行中のタスクはキューに戻り、試行回数には数えられません。sandbox での実行は継続し、後で回収されます。";
        stop_yes: "Yes, stop everything", "すべて停止する";
        start_all: "Let everything run again", "再開する";
        since: "Since", "停止:";
        goes_on: "Tried again", "再試行";
        try_now: "Try now", "今すぐ試す";
        elsewhere: "It is tried once this environment is in force.", "この環境が有効になると再試行されます。";
        trying: "A run is under way to try it:", "試行中の実行:";
        blocked_tasks: "Blocked tasks", "ブロック中のタスク";
        gate_closed: "takes no tasks", "タスクを受け付けていません";
    }
}
