//! An engine of its own that goes away, with and without its containers, and comes back.

use tempfile::TempDir;
use testing::engine::{EngineOptions, PrivateEngine, worker_image};

use super::{
    door::{Door, Hold},
    support::{Network, Sandboxed, Setup},
};

async fn open(live_restore: bool, data: &TempDir) -> PrivateEngine {
    let kept_data = Some(data.path().to_path_buf());
    let engine = PrivateEngine::open(EngineOptions { live_restore, kept_data }).await;
    engine.expect("a private engine starts")
}

async fn system(engine: &PrivateEngine, door: &Door) -> Sandboxed {
    let network = Network::new(&engine.host(), &[]);
    Setup::on(network).with("DOCKER_HOST", door.host()).start().await
}

#[tokio::test]
async fn tasks_outlast_an_engine_that_goes_and_comes_back() {
    let data = tempfile::tempdir().expect("a temporary directory can be made");
    let mut engine = open(false, &data).await;
    engine.load_from_shared(&[&worker_image()]);
    let door = Door::before(&engine.host());
    let it = system(&engine, &door).await;
    down_before(&it, &mut engine).await;
    down_during_launch(&it, &mut engine, &door).await;
    ends_with_its_engine(&it, &mut engine).await;
    it.wait_clean().await;
    drop(it);
    assert_eq!(engine.end(), [""; 0]);

    let mut engine = open(true, &data).await;
    let door = Door::before(&engine.host());
    let it = system(&engine, &door).await;
    lives_on_without_its_engine(&it, &mut engine).await;
    ends_while_the_engine_is_down(&it, &mut engine).await;
    it.wait_clean().await;
    drop(it);
    assert_eq!(engine.end(), [""; 0]);
}

async fn down_before(it: &Sandboxed, engine: &mut PrivateEngine) {
    engine.kill();
    it.system.wait_log(crate::system::Part::Dispatcher, "cannot be reached").await;
    let task = it.queue().await;
    it.waits(&task, "sandbox_not_ready", "systemctl start docker").await;
    assert!(it.system.runs(&task).await.is_empty(), "{}", it.system.logs());
    engine.start_again().await;
    let run = it.at_gate(&task, 1).await;
    it.open_gate(&run);
    it.wait_done(&task, &["succeeded"]).await;
}

async fn down_during_launch(it: &Sandboxed, engine: &mut PrivateEngine, door: &Door) {
    door.hold(Hold::Before("/start"));
    let task = it.queue().await;
    door.wait_held(|| it.system.logs()).await;
    engine.kill();
    door.hold(Hold::Nowhere);
    assert_eq!(it.outcomes(&task, 1).await, ["interrupted"]);
    engine.start_again().await;
    let run = it.at_gate(&task, 2).await;
    it.open_gate(&run);
    it.wait_done(&task, &["interrupted", "succeeded"]).await;
}

async fn ends_with_its_engine(it: &Sandboxed, engine: &mut PrivateEngine) {
    let task = it.queue().await;
    it.at_gate(&task, 1).await;
    engine.kill();
    // It ends the containers that it finds.
    engine.start_again().await;
    let run = it.at_gate(&task, 2).await;
    it.open_gate(&run);
    it.wait_done(&task, &["interrupted", "succeeded"]).await;
}

async fn lives_on_without_its_engine(it: &Sandboxed, engine: &mut PrivateEngine) {
    let task = it.queue().await;
    let (run, container) = it.alone_at_gate(&task, 1).await;
    engine.kill();
    engine.start_again().await;
    assert_eq!(it.alone_at_gate(&task, 1).await, (run.clone(), container));
    it.open_gate(&run);
    it.wait_done(&task, &["succeeded"]).await;
}

async fn ends_while_the_engine_is_down(it: &Sandboxed, engine: &mut PrivateEngine) {
    let task = it.queue().await;
    let run = it.at_gate(&task, 1).await;
    engine.kill();
    it.open_gate(&run);
    it.wait_reported(&task).await;
    engine.start_again().await;
    it.wait_done(&task, &["succeeded"]).await;
}
