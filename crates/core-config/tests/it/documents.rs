//! The pages for people say what the table says.

use core_config::{document::render_markdown, table::SETTINGS};
use core_types::auth::Language;

#[test]
fn the_committed_pages_are_those_the_table_gives() {
    for (name, language) in [("config.md", Language::English), ("ja/config.md", Language::Japanese)]
    {
        let path = format!("{}/../../docs/{name}", env!("CARGO_MANIFEST_DIR"));
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            committed == render_markdown(language),
            "docs/{name} is not what the settings table gives; run `cargo xtask docs`"
        );
    }
}

#[test]
fn every_setting_has_a_sentence_and_a_row_in_each_language() {
    for language in [Language::English, Language::Japanese] {
        let page = render_markdown(language);
        for setting in SETTINGS {
            assert!(page.contains(&format!("| `{}`", setting.key)), "{}", setting.key);
        }
    }
    for setting in SETTINGS {
        assert!(setting.doc.is_ascii() && setting.doc.ends_with('.'), "{}", setting.key);
        assert!(!setting.doc_ja.is_ascii() && setting.doc_ja.ends_with('。'), "{}", setting.key);
    }
}

#[test]
fn a_description_names_the_same_words_in_each_language() {
    let quoted = |text: &'static str| {
        let mut words: Vec<&str> = text.split('`').skip(1).step_by(2).collect();
        words.sort_unstable();
        words.dedup();
        words
    };
    for setting in SETTINGS {
        let (english, japanese) = (quoted(setting.doc), quoted(setting.doc_ja));
        let missing: Vec<&&str> = english.iter().filter(|word| !japanese.contains(word)).collect();
        assert!(missing.is_empty(), "{}: not in Japanese: {missing:?}", setting.key);
    }
}
