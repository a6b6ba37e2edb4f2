use core_types::{ids::AgentId, task::Role};
use store::agents::{BeatReply, HostId, NewAgent};

use crate::world::{World, new_agent};

#[tokio::test]
async fn only_an_agent_that_never_registered_is_unknown() {
    let world = World::new().await;
    let agent = world.agent(Role::Worker).await;
    assert_eq!(world.store.agent_beat(agent).await.unwrap(), BeatReply::Known);
    assert!(world.store.retire_agent(agent).await.unwrap());
    assert!(!world.store.retire_agent(agent).await.unwrap());
    assert_eq!(world.store.agent_beat(agent).await.unwrap(), BeatReply::Known);
    assert_eq!(world.store.agent_beat(AgentId::generate()).await.unwrap(), BeatReply::Unknown);
    assert!(world.store.agents().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_life_that_signed_off_stays_so_whatever_it_says_and_gets_no_work() {
    let world = World::new().await;
    let agent = new_agent(Role::Worker);
    world.store.register_agent(&agent).await.unwrap();
    world.store.retire_agent(agent.id).await.unwrap();
    world.plain().await;
    world.store.agent_beat(agent.id).await.unwrap();
    world.store.register_agent(&agent).await.unwrap();
    assert!(world.claim(1).await.is_empty());
    assert!(world.store.live_agents_on(&agent.host).await.unwrap().is_empty());
    let next_life = new_agent(Role::Worker);
    world.store.register_agent(&next_life).await.unwrap();
    assert_eq!(world.claim(1).await.first().map(|one| one.agent), Some(next_life.id));
}

#[tokio::test]
async fn signing_off_wins_over_signs_of_life_at_the_same_time() {
    let world = World::new().await;
    for _ in 0..20 {
        let agent = new_agent(Role::Worker);
        world.store.register_agent(&agent).await.unwrap();
        let (retired, beat, registered) = tokio::join!(
            world.store.retire_agent(agent.id),
            world.store.agent_beat(agent.id),
            world.store.register_agent(&agent),
        );
        assert_eq!((retired.unwrap(), beat.unwrap()), (true, BeatReply::Known));
        registered.unwrap();
        assert!(world.store.live_agents_on(&agent.host).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_host_sees_all_its_agents_and_a_list_shows_live_ones_first() {
    let world = World::new().await;
    let dead: Vec<AgentId> = world
        .sql
        .query(
            "INSERT INTO agents (id, name, role, host, pid, start_ticks, boot_id, version, idle_since,
                 registered_at, last_beat)
             SELECT gen_random_uuid(), 'a', 'worker', 'test-host', 1, 1, 'boot', '0', now(), now(),
                 now() - interval '1 min'
             FROM generate_series(1, 1100) RETURNING id",
            &[],
        )
        .await
        .unwrap()
        .iter()
        .map(|row| AgentId::from_uuid(row.get(0)))
        .collect();
    let live = NewAgent { name: "z".to_owned(), ..new_agent(Role::Worker) };
    world.store.register_agent(&live).await.unwrap();
    let elsewhere = NewAgent { host: HostId::new("elsewhere"), ..new_agent(Role::Worker) };
    world.store.register_agent(&elsewhere).await.unwrap();
    let here = world.store.live_agents_on(&live.host).await.unwrap();
    assert_eq!(here.len(), dead.len() + 1);
    assert!(here.iter().all(|one| one.host == live.host));
    let listed = world.store.agents().await.unwrap();
    let first: Vec<AgentId> = listed.iter().take(2).map(|one| one.id).collect();
    assert_eq!((listed.len(), first), (1000, vec![elsewhere.id, live.id]));
}

#[tokio::test]
async fn an_assignment_is_there_from_the_claim_until_it_is_accepted() {
    let world = World::new().await;
    let agent = world.agent(Role::Worker).await;
    assert_eq!(world.store.assignment(agent).await.unwrap(), None);
    let task = world.plain().await;
    let [claimed] = world.claim(5).await.try_into().unwrap();
    let assignment = world.store.assignment(agent).await.unwrap().unwrap();
    assert_eq!((assignment.key, assignment.number), (claimed.key, 1));
    assert_eq!(assignment.task.new.id, task);
    world.store.start_run(claimed.key, agent).await.unwrap();
    assert_eq!(world.store.assignment(agent).await.unwrap(), None);
}

#[tokio::test]
async fn registering_again_does_not_make_a_busy_agent_idle() {
    let world = World::new().await;
    let agent = new_agent(Role::Worker);
    world.store.register_agent(&agent).await.unwrap();
    world.plain().await;
    world.plain().await;
    assert_eq!(world.claim(5).await.len(), 1);
    world.store.register_agent(&agent).await.unwrap();
    world.store.agent_beat(agent.id).await.unwrap();
    assert!(world.claim(5).await.is_empty());
    let known = world.store.agents().await.unwrap();
    assert!(known.iter().all(|one| one.run.is_some() && one.live));
}

#[tokio::test]
async fn agents_long_silent_are_signed_off() {
    let world = World::new().await;
    let silent = world.agent(Role::Worker).await;
    let live = world.agent(Role::Worker).await;
    world
        .sql
        .execute(
            "UPDATE agents SET last_beat = now() - interval '8 days' WHERE id = $1",
            &[&silent.as_uuid()],
        )
        .await
        .unwrap();
    assert_eq!(world.store.retire_silent_agents().await.unwrap(), 1);
    let left: Vec<AgentId> = world.store.agents().await.unwrap().iter().map(|a| a.id).collect();
    assert_eq!(left, [live]);
}
