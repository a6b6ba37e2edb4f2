//! Runs in sandboxes: claimed without agents, tended by one dispatcher at a time.

use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use core_types::{
    outcome::RunOutcome,
    task::{ExecutionEnvironment, Role, RunStatus},
    usage::SpendLimits,
};
use store::{
    agents::{HostId, ProcessIdentity},
    dispatch::{
        claim::ClaimRequest,
        sandboxed::{SandboxClaimRequest, SandboxClaimed},
    },
    dispatchers::DispatcherBeat,
    gates::GateKey,
    tasks::NewTask,
};
use uuid::Uuid;

use crate::world::{LEASE, World, plain_task};

fn here() -> HostId {
    HostId::new("here")
}

fn request(dispatcher: Uuid, workers: u32, max_running: u32) -> SandboxClaimRequest {
    SandboxClaimRequest {
        claim: ClaimRequest {
            limit: 64,
            lease: LEASE,
            max_running,
            spend: SpendLimits::default(),
            default_provider: core_types::provider::Provider::default(),
        },
        counts: BTreeMap::from([(Role::Worker, workers), (Role::Tester, 0)]),
        without: Vec::new(),
        host: here(),
        dispatcher,
    }
}

async fn claim(world: &World, workers: u32, max_running: u32) -> Vec<SandboxClaimed> {
    let request = request(Uuid::now_v7(), workers, max_running);
    world.store.claim_sandbox_runs(&request).await.unwrap()
}

#[tokio::test]
async fn a_claim_needs_no_agent_and_says_where_the_run_is() {
    let world = World::new().await;
    let task = world.plain().await;
    let dispatcher = Uuid::now_v7();
    let claimed = world.store.claim_sandbox_runs(&request(dispatcher, 2, 10)).await.unwrap();
    let [claimed] = claimed.as_slice() else { panic!("one expected: {claimed:?}") };
    assert_eq!((claimed.task, claimed.role), (task, Role::Worker));
    let run = world.store.run(claimed.key.run).await.unwrap().unwrap();
    assert_eq!((run.status, run.agent, run.host), (RunStatus::Launching, None, Some(here())));
    let tended = world.store.sandbox_runs_on(&here()).await.unwrap();
    assert_eq!(tended.len(), 1);
    assert_eq!((tended[0].key, tended[0].dispatcher), (claimed.key, Some(dispatcher)));
    // It may be prepared for long.
    assert!(world.store.unaccepted(Duration::ZERO).await.unwrap().is_empty());
    world.finish(claimed.key, RunOutcome::Succeeded).await;
    assert!(world.store.sandbox_runs_on(&here()).await.unwrap().is_empty());
}

#[tokio::test]
async fn counts_of_roles_and_the_limit_of_all_cap_sandboxes() {
    let world = World::new().await;
    let testers = (0..4).map(|_| NewTask { role: Role::Tester, ..plain_task() });
    world.store.create_tasks(testers.collect()).await.unwrap();
    world.store.create_tasks((0..6).map(|_| plain_task()).collect()).await.unwrap();
    assert_eq!(claim(&world, 3, 2).await.len(), 2);
    let more = claim(&world, 3, 10).await;
    assert_eq!(more.len(), 1);
    assert_eq!(claim(&world, 3, 10).await, []);
    world.finish(more[0].key, RunOutcome::Succeeded).await;
    assert_eq!(claim(&world, 3, 10).await.len(), 1);
}

#[tokio::test]
async fn runs_of_the_host_count_as_well() {
    let world = World::new().await;
    world.store.create_tasks((0..3).map(|_| plain_task()).collect()).await.unwrap();
    world.run_with_new_agent().await;
    assert_eq!(claim(&world, 2, 10).await.len(), 1);
}

#[tokio::test]
async fn claimers_of_both_kinds_side_by_side_hand_out_each_task_once() {
    let world = World::new().await;
    world.store.create_tasks((0..40).map(|_| plain_task()).collect()).await.unwrap();
    for _ in 0..20 {
        world.agent(Role::Worker).await;
    }
    let sandboxes = async {
        let mut runs = Vec::new();
        for _ in 0..10 {
            runs.extend(claim(&world, 40, 64).await.iter().map(|claim| claim.task));
        }
        runs
    };
    let host = async {
        let mut runs = Vec::new();
        for _ in 0..10 {
            runs.extend(world.claim(3).await.iter().map(|claim| claim.task));
        }
        runs
    };
    let (mut all, more) = tokio::join!(sandboxes, host);
    all.extend(more);
    let distinct: HashSet<_> = all.iter().collect();
    assert_eq!(distinct.len(), all.len());
    world.assert_rules().await;
}

#[tokio::test]
async fn the_gates_are_those_of_sandboxes() {
    let world = World::new().await;
    world.plain().await;
    let [first] = claim(&world, 1, 1).await.try_into().unwrap();
    world.finish(first.key, RunOutcome::LoginRequired).await;
    let gates = world.store.gates().await.unwrap();
    let shut = |stored: &store::gates::StoredGate| stored.gate.shut().is_some();
    let closed: Vec<GateKey> =
        gates.iter().filter(|gate| shut(gate)).map(|gate| gate.key.clone()).collect();
    let executor = plain_task().executor;
    assert_eq!(
        closed,
        [GateKey {
            environment: ExecutionEnvironment::Sandbox,
            executor,
            provider: core_types::provider::Provider::default()
        }]
    );
    assert_eq!(claim(&world, 1, 1).await, []);
    world.agent(Role::Worker).await;
    assert_eq!(world.claim(1).await.len(), 1);
}

#[tokio::test]
async fn a_run_is_taken_over_once_and_only_from_who_has_it() {
    let world = World::new().await;
    world.plain().await;
    let beat = DispatcherBeat {
        id: Uuid::now_v7(),
        host: here(),
        process: ProcessIdentity { pid: 7, start_ticks: 8, boot_id: "boot".to_owned() },
        version: "1".to_owned(),
        paused: None,
    };
    world.store.dispatcher_beat(&beat).await.unwrap();
    let claimed = world.store.claim_sandbox_runs(&request(beat.id, 1, 1)).await.unwrap();
    let key = claimed[0].key;
    let tended = world.store.sandbox_runs_on(&here()).await.unwrap();
    assert_eq!(tended[0].process, Some(beat.process.clone()));
    world.store.retire_dispatcher(beat.id).await.unwrap();
    let tended = world.store.sandbox_runs_on(&here()).await.unwrap();
    assert_eq!((tended[0].dispatcher, &tended[0].process), (Some(beat.id), &None));
    let (one, other) = (Uuid::now_v7(), Uuid::now_v7());
    assert!(world.store.take_over_sandbox_run(key, Some(beat.id), one).await.unwrap());
    assert!(!world.store.take_over_sandbox_run(key, Some(beat.id), other).await.unwrap());
    assert!(world.store.sandbox_runs_on(&HostId::new("there")).await.unwrap().is_empty());
}
