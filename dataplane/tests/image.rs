//! Images from hostile and honest layers, unpacked from real OCI layouts.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use dataplane::image::{self, ImageError};
use sha2::{Digest, Sha256};
use tar::{EntryType, Header};

/// What a layer has.
#[derive(Clone, Copy)]
enum Entry {
    File(&'static str, &'static str),
    Folder(&'static str),
    Symlink(&'static str, &'static str),
    Hardlink(&'static str, &'static str),
    Device(&'static str),
}
use Entry::{Device, File, Folder, Hardlink, Symlink};

fn layer(entries: &[Entry]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for entry in entries {
        let (kind, path, target, text) = match *entry {
            File(path, text) => (EntryType::Regular, path, None, text),
            Folder(path) => (EntryType::Directory, path, None, ""),
            Symlink(path, target) => (EntryType::Symlink, path, Some(target), ""),
            Hardlink(path, target) => (EntryType::Link, path, Some(target), ""),
            Device(path) => (EntryType::Char, path, None, ""),
        };
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o4755);
        header.set_size(text.len() as u64);
        // Set by hand: the library itself refuses to write hostile paths.
        header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
        if let Some(target) = target {
            header.as_gnu_mut().unwrap().linkname[..target.len()].copy_from_slice(target.as_bytes());
        }
        header.set_cksum();
        tar.append(&header, text.as_bytes()).unwrap();
    }
    tar.into_inner().unwrap()
}

fn put(store: &Path, bytes: &[u8]) -> String {
    let hex = hex::encode(Sha256::digest(bytes));
    let blobs = store.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    fs::write(blobs.join(&hex), bytes).unwrap();
    format!("sha256:{hex}")
}

/// A layout with an image of these layers, every second one compressed.
fn pack(store: &Path, layers: &[Vec<u8>]) -> String {
    let config = br#"{"architecture":"amd64","os":"linux","config":{"Entrypoint":["/bin/a"],"Cmd":["b"],"Env":["A=b"],"WorkingDir":"/w"},
        "rootfs":{"type":"layers","diff_ids":[]}}"#;
    let described = |kind: &str, bytes: &[u8]| {
        let digest = put(store, bytes);
        format!(r#"{{"mediaType":"application/vnd.oci.image.{kind}","digest":"{digest}","size":{}}}"#, bytes.len())
    };
    let layers: Vec<_> = layers
        .iter()
        .enumerate()
        .map(|(at, tar)| {
            if at % 2 == 0 {
                return described("layer.v1.tar", tar);
            }
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            gzip.write_all(tar).unwrap();
            described("layer.v1.tar+gzip", &gzip.finish().unwrap())
        })
        .collect();
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{},"layers":[{}]}}"#,
        described("config.v1+json", config),
        layers.join(",")
    );
    put(store, manifest.as_bytes())
}

/// Every path below a folder, with what it holds or points to.
fn listed(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut todo = vec![root.to_owned()];
    while let Some(folder) = todo.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().display().to_string();
            let kind = fs::symlink_metadata(&path).unwrap().file_type();
            if kind.is_symlink() {
                found.push(format!("{name} -> {}", fs::read_link(&path).unwrap().display()));
            } else if kind.is_dir() {
                found.push(format!("{name}/"));
                todo.push(path);
            } else {
                found.push(format!("{name}: {}", fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

#[test]
fn layers_are_put_on_each_other() {
    for (layers, expected) in [
        (vec![vec![Folder("a"), File("a/b", "1"), File("c/d/e", "2")]], vec!["a/", "a/b: 1", "c/", "c/d/", "c/d/e: 2"]),
        (vec![vec![File("a", "1")], vec![File("./a", "2")], vec![File("/b", "3")]], vec!["a: 2", "b: 3"]),
        (vec![vec![File("a/b", "1"), File("a/c", "2")], vec![File("a/.wh.b", "")]], vec!["a/", "a/c: 2"]),
        (vec![vec![File("a/b", "1")], vec![File(".wh.a", "")]], vec![]),
        // What an opaque folder's own layer brings stays, wherever it stands in the archive.
        (
            vec![
                vec![File("a/b", "1"), File("a/s/t", "2")],
                vec![File("a/s/u", "4"), File("a/.wh..wh..opq", ""), File("a/c", "3")],
            ],
            vec!["a/", "a/c: 3", "a/s/", "a/s/u: 4"],
        ),
        (vec![vec![File("a", "1")], vec![Folder("a"), File("a/b", "2")]], vec!["a/", "a/b: 2"]),
        (vec![vec![File("a/b", "1")], vec![File("a", "2")]], vec!["a: 2"]),
        (vec![vec![File("a", "1"), Hardlink("b", "a"), Hardlink("c", "/a")]], vec!["a: 1", "b: 1", "c: 1"]),
        (
            vec![vec![File("usr/lib/x", "1"), Symlink("lib", "usr/lib")], vec![File("lib/y", "2")]],
            vec!["lib -> usr/lib", "usr/", "usr/lib/", "usr/lib/x: 1", "usr/lib/y: 2"],
        ),
        (vec![vec![Symlink("a", "/etc/passwd")], vec![File("a", "own")]], vec!["a: own"]),
        (vec![vec![Device("dev/null"), File("a", "1")]], vec!["a: 1", "dev/"]),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let (store, images) = (folder.path().join("store"), folder.path().join("images"));
        let digest = pack(&store, &layers.iter().map(|entries| layer(entries)).collect::<Vec<_>>());
        let unpacked = image::unpack(&store, &digest, &images).unwrap();
        assert_eq!(listed(&unpacked.rootfs), expected);
        assert_eq!(
            (unpacked.config.argv(), unpacked.config.var("A"), unpacked.config.working_dir.as_str()),
            (vec!["/bin/a".to_owned(), "b".to_owned()], Some("b"), "/w")
        );
        assert_eq!(image::unpack(&store, &digest, &images).unwrap(), unpacked, "the second time it is found");
    }
}

#[test]
fn nothing_is_written_or_removed_outside() {
    for entries in [
        vec![File("../out/new", "x")],
        vec![File("a/../../out/new", "x")],
        vec![Symlink("s", "../../../out"), File("s/new", "x")],
        vec![Symlink("s", "OUT"), File("s/new", "x"), File("s/.wh.kept", ""), File("s/.wh..wh..opq", "")],
        vec![Symlink("a", "b"), Symlink("b", "a"), File("a/x", "x")],
        vec![Hardlink("h", "../../../out/kept"), File("h", "overwritten")],
        vec![Symlink("s", "../../../out/kept"), Hardlink("h", "s"), File("h", "overwritten")],
        vec![Symlink("s", "../../../out/kept"), File("s", "overwritten")],
        vec![File(".wh..", ""), File(".wh...", ""), File(".wh.", "")],
        vec![File("a/.wh.../out/kept", "")],
        vec![Symlink("s", "../../../out"), Folder("s")],
        vec![Hardlink("h", "no/such")],
        vec![Folder("d"), Hardlink("h", "d")],
    ] {
        let folder = tempfile::tempdir().unwrap();
        let (store, images, out) = (folder.path().join("store"), folder.path().join("i"), folder.path().join("out"));
        fs::create_dir(&out).unwrap();
        fs::write(out.join("kept"), "kept").unwrap();
        let digest = pack(&store, &[layer(&entries)]);
        let unpacked = image::unpack(&store, &digest, &images);
        assert_eq!(listed(&out), ["kept: kept"]);
        match unpacked {
            Ok(unpacked) => assert!(unpacked.rootfs.is_dir()),
            Err(_) => assert_eq!(fs::read_dir(&images).unwrap().count(), 0, "nothing is left of a refused image"),
        }
    }
}

#[test]
fn set_user_id_and_owners_are_not_taken_over() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let digest = pack(&store, &[layer(&[File("a", "1")])]);
    let unpacked = image::unpack(&store, &digest, &folder.path().join("images")).unwrap();
    assert_eq!(fs::metadata(unpacked.rootfs.join("a")).unwrap().permissions().mode() & 0o7777, 0o755);
}

#[test]
fn what_is_not_what_its_digest_says_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (store, images) = (folder.path().join("store"), folder.path().join("images"));
    let tar = layer(&[File("a", "1")]);
    let digest = pack(&store, std::slice::from_ref(&tar));
    let blob = store.join("blobs/sha256").join(hex::encode(Sha256::digest(&tar)));
    // Behind the archive's end, where nothing is unpacked from.
    let mut longer = tar.clone();
    longer.push(0);
    for bytes in [&b""[..], b"not a tar", &longer, &tar[..tar.len() - 600]] {
        fs::write(&blob, bytes).unwrap();
        let error = image::unpack(&store, &digest, &images).unwrap_err();
        assert!(matches!(error, ImageError::Damaged { .. }), "{error:?}");
        assert_eq!(fs::read_dir(&images).unwrap().count(), 0);
    }
    fs::remove_file(&blob).unwrap();
    assert!(matches!(image::unpack(&store, &digest, &images).unwrap_err(), ImageError::Missing { .. }));
    fs::write(&blob, &tar).unwrap();
    image::unpack(&store, &digest, &images).unwrap();
    for wrong in ["", "sha256:", "sha256:../../x", "md5:1", &digest.to_uppercase()] {
        assert!(matches!(image::unpack(&store, wrong, &images).unwrap_err(), ImageError::Malformed { .. }), "{wrong}");
    }
    fs::write(store.join("blobs/sha256").join(&digest["sha256:".len()..]), "{}").unwrap();
    fs::remove_dir_all(&images).unwrap();
    assert!(matches!(image::unpack(&store, &digest, &images).unwrap_err(), ImageError::Damaged { .. }));
}

#[test]
fn an_index_leads_to_this_machines_image() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let here = pack(&store, &[layer(&[File("a", "here")])]);
    let other = pack(&store, &[layer(&[File("a", "other")])]);
    let architecture = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };
    let entry = |digest: &str, architecture: &str| {
        format!(
            r#"{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{digest}","size":1,"platform":{{"os":"linux","architecture":"{architecture}"}}}}"#
        )
    };
    let index = |entries: &[String]| {
        put(&store, format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, entries.join(",")).as_bytes())
    };
    let both = index(&[entry(&other, "s390x"), entry(&here, architecture)]);
    let unpacked = image::unpack(&store, &both, &folder.path().join("images")).unwrap();
    assert_eq!((listed(&unpacked.rootfs), unpacked.digest), (vec!["a: here".to_owned()], both));
    let none = index(&[entry(&other, "s390x")]);
    assert!(
        image::unpack(&store, &none, &folder.path().join("images"))
            .unwrap_err()
            .to_string()
            .contains("no image for linux/")
    );
}

#[test]
fn what_nobody_needs_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let (store, images) = (folder.path().join("store"), folder.path().join("images"));
    let keep = image::unpack(&store, &pack(&store, &[layer(&[File("a", "1")])]), &images).unwrap();
    let drop = image::unpack(&store, &pack(&store, &[layer(&[File("a", "2"), Folder("locked")])]), &images).unwrap();
    fs::set_permissions(drop.rootfs.join("locked"), fs::Permissions::from_mode(0o000)).unwrap();
    symlink("/etc", drop.rootfs.join("link")).unwrap();
    fs::create_dir(images.join(".unfinished.1.tmp")).unwrap();
    image::collect(&images, &BTreeSet::from([keep.digest.clone()])).unwrap();
    assert_eq!(fs::read_dir(&images).unwrap().count(), 1);
    assert_eq!(image::find(&images, &keep.digest), Some(keep));
    assert_eq!(image::find(&images, &drop.digest), None);
    assert!(Path::new("/etc/passwd").exists());
}
