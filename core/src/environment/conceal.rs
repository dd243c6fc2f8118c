//! What looks like a secret, and blanking it out of text that is going to be shown. A secret in a configuration file is a
//! fault, and the report of that fault must not be what leaks it.

use std::ops::Range;

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{LAYER_BYTES_MAX, Layer};

/// Words that make a variable's name a secret's, wherever they stand in it, also as the end of a word: `dbPassword`.
const ANYWHERE: [&str; 8] =
    ["PASSWORD", "PASSWD", "PASSPHRASE", "SECRET", "APIKEY", "CREDENTIAL", "CREDENTIALS", "PRIVATEKEY"];
/// Words that do so as the last one only: `API_KEY`, but not `KEY_PREFIX`.
const LAST: [&str; 6] = ["KEY", "TOKEN", "PASS", "PWD", "ACCESSKEY", "AUTHTOKEN"];
/// Last words of names that speak about a secret without holding it.
const ABOUT: [&str; 25] = [
    "FILE",
    "PATH",
    "DIR",
    "NAME",
    "URL",
    "URI",
    "ENDPOINT",
    "ISSUER",
    "ARN",
    "ID",
    "TTL",
    "LIMIT",
    "MAX",
    "MIN",
    "COUNT",
    "LENGTH",
    "SIZE",
    "SECONDS",
    "MS",
    "EXPIRY",
    "TYPE",
    "ALGORITHM",
    "HEADER",
    "ENABLED",
    "VERSION",
];
/// How tokens of well-known services begin, and how long they are at least.
const SHAPES: [(&str, usize); 24] = [
    ("AKIA", 20),
    ("ASIA", 20),
    ("ghp_", 20),
    ("gho_", 20),
    ("ghu_", 20),
    ("ghs_", 20),
    ("ghr_", 20),
    ("github_pat_", 30),
    ("glpat-", 20),
    ("xoxb-", 20),
    ("xoxa-", 20),
    ("xoxp-", 20),
    ("xoxr-", 20),
    ("xoxs-", 20),
    ("sk_live_", 20),
    ("rk_live_", 20),
    ("sk-", 24),
    ("AIza", 35),
    ("npm_", 30),
    ("hf_", 30),
    ("SG.", 30),
    ("dckr_pat_", 20),
    ("pypi-", 30),
    ("dop_v1_", 30),
];
/// What only stands in text that holds a secret.
const MARKS: [&str; 5] = ["Bearer ", "PRIVATE KEY-----", "AccountKey=", "SharedAccessKey=", "SharedAccessSignature="];

/// Whether a variable of this name and value looks like a secret in plain text.
pub fn looks_secret(name: &str, value: &str) -> bool {
    value_looks_secret(value) || (name_looks_secret(name) && !harmless(value))
}

fn name_looks_secret(name: &str) -> bool {
    let upper = name.to_uppercase();
    let words: Vec<&str> = upper.split(|c: char| !c.is_ascii_alphanumeric()).filter(|w| !w.is_empty()).collect();
    // A number behind a name tells several of the same apart: `API_KEY_2`.
    let words = match words[..] {
        [ref before @ .., last] if last.bytes().all(|b| b.is_ascii_digit()) => before,
        ref all => all,
    };
    match words {
        [.., last] if ABOUT.contains(last) => false,
        // The public half of a pair, a key to sort or to look up by.
        [.., "PUBLIC" | "SORT" | "PARTITION" | "CACHE", "KEY"] => false,
        [.., last] if LAST.contains(last) => true,
        _ => words.iter().any(|word| ANYWHERE.iter().any(|secret| word.ends_with(secret))),
    }
}

/// A value that can't be a secret whatever it is called: nothing, a switch, a path.
fn harmless(value: &str) -> bool {
    let path = value.starts_with(['/', '.'])
        && value.len() <= 128
        && value.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'.' | b'-' | b'_'))
        && value.trim_start_matches('.').contains('/');
    let switch = ["true", "false", "yes", "no", "on", "off", "none", "null", "0", "1"];
    value.trim().is_empty() || path || switch.contains(&value.trim().to_lowercase().as_str())
}

/// Whether it has the form of a token, a key, or an address with a password.
pub(crate) fn value_looks_secret(value: &str) -> bool {
    let value = value.trim();
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let shape = SHAPES
        .iter()
        .any(|(start, length)| value.starts_with(start) && value.len() >= *length && value.chars().all(plain));
    shape || MARKS.iter().any(|mark| value.contains(mark)) || is_jwt(value) || has_password(value)
}

/// Three parts in base64, the first of which begins like JSON.
fn is_jwt(value: &str) -> bool {
    let parts: Vec<&str> = value.split('.').collect();
    let base64 =
        |part: &&str| part.len() >= 4 && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    parts.len() == 3 && parts[0].starts_with("eyJ") && parts.iter().all(base64)
}

/// `scheme://user:password@host`
fn has_password(value: &str) -> bool {
    let Some((_, rest)) = value.split_once("://") else { return false };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let Some((user, _)) = authority.rsplit_once('@') else { return false };
    user.split_once(':').is_some_and(|(_, password)| !password.is_empty() && !password.starts_with(['$', '{']))
}

/// The layer with everything blanked out that looks like a secret, byte for byte.
pub(crate) fn conceal(mut layer: Layer) -> Layer {
    if layer.text.len() > LAYER_BYTES_MAX {
        layer.text = "*".repeat(layer.text.len());
        return layer;
    }
    let mut spans = Vec::new();
    lines(&layer.text, &mut spans);
    walk(DeTable::parse_recoverable(&layer.text).0.get_ref(), false, &mut spans);
    if spans.is_empty() {
        return layer;
    }
    let mut bytes = layer.text.into_bytes();
    for span in spans {
        bytes[span].iter_mut().filter(|b| !matches!(b, b'\n' | b'\r')).for_each(|b| *b = b'*');
    }
    // Spans begin and end at characters, so what is left is text.
    layer.text = String::from_utf8_lossy(&bytes).into_owned();
    layer
}

/// Values that the parser found.
fn walk(table: &DeTable<'_>, in_secrets: bool, spans: &mut Vec<Range<usize>>) {
    for (key, node) in table {
        let in_secrets = in_secrets || key.get_ref() == "secrets";
        walk_value(key.get_ref(), node, in_secrets, spans);
    }
}

fn walk_value(key: &str, node: &Spanned<DeValue<'_>>, in_secrets: bool, spans: &mut Vec<Range<usize>>) {
    match node.get_ref() {
        DeValue::Table(inner) => walk(inner, in_secrets, spans),
        DeValue::Array(items) => items.iter().for_each(|item| walk_value(key, item, in_secrets, spans)),
        // In [secrets], `name` is a reference; anything else was meant to be the secret.
        DeValue::String(_) if in_secrets && key == "name" => {}
        DeValue::String(text) if in_secrets || looks_secret(key, text) => spans.push(node.span()),
        DeValue::Integer(_) | DeValue::Float(_) if name_looks_secret(key) => spans.push(node.span()),
        _ => {}
    }
}

/// Values of lines that may have been beyond the parser.
fn lines(text: &str, spans: &mut Vec<Range<usize>>) {
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        if let Some((key, value)) = line.split_once('=') {
            let written = value.trim();
            let secret = match written.strip_prefix('{') {
                Some(inner) => {
                    inner.split(',').filter_map(|pair| pair.split_once('=')).any(|(k, v)| pair_is_secret(k, v))
                }
                None => pair_is_secret(key, written),
            };
            if secret {
                let start = at + key.len() + 1 + (value.len() - value.trim_start().len());
                spans.push(start..start + written.len());
            }
        }
        at += line.len();
    }
}

fn pair_is_secret(key: &str, value: &str) -> bool {
    let quotes = ['"', '\'', ' ', '}'];
    looks_secret(key.rsplit('.').next().unwrap_or_default().trim().trim_matches(quotes), value.trim_matches(quotes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_known_by_name_or_shape() {
        for (name, value, want) in [
            ("DB_PASSWORD", "hunter2", true),
            ("dbPassword", "hunter2", true),
            ("API_KEY", "0f0f0f0f", true),
            ("SCORE_TICKET_KEY", "0123456789abcdef", true),
            ("SESSION_SECRET", "x", true),
            ("GITHUB_TOKEN", "abc", true),
            ("ANYTHING", "AKIAIOSFODNN7EXAMPLE", true),
            ("ANYTHING", "ghp_0123456789abcdef0123", true),
            ("CERT", "-----BEGIN EC PRIVATE KEY-----\nx", true),
            ("AUTH", "eyJhbGciOi.eyJzdWIiOi.c2lnbmF0dXJl", true),
            ("DATABASE_URL", "postgres://bird:hunter2@db/birds", true),
            ("DATABASE_URL", "postgres://bird@db/birds", false),
            ("DATABASE_URL", "postgres://bird:${PASSWORD}@db/birds", false),
            ("PASSWORD_FILE", "/run/secrets/password", false),
            ("TLS_KEY", "/etc/tls/key.pem", false),
            ("TOKEN_TTL", "3600", false),
            ("SECRET_NAME", "ticket-key", false),
            ("PUBLIC_KEY", "abc", false),
            ("API_KEY_2", "abc", true),
            ("HEADERS", "authorization=Bearer abc", true),
            ("KEY_PREFIX", "drafty", false),
            ("TOKEN_BUCKET_RATE", "5", false),
            ("KEYBOARD", "qwerty", false),
            ("MONKEY", "see", false),
            ("API_KEY", "", false),
            ("REQUIRE_TOKEN", "true", false),
            ("GREETING", "hi", false),
            ("SCORE_DB_PATH", "/data/db.sqlite", false),
        ] {
            assert_eq!(looks_secret(name, value), want, "{name}={value}");
        }
    }

    #[test]
    fn what_is_shown_has_no_secret_and_the_same_length() {
        for text in [
            "[env]\nAPI_KEY = \"canary-8841\" # hm\nX = \"y\"",
            "env.API_KEY=canary-8841",
            "[secrets]\nTICKET = \"canary-8841\"",
            "[secrets]\nTICKET = { name = \"a\", value = \"canary-8841\" }",
            "env = { API_KEY = \"canary-8841\" }",
            "env = { API_KEY = \"canary-8841\", ",
            "[env\nAPI_KEY = \"canary-8841\nport = ",
            "[env]\nAPI_KEY = '''\ncanary-8841\n'''",
            "[env]\r\nDB_PASSWORD='canary-8841'\r\n",
        ] {
            let shown = conceal(Layer::new("base.toml", text)).text;
            assert!(!shown.contains("canary"), "{shown}");
            assert_eq!(shown.len(), text.len());
        }
        let plain = Layer::new("base.toml", "[env]\nGREETING = \"hi\"\n[secrets]\nA = { name = \"b\" }");
        assert_eq!(conceal(plain.clone()), plain);
    }
}
