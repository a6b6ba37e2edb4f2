//! Texts whose characters are written in more than one way: what they mean, and where in the text each one stands.

use std::ops::Range;

/// A piece of a text, with what it means once percent signs or backslashes are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece {
    /// What it means; bytes that are no UTF-8 are replaced, so that they mean nothing that matters here.
    pub meaning: String,
    /// Where it stands.
    pub at: Range<usize>,
}

/// Where each byte of a meaning comes from.
#[derive(Debug, Default)]
pub(super) struct Decoded {
    bytes: Vec<(u8, Range<usize>)>,
    at: Range<usize>,
}

impl Decoded {
    /// Takes the bytes with their places; `at` is the place of them all, which counts where there are none.
    pub(super) const fn new(bytes: Vec<(u8, Range<usize>)>, at: Range<usize>) -> Self {
        Self { bytes, at }
    }

    /// Reads `%41` as `A`. What only looks like it stays as it is.
    pub(super) fn percent(text: &str, at: Range<usize>) -> Self {
        let raw = text.as_bytes().get(at.clone()).unwrap_or_default();
        let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
        let mut bytes = Vec::with_capacity(raw.len());
        let mut index = 0;
        while let Some(byte) = raw.get(index) {
            let pair = (*byte == b'%')
                .then(|| digit(raw.get(index + 1)).zip(digit(raw.get(index + 2))))
                .flatten();
            let (value, length) = match pair {
                Some((high, low)) => (u8::try_from(high * 16 + low).unwrap_or_default(), 3),
                None => (*byte, 1),
            };
            let start = at.start + index;
            bytes.push((value, start..start + length));
            index += length;
        }
        Self { bytes, at }
    }

    pub(super) fn piece(&self) -> Piece {
        piece(&self.bytes, self.at.start)
    }

    /// Where the first bytes of the meaning stand, which may take more bytes in the text.
    pub(super) fn place_of_first(&self, count: usize) -> Range<usize> {
        let last = count.checked_sub(1).and_then(|last| self.bytes.get(last));
        self.at.start..last.map_or(self.at.start, |(_, at)| at.end)
    }

    /// The pieces between commas.
    pub(super) fn list(&self) -> Vec<Piece> {
        let mut start = self.at.start;
        let mut pieces = Vec::new();
        for part in self.bytes.split_inclusive(|(byte, _)| *byte == b',') {
            let (items, end) = match part.split_last() {
                Some(((b',', comma), items)) => (items, comma.end),
                _ => (part, start),
            };
            pieces.push(piece(items, start));
            start = end;
        }
        if self.bytes.last().is_none_or(|(byte, _)| *byte == b',') {
            pieces.push(Piece { meaning: String::new(), at: start..start });
        }
        pieces
    }
}

fn piece(bytes: &[(u8, Range<usize>)], start: usize) -> Piece {
    let meaning: Vec<u8> = bytes.iter().map(|(byte, _)| *byte).collect();
    let first = bytes.first().map_or(start, |(_, at)| at.start);
    let last = bytes.last().map_or(start, |(_, at)| at.end);
    Piece { meaning: String::from_utf8_lossy(&meaning).into_owned(), at: first..last }
}

/// Puts new texts into places of a text that do not overlap.
pub(super) fn replace(text: &str, mut edits: Vec<(Range<usize>, String)>) -> String {
    edits.sort_by_key(|(at, _)| at.start);
    let mut result = String::with_capacity(text.len() + 32 * edits.len());
    let mut from = 0;
    for (at, new) in &edits {
        result.push_str(text.get(from..at.start).unwrap_or_default());
        result.push_str(new);
        from = at.end;
    }
    result.push_str(text.get(from..).unwrap_or_default());
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_know_their_places() {
        let text = "x=a%2Cb,,c%zz";
        let found: Vec<_> = Decoded::percent(text, 2..text.len())
            .list()
            .into_iter()
            .map(|piece| (piece.meaning, text.get(piece.at).unwrap_or("?").to_owned()))
            .collect();
        let expected = [("a", "a"), ("b", "b"), ("", ""), ("c%zz", "c%zz")];
        assert_eq!(found, expected.map(|(a, b)| (a.to_owned(), b.to_owned())));
        assert_eq!(Decoded::percent("", 0..0).list().len(), 1);
        assert_eq!(Decoded::percent("a,", 0..2).list().len(), 2);
    }

    #[test]
    fn edits_leave_the_rest_alone() {
        let edits = vec![(4..5, "YY".to_owned()), (0..1, String::new())];
        assert_eq!(replace("abcdefg", edits), "bcdYYfg");
    }
}
