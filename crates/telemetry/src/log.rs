//! Starts logging for a process: one subscriber, to standard error.

use std::io;

use tracing_subscriber::{EnvFilter, fmt::format::FmtSpan, util::SubscriberInitExt as _};

/// The database driver's lines on statements repeat every parameter: keys, prompts, what agents printed. No filter
/// brings them back.
const WITHOUT_PARAMETERS: &str = "tokio_postgres::query=info";

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people; coloured where standard error is a terminal.
    Text,
    /// One JSON object per line.
    Json,
}

/// What to log, and how.
#[derive(Debug, Clone)]
pub struct LogOptions {
    /// A level, or directives such as `info,dispatch=debug`.
    pub filter: String,
    /// How lines look.
    pub format: Format,
}

/// Why logging could not be started.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The filter makes no sense.
    #[error("`{filter}` is not a log filter")]
    Filter {
        /// The filter as it was given.
        filter: String,
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    /// Something in this process logs already.
    #[error("logging is started already")]
    Started(#[source] tracing_subscriber::util::TryInitError),
}

impl InitError {
    /// What to do about it.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Filter { .. } => {
                "set `OPENTIGER_LOG` to `error`, `warn`, `info`, `debug`, `trace`, or to directives such as `info,dispatch=debug`"
            }
            Self::Started(_) => "start logging once per process",
        }
    }
}

/// Checks a filter without starting anything.
///
/// # Errors
/// [`InitError::Filter`] for a filter that makes no sense.
pub fn check_filter(filter: &str) -> Result<(), InitError> {
    parse(filter).map(drop)
}

fn parse(filter: &str) -> Result<EnvFilter, InitError> {
    let refused = |source| InitError::Filter { filter: filter.to_owned(), source };
    let parsed = EnvFilter::try_new(filter).map_err(refused)?;
    Ok(parsed.add_directive(WITHOUT_PARAMETERS.parse().map_err(refused)?))
}

/// Starts logging to standard error for the whole process.
///
/// # Errors
/// [`InitError`]: a filter that makes no sense, or a second start.
pub fn init(options: &LogOptions) -> Result<(), InitError> {
    let filter = parse(&options.filter)?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_span_events(FmtSpan::NONE)
        .with_writer(io::stderr);
    let started = match options.format {
        Format::Text => {
            let terminal = io::IsTerminal::is_terminal(&io::stderr());
            builder.with_ansi(terminal).finish().try_init()
        }
        Format::Json => builder.json().flatten_event(true).finish().try_init(),
    };
    started.map_err(InitError::Started)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_makes_no_sense_is_refused_with_a_way_out() {
        let options = LogOptions { filter: "loud=very".to_owned(), format: Format::Text };
        let error = init(&options).unwrap_err();
        assert_eq!(error.to_string(), "`loud=very` is not a log filter");
        assert!(error.hint().contains("OPENTIGER_LOG"));
    }

    #[test]
    fn no_filter_shows_the_parameters_of_statements() {
        for filter in ["trace", "tokio_postgres=trace", "info,tokio_postgres::query=trace", ""] {
            let directives = parse(filter).unwrap().to_string();
            assert!(directives.contains(WITHOUT_PARAMETERS), "{directives}");
            assert!(!directives.contains("tokio_postgres::query=trace"), "{directives}");
        }
    }
}
