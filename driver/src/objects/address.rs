//! What a state URL means. It decides which URLs name a place; it reaches none, and a URL that may hold a secret is not repeated.

use std::path::{Path, PathBuf};

use object_store::path::Path as ObjectPath;

use crate::store::StoreError;

/// A place where state can be kept.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Address {
    Folder(PathBuf),
    S3 { bucket: String, prefix: ObjectPath },
    Blob { account: String, container: String, prefix: ObjectPath },
}

impl Address {
    /// Paths are relative to the project's folder.
    pub(super) fn parse(url: &str, project: &Path) -> Result<Address, StoreError> {
        if let Some(path) = url.strip_prefix("file:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return Ok(Address::Folder(project.join(if path.is_empty() { "." } else { path })));
        }
        // A key in front of an @ or behind a ? would otherwise end up in messages and logs.
        if url.contains(['@', '?', '#']) {
            let what = "state can't be kept at this URL: it holds a user, a query or a fragment".to_owned();
            return Err(refused(what, "credentials come from the environment's variables, never from `[state] url`"));
        }
        let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
        let mut parts = rest.trim_end_matches('/').split('/');
        let mut name = || parts.next().filter(|part| !part.is_empty() && plain(part)).map(str::to_owned);
        let place = match scheme {
            "s3" => name().map(|bucket| (bucket, None)),
            "az" => name().zip(name()).map(|(account, container)| (account, Some(container))),
            _ => None,
        };
        let rest: Vec<&str> = parts.collect();
        let sound = rest.iter().all(|part| plain(part) && !matches!(*part, "" | "." | ".."));
        match place.filter(|_| sound) {
            Some((bucket, None)) => Ok(Address::S3 { bucket, prefix: ObjectPath::from_iter(rest) }),
            Some((account, Some(container))) => {
                Ok(Address::Blob { account, container, prefix: ObjectPath::from_iter(rest) })
            }
            None => Err(refused(
                format!("state can't be kept at `{url}`"),
                "write `[state] url` as file:PATH, s3://BUCKET/PREFIX or az://ACCOUNT/CONTAINER/PREFIX, \
                 of letters, digits and any of - _ . = only",
            )),
        }
    }
}

fn refused(what: String, hint: &str) -> StoreError {
    StoreError { what, retry: false, hint: Some(hint.to_owned()), source: None }
}

/// Stores and their tools disagree about how any other character is written.
fn plain(part: &str) -> bool {
    part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.=".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_places() {
        let s3 = |bucket: &str, prefix: &str| Address::S3 { bucket: bucket.into(), prefix: prefix.into() };
        let blob = |container: &str, prefix: &str| Address::Blob {
            account: "acc".into(),
            container: container.into(),
            prefix: prefix.into(),
        };
        for (url, meant) in [
            ("file:.dbird/state", Address::Folder("/project/.dbird/state".into())),
            ("file:///srv/state", Address::Folder("/srv/state".into())),
            ("file:", Address::Folder("/project/.".into())),
            ("s3://bucket", s3("bucket", "")),
            ("s3://bucket/", s3("bucket", "")),
            ("s3://my.bucket-1/a/b_c/", s3("my.bucket-1", "a/b_c")),
            ("az://acc/con", blob("con", "")),
            ("az://acc/con/prod/eu=1", blob("con", "prod/eu=1")),
        ] {
            assert_eq!(Address::parse(url, Path::new("/project")).unwrap(), meant, "{url}");
        }
    }

    #[test]
    fn others_are_refused_and_secrets_not_repeated() {
        for url in [
            "",
            "/tmp/x",
            "s3:bucket",
            "s3://",
            "s3:///prefix",
            "s3://bucket//x",
            "s3://bucket/../other",
            "s3://b\u{fc}cket/x",
            "s3://bucket/a b",
            "az://account",
            "az://account/",
            "gs://bucket/x",
            "http://host/x",
            "s3://AKIA:canary@bucket/x",
            "az://account/container?sig=canary",
            "s3://bucket#canary",
        ] {
            let refused = Address::parse(url, Path::new("/project")).unwrap_err();
            assert!(refused.hint.is_some() && !refused.retry, "{url}: {refused}");
            assert!(!format!("{refused:?}").contains("canary"), "{refused:?}");
            assert!(url.contains("canary") || refused.what.contains(url), "{refused}");
        }
    }
}
