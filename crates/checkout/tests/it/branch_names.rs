//! Our rules for branch names and git's are the same.

use std::path::Path;

use checkout::branch::BranchName;
use testing::repository::try_git_in;

const NAMES: &[&str] = &[
    "main",
    "feature/a-b_c",
    "v1.0",
    "a@b",
    "ä/ö",
    "a{b",
    "@a",
    "x.lockx",
    "opentiger/task-1",
    "a.b",
    "1",
    "head",
    "a;b",
    "a$(b)",
    "a'b",
    "",
    "-a",
    "a b",
    "a..b",
    "a~1",
    "a^",
    "a:b",
    "a?b",
    "a*b",
    "a[b",
    "a\\b",
    "/a",
    "a/",
    "a//b",
    ".a",
    "a/.b",
    "a.",
    "a.lock",
    "a.lock/b",
    "@",
    "a@{b",
    "a\tb",
    "a\nb",
    "HEAD",
    "a\u{7f}",
];

#[test]
fn a_name_is_taken_exactly_when_git_takes_it() {
    for name in NAMES {
        let git = try_git_in(Path::new("/"), &["check-ref-format", "--branch", name]);
        // These two pass here and are refused by `git branch`.
        let expected = git.status.success() && !matches!(*name, "HEAD" | "@");
        assert_eq!(name.parse::<BranchName>().is_ok(), expected, "{name:?}");
    }
}

#[test]
fn a_refused_name_says_which_rule_it_breaks() {
    let error = "--upload-pack=x".parse::<BranchName>().unwrap_err();
    assert_eq!(error.to_string(), "`--upload-pack=x` is no branch name: it starts with `-`");
    assert!("x".repeat(201).parse::<BranchName>().is_err());
}
