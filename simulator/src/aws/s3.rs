//! S3: buckets and objects, as far as keeping state needs them: conditional writes, ranges, lists. Contents lie in the
//! simulator's folder; versions, encryption and access are taken as asked and change nothing.

mod kinds;
mod objects;
mod request;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use http::{Method, Response};
use serde_json::{Value, json};

use super::{
    Answer, Call, Fault, World,
    bag::{Bags, Held},
    wire::{self, xml::escaped},
};

pub(crate) use kinds::KINDS;
use objects::Object;

/// Every bucket.
#[derive(Debug, Default)]
pub(crate) struct S3 {
    bags: Bags,
    objects: Mutex<BTreeMap<String, BTreeMap<String, Object>>>,
}

/// What a request is answered with.
#[derive(Debug, Default)]
struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Bytes,
}

impl S3 {
    /// An object's content, for a template that lies here.
    pub(crate) fn read(&self, world: &World, bucket: &str, key: &str) -> Option<Vec<u8>> {
        let object = self.objects(|all| all.get(bucket)?.get(key).cloned())?;
        std::fs::read(objects::path(world, &object)).ok()
    }

    /// Whether there is such a bucket.
    pub(crate) fn has(&self, bucket: &str) -> bool {
        self.bags.get(kinds::BUCKET.name, bucket).is_some()
    }

    fn objects<T>(&self, act: impl FnOnce(&mut BTreeMap<String, BTreeMap<String, Object>>) -> T) -> T {
        act(&mut self.objects.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Answers a request, and says for the record what it was.
pub(crate) fn serve(world: &Arc<World>, request: &wire::Request, request_id: &str) -> (Call, Answer, Response<Bytes>) {
    let path = request.path.trim_start_matches('/');
    let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
    let (bucket, key) = (wire::unescaped(bucket), wire::unescaped(key));
    let operation = operation(request, &bucket, &key);
    let call = Call {
        service: "s3".to_owned(),
        operation: operation.to_owned(),
        input: json!({ "Bucket": bucket, "Key": key }),
    };
    let answered = match operation {
        "ListBuckets" => Ok(buckets(world)),
        "CreateBucket" => create_bucket(world, &bucket),
        _ if !world.s3.has(&bucket) => {
            Err(Fault::new("NoSuchBucket", "The specified bucket does not exist").with_status(404))
        }
        "HeadBucket" => Ok(Reply { status: 200, ..Reply::default() }),
        "DeleteBucket" => delete_bucket(world, &bucket),
        "GetBucketLocation" => Ok(xml(format!("<LocationConstraint xmlns=\"{NAMESPACE}\"/>"))),
        "GetBucketVersioning" => Ok(xml(format!("<VersioningConfiguration xmlns=\"{NAMESPACE}\"/>"))),
        "ListObjectsV2" => Ok(objects::list(world, request, &bucket)),
        "DeleteObjects" => Ok(objects::delete_many(world, request, &bucket)),
        "PutObject" => objects::put(world, request, &bucket, &key),
        "GetObject" => objects::get(world, request, &bucket, &key, true),
        "HeadObject" => objects::get(world, request, &bucket, &key, false),
        "DeleteObject" => Ok(objects::delete(world, &bucket, &key)),
        other => Err(Fault::new("NotImplemented", format!("the simulator does not know s3:{other}")).with_status(501)),
    };
    match answered {
        Ok(reply) => {
            let mut response = Response::new(reply.body);
            wire::finish(&mut response, reply.status, "application/xml", request_id);
            for (name, value) in &reply.headers {
                wire::set(&mut response, name, value);
            }
            wire::set(&mut response, "x-amz-request-id", request_id);
            (call, Ok(json!({ "$status": reply.status })), response)
        }
        Err(fault) => {
            let mut response = error(&fault, request_id);
            if request.method == Method::HEAD || fault.status == 304 {
                *response.body_mut() = Bytes::new();
            }
            (call, Err(fault), response)
        }
    }
}

/// A refusal in S3's own XML.
pub(crate) fn error(fault: &Fault, request_id: &str) -> Response<Bytes> {
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>{}</Code><Message>{}</Message>\
         <RequestId>{request_id}</RequestId></Error>",
        escaped(&fault.code),
        escaped(&fault.message)
    );
    let mut response = Response::new(Bytes::from(body));
    wire::finish(&mut response, fault.status, "application/xml", request_id);
    response
}

const NAMESPACE: &str = "http://s3.amazonaws.com/doc/2006-03-01/";

fn xml(body: String) -> Reply {
    let body = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>{body}");
    Reply { status: 200, headers: Vec::new(), body: Bytes::from(body) }
}

fn operation(request: &wire::Request, bucket: &str, key: &str) -> &'static str {
    let asks = |name: &str| request.asked(name).is_some();
    match (request.method.as_str(), bucket.is_empty(), key.is_empty()) {
        ("GET", true, _) => "ListBuckets",
        ("PUT", false, true) if request.query.is_empty() => "CreateBucket",
        ("HEAD", false, true) => "HeadBucket",
        ("DELETE", false, true) if request.query.is_empty() => "DeleteBucket",
        ("GET", false, true) if asks("location") => "GetBucketLocation",
        ("GET", false, true) if asks("versioning") => "GetBucketVersioning",
        ("GET", false, true) if asks("list-type") || asks("prefix") || request.query.is_empty() => "ListObjectsV2",
        ("POST", false, true) if asks("delete") => "DeleteObjects",
        ("PUT", false, false) if !asks("partNumber") && request.header("x-amz-copy-source").is_empty() => "PutObject",
        ("GET", false, false) if !asks("uploadId") && !asks("tagging") => "GetObject",
        ("HEAD", false, false) => "HeadObject",
        ("DELETE", false, false) if !asks("uploadId") => "DeleteObject",
        _ => "Unknown",
    }
}

fn buckets(world: &Arc<World>) -> Reply {
    let made = wire::time::iso(world.clock.origin_unix_ms());
    let all = world.s3.bags.all(kinds::BUCKET.name).into_iter();
    let all: String = all
        .map(|held| format!("<Bucket><Name>{}</Name><CreationDate>{made}</CreationDate></Bucket>", escaped(&held.id)))
        .collect();
    xml(format!("<ListAllMyBucketsResult xmlns=\"{NAMESPACE}\"><Buckets>{all}</Buckets></ListAllMyBucketsResult>"))
}

fn create_bucket(world: &Arc<World>, bucket: &str) -> Result<Reply, Fault> {
    kinds::checked_name(bucket)?;
    if world.s3.has(bucket) {
        let message = "Your previous request to create the named bucket succeeded and you already own it.";
        return Err(Fault::new("BucketAlreadyOwnedByYou", message).with_status(409));
    }
    let properties = json!({ "BucketName": bucket });
    let attributes = kinds::attributes(world, bucket).into_iter().map(|(name, value)| (name.to_owned(), value));
    let held = Held { id: bucket.to_owned(), properties, attributes: attributes.collect::<BTreeMap<String, Value>>() };
    world.s3.bags.put(kinds::BUCKET.name, held);
    Ok(Reply { status: 200, headers: vec![("location".to_owned(), format!("/{bucket}"))], body: Bytes::new() })
}

fn delete_bucket(world: &Arc<World>, bucket: &str) -> Result<Reply, Fault> {
    if world.s3.objects(|all| all.get(bucket).is_some_and(|objects| !objects.is_empty())) {
        return Err(Fault::new("BucketNotEmpty", "The bucket you tried to delete is not empty").with_status(409));
    }
    world.s3.bags.remove(kinds::BUCKET.name, bucket);
    Ok(Reply { status: 204, ..Reply::default() })
}
