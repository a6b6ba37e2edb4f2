//! The look from inside: `worker look` in a container like that of a run, shared by whoever asks at the same time.

use std::{
    path::PathBuf,
    sync::{Arc, PoisonError},
    time::Duration,
};

use core_types::{
    auth::{AuthReason, CheckedBy},
    sandbox::{
        look::{LookOrder, LookReport, ProgramFault},
        paths,
    },
    task::ExecutorKind,
};
use sandbox::premises::Surroundings;
use tokio::time::Instant;

use super::{Shared, room};
use crate::{
    credentials::Found,
    finding::Finding,
    place::Ask,
    run::{self, Call},
};

/// Longest look: what it asks has limits of its own, which are shorter.
const LOOK_WITHIN: Duration = Duration::from_secs(12);

/// Held while a look goes on.
pub(super) type Cell = Arc<tokio::sync::Mutex<Option<Kept>>>;

#[derive(Debug)]
pub(super) struct Kept {
    look: Result<LookReport, Finding>,
    image: String,
    ended: Instant,
}

impl Shared {
    /// Looks from inside the container of an executor. A look at the same image that ended after `asked` is as good.
    pub(super) async fn look(
        self: &Arc<Self>,
        executor: ExecutorKind,
        around: &Surroundings,
        asked: Instant,
    ) -> Result<LookReport, Finding> {
        let image = around.image.as_ref().map(|image| image.id.clone()).unwrap_or_default();
        let cell = {
            let mut looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(looks.entry(executor).or_default())
        };
        let mut kept = cell.lock().await;
        if let Some(kept) = kept.as_ref().filter(|kept| kept.ended >= asked && kept.image == image)
        {
            return kept.look.clone();
        }
        let look = self.look_once(executor, around).await;
        *kept = Some(Kept { look: look.clone(), image, ended: Instant::now() });
        look
    }

    async fn look_once(
        self: &Arc<Self>,
        executor: ExecutorKind,
        around: &Surroundings,
    ) -> Result<LookReport, Finding> {
        let settings = super::inside(&(&*around.settings).into());
        let command = match executor {
            ExecutorKind::ClaudeCode => settings.claude_code.command,
            ExecutorKind::Opencode => settings.opencode.command,
        };
        let room = room::make(&self.premises, around, executor)
            .map_err(|error| unknown(format!("no place for a check can be made: {error}")))?;
        let order = LookOrder {
            directories: room.directories(),
            programs: vec!["git".to_owned(), command],
            database_url: around.addresses.database.clone(),
        };
        let stdin = serde_json::to_vec(&order)
            .map_err(|error| unknown(format!("the look cannot be ordered: {error}")))?;
        let spot = room.spot(self, around, executor, Found::other())?;
        let call = Call {
            program: PathBuf::from(paths::WORKER),
            args: vec!["look".to_owned()],
            env: spot.place.parent_env.clone(),
            secret_env: Default::default(),
            stdin,
        };
        let by = CheckedBy::Credentials;
        let heard = run::hear(&spot, &call, None, by, Instant::now() + LOOK_WITHIN).await?;
        if heard.end.stopped.is_some() {
            return Err(Finding::new(AuthReason::Timeout, by)
                .with_detail("the container did not say in time what it sees"));
        }
        serde_json::from_slice(&heard.stdout).map_err(|_| {
            let said = heard.last_error.unwrap_or_default();
            let detail = format!("the container does not say what it sees: {said}");
            Finding::new(AuthReason::ImageInvalid, by).with_detail(detail)
        })
    }
}

/// What a look says about any run: whether it sees its mounts, and whether the image has what a worker needs.
pub(super) fn judge_image(look: &LookReport) -> Result<(), Finding> {
    if let Some((_, fault)) = look.directories.iter().next() {
        return found(AuthReason::MountDenied, format!("a container of a run cannot {fault}"));
    }
    match look.programs.get("git") {
        Some(Ok(_)) => Ok(()),
        Some(Err(ProgramFault::Useless(why))) => {
            found(AuthReason::ImageInvalid, format!("git in the image is of no use: {why}"))
        }
        Some(Err(ProgramFault::Missing)) | None => {
            found(AuthReason::ImageInvalid, "the image has no `git`, which a run needs".to_owned())
        }
    }
}

/// What a look says about calling the agent's command line.
pub(super) fn judge(ask: &Ask, look: &LookReport) -> Result<(), Finding> {
    judge_image(look)?;
    let command = match ask.executor {
        ExecutorKind::ClaudeCode => &ask.settings.claude_code.command,
        ExecutorKind::Opencode => &ask.settings.opencode.command,
    };
    match look.programs.get(command) {
        Some(Err(ProgramFault::Missing)) => {
            found(AuthReason::CliMissing, format!("the image has no program `{command}`"))
        }
        // Its own call says more.
        Some(Err(ProgramFault::Useless(_)) | Ok(_)) | None => Ok(()),
    }
}

fn found(reason: AuthReason, detail: String) -> Result<(), Finding> {
    Err(Finding::new(reason, CheckedBy::Credentials).with_detail(detail))
}

fn unknown(detail: String) -> Finding {
    Finding::new(AuthReason::Unknown, CheckedBy::Credentials).with_detail(detail)
}
