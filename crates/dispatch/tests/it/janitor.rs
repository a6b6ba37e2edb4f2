//! What the janitor leaves alone.

use std::sync::Arc;

use dispatch::{complaints::Complaints, janitor::Janitor};
use launcher::launcher::Launcher;

use crate::bench::{Bench, LEASE, Worker, end, is_running};

#[tokio::test]
async fn what_runs_or_belongs_to_a_run_that_is_not_over_is_not_swept() {
    let bench = Bench::new().await;
    let key = bench.started(Worker::Alive, LEASE).await;
    let ended = bench.launched(&key.run.to_string()).await;
    end(&ended).await;
    let server = bench.launched("embedded-postgres").await;
    let launcher: Arc<dyn Launcher> = Arc::clone(&bench.faulty) as Arc<dyn Launcher>;
    let checkouts = Arc::clone(&bench.checkouts);
    let janitor = Janitor { store: bench.database.store.clone(), launcher, checkouts };
    janitor.sweep(&mut Complaints::default()).await;
    assert!(is_running(&server));
    assert_eq!(bench.launcher.discover().await.unwrap().len(), 2);
    end(&server).await;
}
