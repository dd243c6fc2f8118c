//! Objects: written whole, on conditions; read whole or in part; listed by prefix.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::{NAMESPACE, Reply, request, xml};
use crate::aws::{
    Fault, World,
    wire::{self, Request, time, xml::escaped},
};

/// So many keys are on a page at most.
const PAGE_MAX: usize = 1_000;

/// An object; its content is a file.
#[derive(Debug, Clone)]
pub(crate) struct Object {
    file: String,
    etag: String,
    size: u64,
    written_ms: u64,
    content_type: String,
    /// `x-amz-meta-*` and the like, given back as they came.
    kept: Vec<(String, String)>,
}

/// Where an object's content lies.
pub(crate) fn path(world: &World, object: &Object) -> PathBuf {
    world.settings.folder.join("s3").join(&object.file)
}

/// `PutObject`, with `If-None-Match: *` and `If-Match`.
pub(crate) fn put(world: &Arc<World>, request: &Request, bucket: &str, key: &str) -> Result<Reply, Fault> {
    let content = request::content(request);
    let (only_new, only_this) = (request.header("if-none-match"), request.header("if-match"));
    let etag = format!("\"{}\"", &hex::encode(Sha256::digest(&content))[..32]);
    let kept =
        request.headers.iter().filter(|(name, _)| name.as_str().starts_with("x-amz-meta-") || *name == "cache-control");
    let object = Object {
        file: uuid::Uuid::new_v4().to_string(),
        etag: etag.clone(),
        size: content.len() as u64,
        written_ms: world.clock.now_ms(),
        content_type: match request.header("content-type") {
            "" => "binary/octet-stream".to_owned(),
            given => given.to_owned(),
        },
        kept: kept.filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.to_owned()))).collect(),
    };
    let file = path(world, &object);
    let written = file.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| std::fs::write(&file, &content));
    written
        .map_err(|why| Fault::new("InternalError", format!("the simulator could not write: {why}")).with_status(500))?;
    let refused = world.s3.objects(|all| {
        let objects = all.entry(bucket.to_owned()).or_default();
        let there = objects.get(key).map(|object| object.etag.clone());
        let fits = match (&there, only_this) {
            (_, "") => true,
            (Some(etag), asked) => asked == "*" || asked == etag || asked == etag.trim_matches('"'),
            (None, _) => false,
        };
        if (only_new == "*" && there.is_some()) || (there.is_some() && !fits) {
            let message = "At least one of the pre-conditions you specified did not hold";
            return Some(Fault::new("PreconditionFailed", message).with_status(412));
        }
        if !fits {
            return Some(missing());
        }
        let before = objects.insert(key.to_owned(), object);
        drop(before.map(|before| std::fs::remove_file(path(world, &before))));
        None
    });
    match refused {
        Some(fault) => {
            let _ = std::fs::remove_file(&file);
            Err(fault)
        }
        None => Ok(Reply { status: 200, headers: vec![("etag".to_owned(), etag)], body: Bytes::new() }),
    }
}

/// `GetObject` and `HeadObject`.
pub(crate) fn get(world: &Arc<World>, request: &Request, bucket: &str, key: &str, body: bool) -> Result<Reply, Fault> {
    // Read under the lock: a write takes the file away.
    let (object, content) = world
        .s3
        .objects(|all| {
            let object = all.get(bucket)?.get(key)?.clone();
            let content = if body { std::fs::read(path(world, &object)).ok()? } else { Vec::new() };
            Some((object, content))
        })
        .ok_or_else(missing)?;
    let unchanged = request.header("if-none-match");
    if !unchanged.is_empty() && (unchanged == "*" || unchanged == object.etag) {
        return Err(Fault::new("NotModified", "Not Modified").with_status(304));
    }
    let only_this = request.header("if-match");
    if !only_this.is_empty() && only_this != "*" && only_this != object.etag {
        let message = "At least one of the pre-conditions you specified did not hold";
        return Err(Fault::new("PreconditionFailed", message).with_status(412));
    }
    let modified = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_millis(object.written_ms));
    let mut headers = vec![
        ("etag", object.etag.clone()),
        ("last-modified", modified),
        ("accept-ranges", "bytes".to_owned()),
        ("content-type", object.content_type.clone()),
    ];
    headers.extend(object.kept.iter().map(|(name, value)| (name.as_str(), value.clone())));
    let part = request::range(request.header("range"), object.size);
    let (status, from, to) = match part {
        Some(Err(())) => {
            return Err(Fault::new("InvalidRange", "The requested range is not satisfiable").with_status(416));
        }
        Some(Ok((from, to))) => {
            headers.push(("content-range", format!("bytes {from}-{to}/{}", object.size)));
            (206, from, to + 1)
        }
        None => (200, 0, object.size),
    };
    if !body {
        headers.push(("content-length", (to - from).to_string()));
        return Ok(Reply { status, headers: owned(headers), body: Bytes::new() });
    }
    let at = |n: u64| usize::try_from(n).unwrap_or(usize::MAX).min(content.len());
    let range = at(from)..at(to);
    let body = Bytes::from(content).slice(range);
    Ok(Reply { status, headers: owned(headers), body })
}

/// `DeleteObject`: one that is not there is deleted already.
pub(crate) fn delete(world: &Arc<World>, bucket: &str, key: &str) -> Reply {
    let object = world.s3.objects(|all| all.get_mut(bucket)?.remove(key));
    drop(object.map(|object| std::fs::remove_file(path(world, &object))));
    Reply { status: 204, ..Reply::default() }
}

/// `DeleteObjects`.
pub(crate) fn delete_many(world: &Arc<World>, request: &Request, bucket: &str) -> Reply {
    let body = String::from_utf8_lossy(&request.body).into_owned();
    let mut told = String::new();
    for key in request::elements(&body, "Key") {
        drop(delete(world, bucket, &key));
        told.push_str(&format!("<Deleted><Key>{}</Key></Deleted>", escaped(&key)));
    }
    xml(format!("<DeleteResult xmlns=\"{NAMESPACE}\">{told}</DeleteResult>"))
}

/// `ListObjectsV2`.
pub(crate) fn list(world: &Arc<World>, request: &Request, bucket: &str) -> Reply {
    let asked = |name: &str| request.asked(name).unwrap_or_default();
    let (prefix, delimiter) = (asked("prefix"), asked("delimiter"));
    let token = asked("continuation-token");
    let after = if token.is_empty() { asked("start-after") } else { wire::unescaped(&token) };
    let page = asked("max-keys").parse::<usize>().unwrap_or(PAGE_MAX).min(PAGE_MAX);
    let (mut contents, mut folders) = (String::new(), BTreeSet::new());
    let (mut count, mut last, mut more) = (0, String::new(), false);
    let objects = world.s3.objects(|all| all.get(bucket).cloned()).unwrap_or_default();
    for (key, object) in objects.iter().filter(|(key, _)| key.starts_with(&prefix)) {
        let below = &key[prefix.len()..];
        let folder = (!delimiter.is_empty())
            .then(|| below.find(&delimiter).map(|at| format!("{prefix}{}", &below[..at + delimiter.len()])))
            .flatten();
        let name = folder.clone().unwrap_or_else(|| key.clone());
        if name <= after || folders.contains(&name) {
            continue;
        }
        if count == page {
            more = true;
            break;
        }
        count += 1;
        last.clone_from(&name);
        match folder {
            Some(folder) => drop(folders.insert(folder)),
            None => contents.push_str(&format!(
                "<Contents><Key>{}</Key><LastModified>{}</LastModified><ETag>{}</ETag><Size>{}</Size>\
                 <StorageClass>STANDARD</StorageClass></Contents>",
                escaped(key),
                time::iso(object.written_ms),
                escaped(&object.etag),
                object.size
            )),
        }
    }
    let folders: String = folders
        .iter()
        .map(|one| format!("<CommonPrefixes><Prefix>{}</Prefix></CommonPrefixes>", escaped(one)))
        .collect();
    let next: String = url::form_urlencoded::byte_serialize(last.as_bytes()).collect::<String>().replace('+', "%20");
    let next = if more { format!("<NextContinuationToken>{next}</NextContinuationToken>") } else { String::new() };
    xml(format!(
        "<ListBucketResult xmlns=\"{NAMESPACE}\"><Name>{}</Name><Prefix>{}</Prefix><KeyCount>{count}</KeyCount>\
         <MaxKeys>{page}</MaxKeys><IsTruncated>{more}</IsTruncated>{next}{contents}{folders}</ListBucketResult>",
        escaped(bucket),
        escaped(&prefix)
    ))
}

fn owned(headers: Vec<(&str, String)>) -> Vec<(String, String)> {
    headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn missing() -> Fault {
    Fault::new("NoSuchKey", "The specified key does not exist.").with_status(404)
}
