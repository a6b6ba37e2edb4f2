//! Which package may know which: arrows point one way, and a heavy library has one home.

/// A package of this workspace with the packages of this workspace that it may depend on.
#[derive(Debug)]
pub(crate) struct Layer {
    /// The package.
    pub package: &'static str,
    /// What its code may use.
    pub uses: &'static [&'static str],
    /// What its tests may use besides.
    pub tests_use: &'static [&'static str],
}

const fn layer(
    package: &'static str,
    uses: &'static [&'static str],
    tests_use: &'static [&'static str],
) -> Layer {
    Layer { package, uses, tests_use }
}

/// Every package, the lowest first. A new arrow is a decision: add it here and say why in the commit.
pub(crate) const LAYERS: &[Layer] = &[
    layer("core-types", &[], &[]),
    layer("launcher", &[], &[]),
    layer("telemetry", &[], &[]),
    layer("model-stub", &[], &["core-config", "core-types", "executor", "launcher"]),
    layer("core-config", &["core-types"], &[]),
    layer("client", &["core-types"], &[]),
    layer("executor", &["core-config", "core-types"], &["launcher", "model-stub"]),
    layer("embedded", &["core-types", "launcher"], &["testing"]),
    layer("agent-queue", &["core-types"], &["testing"]),
    layer("store", &["core-types"], &["testing"]),
    layer("checkout", &["core-types", "launcher"], &["testing"]),
    layer(
        "sandbox",
        &["core-config", "core-types", "executor", "launcher", "telemetry"],
        // `client` writes the file in which a server says where it listens.
        &["client", "testing"],
    ),
    layer(
        "auth-probe",
        &["core-config", "core-types", "executor", "launcher", "sandbox", "store", "telemetry"],
        &["model-stub", "testing"],
    ),
    layer("testing", &["core-types", "embedded", "launcher", "store"], &[]),
    layer(
        "agent",
        &["checkout", "core-config", "core-types", "executor", "launcher", "store", "telemetry"],
        &["model-stub", "testing"],
    ),
    layer(
        "dispatch",
        &["checkout", "core-config", "core-types", "launcher", "sandbox", "store", "telemetry"],
        &["testing"],
    ),
    layer(
        "notices",
        &["core-config", "core-types", "launcher", "store", "telemetry"],
        &["testing"],
    ),
    layer("traces", &["core-config", "core-types", "store", "telemetry"], &["testing"]),
    layer(
        "processes",
        &["core-config", "core-types", "launcher", "store", "telemetry"],
        &["testing"],
    ),
    layer(
        "api",
        &[
            "agent-queue",
            "auth-probe",
            "checkout",
            "core-config",
            "core-types",
            "executor",
            "launcher",
            "processes",
            "store",
            "telemetry",
        ],
        &["testing"],
    ),
    layer(
        "bootstrap",
        &["agent-queue", "core-config", "core-types", "embedded", "launcher", "store", "telemetry"],
        &["testing"],
    ),
    layer("api-server", PROGRAMS_USE, PROGRAMS_TESTS_USE),
    layer("opentiger", PROGRAMS_USE, PROGRAMS_TESTS_USE),
    layer("dispatcher", PROGRAMS_USE, PROGRAMS_TESTS_USE),
    layer("worker", PROGRAMS_USE, PROGRAMS_TESTS_USE),
    layer(
        "xtask",
        &[
            "api",
            "client",
            "core-config",
            "core-types",
            "embedded",
            "executor",
            "launcher",
            "testing",
        ],
        &[],
    ),
];

/// Programs put crates together, so they may know any that is part of the product.
const PROGRAMS_USE: &[&str] = &[
    "agent",
    "agent-queue",
    "api",
    "auth-probe",
    "bootstrap",
    "checkout",
    "client",
    "core-config",
    "core-types",
    "dispatch",
    "embedded",
    "executor",
    "launcher",
    // The self-test of a sandbox asks a scripted model.
    "model-stub",
    "notices",
    "processes",
    "sandbox",
    "store",
    "telemetry",
    "traces",
];
const PROGRAMS_TESTS_USE: &[&str] = &["model-stub", "testing"];

/// A library with the packages that may use it.
pub(crate) const HOMES: &[(&str, &[&str])] = &[
    ("axum", &["api", "model-stub"]),
    ("bollard", &["launcher"]),
    ("deadpool-postgres", &["store"]),
    ("figment", &["core-config"]),
    ("fred", &["agent-queue"]),
    ("hyper-rustls", &["notices", "traces"]),
    ("postgres-protocol", &["store"]),
    ("prometheus-client", &["api"]),
    ("refinery", &["store"]),
    // The tests of `sandbox` ask the driver what an address means.
    ("tokio-postgres", &["embedded", "sandbox", "store", "testing"]),
    ("tower-http", &["api"]),
];

/// Packages that only tests may use.
pub(crate) const FOR_TESTS_ONLY: &[&str] = &["testing"];

/// Libraries that are parts of programs, whose errors are for people: they may use `anyhow`.
pub(crate) const PARTS_OF_PROGRAMS: &[&str] = &["bootstrap"];
