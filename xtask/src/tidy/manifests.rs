//! Rules about packages: the arrows between them, where a library may be used, what each manifest must say.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::{
    Finding, TextFile,
    layers::{FOR_TESTS_ONLY, HOMES, LAYERS, PARTS_OF_PROGRAMS},
};
use crate::{binaries, workspace};

/// Checks every package of the workspace.
pub(crate) fn check(files: &[TextFile]) -> Result<Vec<Finding>> {
    let metadata = binaries::metadata()?;
    let packages = metadata.get("packages").and_then(Value::as_array);
    let packages = packages.context("find `packages` in the output of `cargo metadata`")?;
    let mut findings = Vec::new();
    for package in packages {
        let package = Package::read(package, files)?;
        findings.extend(package.check());
    }
    Ok(findings)
}

/// One package: what cargo knows of it and its manifest's text.
#[derive(Debug)]
struct Package<'a> {
    name: &'a str,
    publishes: bool,
    has_program: bool,
    manifest: PathBuf,
    text: &'a str,
    sources: Vec<&'a TextFile>,
    dependencies: Vec<Dependency<'a>>,
}

#[derive(Debug)]
struct Dependency<'a> {
    name: &'a str,
    for_tests: bool,
    is_ours: bool,
}

impl<'a> Package<'a> {
    fn read(package: &'a Value, files: &'a [TextFile]) -> Result<Self> {
        let text = |key: &str| package.get(key).and_then(Value::as_str);
        let list = |key: &str| package.get(key).and_then(Value::as_array).into_iter().flatten();
        let manifest = PathBuf::from(text("manifest_path").context("find a package's manifest")?);
        let manifest = manifest.strip_prefix(workspace::root()).unwrap_or(&manifest).to_owned();
        let file = files.iter().find(|file| file.path == manifest);
        let folder = manifest.parent().context("find a package's folder")?;
        let is_source = |file: &&TextFile| {
            file.path.starts_with(folder) && file.path.extension().is_some_and(|kind| kind == "rs")
        };
        Ok(Self {
            name: text("name").context("find a package's name")?,
            publishes: package.get("publish").is_none_or(Value::is_null),
            has_program: list("targets").any(is_program),
            text: file.map_or("", |file| file.text.as_str()),
            dependencies: list("dependencies").filter_map(Dependency::read).collect(),
            sources: files.iter().filter(is_source).collect(),
            manifest,
        })
    }

    fn check(&self) -> Vec<Finding> {
        let mut findings = self.check_manifest();
        findings.extend(self.check_layers());
        findings.extend(self.check_libraries());
        findings.extend(self.check_use());
        findings
    }

    fn check_manifest(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        let folder = self.manifest.parent().and_then(Path::file_name).unwrap_or_default();
        if folder != self.name {
            findings.push(self.finding(
                "",
                "folder-is-package",
                "name the folder like the package",
            ));
        }
        if self.publishes {
            findings.push(self.finding("", "publish", "add `publish.workspace = true`"));
        }
        if !self.text.contains("[lints]\nworkspace = true") {
            let repair = "add `[lints]` with `workspace = true`";
            findings.push(self.finding("", "workspace-lints", repair));
        }
        findings.extend(self.check_versions());
        findings
    }

    /// Every version stands in the workspace's manifest, so that a dependency has one.
    fn check_versions(&self) -> Vec<Finding> {
        let mut section = "";
        let mut findings = Vec::new();
        for (index, line) in self.text.lines().enumerate() {
            if line.starts_with('[') {
                section = line;
            }
            let declares = section.contains("dependencies") && line.contains('=');
            let is_fixed = line.contains("workspace = true") || line.contains("path = \".\"");
            if declares && !is_fixed {
                findings.push(Finding {
                    file: self.manifest.clone(),
                    line: index + 1,
                    rule: "one-version",
                    repair:
                        "put the version into the root manifest and write `name.workspace = true`"
                            .to_owned(),
                });
            }
        }
        findings
    }

    fn check_layers(&self) -> Vec<Finding> {
        let Some(layer) = LAYERS.iter().find(|layer| layer.package == self.name) else {
            let repair = "add the package to the table in `xtask/src/tidy/layers.rs`";
            return vec![self.finding("", "layers", repair)];
        };
        let is_allowed = |dependency: &&Dependency<'_>| {
            layer.uses.contains(&dependency.name)
                || (dependency.for_tests && layer.tests_use.contains(&dependency.name))
                || dependency.name == self.name
        };
        let ours = self.dependencies.iter().filter(|dependency| dependency.is_ours);
        ours.filter(|dependency| !is_allowed(dependency))
            .map(|dependency| {
                let repair = format!(
                    "`{}` may not know `{}`; turn the arrow round, or decide otherwise in \
                     `xtask/src/tidy/layers.rs`",
                    self.name, dependency.name
                );
                self.finding(dependency.name, "layers", repair)
            })
            .collect()
    }

    fn check_libraries(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        for dependency in &self.dependencies {
            let home = HOMES.iter().find(|(library, _)| *library == dependency.name);
            if let Some((_, homes)) = home
                && !homes.contains(&self.name)
            {
                let repair = format!("only {} may use it; ask there", homes.join(", "));
                findings.push(self.finding(dependency.name, "library-home", repair));
            }
            // The workspace's own commands run the tests, and start what these need.
            let is_product = self.name != "xtask";
            if is_product && FOR_TESTS_ONLY.contains(&dependency.name) && !dependency.for_tests {
                let repair = "move it to `[dev-dependencies]`";
                findings.push(self.finding(dependency.name, "tests-only", repair));
            }
            let has_people = self.has_program || PARTS_OF_PROGRAMS.contains(&self.name);
            if dependency.name == "anyhow" && !dependency.for_tests && !has_people {
                let repair = "a library's errors are enums made with `thiserror`";
                findings.push(self.finding("anyhow", "typed-errors", repair));
            }
        }
        findings
    }

    /// A dependency whose name stands in no source is not used.
    fn check_use(&self) -> Vec<Finding> {
        let is_used = |dependency: &&Dependency<'_>| {
            let word = dependency.name.replace('-', "_");
            self.sources.iter().any(|file| file.text.contains(&word))
        };
        let unused = self.dependencies.iter().filter(|dependency| !is_used(dependency));
        unused
            .map(|one| {
                let repair = format!("nothing here uses `{}`; cut it", one.name);
                self.finding(one.name, "unused-dependency", repair)
            })
            .collect()
    }

    /// A finding at the line that starts with `needle`.
    fn finding(&self, needle: &str, rule: &'static str, repair: impl Into<String>) -> Finding {
        let at = self.text.lines().position(|line| !needle.is_empty() && line.starts_with(needle));
        let line = at.map_or(0, |index| index + 1);
        Finding { file: self.manifest.clone(), line, rule, repair: repair.into() }
    }
}

impl<'a> Dependency<'a> {
    fn read(value: &'a Value) -> Option<Self> {
        Some(Self {
            name: value.get("name")?.as_str()?,
            for_tests: value.get("kind").and_then(Value::as_str) == Some("dev"),
            is_ours: value.get("path").is_some_and(Value::is_string),
        })
    }
}

fn is_program(target: &Value) -> bool {
    let kinds = target.get("kind").and_then(Value::as_array).into_iter().flatten();
    kinds.filter_map(Value::as_str).any(|kind| kind == "bin")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rules(name: &str, dependencies: &Value, manifest: &str) -> Vec<&'static str> {
        let path = workspace::root().join("crates").join(name).join("Cargo.toml");
        let package = json!({
            "name": name,
            "manifest_path": path,
            "publish": [],
            "targets": [{ "kind": ["lib"] }],
            "dependencies": dependencies,
        });
        let path = PathBuf::from("crates").join(name).join("Cargo.toml");
        let names = dependencies.as_array().into_iter().flatten();
        let uses: Vec<String> = names.map(|one| format!("use {};", one["name"])).collect();
        let source = path.with_file_name("lib.rs");
        let files = [
            TextFile { path, text: manifest.to_owned() },
            TextFile { path: source, text: uses.join("\n").replace('-', "_") },
        ];
        let findings = Package::read(&package, &files).unwrap().check();
        findings.into_iter().map(|finding| finding.rule).collect()
    }

    const CLEAN: &str = "[dependencies]\nserde.workspace = true\n\n[lints]\nworkspace = true\n";

    #[test]
    fn a_clean_package_has_no_findings() {
        assert_eq!(
            rules("store", &json!([{ "name": "core-types", "path": "/x" }]), CLEAN),
            [""; 0]
        );
    }

    #[test]
    fn arrows_against_the_layers_are_found() {
        assert_eq!(
            rules("store", &json!([{ "name": "dispatch", "path": "/x" }]), CLEAN),
            ["layers"]
        );
        assert_eq!(
            rules("launcher", &json!([{ "name": "core-types", "path": "/x" }]), CLEAN),
            ["layers"]
        );
        assert_eq!(rules("no-such-package", &json!([]), CLEAN), ["layers"]);
    }

    #[test]
    fn a_test_crate_in_product_code_is_found() {
        let product = json!([{ "name": "testing", "path": "/x", "kind": null }]);
        let tests = json!([{ "name": "testing", "path": "/x", "kind": "dev" }]);
        assert_eq!(rules("store", &product, CLEAN), ["layers", "tests-only"]);
        assert_eq!(rules("store", &tests, CLEAN), [""; 0]);
    }

    #[test]
    fn a_dependency_that_no_source_names_is_found() {
        let package = Package {
            name: "store",
            publishes: false,
            has_program: false,
            manifest: PathBuf::from("crates/store/Cargo.toml"),
            text: CLEAN,
            sources: Vec::new(),
            dependencies: vec![Dependency { name: "serde", for_tests: false, is_ours: false }],
        };
        let rules: Vec<&str> = package.check().iter().map(|finding| finding.rule).collect();
        assert_eq!(rules, ["unused-dependency"]);
    }

    #[test]
    fn libraries_outside_their_home_are_found() {
        assert_eq!(
            rules("dispatch", &json!([{ "name": "tokio-postgres" }]), CLEAN),
            ["library-home"]
        );
        assert_eq!(rules("dispatch", &json!([{ "name": "anyhow" }]), CLEAN), ["typed-errors"]);
    }

    #[test]
    fn own_versions_and_missing_lints_are_found() {
        let manifest = "[dependencies]\nserde = \"1\"\n";
        assert_eq!(rules("store", &json!([]), manifest), ["workspace-lints", "one-version"]);
    }
}
