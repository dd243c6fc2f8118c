//! The system's table of mounts (`/proc/self/mountinfo`), and which mount a folder is on. It decides nothing about them.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::facts::lossy;

/// A mounted file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mount {
    /// The system's number of the mount.
    pub id: u64,
    /// Where it is mounted.
    #[serde(serialize_with = "lossy")]
    pub point: PathBuf,
    /// Type of the file system, such as `ext4` or `nfs4`.
    pub kind: String,
    /// The device or the server's export.
    pub source: String,
    /// Options of the mount, then those of the file system.
    pub options: Vec<String>,
}

impl Mount {
    /// Whether an option without a value is set.
    #[must_use]
    pub fn has(&self, option: &str) -> bool {
        self.options.iter().any(|found| found == option)
    }

    /// The value of an option, the last one if it is there twice.
    #[must_use]
    pub fn value(&self, option: &str) -> Option<&str> {
        let values = self.options.iter().filter_map(|found| found.split_once('='));
        values.filter(|(name, _)| *name == option).map(|(_, value)| value).next_back()
    }
}

/// The mount with this number. If the number isn't known or not listed, the one with the longest mount point above the
/// folder; of several on the same point the last, which hides the others.
pub(super) fn mount_of(folder: &Path, id: Option<u64>, table: &[u8]) -> Option<Mount> {
    let mounts: Vec<Mount> = table.split(|byte| *byte == b'\n').filter_map(parse).collect();
    if let Some(mount) = mounts.iter().find(|mount| Some(mount.id) == id) {
        return Some(mount.clone());
    }
    let above = mounts.into_iter().filter(|mount| folder.starts_with(&mount.point));
    // Of equals, `max_by_key` returns the last.
    above.max_by_key(|mount| mount.point.components().count())
}

/// `36 35 98:0 / /mnt rw,noatime master:1 - ext3 /dev/root rw,errors=continue`: any number of fields before the dash.
/// A source may be empty, so two spaces in a row are two separators.
fn parse(line: &[u8]) -> Option<Mount> {
    let fields: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let dash = 6 + fields.get(6..)?.iter().position(|field| *field == b"-")?;
    let [kind, source, of_file_system] = fields.get(dash + 1..dash + 4)? else { return None };
    let mut options = Vec::new();
    for list in [fields[5], of_file_system] {
        options.extend(list.split(|byte| *byte == b',').filter(|option| !option.is_empty()).map(text));
    }
    Some(Mount {
        id: std::str::from_utf8(fields[0]).ok()?.parse().ok()?,
        point: PathBuf::from(OsString::from_vec(unescape(fields[4]))),
        kind: text(kind),
        source: text(source),
        options,
    })
}

fn text(field: &[u8]) -> String {
    std::ffi::OsStr::from_bytes(&unescape(field)).to_string_lossy().into_owned()
}

/// Spaces, tabs, line ends and backslashes are written as a backslash and three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, after)) = rest.split_first() {
        let (byte, taken) = match (first, after) {
            (b'\\', [high @ b'0'..=b'3', middle @ b'0'..=b'7', low @ b'0'..=b'7', ..]) => {
                ((high - b'0') * 64 + (middle - b'0') * 8 + (low - b'0'), 4)
            }
            _ => (first, 1),
        };
        bytes.push(byte);
        rest = &rest[taken..];
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::mount_of;
    use std::path::Path;

    const TABLE: &str = r"22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard,errors=remount-ro
25 24 0:23 / /dev/shm rw,relatime - tmpfs tmpfs rw,size=24684092k
30 25 0:27 / /dev/shm rw,nosuid - tmpfs shm rw,size=65536k
301 27 0:52 / /var/lib/containers/merged rw,relatime shared:118 master:3 - overlay overlay rw,lowerdir=/l/A:/l/B,upperdir=/u,workdir=/w,index=off
400 27 0:60 / /data rw,relatime shared:200 - nfs4 fs-1234.efs.example:/ rw,vers=4.1,rsize=1048576,hard,noresvport,proto=tcp,timeo=600,retrans=2,sec=sys,clientaddr=10.0.0.7,local_lock=none,addr=10.0.0.9
401 400 0:61 / /data/old ro,relatime - nfs 10.0.0.9:/old rw,vers=3,nolock,local_lock=all,addr=10.0.0.9
410 27 0:70 / /mnt/azure\040files\134x rw,relatime - cifs //acct.file.example/share\040one rw,vers=3.1.1,cache=strict,username=a\054b,uid=0,nobrl,mfsymlinks,actimeo=30
421 27 0:81 / /nosource rw - tmpfs  rw,size=4k
a line that is cut
430 27 0:82 / /cut rw - tmpfs
";

    #[test]
    fn a_folder_is_on_the_longest_and_last_mount() {
        // (folder, number, mount point, type, source, an option that is there, one that is not)
        let cases = [
            ("/", None, "/", "ext4", "/dev/vda", "discard", "noatime"),
            ("/database", None, "/", "ext4", "/dev/vda", "rw", "vers=4.1"),
            ("/data", None, "/data", "nfs4", "fs-1234.efs.example:/", "local_lock=none", "nolock"),
            ("/data/scores", None, "/data", "nfs4", "fs-1234.efs.example:/", "hard", "ro"),
            ("/data/old/x", None, "/data/old", "nfs", "10.0.0.9:/old", "nolock", "hard"),
            ("/dev/shm/x", None, "/dev/shm", "tmpfs", "shm", "nosuid", "relatime"),
            ("/dev/shm/x", Some(25), "/dev/shm", "tmpfs", "tmpfs", "relatime", "nosuid"),
            ("/dev/shm/x", Some(9999), "/dev/shm", "tmpfs", "shm", "nosuid", "relatime"),
            (
                "/var/lib/containers/merged/app",
                None,
                "/var/lib/containers/merged",
                "overlay",
                "overlay",
                "index=off",
                "x",
            ),
            (
                "/mnt/azure files\\x/db",
                None,
                "/mnt/azure files\\x",
                "cifs",
                "//acct.file.example/share one",
                "nobrl",
                "b",
            ),
            ("/nosource", None, "/nosource", "tmpfs", "", "size=4k", "tmpfs"),
            ("/cut", None, "/", "ext4", "/dev/vda", "rw", "ro"),
        ];
        for (folder, id, point, kind, source, there, missing) in cases {
            let mount = mount_of(Path::new(folder), id, TABLE.as_bytes()).unwrap();
            assert_eq!(
                (mount.point.to_str().unwrap(), &*mount.kind, &*mount.source),
                (point, kind, source),
                "{folder}"
            );
            assert!(mount.has(there), "{folder}: {there} in {:?}", mount.options);
            assert!(!mount.has(missing), "{folder}: {missing} in {:?}", mount.options);
        }
        assert_eq!(mount_of(Path::new("relative"), None, TABLE.as_bytes()), None);
        assert_eq!(mount_of(Path::new("/"), None, b""), None);
    }

    #[test]
    fn values_and_escapes_of_options() {
        let of = |folder| mount_of(Path::new(folder), None, TABLE.as_bytes()).unwrap();
        assert_eq!(of("/data/old").value("local_lock"), Some("all"));
        assert_eq!(of("/data").value("vers"), Some("4.1"));
        assert_eq!(of("/data").value("ver"), None);
        assert_eq!(of("/mnt/azure files\\x").value("username"), Some("a,b"));
    }

    #[test]
    fn escapes_that_are_none_stay() {
        let table = b"1 0 0:1 / /a\\04 rw - t s rw\n2 0 0:1 / /b\\999 rw - t s rw\n3 0 0:1 / /c\\377 rw - t s rw\n";
        for (folder, id) in [(&b"/a\\04"[..], 1), (b"/b\\999", 2), (b"/c\xff", 3)] {
            let folder = Path::new(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(folder));
            assert_eq!(mount_of(folder, None, table).map(|mount| mount.id), Some(id));
        }
    }
}
