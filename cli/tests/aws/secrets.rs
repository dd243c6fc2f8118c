//! Whether anything secret ever leaves its place: planted in the account and in the environment of whoever deploys, used by
//! the service, and looked for in all that dbird said, kept and asked for.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    path::Path,
};

use serde_json::{Value, json};

use crate::{
    sealed::Ended,
    support::{Account, Deployed, SPEED, get},
};

/// What is planted: what it is, and its value.
const PLANTED: [(&str, &str); 4] = [
    ("a secret's value", "canary-of-the-secret-Kd83hQ"),
    ("a parameter's value", "canary-of-the-parameter-9fTw2m"),
    ("the secret access key", "canaryOfTheAccessKey/7Jq0wBz"),
    ("the session's token", "canaryOfTheSession/Xp41mVc"),
];
/// What nobody hides: it has to be found, or the search is no use.
const OPEN: &str = "told-to-everybody-5bD0xu";

/// A call that dbird never makes, as AWS's tools send it: who signs is not checked.
pub(crate) fn call(account: &Account, service: &str, target: &str, input: &Value) -> Value {
    let address = account.variable("AWS_ENDPOINT_URL").strip_prefix("http://").unwrap().to_owned();
    let mut stream = TcpStream::connect(&address).unwrap();
    let body = input.to_string();
    let scope = format!("AKIAPLANTS/20260101/us-east-1/{service}/aws4_request");
    let head = [
        "POST / HTTP/1.1".to_owned(),
        format!("host: {address}"),
        "connection: close".to_owned(),
        "content-type: application/x-amz-json-1.1".to_owned(),
        format!("x-amz-target: {target}"),
        format!("authorization: AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0"),
        format!("content-length: {}", body.len()),
    ];
    write!(stream, "{}\r\n\r\n{body}", head.join("\r\n")).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(" 200 "), "{target}: {answer}");
    serde_json::from_str(body).unwrap_or_default()
}

/// Every file below a folder, with what is in it.
fn files(folder: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            match entry.file_type().unwrap() {
                kind if kind.is_dir() => open.push(path),
                kind if kind.is_file() => {
                    let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
                    found.push((path.display().to_string(), text));
                }
                _ => {}
            }
        }
    }
    found
}

/// The same bytes as the registry's password travels.
fn password(account: &Account) -> String {
    let target = "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken";
    let answer = call(account, "ecr", target, &json!({}));
    answer["authorizationData"][0]["authorizationToken"].as_str().unwrap().to_owned()
}

#[test]
fn nothing_secret_is_told_kept_or_asked_for() {
    let service = Deployed::tiny(Account::start("secrets", SPEED, &[]));
    let account = &service.account;
    let secret = json!({ "Name": "bird/greeting", "SecretString": PLANTED[0].1, "ClientRequestToken": "0123456789abcdef0123456789abcdef" });
    call(account, "secretsmanager", "secretsmanager.CreateSecret", &secret);
    let parameter = json!({ "Name": "/bird/other", "Value": PLANTED[1].1, "Type": "SecureString" });
    call(account, "ssm", "AmazonSSM.PutParameter", &parameter);
    let base = fs::read_to_string(service.project.path().join("environments/base.toml")).unwrap();
    let named =
        "[secrets]\nGREETING = { name = \"bird/greeting\" }\nOTHER = { name = \"ssm:/bird/other\" }\n[cloud.aws]";
    // Nobody asks it for anything, so there is nothing to judge by.
    let base = base.replace("GREETING = \"hi\"", &format!("OPEN = \"{OPEN}\"")).replace("count = 3", "count = 0");
    let base = base.replace("[cloud.aws]", named);
    service.project.write("environments/base.toml", &base);

    let mut said: Vec<(String, String)> = Vec::new();
    let mut run = |arguments: &[&str]| -> Ended {
        let mut command = service.command(arguments);
        command.env("AWS_SECRET_ACCESS_KEY", PLANTED[2].1).env("AWS_SESSION_TOKEN", PLANTED[3].1);
        let ended = Ended::of(command.output().unwrap());
        said.push((format!("dbird {}", arguments.join(" ")), format!("{}{}", ended.stdout, ended.stderr)));
        ended
    };
    let mut well = |arguments: &[&str]| {
        let ended = run(arguments);
        assert_eq!(ended.code, 0, "dbird {}\n{ended}", arguments.join(" "));
    };
    well(&["plan"]);
    // Everything that anybody logs, also the libraries below.
    well(&["deploy", "-vv"]);
    // The service was given it, so it was there to be seen.
    assert_eq!(get(&service.address(), "/").unwrap(), (200, PLANTED[0].1.to_owned()));
    let next = ["--set", "env.NEXT=1"];
    well(&[&["plan", "-o", "json"], &next[..]].concat());
    well(&[&["plan", "-o", "markdown", "--out", "saved.plan"], &next[..]].concat());
    well(&[&["deploy", "-o", "json"], &next[..]].concat());
    well(&["status", "-o", "json"]);
    well(&["history", "-o", "json"]);
    well(&["history", "2"]);
    well(&["logs"]);
    well(&["render", "--out", "out"]);
    run(&["doctor", "-vv"]);
    // A task that never starts says why; the reason must not have the value either.
    let failed = run(&["deploy", "--set", "env.DIE=start"]);
    assert_ne!(failed.code, 0, "{failed}");
    drop(run(&["destroy"]));

    said.extend(files(service.project.path()));
    let record = fs::read_to_string(&account.record).unwrap();
    let password = password(account);
    let planted: Vec<(&str, &str)> =
        PLANTED.into_iter().chain([("the registry's password", password.as_str())]).collect();
    for (place, text) in &said {
        for (what, value) in &planted {
            assert!(!text.contains(value), "{what} stands in {place}");
        }
    }
    // A request has the session's token in its head by its nature, and heads are not recorded.
    for line in record.lines() {
        for (what, value) in &planted {
            assert!(!line.contains(value), "{what} was sent or answered: {line}");
        }
    }
    for place in ["/.dbird/state/", "/.dbird/logs/", "/out/aws/"] {
        let open = said.iter().any(|(name, text)| name.contains(place) && text.contains(OPEN));
        assert!(open, "what is open is not seen in {place}, so nothing else would be");
    }
    let registered = |line: &str| line.contains("\"RegisterTaskDefinition\"") && line.contains(OPEN);
    assert!(record.lines().any(registered), "the record has no task definition");
}
