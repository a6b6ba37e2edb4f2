//! Values as people read them: moments, spans, amounts. Each is right without the script, which only keeps moments fresh.

use std::fmt;

use askama::filters::HtmlSafe;
use core_types::{auth::Language, outcome::RunOutcome, task::TaskStatus};
use jiff::{Timestamp, fmt::strtime};

/// HTML that was made here from escaped parts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Markup(String);

impl fmt::Display for Markup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl HtmlSafe for Markup {}

/// How long ago a moment was, or how soon it is; the script keeps it fresh.
pub(crate) fn ago(at: Timestamp, now: Timestamp, language: Language) -> Markup {
    let text = relative(at, now, language);
    let iso = strtime::format("%Y-%m-%dT%H:%M:%SZ", at).unwrap_or_default();
    let exact = strtime::format("%Y-%m-%d %H:%M:%S UTC", at).unwrap_or_default();
    Markup(format!("<time datetime=\"{iso}\" title=\"{exact}\">{text}</time>"))
}

fn relative(at: Timestamp, now: Timestamp, language: Language) -> String {
    let seconds = now.as_second() - at.as_second();
    let far = seconds.unsigned_abs();
    if far < 5 {
        return match language {
            Language::English => "now".to_owned(),
            Language::Japanese => "たった今".to_owned(),
        };
    }
    let (number, english, japanese) = match far {
        0..60 => (far, "s", "秒"),
        60..3600 => (far / 60, "min", "分"),
        3600..86_400 => (far / 3600, "h", "時間"),
        _ => (far / 86_400, "d", "日"),
    };
    match (language, seconds > 0) {
        (Language::English, true) => format!("{number} {english} ago"),
        (Language::English, false) => format!("in {number} {english}"),
        (Language::Japanese, true) => format!("{number} {japanese}前"),
        (Language::Japanese, false) => format!("{number} {japanese}後"),
    }
}

/// A span, in its two greatest units.
pub(crate) fn span(seconds: f64) -> String {
    // A span that is longer than a hundred years, negative or no number is none of ours.
    let tenths = (seconds.clamp(0.0, 4e9) * 10.0).round() as u64;
    let whole = tenths / 10;
    match whole {
        0..10 => format!("{}.{} s", whole, tenths % 10),
        10..60 => format!("{whole} s"),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        3600..86_400 => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
        _ => format!("{} d {} h", whole / 86_400, whole % 86_400 / 3600),
    }
}

/// A number with its thousands told apart.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A large number in short.
pub(crate) fn short(number: u64) -> String {
    let (unit, letter) = match number {
        0..10_000 => return count(number),
        10_000..1_000_000 => (1_000, 'k'),
        1_000_000..1_000_000_000 => (1_000_000, 'M'),
        _ => (1_000_000_000, 'G'),
    };
    let tenths = number / (unit / 10);
    if tenths >= 1000 {
        format!("{} {letter}", tenths / 10)
    } else {
        format!("{}.{} {letter}", tenths / 10, tenths % 10)
    }
}

/// US dollars.
pub(crate) fn dollars(usd: f64) -> String {
    if usd > 0.0 && usd < 0.995 { format!("${usd:.4}") } else { format!("${usd:.2}") }
}

/// The colour of a task's state, as the style sheet names it.
pub(crate) const fn tone(status: TaskStatus) -> &'static str {
    match status {
        TaskStatus::Queued => "wait",
        TaskStatus::Running => "busy",
        TaskStatus::Done => "good",
        TaskStatus::Failed => "bad",
        TaskStatus::Blocked => "warn",
        TaskStatus::Cancelled => "off",
    }
}

/// The colour of how a run came out.
pub(crate) const fn run_tone(outcome: Option<RunOutcome>) -> &'static str {
    match outcome {
        None => "busy",
        Some(RunOutcome::Succeeded | RunOutcome::NoChange) => "good",
        Some(RunOutcome::Cancelled | RunOutcome::Interrupted) => "off",
        Some(
            RunOutcome::QuotaExceeded
            | RunOutcome::ProviderOverloaded
            | RunOutcome::LoginRequired
            | RunOutcome::KeyRejected,
        ) => "warn",
        Some(_) => "bad",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_and_amounts_are_short() {
        let spans = [
            (0.04, "0.0 s"),
            (9.99, "10 s"),
            (59.0, "59 s"),
            (61.0, "1 min 1 s"),
            (3720.0, "1 h 2 min"),
            (90_000.0, "1 d 1 h"),
            (-1.0, "0.0 s"),
            (f64::NAN, "0.0 s"),
        ];
        for (seconds, text) in spans {
            assert_eq!(span(seconds), text);
        }
        let numbers = [
            (0, "0"),
            (9_999, "9,999"),
            (12_345, "12.3 k"),
            (999_999, "999 k"),
            (1_234_567, "1.2 M"),
            (5_000_000_000, "5.0 G"),
        ];
        for (number, text) in numbers {
            assert_eq!(short(number), text);
        }
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(
            (dollars(0.0), dollars(0.0123), dollars(12.345)),
            ("$0.00".to_owned(), "$0.0123".to_owned(), "$12.35".to_owned())
        );
    }

    #[test]
    fn moments_are_told_from_now() {
        let now: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        let at = |seconds: i64| Timestamp::from_second(now.as_second() + seconds).unwrap();
        for (seconds, english, japanese) in [
            (0, "now", "たった今"),
            (-30, "30 s ago", "30 秒前"),
            (-7200, "2 h ago", "2 時間前"),
            (300, "in 5 min", "5 分後"),
        ] {
            assert_eq!(relative(at(seconds), now, Language::English), english);
            assert_eq!(relative(at(seconds), now, Language::Japanese), japanese);
        }
        let shown = ago(at(-60), now, Language::English).to_string();
        assert_eq!(
            shown,
            "<time datetime=\"2026-01-02T03:03:05Z\" title=\"2026-01-02 03:03:05 UTC\">1 min ago</time>"
        );
    }
}
