//! Rendering: what the local documents hold, that nothing is quoted by hand, and where errors point.
#![expect(clippy::unwrap_used, reason = "a test that can't set up has failed")]

use dbird_core::{
    Cloud, Digest, Documents, ImageRef, Spec, StepId,
    environment::{Layer, Request, resolve},
    spec,
};
use dbird_templates::{BUILT_IN, TemplateError, render};
use serde_json::{Value, json};

/// As a project writes it.
const BASE: &str = r#"
schema = 1
[service]
name = "bird"
port = 8080
port_env = "PORT"
[health]
ready = "/readyz"
[storage]
kind = "sqlite"
mount = "/data"
[env]
GREETING = "hi"
SCORE_DB_PATH = "/data/db.sqlite"
[secrets]
KEY = { name = "key" }
"#;

fn sample() -> Spec {
    let base = Layer::new("environments/base.toml", BASE);
    let (environment, cloud, dbird_version) = ("dev", Cloud::Local, "0.1.0");
    resolve(&Request { environment, cloud, base, overlay: None, sets: &[], dbird_version }).unwrap().0
}

fn image() -> ImageRef {
    ImageRef { repository: "oci:.dbird/images".into(), digest: Digest::of(b"image") }
}

fn body(documents: &Documents, step: &str) -> Value {
    documents.get(&StepId::new(step)).unwrap().body.clone()
}

#[test]
fn the_documents_of_the_local_cloud_are_exactly_these() {
    let documents = render(&sample(), Some(&image()), None).unwrap();
    let digest = image().digest;
    assert_eq!(documents.steps.iter().map(|d| d.step.0.as_str()).collect::<Vec<_>>(), ["image", "data", "service"]);
    assert_eq!(body(&documents, "image"), json!({"repository": "oci:.dbird/images", "digest": digest}));
    assert_eq!(body(&documents, "data"), json!({"name": "data", "path": "/data"}));
    assert_eq!(
        body(&documents, "service"),
        json!({
            "name": "bird", "environment": "dev",
            "image": {"repository": "oci:.dbird/images", "digest": digest},
            "runtime": "process", "port": 8080, "port_env": "PORT",
            "env": {"GREETING": "hi", "SCORE_DB_PATH": "/data/db.sqlite"}, "secrets": {"KEY": {"name": "key"}},
            "health": {"live": "/healthz", "ready": "/readyz", "interval_ms": 5000, "timeout_ms": 2000,
                       "healthy_after": 2, "unhealthy_after": 3},
            "mounts": [{"name": "data", "path": "/data"}], "writer": "exclusive", "storage_protocol": 0,
            "replicas": 1, "stop_grace_ms": 30000, "listen": "127.0.0.1:8080", "test_listen": "127.0.0.1:8081"
        })
    );
}

#[test]
fn without_an_image_the_service_refers_to_the_image_step() {
    let documents = render(&sample(), None, None).unwrap();
    assert_eq!(body(&documents, "image"), json!({"repository": "oci:.dbird/images", "digest": null}));
    let digest = &body(&documents, "service")["image"]["digest"];
    assert_eq!(*digest, json!({"$output": {"step": "image", "name": "digest"}}));
}

#[test]
fn a_service_without_files_has_no_data_step() {
    for storage in [None, Some(spec::StorageKind::Postgres)] {
        let mut spec = sample();
        spec.storage = storage.and_then(|kind| spec.storage.take().map(|s| spec::Storage { kind, ..s }));
        let documents = render(&spec, Some(&image()), None).unwrap();
        assert!(documents.get(&StepId::new("data")).is_none());
        let service = body(&documents, "service");
        assert_eq!((&service["mounts"], &service["writer"]), (&json!([]), &Value::Null));
    }
}

#[test]
fn the_collector_is_passed_on_unless_the_service_names_its_own() {
    let cases = [
        (None, None, None),
        (Some(""), None, None),
        (Some("http://c:4318"), None, Some("http://c:4318")),
        (Some("http://c:4318"), Some("http://own:1"), Some("http://own:1")),
    ];
    for (otlp, own, wanted) in cases {
        let mut spec = sample();
        spec.telemetry.otlp = otlp.map(str::to_owned);
        spec.env.extend(own.map(|o| ("OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(), o.to_owned())));
        let service = body(&render(&spec, None, None).unwrap(), "service");
        assert_eq!(service["env"].get("OTEL_EXPORTER_OTLP_ENDPOINT").and_then(Value::as_str), wanted);
    }
}

#[test]
fn no_value_can_break_out_of_its_place() {
    let nasty = ["\"", "\\", "\n\t\u{0}", "{{ spec }}", "{% if %}", "</script>", "ünïcödé 🐦", "\", \"x\": \"", ""];
    let mut spec = sample();
    spec.env = nasty.iter().enumerate().map(|(i, v)| (format!("V{i}{v}"), (*v).to_owned())).collect();
    spec.health.live = nasty.concat();
    let service = body(&render(&spec, None, None).unwrap(), "service");
    assert_eq!(service["env"], json!(spec.env));
    assert_eq!(service["health"]["live"], json!(spec.health.live));
}

#[test]
fn equal_specifications_render_to_equal_digests() {
    let digest = || render(&sample(), Some(&image()), None).unwrap().digest();
    assert_eq!(digest(), digest());
}

#[test]
fn a_project_replaces_one_template_and_keeps_the_others() {
    let own = |name: &str| (name == "local/data.json.tera").then(|| r#"{"name": "data", "path": "/x"}"#.to_owned());
    let documents = render(&sample(), None, Some(&own)).unwrap();
    assert_eq!(body(&documents, "data")["path"], json!("/x"));
    assert_eq!(body(&documents, "service")["name"], json!("bird"));
}

#[test]
fn errors_name_file_line_and_column() {
    let cases = [
        ("{\n  \"a\": {{ spec.nothing | json }}\n}", "templates/local/service.json.tera:2:"),
        ("{\n\n{{ undefined_thing }} }", "templates/local/service.json.tera:3:"),
        ("{ \"a\": {{ spec.service.name | jsn }} }", "templates/local/service.json.tera:1:"),
        ("{% if %}", "templates/local/service.json.tera:1:"),
        ("{ \"a\": {{ spec.service.name }} }", "templates/local/service.json.tera: its output is not JSON"),
        ("", "templates/local/service.json.tera: its output is not JSON"),
    ];
    for (text, wanted) in cases {
        let own = |name: &str| (name == "local/service.json.tera").then(|| text.to_owned());
        let error = render(&sample(), None, Some(&own)).unwrap_err().to_string();
        assert!(error.starts_with(wanted), "{text:?} gave {error}");
    }
}

#[test]
fn other_clouds_are_refused_by_name() {
    let cloud = Cloud::Azure;
    let error = render(&Spec { cloud, ..sample() }, None, None).unwrap_err();
    assert_eq!(error, TemplateError::Cloud { cloud });
}

#[test]
fn every_value_in_a_built_in_template_goes_through_the_json_filter() {
    for (name, text) in BUILT_IN {
        for (_, rest) in text.match_indices("{{").map(|(i, _)| text.split_at(i + 2)) {
            let expression = rest.split("}}").next().unwrap();
            assert!(expression.trim_end().ends_with("| json"), "{name}: {expression}");
        }
    }
}
