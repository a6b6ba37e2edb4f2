//! A patch as lines, each with what it is.

/// A line of a patch.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PatchLine {
    /// The style sheet's word for it; empty for what is around a change.
    pub(crate) kind: &'static str,
    pub(crate) text: String,
}

/// The lines of a patch. What moves a cursor or turns the direction of a text is shown as a sign of its own.
pub(crate) fn patch_lines(patch: &str) -> Vec<PatchLine> {
    let mut in_head = true;
    let mut line = |text: &str| {
        let kind = match text.as_bytes() {
            _ if text.starts_with("diff --git ") => {
                in_head = true;
                "file"
            }
            [b'@', b'@', ..] => {
                in_head = false;
                "place"
            }
            _ if in_head => "",
            [b'+', ..] => "plus",
            [b'-', ..] => "minus",
            _ => "",
        };
        PatchLine { kind, text: text.chars().map(harmless).collect() }
    };
    patch.lines().map(&mut line).collect()
}

fn harmless(c: char) -> char {
    let turns = matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if (c.is_control() && c != '\t') || turns { '\u{fffd}' } else { c }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_is_known_for_what_it_is() {
        let patch =
            "diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n-old\u{202e}\n+new\n same\n";
        let lines = patch_lines(patch);
        let kinds: Vec<&str> = lines.iter().map(|line| line.kind).collect();
        assert_eq!(kinds, ["file", "", "", "place", "minus", "plus", ""]);
        assert_eq!(lines[4].text, "-old\u{fffd}");
    }
}
