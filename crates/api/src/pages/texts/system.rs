//! Texts of the System page and those below it.

use core_types::{
    auth::Language, process::ProcessState, readiness::CheckState, task::ExecutionEnvironment,
};

texts! {
    /// Texts of the System page and those below it.
    SystemTexts {
        title: "System", "システム";
        environment: "Execution environment", "実行環境";
        host: "host", "host";
        sandbox: "sandbox", "sandbox";
        host_means: "Agents are processes of this machine, with its programs and its login. Quick to start, and not isolated.", "エージェントはこのマシンのプロセスとして、マシン上のプログラムとログインで動きます。起動は速いですが、隔離されません。";
        sandbox_means: "Each task runs in a Docker container of its own, with a copy of the login that cannot be renewed. No agent waits on the host.", "タスクごとに専用の Docker コンテナで動き、更新できないログインのコピーを使います。ホスト上で待機するエージェントはありません。";
        in_force: "In force now", "現在有効";
        review: "Review the switch", "切り替え内容を確認";
        locked: "Locked: the environment of a dispatcher sets EXECUTION_ENVIRONMENT, so changing it here would change nothing. It is set by:", "ロック中: ディスパッチャーの環境変数で EXECUTION_ENVIRONMENT が設定されているため、ここでは変更できません。設定元:";
        locked_here: "Locked: the environment of this server sets EXECUTION_ENVIRONMENT.", "ロック中: このサーバーの環境変数で EXECUTION_ENVIRONMENT が設定されています。";
        no_control: "Changing how the system runs needs a key here.", "システムの変更にはキーが必要です。";
        switch_title: "Switch to", "切り替え先:";
        switch_what: "What will happen", "切り替えで起こること";
        switch_next: "Every task that is taken from now on runs there. No restart is needed.", "これ以降に開始されるタスクは新しい環境で実行されます。再起動は不要です。";
        switch_runs: "Runs that are alive finish where they are:", "実行中のものは現在の環境のまま完了します:";
        switch_stops: "Agents on this host are stopped as soon as they are idle.", "ホスト上のエージェントは、待機状態になり次第停止します。";
        switch_starts: "Agents are started on this host, as many as the settings say.", "設定された数のエージェントがホスト上で起動します。";
        switch_yes: "Switch now", "切り替える";
        switch_same: "This is in force already.", "すでにこの環境が有効です。";
        switch_stale: "Somebody changed settings in the meantime. Look again, then switch.", "その間に設定が変更されました。内容を確認してから切り替えてください。";
        back: "Back", "戻る";
        readiness: "Readiness", "準備状況";
        check_now: "Check now", "今すぐ確認";
        checking: "Being checked…", "確認しています…";
        ready: "Ready", "準備完了";
        not_ready: "Not ready", "準備ができていません";
        state_ok: "ok", "正常";
        state_warn: "look at it", "要確認";
        state_fail: "broken", "異常";
        state_unknown: "not known", "不明";
        quota: "Limits of the account", "アカウントの上限";
        quota_none: "The provider has not told how much is left.", "残量はまだ通知されていません。";
        quota_used: "used", "使用済み";
        quota_left: "left", "残り";
        resets: "begins anew", "リセット";
        told: "Told", "通知";
        gates: "Executors", "エージェントの受付";
        gates_open: "takes tasks", "受付中";
        gates_closed: "takes no tasks", "受付停止中";
        gates_none: "No run has told anything yet.", "まだ実行結果がありません。";
        closed_since: "Since", "停止:";
        trying: "A run is under way to try it:", "試行中の実行:";
        elsewhere: "It is tried once this environment is in force.", "この環境が有効になると再試行されます。";
        self_tests: "Self-test of sandboxes", "sandbox の自己診断";
        self_tests_what: "One scripted tool call in a container like a run's: it shows that image, program and mounts work. It needs no login and costs nothing.", "実際の実行と同じコンテナで、台本どおりのツール呼び出しを 1 回行い、イメージ・プログラム・マウントが動作することを確認します。ログインは不要で、費用もかかりません。";
        self_tests_none: "None was made yet. One is made before the first task in a new image.", "まだ実施されていません。新しいイメージで最初のタスクを始める前に実施されます。";
        self_test_run: "Run it now", "今すぐ実施";
        test_passed: "passed", "成功";
        test_failed: "failed", "失敗";
        test_pending: "under way", "実施中";
        tested: "Tested", "実施";
        tested_again: "Again", "次回";
        took: "Took", "所要時間";
        executor: "Agent program", "エージェント";
        stop_all: "Stop everything…", "すべて停止…";
        stop_all_ask: "Stop the dispatcher and every agent? They stay stopped until you let them run again. An agent gives its run back, which costs no attempt; runs in sandboxes go on and are collected later.", "ディスパッチャーとすべてのエージェントを停止しますか?再開するまで停止したままです。エージェントが実行中のタスクはキューに戻り、試行回数には数えられません。sandbox での実行は継続し、後で回収されます。";
        stop_all_yes: "Yes, stop everything", "すべて停止する";
        start_all: "Let everything run again", "再開する";
        reset_ask: "Take back what is set here? The default holds then; a secret is gone for good.", "ここでの設定を取り消しますか?既定値に戻ります。シークレットの値は復元できません。";
        reset_yes: "Yes, back to the default", "既定値に戻す";
        try_now: "Try now", "今すぐ試す";
        goes_on: "Tried again", "再試行";
        processes: "Processes", "プロセス";
        processes_none: "No api-server manages processes; they are started some other way.", "このシステムではプロセスは管理されていません。";
        process_state: "State", "状態";
        process_name: "Process", "プロセス";
        uptime: "Up for", "稼働時間";
        restarts: "Restarts", "再起動回数";
        memory: "Memory", "メモリ";
        pid: "Process number", "プロセス番号";
        log: "Log", "ログ";
        start: "Start", "起動";
        stop: "Stop…", "停止…";
        stop_ask: "Stop this process? It stays stopped until it is started. An agent gives its run back, which costs no attempt.", "このプロセスを停止しますか?起動するまで停止したままです。実行中のタスクはキューに戻り、試行回数には数えられません。";
        stop_yes: "Yes, stop it", "停止する";
        restart: "Restart", "再起動";
        last_exit: "Last end", "前回の終了";
        process_idle: "not started", "未起動";
        process_starting: "starting", "起動中";
        process_running: "running", "稼働中";
        process_stopping: "stopping", "停止処理中";
        process_backing_off: "waits before the next start", "再起動待ち";
        process_failed: "failed", "失敗";
        process_stopped: "stopped", "停止";
        process_skipped: "skipped", "スキップ";
        skipped_why: "In sandbox mode no agent runs on the host.", "sandbox モードではホスト上でエージェントは動きません。";
        isolation: "What a sandbox does not hold back", "sandbox で防げないこと";
        isolation_key: "The agent can read the access token or the key that it works with.", "エージェントは、使用中のアクセストークンやキーを読み取れます。";
        isolation_out: "The way out is open: the internet, the local network, and services of this machine that listen on all addresses.", "外部への通信は制限されません。インターネット、ローカルネットワーク、全アドレスで待ち受けるこのマシンのサービスに接続できます。";
        isolation_neighbours: "Containers on the same network can reach each other.", "同じネットワーク上のコンテナは互いに接続できます。";
        isolation_disk: "Disk is watched and limited by stopping the run, not by a quota.", "ディスク使用量は監視され、超過時に停止されますが、割り当て制限ではありません。";
        isolation_kernel: "The kernel is shared.", "カーネルは共有されます。";
        settings: "Settings", "設定";
        settings_open: "Show and change all settings", "すべての設定を表示・変更";
        settings_intro: "What the environment sets wins over what is set here; what nobody sets has its default.", "環境変数の値がここでの設定より優先されます。どちらもなければ既定値になります。";
        settings_faults: "These rows cannot be used. While there are any, no task is taken:", "次の設定値は使用できません。修正されるまでタスクは開始されません:";
        key: "Setting", "項目";
        value: "Value", "値";
        source: "Source", "設定元";
        effect: "Takes effect", "反映時期";
        allowed: "Allowed", "許可される値";
        unit: "Unit", "単位";
        secret_set: "set", "設定済み";
        secret_unset: "not set", "未設定";
        empty: "empty", "空";
        new_value: "New value", "新しい値";
        secret_hint: "It is never shown. What you enter replaces it.", "値は表示されません。入力した内容で置き換えられます。";
        save: "Save", "保存";
        reset: "Back to the default…", "既定値に戻す…";
        environment_only: "It is set in the environment only.", "環境変数でのみ設定できます。";
        shadowed: "The environment of these processes wins over it:", "次のプロセスでは環境変数が優先されます:";
        below: "Without the environment", "環境変数がない場合の値";
        needs_key: "It reaches the host, so changing it needs a key.", "ホストに影響するため、変更にはキーが必要です。";
        history: "Changes", "変更履歴";
        history_none: "Nobody changed it yet.", "まだ変更されていません。";
        by: "by", "変更者";
    }
}

impl SystemTexts {
    pub(crate) const fn name(&self, environment: ExecutionEnvironment) -> &'static str {
        match environment {
            ExecutionEnvironment::Host => self.host,
            ExecutionEnvironment::Sandbox => self.sandbox,
        }
    }

    pub(crate) const fn means(&self, environment: ExecutionEnvironment) -> &'static str {
        match environment {
            ExecutionEnvironment::Host => self.host_means,
            ExecutionEnvironment::Sandbox => self.sandbox_means,
        }
    }

    pub(crate) const fn check(&self, state: CheckState) -> (&'static str, &'static str) {
        match state {
            CheckState::Ok => ("good", self.state_ok),
            CheckState::Warn => ("warn", self.state_warn),
            CheckState::Fail => ("bad", self.state_fail),
            CheckState::Unknown => ("off", self.state_unknown),
        }
    }

    pub(crate) const fn process(&self, state: ProcessState) -> (&'static str, &'static str) {
        match state {
            ProcessState::Idle => ("off", self.process_idle),
            ProcessState::Starting => ("busy", self.process_starting),
            ProcessState::Running => ("good", self.process_running),
            ProcessState::Stopping => ("busy", self.process_stopping),
            ProcessState::BackingOff => ("warn", self.process_backing_off),
            ProcessState::Failed => ("bad", self.process_failed),
            ProcessState::Stopped => ("off", self.process_stopped),
            ProcessState::Skipped => ("off", self.process_skipped),
        }
    }
}
