//! The account that a server runs as, and whether it can reach its files.
//!
//! PostgreSQL refuses to run as root, and Redis need not. A privileged process runs each as the account that packages
//! make for it, else as `nobody`.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::Path,
};

use launcher::spec::UserId;

use crate::error::{EmbeddedError, ServerKind, io_error};

/// The account that a server runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Account {
    /// None: the user of this process.
    pub(crate) user: Option<UserId>,
    pub(crate) name: String,
}

impl Account {
    /// Chooses the account by who this process is.
    pub(crate) fn choose(server: ServerKind) -> Result<Self, EmbeddedError> {
        if !rustix::process::geteuid().is_root() {
            return Ok(Self { user: None, name: "this user".to_owned() });
        }
        let file = Path::new("/etc/passwd");
        let users = fs::read_to_string(file).map_err(io_error("read", file))?;
        server
            .users()
            .iter()
            .find_map(|name| find_user(&users, name))
            .ok_or(EmbeddedError::NoUnprivilegedUser { server })
    }

    /// Sees to it that the account can enter a directory. Those in `own` are opened for entering; the ones above them
    /// are not ours to change.
    pub(crate) fn open_way(&self, directory: &Path, own: &[&Path]) -> Result<(), EmbeddedError> {
        let Some(user) = self.user else { return Ok(()) };
        for ancestor in directory.ancestors() {
            let metadata = fs::metadata(ancestor).map_err(io_error("look at", ancestor))?;
            if may_enter(&metadata, user) {
                continue;
            }
            if !own.contains(&ancestor) || metadata.uid() != 0 {
                let path = ancestor.to_owned();
                return Err(EmbeddedError::Unreachable { path, user: self.name.clone() });
            }
            let mode = fs::Permissions::from_mode(metadata.mode() & 0o7777 | 0o011);
            fs::set_permissions(ancestor, mode).map_err(io_error("open", ancestor))?;
        }
        Ok(())
    }
}

fn find_user(passwd: &str, name: &str) -> Option<Account> {
    let mut fields = passwd
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fields.first() == Some(&name))?
        .into_iter()
        .skip(2);
    let uid = fields.next()?.parse().ok()?;
    let gid = fields.next()?.parse().ok()?;
    Some(Account { user: Some(UserId { uid, gid }), name: name.to_owned() })
}

fn may_enter(metadata: &fs::Metadata, user: UserId) -> bool {
    let bit = if metadata.uid() == user.uid {
        0o100
    } else if metadata.gid() == user.gid {
        0o010
    } else {
        0o001
    };
    metadata.mode() & bit != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_its_whole_name() {
        let passwd =
            "root:x:0:0:root:/root:/bin/sh\npostgres2:x:9:9::/:/x\npostgres:x:70:71::/:/x\n";
        let user = find_user(passwd, "postgres").and_then(|account| account.user);
        assert_eq!(user, Some(UserId { uid: 70, gid: 71 }));
        assert_eq!(find_user(passwd, "nobody"), None);
    }
}
