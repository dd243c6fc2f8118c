//! The JSON Schema says the same as the files: every file validates, and both know the same keys.

use std::{collections::BTreeSet, path::Path};

use dbird_core::{
    environment::{EnvFile, Layer},
    schema,
};
use serde_json::Value;

/// Every key of a schema, spelled as [`EnvFile::keys`] spells them.
fn keys(schema: &Value, path: &str, out: &mut BTreeSet<String>) {
    for (key, inner) in schema["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        out.insert(path.clone());
        keys(inner, &path, out);
        if inner["items"]["type"] == "object" {
            keys(&inner["items"], &format!("{path}[]"), out);
        }
        if inner["additionalProperties"].is_object() {
            out.insert(format!("{path}.*"));
            keys(&inner["additionalProperties"], &format!("{path}.*"), out);
        }
    }
}

#[test]
fn the_schema_and_the_files_know_the_same_keys() {
    let mut of_schema = BTreeSet::new();
    keys(&schema::environment(), "", &mut of_schema);
    let of_files: BTreeSet<String> = EnvFile::keys().into_iter().collect();
    assert_eq!(of_schema, of_files);
    assert!(of_files.contains("rollout.hooks[].when") && of_files.contains("secrets.*.name"), "{of_files:?}");
    assert!(of_files.len() > 100, "{}", of_files.len());
    // What the schema knows, the reader knows: a table where there can be none is told as that, not as an unknown key.
    for key in of_schema.iter().filter(|key| !key.contains(['[', '*'])) {
        let (_, faults) = EnvFile::parse(&Layer::new("base.toml", format!("{key} = {{ nonsense = 1 }}")));
        let fault = faults.first().unwrap_or_else(|| panic!("{key}"));
        assert!(fault.message.contains(&format!("`{key}` takes")) || fault.message.contains("nonsense"), "{fault}");
    }
}

#[test]
fn every_key_is_described() {
    fn described(schema: &Value, path: &str) {
        for (key, inner) in schema["properties"].as_object().into_iter().flatten() {
            assert!(inner["description"].as_str().is_some_and(|d| d.len() > 3), "{path}.{key}");
            assert!(inner.get("type").is_some(), "{path}.{key}");
            described(inner, &format!("{path}.{key}"));
            described(&inner["items"], &format!("{path}.{key}[]"));
        }
    }
    let schema = schema::environment();
    described(&schema, "");
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    let rollout = &schema["properties"]["rollout"]["properties"];
    assert_eq!(rollout["strategy"]["default"], "blue-green");
    assert_eq!(rollout["deadline"]["default"], "30m");
    assert_eq!(rollout["strategy"]["enum"].as_array().unwrap().len(), 6);
    assert_eq!(rollout["strategy"]["x-taplo"]["docs"]["enumValues"].as_array().unwrap().len(), 6);
    assert!(jsonschema::meta::is_valid(&schema));
}

/// Every default is a value that its own schema accepts.
#[test]
fn defaults_are_valid() {
    fn check(schema: &Value, path: &str) {
        for (key, inner) in schema["properties"].as_object().into_iter().flatten() {
            if let Some(default) = inner.get("default") {
                assert!(jsonschema::is_valid(inner, default), "{path}.{key}: {default}");
            }
            check(inner, &format!("{path}.{key}"));
        }
    }
    check(&schema::environment(), "");
}

fn validates(folder: &Path) {
    let validator = jsonschema::validator_for(&schema::environment()).unwrap();
    let mut files = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let file: toml::Table = std::fs::read_to_string(&path).unwrap().parse().unwrap();
        let errors: Vec<String> = validator
            .iter_errors(&serde_json::to_value(file).unwrap())
            .map(|e| format!("{}: {e}", e.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{}: {errors:#?}", path.display());
        files += 1;
    }
    assert!(files > 0);
}

#[test]
fn our_files_validate() {
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for folder in ["environments", "examples/mashroom/environments", "examples/quest/environments"] {
        validates(&project.join(folder));
    }
}

#[test]
#[cfg_attr(not(dbird_shared), ignore = "needs the shared folder beside the checkout")]
fn the_reference_files_validate() {
    validates(Path::new(env!("DBIRD_SHARED_ENVIRONMENTS")));
}

#[test]
fn the_schema_refuses_what_files_may_not_say() {
    let validator = jsonschema::validator_for(&schema::environment()).unwrap();
    assert!(!validator.is_valid(&serde_json::json!({ "schema": 2 })));
    for text in [
        "serice.name = \"x\"",
        "service.name = \"X\"",
        "service.port = 0",
        "health.interval = 5",
        "health.interval = \"5\"",
        "rollout.strategy = \"bluegreen\"",
        "env.A = 1",
        "secrets.A = \"x\"",
        "cloud.local.listen = \"localhost:80\"",
        "state.url = \"gs://x\"",
    ] {
        let file: toml::Table = text.parse().unwrap();
        assert!(!validator.is_valid(&serde_json::to_value(file).unwrap()), "{text}");
        assert!(!EnvFile::parse(&Layer::new("base.toml", text)).1.is_empty(), "{text}");
    }
}
