//! The registry that images are pushed to and pulled from: the OCI distribution protocol over plain HTTP on a loopback port. It
//! decides which requests are well-formed; which tags may move is the repository's.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited, StreamBody, combinators::BoxBody};
use hyper::{
    body::{Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Fault, World, folder, images, manifest, no_repository};

/// A manifest may be this long, as in ECR.
const MANIFEST_BYTES_MAX: usize = 4 << 20;
/// A piece of a layer is read and written at once.
const PIECE_BYTES: usize = 256 << 10;
/// So many connections are served at once.
const CONNECTIONS_MAX: usize = 128;
/// A client that says nothing for so long in the middle of a request is left.
const HEADERS_WAIT: Duration = Duration::from_secs(30);

type Body = BoxBody<Bytes, std::io::Error>;

/// Begins to answer.
pub(super) fn begin(world: &Arc<World>) -> std::io::Result<SocketAddr> {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    // The account's end must not wait for the registry's.
    let world = Arc::downgrade(world);
    tokio::spawn(async move {
        let places = Arc::new(tokio::sync::Semaphore::new(CONNECTIONS_MAX));
        loop {
            let Ok(place) = places.clone().acquire_owned().await else { return };
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            };
            let Some(world) = world.upgrade() else { return };
            tokio::spawn(async move {
                let _place = place;
                let _ = stream.set_nodelay(true);
                let service = service_fn(|request| {
                    let world = world.clone();
                    world.record.count("registry", request.method().as_str());
                    async move {
                        Ok::<_, Infallible>(answer(&world, request).await.unwrap_or_else(|refusal| refusal.response()))
                    }
                });
                let mut builder = http1::Builder::new();
                builder.timer(TokioTimer::new()).header_read_timeout(HEADERS_WAIT);
                // A client that leaves in the middle has only itself to tell.
                let _ = builder.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    Ok(address)
}

/// A refusal as the protocol has it.
struct Refusal {
    status: StatusCode,
    code: &'static str,
    message: String,
}

impl Refusal {
    fn response(self) -> Response<Body> {
        let text = json!({ "errors": [{ "code": self.code, "message": self.message }] }).to_string();
        let mut response = whole(self.status, text.into());
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
        if self.status == StatusCode::UNAUTHORIZED {
            let asks = header::HeaderValue::from_static("Basic realm=\"simulated\",service=\"ecr.amazonaws.com\"");
            headers.insert(header::WWW_AUTHENTICATE, asks);
        }
        response
    }
}

fn refuse(status: StatusCode, code: &'static str, message: impl Into<String>) -> Refusal {
    Refusal { status, code, message: message.into() }
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        match fault.code.as_str() {
            "RepositoryNotFoundException" => refuse(StatusCode::NOT_FOUND, "NAME_UNKNOWN", fault.message),
            "ImageTagAlreadyExistsException" => refuse(StatusCode::BAD_REQUEST, "TAG_INVALID", fault.message),
            "LayersNotFoundException" => refuse(StatusCode::BAD_REQUEST, "BLOB_UNKNOWN", fault.message),
            _ => refuse(StatusCode::BAD_REQUEST, "MANIFEST_INVALID", fault.message),
        }
    }
}

impl From<std::io::Error> for Refusal {
    fn from(why: std::io::Error) -> Self {
        refuse(StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN", why.to_string())
    }
}

fn whole(status: StatusCode, bytes: Bytes) -> Response<Body> {
    let mut response = Response::new(Full::new(bytes).map_err(|never| match never {}).boxed());
    *response.status_mut() = status;
    let version = header::HeaderValue::from_static("registry/2.0");
    response.headers_mut().insert("docker-distribution-api-version", version);
    response
}

fn with(mut response: Response<Body>, headers: &[(&'static str, &str)]) -> Response<Body> {
    for (name, value) in headers {
        // What isn't a header's value was none of ours to begin with.
        if let Ok(value) = header::HeaderValue::from_str(value) {
            response.headers_mut().insert(*name, value);
        }
    }
    response
}

/// What a path means: the repository, what of it, which one.
fn parsed(path: &str) -> Option<(&str, &str, &str)> {
    let rest = path.strip_prefix("/v2/")?;
    for kind in ["/blobs/uploads", "/manifests", "/blobs", "/tags"] {
        let found = rest.rfind(&format!("{kind}/")).or_else(|| rest.strip_suffix(kind).map(str::len));
        if let Some(at) = found {
            let which = rest[at + kind.len()..].trim_start_matches('/');
            return Some((&rest[..at], &kind[1..], which));
        }
    }
    None
}

async fn answer(world: &Arc<World>, request: Request<Incoming>) -> Result<Response<Body>, Refusal> {
    let told =
        request.headers().get(header::AUTHORIZATION).and_then(|a| a.to_str().ok()).and_then(|a| a.split_once(' '));
    let is_known =
        told.is_some_and(|(how, what)| how.eq_ignore_ascii_case("basic") && what.trim() == world.ecr.token());
    if !is_known {
        let message = "Your authorization token has expired or is not this registry's. Reauthenticate and try again.";
        return Err(refuse(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", message));
    }
    let path = request.uri().path().to_owned();
    if path == "/v2/" || path == "/v2" {
        return Ok(whole(StatusCode::OK, "{}".into()));
    }
    let unknown = || refuse(StatusCode::NOT_FOUND, "UNSUPPORTED", format!("nothing answers {path}"));
    let (name, kind, which) = parsed(&path).ok_or_else(unknown)?;
    if !world.ecr.state().repositories.contains_key(name) {
        return Err(no_repository(world, name).into());
    }
    let query: BTreeMap<String, String> =
        url::form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes()).into_owned().collect();
    let method = request.method().clone();
    match (kind, &method) {
        ("tags", &Method::GET) => {
            let state = world.ecr.state();
            let tags = state.repositories.get(name).into_iter().flat_map(|r| r.images.values()).flat_map(|i| &i.tags);
            let tags: Vec<&String> = tags.collect();
            Ok(whole(StatusCode::OK, json!({ "name": name, "tags": tags }).to_string().into()))
        }
        ("manifests", &Method::GET | &Method::HEAD) => manifest_of(world, name, which, method == Method::HEAD),
        ("manifests", &Method::PUT) => {
            let kind = request.headers().get(header::CONTENT_TYPE).and_then(|k| k.to_str().ok()).map(str::to_owned);
            let bytes = Limited::new(request.into_body(), MANIFEST_BYTES_MAX).collect().await;
            let bytes =
                bytes.map_err(|why| refuse(StatusCode::BAD_REQUEST, "MANIFEST_INVALID", why.to_string()))?.to_bytes();
            let digest = manifest::digest(&bytes);
            let tag = (!which.starts_with("sha256:")).then_some(which);
            if tag.is_none() && which != digest {
                return Err(refuse(
                    StatusCode::BAD_REQUEST,
                    "DIGEST_INVALID",
                    format!("the manifest's digest is {digest}"),
                ));
            }
            images::accept(world, name, &bytes, kind.as_deref(), tag)?;
            let made = whole(StatusCode::CREATED, Bytes::new());
            Ok(with(
                made,
                &[("location", &format!("/v2/{name}/manifests/{digest}")), ("docker-content-digest", &digest)],
            ))
        }
        ("blobs", &Method::GET | &Method::HEAD) => blob(world, name, which, method == Method::HEAD).await,
        ("blobs/uploads", &Method::POST) => begin_upload(world, name, &query, request).await,
        ("blobs/uploads", &Method::PATCH) => {
            let place = upload(world, name, which)?;
            append(&place, request.into_body()).await?;
            progress(name, which, &place, StatusCode::ACCEPTED)
        }
        ("blobs/uploads", &Method::PUT) => {
            let place = upload(world, name, which)?;
            append(&place, request.into_body()).await?;
            finish(world, name, &place, query.get("digest")).await
        }
        ("blobs/uploads", &Method::GET) => progress(name, which, &upload(world, name, which)?, StatusCode::NO_CONTENT),
        ("blobs/uploads", &Method::DELETE) => {
            std::fs::remove_file(upload(world, name, which)?)?;
            Ok(whole(StatusCode::NO_CONTENT, Bytes::new()))
        }
        _ => Err(refuse(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", format!("{method} is not for {path}"))),
    }
}

fn manifest_of(world: &Arc<World>, name: &str, which: &str, is_head: bool) -> Result<Response<Body>, Refusal> {
    let missing = || refuse(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN", "Requested image not found");
    let (digest, kind) = {
        let now = world.clock.now_ms();
        let mut state = world.ecr.state();
        let repository = state.repositories.get_mut(name).ok_or_else(missing)?;
        let digest = repository.find(which).ok_or_else(missing)?;
        let image = repository.images.get_mut(&digest).ok_or_else(missing)?;
        if !is_head {
            image.pulled_ms = Some(now);
        }
        (digest, image.media_type.clone())
    };
    let path = manifest::blob(&folder(world, name), &digest).ok_or_else(missing)?;
    let bytes = std::fs::read(path)?;
    let length = bytes.len().to_string();
    let response = whole(StatusCode::OK, if is_head { Bytes::new() } else { bytes.into() });
    let headers = [("content-type", kind.as_str()), ("docker-content-digest", &digest), ("content-length", &length)];
    Ok(with(response, &headers))
}

async fn blob(world: &Arc<World>, name: &str, which: &str, is_head: bool) -> Result<Response<Body>, Refusal> {
    let missing = || refuse(StatusCode::NOT_FOUND, "BLOB_UNKNOWN", format!("blob {which} is not in {name}"));
    let path = manifest::blob(&folder(world, name), which).filter(|p| p.is_file()).ok_or_else(missing)?;
    let file = tokio::fs::File::open(&path).await?;
    let length = file.metadata().await?.len().to_string();
    let headers =
        [("content-type", "application/octet-stream"), ("docker-content-digest", which), ("content-length", &length)];
    if is_head {
        return Ok(with(whole(StatusCode::OK, Bytes::new()), &headers));
    }
    let pieces = futures::stream::try_unfold(file, |mut file| async move {
        let mut piece = vec![0; PIECE_BYTES];
        let read = file.read(&mut piece).await?;
        piece.truncate(read);
        Ok((read > 0).then(|| (Frame::data(Bytes::from(piece)), file)))
    });
    let mut response = whole(StatusCode::OK, Bytes::new());
    *response.body_mut() = BodyExt::boxed(StreamBody::new(pieces));
    Ok(with(response, &headers))
}

fn uploads(world: &World, name: &str) -> PathBuf {
    folder(world, name).join("uploads")
}

/// The file of an upload that was begun.
fn upload(world: &World, name: &str, id: &str) -> Result<PathBuf, Refusal> {
    let is_id = uuid::Uuid::parse_str(id).is_ok();
    let place = uploads(world, name).join(id);
    if is_id && place.is_file() {
        Ok(place)
    } else {
        Err(refuse(StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN", format!("no upload {id}")))
    }
}

async fn begin_upload(
    world: &Arc<World>,
    name: &str,
    query: &BTreeMap<String, String>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Refusal> {
    if let (Some(digest), Some(from)) = (query.get("mount"), query.get("from"))
        && mount(world, name, digest, from)
    {
        return Ok(made(name, digest));
    }
    let id = uuid::Uuid::new_v4().to_string();
    std::fs::create_dir_all(uploads(world, name))?;
    let place = uploads(world, name).join(&id);
    std::fs::write(&place, b"")?;
    if let Some(digest) = query.get("digest") {
        append(&place, request.into_body()).await?;
        return finish(world, name, &place, Some(digest)).await;
    }
    progress(name, &id, &place, StatusCode::ACCEPTED)
}

/// Takes a blob over from another repository of the account.
fn mount(world: &World, name: &str, digest: &str, from: &str) -> bool {
    if !world.ecr.state().repositories.contains_key(from) {
        return false;
    }
    let places = manifest::blob(&folder(world, from), digest).zip(manifest::blob(&folder(world, name), digest));
    places.is_some_and(|(there, here)| here.is_file() || std::fs::hard_link(there, here).is_ok())
}

async fn append(place: &Path, mut body: Incoming) -> Result<(), Refusal> {
    let mut file = tokio::fs::OpenOptions::new().append(true).open(place).await?;
    while let Some(piece) = body.frame().await {
        let piece = piece.map_err(|why| refuse(StatusCode::BAD_REQUEST, "BLOB_UPLOAD_INVALID", why.to_string()))?;
        if let Ok(data) = piece.into_data() {
            file.write_all(&data).await?;
        }
    }
    file.flush().await?;
    Ok(())
}

fn progress(name: &str, id: &str, place: &Path, status: StatusCode) -> Result<Response<Body>, Refusal> {
    let length = std::fs::metadata(place)?.len();
    let range = format!("0-{}", length.saturating_sub(1));
    let location = format!("/v2/{name}/blobs/uploads/{id}");
    Ok(with(whole(status, Bytes::new()), &[("location", &location), ("range", &range), ("docker-upload-uuid", id)]))
}

fn made(name: &str, digest: &str) -> Response<Body> {
    let location = format!("/v2/{name}/blobs/{digest}");
    with(whole(StatusCode::CREATED, Bytes::new()), &[("location", &location), ("docker-content-digest", digest)])
}

/// Puts an upload where its digest says, if it is what it says.
async fn finish(
    world: &Arc<World>,
    name: &str,
    place: &Path,
    digest: Option<&String>,
) -> Result<Response<Body>, Refusal> {
    let invalid = |why: String| refuse(StatusCode::BAD_REQUEST, "DIGEST_INVALID", why);
    let digest = digest.ok_or_else(|| invalid("the digest is missing".to_owned()))?.clone();
    let to = manifest::blob(&folder(world, name), &digest).ok_or_else(|| invalid(format!("{digest} is no digest")))?;
    let from = place.to_owned();
    let moved = tokio::task::spawn_blocking(move || -> std::io::Result<Option<String>> {
        let mut hash = Sha256::new();
        let mut file = std::fs::File::open(&from)?;
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            let read = std::io::Read::read(&mut file, &mut piece)?;
            if read == 0 {
                break;
            }
            hash.update(&piece[..read]);
        }
        let found = format!("sha256:{}", hex::encode(hash.finalize()));
        if to.file_name().is_none_or(|n| !found.ends_with(&*n.to_string_lossy())) {
            std::fs::remove_file(&from)?;
            return Ok(Some(found));
        }
        std::fs::rename(&from, &to)?;
        Ok(None)
    });
    let moved = moved.await.map_err(|why| refuse(StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN", why.to_string()))??;
    match moved {
        Some(found) => Err(invalid(format!("the blob's digest is {found}, not {digest}"))),
        None => Ok(made(name, &digest)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_a_repository_and_what_is_meant_of_it() {
        for (path, expected) in [
            ("/v2/bird/manifests/latest", Some(("bird", "manifests", "latest"))),
            ("/v2/a/b/blobs/sha256:1", Some(("a/b", "blobs", "sha256:1"))),
            ("/v2/a/blobs/uploads/", Some(("a", "blobs/uploads", ""))),
            ("/v2/a/blobs/uploads", Some(("a", "blobs/uploads", ""))),
            ("/v2/a/blobs/uploads/1-2", Some(("a", "blobs/uploads", "1-2"))),
            ("/v2/a/tags/list", Some(("a", "tags", "list"))),
            ("/v1/a/tags/list", None),
            ("/v2/a", None),
        ] {
            assert_eq!(parsed(path), expected, "{path}");
        }
    }
}
