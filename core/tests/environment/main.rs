//! Environment files to specifications: what is read, what is merged, what is refused and where it is told.
#![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests read the files of the project")]

mod faults;
mod layers;
mod properties;
mod reference;
mod schema;

use dbird_core::{
    Cloud, Spec,
    environment::{Fault, Faults, Layer, Request, resolve, split_set},
};

/// The smallest base file that validates for every cloud.
const MINIMAL: &str = "schema = 1\n[service]\nname = \"bird\"\nport = 8080\nport_env = \"PORT\"\n\
                       [service.build]\nbinary = \"bird\"\n";

fn sets(arguments: &[&str]) -> Vec<(String, String)> {
    arguments.iter().map(|argument| split_set(argument).unwrap()).collect()
}

fn try_all(base: &str, overlay: Option<&str>, arguments: &[&str], cloud: Cloud) -> Result<(Spec, Vec<Fault>), Faults> {
    let sets = sets(arguments);
    resolve(&Request {
        environment: "dev",
        cloud,
        base: Layer::new("base.toml", base),
        overlay: overlay.map(|text| Layer::new("dev.toml", text)),
        sets: &sets,
        dbird_version: "0.1.0",
    })
}

/// The specification, which must be without a fault.
fn spec(base: &str, overlay: Option<&str>, arguments: &[&str]) -> Spec {
    match try_all(base, overlay, arguments, Cloud::Local) {
        Ok((spec, warnings)) if warnings.is_empty() => spec,
        Ok((_, warnings)) => panic!("{warnings:?}"),
        Err(faults) => panic!("{faults}"),
    }
}

/// Every fault as `file:line:col: severity: message`, without suggestion and help.
fn told(result: &Result<(Spec, Vec<Fault>), Faults>) -> Vec<String> {
    let faults = match result {
        Ok((_, warnings)) => warnings,
        Err(faults) => &faults.0,
    };
    faults.iter().map(|f| format!("{}:{}:{} {}", f.file, f.line, f.column, f.message)).collect()
}
