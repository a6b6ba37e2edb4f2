//! Times, lengths and sizes as people write and read them.

use std::time::Duration;

use jiff::Timestamp;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// A length of time as people read it: `87 ms`, `3.2 s`, `2 min 05 s`, `3 h 20 min`, `4 d`.
pub(crate) fn length(length: Duration) -> String {
    let seconds = length.as_secs();
    match seconds {
        0 => format!("{} ms", length.as_millis()),
        1..MINUTE => format!("{:.1} s", length.as_secs_f64()),
        MINUTE..HOUR => format!("{} min {:02} s", seconds / MINUTE, seconds % MINUTE),
        HOUR..DAY => format!("{} h {:02} min", seconds / HOUR, seconds % HOUR / MINUTE),
        _ => format!("{} d", seconds / DAY),
    }
}

/// How long ago something was, as short as a column needs it: `12s`, `5m`, `3h`, `4d`.
pub(crate) fn age(since: Timestamp, now: Timestamp) -> String {
    let seconds = u64::try_from(now.duration_since(since).as_secs()).unwrap_or(0);
    match seconds {
        0..MINUTE => format!("{seconds}s"),
        MINUTE..HOUR => format!("{}m", seconds / MINUTE),
        HOUR..DAY => format!("{}h", seconds / HOUR),
        _ => format!("{}d", seconds / DAY),
    }
}

/// A moment in the time of this machine.
pub(crate) fn moment(at: Timestamp) -> String {
    at.to_zoned(jiff::tz::TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// A size as people read it.
pub(crate) fn bytes(bytes: u64) -> String {
    const UNITS: &[&str] = &["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut size = bytes as f64 / 1024.0;
    let mut unit = "KiB";
    for next in UNITS.iter().skip(1) {
        if size < 1024.0 {
            break;
        }
        size /= 1024.0;
        unit = next;
    }
    format!("{size:.1} {unit}")
}

/// Reads a number that is no fraction.
pub(crate) fn parse_number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| "expected a whole number".to_owned())
}

/// Reads a positive number of things.
pub(crate) fn parse_count(text: &str) -> Result<usize, String> {
    let count = parse_number(text).ok().filter(|count| *count > 0);
    count.ok_or_else(|| "expected a whole number from 1 on".to_owned())
}

/// Reads a length of time as people write it: `90`, `90s`, `30m`, `1h30m`, `2d`.
///
/// # Errors
/// What is allowed, where it is none.
pub(crate) fn parse_length(text: &str) -> Result<Duration, String> {
    let refused = || "expected a length of time such as `90s`, `30m`, `1h30m` or `2d`".to_owned();
    let mut seconds = 0_u64;
    let mut digits = String::new();
    for character in text.chars() {
        if character.is_ascii_digit() {
            digits.push(character);
            continue;
        }
        let unit = match character {
            's' => 1,
            'm' => MINUTE,
            'h' => HOUR,
            'd' => DAY,
            _ => return Err(refused()),
        };
        seconds = added(seconds, &digits, unit).ok_or_else(refused)?;
        digits.clear();
    }
    if !digits.is_empty() {
        // A bare number is seconds, but not after a unit: `1h30` says too little.
        let bare = text.len() == digits.len();
        seconds = added(seconds, &digits, 1).filter(|_| bare).ok_or_else(refused)?;
    }
    if seconds == 0 { Err(refused()) } else { Ok(Duration::from_secs(seconds)) }
}

fn added(seconds: u64, digits: &str, unit: u64) -> Option<u64> {
    seconds.checked_add(digits.parse::<u64>().ok()?.checked_mul(unit)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_read_as_people_write_them() {
        for (text, seconds) in
            [("90", 90), ("90s", 90), ("30m", 1800), ("1h30m", 5400), ("2d", 172_800)]
        {
            assert_eq!(parse_length(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "m", "1h30", "0s", "-1", "1.5h", "99999999999999999999d", "1w"] {
            assert!(parse_length(text).is_err(), "{text}");
        }
    }

    #[test]
    fn lengths_and_sizes_are_written_in_their_unit() {
        assert_eq!(length(Duration::from_millis(87)), "87 ms");
        assert_eq!(length(Duration::from_millis(3_240)), "3.2 s");
        assert_eq!(length(Duration::from_secs(125)), "2 min 05 s");
        assert_eq!(length(Duration::from_secs(12_000)), "3 h 20 min");
        assert_eq!(bytes(12), "12 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(3 << 30), "3.0 GiB");
    }

    #[test]
    fn ages_are_short_and_never_negative() {
        let now = Timestamp::from_second(1_000_000).unwrap();
        let before = |seconds: i64| Timestamp::from_second(1_000_000 - seconds).unwrap();
        assert_eq!(age(before(5), now), "5s");
        assert_eq!(age(before(3_700), now), "1h");
        assert_eq!(age(before(-5), now), "0s");
    }
}
