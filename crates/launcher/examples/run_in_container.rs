//! Runs a command in a container: `cargo run -p launcher --features docker --example
//! run_in_container -- debian:bookworm id`.

use std::{env, error::Error, io::Write as _, time::Instant};

use futures_util::StreamExt as _;
use launcher::{
    container::ContainerSpec,
    docker::{DockerConfig, DockerLauncher},
    error::LaunchError,
    handle::Destroy,
    launcher::Launcher as _,
    output::{LogContent, LogCursor},
    spec::{Input, LaunchSpec, UserId},
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let image = arguments.next().ok_or("an image is wanted")?;
    let mut spec = LaunchSpec::new(arguments.next().ok_or("a program is wanted")?, "/");
    spec.args = arguments.collect();
    spec.user = Some(UserId { uid: 1001, gid: 1001 });
    spec.container = Some(ContainerSpec::new(image, "none"));

    let state = env::temp_dir().join(format!("run-in-container-{}", std::process::id()));
    #[expect(clippy::disallowed_methods, reason = "the usual variable of programs that use Docker")]
    let host = env::var("DOCKER_HOST").ok();
    let launcher = DockerLauncher::open(DockerConfig { host, store: state.clone() })?;
    let mut out = std::io::stdout();
    writeln!(out, "{:?}", launcher.probe().await?)?;
    let asked = Instant::now();
    let launched = launcher.launch(&"example-1".parse()?, &spec, Input::default()).await;
    let handle = launched.inspect_err(|error: &LaunchError| {
        writeln!(std::io::stderr(), "hint: {}", error.hint()).ok();
    })?;
    let handle = handle.into_handle();
    writeln!(out, "started after {:?}", asked.elapsed())?;
    let mut logs = handle.logs(LogCursor::START);
    while let Some(chunk) = logs.next().await {
        if let LogContent::Output { data, .. } = chunk?.content {
            out.write_all(&data)?;
        }
    }
    let report = handle.exited().await;
    writeln!(out, "{} {} after {:?}", handle.id(), report.outcome, asked.elapsed())?;
    handle.destroy(Destroy::Everything).await?;
    Ok(std::fs::remove_dir_all(&state)?)
}
