use core_types::{ids::AgentId, task::Role};
use store::agents::BeatReply;

use crate::world::{World, new_agent};

#[tokio::test]
async fn an_agent_that_signed_off_or_never_registered_is_unknown() {
    let world = World::new().await;
    let agent = world.agent(Role::Worker).await;
    assert_eq!(world.store.agent_beat(agent).await.unwrap(), BeatReply::Known);
    assert!(world.store.retire_agent(agent).await.unwrap());
    assert!(!world.store.retire_agent(agent).await.unwrap());
    assert_eq!(world.store.agent_beat(agent).await.unwrap(), BeatReply::Unknown);
    assert_eq!(world.store.agent_beat(AgentId::generate()).await.unwrap(), BeatReply::Unknown);
    assert!(world.store.agents().await.unwrap().is_empty());
}

#[tokio::test]
async fn an_agent_signed_off_by_mistake_signs_on_again() {
    let world = World::new().await;
    let agent = new_agent(Role::Worker);
    world.store.register_agent(&agent).await.unwrap();
    world.store.retire_agent(agent.id).await.unwrap();
    world.plain().await;
    assert!(world.claim(1).await.is_empty());
    world.store.register_agent(&agent).await.unwrap();
    assert_eq!(world.store.agent_beat(agent.id).await.unwrap(), BeatReply::Known);
    assert_eq!(world.claim(1).await.len(), 1);
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
            "UPDATE agents SET last_beat = now() - interval '2 h' WHERE id = $1",
            &[&silent.as_uuid()],
        )
        .await
        .unwrap();
    assert_eq!(world.store.retire_silent_agents().await.unwrap(), 1);
    let left: Vec<AgentId> = world.store.agents().await.unwrap().iter().map(|a| a.id).collect();
    assert_eq!(left, [live]);
}
