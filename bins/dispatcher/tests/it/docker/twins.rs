//! Two installations on one engine.

use super::support::{Setup, docker};
use crate::system::Part;

/// Since when a container runs, and as which process.
fn life(container: &str) -> String {
    let format = "{{.State.StartedAt}} {{.State.Pid}} {{.State.Status}}";
    docker(&["inspect", "--format", format, container]).expect("it is there")
}

#[tokio::test]
async fn each_installation_does_its_own_tasks_and_reaps_its_own_containers() {
    let (mut one, two) = tokio::join!(Setup::new().start(), Setup::new().start());
    let (first, second) = tokio::join!(one.queue(), two.queue());
    let ((_, ours), (run, theirs)) =
        tokio::join!(one.alone_at_gate(&first, 1), two.alone_at_gate(&second, 1));
    let before = life(&theirs);

    // What the dead one leaves is a container that ended and a task without a run.
    one.system.kill(Part::Dispatcher);
    docker(&["kill", &ours]).expect("it runs");
    one.system.spawn(Part::Dispatcher);
    let again = one.at_gate(&first, 2).await;
    one.open_gate(&again);
    one.wait_done(&first, &["interrupted", "succeeded"]).await;
    one.wait_clean_after_a_death().await;

    assert_eq!(life(&theirs), before, "it runs as before");
    assert_eq!(two.alone_at_gate(&second, 1).await, (run.clone(), theirs));
    two.open_gate(&run);
    two.wait_done(&second, &["succeeded"]).await;
    two.wait_clean().await;
}
