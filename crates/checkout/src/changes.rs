//! How much a result changes, from git's own count.

/// How much a result changes.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Changes {
    pub(crate) files_changed: u32,
    pub(crate) insertions: u64,
    pub(crate) deletions: u64,
}

/// Adds up the output of `git diff-tree --numstat`; binary files have `-` in place of numbers.
pub(crate) fn parse_changes(output: &[u8]) -> Changes {
    let text = String::from_utf8_lossy(output);
    text.lines().fold(Changes::default(), |sum, line| {
        let mut numbers = line.split('\t').map(|field| field.parse::<u64>().unwrap_or_default());
        Changes {
            files_changed: sum.files_changed.saturating_add(1),
            insertions: sum.insertions.saturating_add(numbers.next().unwrap_or_default()),
            deletions: sum.deletions.saturating_add(numbers.next().unwrap_or_default()),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_add_up_and_binary_files_count_as_files() {
        let changes = parse_changes(b"1\t2\ta\n-\t-\tb\n3\t0\tc\n");
        assert_eq!(changes, Changes { files_changed: 3, insertions: 4, deletions: 2 });
    }
}
