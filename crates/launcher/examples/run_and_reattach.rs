//! Starts a command, forgets everything but a line of JSON, and finds it again by that line.

use std::{error::Error, io::Write as _, time::Duration};

use futures_util::StreamExt as _;
use launcher::{
    handle::{Destroy, HandleRecord},
    launcher::Launcher as _,
    output::{LogContent, LogCursor},
    process::ProcessLauncher,
    spec::{Input, LaunchSpec},
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let state = std::env::temp_dir().join(format!("run-and-reattach-{}", std::process::id()));
    let mut spec = LaunchSpec::new("/bin/sh", "/");
    spec.args =
        ["-c", "read name; for i in 1 2 3; do echo hello $name $i; sleep 0.2; done; exit 7"]
            .map(str::to_owned)
            .to_vec();
    spec.lease = Some(Duration::from_secs(60));
    let input = Input { stdin: b"world\n".to_vec(), ..Input::default() };

    let stored = {
        let launcher = ProcessLauncher::new(&state)?;
        let handle = launcher.launch(&"example-1".parse()?, &spec, input).await?.into_handle();
        serde_json::to_string(&handle.record())?
    };

    let record: HandleRecord = serde_json::from_str(&stored)?;
    let handle = ProcessLauncher::new(&state)?.attach(&record).await?;
    let mut logs = handle.logs(LogCursor::START);
    while let Some(chunk) = logs.next().await {
        if let LogContent::Output { data, .. } = chunk?.content {
            std::io::stdout().write_all(&data)?;
        }
    }
    let report = handle.exited().await;
    writeln!(std::io::stdout(), "{} {}", handle.id(), report.outcome)?;
    handle.destroy(Destroy::Everything).await?;
    Ok(std::fs::remove_dir_all(&state)?)
}
