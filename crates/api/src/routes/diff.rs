//! `/tasks/{id}/diff` and `/runs/{id}/diff`: what a run changed, as a patch.

use axum::{
    Json,
    extract::State,
    response::{IntoResponse as _, Response},
};
use checkout::{
    diff::{Diff, DiffError, DiffLimits, ObjectSource, diff},
    error::{CheckoutError, Fault},
    git::{CommitId, GitCommand},
    local::inspect_local,
    mirror::Mirrors,
    roots::AllowedRoots,
    url::{RepositoryUrl, UrlRules},
};
use core_types::{
    ids::{RunId, TaskId},
    repository::Repository,
    task::RunStatus,
};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use store::runs::Run;
use telemetry::chain::error_chain;
use tokio::{runtime::Handle, sync::Semaphore, task::spawn_blocking};

use crate::{
    error::{ApiError, ErrorBody},
    extract::{PathId, QueryTexts},
    openapi::{AboutId, Always},
    requests::diff::{DiffForm, DiffQuery},
    state::ApiState,
    views::diff::DiffView,
};

/// Most differences that are read at once; each starts a few processes.
static READING: Semaphore = Semaphore::const_new(4);
/// Most files in an answer.
const FILES: usize = 1000;
/// The most bytes of a patch for programs, which is whole or not there.
pub(crate) const PATCH_MAX: usize = 32 << 20;

/// Shows what the run that finished a task changed, or its last run that made a commit.
///
/// For programs, `format=patch` or `Accept: text/x-diff` gives the patch alone; `git apply` takes it.
#[utoipa::path(
    get, path = "/tasks/{id}/diff", tag = "tasks", operation_id = "diffTask",
    params(("id" = String, Path, description = "The task."), DiffQuery),
    responses(
        (status = 200, description = "What changed.", content(
            (DiffView = "application/json"), (String = "text/x-diff"))),
        (status = 409, description = "There is nothing to show: no commit yet, or commit or repository are gone.", body = ErrorBody),
        AboutId, Always,
    )
)]
pub(crate) async fn of_task(
    State(state): State<ApiState>,
    PathId(id): PathId<TaskId>,
    QueryTexts(query): QueryTexts<DiffQuery>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let form = query.form(&headers)?;
    let task = state.store.task(id).await?.ok_or_else(|| ApiError::not_found("task"))?;
    let runs = state.store.runs_of_task(id).await?;
    let run = runs.iter().find(|run| commit_of(run).is_some());
    let run = run.ok_or_else(|| no_commit("no run of the task has made a commit"))?;
    answer(&state, &task.new.repository, run, form).await
}

/// Shows what a run changed.
///
/// For programs, `format=patch` or `Accept: text/x-diff` gives the patch alone; `git apply` takes it.
#[utoipa::path(
    get, path = "/runs/{id}/diff", tag = "runs", operation_id = "diffRun",
    params(("id" = String, Path, description = "The run."), DiffQuery),
    responses(
        (status = 200, description = "What changed.", content(
            (DiffView = "application/json"), (String = "text/x-diff"))),
        (status = 409, description = "There is nothing to show: no commit, or commit or repository are gone.", body = ErrorBody),
        AboutId, Always,
    )
)]
pub(crate) async fn of_run(
    State(state): State<ApiState>,
    PathId(id): PathId<RunId>,
    QueryTexts(query): QueryTexts<DiffQuery>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let form = query.form(&headers)?;
    let run = state.store.run(id).await?.ok_or_else(|| ApiError::not_found("run"))?;
    let task = state.store.task(run.task).await?.ok_or_else(|| ApiError::not_found("task"))?;
    if commit_of(&run).is_none() {
        let when = if run.status == RunStatus::Ended { "has made no" } else { "has no" };
        return Err(no_commit(&format!("the run {when} commit")));
    }
    answer(&state, &task.new.repository, &run, form).await
}

/// What a run changed, for people: at most so many bytes of the patch.
pub(crate) async fn for_people(
    state: &ApiState,
    id: RunId,
    max_bytes: usize,
) -> Result<DiffView, ApiError> {
    let run = state.store.run(id).await?.ok_or_else(|| ApiError::not_found("run"))?;
    let task = state.store.task(run.task).await?.ok_or_else(|| ApiError::not_found("task"))?;
    let (base, commit) = ends(&run)?;
    let limits = DiffLimits { files: FILES, patch_bytes: max_bytes, binary: false };
    let found = read(state, &task.new.repository, (base.clone(), commit.clone()), limits).await?;
    let branch = run.report.as_ref().and_then(|report| report.branch.clone());
    Ok(DiffView::new(run.id, (&base, &commit), branch, found))
}

/// What a run started from, and what it came to.
fn ends(run: &Run) -> Result<(CommitId, CommitId), ApiError> {
    let commit = commit_of(run).and_then(|commit| commit.parse().ok());
    let base = run.base_commit.as_deref().and_then(|base| base.parse().ok());
    base.zip(commit).ok_or_else(|| no_commit("what the run started from is not known"))
}

fn commit_of(run: &Run) -> Option<&str> {
    run.report.as_ref()?.commit.as_deref()
}

fn no_commit(text: &str) -> ApiError {
    ApiError::new(StatusCode::CONFLICT, "no_commit", text)
}

async fn answer(
    state: &ApiState,
    repository: &Repository,
    run: &Run,
    form: DiffForm,
) -> Result<Response, ApiError> {
    let (base, commit) = ends(run)?;
    let limits = match form {
        DiffForm::Json { max_bytes } => {
            DiffLimits { files: FILES, patch_bytes: max_bytes, binary: false }
        }
        DiffForm::Patch => DiffLimits { files: FILES, patch_bytes: PATCH_MAX, binary: true },
    };
    let found = read(state, repository, (base.clone(), commit.clone()), limits).await?;
    match form {
        DiffForm::Json { .. } => {
            let branch = run.report.as_ref().and_then(|report| report.branch.clone());
            Ok(Json(DiffView::new(run.id, (&base, &commit), branch, found)).into_response())
        }
        DiffForm::Patch if found.patch_truncated => {
            let text =
                format!("the patch is longer than {PATCH_MAX} bytes; read the commit with git");
            Err(ApiError::new(StatusCode::CONFLICT, "diff_too_large", text))
        }
        DiffForm::Patch => {
            let kind = [(header::CONTENT_TYPE, HeaderValue::from_static("text/x-diff"))];
            Ok((kind, found.patch).into_response())
        }
    }
}

/// Reads on a thread of its own: a file system that does not answer holds up nobody else.
async fn read(
    state: &ApiState,
    repository: &Repository,
    (base, commit): (CommitId, CommitId),
    limits: DiffLimits,
) -> Result<Diff, ApiError> {
    let git = state.repositories.git()?;
    let place = Place::of(state, repository)?;
    let permit = READING.acquire().await.map_err(|_| ApiError::internal())?;
    let runtime = Handle::current();
    let reading = move || {
        // Held until git is done, also where nobody waits for it any more.
        let _permit = permit;
        runtime.block_on(place.diff(&git, (&base, &commit), limits))
    };
    let read = spawn_blocking(reading).await.map_err(|panicked| {
        tracing::error!(error = %panicked, "difference not read");
        ApiError::internal()
    })?;
    read.map_err(|error| match (&error, repository) {
        (DiffError::CommitMissing { .. }, Repository::Git { .. }) => not_here(),
        _ => refused(&error),
    })
}

/// Where the commits of a repository are read.
enum Place {
    Local { path: String, roots: AllowedRoots },
    Mirror { mirrors: Mirrors, url: RepositoryUrl },
}

impl Place {
    fn of(state: &ApiState, repository: &Repository) -> Result<Self, ApiError> {
        match repository {
            Repository::Local { path } => {
                let loaded = state.settings();
                let roots =
                    loaded.local_repo_roots().map_err(crate::routes::creation::unknown_limit)?;
                Ok(Self::Local { path: path.clone(), roots: AllowedRoots::new(roots.to_vec()) })
            }
            Repository::Git { url } => {
                // Nothing is reached: whatever a run was allowed to mirror is fine.
                let rules = UrlRules { http_loopback: true };
                let url = RepositoryUrl::parse(url, rules).map_err(|_| not_here())?;
                let mirrors = state.mirrors.clone().ok_or_else(not_here)?;
                Ok(Self::Mirror { mirrors, url })
            }
        }
    }

    async fn diff(
        self,
        git: &GitCommand,
        (base, commit): (&CommitId, &CommitId),
        limits: DiffLimits,
    ) -> Result<Diff, DiffError> {
        let sources = match self {
            Self::Local { path, roots } => {
                vec![ObjectSource::of_local(&inspect_local(git, &path, &roots).await?)]
            }
            Self::Mirror { mirrors, url } => mirrors.objects(&url).await?,
        };
        let mut found = Err(DiffError::CommitMissing { commit: commit.clone() });
        for source in &sources {
            found = diff(git, source, (base, commit), limits).await;
            if !matches!(found, Err(DiffError::CommitMissing { .. })) {
                break;
            }
        }
        found
    }
}

fn not_here() -> ApiError {
    let text =
        "the result's commit is not on this host, or no more; fetch its branch from the repository";
    ApiError::new(StatusCode::CONFLICT, "diff_not_here", text)
}

fn refused(error: &DiffError) -> ApiError {
    let conflict = |code, text| ApiError::new(StatusCode::CONFLICT, code, text);
    match error {
        DiffError::CommitMissing { .. } => {
            let text = format!("{error}; its branch may have been deleted");
            conflict("commit_gone", text)
        }
        DiffError::Checkout(CheckoutError::OutsideAllowedRoots { .. }) => {
            conflict("repository_not_allowed", error.to_string())
        }
        DiffError::Checkout(found) if found.fault() == Fault::Request => {
            conflict("repository_gone", error.to_string())
        }
        DiffError::Checkout(CheckoutError::Timeout { .. }) => {
            tracing::warn!(error = %error_chain(error), "difference not read");
            ApiError::unavailable("git took too long to compare the two commits")
        }
        DiffError::Checkout(_) => {
            tracing::error!(error = %error_chain(error), "difference not read");
            ApiError::unavailable("git cannot be run to compare the two commits")
        }
    }
}
