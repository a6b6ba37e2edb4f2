//! Every text of the pages, in each language. A text that lacks one does not compile.
//!
//! What settings do comes from their table. What a check found comes in English from where it is written; it is marked
//! as English.

use core_types::{
    auth::Language,
    task::{RiskLevel, Role, TaskStatus},
    words,
};
use http::StatusCode;

/// Makes a type of texts: a name for each, then English, then Japanese.
macro_rules! texts {
    ($(#[$doc:meta])* $kind:ident { $($name:ident: $english:literal, $japanese:literal;)+ }) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub(crate) struct $kind {
            $(pub(crate) $name: &'static str,)+
        }

        impl $kind {
            const ENGLISH: Self = Self { $($name: $english,)+ };
            const JAPANESE: Self = Self { $($name: $japanese,)+ };

            pub(crate) const fn of(language: Language) -> &'static Self {
                match language {
                    Language::English => &Self::ENGLISH,
                    Language::Japanese => &Self::JAPANESE,
                }
            }
        }
    };
}

pub(crate) mod outcomes;
pub(crate) mod overview;
pub(crate) mod runs;
pub(crate) mod system;
pub(crate) mod tasks;

texts! {
    /// Texts that more than one page has.
    Shared {
        skip: "Skip to content", "本文へ移動";
        main_menu: "Main menu", "メインメニュー";
        nav_overview: "Overview", "概要";
        nav_tasks: "Tasks", "タスク";
        nav_runs: "Runs", "実行";
        nav_agents: "Agents", "エージェント";
        nav_system: "System", "システム";
        other_language: "日本語", "English";
        sign_in: "Sign in", "サインイン";
        sign_out: "Sign out", "サインアウト";
        live_lost: "Connection lost. Trying again…", "接続が切れました。再接続しています…";
        live_back: "Up to date again.", "最新の状態に戻りました。";
        again_title: "Opening", "開いています";
        again_text: "This link comes from another site. The page opens in a moment.", "別のサイトからのリンクです。まもなくページが開きます。";
        again_link: "Open it now", "今すぐ開く";
        failure_back: "Go to the overview", "概要へ移動";
        failure_allowed: "Allowed", "許可される値";
        failure_bad: "This cannot be done as asked", "この内容では実行できません";
        failure_refused: "This is not allowed here", "ここでは許可されていません";
        failure_sign_in: "Please sign in", "サインインしてください";
        failure_nowhere: "There is nothing here", "ここには何もありません";
        failure_conflict: "This is not possible now", "今は実行できません";
        failure_too_many: "Too many requests", "リクエストが多すぎます";
        failure_away: "openTiger cannot answer at the moment", "現在 openTiger は応答できません";
        failure_ours: "Something went wrong on our side", "サーバー側で問題が発生しました";
        failure_bad_text: "Something in the address or in what was entered does not fit. What it is stands below.", "アドレスまたは入力内容に正しくない箇所があります。詳細は次のとおりです。";
        failure_refused_text: "This server does not let you do this from here. The reason stands below.", "この操作はここからは許可されていません。理由は次のとおりです。";
        failure_sign_in_text: "Whoever looks at this page or does this has to sign in with a key.", "このページの表示や操作には、キーによるサインインが必要です。";
        failure_nowhere_text: "The address is wrong, or what was here has been removed.", "アドレスが誤っているか、対象が削除されています。";
        failure_conflict_text: "Things stand otherwise than this needs. Look at the page again, then decide.", "現在の状態ではこの操作を実行できません。ページを確認してからやり直してください。";
        failure_too_many_text: "Wait a minute, then load the page again.", "1 分ほど待ってから、ページを再読み込みしてください。";
        failure_away_text: "Something that it needs, such as its database, does not answer. Nothing is lost; load the page again in a moment.", "データベースなど必要なものが応答していません。データは失われていません。しばらくしてから再読み込みしてください。";
        failure_ours_text: "It was not your doing. Load the page again; if it stays so, the server's log says more.", "操作に問題はありません。再読み込みしても直らない場合は、サーバーのログを確認してください。";
        login_title: "Sign in", "サインイン";
        login_intro: "Enter one of this server's keys. It stays signed in for up to seven days.", "このサーバーのキーを入力してください。サインインは最長 7 日間有効です。";
        login_key: "Key", "キー";
        login_key_hint: "One of API_KEYS, or API_SECRET. Whoever runs this server set them in its environment.", "API_KEYS のいずれか、または API_SECRET です。サーバーの管理者が環境変数で設定しています。";
        login_wrong: "This is none of this server's keys.", "このサーバーのキーではありません。";
        login_too_many: "Too many wrong keys from your address. Wait a minute, then try again.", "間違ったキーの入力が多すぎます。1 分ほど待ってからやり直してください。";
        said_cancelled: "The task is cancelled.", "タスクをキャンセルしました。";
        said_cancel_requested: "The run is asked to stop; the task is cancelled when it has.", "実行に停止を要求しました。停止後にタスクはキャンセルされます。";
        said_retried: "The task is queued once more.", "タスクを再びキューに入れました。";
        said_made: "The task is queued.", "タスクをキューに入れました。";
        said_saved: "Saved. It takes effect as described.", "保存しました。説明のとおりに反映されます。";
        said_switched: "Switched. It holds from the next task on.", "切り替えました。次のタスクから有効です。";
        said_process_asked: "Asked. The state follows in a moment.", "要求しました。まもなく状態に反映されます。";
        said_process_skipped: "Nothing was started: in sandbox mode no agent runs on the host.", "何も起動しませんでした。sandbox モードではホスト上でエージェントを動かしません。";
        said_gate_tried: "The next run is let through to try.", "次の実行を試しに通します。";
        said_self_test_asked: "The self-test is asked for. What it finds shows up here in a few seconds.", "自己診断を要求しました。結果は数秒後にここに表示されます。";
        said_all_stopped: "Everything is asked to stop, and stays stopped until you let it run again.", "すべてに停止を要求しました。再開するまで停止したままです。";
        said_all_started: "The settings decide again what runs.", "設定のとおりに起動するように戻しました。";
        status_queued: "Queued", "待機中";
        status_running: "Running", "実行中";
        status_done: "Done", "完了";
        status_failed: "Failed", "失敗";
        status_blocked: "Blocked", "ブロック中";
        status_cancelled: "Cancelled", "キャンセル済み";
        role_worker: "Worker", "Worker";
        role_tester: "Tester", "Tester";
        role_docser: "Docser", "Docser";
        risk_low: "Low", "低";
        risk_medium: "Medium", "中";
        risk_high: "High", "高";
    }
}

words! {
    /// What a page says was done right before it was opened.
    Said, "word about what was done" {
        Cancelled = "cancelled",
        CancelRequested = "cancel_requested",
        Retried = "retried",
        Made = "made",
        Saved = "saved",
        Switched = "switched",
        ProcessAsked = "process_asked",
        ProcessSkipped = "process_skipped",
        GateTried = "gate_tried",
        SelfTestAsked = "self_test_asked",
        AllStopped = "all_stopped",
        AllStarted = "all_started",
    }
}

impl Said {
    pub(crate) const fn text(self, t: &'static Shared) -> &'static str {
        match self {
            Self::Cancelled => t.said_cancelled,
            Self::CancelRequested => t.said_cancel_requested,
            Self::Retried => t.said_retried,
            Self::Made => t.said_made,
            Self::Saved => t.said_saved,
            Self::Switched => t.said_switched,
            Self::ProcessAsked => t.said_process_asked,
            Self::ProcessSkipped => t.said_process_skipped,
            Self::GateTried => t.said_gate_tried,
            Self::SelfTestAsked => t.said_self_test_asked,
            Self::AllStopped => t.said_all_stopped,
            Self::AllStarted => t.said_all_started,
        }
    }
}

impl Shared {
    pub(crate) const fn status(&self, status: TaskStatus) -> &'static str {
        match status {
            TaskStatus::Queued => self.status_queued,
            TaskStatus::Running => self.status_running,
            TaskStatus::Done => self.status_done,
            TaskStatus::Failed => self.status_failed,
            TaskStatus::Blocked => self.status_blocked,
            TaskStatus::Cancelled => self.status_cancelled,
        }
    }

    pub(crate) const fn role(&self, role: Role) -> &'static str {
        match role {
            Role::Worker => self.role_worker,
            Role::Tester => self.role_tester,
            Role::Docser => self.role_docser,
        }
    }

    pub(crate) const fn risk(&self, risk: RiskLevel) -> &'static str {
        match risk {
            RiskLevel::Low => self.risk_low,
            RiskLevel::Medium => self.risk_medium,
            RiskLevel::High => self.risk_high,
        }
    }

    /// What an error means for whoever looks.
    pub(crate) const fn failure_text(&self, status: StatusCode) -> &'static str {
        match status.as_u16() {
            401 => self.failure_sign_in_text,
            403 => self.failure_refused_text,
            404 | 405 => self.failure_nowhere_text,
            409 | 412 => self.failure_conflict_text,
            429 => self.failure_too_many_text,
            502..=504 => self.failure_away_text,
            500..=599 => self.failure_ours_text,
            _ => self.failure_bad_text,
        }
    }

    /// What a page that shows an error is called.
    pub(crate) const fn failure_title(&self, status: StatusCode) -> &'static str {
        match status.as_u16() {
            401 => self.failure_sign_in,
            403 => self.failure_refused,
            404 | 405 => self.failure_nowhere,
            409 | 412 => self.failure_conflict,
            429 => self.failure_too_many,
            502..=504 => self.failure_away,
            500..=599 => self.failure_ours,
            _ => self.failure_bad,
        }
    }
}
