//! A made-up login, for what the CLI does only for logins: it reads an account's limit from no answer to a key.

use std::{io, path::Path};

use jiff::Timestamp;
use serde_json::json;

/// The access token of the made-up login.
pub const TOKEN: &str = "sk-ant-oat01-made-up";

/// Writes a login of Claude Code into an agent's home. It lasts an hour and cannot be renewed.
///
/// # Errors
/// Where the home cannot be written.
pub fn write(home: &Path) -> io::Result<()> {
    let expires = Timestamp::now().as_millisecond().saturating_add(3_600_000);
    let login = json!({"claudeAiOauth": {
        "accessToken": TOKEN,
        "refreshToken": "",
        "expiresAt": expires,
        "scopes": ["user:inference", "user:profile"],
        "subscriptionType": "max",
    }});
    let directory = home.join(".claude");
    std::fs::create_dir_all(&directory)?;
    std::fs::write(directory.join(".credentials.json"), login.to_string())
}
