//! Containers of runs, and the logins that they see.

use super::{Fallback, Setting, Unit, integer};
use crate::kind::Kind;

/// The settings of this group, in the order in which documents and the API show them.
pub(super) const SETTINGS: &[Setting] = &[
    Setting::database(
        "SANDBOX_DOCKER_IMAGE",
        Kind::Image,
        Fallback::Text("openTiger/worker:latest"),
        "The image in which sandboxed agents run; it needs the command lines and git. The default stands for `opentiger/worker:latest`, since an engine takes no upper case there.",
        "sandbox のエージェントが動く image。エージェントの CLI と git が必要です。engine は名前に大文字を受け付けないため、既定値は `opentiger/worker:latest` を意味します。",
    )
    .reaching_host(),
    Setting::database(
        "SANDBOX_DOCKER_NETWORK",
        Kind::Network,
        Fallback::Text("bridge"),
        "The network of the engine on which sandboxed agents run.",
        "sandbox のエージェントが使う engine の network。",
    )
    .reaching_host(),
    Setting::database(
        "SANDBOX_IMAGE_PULL",
        Kind::Choice(crate::settings::ImagePull::WORDS),
        Fallback::Text("if_missing"),
        "Whether the image is fetched before a sandbox starts; with `always` one that is there is used where it cannot be fetched.",
        "sandbox を起動する前に image を取得するか。`always` で取得できない場合は、手元にあるものを使います。",
    )
    .reaching_host(),
    Setting::database(
        "SANDBOX_MEMORY_LIMIT_BYTES",
        integer(0, 1 << 50),
        Fallback::Integer(4 << 30),
        "How much memory a sandbox may use, scratch directories and swap included; 0 is unlimited.",
        "sandbox が使えるメモリ。メモリ上の一時ディレクトリと swap を含みます。0 は無制限です。",
    )
    .unit(Unit::Bytes),
    Setting::database(
        "SANDBOX_CPU_LIMIT",
        integer(0, 1_000_000),
        Fallback::Integer(2000),
        "How much processor time a sandbox may use; 1000 is one core; 0 is unlimited.",
        "sandbox が使える CPU 時間。1000 が1コアです。0 は無制限です。",
    )
    .unit(Unit::ThousandthsOfACore),
    Setting::database(
        "SANDBOX_PROCESS_LIMIT",
        integer(0, 4_194_304),
        Fallback::Integer(1024),
        "How many processes and threads a sandbox may have; 0 is unlimited.",
        "sandbox が持てるプロセスと thread の数。0 は無制限です。",
    )
    .unit(Unit::Processes),
    Setting::database(
        "SANDBOX_SCRATCH_LIMIT_BYTES",
        integer(1 << 20, 1 << 50),
        Fallback::Integer(1 << 30),
        "How much fits into each scratch directory of a sandbox, which lies in memory: home, temporary files, the state of the command line.",
        "sandbox のメモリ上の一時ディレクトリ(home、一時ファイル、CLI の状態)それぞれの大きさ。",
    )
    .unit(Unit::Bytes),
    Setting::database(
        "SANDBOX_DISK_LIMIT_BYTES",
        integer(0, 1 << 50),
        Fallback::Integer(20 << 30),
        "How much disk the checkout of a sandbox may use; above it the run is stopped; 0 is unlimited.",
        "sandbox の checkout が使えるディスク。超えると run を停止します。0 は無制限です。",
    )
    .unit(Unit::Bytes),
    Setting::database(
        "SANDBOX_FILE_LIMIT",
        integer(0, 1 << 40),
        Fallback::Integer(2_000_000),
        "How many files and directories the checkout of a sandbox may have; above it the run is stopped; 0 is unlimited.",
        "sandbox の checkout に置けるファイルとディレクトリの数。超えると run を停止します。0 は無制限です。",
    )
    .unit(Unit::Files),
    Setting::database(
        "SANDBOX_DISK_RESERVE_BYTES",
        integer(0, 1 << 50),
        Fallback::Integer(2 << 30),
        "How much disk stays free on this host: while less is left, no task is claimed for a sandbox.",
        "この host に残しておくディスクの空き。これを下回る間は、sandbox 向けの task を claim しません。",
    )
    .unit(Unit::Bytes),
    Setting::environment(
        "DOCKER_HOST",
        Kind::Engine,
        Fallback::Empty,
        "The address of the Docker engine, as for its own command line; when empty, its usual socket.",
        "Docker engine のアドレス。`docker` コマンドと同じ形です。空の場合は通常の socket を使います。",
    ),
    Setting::database(
        "CLAUDE_AUTH_DIR",
        Kind::Path { optional: true },
        Fallback::Empty,
        "The directory with the login of `claude` from which sandboxed agents get a view; when empty, `~/.claude` of the dispatcher's user; one that does not exist is an error.",
        "sandbox のエージェントに view を見せる、`claude` の login のあるディレクトリ。空の場合は dispatcher のユーザーの `~/.claude` です。存在しないディレクトリはエラーです。",
    )
    .reaching_host(),
    Setting::database(
        "CLAUDE_CONFIG_DIR",
        Kind::Path { optional: true },
        Fallback::Empty,
        "The second directory of `claude` that sandboxed agents see without what is secret in it; when empty, `~/.config/claude`; one that does not exist is an error. It is not passed on as the variable of that name.",
        "sandbox のエージェントに、秘密を除いて見せる `claude` の2つ目のディレクトリ。空の場合は `~/.config/claude` です。存在しないディレクトリはエラーです。同じ名前の環境変数としては渡しません。",
    )
    .reaching_host(),
    Setting::database(
        "OPENTIGER_CLAUDE_HOME",
        Kind::Path { optional: true },
        Fallback::Empty,
        "The home directory, with the login, that is given to `claude_code`; when empty, that of the worker.",
        "`claude_code` に与える、login のある home ディレクトリ。空の場合は worker のものです。",
    )
    .reaching_host(),
];
