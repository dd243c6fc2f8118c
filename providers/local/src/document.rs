//! The three documents of a local deploy: image, data folder, service. It decides their shape and says which field is
//! wrong; it acts on nothing.

use std::collections::BTreeMap;
use std::net::{SocketAddr, ToSocketAddrs};

use dbird_core::ImageRef;
use dbird_core::spec::{Health, Runtime, SecretRef, Writer};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Most copies of a service on one machine.
const REPLICAS_MAX: u32 = 64;

/// Step `image`: the image that is unpacked for this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageDocument {
    /// `oci:` and the folder of an OCI image layout, relative to the project's folder.
    pub repository: String,
    /// The digest of the image's manifest.
    pub digest: dbird_core::Digest,
}

/// Step `data`: a folder that outlives every release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataDocument {
    /// Its name among the environment's folders.
    pub name: String,
    /// Where the service expects it.
    pub path: String,
}

/// Step `service`: one release of the service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceDocument {
    /// The service's name.
    pub name: String,
    /// The environment's name.
    pub environment: String,
    /// What runs; must be given by the time it is applied.
    pub image: Option<ImageRef>,
    /// How tasks run.
    pub runtime: Runtime,
    /// The port inside the container.
    pub port: u16,
    /// The variable that tells a task its port.
    pub port_env: Option<String>,
    /// Plain environment variables.
    pub env: BTreeMap<String, String>,
    /// Environment variables whose values the project's secrets give.
    pub secrets: BTreeMap<String, SecretDocument>,
    /// Probes.
    pub health: HealthDocument,
    /// The data folders that it sees.
    pub mounts: Vec<DataDocument>,
    /// Who may write to the store; none for a stateless service.
    pub writer: Option<Writer>,
    /// The version of the protocol by which releases share the store; 0 for none.
    pub storage_protocol: u32,
    /// How many copies run.
    pub replicas: u32,
    /// From being asked to stop to being killed.
    pub stop_grace_ms: u64,
    /// The front door, `address:port`.
    pub listen: String,
    /// The test door, `address:port`.
    pub test_listen: String,
}

/// A secret by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretDocument {
    /// Its name in `.dbird/secrets`.
    pub name: String,
}

impl From<&SecretRef> for SecretDocument {
    fn from(secret: &SecretRef) -> Self {
        SecretDocument { name: secret.name.clone() }
    }
}

/// Probes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HealthDocument {
    /// Path of the liveness probe.
    pub live: String,
    /// Path of the readiness probe.
    pub ready: String,
    /// Between probes.
    pub interval_ms: u64,
    /// A probe that takes longer has failed.
    pub timeout_ms: u64,
    /// Consecutive successes that make it ready.
    pub healthy_after: u32,
    /// Consecutive failures that make it unready.
    pub unhealthy_after: u32,
}

impl From<&Health> for HealthDocument {
    fn from(health: &Health) -> Self {
        let Health { live, ready, interval_ms, timeout_ms, healthy_after, unhealthy_after } = health.clone();
        HealthDocument { live, ready, interval_ms, timeout_ms, healthy_after, unhealthy_after }
    }
}

/// Reads a document; the error says which field is wrong.
pub fn read<T: DeserializeOwned>(body: &Value) -> Result<T, String> {
    T::deserialize(body).map_err(|error| error.to_string())
}

impl ImageDocument {
    /// The layout's folder, relative to the project's.
    pub fn layout(&self) -> Result<&str, String> {
        self.repository.strip_prefix("oci:").filter(|folder| !folder.is_empty()).ok_or_else(|| {
            format!(
                "field `repository`: `{}` is not `oci:` and a folder, the only store this machine reads",
                self.repository
            )
        })
    }
}

impl DataDocument {
    /// Says what is wrong with it.
    pub fn check(&self) -> Result<(), String> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if self.name.is_empty() || self.name.len() > 64 || self.name.starts_with('.') || !self.name.chars().all(plain) {
            return Err(format!(
                "field `name`: `{}` is no name for a folder: 1 to 64 letters, digits, `-`, `_`, `.`",
                self.name
            ));
        }
        if !self.path.starts_with('/') || self.path.trim_matches('/').is_empty() {
            return Err(format!("field `path`: `{}` is not an absolute path below `/`", self.path));
        }
        Ok(())
    }
}

impl ServiceDocument {
    /// Says what is wrong with it, beyond its shape.
    pub fn check(&self) -> Result<(), String> {
        for mount in &self.mounts {
            mount.check().map_err(|why| format!("field `mounts`: {why}"))?;
        }
        let probe = |name: &str, path: &str| {
            let fine = path.starts_with('/') && path.parse::<PathAndQuery>().is_ok();
            if fine { Ok(()) } else { Err(format!("field `health.{name}`: `{path}` is not a path")) }
        };
        probe("live", &self.health.live)?;
        probe("ready", &self.health.ready)?;
        for (name, value) in [
            ("port", u64::from(self.port)),
            ("health.interval_ms", self.health.interval_ms),
            ("health.timeout_ms", self.health.timeout_ms),
            ("health.healthy_after", u64::from(self.health.healthy_after)),
            ("health.unhealthy_after", u64::from(self.health.unhealthy_after)),
            ("replicas", u64::from(self.replicas)),
        ] {
            if value == 0 {
                return Err(format!("field `{name}`: must be at least 1"));
            }
        }
        if self.replicas > REPLICAS_MAX {
            return Err(format!(
                "field `replicas`: {} is over {REPLICAS_MAX}, too many for one machine",
                self.replicas
            ));
        }
        if self.is_exclusive() && self.replicas > 1 {
            return Err("field `replicas`: a store with writer = \"exclusive\" takes one copy".to_owned());
        }
        if self.runtime == Runtime::Process && self.port_env.is_none() {
            return Err(
                "field `port_env`: a process must be told its port, since two releases run side by side; name the \
                        variable, or set runtime = \"podman\""
                    .to_owned(),
            );
        }
        if let Some(name) =
            self.env.keys().chain(self.secrets.keys()).find(|name| name.is_empty() || name.contains(['=', '\0']))
        {
            return Err(format!("field `env`: `{name}` is no name for a variable"));
        }
        if let Some((name, _)) = self.env.iter().find(|(_, value)| value.contains('\0')) {
            return Err(format!("field `env.{name}`: its value holds a NUL byte"));
        }
        let listen = address("listen", &self.listen)?;
        let test = address("test_listen", &self.test_listen)?;
        if listen == test && listen.port() != 0 {
            return Err(format!("field `test_listen`: it is the same address as `listen`, {listen}"));
        }
        Ok(())
    }

    /// True where only one process may have the store.
    pub fn is_exclusive(&self) -> bool {
        self.writer == Some(Writer::Exclusive)
    }
}

/// The address that a setting names.
pub fn address(field: &str, text: &str) -> Result<SocketAddr, String> {
    let wrong = || format!("field `{field}`: `{text}` is not an address and port of this machine, as 127.0.0.1:8080");
    text.to_socket_addrs().ok().and_then(|mut all| all.next()).ok_or_else(wrong)
}

/// Only for its parser.
struct PathAndQuery;

impl std::str::FromStr for PathAndQuery {
    type Err = ();

    fn from_str(path: &str) -> Result<Self, ()> {
        if path.bytes().all(|b| b.is_ascii_graphic() && b != b'#') { Ok(PathAndQuery) } else { Err(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn service() -> Value {
        json!({
            "name": "bird", "environment": "dev", "image": null, "runtime": "process", "port": 8080, "port_env": "PORT",
            "env": {"A": "b"}, "secrets": {"KEY": {"name": "key"}},
            "health": {"live": "/healthz", "ready": "/readyz?x=1", "interval_ms": 1, "timeout_ms": 1, "healthy_after": 1, "unhealthy_after": 1},
            "mounts": [{"name": "data", "path": "/data"}], "writer": "exclusive", "storage_protocol": 0, "replicas": 1, "stop_grace_ms": 0,
            "listen": "127.0.0.1:0", "test_listen": "localhost:0"
        })
    }

    fn fault(pointer: &str, value: Value) -> String {
        let mut body = service();
        if let Some(field) = body.pointer_mut(pointer) {
            *field = value;
        } else {
            body[pointer.trim_start_matches('/')] = value;
        }
        match read::<ServiceDocument>(&body) {
            Ok(document) => document.check().err().unwrap_or_default(),
            Err(why) => why,
        }
    }

    #[test]
    fn faults_name_their_field() {
        assert_eq!(fault("/name", json!("bird")), "");
        for (pointer, value, names) in [
            ("/colour", json!(1), "colour"),
            ("/port", json!(0), "`port`"),
            ("/port", json!("x"), "u16"),
            ("/port", json!(70000), "u16"),
            ("/port_env", json!(null), "`port_env`"),
            ("/health/ready", json!("readyz"), "`health.ready`"),
            ("/health/live", json!("/a b"), "`health.live`"),
            ("/health/interval_ms", json!(0), "`health.interval_ms`"),
            ("/replicas", json!(2), "exclusive"),
            ("/replicas", json!(65), "`replicas`"),
            ("/mounts/0/path", json!("data"), "`path`"),
            ("/mounts/0/path", json!("/"), "`path`"),
            ("/mounts/0/name", json!("../up"), "`name`"),
            ("/mounts/0/name", json!(".."), "`name`"),
            ("/listen", json!("8080"), "`listen`"),
            ("/test_listen", json!("somewhere"), "`test_listen`"),
            ("/runtime", json!("docker"), "docker"),
            ("/writer", json!("all"), "all"),
            ("/env/A", json!("\u{0}"), "`env.A`"),
        ] {
            let said = fault(pointer, value.clone());
            assert!(said.contains(names), "{pointer} {value}: {said}");
        }
        let mut twice = service();
        twice["listen"] = json!("127.0.0.1:9");
        twice["test_listen"] = json!("127.0.0.1:9");
        assert!(read::<ServiceDocument>(&twice).unwrap().check().unwrap_err().contains("the same address"));
    }
}
