//! Why a checkout could not be made, and whether a copy of ours is to blame.

use std::sync::Arc;

use core_types::repository::Repository;

use super::{Checkout, Checkouts, PrepareRequest};
use crate::{error::CheckoutError, remote::Remote, trouble::Trouble};

impl Checkouts {
    /// Makes a checkout, once.
    pub(super) async fn try_prepare(
        &self,
        request: &PrepareRequest<'_>,
        boxed: bool,
    ) -> Result<Checkout, NotMade> {
        let start = match request.repository {
            Repository::Local { path } => self.start_locally(path, request.base_branch).await,
            Repository::Git { url } => self.start_remotely(url, request).await,
        };
        let start = start.map_err(NotMade::before)?;
        self.remove(request.run).await.map_err(NotMade::before)?;
        let remote = start.remote.clone();
        self.make(request, start, boxed).await.map_err(|error| NotMade { error, remote })
    }
}

/// Why there is no checkout; with the remote where the copy of it was at hand, and something failed on that.
pub(super) struct NotMade {
    pub(super) error: CheckoutError,
    pub(super) remote: Option<Arc<Remote>>,
}

impl NotMade {
    pub(super) const fn before(error: CheckoutError) -> Self {
        Self { error, remote: None }
    }

    /// Where even a new copy cannot be used, it is the repository that git cannot deal with.
    pub(super) fn into_error(self) -> CheckoutError {
        match (self.error, self.remote) {
            (CheckoutError::Git { doing, detail }, Some(remote))
                if Trouble::of(&detail) != Trouble::DiskFull =>
            {
                let detail = format!("git could not {doing}: {detail}");
                remote.error(Trouble::Damaged, remote.detail(&detail)).into()
            }
            (error, _) => error,
        }
    }
}
