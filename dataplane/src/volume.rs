//! Volumes of a task that has no file system of its own. It decides which of the values that a process is given name a
//! place in a volume, and never touches the volume.

use std::borrow::Cow;
use std::path::PathBuf;

/// A folder that a task sees at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Where the task expects it: absolute.
    pub path: String,
    /// Where it is.
    pub folder: PathBuf,
}

/// A value with a mount's path at its beginning replaced by that mount's folder: `/data/db.sqlite`, but not
/// `/database` and not `file:/data`. Of several mounts the longest path wins.
pub fn rewrite<'a>(value: &'a str, mounts: &[Mount]) -> Cow<'a, str> {
    mounts
        .iter()
        .filter_map(|mount| {
            let path = mount.path.trim_end_matches('/');
            let rest = value.strip_prefix(path).filter(|rest| rest.is_empty() || rest.starts_with('/'))?;
            (!path.is_empty()).then_some((path.len(), mount, rest))
        })
        .max_by_key(|(length, ..)| *length)
        .map_or(Cow::Borrowed(value), |(_, mount, rest)| Cow::Owned(format!("{}{rest}", mount.folder.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_values_that_begin_with_a_mount_path_change() {
        let mount = |path: &str, folder: &str| Mount { path: path.to_owned(), folder: PathBuf::from(folder) };
        let mounts = [mount("/data", "/v/one"), mount("/data/cold/", "/v/two"), mount("/", "/v/root")];
        for (value, expected) in [
            ("/data/db.sqlite", "/v/one/db.sqlite"),
            ("/data", "/v/one"),
            ("/data/", "/v/one/"),
            ("/database", "/database"),
            ("/data/cold/a", "/v/two/a"),
            ("/data/cold", "/v/two"),
            ("/data/colder", "/v/one/colder"),
            ("file:/data/db", "file:/data/db"),
            ("data/db", "data/db"),
            ("/data:/data", "/data:/data"),
            (" /data", " /data"),
            ("/etc/passwd", "/etc/passwd"),
            ("", ""),
            ("/data//x/../y", "/v/one//x/../y"),
        ] {
            assert_eq!(rewrite(value, &mounts), expected, "{value}");
        }
        assert_eq!(rewrite("/data", &[]), "/data");
    }
}
