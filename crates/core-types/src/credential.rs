//! Tokens for hosts of repositories, as a setting names them.

use crate::secret::Secret;

/// What is sent as the user name where the setting names none; hosts that take tokens ignore it.
const USUAL_USER: &str = "x-access-token";

/// A login for the repositories of one host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostToken {
    /// The host in lower case, with `:port` where that is not the usual one.
    pub host: String,
    /// The user name.
    pub user: String,
    /// The token or password.
    pub token: Secret,
}

/// Reads `host=token` and `host=user:token`, separated by commas.
///
/// # Errors
/// What is wrong, in words that repeat nothing of the text.
pub fn parse_host_tokens(text: &str) -> Result<Vec<HostToken>, &'static str> {
    let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
    let tokens: Vec<HostToken> = items.map(parse_host_token).collect::<Result<_, _>>()?;
    let twice = |(at, one): (usize, &HostToken)| tokens.iter().take(at).any(|o| o.host == one.host);
    if tokens.iter().enumerate().any(twice) {
        return Err("names a host twice");
    }
    Ok(tokens)
}

fn parse_host_token(item: &str) -> Result<HostToken, &'static str> {
    let (host, login) = item.split_once('=').ok_or("has an item without `=`")?;
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
    if host.is_empty() || !host.bytes().all(fine) {
        return Err("has a host that is no host name");
    }
    let (user, token) = login.split_once(':').unwrap_or((USUAL_USER, login));
    if user.is_empty() || token.is_empty() || login.contains(char::is_whitespace) {
        return Err("has an empty user name or token, or a space in one");
    }
    let host = host.strip_suffix(":443").unwrap_or(host).to_ascii_lowercase();
    Ok(HostToken { host, user: user.to_owned(), token: Secret::new(token) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_have_tokens_with_and_without_users() {
        let tokens =
            parse_host_tokens("GitHub.com:443=abc, git.example.org:8443=me:d=ef:g,").unwrap();
        let shown: Vec<_> =
            tokens.iter().map(|t| (t.host.as_str(), t.user.as_str(), t.token.expose())).collect();
        let expected =
            [("github.com", USUAL_USER, "abc"), ("git.example.org:8443", "me", "d=ef:g")];
        assert_eq!(shown, expected);
        assert_eq!(parse_host_tokens(""), Ok(Vec::new()));
    }

    #[test]
    fn what_is_wrong_is_said_without_the_token() {
        for text in
            ["hunter2", "=hunter2", "h=", "h=:hunter2", "a b=hunter2", "h=hun ter2", "h=a,H=b"]
        {
            let error = parse_host_tokens(text).unwrap_err();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
