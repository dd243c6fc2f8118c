//! Debian's `docker-registry`: pushed to and pulled from, read back by another client, and with what goes wrong between.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::{
    fs,
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use dbird_registry::{Credentials, Name, Password, Place, Pushed, RegistryError, Source, pull, push, tag};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::io::copy_bidirectional;

const WITHOUT: &str = "needs docker-registry";
/// `right`, as htpasswd stores it.
const HASH: &str = "$2b$04$BHQb1C2AtBCTAdAl.fo5aOtbW.reNr5q1v1VdvnzRWzWOh2sSpYkS";

struct Registry {
    process: Child,
    port: u16,
    folder: tempfile::TempDir,
}

impl Registry {
    fn start(with_password: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let users = folder.path().join("users");
        fs::write(&users, format!("bird:{HASH}\n")).unwrap();
        let mut config = json!({
            "version": "0.1", "log": {"level": "error", "accesslog": {"disabled": true}},
            "storage": {"filesystem": {"rootdirectory": folder.path().join("data")}},
            "http": {"addr": format!("127.0.0.1:{port}")}
        });
        if with_password {
            config["auth"] = json!({"htpasswd": {"realm": "test", "path": users}});
        }
        let path = folder.path().join("config.json");
        fs::write(&path, config.to_string()).unwrap();
        let mut command = Command::new("docker-registry");
        let process =
            command.arg("serve").arg(&path).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect(WITHOUT);
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "docker-registry does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
        Registry { process, port, folder }
    }

    fn place(&self, repository: &str) -> Place {
        Place::parse(&format!("127.0.0.1:{}/{repository}", self.port)).unwrap()
    }

    fn stored(&self, digest: &str) -> PathBuf {
        let hex = digest.trim_start_matches("sha256:");
        let blobs = self.folder.path().join("data/docker/registry/v2/blobs/sha256");
        blobs.join(&hex[..2]).join(hex).join("data")
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn put(layout: &Path, bytes: &[u8]) -> Value {
    let hex = hex::encode(Sha256::digest(bytes));
    fs::create_dir_all(layout.join("blobs/sha256")).unwrap();
    fs::write(layout.join("blobs/sha256").join(&hex), bytes).unwrap();
    json!({ "digest": format!("sha256:{hex}"), "size": bytes.len() })
}

fn with_type(mut part: Value, kind: &str) -> Value {
    part["mediaType"] = json!(format!("application/vnd.oci.image.{kind}"));
    part
}

/// An image with these layers in a new layout.
fn image(layers: &[&[u8]]) -> (tempfile::TempDir, Source) {
    let folder = tempfile::tempdir().unwrap();
    let layout = folder.path().to_owned();
    let config = json!({"architecture": "amd64", "os": "linux", "config": {"Entrypoint": ["/bird"]},
        "rootfs": {"type": "layers", "diff_ids": layers.iter().map(|l| format!("sha256:{}", hex::encode(Sha256::digest(l)))).collect::<Vec<_>>()}});
    let config = with_type(put(&layout, config.to_string().as_bytes()), "config.v1+json");
    let layers: Vec<_> = layers.iter().map(|l| with_type(put(&layout, l), "layer.v1.tar")).collect();
    let manifest = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": config, "layers": layers});
    let digest = put(&layout, manifest.to_string().as_bytes())["digest"].as_str().unwrap().to_owned();
    (folder, Source { layout, digest })
}

fn quiet(_: Pushed) {}

fn tags(names: &[&str]) -> Vec<String> {
    names.iter().map(|n| (*n).to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs docker-registry"]
async fn what_is_pushed_is_pulled_and_nothing_is_sent_twice() {
    let registry = Registry::start(false);
    let place = registry.place("team/bird");
    let large = vec![7; 9 << 20];
    let (_kept, source) = image(&[b"one", &large]);
    let heard = AtomicUsize::new(0);
    let told = |_: Pushed| {
        heard.fetch_add(1, Ordering::Relaxed);
    };
    let first = push(&source, &place, &tags(&["r4"]), &Credentials::None, &told).await.unwrap();
    assert_eq!((first.blobs_sent, first.blobs_there, heard.load(Ordering::Relaxed)), (3, 0, 3));
    assert!(first.bytes > 9 << 20);
    let again = push(&source, &place, &tags(&["r4"]), &Credentials::None, &quiet).await.unwrap();
    assert_eq!(again, Pushed { blobs_sent: 0, blobs_there: 3, bytes: 0 });
    // Another image that shares a layer.
    let (_kept, other) = image(&[b"two", &large]);
    let third = push(&other, &place, &[], &Credentials::None, &quiet).await.unwrap();
    assert_eq!((third.blobs_sent, third.blobs_there), (2, 1));

    tag(&place, &source.digest, &tags(&["serving", "r5"]), &Credentials::None).await.unwrap();
    let layout = tempfile::tempdir().unwrap();
    for which in ["r5", &source.digest] {
        let name: Name = format!("{place}{}{which}", if which.contains(':') { "@" } else { ":" }).parse().unwrap();
        assert_eq!(pull(&name, &Credentials::None, layout.path()).await.unwrap(), source.digest);
    }
    for blob in fs::read_dir(source.layout.join("blobs/sha256")).unwrap() {
        let blob = blob.unwrap();
        let copy = layout.path().join("blobs/sha256").join(blob.file_name());
        assert!(fs::read(copy).unwrap() == fs::read(blob.path()).unwrap(), "{blob:?}");
    }
    if let Ok(out) =
        Command::new("skopeo").args(["inspect", "--tls-verify=false"]).arg(format!("docker://{place}:serving")).output()
    {
        let told: Value =
            serde_json::from_slice(&out.stdout).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&out.stderr)));
        assert_eq!(told["Digest"], source.digest.as_str());
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs docker-registry"]
async fn of_a_list_the_image_for_this_platform_is_taken() {
    let registry = Registry::start(false);
    let place = registry.place("bird");
    let (_kept, source) = image(&[b"amd64's"]);
    push(&source, &place, &tags(&["one"]), &Credentials::None, &quiet).await.unwrap();
    let manifest = source.layout.join("blobs/sha256").join(&source.digest[7..]);
    let size = fs::metadata(manifest).unwrap().len();
    let entry = |architecture: &str| {
        json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": source.digest, "size": size,
            "platform": {"os": "linux", "architecture": architecture}})
    };
    for (tag, architectures, wanted) in [("both", &["arm64", "amd64"][..], true), ("other", &["arm64"][..], false)] {
        let entries: Vec<_> = architectures.iter().map(|a| entry(a)).collect();
        let list =
            json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": entries});
        put_manifest(registry.port, "bird", tag, &list.to_string());
        let layout = tempfile::tempdir().unwrap();
        let pulled = pull(&format!("{place}:{tag}").parse().unwrap(), &Credentials::None, layout.path()).await;
        match pulled {
            Ok(digest) => assert!(wanted && digest == source.digest),
            Err(error) => assert!(!wanted && error.to_string().contains("only for linux/arm64"), "{error}"),
        }
    }
}

/// What no function of ours does: write a list of images.
fn put_manifest(port: u16, repository: &str, tag: &str, body: &str) {
    use std::io::{Read as _, Write as _};
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let head = format!(
        "PUT /v2/{repository}/manifests/{tag} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
         Content-Type: application/vnd.oci.image.index.v1+json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs docker-registry"]
async fn refusals_are_told_apart() {
    let registry = Registry::start(true);
    let place = registry.place("bird");
    let (_kept, source) = image(&[b"x"]);
    let as_bird = |password: &str| Credentials::Basic { user: "bird".to_owned(), password: Password::new(password) };
    for credentials in [Credentials::None, as_bird("canary")] {
        let error = push(&source, &place, &[], &credentials, &quiet).await.unwrap_err();
        assert!(matches!(error, RegistryError::Denied { .. }) && !error.is_retryable(), "{error:?}");
        assert!(!format!("{error:?} {error}").contains("canary"));
    }
    push(&source, &place, &tags(&["r1"]), &as_bird("right"), &quiet).await.unwrap();

    let layout = tempfile::tempdir().unwrap();
    for missing in ["bird:r2", "nowhere:r1"] {
        let name = format!("127.0.0.1:{}/{missing}", registry.port).parse().unwrap();
        let error = pull(&name, &as_bird("right"), layout.path()).await.unwrap_err();
        assert!(matches!(error, RegistryError::NotFound { .. }), "{missing}: {error:?}");
    }
    let error = tag(&place, &format!("sha256:{}", "0".repeat(64)), &tags(&["a"]), &as_bird("right")).await.unwrap_err();
    assert!(matches!(error, RegistryError::NotFound { .. }), "{error:?}");
    drop(registry);
    let error = push(&source, &place, &[], &as_bird("right"), &quiet).await.unwrap_err();
    assert!(matches!(error, RegistryError::Unreachable { .. }) && error.is_retryable(), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs docker-registry"]
async fn damaged_parts_get_no_name() {
    let registry = Registry::start(false);
    let place = registry.place("bird");
    let layer = vec![3; 200_000];
    let (_kept, source) = image(&[&layer]);
    push(&source, &place, &tags(&["r1"]), &Credentials::None, &quiet).await.unwrap();
    let digest = format!("sha256:{}", hex::encode(Sha256::digest(&layer)));
    let mut wrong = layer.clone();
    wrong[5] = 4;
    for damaged in [&layer[..1000], &wrong[..]] {
        fs::write(registry.stored(&digest), damaged).unwrap();
        let layout = tempfile::tempdir().unwrap();
        let error = pull(&format!("{place}:r1").parse().unwrap(), &Credentials::None, layout.path()).await.unwrap_err();
        assert!(error.is_retryable(), "{error:?}");
        assert!(!layout.path().join("blobs/sha256").join(&digest[7..]).exists());
        assert!(!layout.path().join("blobs/sha256").join(&source.digest[7..]).exists());
    }
    // A layer that is cut short here is never sent.
    fs::write(source.layout.join("blobs/sha256").join(&digest[7..]), b"short").unwrap();
    let error = push(&source, &place, &tags(&["r2"]), &Credentials::None, &quiet).await.unwrap_err();
    assert!(matches!(error, RegistryError::Layout { .. }) && error.to_string().contains("cut short"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs docker-registry"]
async fn a_cut_connection_is_made_again_and_then_told() {
    let registry = Registry::start(false);
    let (_kept, source) = image(&[&vec![9; 3 << 20]]);
    for (cut, goes) in [(2, true), (usize::MAX, false)] {
        let connections = Arc::new(AtomicUsize::new(0));
        let port = cutting(registry.port, cut, connections.clone()).await;
        let place = Place::parse(&format!("127.0.0.1:{port}/cut{goes}")).unwrap();
        let pushed = push(&source, &place, &tags(&["r1"]), &Credentials::None, &quiet).await;
        match pushed {
            Ok(_) => assert!(goes),
            Err(error) => assert!(!goes && error.is_retryable(), "{error:?}"),
        }
        assert!(connections.load(Ordering::Relaxed) > 2);
    }
}

/// An address in front of the registry that breaks off its first connections.
async fn cutting(to: u16, cut: usize, connections: Arc<AtomicUsize>) -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let number = connections.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(async move {
                if number < cut {
                    return;
                }
                let mut server = tokio::net::TcpStream::connect(("127.0.0.1", to)).await.unwrap();
                let _ = copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    port
}
