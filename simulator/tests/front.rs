//! The address that answers for every service, as a client sees it: by bytes, so that no client's library hides anything.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use dbird_simulator::{Running, Settings, start};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

const QUERY: &str = "application/x-www-form-urlencoded";

async fn account(folder: &tempfile::TempDir, faults: &[&str], upstream: Option<String>) -> Running {
    let settings = Settings {
        speed: 1_000.0,
        account: "123456789012".to_owned(),
        region: "eu-west-1".to_owned(),
        folder: folder.path().join("account"),
        shim: PathBuf::from("none"),
        port_offset: 8000,
        podman: false,
        record: Some(folder.path().join("calls.jsonl")),
        faults: faults.iter().map(|fault| (*fault).to_owned()).collect(),
        upstream,
    };
    start(settings).await.unwrap()
}

/// Sends a request on a connection of its own. The status and all that came, or none where nothing did.
async fn send(to: SocketAddr, head: &str, service: &str, extra: &str, body: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(to).await.unwrap();
    let signed = match service {
        "" => String::new(),
        service => format!(
            "Authorization: AWS4-HMAC-SHA256 Credential=AKID/20260101/eu-west-1/{service}/aws4_request, SignedHeaders=host, Signature=0\r\n"
        ),
    };
    let length = body.len();
    let request = format!(
        "{head} HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\nContent-Length: {length}\r\n{signed}{extra}\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut answer)).await.unwrap();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    read.ok().and(status).map(|status| (status, answer))
}

async fn query(to: SocketAddr, service: &str, body: &str) -> Option<(u16, String)> {
    send(to, "POST /", service, &format!("Content-Type: {QUERY}\r\n"), body).await
}

async fn json_call(to: SocketAddr, service: &str, target: &str, body: &Value) -> (u16, String) {
    send(to, "POST /", service, &format!("X-Amz-Target: {target}\r\n"), &body.to_string()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_protocol_is_answered_in_kind() {
    let folder = tempfile::tempdir().unwrap();
    let account = account(&folder, &[], None).await;
    let at = account.address;
    let (status, who) = query(at, "sts", "Action=GetCallerIdentity&Version=2011-06-15").await.unwrap();
    assert_eq!(status, 200);
    assert!(who.contains("<GetCallerIdentityResult>") && who.contains("<Account>123456789012</Account>"), "{who}");
    let (status, missing) = query(at, "cloudformation", "Action=DescribeStacks&StackName=bird").await.unwrap();
    assert_eq!(status, 400);
    assert!(
        missing.contains("<Code>ValidationError</Code><Message>Stack with id bird does not exist</Message>"),
        "{missing}"
    );
    let (status, unknown) = json_call(at, "ecs", "AmazonEC2ContainerServiceV20141113.Unheard", &json!({})).await;
    assert_eq!(status, 404);
    assert!(unknown.contains(r#""__type":"UnknownOperationException""#), "{unknown}");
    let (status, unsigned) = query(at, "", "Action=GetCallerIdentity").await.unwrap();
    assert_eq!((status, unsigned.contains("MissingAuthenticationToken")), (403, true));
    let (status, bucket) = send(at, "GET /nothing/key", "s3", "", "").await.unwrap();
    assert_eq!((status, bucket.contains("<Code>NoSuchBucket</Code>")), (404, true));

    let names: Vec<String> = account.env().into_iter().map(|(name, _)| name).collect();
    for name in ["AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "DBIRD_SIMULATOR"] {
        assert!(names.iter().any(|n| n == name), "{name}");
    }
    let (_, calls) = send(at, "GET /_simulator/calls", "", "", "").await.unwrap();
    assert!(calls.contains(r#""sts:GetCallerIdentity":1"#), "{calls}");
    account.stop().await;
    let written = std::fs::read_to_string(folder.path().join("calls.jsonl")).unwrap();
    let first: Value = serde_json::from_str(written.lines().next().unwrap()).unwrap();
    assert_eq!((first["operation"].as_str(), first["status"].as_u64()), (Some("GetCallerIdentity"), Some(200)));
    assert_eq!(first["output"]["Account"], "123456789012");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_reply_was_carried_out() {
    let folder = tempfile::tempdir().unwrap();
    let account = account(&folder, &["lost-reply:CreateStack"], None).await;
    let at = account.address;
    let template = json!({ "Resources": { "Topic": { "Type": "AWS::SNS::Topic" } } }).to_string();
    let body: String = url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs([("Action", "CreateStack"), ("StackName", "bird"), ("TemplateBody", &template)])
        .finish();
    assert_eq!(query(at, "cloudformation", &body).await, None);
    let (status, stack) = query(at, "cloudformation", "Action=DescribeStacks&StackName=bird").await.unwrap();
    assert_eq!((status, stack.contains("<StackName>bird</StackName>")), (200, true));
    let (status, again) = query(at, "cloudformation", &body).await.unwrap();
    assert_eq!((status, again.contains("AlreadyExistsException")), (400, true), "the second reply comes");
    account.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_come_and_go_while_it_runs() {
    let folder = tempfile::tempdir().unwrap();
    let account = account(&folder, &["expired-credentials:2"], None).await;
    let at = account.address;
    let ask = || query(at, "sts", "Action=GetCallerIdentity");
    assert_eq!(ask().await.unwrap().0, 200);
    let (status, expired) = ask().await.unwrap();
    assert_eq!((status, expired.contains("<Code>ExpiredToken</Code>")), (403, true));
    let (_, expired) = json_call(at, "ecs", "AmazonEC2ContainerServiceV20141113.ListClusters", &json!({})).await;
    assert!(expired.contains("ExpiredTokenException"), "{expired}");
    let set = async |names: Value| send(at, "POST /_simulator/faults", "", "", &names.to_string()).await.unwrap();
    set(json!(["throttle"])).await;
    let mut refused = 0;
    for _ in 0..6 {
        let (status, answer) = ask().await.unwrap();
        refused += u32::from(status == 400 && answer.contains("<Code>Throttling</Code>"));
    }
    assert_eq!(refused, 2);
    set(json!(["unknown-credentials"])).await;
    assert!(ask().await.unwrap().1.contains("InvalidClientTokenId"));
    set(json!([])).await;
    assert_eq!(ask().await.unwrap().0, 200);
    account.stop().await;
    assert!(TcpStream::connect(at).await.is_err(), "nobody listens any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nothing_here_answers_is_passed_on() {
    let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", other.local_addr().unwrap());
    let passed = tokio::spawn(async move {
        let (mut stream, _) = other.accept().await.unwrap();
        let mut got = vec![0; 4096];
        let mut so_far = 0;
        while !String::from_utf8_lossy(&got[..so_far]).contains(r#"{"a":1}"#) {
            so_far += stream.read(&mut got[so_far..]).await.unwrap();
        }
        stream.write_all(b"HTTP/1.1 418 No\r\nContent-Length: 5\r\nX-Other: yes\r\n\r\nother").await.unwrap();
        String::from_utf8_lossy(&got[..so_far]).into_owned()
    });
    let folder = tempfile::tempdir().unwrap();
    let account = account(&folder, &[], Some(url)).await;
    let (status, answer) =
        json_call(account.address, "dynamodb", "DynamoDB_20120810.GetItem", &json!({ "a": 1 })).await;
    assert_eq!(status, 418);
    assert!(answer.contains("x-other: yes") && answer.ends_with("other"), "{answer}");
    let request = passed.await.unwrap().to_ascii_lowercase();
    assert!(
        request.contains("x-amz-target: dynamodb_20120810.getitem") && request.contains("/dynamodb/aws4_request"),
        "{request}"
    );
    account.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_are_written_once_on_condition() {
    let folder = tempfile::tempdir().unwrap();
    let account = account(&folder, &[], None).await;
    let at = account.address;
    let s3 = async |head: &str, extra: &str, body: &str| send(at, head, "s3", extra, body).await.unwrap();
    assert_eq!(s3("PUT /state", "", "").await.0, 200);
    let (status, first) = s3("PUT /state/bird/lock", "If-None-Match: *\r\n", "one").await;
    let etag = first.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap().trim().to_owned();
    let table = [
        (status, 200, "a new one"),
        (s3("PUT /state/bird/lock", "If-None-Match: *\r\n", "two").await.0, 412, "there already"),
        (s3("PUT /state/bird/lock", "If-Match: \"other\"\r\n", "two").await.0, 412, "not the one meant"),
        (s3("PUT /state/bird/lock", &format!("If-Match: {etag}\r\n"), "three").await.0, 200, "the one meant"),
        (s3("PUT /state/bird/none", "If-Match: \"other\"\r\n", "two").await.0, 404, "none to match"),
        (s3("GET /state/bird/lock", "Range: bytes=9-\r\n", "").await.0, 416, "beyond its end"),
        (s3("DELETE /state", "", "").await.0, 409, "not empty"),
    ];
    for (found, expected, what) in table {
        assert_eq!(found, expected, "{what}");
    }
    let (status, part) = s3("GET /state/bird/lock", "Range: bytes=1-2\r\n", "").await;
    assert_eq!((status, part.ends_with("\r\n\r\nhr")), (206, true), "{part}");
    let (_, listed) = s3("GET /state?list-type=2&prefix=bird/&delimiter=/", "", "").await;
    assert!(listed.contains("<Key>bird/lock</Key>") && listed.contains("<KeyCount>1</KeyCount>"), "{listed}");
    assert_eq!(s3("DELETE /state/bird/lock", "", "").await.0, 204);
    assert_eq!(s3("GET /state/bird/lock", "", "").await.0, 404);
    assert_eq!(s3("DELETE /state", "", "").await.0, 204);
    account.stop().await;
}
