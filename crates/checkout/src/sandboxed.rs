//! Checkouts that a sandbox works in: handed over to its user, found again after a restart, and collected as a claim.
//!
//! `<root>/<run id>/` is the host's own: the base's objects, what it has to know again later (`checkout.json`), its
//! quarantine. The sandbox sees `box/` alone, which it may write as it likes, and `objects/` read-only where `box/`
//! has an empty directory for it. So nothing that the host reads of a checkout can be written by a sandbox but the one
//! file that it claims to be its result, and git is never run on the rest.

mod disk;

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use core_types::{
    ids::RunId,
    sandbox::{self, ResultLimits, SandboxCheckout},
};
use launcher::spec::UserId;
use serde::{Deserialize, Serialize};

pub use self::disk::DiskUse;
use self::disk::disk_use;
use crate::{
    branch::BranchName,
    changes::parse_changes,
    checkouts::{BOX, Checkout, Checkouts, PrepareRequest},
    collect::{Brought, Collecting},
    error::CheckoutError,
    files::{blocking, give_to, io_error, read_small},
    git::{CommitId, IDENTITY_MAIL, IDENTITY_NAME},
    git_dir::ObjectFormat,
    local::{Head, LocalRepository},
    remote::Remote,
    url::RepositoryUrl,
};

/// Where the host writes down what it has to know again.
const RECORD: &str = "checkout.json";
/// Most bytes of that; a shallow clone of a large history names many commits.
const RECORD_BYTES: u64 = 16 << 20;

/// What of a checkout its sandbox sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SandboxMounts {
    /// The directory of `work`, `home`, `tmp` and `result`, to be written.
    pub directory: PathBuf,
    /// The base's objects, never to be written: they may be the user's own files. Its place is `objects` in the
    /// directory.
    pub objects: PathBuf,
}

/// What a sandbox claims to have left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim<'a> {
    /// The commit.
    pub commit: &'a CommitId,
    /// The name of the pack's file in `result`.
    pub pack: &'a str,
}

/// A claim that was checked and brought over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BroughtClaim {
    /// What [`Checkouts::publish`] takes.
    pub brought: Brought,
    /// Files added, changed and removed, as this host counted them.
    pub files_changed: u32,
    /// Lines added in text files.
    pub insertions: u64,
    /// Lines removed in text files.
    pub deletions: u64,
}

impl Checkout {
    /// What a sandbox sees of it; nothing where it is not made for one.
    #[must_use]
    pub fn sandbox_mounts(&self) -> Option<SandboxMounts> {
        self.boxed
            .then(|| SandboxMounts { directory: self.directory.join(BOX), objects: self.objects() })
    }
}

impl Checkouts {
    /// Makes a checkout for a sandbox that runs as `user`, as [`Checkouts::prepare`] makes one for this host.
    ///
    /// # Errors
    /// Those of [`Checkouts::prepare`]; [`CheckoutError::Io`] where it cannot be given to the user.
    pub async fn prepare_for_sandbox(
        &self,
        request: PrepareRequest<'_>,
        user: UserId,
    ) -> Result<Checkout, CheckoutError> {
        let checkout = self.prepare_as(request, true).await?;
        let handed_over = checkout.clone();
        let done = blocking(move || hand_over(&handed_over, user)).await;
        if let Err(error) = done {
            self.remove(request.run).await?;
            return Err(error);
        }
        Ok(checkout)
    }

    /// Finds the checkout of a sandbox again; nothing where it was never made whole.
    ///
    /// # Errors
    /// [`CheckoutError::Io`] where it cannot be read; [`CheckoutError::RemotesUnavailable`] where its repository is on
    /// another host and this process does not know how to reach one.
    pub async fn reopen(&self, run: RunId) -> Result<Option<Checkout>, CheckoutError> {
        let directory = self.directory(run);
        let record = blocking({
            let directory = directory.clone();
            move || match read_small(&directory, RECORD, RECORD_BYTES) {
                Ok(bytes) => Ok(bytes),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(io_error("read", &directory)(error)),
            }
        });
        let Some(bytes) = record.await? else { return Ok(None) };
        let damaged = |why: String| {
            io_error("read", &directory.join(RECORD))(io::Error::new(
                io::ErrorKind::InvalidData,
                why,
            ))
        };
        let record: Record =
            serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
        let remote = match &record.url {
            None => None,
            Some(url) => Some(Arc::new(self.remote(url)?)),
        };
        let base_commit: CommitId =
            record.base_commit.parse().map_err(|_| damaged("base_commit".to_owned()))?;
        let format = if record.sha256 { ObjectFormat::Sha256 } else { ObjectFormat::Sha1 };
        let head = Head::Detached { commit: base_commit.clone() };
        let mut source = LocalRepository::of_our_own(&record.common_dir, format, head);
        source.owner = record.owner;
        let inner = directory.join(BOX);
        Ok(Some(Checkout {
            run,
            work: inner.join("work"),
            tmp: inner.join("tmp"),
            home: inner.join("home"),
            base_commit,
            base_branch: record.base_branch.as_deref().map(str::parse::<BranchName>).transpose()?,
            branch: record.branch.parse()?,
            directory,
            boxed: true,
            source: Arc::new(source),
            remote,
            shallow: record.shallow.map(String::into_bytes),
        }))
    }

    fn remote(&self, url: &str) -> Result<Remote, CheckoutError> {
        let (Some(remotes), Some(mirrors)) = (&self.remotes, &self.mirrors) else {
            return Err(CheckoutError::RemotesUnavailable { url: url.to_owned() });
        };
        Ok(Remote {
            url: RepositoryUrl::parse(url, remotes.access.rules)?,
            access: Arc::clone(&remotes.access),
            git: self.git.clone(),
            launcher: Arc::clone(&remotes.launcher),
            private_dir: mirrors.clone(),
        })
    }

    /// Brings what a sandbox claims to have left into the user's repository, as [`Checkouts::bring`] does with what an
    /// agent of this host left. Call it after everything of the sandbox is gone. May be called again.
    ///
    /// # Errors
    /// Those of [`Checkouts::bring`]. A pack whose name leads elsewhere is [`CheckoutError::PackNotPlain`].
    pub async fn bring_claimed(
        &self,
        checkout: &Checkout,
        claim: Claim<'_>,
    ) -> Result<BroughtClaim, CheckoutError> {
        let pack = checkout.result_dir().join(claim.pack);
        if claim.pack.contains('/') || matches!(claim.pack, "" | "." | "..") {
            return Err(CheckoutError::PackNotPlain { path: pack, what: "no name of a file" });
        }
        let collecting = Collecting { checkouts: self, checkout, commit: claim.commit };
        // Before anything of it is opened.
        let is_there = !checkout.is_pushed() && collecting.is_there().await?;
        collecting.open_quarantine(&pack).await?;
        collecting.check().await?;
        check_identity(&collecting).await?;
        self.check_sizes(&collecting).await?;
        let base = checkout.base_commit.as_str();
        let call = collecting.quarantine("count the changes")?;
        let options = ["-r", "--numstat", "--no-renames", "--no-ext-diff", "--no-textconv"];
        let call = call.args(["diff-tree"]).args(options).args([base, claim.commit.as_str()]);
        let changes = parse_changes(&collecting.ask(call).await?.stdout);
        if usize::try_from(changes.files_changed).is_ok_and(|files| files > self.limits.files) {
            return Err(CheckoutError::TooManyFiles { limit: self.limits.files });
        }
        let brought = if is_there {
            Brought { commit: claim.commit.clone(), kept: true }
        } else {
            collecting.accept().await?
        };
        Ok(BroughtClaim {
            brought,
            files_changed: changes.files_changed,
            insertions: changes.insertions,
            deletions: changes.deletions,
        })
    }

    /// Holds the new files of a result to the limit once more: a sandbox only says that it did.
    async fn check_sizes(&self, collecting: &Collecting<'_>) -> Result<(), CheckoutError> {
        let limit = self.limits.file_bytes;
        let filter = format!("--filter=blob:limit={}", limit.saturating_add(1));
        let not_base = format!("^{}", collecting.checkout.base_commit);
        let call = collecting.quarantine("check the sizes")?;
        let args = ["rev-list", "--objects", "--filter-print-omitted", &filter];
        let call = call.args(args).args([collecting.commit.as_str(), &not_base]);
        let listing = collecting.ask(call).await?.text();
        match listing.lines().find_map(|line| line.strip_prefix('~')) {
            None => Ok(()),
            Some(object) => {
                let size = collecting.quarantine("read a size")?.args(["cat-file", "-s", object]);
                let bytes = collecting.ask(size).await?.text().parse().unwrap_or(u64::MAX);
                Err(CheckoutError::FileTooLarge { path: format!("object {object}"), bytes, limit })
            }
        }
    }

    /// What the worker in the sandbox is told about its checkout; nothing where it is not made for one.
    ///
    /// # Errors
    /// [`CheckoutError::Io`] where the list of what the repository excludes cannot be read.
    pub fn told_to_sandbox(
        &self,
        checkout: &Checkout,
    ) -> Result<Option<SandboxCheckout>, CheckoutError> {
        if !checkout.boxed {
            return Ok(None);
        }
        let exclude = read_small(&checkout.directory, "exclude", 64 << 10)
            .map_err(io_error("read", &checkout.exclude_file()))?
            .unwrap_or_default();
        let limits = self.limits;
        let text = |bytes: &Vec<u8>| String::from_utf8_lossy(bytes).into_owned();
        Ok(Some(SandboxCheckout {
            directory: sandbox::paths::CHECKOUT.into(),
            object_format: match checkout.source.format {
                ObjectFormat::Sha1 => sandbox::ObjectFormat::Sha1,
                ObjectFormat::Sha256 => sandbox::ObjectFormat::Sha256,
            },
            base_commit: checkout.base_commit.to_string(),
            base_branch: checkout.base_branch.as_ref().map(ToString::to_string),
            branch: checkout.branch.to_string(),
            shallow: checkout.shallow.as_ref().map(text),
            exclude: text(&exclude),
            limits: ResultLimits {
                file_bytes: limits.file_bytes,
                files: u64::try_from(limits.files).unwrap_or(u64::MAX),
                pack_bytes: limits.pack_bytes,
            },
        }))
    }

    /// How much of the disk the sandbox of a run uses; counting stops where that is more than `limit`.
    pub async fn sandbox_use(&self, run: RunId, limit: DiskUse) -> DiskUse {
        let directory = self.directory(run).join(BOX);
        let counted = blocking(move || Ok(disk_use(&directory, limit))).await;
        counted.unwrap_or(DiskUse { uncounted: true, ..DiskUse::default() })
    }
}

/// Results carry one identity, whoever claims to have made them.
async fn check_identity(collecting: &Collecting<'_>) -> Result<(), CheckoutError> {
    let identity = format!("{IDENTITY_NAME} <{IDENTITY_MAIL}>");
    let expected = format!("{identity} {identity}");
    let call = collecting.quarantine("check who made the result")?;
    let not_base = format!("^{}", collecting.checkout.base_commit);
    let format = "--format=%an <%ae> %cn <%ce>";
    let args = ["log", "--no-show-signature", format, collecting.commit.as_str(), &not_base];
    let makers = collecting.ask(call.args(args)).await?.text();
    if makers.lines().all(|maker| maker == expected) {
        return Ok(());
    }
    Err(CheckoutError::PackRefused {
        detail: "a commit of it was made by somebody else".to_owned(),
    })
}

/// What the host has to know again.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    base_commit: String,
    base_branch: Option<String>,
    branch: String,
    sha256: bool,
    shallow: Option<String>,
    common_dir: PathBuf,
    owner: Option<UserId>,
    url: Option<String>,
}

/// Makes everything readable for the sandbox's user, gives it what it may write, and writes down what it is, last.
fn hand_over(checkout: &Checkout, user: UserId) -> Result<(), CheckoutError> {
    make_readable(&checkout.objects(), user)?;
    let own = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    if own != (user.uid, user.gid) {
        give_to(&checkout.directory.join(BOX), user)?;
    }
    write_record(checkout)
}

fn write_record(checkout: &Checkout) -> Result<(), CheckoutError> {
    let record = Record {
        base_commit: checkout.base_commit.to_string(),
        base_branch: checkout.base_branch.as_ref().map(ToString::to_string),
        branch: checkout.branch.to_string(),
        sha256: checkout.source.format == ObjectFormat::Sha256,
        shallow: checkout.shallow.as_ref().map(|s| String::from_utf8_lossy(s).into_owned()),
        common_dir: checkout.source.common_dir.clone(),
        owner: checkout.source.owner,
        url: checkout.remote.as_ref().map(|remote| remote.url.as_str().to_owned()),
    };
    let (new, path) =
        (checkout.directory.join("checkout.json.new"), checkout.directory.join(RECORD));
    let write = || -> io::Result<()> {
        let mut file = File::create_new(&new)?;
        file.write_all(&serde_json::to_vec(&record)?)?;
        file.sync_all()?;
        fs::rename(&new, &path)
    };
    write().map_err(io_error("write", &path))
}

/// Lets a user read the objects: our directories are opened, and a file that the user may not read becomes a copy. The
/// files themselves may be the user's, so nothing about them is changed.
fn make_readable(objects: &Path, user: UserId) -> Result<(), CheckoutError> {
    let mut directories = vec![objects.to_owned()];
    while let Some(directory) = directories.pop() {
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o755))
            .map_err(io_error("open up", &directory))?;
        for entry in fs::read_dir(&directory).map_err(io_error("list", &directory))? {
            let path = entry.map_err(io_error("list", &directory))?.path();
            let metadata = fs::symlink_metadata(&path).map_err(io_error("look at", &path))?;
            if metadata.is_dir() {
                directories.push(path);
            } else if !may_read(&metadata, user) {
                replace_by_copy(&path).map_err(io_error("copy", &path))?;
            }
        }
    }
    Ok(())
}

fn may_read(metadata: &fs::Metadata, user: UserId) -> bool {
    let mode = metadata.mode();
    if metadata.uid() == user.uid {
        mode & 0o400 != 0
    } else if metadata.gid() == user.gid {
        mode & 0o040 != 0
    } else {
        mode & 0o004 != 0
    }
}

fn replace_by_copy(path: &Path) -> io::Result<()> {
    let copy = path.with_extension("copy");
    let mut target = File::create_new(&copy)?;
    io::copy(&mut File::open(path)?, &mut target)?;
    target.set_permissions(fs::Permissions::from_mode(0o444))?;
    fs::rename(&copy, path)
}
