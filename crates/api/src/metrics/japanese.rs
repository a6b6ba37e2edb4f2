//! What the numbers are, in Japanese, for `docs/ja/metrics.md`.

use store::measures::{Measure, Stretch};

pub(super) const HEAD: &str = "<!-- Written from the table in crates/api/src/metrics.rs by `cargo xtask docs`; do not edit. -->

# 指標

`GET /metrics` が Prometheus のテキスト形式で返すものです。収集の方法と、見るべき条件は [operations.md](operations.md) にあります。
名前と label は、同じ major version の間は変わりません。

`opentiger_build`、`opentiger_database_up`、`opentiger_redis_up`、`opentiger_settings_faults` を除き、値はデータベースから計算され、どのサーバーに問い合わせても同じです。
1つのサーバーから収集するか、サーバーの値を合計しないでください。数えるものがない行は出力されません。
古い run を削除しても、プログラムを起動し直しても、counter は続きから増えます。

| 名前 | 種類 | label | 内容 |
|---|---|---|---|
";

pub(super) const BUILD: &str = "常に 1。問い合わせたサーバーの version を示します。";
pub(super) const DATABASE_UP: &str =
    "データベースが応答したか(1 または 0)。0 の間、データベースから計算する値は出力されません。";
pub(super) const REDIS_UP: &str =
    "問い合わせたサーバーに Redis が応答するか(1 または 0)。Redis がなければ出力されません。";
pub(super) const SETTINGS_FAULTS: &str =
    "使えない設定の行の数。1つでもある間は、何も claim されません。";

pub(super) const fn of_measure(measure: Measure) -> &'static str {
    match measure {
        Measure::Tasks => "残っている task の数(role と status 別)。",
        Measure::Queued => {
            "待っている task の数。何を待つか(dependency、cooldown、area、gate、または順番だけ)で分けます。"
        }
        Measure::Blocked => "blocked の task の数(理由別)。",
        Measure::OldestQueued => {
            "待っている task のうち、最も古いものが作られてからの時間。待つ task がなければ出力されません。"
        }
        Measure::LiveRuns => {
            "生きている run の数。環境 sandbox では、それぞれが1つの container です。"
        }
        Measure::EndedRuns => "終わった run の数(結果別)。すでに削除されたものも数えます。",
        Measure::Tokens => {
            "使った token の数。種類は input、output、cache_read、cache_write です。"
        }
        Measure::Cost => "かかった費用(米ドル、CLI の見積もり)。",
        Measure::DayTokens => "今日(UTC)使った token の数。",
        Measure::DayCost => "今日(UTC)かかった費用(米ドル)。",
        Measure::ExpiredLeases => "lease が切れ、まだどの dispatcher も回収していない run の数。",
        Measure::Agents => "生きている host のエージェントの数(待機中か作業中か)。",
        Measure::Dispatchers => {
            "生きている dispatcher の数(claim しているか、一時停止しているか)。"
        }
        Measure::Processes => "管理されるプロセスの数(状態別)。",
        Measure::Restarts => "管理されるプロセスを、意図しない終了の後に起動した回数。",
        Measure::GateOpen => {
            "executor の run が渡されるか(1 または 0)。行のない provider は開いています。"
        }
        Measure::Notices => "送信待ちの通知と、送信を諦めた通知の数。",
        Measure::DatabaseBytes => "ディスク上のデータベースの大きさ(バイト)。",
    }
}

pub(super) const fn of_stretch(stretch: Stretch) -> &'static str {
    match stretch {
        Stretch::Wait => {
            "task が取れる状態になってから(空きを待つだけになってから)claim されるまで。終わった run について数えます。"
        }
        Stretch::Start => "run が claim されてから、worker が受け取るまで。",
        Stretch::Duration => "worker が run を受け取ってから、run が終わるまで。",
    }
}
