//! Every template that is rendered, led through the whole life of a stack by ministack. What ministack lacks is left out, and
//! printed.

use std::path::{Path, PathBuf};

use crate::{
    account::{dbird, ok},
    programs::{Server, agrees},
};

/// A project of the repository, an environment, and what is set over it.
const CASES: &[(&str, &str, &[&str])] = &[
    (".", "dev", &[]),
    (".", "staging", &[]),
    (".", "prod", &[]),
    (".", "dev", &["cloud.aws.egress=public-ip"]),
    (".", "dev", &["rollout.controller=ecs", "storage.writer=exclusive", "rollout.strategy=recreate"]),
    ("examples/mashroom", "dev", &[]),
    ("examples/quest", "dev", &[]),
];

fn render(folder: &Path) -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let case = |(number, (project, environment, sets)): (usize, &(&str, &str, &[&str]))| {
        let folder = folder.join(number.to_string());
        let mut command = dbird();
        command.args(["render", "-c", "aws", "-e", environment, "--project"]).arg(root.join(project)).env_clear();
        command.args(sets.iter().flat_map(|set| ["--set", set])).arg("--out").arg(&folder);
        ok(&mut command);
        let file = folder.join("aws").join(environment).join("infrastructure.template.json");
        assert!(file.is_file(), "{} was not written", file.display());
        file
    };
    CASES.iter().enumerate().map(case).collect()
}

#[test]
#[ignore = "needs ministack and boto3, which `cargo xtask test` installs"]
fn life_of_every_template_on_ministack() {
    let folder = tempfile::tempdir().unwrap();
    let templates = render(folder.path());
    let server = Server::ministack(false);
    let said = agrees("life.py", |command| {
        command.arg(server.url()).args(&templates);
    });
    // The filter says what it took away.
    assert!(said.contains("left out: ") && said.contains("EC2::NatGateway"), "{said}");
}
