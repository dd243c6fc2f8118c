//! The two facts about a Linux binary that matter to an image: its processor, and whether it needs the host's loader.

use std::{fs::File, io::Read, os::unix::fs::FileExt, path::Path};

use super::ImageError;

/// The name that OCI gives to the processor that a file is for; the host's own for scripts and whatever else is no ELF file.
pub(super) fn architecture(path: &Path) -> &'static str {
    let mut head = [0; 20];
    let read = File::open(path).and_then(|mut f| f.read_exact(&mut head));
    let machine = u16::from_le_bytes([head[18], head[19]]);
    match (read, &head[..4], machine) {
        (Ok(()), b"\x7fELF", 62) => "amd64",
        (Ok(()), b"\x7fELF", 183) => "arm64",
        (Ok(()), b"\x7fELF", 243) => "riscv64",
        _ => host(),
    }
}

/// The host's processor as OCI spells it.
pub(super) fn host() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        other => other,
    }
}

/// Refuses a binary that names a loader: in an image without one it would end in "no such file or directory".
pub(super) fn require_static(path: &Path) -> Result<(), ImageError> {
    if needs_loader(path).unwrap_or(false) { Err(ImageError::Dynamic { path: path.to_owned() }) } else { Ok(()) }
}

/// None for what is no 64-bit little-endian ELF file.
fn needs_loader(path: &Path) -> Option<bool> {
    const PT_INTERP: u32 = 3;
    let file = File::open(path).ok()?;
    let mut head = [0; 64];
    file.read_exact_at(&mut head, 0).ok()?;
    if &head[..6] != b"\x7fELF\x02\x01" {
        return None;
    }
    let table = u64::from_le_bytes(head[32..40].try_into().ok()?);
    let size = u64::from(u16::from_le_bytes([head[54], head[55]]));
    let count = u64::from(u16::from_le_bytes([head[56], head[57]]));
    let mut kind = [0; 4];
    for i in 0..count {
        file.read_exact_at(&mut kind, table.checked_add(i * size)?).ok()?;
        if u32::from_le_bytes(kind) == PT_INTERP {
            return Some(true);
        }
    }
    Some(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_and_broken_files_are_no_elf() {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in [("script", &b"#!/bin/sh\n"[..]), ("empty", b""), ("cut", b"\x7fELF\x02\x01")] {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            assert_eq!(needs_loader(&path), None, "{name}");
            assert_eq!(architecture(&path), host(), "{name}");
        }
    }

    #[test]
    fn this_test_is_an_elf_file_of_this_processor() {
        let own = std::env::current_exe().unwrap();
        assert_eq!(architecture(&own), host());
        assert!(needs_loader(&own).is_some());
    }
}
