//! The JSON Schema of environment files, for editors. It is read off the same declaration as the files themselves, so that
//! neither can know a key that the other does not.

use serde_json::{Value, json};

use crate::environment;

/// The JSON Schema (draft 2020-12) of base and overlay files.
pub fn environment() -> Value {
    let mut schema = environment::json_schema();
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema["title"] = json!("dbird environment file");
    schema["description"] = json!(
        "What a service is and how it runs in one environment: environments/base.toml, and an overlay for each \
         environment beside it. Keys that are marked as required may stand in either."
    );
    schema
}
