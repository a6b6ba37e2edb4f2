//! The database that the URL names, made on a server that may be slow or may not answer at all.

use std::time::Duration;

use core_types::secret::Secret;
use tokio_postgres::{NoTls, error::SqlState};

use crate::{error::EmbeddedError, postgres::DATABASE};

/// How long one attempt may take.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);
const ATTEMPTS: u32 = 3;
/// Between two attempts after a refusal, which comes at once.
const PAUSE: Duration = Duration::from_millis(200);

/// Makes the database if it is not there. `url` leads to the maintenance database.
pub(crate) async fn make_database(url: &Secret, port: u16) -> Result<(), EmbeddedError> {
    let mut fault = EmbeddedError::NotAnswering { port, waited: ATTEMPT_TIMEOUT * ATTEMPTS };
    for _ in 0..ATTEMPTS {
        match tokio::time::timeout(ATTEMPT_TIMEOUT, try_make(url)).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(source)) => {
                let is_final = refuses_the_password(&source);
                fault = EmbeddedError::Connect { port, source };
                if is_final {
                    break;
                }
                tokio::time::sleep(PAUSE).await;
            }
            // The server goes on with what it has begun, and the next attempt finds it done.
            Err(_elapsed) => {}
        }
    }
    Err(fault)
}

async fn try_make(url: &Secret) -> Result<(), tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(url.expose(), NoTls).await?;
    let work = async {
        let known = "SELECT 1 FROM pg_database WHERE datname = $1";
        if client.query_opt(known, &[&DATABASE]).await?.is_none() {
            client.batch_execute(&format!("CREATE DATABASE {DATABASE}")).await?;
        }
        drop(client);
        Ok(())
    };
    let (worked, connected) = tokio::join!(work, connection);
    worked.and(connected)
}

fn refuses_the_password(error: &tokio_postgres::Error) -> bool {
    let refusals = [SqlState::INVALID_PASSWORD, SqlState::INVALID_AUTHORIZATION_SPECIFICATION];
    error.code().is_some_and(|code| refusals.contains(code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_server_that_never_answers_is_given_up() {
        let silent = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = silent.local_addr().unwrap().port();
        let url = Secret::new(format!("postgresql://a:b@127.0.0.1:{port}/c"));
        let error = make_database(&url, port).await.unwrap_err();
        assert!(
            matches!(error, EmbeddedError::NotAnswering { port: asked, .. } if asked == port),
            "{error:?}"
        );
        assert!(error.hint().is_some());
    }
}
