//! What every page must hold.

use std::fs;

use serde_json::{Value, json};
use testing::programs::axe_script;

use super::chromium::Browser;

/// Looked at by a script in the page, which gives what is wrong.
const CHECKS: &str = r"
    const wrong = [];
    if (window.pwned) wrong.push('a hostile text ran');
    if (document.querySelectorAll('main').length !== 1) wrong.push('not one main part');
    if (document.querySelectorAll('h1').length !== 1) wrong.push('not one heading');
    if (document.querySelector('[style], style, script:not([src])')) wrong.push('style or script within the page');
    const ids = [...document.querySelectorAll('[id]')].map((e) => e.id);
    for (const id of new Set(ids)) if (ids.filter((other) => other === id).length > 1) wrong.push('twice: #' + id);
    if (document.documentElement.scrollWidth > innerWidth + 1) wrong.push('wider than the window');
    return wrong;
";

/// Runs axe with its options; calls back with one text for each rule that is broken.
const AXE: &str = r"
    const done = arguments[arguments.length - 1];
    const told = (node) => node.html.slice(0, 160) + ': ' + [...node.any, ...node.all, ...node.none].map((c) => c.message).join(', ');
    axe.run(document, arguments[0]).then(
        (found) => done(found.passes.length === 0 ? ['axe looked at nothing'] : found.violations.map((rule) => rule.id + ': ' + rule.nodes.slice(0, 3).map(told).join(' | '))),
        (error) => done(['axe: ' + error]),
    );
";

/// Which of axe's rules are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rules {
    All,
    /// Those that depend on colours.
    Colours,
}

impl Browser {
    /// Checks what every page must hold.
    pub(super) async fn check_page(&self, name: &str) {
        let wrong = self.script(CHECKS).await;
        assert_eq!(wrong, json!([]), "{name}");
    }

    /// Checks that the page keeps nobody out, as far as a program can tell.
    pub(super) async fn check_access(&self, name: &str, rules: Rules) {
        if self.script("return typeof axe === 'undefined'").await == true {
            let checker = fs::read_to_string(axe_script()).expect("axe-core can be read");
            self.script(&checker).await;
        }
        let options = match rules {
            Rules::All => json!({ "resultTypes": ["violations"] }),
            Rules::Colours => json!({
                "resultTypes": ["violations"],
                "runOnly": ["color-contrast", "link-in-text-block"],
            }),
        };
        let wrong = self.script_that_calls_back(AXE, vec![options]).await;
        assert_eq!(wrong, json!([]), "{name}");
    }

    /// Checks that the browser complained of nothing but of these since this was last asked.
    pub(super) async fn check_console(&self, expected: &[&str]) {
        let mut wrong = self.complaints().await;
        wrong.retain(|said| !expected.iter().any(|text| said.contains(text)));
        assert!(wrong.is_empty(), "{wrong:?}");
    }

    /// Checks that the browser asked this server and nobody else since this was last asked.
    pub(super) async fn check_requests(&self) {
        let own = format!("{}/", self.base());
        let asked = self.requests().await;
        assert!(
            asked.iter().any(|url| url.starts_with(&own)),
            "nothing was written down: {asked:?}"
        );
        // What the browser begins with is a page of its own.
        let known =
            |url: &String| [&own, "data:", "chrome:"].iter().any(|begin| url.starts_with(*begin));
        let wrong: Vec<Value> =
            asked.into_iter().filter(|url| !known(url)).map(Value::from).collect();
        assert!(wrong.is_empty(), "{wrong:?}");
    }
}
