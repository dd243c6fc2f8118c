//! Paths as a process inside an image would see them. It decides where a path of the image lies on this machine and
//! never lets one lead out of the image, whatever symbolic links say.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

/// As many links as the kernel follows.
const LINKS_MAX: usize = 40;

/// Where `path` of the image with this root lies, every symbolic link on the way (and the last one too, if
/// `follow_last`) followed within the root. What does not exist is named all the same.
pub fn resolve(root: &Path, path: &Path, follow_last: bool) -> io::Result<PathBuf> {
    let mut todo: VecDeque<OsString> = VecDeque::new();
    push_front(&mut todo, path);
    let mut inside = PathBuf::new();
    let mut links = 0;
    while let Some(name) = todo.pop_front() {
        if name == ".." {
            inside.pop();
            continue;
        }
        let candidate = root.join(&inside).join(&name);
        let follow = follow_last || !todo.is_empty();
        match fs::read_link(&candidate) {
            Ok(target) if follow => {
                links += 1;
                if links > LINKS_MAX {
                    return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many symbolic links"));
                }
                if target.is_absolute() {
                    inside = PathBuf::new();
                }
                push_front(&mut todo, &target);
            }
            _ => inside.push(name),
        }
    }
    Ok(root.join(inside))
}

fn push_front(todo: &mut VecDeque<OsString>, path: &Path) {
    for component in path.components().rev() {
        match component {
            Component::Normal(name) => todo.push_front(name.to_owned()),
            Component::ParentDir => todo.push_front(OsString::from("..")),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn no_path_leads_out() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        fs::create_dir_all(root.join("usr/lib")).unwrap();
        for (target, link) in [
            ("usr/lib", "lib"),
            ("/etc", "abs"),
            ("../../../../etc", "up"),
            ("/usr/../../etc", "mixed"),
            ("loop-b", "loop-a"),
            ("loop-a", "loop-b"),
            ("../../lib", "usr/lib/back"),
        ] {
            symlink(target, root.join(link)).unwrap();
        }
        for (path, expected) in [
            ("lib/x", "usr/lib/x"),
            ("/lib/../x", "usr/x"),
            ("abs/passwd", "etc/passwd"),
            ("up/passwd", "etc/passwd"),
            ("mixed", "etc"),
            ("../../../etc/passwd", "etc/passwd"),
            ("usr/lib/back/y", "usr/lib/y"),
            ("none/of/this", "none/of/this"),
            ("./a/./b", "a/b"),
            ("/", ""),
        ] {
            assert_eq!(resolve(&root, Path::new(path), true).unwrap(), root.join(expected), "{path}");
        }
        assert_eq!(resolve(&root, Path::new("/lib"), false).unwrap(), root.join("lib"));
        assert!(resolve(&root, Path::new("loop-a/x"), true).is_err());
    }
}
