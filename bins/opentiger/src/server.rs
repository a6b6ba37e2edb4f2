//! Finds the server: by the command line, a variable, its own word in the state directory, or where it listens unless told.

use std::path::PathBuf;

use client::{
    address::{ADDRESS_VARIABLE, AddressFile, BaseUrl},
    client::Client,
    credentials::{Credentials, KEY_VARIABLE, TOKEN_VARIABLE},
};
use launcher::identity::ProcessIdentity;

use crate::{code::Code, failure::Failure, surroundings::Surroundings};

/// What the command line says of the server.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    /// The address, where it names one.
    pub(crate) api: Option<String>,
}

impl Wanted {
    /// A client of the server that is meant.
    ///
    /// # Errors
    /// There is no telling which one, or the settings are at fault.
    pub(crate) fn client(&self, surroundings: &Surroundings) -> Result<Client, Failure> {
        let credentials = if self.is_named(surroundings) {
            // It may be anybody's: what opens this machine's own server is not shown to it.
            Credentials::new(surroundings.variable(KEY_VARIABLE), None)
        } else {
            credentials(surroundings)
        };
        Ok(Client::new(self.base(surroundings)?, credentials))
    }

    /// Whether the server is named, so that it need not be the one of this machine's state directory.
    pub(crate) fn is_named(&self, surroundings: &Surroundings) -> bool {
        self.api.is_some() || surroundings.variable(ADDRESS_VARIABLE).is_some()
    }

    fn base(&self, surroundings: &Surroundings) -> Result<BaseUrl, Failure> {
        let named = self.api.clone().or_else(|| surroundings.variable(ADDRESS_VARIABLE));
        if let Some(named) = named {
            return Ok(BaseUrl::parse(&named)?);
        }
        let settings = surroundings.settings()?;
        if let Some(file) = announced(&settings.state_dir)? {
            return Ok(BaseUrl::of_listener(file.address));
        }
        if settings.api_listen.port() == 0 {
            return Err(not_running(settings.state_dir));
        }
        Ok(BaseUrl::of_listener(settings.api_listen))
    }
}

/// The server that listens for this state directory; none where its process is gone.
pub(crate) fn announced(state_dir: &std::path::Path) -> Result<Option<AddressFile>, Failure> {
    let file = AddressFile::read(state_dir)
        .map_err(|error| Failure::of("look where the server listens", &error))?;
    Ok(file.filter(|file| process(file).is_alive()))
}

/// The process that wrote such a file.
pub(crate) fn process(file: &AddressFile) -> ProcessIdentity {
    ProcessIdentity { pid: file.pid, start_ticks: file.start_ticks, boot_id: file.boot_id.clone() }
}

/// The client of a server that is known by its own word.
pub(crate) fn client_of(file: &AddressFile, surroundings: &Surroundings) -> Client {
    Client::new(BaseUrl::of_listener(file.address), credentials(surroundings))
}

/// A caller's own key, else the server's token, else the first of the server's keys: whoever starts a server has these.
fn credentials(surroundings: &Surroundings) -> Credentials {
    let token = surroundings.variable(TOKEN_VARIABLE);
    let servers = surroundings.variable("API_KEYS").filter(|_| token.is_none());
    let first = servers.and_then(|keys| {
        keys.split(',').map(str::trim).find(|key| !key.is_empty()).map(ToOwned::to_owned)
    });
    Credentials::new(surroundings.variable(KEY_VARIABLE).or(first), token)
}

/// The failure of a state directory without a server.
pub(crate) fn not_running(state_dir: PathBuf) -> Failure {
    Failure::new(Code::NotRunning, format!("openTiger does not run in `{}`", state_dir.display()))
        .with_hint("`opentiger up` starts it")
}

#[cfg(test)]
mod tests {
    use client::address::ADDRESS_VARIABLE;
    use core_config::load::load;

    use super::*;

    #[test]
    fn no_other_program_takes_offence_at_the_variables_of_this_one() {
        let variables = [(ADDRESS_VARIABLE, "x"), (KEY_VARIABLE, "y"), ("HOME", "/home/a")];
        let variables = variables.map(|(name, value)| (name.into(), value.into()));
        load(variables, None).unwrap();
    }
}
