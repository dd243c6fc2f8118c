//! When a rule applies to a request. It reads conditions as the API spells them and matches a request's head; it never looks at
//! a body.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::request::Parts;
use serde_json::{Value, json};

use crate::aws::{Fault, list, tags::texts, text};

/// One condition; any of its values is enough.
#[derive(Debug, Clone)]
pub(super) enum Condition {
    Path(Vec<String>),
    Host(Vec<String>),
    Method(Vec<String>),
    Header { name: String, values: Vec<String> },
    Query(Vec<(Option<String>, String)>),
    Source(Vec<Network>),
}

/// Addresses that begin alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Network {
    address: IpAddr,
    bits: u8,
}

impl Condition {
    pub(super) fn parse(condition: &Value) -> Result<Self, Fault> {
        let values = |config: &str| {
            let given = condition.get(config).map(|config| texts(config, "Values")).unwrap_or_default();
            if given.is_empty() { texts(condition, "Values") } else { given }
        };
        let field = text(condition, "Field").unwrap_or_default();
        let parsed = match field {
            "path-pattern" => Condition::Path(values("PathPatternConfig")),
            "host-header" => {
                Condition::Host(values("HostHeaderConfig").iter().map(|host| host.to_lowercase()).collect())
            }
            "http-request-method" => Condition::Method(values("HttpRequestMethodConfig")),
            "http-header" => {
                let config = condition.get("HttpHeaderConfig").unwrap_or(&Value::Null);
                let name = text(config, "HttpHeaderName").unwrap_or_default().to_lowercase();
                if name.is_empty() {
                    return Err(Fault::new(
                        "ValidationError",
                        "A condition of the field http-header must name a header",
                    ));
                }
                Condition::Header { name, values: texts(config, "Values") }
            }
            "query-string" => {
                let pair =
                    |value: &Value| Some((text(value, "Key").map(str::to_owned), text(value, "Value")?.to_owned()));
                let config = condition.get("QueryStringConfig").unwrap_or(&Value::Null);
                Condition::Query(list(config, "Values").iter().filter_map(pair).collect())
            }
            "source-ip" => {
                let networks: Option<Vec<_>> =
                    values("SourceIpConfig").iter().map(|text| Network::parse(text)).collect();
                let said = "The values of the condition source-ip must be valid CIDR blocks";
                Condition::Source(networks.ok_or_else(|| Fault::new("ValidationError", said))?)
            }
            other => {
                return Err(Fault::new(
                    "ValidationError",
                    format!(
                        "Condition field '{other}' must be one of '[path-pattern, host-header, http-header, http-request-method, query-string, source-ip]'"
                    ),
                ));
            }
        };
        if parsed.len() == 0 {
            return Err(Fault::new(
                "ValidationError",
                format!("A condition value must be specified for the field '{field}'"),
            ));
        }
        Ok(parsed)
    }

    /// How many values it has; a rule may have five in all.
    pub(super) fn len(&self) -> usize {
        match self {
            Condition::Path(values) | Condition::Host(values) | Condition::Method(values) => values.len(),
            Condition::Header { values, .. } => values.len(),
            Condition::Query(values) => values.len(),
            Condition::Source(values) => values.len(),
        }
    }

    /// As the API has it.
    pub(super) fn describe(&self) -> Value {
        match self {
            Condition::Path(values) => {
                json!({ "Field": "path-pattern", "Values": values, "PathPatternConfig": { "Values": values } })
            }
            Condition::Host(values) => {
                json!({ "Field": "host-header", "Values": values, "HostHeaderConfig": { "Values": values } })
            }
            Condition::Method(values) => {
                json!({ "Field": "http-request-method", "HttpRequestMethodConfig": { "Values": values } })
            }
            Condition::Header { name, values } => {
                json!({ "Field": "http-header", "HttpHeaderConfig": { "HttpHeaderName": name, "Values": values } })
            }
            Condition::Query(values) => {
                let values: Vec<Value> =
                    values.iter().map(|(key, value)| json!({ "Key": key, "Value": value })).collect();
                json!({ "Field": "query-string", "QueryStringConfig": { "Values": values } })
            }
            Condition::Source(values) => {
                let values: Vec<String> = values.iter().map(Network::to_string).collect();
                json!({ "Field": "source-ip", "SourceIpConfig": { "Values": values } })
            }
        }
    }

    /// Whether a request is meant.
    pub(super) fn matches(&self, head: &Parts, source: IpAddr) -> bool {
        match self {
            Condition::Path(patterns) => patterns.iter().any(|pattern| like(pattern, head.uri.path())),
            Condition::Host(patterns) => {
                let host = host_of(head).to_lowercase();
                patterns.iter().any(|pattern| like(pattern, &host))
            }
            Condition::Method(methods) => methods.iter().any(|method| method == head.method.as_str()),
            Condition::Header { name, values } => head.headers.get_all(name).iter().any(|header| {
                let header = String::from_utf8_lossy(header.as_bytes()).to_lowercase();
                values.iter().any(|pattern| like(&pattern.to_lowercase(), &header))
            }),
            Condition::Query(values) => head.uri.query().unwrap_or_default().split('&').any(|pair| {
                let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                let same = |wanted: &Option<String>| wanted.as_ref().is_none_or(|wanted| like(wanted, key));
                values.iter().any(|(wanted, pattern)| same(wanted) && like(pattern, value))
            }),
            Condition::Source(networks) => networks.iter().any(|network| network.has(source)),
        }
    }
}

/// The host that a request names, without a port.
pub(super) fn host_of(head: &Parts) -> String {
    let named = head.headers.get(http::header::HOST).and_then(|host| host.to_str().ok());
    let host = named.or(head.uri.authority().map(http::uri::Authority::as_str)).unwrap_or_default();
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name.to_owned(),
        _ => host.to_owned(),
    }
}

/// `*` stands for any text, `?` for one letter.
fn like(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut at, mut star, mut p) = (0, None, 0);
    while at < text.len() {
        if p < pattern.len() && pattern[p] == '*' {
            star = Some((p, at));
            p += 1;
        } else if p < pattern.len() && (pattern[p] == '?' || pattern[p] == text[at]) {
            p += 1;
            at += 1;
        } else if let Some((star_p, star_at)) = star {
            p = star_p + 1;
            at = star_at + 1;
            star = Some((star_p, star_at + 1));
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|letter| *letter == '*')
}

impl Network {
    /// `10.0.0.0/8`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (address, bits) = text.split_once('/')?;
        let address: IpAddr = address.parse().ok()?;
        let bits: u8 = bits.parse().ok()?;
        (bits <= if address.is_ipv4() { 32 } else { 128 }).then_some(Network { address, bits })
    }

    pub(super) fn has(&self, other: IpAddr) -> bool {
        let cut = |address: u128, width: u32| address.checked_shr(width - u32::from(self.bits)).unwrap_or(0);
        let v4 = |address: Ipv4Addr| cut(u128::from(u32::from(address)), 32);
        let v6 = |address: Ipv6Addr| cut(u128::from(address), 128);
        match (self.address, other.to_canonical()) {
            (IpAddr::V4(mine), IpAddr::V4(other)) => v4(mine) == v4(other),
            (IpAddr::V6(mine), IpAddr::V6(other)) => v6(mine) == v6(other),
            _ => false,
        }
    }
}

impl std::fmt::Display for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, text, matches) in [
            ("/*", "/", true),
            ("/*", "/a/b", true),
            ("/metrics", "/metrics", true),
            ("/metrics", "/metrics/", false),
            ("/metrics*", "/metrics/x", true),
            ("/img/*/s?n", "/img/a/b/sun", true),
            ("/img/*/s?n", "/img/a/b/su", false),
            ("/A", "/a", false),
            ("*", "", true),
            ("a*a*a", "aa", false),
        ] {
            assert_eq!(like(pattern, text), matches, "{pattern} {text}");
        }
    }

    #[test]
    fn networks() {
        for (network, address, inside) in [
            ("10.0.0.0/8", "10.9.9.9", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("0.0.0.0/0", "127.0.0.1", true),
            ("127.0.0.2/32", "127.0.0.1", false),
            ("::/0", "127.0.0.1", false),
            ("::/0", "::1", true),
        ] {
            assert_eq!(Network::parse(network).unwrap().has(address.parse().unwrap()), inside, "{network} {address}");
        }
        assert_eq!(Network::parse("10.0.0.0/33"), None);
        assert_eq!(Network::parse("10.0.0.0"), None);
    }

    #[test]
    fn conditions_match_a_head() {
        let request = http::Request::get("/a?x=1&y=22").header("host", "Bird.example:8080").header("x-colour", "Green");
        let (head, ()) = request.body(()).unwrap().into_parts();
        for (condition, matches) in [
            (json!({ "Field": "path-pattern", "Values": ["/b", "/a*"] }), true),
            (json!({ "Field": "host-header", "HostHeaderConfig": { "Values": ["*.EXAMPLE"] } }), true),
            (
                json!({ "Field": "http-header", "HttpHeaderConfig": { "HttpHeaderName": "X-Colour", "Values": ["gr*"] } }),
                true,
            ),
            (json!({ "Field": "http-request-method", "HttpRequestMethodConfig": { "Values": ["POST"] } }), false),
            (
                json!({ "Field": "query-string", "QueryStringConfig": { "Values": [{ "Key": "y", "Value": "2?" }] } }),
                true,
            ),
            (
                json!({ "Field": "query-string", "QueryStringConfig": { "Values": [{ "Key": "x", "Value": "2" }] } }),
                false,
            ),
            (json!({ "Field": "source-ip", "SourceIpConfig": { "Values": ["192.168.0.0/16"] } }), false),
        ] {
            let parsed = Condition::parse(&condition).unwrap();
            assert_eq!(parsed.matches(&head, "10.0.0.1".parse().unwrap()), matches, "{condition}");
            assert_eq!(Condition::parse(&parsed.describe()).unwrap().len(), parsed.len());
        }
        assert!(Condition::parse(&json!({ "Field": "path-pattern", "Values": [] })).is_err());
        assert!(Condition::parse(&json!({ "Field": "colour", "Values": ["x"] })).is_err());
    }
}
