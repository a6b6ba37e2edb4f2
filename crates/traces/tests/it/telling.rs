//! What a collector hears, and that it hears of each run.

use std::{collections::BTreeSet, time::Duration};

use core_types::outcome::RunOutcome;
use http::StatusCode;
use testing::wait::wait_for;

use crate::{
    collector::{Arrived, Collector},
    world::World,
};

const DEADLINE: Duration = Duration::from_secs(60);

async fn spans(collector: &Collector, count: usize) -> Arrived {
    wait_for("the spans to arrive", DEADLINE, async || {
        let arrived = collector.arrived();
        if arrived.spans.len() >= count { Ok(arrived) } else { Err(format!("{arrived:?}")) }
    })
    .await
}

#[tokio::test]
async fn a_task_is_one_trace_with_the_id_of_the_task() {
    let mut world = World::new().await;
    let collector = Collector::start().await;
    let task = world.task().await;
    world.run(RunOutcome::WorkerLost).await;
    world.run(RunOutcome::Succeeded).await;
    world.export(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url()),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer hunter2"),
    ]);
    // Two runs of four spans each, and the task's.
    let arrived = spans(&collector, 9).await;
    assert_eq!(arrived.headers["authorization"], "Bearer hunter2");
    let trace = task.as_uuid().simple().to_string();
    assert!(arrived.spans.iter().all(|span| span.trace_id == trace), "{arrived:?}");
    let named = |name: &str| {
        let of = arrived.spans.iter().filter(|span| span.name == name);
        of.cloned().collect::<Vec<_>>()
    };
    let [whole] = named("task").try_into().unwrap();
    assert_eq!(whole.parent_span_id, None);
    let runs = named("run");
    assert_eq!(runs.len(), 2);
    for run in &runs {
        assert_eq!(run.parent_span_id.as_ref(), Some(&whole.span_id));
        assert!(run.start_time_unix_nano >= whole.start_time_unix_nano);
        assert!(run.end_time_unix_nano <= whole.end_time_unix_nano);
    }
    let outcome = runs[0].attributes.iter().find(|one| one.key == "opentiger.outcome").unwrap();
    assert_eq!(outcome.value["stringValue"], "worker_lost");
    let ids: BTreeSet<&String> = arrived.spans.iter().map(|span| &span.span_id).collect();
    assert_eq!(ids.len(), 9, "{arrived:?}");
    assert!(!format!("{:?}", arrived.spans).contains("secret"));
}

#[tokio::test]
async fn a_collector_that_was_away_hears_of_each_run_and_several_tell_it_once() {
    let mut world = World::new().await;
    let collector = Collector::start().await;
    collector.status.send_replace(StatusCode::SERVICE_UNAVAILABLE);
    for _ in 0..3 {
        world.task().await;
        world.run(RunOutcome::Succeeded).await;
    }
    let url = collector.url();
    let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", url.as_str())];
    world.export(&variables);
    wait_for("a refusal", DEADLINE, async || {
        let posts = collector.arrived().posts;
        if posts > 0 { Ok(()) } else { Err(posts.to_string()) }
    })
    .await;
    assert!(collector.arrived().spans.is_empty());
    collector.status.send_replace(StatusCode::OK);
    // Others, which do not wait as the first one does after its failure.
    world.export(&variables);
    world.export(&variables);
    let arrived = spans(&collector, 15).await;
    let ids: BTreeSet<&String> = arrived.spans.iter().map(|span| &span.span_id).collect();
    assert_eq!(ids.len(), arrived.spans.len(), "each once: {arrived:?}");
    assert_eq!(arrived.spans.len(), 15);
}

#[tokio::test]
async fn without_a_collector_nothing_is_passed_over() {
    let mut world = World::new().await;
    world.task().await;
    world.run(RunOutcome::Succeeded).await;
    world.export(&[]);
    let collector = Collector::start().await;
    world.export(&[("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url())]);
    assert_eq!(spans(&collector, 5).await.spans.len(), 5);
}
