//! Texts of the pages about tasks and runs.

use core_types::auth::Language;

texts! {
    /// Texts of the list and the board.
    TaskTexts {
        title: "Tasks", "タスク";
        new: "New task", "新しいタスク";
        view_list: "List", "一覧";
        view_board: "Board", "ボード";
        filters: "Filters", "絞り込み";
        search: "Title", "タイトル";
        status: "State", "状態";
        role: "Role", "役割";
        executor: "Agent", "エージェント";
        area: "Area", "対象領域";
        repository: "Repository", "リポジトリ";
        any: "Any", "すべて";
        apply: "Show", "表示";
        clear: "Clear", "解除";
        made: "Made", "作成";
        attempts: "Attempts", "試行回数";
        older: "Older", "次へ";
        newest: "Newest", "最新";
        none: "There is no task yet", "タスクはまだありません";
        none_text: "Queue one, and it shows up here with everything that happens to it.", "作成すると、ここに経過とともに表示されます。";
        none_match: "No task matches", "一致するタスクはありません";
        none_match_text: "Take a filter away, or look further back.", "条件を減らすか、さらに過去を確認してください。";
        none_here: "None", "なし";
        all_of_column: "Show all", "すべて表示";
    }
}

texts! {
    /// Texts of the form for a new task.
    NewTaskTexts {
        title: "New task", "新しいタスク";
        faults: "Not queued. Please look at these fields:", "作成できませんでした。次の項目を確認してください。";
        name: "Title", "タイトル";
        name_hint: "One line that says what it is.", "内容を 1 行で表してください。";
        goal: "Goal", "目的";
        goal_hint: "What the agent shall do. It sees nothing but this and the repository.", "エージェントに行わせる内容です。エージェントが見るのはこの内容とリポジトリだけです。";
        mode: "Repository", "リポジトリ";
        mode_local: "On this machine", "このマシン上";
        mode_git: "Behind a URL", "URL 先";
        place: "Path or URL", "パスまたは URL";
        place_hint: "The absolute path of a git repository on the server, or an https or ssh URL.", "サーバー上の git リポジトリの絶対パス、または https か ssh の URL です。";
        base_branch: "Branch to start from", "開始ブランチ";
        verification: "Verification", "検証コマンド";
        verification_hint: "One command a line, such as: cargo test. Each must end well; there is no shell.", "1 行に 1 コマンドを書きます(例: cargo test)。すべて成功する必要があり、シェルは使われません。";
        more: "More choices", "詳細設定";
        role: "Role", "役割";
        risk: "Risk", "リスク";
        priority: "Priority (-100 to 100)", "優先度(-100〜100)";
        executor: "Agent", "エージェント";
        by_setting: "As the settings say", "設定に従う";
        model: "Model", "モデル";
        area: "Area", "対象領域";
        area_hint: "Of all tasks with the same area one runs at a time.", "同じ領域のタスクは同時に 1 つだけ実行されます。";
        dependencies: "Depends on", "依存するタスク";
        dependencies_hint: "Ids of tasks that must be done before, separated by spaces.", "先に完了している必要があるタスクの ID を空白区切りで指定します。";
        timebox: "Time limit in minutes", "制限時間(分)";
        attempts: "Attempts at most", "最大試行回数";
        tokens: "Token limit", "トークン上限";
        cost: "Money limit in US dollars", "費用上限(米ドル)";
        submit: "Queue the task", "キューに入れる";
    }
}

texts! {
    /// Texts of a task's and a run's page.
    DetailTexts {
        tasks: "Tasks", "タスク";
        why: "Why it waits", "待機している理由";
        since: "Since", "開始時刻";
        until: "Goes on", "再開予定";
        waits_for: "Waits for", "待っているタスク";
        hint: "What to do", "対処方法";
        what: "What shall be done", "内容";
        context: "Context", "補足情報";
        facts: "Facts", "詳細";
        repository: "Repository", "リポジトリ";
        base_branch: "Starts from", "開始ブランチ";
        branch: "Result", "結果のブランチ";
        commit: "Commit", "コミット";
        role: "Role", "役割";
        executor: "Agent", "エージェント";
        priority: "Priority", "優先度";
        risk: "Risk", "リスク";
        area: "Area", "対象領域";
        depends_on: "Depends on", "依存するタスク";
        attempts: "Attempts", "試行回数";
        of: "of", "/";
        limits: "Limits", "上限";
        verification: "Verification", "検証";
        verification_none: "No command verifies the result.", "検証コマンドはありません。";
        made_by: "Made by", "作成者";
        made: "Made", "作成";
        finished: "Ended", "終了";
        runs: "Runs", "実行履歴";
        runs_none: "It has not run yet.", "まだ実行されていません。";
        run: "Run", "実行";
        started: "Started", "開始";
        duration: "Took", "所要時間";
        tokens: "Tokens", "トークン";
        cost: "Cost", "費用";
        turns: "Turns", "ターン数";
        outcome: "Outcome", "結果";
        next: "What comes next", "今後";
        cancel: "Cancel…", "キャンセル…";
        cancel_ask: "Cancel this task? A run that is alive is stopped, and its work is lost.", "このタスクをキャンセルしますか?実行中の場合は停止され、作業内容は失われます。";
        cancel_yes: "Yes, cancel the task", "キャンセルする";
        cancel_asked: "A stop is asked for.", "停止を要求済みです。";
        retry: "Do it once more…", "再実行…";
        retry_feedback: "What shall the agent do otherwise?", "エージェントへの追加の指示";
        retry_feedback_hint: "Left empty, it is told what it was told before.", "空欄の場合は前回と同じ指示になります。";
        retry_continue: "Go on with the agent's last session", "前回のセッションを続ける";
        retry_yes: "Queue it again", "再びキューに入れる";
        log: "Log", "ログ";
        log_search: "Search in the log", "ログを検索";
        log_follow: "Follow", "追従";
        log_whole: "Whole log as text", "ログ全体(テキスト)";
        phases: "Steps", "手順";
        passed: "passed", "成功";
        failed: "failed", "失敗";
        changes: "Changes", "変更内容";
        changes_none: "The run made no commit.", "コミットはありません。";
        changes_show: "Show the changes", "変更内容を表示";
        changes_cut: "The rest is left out here:", "以下は省略されています:";
        patch: "Whole patch", "パッチ全体";
        host: "Host", "ホスト";
        session: "Session", "セッション";
    }
}
