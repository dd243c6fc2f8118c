//! The schema that editors read from the repository is the one that dbird prints.

use std::path::Path;
use std::process::Command;

#[test]
fn the_schema_for_editors_is_up_to_date() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/environment.schema.json");
    let kept = std::fs::read_to_string(&file).expect("docs/environment.schema.json");
    let printed =
        Command::new(env!("CARGO_BIN_EXE_dbird")).args(["schema", "environment"]).output().expect("dbird runs");
    assert!(printed.status.success());
    let printed = String::from_utf8(printed.stdout).expect("UTF-8");
    assert!(kept == printed, "make it anew: cargo dbird schema environment > docs/environment.schema.json");
}
