//! The exit codes: what a script may rely on.

use std::process::ExitCode;

macro_rules! codes {
    ($( $(#[$meta:meta])* $variant:ident = $number:literal, $meaning:literal; )+) => {
        /// How the program ends.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Code {
            $( $(#[$meta])* $variant, )+
        }

        impl Code {
            /// Every code, in the order in which documents show them.
            pub(crate) const ALL: &'static [Self] = &[ $( Self::$variant, )+ ];

            /// The number that the shell sees.
            pub(crate) const fn number(self) -> u8 {
                match self { $( Self::$variant => $number, )+ }
            }

            /// What it means, for people.
            pub(crate) const fn meaning(self) -> &'static str {
                match self { $( Self::$variant => $meaning, )+ }
            }
        }
    };
}

codes! {
    Done = 0, "done; with `--follow`: the task is done; `status`: ready";
    Failed = 1, "failed; `status`: running, but not ready; `doctor`: something fails";
    Usage = 2, "the command line, the settings or the content of a request are not valid";
    NotRunning = 3, "no server answers: not running, or not to be reached";
    Forbidden = 4, "the server refuses who asks: a key is missing or wrong";
    NotFound = 5, "what was asked for is not there";
    Conflict = 6, "its present state does not allow it, or somebody else was faster";
    TaskFailed = 10, "followed: the task failed";
    TaskBlocked = 11, "followed: the task is blocked, it waits for something outside";
    TaskCancelled = 12, "followed: the task was cancelled";
    Interrupted = 130, "interrupted by Ctrl-C; what was asked for goes on";
    PipeClosed = 141, "whoever read the output went away";
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        Self::from(code.number())
    }
}

/// The table of codes as `--help` shows it.
pub(crate) fn help() -> String {
    let line = |code: &Code| format!("  {:>3}  {}", code.number(), code.meaning());
    let lines: Vec<String> = Code::ALL.iter().map(line).collect();
    format!("Exit codes:\n{}", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_codes_share_a_number() {
        let mut numbers: Vec<u8> = Code::ALL.iter().map(|code| code.number()).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), Code::ALL.len());
    }

    #[test]
    fn the_page_lists_every_code_with_its_meaning() {
        let page = include_str!("../../../docs/cli.md");
        for code in Code::ALL {
            let row = format!("| {} | {} |", code.number(), code.meaning());
            assert!(page.contains(&row), "docs/cli.md lacks: {row}");
        }
    }
}
