//! Real servers on free loopback ports: moto and ministack for S3, Azurite for Blob. Each is stopped by its process when its
//! test ends.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// Starting is given up after this.
const START_MS: u64 = 60_000;

/// A server with its folder.
pub(crate) struct Server {
    child: Child,
    pub(crate) port: u16,
    _folder: TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// Starts a program of PATH; `{port}` and `{folder}` are filled in.
    fn start(program: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Server {
        let folder = TempDir::new().unwrap();
        let port = free_port();
        let fill = |text: &str| {
            text.replace("{port}", &port.to_string()).replace("{folder}", &folder.path().display().to_string())
        };
        let child = Command::new(program)
            .args(arguments.iter().map(|argument| fill(argument)))
            .envs(variables.iter().map(|(name, value)| (name, fill(value))))
            .env("HOME", folder.path())
            .env("TMPDIR", folder.path())
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|e| panic!("`{program}` can't be started: {e}; `cargo xtask test` installs it"));
        let mut server = Server { child, port, _folder: folder };
        let started = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(server.child.try_wait().unwrap().is_none(), "`{program}` ended while it was starting");
            assert!(started.elapsed() < Duration::from_millis(START_MS), "`{program}` did not start");
            std::thread::park_timeout(Duration::from_millis(20));
        }
        server
    }

    /// S3 with identities: whoever asks must be known, and sign.
    pub(crate) fn moto() -> (Server, Vec<(String, String)>) {
        // The bucket, a user, its key and its policy are made before identities count.
        let server = Server::start(
            "moto_server",
            &["-H", "127.0.0.1", "-p", "{port}"],
            &[("INITIAL_NO_AUTH_ACTION_COUNT", "4")],
        );
        server.ask("PUT /state", &[], "");
        let iam = [(
            "Authorization",
            "AWS4-HMAC-SHA256 Credential=x/20260101/us-east-1/iam/aws4_request, SignedHeaders=host, Signature=x",
        )];
        let policy = "%7B%22Version%22%3A%222012-10-17%22%2C%22Statement%22%3A%5B%7B%22Effect%22%3A%22Allow%22%2C\
                      %22Action%22%3A%22s3%3A%2A%22%2C%22Resource%22%3A%22%2A%22%7D%5D%7D";
        server.ask("POST /", &iam, "Action=CreateUser&UserName=ann&Version=2010-05-08");
        let put = format!("Action=PutUserPolicy&UserName=ann&PolicyName=s3&Version=2010-05-08&PolicyDocument={policy}");
        server.ask("POST /", &iam, &put);
        let made = server.ask("POST /", &iam, "Action=CreateAccessKey&UserName=ann&Version=2010-05-08");
        let of = |name: &str| {
            let (_, rest) = made.split_once(&format!("<{name}>")).unwrap();
            rest.split_once('<').unwrap().0.to_owned()
        };
        let variables = server.s3(&of("AccessKeyId"), &of("SecretAccessKey"));
        (server, variables)
    }

    /// S3 that checks signatures.
    pub(crate) fn ministack() -> (Server, Vec<(String, String)>) {
        let variables = [("BIND_HOST", "127.0.0.1"), ("GATEWAY_PORT", "{port}"), ("AUTH", "true")];
        let server = Server::start("ministack", &[], &variables);
        server.ask("PUT /state", &[], "");
        let variables = server.s3("test", "test");
        (server, variables)
    }

    /// Blob with Azurite's well-known account.
    pub(crate) fn azurite() -> (Server, Vec<(String, String)>) {
        let quiet = ["--silent", "--disableTelemetry", "--skipApiVersionCheck", "--inMemoryPersistence"];
        let place = ["--blobHost", "127.0.0.1", "--blobPort", "{port}"];
        let server = Server::start("azurite-blob", &[&place[..], &quiet[..]].concat(), &[]);
        // Signed once with the key below, for making containers, until 2099.
        let signature =
            "sv=2018-11-09&ss=b&srt=c&sp=c&se=2099-01-01&sig=yMkpXC%2BHGFaPR%2BvhMoBrGotz%2FtXUda5Qn05h3jOd%2BVc%3D";
        server.ask(&format!("PUT /devstoreaccount1/state?restype=container&{signature}"), &[], "");
        let endpoint = format!("http://127.0.0.1:{}/devstoreaccount1", server.port);
        let key = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";
        let variables = [("AZURE_STORAGE_ENDPOINT", endpoint.as_str()), ("AZURE_STORAGE_ACCOUNT_KEY", key)].map(owned);
        (server, variables.to_vec())
    }

    fn s3(&self, key: &str, secret: &str) -> Vec<(String, String)> {
        let endpoint = format!("http://127.0.0.1:{}", self.port);
        let variables = [
            ("AWS_ENDPOINT_URL_S3", endpoint.as_str()),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ACCESS_KEY_ID", key),
            ("AWS_SECRET_ACCESS_KEY", secret),
        ];
        variables.map(owned).to_vec()
    }

    /// Sends a request that must succeed; returns the answer's text.
    fn ask(&self, line: &str, headers: &[(&str, &str)], body: &str) -> String {
        let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(START_MS))).unwrap();
        write!(
            stream,
            "{line} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nConnection: close\r\nContent-Length: {}\r\n\
             Content-Type: application/x-www-form-urlencoded\r\n{headers}\r\n{body}",
            self.port,
            body.len()
        )
        .unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(answer.starts_with("HTTP/1.1 20"), "{line}: {answer}");
        answer
    }
}

/// A port that nothing listens on. These servers take seconds to listen, so it lies below those that the system gives to
/// connections and to whoever asks for any port: one of them could be given to somebody else meanwhile.
fn free_port() -> u16 {
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    for _ in 0..1_000 {
        let n = GIVEN.fetch_add(1, Ordering::Relaxed);
        let port = 18_000 + (std::process::id().wrapping_mul(61).wrapping_add(n) % 12_000) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no port is free");
}

fn owned((name, value): (&str, &str)) -> (String, String) {
    (name.to_owned(), value.to_owned())
}
