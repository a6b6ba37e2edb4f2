//! The files under `docs/` that are written from code: settings, metrics and the API's description.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result, bail};
use core_types::auth::Language;

use crate::{console::line, workspace};

/// Writes the files anew, or only checks that they are in step.
pub(crate) fn run(check: bool) -> Result<()> {
    let mut stale = Vec::new();
    for (path, wanted) in files()? {
        let full = workspace::root().join(&path);
        if fs::read_to_string(&full).is_ok_and(|text| text == wanted) {
            continue;
        }
        if !check {
            fs::write(&full, wanted).with_context(|| format!("write `{}`", full.display()))?;
            line(format!("docs: wrote {}", path.display()));
        }
        stale.push(path.display().to_string());
    }
    if check && !stale.is_empty() {
        bail!("out of step with the code: {}; run `cargo xtask docs`", stale.join(", "));
    }
    Ok(())
}

fn files() -> Result<Vec<(PathBuf, String)>> {
    let settings = core_config::document::render_markdown;
    let api = api::openapi::render_json().context("write the API's description")?;
    let metrics = api::metrics::render_markdown;
    Ok(vec![
        ("docs/config.md".into(), settings(Language::English)),
        ("docs/ja/config.md".into(), settings(Language::Japanese)),
        ("docs/metrics.md".into(), metrics(Language::English)),
        ("docs/ja/metrics.md".into(), metrics(Language::Japanese)),
        ("docs/openapi.json".into(), api),
    ])
}
