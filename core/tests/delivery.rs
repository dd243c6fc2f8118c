//! Which engine moves the traffic of a release on AWS, and how.
#![expect(clippy::unwrap_used, reason = "a test that can't set up has failed")]

use dbird_core::{
    Cloud, Spec,
    environment::{Layer, Request, resolve},
    spec::{Controller, Strategy},
};

const HEAD: &str =
    "schema = 1\n[service]\nname = \"bird\"\nport = 8080\nport_env = \"PORT\"\n[env]\nDB = \"/data/db\"\n";

fn resolved(cloud: Cloud, text: &str) -> Spec {
    let base = Layer::new("base.toml", format!("{HEAD}{text}"));
    let request = Request { environment: "dev", cloud, base, overlay: None, sets: &[], dbird_version: "0.1.0" };
    resolve(&request).unwrap().0
}

#[test]
fn the_engine_and_what_it_does() {
    let exclusive = "[storage]\nkind = \"sqlite\"\nmount = \"/data\"\n";
    let (codedeploy, ecs) = (Controller::Codedeploy, Controller::Ecs);
    let minute = 60_000;
    #[rustfmt::skip]
    let cases: &[(&str, Cloud, Controller, &str, Option<u64>)] = &[
        ("", Cloud::Aws, codedeploy, "blue-green", None),
        (exclusive, Cloud::Aws, ecs, "recreate", None),
        (exclusive, Cloud::Local, codedeploy, "blue-green", None),
        (exclusive, Cloud::Azure, codedeploy, "blue-green", None),
        ("[storage]\nkind = \"sqlite\"\nmount = \"/data\"\nwriter = \"protocol\"\nstorage_protocol = 1\n", Cloud::Aws, codedeploy, "blue-green", None),
        ("[rollout]\nstrategy = \"rolling\"\n", Cloud::Aws, ecs, "rolling", None),
        ("[rollout]\nstrategy = \"recreate\"\n", Cloud::Aws, ecs, "recreate", None),
        ("[rollout]\nstrategy = \"all-at-once\"\ncontroller = \"ecs\"\n", Cloud::Aws, ecs, "all-at-once", None),
        ("[rollout]\nstrategy = \"canary\"\n", Cloud::Aws, codedeploy, "canary", Some(5 * minute)),
        ("[rollout]\nstrategy = \"canary\"\nsteps = [{ weight = 100 }]\n", Cloud::Aws, codedeploy, "blue-green", None),
        // Ten looks, half a minute apart.
        ("[rollout]\nstrategy = \"canary\"\npause = \"0s\"\n", Cloud::Aws, codedeploy, "canary", Some(5 * minute)),
        ("[rollout]\nstrategy = \"canary\"\npause = \"0s\"\n[analysis]\ninterval = \"1s\"\n", Cloud::Aws, codedeploy, "canary", Some(minute)),
        ("[rollout]\nstrategy = \"canary\"\npause = \"0s\"\n[analysis]\ninterval = \"1s\"\n", Cloud::Local, codedeploy, "canary", Some(0)),
        ("[rollout]\nstrategy = \"canary\"\ncontroller = \"ecs\"\nsteps = [{ weight = 5, gate = true }, { weight = 100 }]\n", Cloud::Aws, ecs, "canary", Some(0)),
        ("[rollout]\nstrategy = \"linear\"\nevery = \"3m\"\n", Cloud::Aws, codedeploy, "linear", Some(3 * minute)),
    ];
    for (text, cloud, controller, strategy, wait_ms) in cases {
        let delivery = resolved(*cloud, text).delivery();
        assert_eq!((delivery.controller, delivery.strategy.name()), (*controller, *strategy), "{text} {cloud}");
        let waits = match delivery.strategy {
            Strategy::Canary { steps } => Some(steps[0].pause_ms),
            Strategy::Linear { every_ms, .. } => Some(every_ms),
            _ => None,
        };
        assert_eq!(waits, *wait_ms, "{text} {cloud}");
    }
}
