//! What a run changed, as clients see it.

use checkout::{
    diff::{Change, ChangedFile, Diff},
    git::CommitId,
};
use core_types::ids::RunId;
use serde::Serialize;
use utoipa::ToSchema;

/// What a run changed.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DiffView {
    #[schema(schema_with = crate::schema::run_id)]
    pub(crate) run: RunId,
    /// The commit the run started from.
    pub(crate) base_commit: String,
    /// The commit that holds its result.
    pub(crate) commit: String,
    /// The branch the commit was put on.
    pub(crate) branch: Option<String>,
    /// The files that changed, at most 1000.
    pub(crate) files: Vec<ChangedFileView>,
    /// Whether more files changed.
    pub(crate) files_truncated: bool,
    /// The unified diff. Bytes that are no UTF-8 are replaced; `format=patch` has them.
    pub(crate) patch: String,
    /// Whether the diff is longer.
    pub(crate) truncated: bool,
}

/// A file that changed.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ChangedFileView {
    pub(crate) path: String,
    /// Where it was before, if it was renamed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) old_path: Option<String>,
    /// `added`, `deleted`, `modified`, `renamed`, `type_changed`.
    #[schema(examples("modified"))]
    pub(crate) change: &'static str,
    /// Lines that came; `null` where it is no text.
    pub(crate) added: Option<u64>,
    /// Lines that went; `null` where it is no text.
    pub(crate) deleted: Option<u64>,
}

impl DiffView {
    pub(crate) fn new(
        run: RunId,
        (base, commit): (&CommitId, &CommitId),
        branch: Option<String>,
        diff: Diff,
    ) -> Self {
        Self {
            run,
            base_commit: base.to_string(),
            commit: commit.to_string(),
            branch,
            files: diff.files.into_iter().map(ChangedFileView::from).collect(),
            files_truncated: diff.files_truncated,
            patch: String::from_utf8_lossy(&diff.patch).into_owned(),
            truncated: diff.patch_truncated,
        }
    }
}

impl From<ChangedFile> for ChangedFileView {
    fn from(file: ChangedFile) -> Self {
        let change = match file.change {
            Change::Added => "added",
            Change::Deleted => "deleted",
            Change::Modified => "modified",
            Change::Renamed => "renamed",
            Change::TypeChanged => "type_changed",
        };
        let ChangedFile { path, old_path, added, deleted, .. } = file;
        Self { path, old_path, change, added, deleted }
    }
}
