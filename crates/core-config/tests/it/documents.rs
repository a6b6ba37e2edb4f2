//! The page for people says what the table says.

use core_config::{document::render_markdown, table::SETTINGS};

#[test]
fn the_committed_page_is_the_one_the_table_gives() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/config.md");
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        committed == render_markdown(),
        "docs/config.md is not what the settings table gives; run `cargo xtask docs`"
    );
}

#[test]
fn every_setting_has_a_sentence_and_a_row() {
    let page = render_markdown();
    for setting in SETTINGS {
        assert!(page.contains(&format!("| `{}`", setting.key)), "{}", setting.key);
        assert!(setting.doc.ends_with('.'), "{}", setting.key);
    }
}
