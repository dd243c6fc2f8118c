//! What failures mean: answers that no emulator gives, servers that don't answer, settings that can't be used. Each says what to
//! do and whether trying again can help, and none prints a secret.

use std::{error::Error, path::Path, sync::Arc};

use async_trait::async_trait;
use dbird_core::Cloud;
use dbird_driver::{Keys, Series, Signer, Store, open_store_with};
use tokio::net::TcpListener;

use crate::{
    fake::Fake,
    laws::{CANARY, refused},
    open, target,
};

fn variables(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn s3(port: u16) -> Arc<dyn Store> {
    let endpoint = format!("http://127.0.0.1:{port}");
    let variables = variables(&[
        ("AWS_ENDPOINT_URL_S3", &endpoint),
        ("AWS_ACCESS_KEY_ID", "AKIA"),
        ("AWS_SECRET_ACCESS_KEY", CANARY),
        ("AWS_SESSION_TOKEN", "canary-token"),
        // None of these may get in the way.
        ("AWS_BUCKET", "another"),
        ("AWS_CONDITIONAL_PUT", "disabled"),
        ("AWS_PROFILE", "ann"),
    ]);
    open("s3://state/p", "dev", &variables).unwrap()
}

fn blob(port: u16) -> Arc<dyn Store> {
    let endpoint = format!("http://localhost:{port}");
    let variables = variables(&[("AZURE_STORAGE_ENDPOINT", &endpoint), ("AZURE_STORAGE_ACCOUNT_KEY", CANARY)]);
    open("az://account/state/p", "dev", &variables).unwrap()
}

fn body(code: &str, message: &str) -> String {
    format!(
        "<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>{message}\nRequestId: 7</Message>\
         <Region>eu-west-1</Region><StringToSign>canary</StringToSign></Error>"
    )
}

#[tokio::test]
async fn each_answer_says_what_to_do() {
    // (of S3, status, code, whether trying again can help, what the hint says)
    let cases = [
        (true, 403, "AccessDenied", false, "s3:ListBucket on state"),
        (true, 403, "InvalidAccessKeyId", false, "does not know these credentials"),
        (true, 403, "SignatureDoesNotMatch", false, "does not know these credentials"),
        (true, 400, "ExpiredToken", false, "have expired"),
        (true, 403, "RequestTimeTooSkewed", false, "clock is wrong"),
        (true, 400, "AuthorizationHeaderMalformed", false, "AWS_REGION=eu-west-1"),
        (true, 301, "PermanentRedirect", false, "set AWS_REGION to"),
        (true, 404, "NoSuchBucket", false, "aws s3api create-bucket --bucket state"),
        (true, 501, "NotImplemented", false, "If-None-Match"),
        (true, 503, "SlowDown", true, "overloaded"),
        (true, 500, "InternalError", true, "overloaded"),
        (true, 429, "TooManyRequests", true, "overloaded"),
        (false, 403, "AuthorizationPermissionMismatch", false, "Storage Blob Data Contributor"),
        (false, 403, "AuthenticationFailed", false, "does not know these credentials"),
        (false, 401, "InvalidAuthenticationInfo", false, "does not know these credentials"),
        (false, 403, "KeyBasedAuthenticationNotPermitted", false, "takes no account keys"),
        (false, 404, "ContainerNotFound", false, "az storage container create --account-name account --name state"),
        (false, 409, "ContainerBeingDeleted", false, "az storage container create"),
        (false, 503, "ServerBusy", true, "overloaded"),
    ];
    for (of_s3, status, code, retry, hint) in cases {
        let fake = Fake::start(move |_, _, _| (status, body(code, "No, said the store."))).await;
        let store = if of_s3 { s3(fake.port) } else { blob(fake.port) };
        for e in refused(&*store).await {
            let source = e.source.as_ref().unwrap().to_string();
            // A redirect's body is not kept.
            let said = status == 301 || source == format!("{status} {code}: No, said the store.");
            let right = e.retry == retry && e.hint.as_ref().unwrap().contains(hint);
            assert!(said && right, "{status} {code}: {e:?}");
            let place = if of_s3 { "s3://state/p/local/bird/dev/" } else { "az://account/state/p/local/bird/dev/" };
            assert!(e.what.contains(place), "{e}");
        }
    }
    let skewed = "<Error><Code>AuthenticationFailed</Code><Message>Server failed to authenticate the request.</Message>\
                  <AuthenticationErrorDetail>Request date header too old: 'x'</AuthenticationErrorDetail></Error>";
    let fake = Fake::start(move |_, _, _| (403, skewed.to_owned())).await;
    for e in refused(&*blob(fake.port)).await {
        assert!(!e.retry && e.hint.as_ref().unwrap().contains("clock is wrong"), "{e:?}");
    }
}

#[tokio::test]
async fn a_store_that_writes_over_objects_is_found_out_before_anything_is_written() {
    let fake = Fake::start(|_, _, _| (200, String::new())).await;
    for store in [s3(fake.port), blob(fake.port)] {
        let refused = store.create(Series::Lease, 1, b"{}".to_vec()).await.unwrap_err();
        assert!(!refused.retry && refused.hint.as_ref().unwrap().contains("If-None-Match"), "{refused:?}");
        assert!(refused.what.contains("writes over objects that are there"), "{refused}");
    }
    let asked = fake.asked.lock().unwrap().clone();
    assert_eq!(asked.len(), 4);
    assert!(
        asked.iter().all(|(method, path)| method == "PUT" && path.ends_with("/dev/created-once.json")),
        "{asked:?}"
    );
}

#[tokio::test]
async fn a_store_that_refuses_is_asked_for_it_once() {
    let fake = Fake::start(|n, _, _| if n == 0 { (412, body("PreconditionFailed", "No.")) } else { (200, "".into()) });
    let fake = fake.await;
    let store = s3(fake.port);
    for n in 1..=3 {
        assert!(store.create(Series::Lease, n, b"{}".to_vec()).await.unwrap());
    }
    assert_eq!(fake.asked.lock().unwrap().len(), 4);
}

#[tokio::test]
async fn only_an_object_that_is_there_counts_as_taken() {
    // (of S3, status, code, what follows on it; none when it is an error)
    let cases = [
        (true, 412, "PreconditionFailed", Some(false)),
        // Two writers met: whoever asks again learns who was first.
        (true, 409, "ConditionalRequestConflict", Some(true)),
        (true, 409, "OperationAborted", Some(true)),
        (true, 409, "InvalidBucketState", None),
        (false, 409, "BlobAlreadyExists", Some(false)),
        (false, 412, "ConditionNotMet", Some(false)),
        (false, 409, "BlobImmutableDueToPolicy", None),
        (false, 409, "AccountBeingCreated", None),
    ];
    for (of_s3, status, code, made) in cases {
        let fake = Fake::start(move |n, _, _| match n {
            0 => (412, body("PreconditionFailed", "No.")),
            1 | 2 => (status, body(code, "No.")),
            _ => (200, String::new()),
        });
        let fake = fake.await;
        let store = if of_s3 { s3(fake.port) } else { blob(fake.port) };
        let created = store.create(Series::Lease, 1, b"{}".to_vec()).await;
        assert_eq!(created.as_ref().ok(), made.as_ref(), "{code}: {created:?}");
    }
}

#[tokio::test]
async fn whoever_does_not_answer_is_not_waited_for() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    // Connections are made, and nobody ever reads them.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let deaf = silent.local_addr().unwrap().port();
    let stores = [s3(closed), blob(closed), s3(deaf), blob(deaf)];
    for (n, failed) in futures::future::join_all(stores.iter().map(|store| refused(&**store))).await.iter().enumerate()
    {
        for e in failed {
            assert!(e.retry, "{n}: {e:?}");
            assert!(e.hint.as_ref().unwrap().contains("must be reachable from here"), "{n}: {e:?}");
        }
    }
}

#[tokio::test]
async fn nobody_s_credentials_are_missed_early() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let metadata = format!("http://127.0.0.1:{closed}");
    let s3 = open("s3://state", "dev", &variables(&[("AWS_METADATA_ENDPOINT", &metadata)])).unwrap();
    let blob = open("az://account/state", "dev", &variables(&[("AZURE_MSI_ENDPOINT", &metadata)])).unwrap();
    for (store, hint) in [(s3, "AWS_ACCESS_KEY_ID"), (blob, "az login")] {
        for e in refused(&*store).await {
            assert!(!e.retry && e.hint.as_ref().unwrap().contains(hint), "{e:?}");
            assert!(e.source.as_ref().unwrap().to_string().starts_with("no credentials were found: "), "{e:?}");
        }
    }
}

#[test]
fn settings_that_can_not_be_used_are_named() {
    type Case = (&'static str, &'static [(&'static str, &'static str)], &'static str);
    // (url, variables, what the message names)
    let cases: [Case; 9] = [
        ("s3://b", &[("AWS_ENDPOINT_URL", "http://store.example")], "AWS_ENDPOINT_URL"),
        ("s3://b", &[("AWS_ENDPOINT_URL_S3", "nonsense")], "AWS_ENDPOINT_URL_S3"),
        ("s3://b", &[("AWS_ENDPOINT_URL_S3", "https://ann:canary@store.example")], "AWS_ENDPOINT_URL_S3"),
        ("s3://b", &[("AWS_SECRET_ACCESS_KEY", CANARY)], "s3://b"),
        ("s3://b", &[("AWS_ALLOW_HTTP", "perhaps")], "s3://b"),
        ("az://a/c", &[("AZURE_STORAGE_ENDPOINT", "http://store.example")], "AZURE_STORAGE_ENDPOINT"),
        ("az://a/c", &[("AZURE_STORAGE_ENDPOINT", "https://store.example?sig=canary")], "AZURE_STORAGE_ENDPOINT"),
        ("az://a/c", &[("AZURE_STORAGE_ACCOUNT_KEY", "canary, not base64")], "az://a/c"),
        ("az://a/c", &[("AZURE_STORAGE_SAS_KEY", "canary")], "az://a/c"),
    ];
    for (url, pairs, named) in cases {
        let refused = open(url, "dev", &variables(pairs)).err().unwrap();
        let all = format!("{refused} {refused:?}");
        assert!(refused.what.contains(named) && refused.hint.is_some() && !refused.retry, "{pairs:?}: {all}");
        assert!(!all.contains(CANARY) && !all.contains("canary"), "{all}");
    }
    let trusted = [("AWS_ENDPOINT_URL", "http://store.example"), ("AWS_ALLOW_HTTP", "true")];
    assert_eq!(open("s3://b/p/", "dev", &variables(&trusted)).unwrap().place(), "s3://b/p/local/bird/dev");
}

/// Signs with these keys, or has none.
struct Signs(Option<&'static str>);

#[async_trait]
impl Signer for Signs {
    async fn keys(&self) -> Result<Keys, Box<dyn Error + Send + Sync>> {
        let id = self.0.ok_or("the session has expired")?;
        Ok(Keys { id: id.to_owned(), secret: CANARY.to_owned(), session: None })
    }
}

#[tokio::test]
async fn somebody_else_signs() {
    let keys = Keys { id: "AKIAOTHER".to_owned(), secret: CANARY.to_owned(), session: Some(CANARY.to_owned()) };
    assert!(!format!("{keys:?}").contains(CANARY));
    for id in [Some("AKIAOTHER"), None] {
        let fake = Fake::start(|_, _, _| (404, body("NoSuchKey", "no"))).await;
        let endpoint = format!("http://127.0.0.1:{}", fake.port);
        // What the variables say does not count then.
        let variables = variables(&[("AWS_ENDPOINT_URL", &endpoint), ("AWS_ACCESS_KEY_ID", "AKIAVARIABLE")]);
        let signer: Arc<dyn Signer> = Arc::new(Signs(id));
        let place = Path::new("/nowhere");
        let store =
            open_store_with("s3://state/p", place, Cloud::Aws, &target("dev"), &variables, Some(signer)).unwrap();
        let read = store.read(Series::Journal, 1).await;
        let signed = fake.signed.lock().unwrap().clone();
        match id {
            Some(id) => {
                assert!(read.unwrap().is_none());
                assert!(
                    !signed.is_empty() && signed.iter().all(|s| s.contains(&format!("Credential={id}/"))),
                    "{signed:?}"
                );
            }
            None => {
                let e = read.unwrap_err();
                assert!(format!("{:?}", e.source).contains("the session has expired"), "{e:?}");
                assert!(signed.is_empty(), "{signed:?}");
            }
        }
    }
}
