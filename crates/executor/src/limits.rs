//! Reset times from texts, where the CLI tells no number: the last resort.

use jiff::{
    Timestamp, ToSpan as _,
    civil::{Date, DateTime, Time},
    tz::TimeZone,
};

/// Whether a text says that the account's limit is reached.
pub(crate) fn says_limit_reached(text: &str) -> bool {
    let text = text.to_lowercase();
    let hit = ["hit your", "reached your", "usage limit reached", "limit reached"];
    text.contains("limit")
        && hit.iter().any(|word| text.contains(word))
        && !text.contains("not your usage limit")
}

/// When the limit that a text speaks of is lifted, seen from `now`.
///
/// Understands `…limit reached|1763900000` (seconds since 1970), `resets 9:05am (UTC)` and
/// `resets Nov 27, 12:05pm (Europe/Berlin)`; without a zone the time is taken as UTC.
pub(crate) fn reset_time(text: &str, now: Timestamp) -> Option<Timestamp> {
    after_bar(text).or_else(|| {
        let (_, told) = text.rsplit_once("resets ")?;
        let (when, zone) = told.split_once('(').map_or((told, None), |(when, rest)| {
            (when, rest.split_once(')').map(|(zone, _)| zone))
        });
        let zone = zone.map_or(Some(TimeZone::UTC), time_zone)?;
        told_time(when.trim().trim_start_matches("at "), &zone, now)
    })
}

fn after_bar(text: &str) -> Option<Timestamp> {
    let (_, number) = text.rsplit_once('|')?;
    let digits: String = number.trim().chars().take_while(char::is_ascii_digit).collect();
    let seconds: i64 = digits.parse().ok()?;
    // Below this it is no point in time of this century.
    (seconds > 1_000_000_000).then(|| Timestamp::from_second(seconds).ok())?
}

fn time_zone(name: &str) -> Option<TimeZone> {
    match name.trim() {
        "UTC" | "GMT" => Some(TimeZone::UTC),
        name => TimeZone::get(name).ok(),
    }
}

fn told_time(when: &str, zone: &TimeZone, now: Timestamp) -> Option<Timestamp> {
    let today = now.to_zoned(zone.clone()).datetime();
    let (day, time) = match when.rsplit_once(',') {
        Some((day, time)) => (Some(month_and_day(day, today.date())?), time),
        None => (None, when),
    };
    let time = time_of_day(time.trim())?;
    let told = match day {
        Some(day) => day.to_datetime(time),
        None => next_at(today, time)?,
    };
    told.to_zoned(zone.clone()).ok().map(|told| told.timestamp())
}

/// The next moment with this time of day.
fn next_at(today: DateTime, time: Time) -> Option<DateTime> {
    let told = today.date().to_datetime(time);
    if told > today { Some(told) } else { told.checked_add(1.day()).ok() }
}

/// A day such as `Nov 27`: of this year, or of the next where it would lie months back.
fn month_and_day(text: &str, today: Date) -> Option<Date> {
    let (month, day) = text.trim().split_once(' ')?;
    let months =
        ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
    let start = month.to_lowercase();
    let index = months.iter().position(|name| start.starts_with(name))?;
    let month = i8::try_from(index.checked_add(1)?).ok()?;
    let day = day.trim().parse().ok()?;
    let date = Date::new(today.year(), month, day).ok()?;
    let long_past = today.checked_sub(31.days()).is_ok_and(|limit| date < limit);
    if long_past { Date::new(today.year().checked_add(1)?, month, day).ok() } else { Some(date) }
}

/// A time of day such as `9am` or `12:05pm`.
fn time_of_day(text: &str) -> Option<Time> {
    let text = text.trim().to_lowercase();
    let (digits, afternoon) = match (text.strip_suffix("am"), text.strip_suffix("pm")) {
        (Some(digits), _) => (digits, false),
        (None, Some(digits)) => (digits, true),
        (None, None) => return None,
    };
    let (hour, minute) = digits.trim().split_once(':').unwrap_or((digits.trim(), "0"));
    let hour: i8 = hour.parse().ok().filter(|hour| (1..=12).contains(hour))?;
    let hour = (hour % 12).checked_add(if afternoon { 12 } else { 0 })?;
    Time::new(hour, minute.parse().ok()?, 0, 0).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reset(text: &str, now: &str) -> Option<String> {
        reset_time(text, now.parse().unwrap()).map(|at| at.to_string())
    }

    #[test]
    fn known_texts_give_their_time() {
        let now = "2026-11-23T08:00:00Z";
        for (text, expected) in [
            ("You've hit your 5-hour limit · resets 9:05am (UTC)", "2026-11-23T09:05:00Z"),
            ("You've hit your 5-hour limit · resets 7am (UTC)", "2026-11-24T07:00:00Z"),
            ("You've hit your weekly limit · resets Nov 27, 12:05pm (UTC)", "2026-11-27T12:05:00Z"),
            ("You've hit your weekly limit · resets Jan 2, 12am (UTC)", "2027-01-02T00:00:00Z"),
            ("You've hit your session limit · resets 11am (Europe/Berlin)", "2026-11-23T10:00:00Z"),
            ("Claude AI usage limit reached|1795439380", "2026-11-23T13:09:40Z"),
        ] {
            assert!(says_limit_reached(text), "{text}");
            assert_eq!(reset(text, now).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn other_texts_give_none() {
        let now = "2026-11-23T08:00:00Z";
        for text in [
            "",
            "resets",
            "resets soon",
            "resets 13pm (UTC)",
            "resets 9:75am (UTC)",
            "resets Foo 1, 9am (UTC)",
            "resets 9am (Nowhere/Land)",
            "limit reached|12",
            "a|b",
        ] {
            assert_eq!(reset(text, now), None, "{text}");
        }
        let other = "Server is temporarily limiting requests (not your usage limit) · Rate limited";
        assert!(!says_limit_reached(other));
    }
}
