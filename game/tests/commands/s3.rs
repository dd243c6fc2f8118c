//! A backup in a store that speaks S3: one of this test, in memory.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use crate::bench::{Bench, runs};
use crate::common::program;

/// By their paths.
type Stored = Mutex<HashMap<String, Vec<u8>>>;

/// Just enough of a store that speaks S3: whole objects, kept in memory.
fn object_store() -> (String, Arc<Stored>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let objects: Arc<Stored> = Arc::default();
    let kept = objects.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let kept = kept.clone();
            std::thread::spawn(move || while serve_object(&stream, &kept).is_some() {});
        }
    });
    (address, objects)
}

fn serve_object(mut stream: &TcpStream, objects: &Stored) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).ok()?.to_ascii_lowercase();
    let mut words = head.split(' ');
    let (method, path) = (words.next()?, words.next()?.to_owned());
    assert!(head.contains("authorization: aws4-hmac-sha256"), "{head}");
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    let mut objects = objects.lock().unwrap();
    let (status, answer) = match (method, objects.get(&path)) {
        ("put", _) => {
            objects.insert(path, body);
            (200, Vec::new())
        }
        (_, Some(object)) => (200, object.clone()),
        (_, None) => (404, Vec::new()),
    };
    let date = "last-modified: Sat, 31 Jan 2026 12:00:00 GMT\r\netag: \"1\"";
    let answer_head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n{date}\r\n\r\n", answer.len());
    stream.write_all(answer_head.as_bytes()).ok()?;
    if method == "get" {
        stream.write_all(&answer).ok()?;
    }
    Some(())
}

#[test]
fn a_store_that_speaks_s3_keeps_a_backup_without_any_certificate_of_the_system() {
    let bench = Bench::new();
    bench.with_scores("spool", &["a"]);
    let (endpoint, objects) = object_store();
    let database = bench.database();
    let variables = [
        ("SCORE_DB_PATH", database.to_str().unwrap()),
        ("SCORE_STORAGE", "spool"),
        ("AWS_ENDPOINT", &endpoint),
        ("AWS_ALLOW_HTTP", "true"),
        ("AWS_ACCESS_KEY_ID", "id"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
        ("SSL_CERT_FILE", "/nowhere"),
        ("SSL_CERT_DIR", "/nowhere"),
    ];
    let run = |arguments: &[&str]| program(&variables).args(arguments).output().unwrap();
    let output = run(&["backup", "s3://bucket/folder/x.db"]);
    assert!(output.status.success(), "{output:?}");
    let mut names: Vec<String> = objects.lock().unwrap().keys().cloned().collect();
    names.sort_unstable();
    assert_eq!(names, ["/bucket/folder/x.db", "/bucket/folder/x.db.json"]);
    let output = run(&["backup", "s3://bucket/folder/x.db"]);
    assert!(String::from_utf8(output.stderr).unwrap().contains("is there already"));
    bench.with_scores("spool", &["b"]);
    let output = run(&["restore", "--yes", "s3://bucket/folder/x.db"]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(bench.stored(), runs(&["a"]));
    bench.nothing_is_left();
}
