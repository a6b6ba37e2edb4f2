//! Measures the dispatch path; checks nothing that a busy machine could break.

use std::time::{Duration, Instant};

use core_types::{
    outcome::{RunOutcome, RunReport},
    task::Role,
};

use crate::{
    claiming::fill_ready,
    world::{World, claim},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures, does not check"]
async fn claim_start_and_finish_at_two_depths() {
    for backlog in [1_000, 100_000] {
        let world = World::new().await;
        fill_ready(&world, backlog).await;
        for _ in 0..64 {
            world.agent(Role::Worker).await;
        }
        cycles(&world, 1, 20).await;
        let (mut latencies, one) = cycles(&world, 1, 200).await;
        latencies.sort_unstable();
        let (p50, p99) = (latencies[latencies.len() / 2], latencies[latencies.len() * 99 / 100]);
        let (_, many) = cycles(&world, 32, 25).await;
        eprintln!(
            "backlog {backlog}: claim of one p50 {p50:?} p99 {p99:?}; full cycle {one:.0}/s by one, {many:.0}/s in batches of 32"
        );
    }
}

/// Claims, starts and finishes `rounds` batches; tells how long each claim took and how many runs a second passed.
async fn cycles(world: &World, batch: u32, rounds: u32) -> (Vec<Duration>, f64) {
    let begin = Instant::now();
    let mut latencies = Vec::new();
    let mut done = 0_u32;
    for _ in 0..rounds {
        let start = Instant::now();
        let claimed = claim(&world.store, batch).await;
        latencies.push(start.elapsed());
        let finishes = claimed.iter().map(async |one| {
            world.store.start_run(one.key, one.agent).await.unwrap();
            world.store.finish_run(one.key, &RunReport::new(RunOutcome::Succeeded)).await.unwrap();
        });
        done += u32::try_from(futures_util::future::join_all(finishes).await.len()).unwrap();
        world.sql.batch_execute("UPDATE agents SET last_beat = now()").await.unwrap();
    }
    (latencies, f64::from(done) / begin.elapsed().as_secs_f64())
}
