//! What goes wrong again and again, said once: when it begins, when it changes, and when it is over.

use std::collections::BTreeMap;

use store::error::StoreError;
use telemetry::chain::error_chain;

/// What each part of a loop last complained about.
#[derive(Debug, Default)]
pub struct Complaints {
    said: BTreeMap<&'static str, String>,
}

/// Whether something is worth a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// It went wrong, and differently than the last time.
    Fault,
    /// It works again.
    Over,
    /// As the last time.
    Nothing,
}

impl Complaints {
    /// Passes on what a part of a loop gave; its error is logged when it is news.
    pub fn note<T>(&mut self, part: &'static str, result: Result<T, StoreError>) -> Option<T> {
        // The kind of error alone: its causes name ports and times that differ each second.
        let kind = result.as_ref().err().map(ToString::to_string);
        match (self.news(part, kind), &result) {
            (News::Fault, Err(error)) if error.is_transient() => {
                tracing::warn!(part, error = %error_chain(error), "the database fails, trying again");
            }
            (News::Fault, Err(error)) => {
                tracing::error!(part, error = %error_chain(error), "the database fails");
            }
            (News::Over, _) => tracing::info!(part, "the database works again"),
            (News::Fault | News::Nothing, _) => {}
        }
        result.ok()
    }

    /// Remembers how a part fared, and tells whether that is news.
    pub fn news(&mut self, part: &'static str, fault: Option<String>) -> News {
        match fault {
            Some(fault) if self.said.get(part) == Some(&fault) => News::Nothing,
            Some(fault) => {
                self.said.insert(part, fault);
                News::Fault
            }
            None if self.said.remove(part).is_some() => News::Over,
            None => News::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_news_when_it_begins_changes_and_ends() {
        let mut complaints = Complaints::default();
        let away = || Some("away".to_owned());
        assert_eq!(complaints.news("look", None), News::Nothing);
        assert_eq!(complaints.news("look", away()), News::Fault);
        assert_eq!(complaints.news("look", away()), News::Nothing);
        assert_eq!(complaints.news("beat", away()), News::Fault);
        assert_eq!(complaints.news("look", Some("refused".to_owned())), News::Fault);
        assert_eq!(complaints.news("look", None), News::Over);
        assert_eq!(complaints.news("look", None), News::Nothing);
    }
}
