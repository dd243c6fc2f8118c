//! Where an image lies: a registry, a repository in it, and a tag or digest there. A name without a registry is refused, so
//! that nobody's default registry is asked by accident.

use std::{fmt, net::IpAddr, str::FromStr};

use oci_client::Reference;

use crate::RegistryError;

/// A repository in a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Host and port: `123456789012.dkr.ecr.us-east-1.amazonaws.com`, `127.0.0.1:5000`.
    pub registry: String,
    /// `drafty-bird-dev`, `team/bird`.
    pub repository: String,
    /// Plain HTTP is used. Always so for a registry on this machine ([`is_loopback`]).
    pub plain_http: bool,
}

/// An image as people name it: `registry/repository:tag`, `registry/repository@sha256:...`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// Where.
    pub place: Place,
    /// A digest (`sha256:...`) or a tag.
    pub which: String,
}

impl Place {
    /// From `registry/repository`, as a cloud's API gives it. Registries on this machine are asked over plain HTTP.
    ///
    /// # Errors
    /// If there is no registry or no repository in it.
    pub fn parse(text: &str) -> Result<Self, RegistryError> {
        let wrong = |why| RegistryError::Name { text: text.to_owned(), why };
        let (registry, repository) = text.split_once('/').ok_or_else(|| wrong("it names no registry"))?;
        // The rule that every client has: the first part is a host if it can't be a folder's name.
        if !registry.contains(['.', ':']) && registry != "localhost" {
            return Err(wrong("it names no registry"));
        }
        let fine = |part: &str| {
            part.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
                && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c))
        };
        if repository.len() > 255 || !repository.split('/').all(fine) {
            return Err(wrong("its repository is not lower-case letters, digits, dots, dashes and slashes"));
        }
        let plain_http = is_loopback(registry);
        Ok(Place { registry: registry.to_owned(), repository: repository.to_owned(), plain_http })
    }

    pub(crate) fn with(&self, which: &str) -> Reference {
        let (registry, repository) = (self.registry.clone(), self.repository.clone());
        if which.contains(':') {
            Reference::with_digest(registry, repository, which.to_owned())
        } else {
            Reference::with_tag(registry, repository, which.to_owned())
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)
    }
}

impl FromStr for Name {
    type Err = RegistryError;

    fn from_str(text: &str) -> Result<Self, RegistryError> {
        let wrong = |why| RegistryError::Name { text: text.to_owned(), why };
        if let Some((place, digest)) = text.split_once('@') {
            // A tag beside a digest says nothing more.
            let place = untagged(place).map_or(place, |(place, _)| place);
            if !is_digest(digest) {
                return Err(wrong("what follows @ is not sha256: and 64 digits"));
            }
            return Ok(Name { place: Place::parse(place)?, which: digest.to_owned() });
        }
        let (place, tag) = untagged(text).ok_or_else(|| wrong("it names neither a tag nor a digest"))?;
        let fine = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if tag.is_empty() || tag.len() > 128 || !tag.chars().all(fine) {
            return Err(wrong("its tag is not up to 128 letters, digits, dots and dashes"));
        }
        Ok(Name { place: Place::parse(place)?, which: tag.to_owned() })
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.which.contains(':') { '@' } else { ':' };
        write!(f, "{}{sign}{}", self.place, self.which)
    }
}

/// Takes the tag off. A colon before the last slash is a port's.
fn untagged(text: &str) -> Option<(&str, &str)> {
    text.rsplit_once(':').filter(|(_, tag)| !tag.contains('/'))
}

pub(crate) fn is_digest(text: &str) -> bool {
    let lower_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    text.strip_prefix("sha256:").is_some_and(|hex| hex.len() == 64 && hex.bytes().all(lower_hex))
}

/// Whether a registry's `host:port` is this very machine.
pub fn is_loopback(registry: &str) -> bool {
    let host = match registry.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => registry,
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_whole() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let good = [
            ("127.0.0.1:5000/bird:r4".to_owned(), "127.0.0.1:5000", "bird", "r4", true),
            ("localhost/a/b:1.0".to_owned(), "localhost", "a/b", "1.0", true),
            (format!("registry.example.com/team/bird@{digest}"), "registry.example.com", "team/bird", &*digest, false),
            (format!("registry.example.com:8/bird:x@{digest}"), "registry.example.com:8", "bird", &*digest, false),
        ];
        for (text, registry, repository, which, plain) in good {
            let name: Name = text.parse().unwrap();
            let place = &name.place;
            let found = (&*place.registry, &*place.repository, &*name.which, place.plain_http);
            assert_eq!(found, (registry, repository, which, plain), "{text}");
            assert_eq!(name.to_string().parse::<Name>().unwrap(), name);
        }
        for bad in [
            "bird",
            "bird:1",
            "team/bird:1",
            "r.example.com/bird",
            "r.example.com/Bird:1",
            "r.example.com/bird:",
            "r.example.com/bird@sha256:12",
            "r.example.com/:1",
            "r.example.com/a//b:1",
        ] {
            assert!(bad.parse::<Name>().is_err(), "{bad}");
        }
        assert!(is_loopback("[::1]:80") && is_loopback("127.9.9.9") && !is_loopback("10.0.0.1:80"));
    }
}
