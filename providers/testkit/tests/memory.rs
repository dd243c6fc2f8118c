//! What the in-memory provider shows of services that behave in known ways, for the tests of those who judge by it.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::BTreeMap;
use std::sync::Arc;

use dbird_core::{
    Action, Digest, Handle, Phase, Progress, Provider, ReleaseId, Start, Steer, StepId, StepKind, Target, TaskState,
    Weights, Window, Work,
};
use dbird_testkit::memory::{Behaviour, MemoryProvider, Replicas, Serves, ServiceBody, VirtualClock};
use serde_json::json;

const ONE: ReleaseId = ReleaseId(1);
const TWO: ReleaseId = ReleaseId(2);

struct World {
    provider: MemoryProvider,
    target: Target,
}

impl World {
    async fn serving(body: ServiceBody) -> World {
        let target = Target { service: "bird".to_owned(), environment: "dev".to_owned() };
        let world = World { provider: MemoryProvider::new(Arc::new(VirtualClock::new())), target };
        let handle = world.candidate(ONE, body, Start::All).await;
        world.shift(&handle, Weights::all(ONE), &[]).await;
        world.provider.steer(&world.target, &handle, &Steer::Finish).await.unwrap();
        world.until(&handle, |progress| progress.phase == Phase::Finished).await;
        world
    }

    async fn candidate(&self, release: ReleaseId, body: ServiceBody, start: Start) -> Handle {
        let body = json!(body);
        let (step, document) = (StepId::new("service"), Digest::of_json(&body));
        let work = Work { step, kind: StepKind::Service, action: Action::Create, release, document, body, start };
        let handle = self.provider.apply(&self.target, &work).await.unwrap();
        self.until(&handle, |progress| progress.phase == Phase::Ready).await;
        handle
    }

    async fn shift(&self, handle: &Handle, weights: Weights, copies: &[(ReleaseId, u32)]) {
        let steer = Steer::Shift { weights, copies: copies.iter().copied().collect() };
        self.provider.steer(&self.target, handle, &steer).await.unwrap();
        self.until(handle, |progress| progress.phase == Phase::Ready).await;
    }

    async fn until(&self, handle: &Handle, wanted: impl Fn(&Progress) -> bool) {
        for _ in 0..1_000 {
            if wanted(&self.provider.poll(&self.target, handle).await.unwrap()) {
                return;
            }
        }
        panic!("it never comes");
    }

    async fn tasks(&self, release: ReleaseId) -> Vec<(TaskState, u32)> {
        let observed = self.provider.observe(&self.target).await.unwrap();
        let tasks = observed.releases.iter().filter(|live| live.id == release).flat_map(|live| &live.tasks);
        tasks.map(|task| (task.state, task.restarts)).collect()
    }
}

fn split(share: u8) -> Weights {
    Weights(BTreeMap::from([(ONE, 100 - share), (TWO, share)]))
}

#[tokio::test]
async fn restarts_and_lost_readiness_show_once_there_is_traffic() {
    for (behaves, after_ms, state, restarts) in [
        (Behaviour::Healthy, 10_000, TaskState::Ready, 0),
        (Behaviour::Restarts { every_ms: 400 }, 399, TaskState::Ready, 0),
        (Behaviour::Restarts { every_ms: 400 }, 1_300, TaskState::Ready, 3),
        (Behaviour::Unready { after_ms: 500 }, 499, TaskState::Ready, 0),
        (Behaviour::Unready { after_ms: 500 }, 500, TaskState::Unready, 0),
    ] {
        let world = World::serving(ServiceBody::default()).await;
        let body = ServiceBody { behaves: behaves.clone(), replicas: Replicas(2), ..ServiceBody::default() };
        let handle = world.candidate(TWO, body, Start::All).await;
        world.provider.clock().advance(10_000);
        assert_eq!(world.tasks(TWO).await, [(TaskState::Ready, 0); 2], "{behaves:?} without traffic");
        world.shift(&handle, split(10), &[]).await;
        world.provider.clock().advance(after_ms);
        assert_eq!(world.tasks(TWO).await, [(state, restarts); 2], "{behaves:?} after {after_ms} ms");
        assert_eq!(world.tasks(ONE).await, [(TaskState::Ready, 0)]);
    }
}

#[tokio::test]
async fn samples_follow_weights_and_documents() {
    let world = World::serving(ServiceBody::default()).await;
    let serves = Serves { requests_per_s: 200, errors_permille: 100, latency_ms: 80 };
    let handle = world.candidate(TWO, ServiceBody { serves, ..ServiceBody::default() }, Start::All).await;
    world.shift(&handle, split(25), &[]).await;
    world.provider.clock().advance(2_000);
    let window = Window { length_ms: 2_000 };
    let samples = world.provider.sample(&world.target, &[TWO, ONE, ReleaseId(9)], window).await.unwrap();
    let numbers: Vec<_> = samples.iter().map(|s| (s.release.0, s.requests, s.errors, s.window_ms)).collect();
    assert_eq!(numbers, [(2, 100, 10, 2_000), (1, 1_500, 0, 2_000), (9, 0, 0, 0)]);
    assert_eq!(samples[0].latency_ms, BTreeMap::from([(100, 100)]));
    assert_eq!((samples[0].failing[0].count, samples[0].failing[0].slowest_ms), (10, 80));
}

#[tokio::test]
async fn copies_show_and_nothing_of_a_cold_candidate_does() {
    let three = || ServiceBody { replicas: Replicas(3), ..ServiceBody::default() };
    let world = World::serving(three()).await;
    let handle = world.candidate(TWO, three(), Start::Copies { count: 1 }).await;
    assert_eq!((world.tasks(ONE).await.len(), world.tasks(TWO).await.len()), (3, 1));
    world.shift(&handle, split(66), &[(ONE, 1), (TWO, 2)]).await;
    assert_eq!((world.tasks(ONE).await.len(), world.tasks(TWO).await.len()), (1, 2));
    world.provider.steer(&world.target, &handle, &Steer::Stop { roll_back: true }).await.unwrap();
    world.until(&handle, |progress| progress.phase == Phase::RolledBack).await;
    assert_eq!((world.tasks(ONE).await.len(), world.tasks(TWO).await.len()), (3, 0));

    // Given up while it starts, before it has started at all, and after it took over.
    for (release, behaves, looks) in
        [(3, Behaviour::NeverReady, 12), (4, Behaviour::Healthy, 0), (5, Behaviour::Healthy, 30)]
    {
        let body = ServiceBody { behaves, ..three() };
        let release = ReleaseId(release);
        let handle = world.candidate(release, body, Start::Nothing).await;
        assert_eq!((world.tasks(ONE).await.len(), world.tasks(release).await.len()), (3, 0));
        if looks > 0 {
            world.provider.steer(&world.target, &handle, &Steer::shift(Weights::all(release))).await.unwrap();
        }
        for _ in 0..looks {
            world.provider.poll(&world.target, &handle).await.unwrap();
            let both = (world.tasks(ONE).await.len(), world.tasks(release).await.len());
            assert!(both.0 == 0 || both.1 == 0, "{both:?}");
        }
        world.provider.steer(&world.target, &handle, &Steer::Stop { roll_back: true }).await.unwrap();
        world.until(&handle, |progress| progress.phase == Phase::RolledBack).await;
        assert_eq!(world.tasks(ONE).await, [(TaskState::Ready, 0); 3]);
    }
}
