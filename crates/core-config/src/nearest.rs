//! The nearest known name for a mistyped one.

/// The most similar candidate, where one is similar enough to be what was meant.
pub(crate) fn nearest<'a>(
    given: &str,
    candidates: impl Iterator<Item = &'a str>,
) -> Option<&'a str> {
    let allowed = (given.chars().count() / 4).max(2);
    candidates
        .map(|candidate| (distance(given, candidate), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min()
        .map(|(_, candidate)| candidate)
}

/// The least number of inserted, removed and replaced characters between two texts.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (line, from) in left.chars().enumerate() {
        let mut diagonal = line;
        let mut before = line + 1;
        if let Some(first) = row.first_mut() {
            *first = before;
        }
        for (cell, to) in row.iter_mut().skip(1).zip(&right) {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = *cell;
            before = replaced.min(before + 1).min(diagonal + 1);
            *cell = before;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_single_changes() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", "abc"), 0);
        assert_eq!(distance("kitten", "sitting"), 3);
    }

    #[test]
    fn only_a_similar_name_is_suggested() {
        let known = ["OPENTIGER_LOG", "OPENTIGER_STATE_DIR"];
        let suggest = |given| nearest(given, known.into_iter());
        assert_eq!(suggest("OPENTIGER_STATEDIR"), Some("OPENTIGER_STATE_DIR"));
        assert_eq!(suggest("OPENTIGER_LGO"), Some("OPENTIGER_LOG"));
        assert_eq!(suggest("UNRELATED"), None);
    }
}
