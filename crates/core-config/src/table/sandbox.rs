//! Containers of runs, and the logins that they see.

use super::{Fallback, Setting, integer};
use crate::kind::Kind;

/// The settings of this group, in the order in which documents and the API show them.
pub(super) const SETTINGS: &[Setting] = &[
    Setting::database(
        "SANDBOX_DOCKER_IMAGE",
        Kind::Image,
        Fallback::Text("openTiger/worker:latest"),
        "The image in which sandboxed agents run; it needs the command lines and git. The default stands for `opentiger/worker:latest`, since an engine takes no upper case there.",
    )
    .reaching_host(),
    Setting::database(
        "SANDBOX_DOCKER_NETWORK",
        Kind::Network,
        Fallback::Text("bridge"),
        "The network of the engine on which sandboxed agents run.",
    )
    .reaching_host(),
    Setting::database(
        "SANDBOX_IMAGE_PULL",
        Kind::Choice(crate::settings::ImagePull::WORDS),
        Fallback::Text("if_missing"),
        "Whether the image is fetched before a sandbox starts; with `always` one that is there is used where it cannot be fetched.",
    )
    .reaching_host(),
    Setting::database(
        "SANDBOX_MEMORY_LIMIT_BYTES",
        integer(0, 1 << 50),
        Fallback::Integer(4 << 30),
        "How much memory a sandbox may use, scratch directories and swap included; 0 is unlimited.",
    )
    .unit("bytes"),
    Setting::database(
        "SANDBOX_CPU_LIMIT",
        integer(0, 1_000_000),
        Fallback::Integer(2000),
        "How much processor time a sandbox may use; 1000 is one core; 0 is unlimited.",
    )
    .unit("thousandths of a core"),
    Setting::database(
        "SANDBOX_PROCESS_LIMIT",
        integer(0, 4_194_304),
        Fallback::Integer(1024),
        "How many processes and threads a sandbox may have; 0 is unlimited.",
    )
    .unit("processes"),
    Setting::database(
        "SANDBOX_SCRATCH_LIMIT_BYTES",
        integer(1 << 20, 1 << 50),
        Fallback::Integer(1 << 30),
        "How much fits into each scratch directory of a sandbox, which lies in memory: home, temporary files, the state of the command line.",
    )
    .unit("bytes"),
    Setting::database(
        "SANDBOX_DISK_LIMIT_BYTES",
        integer(0, 1 << 50),
        Fallback::Integer(20 << 30),
        "How much disk the checkout of a sandbox may use; above it the run is stopped; 0 is unlimited.",
    )
    .unit("bytes"),
    Setting::database(
        "SANDBOX_FILE_LIMIT",
        integer(0, 1 << 40),
        Fallback::Integer(2_000_000),
        "How many files and directories the checkout of a sandbox may have; above it the run is stopped; 0 is unlimited.",
    )
    .unit("files"),
    Setting::database(
        "SANDBOX_DISK_RESERVE_BYTES",
        integer(0, 1 << 50),
        Fallback::Integer(2 << 30),
        "How much disk stays free on this host: while less is left, no task is claimed for a sandbox.",
    )
    .unit("bytes"),
    Setting::environment(
        "DOCKER_HOST",
        Kind::Engine,
        Fallback::Empty,
        "The address of the Docker engine, as for its own command line; when empty, its usual socket.",
    ),
    Setting::database(
        "CLAUDE_AUTH_DIR",
        Kind::Path { optional: true },
        Fallback::Empty,
        "The directory with the login of `claude` from which sandboxed agents get a view; when empty, `~/.claude` of the dispatcher's user; one that does not exist is an error.",
    )
    .reaching_host(),
    Setting::database(
        "CLAUDE_CONFIG_DIR",
        Kind::Path { optional: true },
        Fallback::Empty,
        "The second directory of `claude` that sandboxed agents see without what is secret in it; when empty, `~/.config/claude`; one that does not exist is an error. It is not passed on as the variable of that name.",
    )
    .reaching_host(),
    Setting::database(
        "OPENTIGER_CLAUDE_HOME",
        Kind::Path { optional: true },
        Fallback::Empty,
        "The home directory, with the login, that is given to `claude_code`; when empty, that of the worker.",
    )
    .reaching_host(),
];
