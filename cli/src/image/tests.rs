//! Images: the same bytes for the same files, safe against each other and against what lies in a folder.

use std::{
    fs,
    os::unix::{fs::PermissionsExt, net::UnixListener},
    path::Path,
    thread,
};

use dbird_core::spec::Artefact;

use super::{artefact::Source, *};

fn executable(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o700)).unwrap();
}

fn folder_artefact() -> Artefact {
    Artefact::Folder { path: "app".into(), entrypoint: vec!["./start".into(), "--now".into()] }
}

fn pack_into(project: &Path, artefact: &Artefact) -> Result<(Layout, dbird_core::Digest), ImageError> {
    let layout = Layout::create(&project.join(FOLDER))?;
    let (Artefact::Binary { path } | Artefact::Folder { path, .. }) = artefact;
    let source = Source::scan(project, &project.join(path), artefact)?;
    let digest = pack::pack(&layout, &source, &Base::Empty, "svc")?;
    Ok((layout, digest))
}

fn entries(layout: &Layout, digest: &dbird_core::Digest) -> Vec<(String, u32, u64, String)> {
    let manifest = layout.check(digest).unwrap();
    let path = layout.blob_of(&manifest.layers()[0]).unwrap();
    let mut archive = tar::Archive::new(fs::File::open(path).unwrap());
    let read = archive.entries().unwrap().map(|entry| {
        let entry = entry.unwrap();
        let header = entry.header();
        let link = entry.link_name().unwrap().map(|l| l.display().to_string()).unwrap_or_default();
        assert_eq!((header.uid().unwrap(), header.gid().unwrap(), header.mtime().unwrap()), (0, 0, 0));
        (entry.path().unwrap().display().to_string(), header.mode().unwrap(), header.size().unwrap(), link)
    });
    read.collect()
}

#[test]
fn a_binary_becomes_the_entry_point() {
    let project = tempfile::tempdir().unwrap();
    executable(&project.path().join("bin/svc"), b"#!/bin/sh\n");
    let (layout, digest) = pack_into(project.path(), &Artefact::Binary { path: "bin/svc".into() }).unwrap();
    let manifest = layout.check(&digest).unwrap();
    let configuration = layout.configuration(&manifest).unwrap();
    let config = configuration.config().clone().unwrap();
    assert_eq!(config.entrypoint().as_deref(), Some(&["/usr/local/bin/svc".to_owned()][..]));
    assert_eq!((config.user().as_deref(), config.working_dir().as_deref()), (Some("65532:65532"), Some("/")));
    assert_eq!(configuration.created(), &None);
    let names: Vec<_> =
        entries(&layout, &digest).into_iter().map(|(name, mode, ..)| format!("{name} {mode:o}")).collect();
    assert_eq!(names, ["tmp/ 1777", "usr/ 755", "usr/local/ 755", "usr/local/bin/ 755", "usr/local/bin/svc 755"]);
}

#[test]
fn the_same_files_are_the_same_image_wherever_they_lie() {
    let fill = |project: &Path, reversed: bool| {
        let app = project.join("app");
        let mut names = vec!["start", "a/b.txt", "a-b", "a/z/deep", "ünïcödé", "long"];
        if reversed {
            names.reverse();
        }
        for name in names {
            executable(&app.join(name), name.as_bytes());
        }
        fs::set_permissions(app.join("a-b"), fs::Permissions::from_mode(0o640)).unwrap();
        executable(&app.join("d".repeat(120)).join("e".repeat(120)), b"long name");
        std::os::unix::fs::symlink("../outside", app.join("link")).unwrap();
        fs::create_dir(app.join("empty")).unwrap();
        // Neither git's nor dbird's own folders are part of the service.
        executable(&app.join(".git/HEAD"), &[u8::from(reversed)]);
    };
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fill(one.path(), false);
    fill(two.path(), true);
    let (layout, digest) = pack_into(one.path(), &folder_artefact()).unwrap();
    assert_eq!(digest, pack_into(two.path(), &folder_artefact()).unwrap().1);

    let all = entries(&layout, &digest);
    let of = |name: &str| all.iter().find(|e| e.0 == name).unwrap_or_else(|| panic!("{name} is not in {all:?}"));
    assert_eq!(of("app/link").3, "../outside");
    assert_eq!((of("app/a-b").1, of("app/start").1, of("app/empty/").1), (0o644, 0o755, 0o755));
    assert!(of(&format!("app/{}/{}", "d".repeat(120), "e".repeat(120))).2 == 9);
    assert!(!all.iter().any(|e| e.0.contains(".git")), "{all:?}");

    fs::write(two.path().join("app/start"), "other").unwrap();
    assert_ne!(digest, pack_into(two.path(), &folder_artefact()).unwrap().1);
}

#[test]
fn the_project_itself_can_be_the_folder() {
    let project = tempfile::tempdir().unwrap();
    executable(&project.path().join("start"), b"x");
    fs::create_dir(project.path().join(".dbird")).unwrap();
    fs::write(project.path().join(".dbird/secrets"), "KEY=canary").unwrap();
    let artefact = Artefact::Folder { path: ".".into(), entrypoint: vec!["./start".into()] };
    let (layout, first) = pack_into(project.path(), &artefact).unwrap();
    let (_, second) = pack_into(project.path(), &artefact).unwrap();
    assert_eq!(first, second, "the images are not part of the image");
    assert!(!entries(&layout, &first).iter().any(|e| e.0.contains("dbird")));
}

#[test]
fn an_unchanged_artefact_is_not_packed_again() {
    let project = tempfile::tempdir().unwrap();
    let path = project.path().join("bin/svc");
    executable(&path, &vec![7; 100_000]);
    let print =
        || Source::scan(project.path(), &path, &Artefact::Binary { path: String::new() }).unwrap().fingerprint();
    let before = print();
    assert_eq!(before, print());
    let cache = cache::Cache::open(project.path());
    let digest = dbird_core::Digest::of(b"x");
    cache.put(&before, &digest);
    assert_eq!(cache::Cache::open(project.path()).get(&before), Some(digest));
    // The same size again: the times tell.
    thread::sleep(std::time::Duration::from_millis(20));
    fs::write(&path, vec![8; 100_000]).unwrap();
    assert_ne!(before, print());
    fs::write(project.path().join(".dbird/cache/images.json"), "broken").unwrap();
    assert_eq!(cache::Cache::open(project.path()).get(&before), None);
}

#[test]
fn what_no_image_can_hold_is_refused() {
    let project = tempfile::tempdir().unwrap();
    let app = project.path().join("app");
    executable(&app.join("start"), b"x");
    let _socket = UnixListener::bind(app.join("socket")).unwrap();
    let error = pack_into(project.path(), &folder_artefact()).unwrap_err();
    assert!(matches!(error, ImageError::Special { what: "a socket", .. }), "{error}");

    let cases: &[(&str, &str)] = &[("app", "is not a file"), ("app/plain", "is not executable")];
    fs::write(app.join("plain"), "x").unwrap();
    for (path, wanted) in cases {
        let error = pack_into(project.path(), &Artefact::Binary { path: (*path).into() }).unwrap_err();
        assert!(error.to_string().contains(wanted), "{error}");
    }
    let file = Artefact::Folder { path: "app/start".into(), entrypoint: vec!["x".into()] };
    assert!(pack_into(project.path(), &file).unwrap_err().to_string().contains("is not a folder"));
}

#[test]
fn several_may_pack_at_once() {
    let project = tempfile::tempdir().unwrap();
    for n in 0..4 {
        executable(&project.path().join(format!("bin/svc{n}")), &[n; 50_000]);
    }
    let digests: Vec<_> = thread::scope(|scope| {
        let path = project.path();
        let pack = |n: u8| pack_into(path, &Artefact::Binary { path: format!("bin/svc{}", n % 4) }).unwrap().1;
        let running: Vec<_> = (0..16).map(|n| scope.spawn(move || pack(n))).collect();
        running.into_iter().map(|t| t.join().unwrap()).collect()
    });
    let layout = Layout::open(&project.path().join(FOLDER)).unwrap();
    assert!(digests.iter().all(|d| layout.check(d).is_ok()));
    assert_eq!(layout.listed().len(), 4, "each is listed once");
    let left = fs::read_dir(project.path().join(FOLDER).join("blobs/sha256")).unwrap();
    assert!(!left.flatten().any(|e| e.file_name().to_string_lossy().starts_with('.')), "nothing half-written is left");
}

#[test]
fn a_broken_or_foreign_image_is_told_apart() {
    let project = tempfile::tempdir().unwrap();
    executable(&project.path().join("bin/svc"), b"x");
    let (layout, digest) = pack_into(project.path(), &Artefact::Binary { path: "bin/svc".into() }).unwrap();

    let other = tempfile::tempdir().unwrap();
    let theirs = Layout::create(other.path()).unwrap();
    theirs.import(&layout, &digest, "svc").unwrap();
    theirs.check(&digest).unwrap();

    let manifest = layout.manifest(&digest).unwrap();
    let layer = layout.blob_of(&manifest.layers()[0]).unwrap();
    let whole = fs::read(&layer).unwrap();
    fs::write(&layer, &whole[..whole.len() / 2]).unwrap();
    assert!(!layout.holds(&digest));
    assert!(layout.check(&digest).unwrap_err().to_string().contains("missing or cut short"));
    let mut wrong = whole.clone();
    wrong[0] ^= 1;
    fs::write(&layer, wrong).unwrap();
    let fresh = tempfile::tempdir().unwrap();
    let error = Layout::create(fresh.path()).unwrap().import(&layout, &digest, "svc").unwrap_err();
    assert!(error.to_string().contains("does not hold what its name says"), "{error}");

    let (idle, _) = layout
        .put(&serde_json::json!({"architecture": "amd64", "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": []}}))
        .unwrap();
    let size = fs::metadata(project.path().join(FOLDER).join("blobs/sha256").join(idle.hex())).unwrap().len();
    let (nothing, _) = layout
        .put(&serde_json::json!({"schemaVersion": 2, "layers": [],
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": idle, "size": size}}))
        .unwrap();
    assert!(layout.check(&nothing).unwrap_err().to_string().contains("no program to start"));
    let (list, _) = layout
        .put(&serde_json::json!({"schemaVersion": 2, "manifests": [
        {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": 1}]}))
        .unwrap();
    assert!(layout.check(&list).unwrap_err().to_string().contains(digest.as_str()));
    let missing = layout.check(&dbird_core::Digest::of(b"nowhere")).unwrap_err();
    assert!(matches!(missing, ImageError::NotFound { .. }));
}

#[test]
fn old_images_go_and_shared_parts_stay() {
    let project = tempfile::tempdir().unwrap();
    let mut digests = Vec::new();
    for n in 0..3u8 {
        executable(&project.path().join("bin/svc"), &[n; 1000]);
        digests.push(pack_into(project.path(), &Artefact::Binary { path: "bin/svc".into() }).unwrap().1);
    }
    let layout = Layout::open(&project.path().join(FOLDER)).unwrap();
    let needed = std::collections::BTreeSet::from([digests[2].clone()]);
    assert_eq!(layout.remove(&digests[..1], &needed).unwrap(), 3, "a manifest, a configuration and a layer");
    assert!(!layout.holds(&digests[0]) && layout.holds(&digests[1]) && layout.holds(&digests[2]));
    assert_eq!(layout.listed(), digests[1..]);
}

/// A base with a compressed layer as older registries name it, and these words about itself.
fn base(layout: &Layout, config: serde_json::Value, os: &str) -> Base {
    let (layer, layer_bytes) = layout.put(&"a compressed layer").unwrap();
    let (config, config_bytes) = layout
        .put(
            &serde_json::json!({"architecture": "arm64", "os": os, "config": config, "created": "2026-01-01T00:00:00Z",
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", "1".repeat(64))]}}),
        )
        .unwrap();
    let manifest = serde_json::json!({"schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": {"mediaType": "application/vnd.docker.container.image.v1+json", "digest": config, "size": config_bytes},
        "layers": [{"mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip", "digest": layer, "size": layer_bytes}]});
    Base::Image(layout.put(&manifest).unwrap().0)
}

#[test]
fn a_base_keeps_its_layers_and_its_words() {
    let project = tempfile::tempdir().unwrap();
    executable(&project.path().join("app/start"), b"x");
    let layout = Layout::create(&project.path().join(FOLDER)).unwrap();
    let source = Source::scan(project.path(), &project.path().join("app"), &folder_artefact()).unwrap();
    let named = serde_json::json!({"User": "node", "Env": ["A=1", "PATH=/opt/bin"], "Cmd": ["sh"], "Entrypoint": ["/init"],
        "WorkingDir": "/srv", "Labels": {"of": "base"}, "StopSignal": "SIGINT"});
    let bases = [
        (named, "node", &["A=1", "PATH=/opt/bin"][..], Some("SIGINT")),
        (
            serde_json::json!({"Env": ["A=1"]}),
            "65532:65532",
            &["A=1", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            None,
        ),
    ];
    for (words, user, env, signal) in bases {
        let base = base(&layout, words, "linux");
        let digest = pack::pack(&layout, &source, &base, "svc").unwrap();
        assert_eq!(digest, pack::pack(&layout, &source, &base, "svc").unwrap(), "the same bytes each time");
        let manifest = layout.check(&digest).unwrap();
        let kinds: Vec<_> = manifest.layers().iter().map(|l| l.media_type().to_string()).collect();
        assert_eq!(kinds, ["application/vnd.oci.image.layer.v1.tar+gzip", "application/vnd.oci.image.layer.v1.tar"]);
        let configuration = layout.configuration(&manifest).unwrap();
        assert_eq!(configuration.architecture().to_string(), "arm64");
        assert_eq!(configuration.created(), &None);
        let diff_ids = configuration.rootfs().diff_ids();
        assert_eq!((diff_ids.len(), &diff_ids[1]), (2, &manifest.layers()[1].digest().to_string()));
        let config = configuration.config().clone().unwrap();
        assert_eq!(config.entrypoint().as_deref(), Some(&["./start".to_owned(), "--now".to_owned()][..]));
        assert_eq!((config.cmd(), config.working_dir().as_deref()), (&None, Some("/app")));
        assert_eq!(
            (config.user().as_deref(), config.env().as_deref().unwrap()),
            (Some(user), env.iter().map(|e| (*e).to_owned()).collect::<Vec<_>>().as_slice())
        );
        assert_eq!(config.stop_signal().as_deref(), signal);
    }
    let windows = base(&layout, serde_json::json!({}), "windows");
    let error = pack::pack(&layout, &source, &windows, "svc").unwrap_err();
    assert!(error.to_string().contains("not for linux"), "{error}");
}
