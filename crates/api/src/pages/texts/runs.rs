//! Texts of the list of runs and of the pages of agents.

use core_types::auth::Language;

texts! {
    /// Texts of the list of runs.
    RunListTexts {
        title: "Runs", "実行";
        filters: "Filters", "絞り込み";
        status: "State", "状態";
        outcome: "Outcome", "結果";
        executor: "Agent program", "エージェント";
        any: "Any", "すべて";
        apply: "Show", "表示";
        clear: "Clear", "解除";
        of_agent: "Only runs of one agent.", "1 つのエージェントの実行のみ表示しています。";
        of_task: "Only runs of one task.", "1 つのタスクの実行のみ表示しています。";
        task: "Task", "タスク";
        run: "Run", "実行";
        place: "Where", "実行場所";
        started: "Started", "開始";
        duration: "Took", "所要時間";
        tokens: "Tokens", "トークン";
        cost: "Cost", "費用";
        older: "Older", "次へ";
        newest: "Newest", "最新";
        none: "Nothing has run yet", "まだ実行はありません";
        none_text: "A run is one attempt at a task. It shows up here as soon as an agent takes one.", "実行はタスクへの 1 回の試行です。エージェントがタスクを開始すると表示されます。";
        none_match: "No run matches", "一致する実行はありません";
        none_match_text: "Take a filter away, or look further back.", "条件を減らすか、さらに過去を確認してください。";
    }
}

texts! {
    /// Texts of the list and the pages of agents.
    AgentTexts {
        title: "Agents", "エージェント";
        intro_host: "Each agent is a process of a host that takes one task after another.", "エージェントはホスト上のプロセスで、タスクを 1 つずつ順に実行します。";
        intro_sandbox: "In sandbox mode no agent waits on the host: each task gets a container of its own. The agents below are skipped until the execution environment is host again.", "sandbox モードではホスト上で待機するエージェントはなく、タスクごとに専用のコンテナが使われます。以下のエージェントは、実行環境が host に戻るまでスキップされます。";
        environment_change: "Change the execution environment", "実行環境を変更";
        none: "No agent is there", "エージェントはありません";
        none_text: "How many there are is a setting: WORKER_COUNT, TESTER_COUNT and DOCSER_COUNT.", "エージェントの数は設定 WORKER_COUNT、TESTER_COUNT、DOCSER_COUNT で決まります。";
        none_sandbox: "Runs in their containers are listed under Runs.", "コンテナでの実行は「実行」に表示されます。";
        name: "Agent", "エージェント";
        role: "Role", "役割";
        state: "State", "状態";
        process: "Process", "プロセス";
        now: "Works on", "実行中";
        seen: "Last sign", "最終応答";
        idle: "idle", "待機中";
        busy: "busy", "作業中";
        silent: "silent", "応答なし";
        retired: "signed off", "終了";
        not_there: "not there", "なし";
        host: "Host", "ホスト";
        pid: "Process number", "プロセス番号";
        version: "Version", "バージョン";
        since: "There since", "登録";
        left: "Left", "終了日時";
        runs: "Latest runs", "最近の実行";
        runs_none: "It has not had a run yet.", "まだ実行はありません。";
        all_runs: "All its runs", "すべての実行";
        log: "End of its log", "ログの末尾";
        log_none: "This server has no log of it: it was started some other way.", "このエージェントは別の方法で起動されたため、ログはありません。";
        run: "Run", "実行";
        actions: "Start and stop", "起動と停止";
    }
}
