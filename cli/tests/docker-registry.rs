//! Images from a real registry: a base to build on, and an image to deploy as it is.
#![expect(clippy::unwrap_used, reason = "a test that can't set up has failed")]

#[path = "sealed/registry.rs"]
mod registry;
mod sealed;

use std::{fs, path::Path};

use registry::Registry;
use sealed::Sealed;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

fn put(layout: &Path, bytes: &[u8], kind: &str) -> Value {
    let hex = hex::encode(Sha256::digest(bytes));
    fs::create_dir_all(layout.join("blobs/sha256")).unwrap();
    fs::write(layout.join("blobs/sha256").join(&hex), bytes).unwrap();
    json!({"mediaType": format!("application/vnd.oci.image.{kind}"), "digest": format!("sha256:{hex}"), "size": bytes.len()})
}

/// A base image with one file in it; its digest.
fn base(layout: &Path) -> String {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(4);
    header.set_mode(0o644);
    tar.append_data(&mut header, "etc/of-the-base", &b"base"[..]).unwrap();
    let layer = put(layout, &tar.into_inner().unwrap(), "layer.v1.tar");
    let config = json!({"architecture": "amd64", "os": "linux", "config": {"Env": ["OF=base"]},
        "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]}});
    let config = put(layout, config.to_string().as_bytes(), "config.v1+json");
    let manifest = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": config, "layers": [layer]});
    put(layout, manifest.to_string().as_bytes(), "manifest.v1+json")["digest"].as_str().unwrap().to_owned()
}

fn document(project: &Sealed, digest: &str) -> Value {
    let path = project.path().join(".dbird/images/blobs/sha256").join(digest.trim_start_matches("sha256:"));
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn planned(project: &Sealed, arguments: &[&str]) -> String {
    let ended = project.ok(&[&["plan", "--output", "json"], arguments].concat());
    let events = ended.events();
    let image = events.iter().find(|e| e["event"] == "image").unwrap();
    image["digest"].as_str().unwrap().to_owned()
}

#[test]
#[ignore = "needs docker-registry"]
fn an_image_is_built_on_one_from_a_registry_and_taken_from_there() {
    let registry = Registry::start();
    let layout = tempfile::tempdir().unwrap();
    let base = base(layout.path());
    let name = registry.push(layout.path(), &base, "base");
    let project = Sealed::project();
    let set = format!("service.build.base={name}");
    // Nothing is started here, but a base's files are at their place in a container only.
    let on_it = ["--set", set.as_str(), "--set", "cloud.local.runtime=podman"];
    let built = planned(&project, &on_it);
    let manifest = document(&project, &built);
    assert_eq!(manifest["layers"].as_array().unwrap().len(), 2);
    let config = document(&project, manifest["config"]["digest"].as_str().unwrap());
    assert!(config["config"]["Env"].as_array().unwrap().contains(&json!("OF=base")));

    // Another project takes what this one has made, as it is.
    let image = registry.push(&project.path().join(".dbird/images"), &built, "bird");
    let other = Sealed::project();
    assert_eq!(planned(&other, &["--image", &image]), built);
    drop(registry);
    // What is here needs no registry any more.
    assert_eq!(planned(&other, &["--image", &image]), built);
    assert_eq!(planned(&project, &on_it), built);
    let new = Sealed::project();
    let ended = new.run(&["plan", "--image", &image]);
    assert_eq!(ended.code, 1, "{ended}");
    assert!(ended.to_string().contains("could not be reached"), "{ended}");
}
