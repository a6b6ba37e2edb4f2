//! Scales of charts: round numbers, of which the half is round as well.

use crate::pages::shown::{dollars, short};

/// What a scale counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    Number,
    Seconds,
    Tokens,
    Dollars,
}

/// Ends of a scale of time, in seconds; each half is a number that people say. Beyond them days are counted.
const SPANS: [f64; 15] = [
    2.0, 4.0, 10.0, 20.0, 40.0, 60.0, 120.0, 240.0, 600.0, 1200.0, 3600.0, 7200.0, 14_400.0,
    28_800.0, 86_400.0,
];
const DAY: f64 = 86_400.0;

/// The end of a scale on which this is the greatest value.
pub(crate) fn top_of(greatest: f64, unit: Unit) -> f64 {
    match unit {
        Unit::Number => decimal(greatest, 2.0),
        Unit::Tokens => decimal(greatest, 20.0),
        Unit::Dollars => decimal(greatest, 0.02),
        Unit::Seconds => {
            let span = SPANS.into_iter().find(|span| *span >= greatest);
            span.unwrap_or_else(|| decimal(greatest / DAY, 2.0) * DAY)
        }
    }
}

/// The first of 2, 4, 10, 20, 40, 100, … times a half of the least that is not below the greatest value.
fn decimal(greatest: f64, least: f64) -> f64 {
    let mut base = least;
    // A number that is greater than all of these is none of ours.
    for _ in 0..20 {
        for times in [1.0, 2.0] {
            if base * times >= greatest {
                return base * times;
            }
        }
        base *= 5.0;
        if base >= greatest {
            return base;
        }
        base *= 2.0;
    }
    base
}

impl Unit {
    /// A value of the scale, in words.
    pub(crate) fn tick(self, value: f64) -> String {
        if value <= 0.0 {
            return "0".to_owned();
        }
        match self {
            Self::Number | Self::Tokens => short(value.round() as u64),
            Self::Dollars => dollars(value),
            Self::Seconds => match value {
                value if value < 60.0 => format!("{value:.0} s"),
                value if value < 3600.0 => format!("{:.0} min", value / 60.0),
                value if value < DAY => format!("{:.0} h", value / 3600.0),
                value => format!("{:.0} d", value / DAY),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_end_at_round_numbers_of_which_the_half_is_round() {
        let ends = [
            (0.0, Unit::Number, "2", "1"),
            (3.0, Unit::Number, "4", "2"),
            (7.0, Unit::Number, "10", "5"),
            (41.0, Unit::Number, "100", "50"),
            (60_001.0, Unit::Number, "100 k", "50.0 k"),
            (0.3, Unit::Seconds, "2 s", "1 s"),
            (95.0, Unit::Seconds, "2 min", "1 min"),
            (50_000.0, Unit::Seconds, "1 d", "12 h"),
            (300_000.0, Unit::Seconds, "4 d", "2 d"),
            (0.015, Unit::Dollars, "$0.0200", "$0.0100"),
            (12.0, Unit::Dollars, "$20.00", "$10.00"),
            (1_500_000.0, Unit::Tokens, "2.0 M", "1.0 M"),
        ];
        for (greatest, unit, end, half) in ends {
            let top = top_of(greatest, unit);
            assert_eq!((unit.tick(top).as_str(), unit.tick(top / 2.0).as_str()), (end, half));
        }
    }
}
