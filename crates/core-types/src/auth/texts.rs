//! The texts of each reason. One arm for each language, so that none can be forgotten.

use super::{AuthReason as R, Language};
use crate::task::{ExecutionEnvironment as Env, ExecutorKind};

/// English, then Japanese.
type Pair = (&'static str, &'static str);

const fn pick(pair: Pair, language: Language) -> &'static str {
    match language {
        Language::English => pair.0,
        Language::Japanese => pair.1,
    }
}

pub(super) const fn message(reason: R, executor: ExecutorKind, language: Language) -> &'static str {
    let pair = match executor {
        ExecutorKind::ClaudeCode => claude(reason),
        ExecutorKind::Opencode => opencode(reason),
    };
    let pair = match pair {
        Some(pair) => pair,
        None => any(reason),
    };
    pick(pair, language)
}

const fn claude(reason: R) -> Option<Pair> {
    Some(match reason {
        R::Ready => ("Claude Code is authenticated", "Claude Code は認証済みです"),
        R::LoginRequired => ("Claude Code is not logged in", "Claude Code にログインしていません"),
        R::LoginExpired => {
            ("the login of Claude Code has expired", "Claude Code のログインが失効しています")
        }
        R::CredentialsUnreadable => {
            ("the login of Claude Code cannot be read", "Claude Code の認証情報を読み取れません")
        }
        R::CliMissing => ("the `claude` CLI is not installed", "`claude` CLI が見つかりません"),
        R::CliIncompatible => ("the `claude` CLI cannot be used", "`claude` CLI を利用できません"),
        _ => return None,
    })
}

const fn opencode(reason: R) -> Option<Pair> {
    Some(match reason {
        R::Ready => ("opencode is authenticated", "opencode は認証済みです"),
        R::LoginRequired => {
            ("opencode has neither a login nor a key", "opencode のログインも API キーもありません")
        }
        R::LoginExpired => {
            ("the login of opencode has expired", "opencode のログインが失効しています")
        }
        R::CredentialsUnreadable => {
            ("the login of opencode cannot be read", "opencode の認証情報を読み取れません")
        }
        R::CliMissing => ("the `opencode` CLI is not installed", "`opencode` CLI が見つかりません"),
        R::CliIncompatible => {
            ("the `opencode` CLI cannot be used", "`opencode` CLI を利用できません")
        }
        _ => return None,
    })
}

const fn any(reason: R) -> Pair {
    match reason {
        R::Ready => ("ready", "準備完了です"),
        R::LoginRequired => ("there is no login", "ログインしていません"),
        R::LoginExpired => ("the login has expired", "ログインが失効しています"),
        R::CredentialsUnreadable => ("the login cannot be read", "認証情報を読み取れません"),
        R::KeyInvalid => ("the provider refuses the key", "プロバイダーが API キーを拒否しました"),
        R::AccountBlocked => (
            "the provider does not let the account work",
            "プロバイダーがアカウントの利用を認めていません",
        ),
        R::RateLimited => ("the account's limit is reached", "アカウントの利用上限に達しています"),
        R::ProviderUnreachable => (
            "the provider does not answer or fails",
            "プロバイダーに接続できないか、エラーを返しています",
        ),
        R::CliMissing => ("the agent's CLI is not installed", "CLI が見つかりません"),
        R::CliIncompatible => ("the agent's CLI cannot be used", "CLI を利用できません"),
        R::DockerUnavailable => ("no Docker daemon answers", "Docker デーモンに接続できません"),
        R::DockerPermissionDenied => {
            ("the Docker daemon refuses this user", "Docker デーモンへのアクセスが拒否されました")
        }
        R::ImageMissing => ("the sandbox image is not there", "sandbox イメージがありません"),
        R::ImageInvalid => ("the sandbox image cannot be used", "sandbox イメージを利用できません"),
        R::NetworkMissing => {
            ("the sandbox network is not there", "sandbox 用の Docker ネットワークがありません")
        }
        R::MountDenied => (
            "the container may not see the directories it needs",
            "コンテナへのマウントが拒否されました",
        ),
        R::ServiceOpenToLoopback => (
            "a service on this machine lets in whoever connects without a password, so no container is led to it",
            "このマシンのサービスがパスワードなしの接続を受け入れるため、コンテナを接続できません",
        ),
        R::ServiceUnreachable => (
            "a service that the container needs cannot be reached from it",
            "コンテナが必要とするサービスにコンテナから接続できません",
        ),
        R::Timeout => ("there was no answer in time", "時間内に応答がありませんでした"),
        R::Unknown => (
            "it is not known whether an agent could run",
            "エージェントを実行できるか確認できませんでした",
        ),
    }
}

pub(super) const fn hint(
    reason: R,
    executor: ExecutorKind,
    environment: Env,
    language: Language,
) -> Option<&'static str> {
    let sandbox = match environment {
        Env::Sandbox => in_sandbox(reason, executor),
        Env::Host => None,
    };
    let pair = match (sandbox, executor) {
        (Some(pair), _) => pair,
        (None, ExecutorKind::ClaudeCode) => match claude_hint(reason) {
            Some(pair) => pair,
            None => return None,
        },
        (None, ExecutorKind::Opencode) => match opencode_hint(reason) {
            Some(pair) => pair,
            None => return None,
        },
    };
    Some(pick(pair, language))
}

const fn in_sandbox(reason: R, executor: ExecutorKind) -> Option<Pair> {
    Some(match (reason, executor) {
        (R::LoginRequired, ExecutorKind::ClaudeCode) => (
            "log in on the host with `claude` (then `/login`); CLAUDE_AUTH_DIR names another directory with a login",
            "ホストで `claude` を起動し `/login` を完了してください。別のディレクトリは CLAUDE_AUTH_DIR で指定します",
        ),
        (R::LoginExpired, ExecutorKind::ClaudeCode) => (
            "run `claude` once on the host, which renews the login; a container never renews it",
            "ホストで `claude` を一度実行してログインを更新してください(コンテナ内では更新されません)",
        ),
        (R::CliMissing | R::CliIncompatible, _) => (
            "build the image again: `cargo xtask image`",
            "worker image を再 build してください: `cargo xtask image`",
        ),
        _ => return None,
    })
}

const fn claude_hint(reason: R) -> Option<Pair> {
    Some(match reason {
        R::LoginRequired => (
            "log in with `claude` (then `/login`) as the user that runs openTiger, or set ANTHROPIC_API_KEY",
            "openTiger を実行するユーザーで `claude` を起動して `/login` を完了するか、ANTHROPIC_API_KEY を設定してください",
        ),
        R::LoginExpired => (
            "run `claude` as the user that runs openTiger, which renews the login, and `/login` where it asks for one",
            "openTiger を実行するユーザーで `claude` を実行して更新し、求められたら `/login` を完了してください",
        ),
        R::KeyInvalid => (
            "set a valid ANTHROPIC_API_KEY, or unset it to use the login of the user that runs openTiger",
            "有効な ANTHROPIC_API_KEY を設定するか、削除してログインを使用してください",
        ),
        R::CliMissing => (
            "install Claude Code (`npm install -g @anthropic-ai/claude-code`), or set CLAUDE_CODE_COMMAND to its absolute path",
            "Claude Code を install する(`npm install -g @anthropic-ai/claude-code`)か、CLAUDE_CODE_COMMAND に絶対パスを設定してください",
        ),
        R::CliIncompatible => (
            "update Claude Code (`claude update`), and see whether `claude --version` works",
            "Claude Code を更新し(`claude update`)、`claude --version` が動作するか確認してください",
        ),
        other => return common_hint(other),
    })
}

const fn opencode_hint(reason: R) -> Option<Pair> {
    Some(match reason {
        R::LoginRequired | R::LoginExpired => (
            "log in with `opencode auth login` as the user that runs openTiger, or set the provider's key (such as ANTHROPIC_API_KEY)",
            "openTiger を実行するユーザーで `opencode auth login` を完了するか、プロバイダーの API キー(ANTHROPIC_API_KEY など)を設定してください",
        ),
        R::KeyInvalid => (
            "set a valid key of the provider, or log in anew with `opencode auth login`",
            "有効な API キーを設定するか、`opencode auth login` でログインし直してください",
        ),
        R::CliMissing => (
            "install opencode (`npm install -g opencode-ai`), or set OPENCODE_COMMAND to its absolute path",
            "opencode を install する(`npm install -g opencode-ai`)か、OPENCODE_COMMAND に絶対パスを設定してください",
        ),
        R::CliIncompatible => (
            "update opencode (`opencode upgrade`), and see whether OPENCODE_MODEL is one that `opencode models` lists",
            "opencode を更新し(`opencode upgrade`)、OPENCODE_MODEL が `opencode models` にあるか確認してください",
        ),
        other => return common_hint(other),
    })
}

const fn common_hint(reason: R) -> Option<Pair> {
    Some(match reason {
        R::Ready => return None,
        R::CredentialsUnreadable => (
            "give the file back to the user that runs openTiger (`chown`, `chmod 600`), or log in anew",
            "ファイルの所有者と権限を直す(`chown`、`chmod 600`)か、ログインし直してください",
        ),
        R::AccountBlocked => (
            "look into the provider's account: its billing, its plan, or its organisation's rules",
            "プロバイダーのアカウント(請求、プラン、組織の規則)を確認してください",
        ),
        R::RateLimited => (
            "wait until the limit begins anew; tasks wait by themselves",
            "上限が解除されるまでお待ちください。タスクは自動的に待機します",
        ),
        R::ProviderUnreachable => (
            "check the network, proxy settings and the provider's status page, then check again",
            "ネットワーク、プロキシ設定、プロバイダーの稼働状況を確認し、再度確認してください",
        ),
        R::DockerUnavailable => (
            "start Docker Desktop or `dockerd`, or set DOCKER_HOST to the engine's socket",
            "Docker Desktop または `dockerd` を起動するか、DOCKER_HOST を設定してください",
        ),
        R::DockerPermissionDenied => (
            "let the user that runs openTiger use Docker (group `docker`, or a rootless engine), then start openTiger anew",
            "`docker` 実行権限を確認し(`docker` グループなど)、openTiger を再起動してください",
        ),
        R::ImageMissing => (
            "build or pull the image that SANDBOX_DOCKER_IMAGE names",
            "SANDBOX_DOCKER_IMAGE で指定した image を build または pull してください",
        ),
        R::ImageInvalid => (
            "build the image anew from `ops/docker/worker.Dockerfile`, for this machine's architecture",
            "`ops/docker/worker.Dockerfile` から image を再 build してください",
        ),
        R::NetworkMissing => (
            "create the network (`docker network create NAME`), or set SANDBOX_DOCKER_NETWORK to one that is there",
            "`docker network create` で作成するか、SANDBOX_DOCKER_NETWORK を変更してください",
        ),
        R::MountDenied => (
            "let the engine see the directories: file sharing of Docker Desktop, SELinux, AppArmor, user namespaces",
            "マウント先が Docker Desktop の file sharing、SELinux、AppArmor、userns で遮断されていないか確認してください",
        ),
        R::ServiceOpenToLoopback => (
            "let the service ask for a password: `scram-sha-256` instead of `trust` in Postgres' `pg_hba.conf`, `requirepass` for Redis",
            "パスワードを必須にしてください: Postgres は `pg_hba.conf` の `trust` を `scram-sha-256` に、Redis は `requirepass` を設定します",
        ),
        R::ServiceUnreachable => (
            "let the service listen where containers reach it, or set its address to one that they reach",
            "サービスをコンテナから到達できるアドレスで待ち受けるように設定してください",
        ),
        R::Timeout => (
            "check the network and the machine's load, then check again",
            "ネットワークとマシンの負荷を確認し、再度確認してください",
        ),
        R::LoginRequired
        | R::LoginExpired
        | R::KeyInvalid
        | R::CliMissing
        | R::CliIncompatible
        | R::Unknown => (
            "check again with `refresh=true`; the server's log has more",
            "`refresh=true` で再度確認してください。詳細はサーバーのログにあります",
        ),
    })
}
