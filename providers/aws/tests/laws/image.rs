//! An image with one program in it, where the provider looks for images that are to be pushed.

use std::{fs, path::Path};

use dbird_core::Digest;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// Writes an image whose entry point is this program into a layout below the project's folder; its digest.
pub(crate) fn write(project: &Path, program: &Path) -> Digest {
    let layout = project.join(".dbird/images");
    let blobs = layout.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let put = |bytes: &[u8], kind: &str| {
        let hex = hex::encode(Sha256::digest(bytes));
        fs::write(blobs.join(&hex), bytes).unwrap();
        let media = format!("application/vnd.oci.image.{kind}");
        json!({ "digest": format!("sha256:{hex}"), "size": bytes.len(), "mediaType": media })
    };
    let layer = put(&tar(&fs::read(program).unwrap()), "layer.v1.tar");
    let config = json!({
        "architecture": "amd64", "os": "linux", "rootfs": { "type": "layers", "diff_ids": [layer["digest"]] },
        "config": { "Entrypoint": ["/program"], "WorkingDir": "/" },
    });
    let config = put(config.to_string().as_bytes(), "config.v1+json");
    let media = "application/vnd.oci.image.manifest.v1+json";
    let manifest = json!({ "schemaVersion": 2, "mediaType": media, "config": config, "layers": [layer] });
    let manifest = put(manifest.to_string().as_bytes(), "manifest.v1+json");
    let write = |name: &str, what: &Value| fs::write(layout.join(name), what.to_string()).unwrap();
    write("oci-layout", &json!({ "imageLayoutVersion": "1.0.0" }));
    write("index.json", &json!({ "schemaVersion": 2, "manifests": [manifest] }));
    manifest["digest"].as_str().unwrap().parse().unwrap()
}

/// One executable file as a tar.
fn tar(program: &[u8]) -> Vec<u8> {
    let mut header = [0u8; 512];
    let mut field = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
    field(0, "program");
    field(100, "0000755\0");
    field(108, "0000000\0");
    field(116, "0000000\0");
    field(124, &format!("{:011o}\0", program.len()));
    field(136, "00000000000\0");
    field(148, "        ");
    field(156, "0");
    field(257, "ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut whole = header.to_vec();
    whole.extend_from_slice(program);
    whole.resize(whole.len().next_multiple_of(512) + 1024, 0);
    whole
}
