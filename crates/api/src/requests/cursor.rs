//! The text of a cursor: opaque to clients, and good for the very query that it came from.
//!
//! It is a place and a checksum of the query's filters. The checksum keeps nobody out; it finds the client that changed
//! a filter half-way, which would silently skip rows.

use std::fmt::Debug;

use store::page::Cursor;

use crate::error::FieldFault;

/// The text of a cursor for a query with these filters.
pub(crate) fn text(cursor: Cursor, filters: &impl Debug) -> String {
    format!("{:08x}{cursor}", checksum(filters))
}

/// Reads a cursor that shall belong to a query with these filters.
pub(crate) fn parse(
    text: Option<&str>,
    filters: &impl Debug,
    faults: &mut Vec<FieldFault>,
) -> Option<Cursor> {
    let text = text?;
    let mut fault = |what: &str| {
        let allowed = "the `next_cursor` of the page before, with the same filters and order";
        faults.push(FieldFault::new("cursor", what, allowed));
    };
    let (sum, place) = text.split_at_checked(8).unwrap_or_default();
    let sum = u32::from_str_radix(sum, 16).ok();
    let place = place.parse::<Cursor>().ok();
    let (Some(sum), Some(place)) = (sum, place) else {
        fault("is not a cursor");
        return None;
    };
    if sum != checksum(filters) {
        fault("belongs to a list with other filters");
        return None;
    }
    Some(place)
}

/// FNV-1a of how the filters are written.
fn checksum(filters: &impl Debug) -> u32 {
    format!("{filters:?}")
        .bytes()
        .fold(0x811c_9dc5, |sum, byte| (sum ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_good_for_its_own_query_only() {
        let cursor: Cursor = "42".parse().unwrap();
        let text = text(cursor, &("a", 1));
        let mut faults = Vec::new();
        assert_eq!(parse(Some(&text), &("a", 1), &mut faults), Some(cursor));
        assert_eq!(parse(None, &"x", &mut faults), None);
        assert!(faults.is_empty());
        for (text, filters) in
            [(text.as_str(), ("b", 1)), ("", ("a", 1)), ("42", ("a", 1)), ("ä€ä€", ("a", 1))]
        {
            assert_eq!(parse(Some(text), &filters, &mut faults), None);
        }
        assert_eq!(faults.len(), 4);
    }
}
