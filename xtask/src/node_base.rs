//! The base image of the Node examples, where none can be fetched from a registry: Debian's own packages in one layer, as an
//! OCI layout below the target folder. It makes that once; it pushes it nowhere and runs nothing in it.

use std::{
    fs::{self, File},
    io::{self, BufRead as _, BufReader},
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::setup::{self, Outcome, Tool};

/// What makes the root folder.
pub(crate) const MMDEBSTRAP: Tool =
    Tool { program: "mmdebstrap", packages: &["mmdebstrap"], needed_for: "deploying the Node examples" };
/// Where Node lies among Debian's packages, and what its TLS needs.
const PACKAGES: &str = "--include=nodejs,ca-certificates";
const SUITE: &str = "bookworm";
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The layout, made if it isn't there. Its index names the image.
pub(crate) fn ensure() -> Outcome<PathBuf> {
    let layout = setup::target().join("node-base");
    // Written last: a layout that was broken off is made anew.
    if !layout.join("index.json").is_file() {
        eprintln!("making the Node examples' base image");
        fill(&layout)?;
    }
    Ok(layout)
}

fn fill(layout: &Path) -> Outcome {
    let blobs = layout.join("blobs/sha256");
    fs::create_dir_all(&blobs).map_err(|e| format!("{} can't be made: {e}", blobs.display()))?;
    let made = layout.join("root.tar");
    setup::output(setup::command("mmdebstrap", &["--quiet", "--variant=extract", PACKAGES, SUITE]).arg(&made))?;
    let failed = |e: io::Error| format!("the layout in {} can't be filled: {e}", layout.display());
    let mut hasher = Sha256::new();
    let mut file = BufReader::with_capacity(1 << 20, File::open(&made).map_err(failed)?);
    let mut bytes = 0;
    loop {
        let piece = file.fill_buf().map_err(failed)?;
        if piece.is_empty() {
            break;
        }
        hasher.update(piece);
        let read = piece.len();
        bytes += read as u64;
        file.consume(read);
    }
    let hex = hex::encode(hasher.finalize());
    fs::rename(&made, blobs.join(&hex)).map_err(failed)?;
    let layer = descriptor("layer.v1.tar", &hex, bytes);
    let put = |document: &Value, kind| {
        let bytes = document.to_string();
        let hex = hex::encode(Sha256::digest(&bytes));
        fs::write(blobs.join(&hex), &bytes).map(|()| descriptor(kind, &hex, bytes.len() as u64)).map_err(failed)
    };
    let config = json!({"architecture": "amd64", "os": "linux", "config": {"Env": [PATH]},
        "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]}});
    let config = put(&config, "config.v1+json")?;
    let manifest = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": config, "layers": [layer]});
    let manifest = put(&manifest, "manifest.v1+json")?;
    let index = json!({"schemaVersion": 2, "manifests": [manifest]}).to_string();
    fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).map_err(failed)?;
    fs::write(layout.join("index.json"), index).map_err(failed)
}

fn descriptor(kind: &str, hex: &str, bytes: u64) -> Value {
    json!({"mediaType": format!("application/vnd.oci.image.{kind}"), "digest": format!("sha256:{hex}"), "size": bytes})
}
