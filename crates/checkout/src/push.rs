//! The way of a result to a remote repository: one new branch, from nothing to one commit, and never anything else.
//!
//! It is pushed from the quarantine, a repository that no agent ever saw, by a compare-and-swap: the branch must not be
//! there. Where the answer is lost, the remote is asked what became of it.

use std::collections::BTreeMap;

use crate::{
    checkouts::Checkout,
    error::CheckoutError,
    git::{CommitId, path_text},
    remote::{Remote, RemoteCall},
    trouble::Trouble,
};

/// What git said of the one branch.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Answer {
    /// It was made, or was there with this commit.
    Made,
    /// It is there with something else.
    Taken,
    /// The server does not want it.
    Refused(String),
    /// Nothing was said of it.
    Unknown,
}

/// Makes the run's branch in the remote repository. Idempotent.
pub(crate) async fn push(
    remote: &Remote,
    checkout: &Checkout,
    commit: &CommitId,
) -> Result<(), CheckoutError> {
    let name = checkout.branch.to_ref();
    let args = [
        "push",
        "--porcelain",
        "--no-verify",
        "--no-follow-tags",
        "--no-signed",
        "--recurse-submodules=no",
        &format!("--force-with-lease={name}:"),
        "--end-of-options",
        remote.url.as_str(),
        &format!("{commit}:{name}"),
    ];
    let git_dir = path_text(&checkout.quarantine_dir())?;
    let call = RemoteCall {
        run: checkout.run,
        part: "push",
        args: args.map(str::to_owned).to_vec(),
        variables: BTreeMap::from([("GIT_DIR".to_owned(), git_dir)]),
        watched: &[],
    };
    let pushed = remote.run(call).await;
    let error = match pushed {
        Err(error) => error,
        Ok((report, output)) => {
            let fault = remote.fault(&report, &output.stderr);
            match (answer(&output.stdout, &name), fault) {
                (Answer::Made, None) => return Ok(()),
                (Answer::Refused(why), _) => {
                    let words = format!("{why}\n{}", server_words(&output.stderr));
                    return Err(remote.error(Trouble::PushRefused, remote.detail(&words)).into());
                }
                (Answer::Taken | Answer::Made | Answer::Unknown, Some(error)) => error.into(),
                (Answer::Taken | Answer::Unknown, None) => {
                    let detail = "git said nothing of the branch".to_owned();
                    remote.error(Trouble::Failed, detail).into()
                }
            }
        }
    };
    settle(remote, checkout, commit, error).await
}

/// Asks the remote what became of a push that ended with an error.
async fn settle(
    remote: &Remote,
    checkout: &Checkout,
    commit: &CommitId,
    error: CheckoutError,
) -> Result<(), CheckoutError> {
    let name = checkout.branch.to_ref();
    let Ok(listing) = remote.list(checkout.run, &checkout.quarantine_dir(), &[&name]).await else {
        return Err(error);
    };
    match listing.commit(&name) {
        Some(there) if there == *commit => {
            tracing::info!(error = %error, "the push arrived, its answer did not");
            Ok(())
        }
        Some(there) => Err(CheckoutError::BranchTaken {
            branch: checkout.branch.to_string(),
            existing: there.to_string(),
        }),
        None => Err(error),
    }
}

/// Reads git's lines for programs: a flag, the two names, a summary, with tabs between them.
fn answer(output: &[u8], name: &str) -> Answer {
    let text = String::from_utf8_lossy(output);
    let ours = text.lines().find_map(|line| {
        let mut parts = line.splitn(3, '\t');
        let (flag, names, summary) = (parts.next()?, parts.next()?, parts.next()?);
        names.ends_with(&format!(":{name}")).then(|| (flag.to_owned(), summary.to_owned()))
    });
    match ours {
        Some((flag, _)) if flag == "*" || flag == "=" || flag == " " => Answer::Made,
        Some((_, summary)) if summary.contains("stale info") => Answer::Taken,
        Some((_, summary)) if summary.starts_with("[remote failure]") => Answer::Unknown,
        Some((_, summary)) if summary.contains("reference already exists") => Answer::Taken,
        Some((_, summary)) if is_passing(&summary) => Answer::Unknown,
        Some((_, summary)) => Answer::Refused(summary),
        None => Answer::Unknown,
    }
}

/// Whether a server that refuses with these words may take the same push in a moment.
fn is_passing(summary: &str) -> bool {
    const WORDS: &[&str] = &[
        "internal server error",
        "failed to update ref",
        "cannot lock ref",
        "unpacker error",
        "timed out",
        "try again",
    ];
    let summary = summary.to_ascii_lowercase();
    WORDS.iter().any(|words| summary.contains(words))
}

/// What the server itself said.
fn server_words(stderr: &str) -> String {
    let lines = stderr.lines().filter_map(|line| line.trim().strip_prefix("remote:"));
    lines.map(str::trim).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gits_answer_is_read_for_the_branch_alone() {
        let name = "refs/heads/opentiger/x-1";
        let of = |line: &str| answer(format!("To https://h/x\n{line}\nDone\n").as_bytes(), name);
        assert_eq!(of(&format!("*\tabc:{name}\t[new branch]")), Answer::Made);
        assert_eq!(of(&format!("=\tabc:{name}\t[up to date]")), Answer::Made);
        assert_eq!(of(&format!("!\tabc:{name}\t[rejected] (stale info)")), Answer::Taken);
        let declined = "[remote rejected] (pre-receive hook declined)";
        assert_eq!(of(&format!("!\tabc:{name}\t{declined}")), Answer::Refused(declined.to_owned()));
        assert_eq!(of(&format!("!\tabc:{name}\t[remote failure] (no report)")), Answer::Unknown);
        assert_eq!(of("*\tabc:refs/heads/main\t[new branch]"), Answer::Unknown);
    }
}
