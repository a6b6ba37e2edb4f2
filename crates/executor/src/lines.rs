//! Cutting a stream of bytes into lines, with a cap on what one line may hold in memory.

/// Longest line that is read as a whole: 8 MiB. The CLI's own lines stay far below it.
pub(crate) const LINE_LIMIT: usize = 8 * 1024 * 1024;
/// What is kept of a longer one.
const KEPT_OF_LONGER: usize = 4 * 1024;

/// One line, without its end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// All of it; bytes that are no UTF-8 are replaced.
    Whole(String),
    /// The beginning of one that was too long, and how many bytes are missing.
    Cut { start: String, dropped: u64 },
}

/// Collects bytes until a line is complete.
#[derive(Debug, Default)]
pub(crate) struct LineSplitter {
    buffer: Vec<u8>,
    dropped: u64,
}

impl LineSplitter {
    /// Takes bytes and gives each line that is complete now.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Vec<Line> {
        let mut lines = Vec::new();
        let mut pieces = bytes.split(|byte| *byte == b'\n');
        let unfinished = pieces.next_back().unwrap_or_default();
        for piece in pieces {
            self.collect(piece);
            lines.extend(self.take());
        }
        self.collect(unfinished);
        lines
    }

    /// The last line, if the stream did not end with a line end.
    pub(crate) fn finish(&mut self) -> Option<Line> {
        self.take()
    }

    fn collect(&mut self, piece: &[u8]) {
        if self.dropped == 0 && self.buffer.len().saturating_add(piece.len()) <= LINE_LIMIT {
            self.buffer.extend_from_slice(piece);
            return;
        }
        let room = KEPT_OF_LONGER.saturating_sub(self.buffer.len()).min(piece.len());
        self.buffer.extend(piece.iter().take(room));
        let lost = self.buffer.len().saturating_sub(KEPT_OF_LONGER);
        self.buffer.truncate(KEPT_OF_LONGER);
        self.buffer.shrink_to_fit();
        self.dropped = self.dropped.saturating_add((lost + piece.len() - room) as u64);
    }

    fn take(&mut self) -> Option<Line> {
        let bytes = std::mem::take(&mut self.buffer);
        let text = String::from_utf8_lossy(&bytes).trim_ascii_end().to_owned();
        match std::mem::take(&mut self.dropped) {
            0 if text.is_empty() => None,
            0 => Some(Line::Whole(text)),
            dropped => Some(Line::Cut { start: text, dropped }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(text: &str) -> Line {
        Line::Whole(text.to_owned())
    }

    #[test]
    fn lines_and_characters_may_be_split_anywhere() {
        let mut lines = LineSplitter::default();
        let mut got = Vec::new();
        for byte in "añb\r\n\nçd".as_bytes() {
            got.extend(lines.push(&[*byte]));
        }
        got.extend(lines.finish());
        assert_eq!(got, [whole("añb"), whole("çd")]);
    }

    #[test]
    fn a_line_at_the_limit_is_whole_and_a_longer_one_is_cut_whatever_the_chunks() {
        for (length, chunk) in
            [(LINE_LIMIT, 1 << 20), (LINE_LIMIT + 1, 1 << 20), (LINE_LIMIT + 1, 4093)]
        {
            let mut lines = LineSplitter::default();
            let bytes = vec![b'x'; length];
            for piece in bytes.chunks(chunk) {
                assert_eq!(lines.push(piece), []);
            }
            let got = lines.push(b"\nnext\n");
            assert_eq!(got.last(), Some(&whole("next")));
            match got.first() {
                Some(Line::Whole(text)) => assert_eq!((text.len(), length), (length, LINE_LIMIT)),
                Some(Line::Cut { start, dropped }) => {
                    assert!(length > LINE_LIMIT);
                    assert_eq!(start.len(), KEPT_OF_LONGER);
                    assert_eq!(*dropped, (length - KEPT_OF_LONGER) as u64);
                }
                None => panic!("no line"),
            }
        }
    }
}
