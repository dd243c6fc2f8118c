//! What values that are text may be: names, paths, addresses, references. A text is checked for its form only; whether what
//! it names exists is found out by whoever uses it.

use std::{fmt, net::SocketAddr};

use serde_json::{Value as Json, json};
use toml::{Value, de::DeValue};

use super::{
    conceal::looks_secret,
    faults::Draft,
    reader::Reader,
    table::{Leaf, Node},
};

/// Longer text is refused.
const CHARS_MAX: usize = 4096;
/// Longer values of environment variables are refused.
const VALUE_CHARS_MAX: usize = 32_768;

/// Why a text is not of the form that is wanted, and what would be.
pub(crate) struct Wrong {
    why: &'static str,
    instead: Option<String>,
}

fn wrong<T>(why: &'static str) -> Result<T, Wrong> {
    Err(Wrong { why, instead: None })
}

fn instead<T>(why: &'static str, instead: String) -> Result<T, Wrong> {
    Err(Wrong { why, instead: Some(instead) })
}

/// A text of one form.
pub(crate) struct Text {
    check: fn(&str) -> Result<(), Wrong>,
    pattern: Option<&'static str>,
    example: Option<&'static str>,
    empty: bool,
    chars_max: usize,
    /// It is somebody's own text, which no fault may repeat.
    private: bool,
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Text").field("pattern", &self.pattern).finish_non_exhaustive()
    }
}

impl Leaf for Text {
    type Value = String;

    fn read(&self, node: &Node<'_>, reader: &mut Reader<'_, '_>) -> Option<String> {
        let text = match node.get_ref() {
            DeValue::String(text) => text.to_string(),
            // What was typed is the text, whatever TOML makes of it.
            _ if reader.bare => reader.text.get(node.span())?.to_owned(),
            _ => {
                let key = reader.path.last().map_or("", String::as_str);
                let raw = reader.text.get(node.span()).filter(|raw| {
                    raw.len() <= 64 && !raw.contains(['"', '\\', '\n']) && !(self.private && looks_secret(key, raw))
                });
                let suggestion = raw.map(|raw| format!("\"{raw}\""));
                reader.expected("text", node, suggestion);
                return None;
            }
        };
        let verdict = if text.is_empty() && self.empty {
            Ok(())
        } else if text.is_empty() {
            wrong("it is empty")
        } else if text.chars().count() > self.chars_max {
            wrong("it is too long")
        } else if text.contains('\0') {
            wrong("it holds a NUL character, which no program can be given")
        } else {
            (self.check)(&text)
        };
        let Err(Wrong { why, instead }) = verdict else { return Some(text) };
        let draft = Draft::error(format!("`{}` can't be this: {why}", reader.key()))
            .suggest(instead.map(|text| Value::String(text).to_string()));
        let draft = match self.example {
            Some(example) => draft.help(format!("for example {}", Value::String(example.to_owned()))),
            None => draft,
        };
        reader.add(reader.place(node), draft);
        None
    }

    fn write(&self, value: &String) -> Value {
        Value::String(value.clone())
    }

    fn schema(&self) -> Json {
        let mut schema = json!({ "type": "string", "maxLength": self.chars_max });
        if !self.empty {
            schema["minLength"] = 1.into();
        }
        if let Some(pattern) = self.pattern {
            schema["pattern"] = pattern.into();
        }
        if let Some(example) = self.example {
            schema["examples"] = json!([example]);
        }
        schema
    }
}

/// A text of this form.
fn form(check: fn(&str) -> Result<(), Wrong>, pattern: &'static str, example: &'static str) -> Text {
    Text { check, pattern: Some(pattern), example: Some(example), empty: false, chars_max: CHARS_MAX, private: false }
}

/// Any text but the empty one.
pub(crate) fn text() -> Text {
    Text { check: |_| Ok(()), pattern: None, example: None, empty: false, chars_max: CHARS_MAX, private: false }
}

/// A program or one of its arguments.
pub(crate) fn argument() -> Text {
    Text { empty: true, chars_max: VALUE_CHARS_MAX, ..text() }
}

/// The value of an environment variable.
pub(crate) fn value() -> Text {
    Text { empty: true, chars_max: VALUE_CHARS_MAX, private: true, ..text() }
}

/// A name that becomes part of resource names everywhere.
pub(crate) fn name() -> Text {
    form(|text| check_name(text).map_err(|(why, instead)| Wrong { why, instead }), NAME, "drafty-bird")
}

const NAME: &str = "^[a-z]([a-z0-9-]{0,30}[a-z0-9])?$";

/// Whether this can name a service or an environment; if not, why and what could.
pub(crate) fn check_name(name: &str) -> Result<(), (&'static str, Option<String>)> {
    let why = if !name.starts_with(|c: char| c.is_ascii_lowercase()) {
        "a name starts with a lower-case letter"
    } else if !name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-')) {
        "a name has lower-case letters, digits and dashes only"
    } else if name.len() > 32 {
        "a name has at most 32 characters"
    } else if name.ends_with('-') {
        "a name does not end with a dash"
    } else {
        return Ok(());
    };
    let dashed: String =
        name.to_lowercase().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(32).collect();
    let instead = dashed.trim_matches('-').trim_start_matches(|c: char| !c.is_ascii_lowercase()).to_owned();
    Err((why, (!instead.is_empty()).then_some(instead)))
}

/// The name of an environment variable.
pub(crate) fn variable() -> Text {
    let check = |text: &str| check_variable(text).or_else(wrong);
    form(check, VARIABLE, "PORT")
}

pub(crate) const VARIABLE: &str = "^[A-Za-z_][A-Za-z0-9_.-]*$";

pub(crate) fn check_variable(name: &str) -> Result<(), &'static str> {
    let right = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
    if right { Ok(()) } else { Err("a variable's name has letters, digits, `_`, `.` and `-`, and no digit first") }
}

/// A path within the project's folder, or an absolute one.
pub(crate) fn file_path() -> Text {
    let check = |text: &str| match text.starts_with('~') {
        true => wrong("`~` is not followed; write the path from the project's folder"),
        false => Ok(()),
    };
    form(check, "^[^~]", "target/release/drafty-bird")
}

/// Where something is mounted in a container.
pub(crate) fn mount() -> Text {
    let check = |text: &str| match text {
        "/" => wrong("the root of the container can't be replaced"),
        _ if !text.starts_with('/') => instead("it is not an absolute path", format!("/{text}")),
        _ if text.ends_with('/') => instead("it ends with a slash", text.trim_end_matches('/').to_owned()),
        _ if text.split('/').skip(1).any(|part| matches!(part, "" | "." | "..")) => wrong("it is not a plain path"),
        _ => Ok(()),
    };
    form(check, "^(/[^/]+)+$", "/data")
}

/// The path of a URL.
pub(crate) fn url_path() -> Text {
    let check = |text: &str| match text {
        _ if text.contains("://") => wrong("it is a whole URL; only the path is wanted"),
        _ if !text.starts_with('/') => instead("it does not start with a slash", format!("/{text}")),
        _ if text.contains(|c: char| c.is_whitespace() || c.is_control()) => wrong("it holds white space"),
        _ => Ok(()),
    };
    form(check, "^/\\S*$", "/healthz")
}

/// An HTTP address, or nothing.
pub(crate) fn url_path_or_none() -> Text {
    Text { empty: true, pattern: None, ..url_path() }
}

/// An http address.
pub(crate) fn http_url() -> Text {
    let check = |text: &str| match text.split_once("://") {
        Some(("http" | "https", rest)) if !rest.is_empty() && !text.contains(char::is_whitespace) => Ok(()),
        Some(_) => wrong("it is not an http:// or https:// address"),
        None => instead("it does not start with http:// or https://", format!("http://{text}")),
    };
    Text { empty: true, ..form(check, "^(https?://\\S+)?$", "http://127.0.0.1:4318") }
}

/// Where state is kept.
pub(crate) fn state_url() -> Text {
    let check = |text: &str| {
        let (scheme, rest) = text.split_once(':').unwrap_or((text, ""));
        let parts: Vec<&str> = rest.trim_start_matches('/').split('/').collect();
        match scheme {
            _ if text.contains(char::is_whitespace) && scheme != "file" => wrong("it holds white space"),
            "file" if !rest.is_empty() => Ok(()),
            "s3" if rest.starts_with("//") && !parts[0].is_empty() => Ok(()),
            "az" if rest.starts_with("//") && parts.len() >= 2 && parts.iter().take(2).all(|p| !p.is_empty()) => Ok(()),
            "s3" => wrong("it does not name a bucket"),
            "az" => wrong("it does not name an account and a container"),
            _ => wrong("it is not file:PATH, s3://BUCKET/PREFIX or az://ACCOUNT/CONTAINER/PREFIX"),
        }
    };
    form(check, "^(file:.+|s3://[^/\\s]+(/\\S*)?|az://[^/\\s]+/[^/\\s]+(/\\S*)?)$", "file:.dbird/state")
}

/// An address and a port to listen on.
pub(crate) fn listen() -> Text {
    let check = |text: &str| match (text.parse::<SocketAddr>(), text.rsplit_once(':')) {
        (Ok(address), _) if address.port() == 0 => wrong("port 0 is any port, and clients need to know which"),
        (Ok(_), _) => Ok(()),
        (Err(_), Some(("localhost" | "", port))) if port.parse::<u16>().is_ok() => {
            instead("it is not an IP address and a port", format!("127.0.0.1:{port}"))
        }
        (Err(_), None) if text.parse::<u16>().is_ok() => {
            instead("it is not an IP address and a port", format!("127.0.0.1:{text}"))
        }
        (Err(_), _) => wrong("it is not an IP address and a port"),
    };
    form(check, "^(\\[[0-9A-Fa-f:.]+\\]|[0-9.]+):[0-9]{1,5}$", "127.0.0.1:8080")
}

/// An image that another is built on.
pub(crate) fn image() -> Text {
    let check = |text: &str| {
        let (path, digest) = text.split_once('@').map_or((text, None), |(path, digest)| (path, Some(digest)));
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '/' | ':');
        match digest {
            _ if text.contains("://") => wrong("an image reference has no scheme"),
            _ if path.is_empty() || !path.chars().all(plain) => wrong("it is not an image reference"),
            Some(digest) if crate::Digest::try_from(digest.to_owned()).is_err() => {
                wrong("what follows `@` is not a digest")
            }
            _ => Ok(()),
        }
    };
    form(check, "^[A-Za-z0-9._:/-]+(@sha256:[0-9a-f]{64})?$", "docker.io/library/node:22-slim")
}

/// The name of a secret in a cloud's store, or where AWS keeps it.
pub(crate) fn secret_name() -> Text {
    fn plain(name: &str) -> bool {
        name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'/'))
    }
    let check = |text: &str| match text {
        _ if text.starts_with("arn:") && (check_arn(text, "secretsmanager") || check_arn(text, "ssm")) => Ok(()),
        _ if text.starts_with("arn:") => wrong("it is neither the ARN of a secret nor that of a parameter"),
        _ if text.strip_prefix("ssm:").is_some_and(|name| !name.is_empty() && name.len() <= 1011 && plain(name)) => {
            Ok(())
        }
        _ if text.len() > 128 => wrong("a secret's name has at most 128 characters"),
        _ if plain(text) => Ok(()),
        _ => wrong("a secret's name has letters, digits, `-`, `_`, `.` and `/`"),
    };
    let pattern = "^([A-Za-z0-9_./-]{1,128}|ssm:[A-Za-z0-9_./-]+|arn:[a-z-]+:(secretsmanager|ssm):\\S+)$";
    Text { private: true, ..form(check, pattern, "ticket-key") }
}

/// An account of AWS.
pub(crate) fn account() -> Text {
    let check = |text: &str| match text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit()) {
        true => Ok(()),
        false => wrong("an account of AWS is 12 digits"),
    };
    form(check, "^[0-9]{12}$", "123456789012")
}

/// A bucket of S3.
pub(crate) fn bucket() -> Text {
    let check = |text: &str| {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.');
        match text.strip_prefix("s3://") {
            Some(name) => instead("only the name is wanted", name.split('/').next().unwrap_or_default().to_owned()),
            None if (3..=63).contains(&text.len()) && text.bytes().all(plain) => Ok(()),
            None => wrong("a bucket's name has 3 to 63 lower-case letters, digits, `-` and `.`"),
        }
    };
    form(check, "^[a-z0-9.-]{3,63}$", "my-access-logs")
}

/// The addresses of a network on AWS.
pub(crate) fn vpc_network() -> Text {
    let check = |text: &str| {
        let parts = text
            .split_once('/')
            .and_then(|(ip, bits)| Some((ip.parse::<std::net::Ipv4Addr>().ok()?, bits.parse::<u32>().ok()?)));
        match parts {
            None => wrong("it is not a network of IPv4, such as 10.0.0.0/16"),
            // Eight parts of it, each large enough for a load balancer.
            Some((_, bits)) if !(16..=24).contains(&bits) => wrong("its length is from /16 to /24"),
            Some((ip, bits)) if u32::from(ip) << bits != 0 => {
                let first = std::net::Ipv4Addr::from(u32::from(ip) & !(u32::MAX >> bits));
                instead("it does not begin at the network's first address", format!("{first}/{bits}"))
            }
            Some(_) => Ok(()),
        }
    };
    form(check, "^[0-9.]+/(1[6-9]|2[0-4])$", "10.0.0.0/16")
}

/// A network, `10.0.0.0/8`.
pub(crate) fn network() -> Text {
    let check = |text: &str| {
        let (address, bits) = text.split_once('/').unwrap_or((text, ""));
        match (address.parse::<std::net::IpAddr>(), bits.parse::<u8>()) {
            (Ok(ip), Ok(bits)) if bits <= if ip.is_ipv4() { 32 } else { 128 } => Ok(()),
            (Ok(ip), Err(_)) if bits.is_empty() => {
                instead("it has no length", format!("{ip}/{}", if ip.is_ipv4() { 32 } else { 128 }))
            }
            _ => wrong("it is not a network"),
        }
    };
    form(check, "^[0-9A-Fa-f:.]+/[0-9]{1,3}$", "203.0.113.0/24")
}

/// Who is told of alerts.
pub(crate) fn recipient() -> Text {
    let check = |text: &str| match text.split_once('@') {
        _ if text.contains(char::is_whitespace) => wrong("it holds white space"),
        Some((user, host)) if !user.is_empty() && !host.is_empty() => Ok(()),
        _ if text.starts_with("https://") || text.starts_with("arn:") => Ok(()),
        _ => wrong("it is neither a mail address nor an https:// address nor an ARN"),
    };
    form(check, "^(https://\\S+|arn:\\S+|\\S+@\\S+)$", "oncall@example.com")
}

/// Which versions of dbird may use the project.
pub(crate) fn versions() -> Text {
    let check = |text: &str| match semver::VersionReq::parse(text) {
        Err(_) => wrong("it is not a requirement on a version"),
        Ok(_) if text.starts_with(['<', '>', '=', '^', '~']) => Ok(()),
        // To Cargo this would mean ^version; here nobody could tell.
        Ok(_) => instead("it does not say whether newer ones will do", format!(">={text}")),
    };
    form(check, "^[<>=^~]", ">=0.1")
}

/// A public name.
pub(crate) fn domain() -> Text {
    let check = |text: &str| {
        let label =
            |l: &str| !l.is_empty() && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') && !l.starts_with('-');
        match text.split_once("://") {
            Some((_, host)) if !host.trim_end_matches('/').is_empty() => {
                instead("only the name is wanted", host.trim_end_matches('/').to_owned())
            }
            _ if text.len() <= 253 && text.contains('.') && text.split('.').all(label) => Ok(()),
            _ => wrong("it is not a host's name"),
        }
    };
    form(check, "^[A-Za-z0-9][A-Za-z0-9-]*(\\.[A-Za-z0-9][A-Za-z0-9-]*)+$", "bird.example.com")
}

/// The ARN of something of this service.
fn check_arn(text: &str, service: &str) -> bool {
    let parts: Vec<&str> = text.splitn(6, ':').collect();
    matches!(&parts[..], ["arn", partition, s, _, _, what] if !partition.is_empty() && *s == service && !what.is_empty())
}

/// The ARN of a certificate.
pub(crate) fn certificate() -> Text {
    let check = |text: &str| if check_arn(text, "acm") { Ok(()) } else { wrong("it is not the ARN of a certificate") };
    form(
        check,
        "^arn:[a-z-]+:acm:",
        "arn:aws:acm:us-east-1:123456789012:certificate/00000000-0000-0000-0000-000000000000",
    )
}

/// The ARN of a role.
pub(crate) fn role() -> Text {
    let check = |text: &str| if check_arn(text, "iam") { Ok(()) } else { wrong("it is not the ARN of a role") };
    form(check, "^arn:[a-z-]+:iam:", "arn:aws:iam::123456789012:role/task-execution")
}

/// A repository in a registry.
pub(crate) fn repository() -> Text {
    let check = |text: &str| match text.split_once('/') {
        _ if text.contains("://") => wrong("a repository has no scheme"),
        _ if text.contains(['@', ' ']) => wrong("a repository has neither tag nor digest"),
        Some((registry, path)) if registry.contains('.') && !path.is_empty() && !path.contains(':') => Ok(()),
        _ => wrong("it is not REGISTRY/NAME"),
    };
    form(check, "^[^/\\s]+\\.[^/\\s]+/[^\\s:@]+$", "123456789012.dkr.ecr.us-east-1.amazonaws.com/drafty-bird")
}

/// A word that a cloud knows: a region, a location, a profile.
pub(crate) fn cloud_word(example: &'static str) -> Text {
    let check = |text: &str| match text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        true => Ok(()),
        false => wrong("it has other characters than letters, digits and dashes"),
    };
    form(check, "^[A-Za-z0-9-]+$", example)
}
