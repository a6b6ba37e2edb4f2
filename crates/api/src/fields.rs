//! Checks on single fields of a request, each of which says what is allowed.

use crate::error::FieldFault;

/// Collects the faults of one object's fields.
#[derive(Debug, Default)]
pub(crate) struct Faults(pub(crate) Vec<FieldFault>);

impl Faults {
    pub(crate) fn add(
        &mut self,
        field: impl Into<String>,
        what: impl Into<String>,
        allowed: impl Into<String>,
    ) {
        self.0.push(FieldFault::new(field, what, allowed));
    }

    /// A text on one line.
    pub(crate) fn line(&mut self, field: &str, text: &str, max_bytes: usize) {
        let allowed = format!("a text on one line, 1 to {max_bytes} bytes long");
        if let Some(what) = length_fault(text, max_bytes) {
            self.add(field, what, allowed);
        } else if text.chars().any(char::is_control) {
            self.add(field, "has a control character", allowed);
        } else if text.trim().is_empty() {
            self.add(field, "is blank", allowed);
        }
    }

    /// A text of any number of lines.
    pub(crate) fn prose(&mut self, field: &str, text: &str, max_bytes: usize) {
        let allowed = format!("a text of 1 to {max_bytes} bytes");
        let forbidden = |c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t');
        if let Some(what) = length_fault(text, max_bytes) {
            self.add(field, what, allowed);
        } else if text.chars().any(forbidden) {
            self.add(field, "has a control character other than line breaks and tabs", allowed);
        } else if text.trim().is_empty() {
            self.add(field, "is blank", allowed);
        }
    }

    /// A number in a range.
    pub(crate) fn range<T: PartialOrd + std::fmt::Display>(
        &mut self,
        field: &str,
        number: &T,
        range: &std::ops::RangeInclusive<T>,
    ) {
        if !range.contains(number) {
            let allowed = format!("a number from {} to {}", range.start(), range.end());
            self.add(field, format!("is {number}, which is out of range"), allowed);
        }
    }
}

fn length_fault(text: &str, max_bytes: usize) -> Option<String> {
    if text.is_empty() {
        return Some("is empty".to_owned());
    }
    (text.len() > max_bytes).then(|| format!("is {} bytes long, limit {max_bytes}", text.len()))
}
