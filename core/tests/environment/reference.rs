//! The files that people start from: Drafty Bird's own, the examples, and the reference beside the checkout.

use std::path::{Path, PathBuf};

use dbird_core::{
    Cloud, Spec,
    environment::{Layer, Request, resolve},
    spec::{Artefact, Strategy, Writer},
};

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn layer(path: &Path) -> Layer {
    Layer::new(path.display().to_string(), std::fs::read_to_string(path).unwrap())
}

/// Every environment of a folder, its base alone as `dev` first, for every cloud, without so much as a warning but those
/// that are allowed.
fn every_spec(folder: &Path, allowed: &[&str]) -> Vec<Spec> {
    let mut overlays: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    overlays.retain(|path| path.extension().is_some_and(|e| e == "toml") && !path.ends_with("base.toml"));
    overlays.sort();
    let mut environments = vec![("dev".to_owned(), None)];
    environments.extend(overlays.iter().map(|p| (p.file_stem().unwrap().to_str().unwrap().to_owned(), Some(layer(p)))));
    let mut specs = Vec::new();
    for (environment, overlay) in environments {
        for cloud in Cloud::ALL {
            let base = layer(&folder.join("base.toml"));
            let overlay = overlay.clone();
            let request =
                Request { environment: &environment, cloud, base, overlay, sets: &[], dbird_version: "0.1.0" };
            match resolve(&request) {
                Ok((spec, warnings)) => {
                    let expected = |code: Option<&str>| code.is_some_and(|c| allowed.contains(&c));
                    let odd: Vec<_> = warnings.iter().filter(|w| !expected(w.code)).collect();
                    assert!(odd.is_empty(), "{environment} for {cloud}: {odd:?}");
                    specs.push(spec);
                }
                Err(faults) => panic!("{environment} for {cloud}:\n{faults}"),
            }
        }
    }
    specs
}

#[test]
fn drafty_bird_is_right_for_every_cloud() {
    let specs = every_spec(&project().join("environments"), &[]);
    assert_eq!(specs.len(), 12, "base alone, dev, staging and prod, for three clouds each");
    for (index, spec) in specs.iter().enumerate() {
        assert_eq!(spec.storage.as_ref().unwrap().writer, Writer::Protocol);
        assert_eq!(spec.storage.as_ref().unwrap().storage_protocol, 1);
        let share = match &spec.rollout.strategy {
            Strategy::BlueGreen => 100,
            Strategy::Canary { steps } => steps[0].weight,
            other => panic!("{other:?}"),
        };
        let wanted = match spec.environment.as_str() {
            _ if index < Cloud::ALL.len() => 100,
            "dev" => 20,
            "prod" => 10,
            _ => 100,
        };
        assert_eq!(share, wanted, "{}", spec.environment);
        assert!(spec.analysis.probe.is_some(), "a release without users is judged too");
        assert_eq!(spec.env["SCORE_STORAGE"], "spool");
        assert_eq!((spec.scale.min, spec.scale.max), (1, 1));
    }
}

#[test]
fn the_examples_are_right_for_every_cloud() {
    let examples = project().join("examples");
    let mashroom = every_spec(&examples.join("mashroom/environments"), &[]);
    assert!(mashroom.iter().all(|spec| spec.storage.is_none() && spec.service.port == 3000));
    assert_eq!((mashroom[0].scale.min, mashroom[0].scale.max, mashroom[0].scale.steps.len()), (2, 10, 2));
    assert_eq!(mashroom[0].rollout.strategy, Strategy::Rolling { batch_percent: 50, min_healthy_percent: 50 });
    let quest = every_spec(&examples.join("quest/environments"), &[]);
    assert_eq!(quest[0].scale.steps.len(), 2);
    assert_eq!(quest[0].secrets["SECRET_WORD"].name, "secret-word");
}

#[test]
#[cfg_attr(not(dbird_shared), ignore = "needs the shared folder beside the checkout")]
fn the_reference_files_are_right_for_every_cloud() {
    let specs = every_spec(Path::new(env!("DBIRD_SHARED_ENVIRONMENTS")), &["DB017"]);
    let of = |environment: &str, cloud: Cloud| {
        specs.iter().find(|s| s.environment == environment && s.cloud == cloud).unwrap()
    };
    let dev = of("dev", Cloud::Local);
    assert_eq!(dev.rollout.strategy, Strategy::BlueGreen);
    assert_eq!(dev.rollout.hooks.len(), 1);
    assert_eq!(dev.rollout.hooks[0].timeout_ms, 60_000);
    assert_eq!(
        dev.service.build.as_ref().unwrap().artefact,
        Artefact::Binary { path: "target/release/drafty-bird".into() }
    );
    assert_eq!(dev.telemetry.otlp.as_deref(), Some("http://127.0.0.1:4318"));
    assert!(dev.drills_allowed);
    for (cloud, state) in [
        (Cloud::Local, "file:.dbird/state"),
        (Cloud::Aws, "s3://drafty-bird-state/prod"),
        (Cloud::Azure, "az://draftybirdstate/dbird/prod"),
    ] {
        let prod = of("prod", cloud);
        assert_eq!(prod.state_url, state);
        assert!(!prod.drills_allowed);
        let Strategy::Canary { steps } = &prod.rollout.strategy else { panic!("{:?}", prod.rollout.strategy) };
        assert_eq!(steps.iter().map(|s| (s.weight, s.pause_ms)).collect::<Vec<_>>(), [(10, 300_000), (100, 0)]);
    }
}
